//! The folders of the transport and those that we make in them.
//!
//! Ours are in `.taskhost` inside of the data folder, where renaming is one step and kombu, which reads only files
//! whose names end in `.msg`, does not look.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::options::FilesystemOptions;

/// Our folder in a data folder.
const OURS: &str = ".taskhost";

/// Where everything is.
#[derive(Debug, Clone)]
pub(super) struct Folders {
    /// kombu's `data_folder_in`.
    pub(super) inward: PathBuf,
    /// kombu's `data_folder_out`.
    pub(super) outward: PathBuf,
    pub(super) control: PathBuf,
    /// Where messages go that are done with, if they are kept.
    pub(super) processed: Option<PathBuf>,
    /// A folder for each owner, with what it has taken.
    pub(super) claimed: PathBuf,
    /// What waits for its time.
    pub(super) later: PathBuf,
    /// What was among the messages and is none.
    pub(super) unreadable: PathBuf,
    /// Where files are written before they are seen, on either side.
    pub(super) drafts_in: PathBuf,
    pub(super) drafts_out: PathBuf,
}

impl Folders {
    /// Finds the folders, which have to be there, and makes ours.
    pub(super) fn open(options: &FilesystemOptions) -> Result<Self, Failure> {
        let inward = existing("data_folder_in", &options.data_folder_in)?;
        let outward = existing("data_folder_out", &options.data_folder_out)?;
        let processed = match options.store_processed {
            true => Some(existing("processed_folder", &options.processed_folder)?),
            false => None,
        };
        let control = std::path::absolute(&options.control_folder)
            .map_err(|error| Failure::io("find", &options.control_folder, &error))?;
        let ours = inward.join(OURS);
        let folders = Self {
            claimed: ours.join("claimed"),
            later: ours.join("later"),
            unreadable: ours.join("unreadable"),
            drafts_in: ours.join("drafts"),
            drafts_out: outward.join(OURS).join("drafts"),
            inward,
            outward,
            control,
            processed,
        };
        for folder in [&folders.claimed, &folders.later, &folders.unreadable, &folders.drafts_in, &folders.drafts_out] {
            make(folder)?;
        }
        Ok(folders)
    }

    /// The folder with what an owner has taken.
    pub(super) fn owned(&self, owner: &str) -> PathBuf {
        self.claimed.join(owner)
    }

    /// Whether the folders are still there.
    pub(super) fn check(&self) -> Result<(), Failure> {
        for folder in [&self.inward, &self.outward] {
            fs::metadata(folder).map_err(|error| Failure::io("find", folder, &error))?;
        }
        Ok(())
    }
}

fn existing(option: &str, path: &Path) -> Result<PathBuf, Failure> {
    let absolute = path.canonicalize();
    match absolute {
        Ok(path) if path.is_dir() => Ok(path),
        Ok(path) => Err(Failure::refused(format!("{option} {} is not a folder", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            Err(Failure::lost(format!(
                "there is no folder {} ({option} of the transport options): make it, as kombu wants it to be there",
                shown.display()
            )))
        }
        Err(error) => Err(Failure::io("open", path, &error)),
    }
}

/// Makes a folder with those above it.
pub(super) fn make(folder: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).create(folder);
    made.map_err(|error| Failure::io("make folder", folder, &error))
}

/// Makes what happened to the names in a folder outlive a crash.
pub(super) fn sync(folder: &Path) -> Result<(), Failure> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| Failure::io("write folder", folder, &error))
}

/// Renames; false if there is nothing of that name.
pub(super) fn rename(from: &Path, to: &Path) -> Result<bool, Failure> {
    match fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::io("move", from, &error)),
    }
}

/// Deletes; false if there is nothing of that name.
pub(super) fn delete(file: &Path) -> Result<bool, Failure> {
    match fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::io("delete", file, &error)),
    }
}
