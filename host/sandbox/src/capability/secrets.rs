//! Secrets: read when the plugin is loaded, handed to guests by name, and never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Error, ErrorKind};

use super::CapabilityError;
use crate::abi::taskhost::task::secrets::{self, SecretError};
use crate::grant::SecretSource;
use crate::instance::Guest;

/// Longest secret that is read.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// A shorter one would make a riddle of every log line.
const MASKED_BYTES_MIN: usize = 4;

/// A secret. Debug does not show it.
pub(super) struct Secret(String);

impl Secret {
    /// The text with something else in its place.
    pub(super) fn mask(&self, text: String) -> String {
        match self.0.len() >= MASKED_BYTES_MIN && text.contains(&self.0) {
            true => text.replace(&self.0, "**"),
            false => text,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("**")
    }
}

pub(super) fn fetch(granted: Vec<(String, SecretSource)>) -> Result<BTreeMap<String, Secret>, CapabilityError> {
    let fetch = |(name, source): (String, SecretSource)| match read(&source) {
        Ok(secret) => Ok((name, Secret(secret))),
        Err(error) => Err(CapabilityError::Secret {
            name,
            source_text: match source {
                SecretSource::Variable(variable) => format!("the variable {variable}"),
                SecretSource::File(path) => format!("the file {}", path.display()),
            },
            source: error,
        }),
    };
    granted.into_iter().map(fetch).collect()
}

fn read(source: &SecretSource) -> Result<String, Error> {
    match source {
        SecretSource::Variable(variable) => {
            std::env::var(variable).map_err(|error| Error::new(ErrorKind::NotFound, error.to_string()))
        }
        SecretSource::File(path) => {
            if path.metadata()?.len() > SECRET_BYTES_MAX {
                return Err(Error::new(ErrorKind::FileTooLarge, format!("more than {SECRET_BYTES_MAX} bytes")));
            }
            // Editors end a file with a newline, which is not part of the secret.
            let text = std::fs::read_to_string(path)?;
            Ok(text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(&text).to_owned())
        }
    }
}

impl secrets::Host for Guest {
    fn get(&mut self, name: String) -> Result<String, SecretError> {
        match self.capabilities().and_then(|capabilities| capabilities.secrets.get(&name)) {
            Some(secret) => Ok(secret.0.clone()),
            None => Err(SecretError::Denied(self.denied("secrets", &name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_a_variable_or_a_file_and_is_not_shown() {
        let dir = tempfile::TempDir::new().expect("a temporary folder");
        let path = dir.path().join("token");
        std::fs::write(&path, "hunter2 \r\n").expect("a file");
        let file = ("token".to_owned(), SecretSource::File(path.clone()));
        let secrets = fetch(vec![file]).expect("it is there");
        assert_eq!(secrets["token"].0, "hunter2 ");
        assert_eq!(format!("{secrets:?}"), "{\"token\": **}");
        assert_eq!(secrets["token"].mask("a hunter2 b".to_owned()), "a **b");
        std::fs::remove_file(&path).expect("the file");
        let gone = fetch(vec![("token".to_owned(), SecretSource::File(path))]).expect_err("it is gone");
        assert!(gone.to_string().starts_with("secret `token` is granted from the file /"), "{gone}");
        let variable = SecretSource::Variable("TASKHOST_NO_SUCH_VARIABLE".to_owned());
        let missing = fetch(vec![("key".to_owned(), variable)]).expect_err("nobody sets it");
        assert_eq!(missing.to_string(), "secret `key` is granted from the variable TASKHOST_NO_SUCH_VARIABLE");
    }
}
