//! The files of a folder: read, replaced as a whole, and deleted when they are old.
//!
//! Knows no documents. A key is the name of a file, and never leads out of the folder.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use uuid::Uuid;

use crate::cause::Cause;

/// Most bytes of a file's name.
const NAME_BYTES_MAX: usize = 255;
/// Before the names of files that are being written. Celery does not look at them.
const DRAFT: &str = ".taskhost-draft-";
/// When a draft counts as forgotten.
const DRAFT_AGE_MAX: Duration = Duration::from_secs(3600);

/// A folder that is there.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

/// A file to be written.
pub(super) struct Draft {
    pub(super) key: String,
    pub(super) text: Bytes,
    /// It has to outlive a crash of the machine.
    pub(super) is_durable: bool,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, Cause> {
        match path.canonicalize() {
            Ok(path) if path.is_dir() => Ok(Self { path }),
            Ok(path) => Err(Cause::permanent(format!("{} is not a folder", path.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
                Err(Cause::transient(format!(
                    "there is no folder {}: make it, as Celery wants it to be there",
                    shown.display()
                )))
            }
            Err(error) => Err(trouble("open", path, &error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether files can be made here.
    pub(super) fn check(&self) -> Result<(), Cause> {
        let draft = self.draft();
        let made = File::create_new(&draft).and_then(|_| fs::remove_file(&draft));
        made.map_err(|error| trouble("write", &draft, &error))
    }

    /// What is under a key.
    pub(super) fn read(&self, key: &str) -> Result<Option<Vec<u8>>, Cause> {
        let path = self.file(key)?;
        match fs::read(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(trouble("read", &path, &error)),
        }
    }

    pub(super) fn delete(&self, key: &str) -> Result<(), Cause> {
        remove(&self.file(key)?).map(drop)
    }

    /// Writes these; the answers stand in the same order. All are written before the first is waited for, so that the
    /// disk does it in one go.
    pub(super) fn write_all(&self, drafts: Vec<Draft>) -> Vec<Result<(), Cause>> {
        let mut is_durable = false;
        let mut written = Vec::with_capacity(drafts.len());
        for draft in drafts {
            is_durable |= draft.is_durable;
            written.push(self.begin(draft));
        }
        let placed: Vec<_> = written.into_iter().map(|written| written.and_then(Written::finish)).collect();
        if !is_durable || placed.iter().all(Result::is_err) {
            return placed;
        }
        match File::open(&self.path).and_then(|folder| folder.sync_all()) {
            Ok(()) => placed,
            Err(error) => {
                let cause = trouble("write folder", &self.path, &error);
                placed.into_iter().map(|placed| placed.and(Err(cause.clone()))).collect()
            }
        }
    }

    fn begin(&self, Draft { key, text, is_durable }: Draft) -> Result<Written, Cause> {
        let (path, draft) = (self.file(&key)?, self.draft());
        let failed = |error| trouble("write", &draft, &error);
        let file = File::create_new(&draft).map_err(failed)?;
        let mut written = Written { file, draft, path, is_durable };
        written.file.write_all(&text).map_err(|error| trouble("write", &written.draft, &error))?;
        Ok(written)
    }

    /// Deletes files with one of these prefixes that were written longer ago than that. Also what nobody finished.
    pub(super) fn delete_older(&self, prefixes: &[String], age: Duration) -> Result<u64, Cause> {
        let failed = |error| trouble("list", &self.path, &error);
        let mut deleted = 0;
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let (is_result, is_draft) =
                (prefixes.iter().any(|prefix| name.starts_with(prefix)), name.starts_with(DRAFT));
            let age_max = if is_result { age } else { DRAFT_AGE_MAX };
            let modified = entry.metadata().and_then(|about| about.modified());
            let is_older =
                modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|since| since > age_max));
            if (is_result || is_draft) && is_older && remove(&entry.path())? {
                deleted += u64::from(is_result);
            }
        }
        Ok(deleted)
    }

    /// The file of a key. Celery would follow a `/` in an id to wherever it leads.
    fn file(&self, key: &str) -> Result<PathBuf, Cause> {
        if key.contains(['/', '\0']) {
            return Err(Cause::permanent(format!(
                "`{}` cannot be the name of a file: it has a `/` in it",
                key.escape_debug()
            )));
        }
        if key.len() > NAME_BYTES_MAX {
            let bytes = key.len();
            return Err(Cause::permanent(format!("{bytes} bytes are more than the {NAME_BYTES_MAX} of a file's name")));
        }
        Ok(self.path.join(key))
    }

    fn draft(&self) -> PathBuf {
        self.path.join(format!("{DRAFT}{}", Uuid::new_v4().simple()))
    }
}

/// A draft with its text in it. Dropping it deletes the draft.
struct Written {
    file: File,
    draft: PathBuf,
    path: PathBuf,
    is_durable: bool,
}

impl Written {
    /// Puts it in its place.
    fn finish(self) -> Result<(), Cause> {
        let synced = if self.is_durable { self.file.sync_all() } else { Ok(()) };
        synced.map_err(|error| trouble("write", &self.draft, &error))?;
        fs::rename(&self.draft, &self.path).map_err(|error| trouble("write", &self.path, &error))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // In its place it is called otherwise.
        let _ = fs::remove_file(&self.draft);
    }
}

fn remove(path: &Path) -> Result<bool, Cause> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(trouble("delete", path, &error)),
    }
}

/// A disk that is full, a folder that is gone or may not be written: somebody will see to it, and a result that waits for
/// that is better than none.
fn trouble(operation: &str, path: &Path, error: &io::Error) -> Cause {
    Cause::transient(format!("cannot {operation} {}: {error}", path.display()))
}
