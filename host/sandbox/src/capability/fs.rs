//! Folders of this machine that a plugin sees through `wasi:filesystem`.
//!
//! Each is opened once, when the plugin is loaded: whoever moves it away or puts a link in its place later
//! does not redirect the plugin.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::filesystem::FsPerms;

use super::CapabilityError;
use crate::grant::{self, Mode};

/// An open folder.
#[derive(Debug)]
pub(super) struct Directory {
    guest: String,
    /// For messages.
    host: PathBuf,
    mode: Mode,
    open: File,
}

pub(super) fn open(granted: Vec<(String, PathBuf, Mode)>) -> Result<Vec<Directory>, CapabilityError> {
    let mut directories = Vec::with_capacity(granted.len());
    let mut places = Vec::with_capacity(granted.len());
    for (guest, host, mode) in granted {
        let opened = host.canonicalize().and_then(|place| Ok((open_folder(&place)?, place)));
        let (open, place) = opened.map_err(|source| CapabilityError::Folder {
            guest: guest.clone(),
            host: host.display().to_string(),
            source,
        })?;
        directories.push(Directory { guest, host, mode, open });
        places.push((place, mode));
    }
    let places: Vec<(&Path, Mode)> = places.iter().map(|(place, mode)| (&**place, *mode)).collect();
    if let Some((read, written)) = grant::conflict(&places) {
        let (read, written) = (read.display().to_string(), written.display().to_string());
        return Err(CapabilityError::Overlap { read, written });
    }
    Ok(directories)
}

fn open_folder(path: &Path) -> Result<File, Error> {
    let mut options = File::options();
    options.read(true);
    #[cfg(windows)]
    {
        // FILE_FLAG_BACKUP_SEMANTICS, without which a folder cannot be opened.
        std::os::windows::fs::OpenOptionsExt::custom_flags(&mut options, 0x0200_0000);
    }
    let file = options.open(path)?;
    match file.metadata()?.is_dir() {
        true => Ok(file),
        false => Err(Error::new(ErrorKind::NotADirectory, "it is no folder")),
    }
}

impl Directory {
    pub(super) fn furnish(&self, builder: &mut WasiCtxBuilder) -> Result<(), CapabilityError> {
        let perms = match self.mode {
            Mode::ReadOnly => FsPerms::ReadOnly,
            Mode::ReadWrite => FsPerms::ReadWrite,
        };
        let furnished = self.place().and_then(|place| {
            builder.preopened_dir(place, &self.guest, perms).map_err(|error| Error::other(format!("{error:#}")))
        });
        furnished.map(drop).map_err(|source| CapabilityError::Folder {
            guest: self.guest.clone(),
            host: self.host.display().to_string(),
            source,
        })
    }

    /// A path that leads to the folder which is open, whatever is where it was.
    #[cfg(target_os = "linux")]
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    fn place(&self) -> Result<PathBuf, Error> {
        use std::os::fd::AsRawFd;
        Ok(format!("/proc/self/fd/{}", self.open.as_raw_fd()).into())
    }

    #[cfg(all(unix, not(target_os = "linux")))]
    fn place(&self) -> Result<PathBuf, Error> {
        use std::os::unix::fs::MetadataExt;
        let (now, then) = (self.host.metadata()?, self.open.metadata()?);
        match (now.dev(), now.ino()) == (then.dev(), then.ino()) {
            true => Ok(self.host.clone()),
            false => Err(Error::other("another folder has taken its place")),
        }
    }

    /// The open folder cannot be replaced here.
    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    fn place(&self) -> Result<PathBuf, Error> {
        let _ = &self.open;
        Ok(self.host.clone())
    }
}
