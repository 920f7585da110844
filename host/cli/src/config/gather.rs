//! Gathers what a configuration is resolved from: the file, the environment, and facts of this machine.

use std::path::Path;

use super::FILE;
use super::error::{ConfigError, ConfigErrors};
use super::resolve::Machine;

/// The file's name and its text: the one that is named, or the usual one if there is one.
pub(super) fn read_file(named: Option<&Path>) -> Result<Option<(String, String)>, ConfigErrors> {
    let path = named.unwrap_or(Path::new(FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.display().to_string(), text))),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let error = ConfigError::elsewhere(path.display().to_string(), error.to_string());
            Err(ConfigErrors::new(vec![error]))
        }
    }
}

/// Variables that are text. One that is not cannot be one of ours: all of them are names and URLs.
pub(super) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

pub(super) fn machine() -> Machine {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
    let host_name = gethostname::gethostname().to_string_lossy().into_owned();
    // The XDG base directory specification, which all our users' systems can follow.
    let folder = |variable: &str, at_home: &str| {
        let given = std::env::var(variable).ok().filter(|path| Path::new(path).is_absolute());
        given.or_else(|| std::env::home_dir().map(|home| home.join(at_home).to_string_lossy().into_owned()))
    };
    let (cache_dir, state_dir) = (folder("XDG_CACHE_HOME", ".cache"), folder("XDG_STATE_HOME", ".local/state"));
    Machine { host_name, cpus, cache_dir, state_dir }
}
