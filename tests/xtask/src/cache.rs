//! The folder for what is made once and used by every checkout, and the lock that goes with it.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::Result;

/// `$TASKHOST_CACHE_DIR`, else `taskhost` in the user's cache folder. It exists afterwards.
pub(crate) fn folder() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("TASKHOST_CACHE_DIR")
        .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("taskhost")))
        .or_else(|| env::home_dir().map(|home| home.join(".cache").join("taskhost")))
        .ok_or("no home folder for the cache: set TASKHOST_CACHE_DIR")?;
    fs::create_dir_all(&folder).map_err(|error| format!("create {}: {error}", folder.display()))?;
    Ok(folder)
}

/// The lock ends with the returned file, and with this process in any case.
pub(crate) fn lock(path: &Path, what: &str) -> Result<File> {
    let describe = |error: &dyn std::fmt::Display| format!("lock {}: {error}", path.display());
    let file = File::create(path).map_err(|error| describe(&error))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => eprintln!("test: waiting for another process that makes {what}"),
        Err(TryLockError::Error(error)) => return Err(describe(&error)),
    }
    file.lock().map_err(|error| describe(&error))?;
    Ok(file)
}
