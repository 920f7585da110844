//! kombu's transport options, and the URL, which says nothing.

use std::path::PathBuf;
use std::time::Duration;

use taskhost_core::RedactedUrl;

use crate::port::BrokerError;

/// The scheme of kombu's transport.
pub(crate) const SCHEME: &str = "filesystem";

/// What [`FilesystemOptions::set`] knows.
const OPTIONS: [&str; 6] =
    ["data_folder_in", "data_folder_out", "control_folder", "store_processed", "processed_folder", "polling_interval"];

/// How to use the folders. The names and defaults are those of kombu's transport options; relative paths are
/// relative to the folder that we were started in, as there.
#[derive(Debug, Clone, PartialEq)]
pub struct FilesystemOptions {
    /// The name of this node, which is part of the name of the folder with what it has taken.
    pub node: String,
    /// Where messages are taken from: what a client calls its `data_folder_out`.
    pub data_folder_in: PathBuf,
    /// Where messages are written to: the same folder, unless whoever takes them is somebody else.
    pub data_folder_out: PathBuf,
    /// Where exchanges have their tables.
    pub control_folder: PathBuf,
    /// Whether messages are kept in `processed_folder` when they are done with.
    pub store_processed: bool,
    pub processed_folder: PathBuf,
    /// How long until somebody looks for files of which nobody told: on a network file system nobody does.
    pub polling_interval: Duration,
    /// How long a worker may show no sign of life until its messages are given to another.
    pub lease: Duration,
}

impl Default for FilesystemOptions {
    fn default() -> Self {
        Self {
            node: "taskhost".to_owned(),
            data_folder_in: "data_in".into(),
            data_folder_out: "data_out".into(),
            control_folder: "control".into(),
            store_processed: false,
            processed_folder: "processed".into(),
            polling_interval: Duration::from_secs(1),
            lease: Duration::from_secs(12),
        }
    }
}

impl FilesystemOptions {
    /// Sets options by the names that they have in kombu.
    pub(crate) fn set(&mut self, url: &str, pairs: &[(String, String)]) -> Result<(), BrokerError> {
        let refuse = |reason: String| BrokerError::Url { url: RedactedUrl::new(url), reason };
        pairs.iter().try_for_each(|(key, value)| self.set_one(key, value)).map_err(refuse)
    }

    fn set_one(&mut self, key: &str, value: &str) -> Result<(), String> {
        let folder = || match value {
            "" => Err(format!("{key} names no folder")),
            path => Ok(PathBuf::from(path)),
        };
        match key {
            "data_folder_in" => self.data_folder_in = folder()?,
            "data_folder_out" => self.data_folder_out = folder()?,
            "control_folder" => self.control_folder = folder()?,
            "processed_folder" => self.processed_folder = folder()?,
            "store_processed" => {
                self.store_processed = match value {
                    "true" | "True" | "1" => true,
                    "false" | "False" | "0" => false,
                    _ => return Err(format!("expected true or false for store_processed, found `{value}`")),
                }
            }
            "polling_interval" => {
                let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                let seconds = seconds.filter(|seconds| !seconds.is_zero());
                self.polling_interval =
                    seconds.ok_or_else(|| format!("polling_interval `{value}` is no number of seconds above zero"))?;
            }
            _ => {
                let known = OPTIONS.join(", ");
                return Err(format!("there is no option `{key}` of the filesystem transport; there are: {known}"));
            }
        }
        Ok(())
    }
}

/// What a Python client has to be told as its transport options to meet a worker with these: absolute paths, and its
/// `data_folder_out` is where the worker takes messages from. `None` if the URL is not that of this transport.
pub fn client_folders(url: &str, pairs: &[(String, String)]) -> Option<Vec<(&'static str, PathBuf)>> {
    if url.split_once("://")?.0 != SCHEME {
        return None;
    }
    let mut options = FilesystemOptions::default();
    options.set(url, pairs).ok()?;
    let FilesystemOptions { data_folder_in, data_folder_out, control_folder, .. } = options;
    let folders =
        [("data_folder_in", data_folder_out), ("data_folder_out", data_folder_in), ("control_folder", control_folder)];
    folders.into_iter().map(|(name, folder)| Some((name, std::path::absolute(folder).ok()?))).collect()
}

/// `filesystem://` and nothing that would be ignored: kombu takes the folders from its options alone.
pub(crate) fn check_filesystem_url(url: &str) -> Result<(), BrokerError> {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    match rest {
        "" | "/" | "//" | "localhost" | "localhost/" | "localhost//" => Ok(()),
        _ => Err(BrokerError::Url {
            url: RedactedUrl::new(url),
            reason: "names no folder in kombu: write `filesystem://`, and the folders as transport options \
                     (data_folder_in, data_folder_out, control_folder)"
                .to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: &str) -> Result<FilesystemOptions, String> {
        let mut options = FilesystemOptions::default();
        let set = options.set("filesystem://", &[(key.to_owned(), value.to_owned())]);
        set.map(|()| options).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_called_as_in_kombu_and_others_are_refused() {
        assert_eq!(set("data_folder_in", "/srv/q").unwrap().data_folder_in, PathBuf::from("/srv/q"));
        assert!(set("store_processed", "True").unwrap().store_processed);
        assert_eq!(set("polling_interval", "0.5").unwrap().polling_interval, Duration::from_millis(500));
        assert!(set("polling_interval", "0").unwrap_err().contains("no number of seconds above zero"));
        assert!(set("store_processed", "maybe").unwrap_err().contains("expected true or false"));
        assert!(set("data_folder_in", "").unwrap_err().contains("data_folder_in names no folder"));
        let unknown = set("data_folder", "x").unwrap_err();
        assert!(
            unknown
                .contains("there is no option `data_folder` of the filesystem transport; there are: data_folder_in,")
        );
    }

    #[test]
    fn what_a_worker_takes_from_is_where_its_clients_write() {
        let folders = [("data_folder_in", "/a"), ("data_folder_out", "/b"), ("control_folder", "/c")];
        let folders = folders.map(|(name, folder)| (name.to_owned(), folder.to_owned()));
        let client = [("data_folder_in", "/b"), ("data_folder_out", "/a"), ("control_folder", "/c")];
        let client = client.map(|(name, folder)| (name, PathBuf::from(folder)));
        assert_eq!(client_folders("filesystem://", &folders).unwrap(), client);
        assert_eq!(client_folders("redis://box", &folders), None);
    }

    #[test]
    fn a_url_with_a_path_is_refused_since_kombu_would_ignore_it() {
        for url in ["filesystem://", "filesystem:///", "filesystem://localhost//"] {
            assert!(check_filesystem_url(url).is_ok(), "{url}");
        }
        let refused = check_filesystem_url("filesystem:///srv/q").unwrap_err().to_string();
        assert!(refused.contains("as transport options (data_folder_in"), "{refused}");
    }
}
