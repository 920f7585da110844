//! One message as a file: read when it is complete, written so that nobody sees a part of it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::OFlags;
use rustix::io::Errno;
use taskhost_core::protocol::content::Json;

use super::failure::Failure;
use super::folders::{self, Folders};
use super::{Care, name};
use crate::kombu;

/// Larger files are no messages.
const MESSAGE_BYTES_MAX: u64 = 256 << 20;
/// How long somebody may take to write a file until it counts as abandoned.
const WRITING_MAX: Duration = Duration::from_secs(60);

/// How long somebody may keep a table locked, and how often it is tried.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// What a file looks like before it is taken.
pub(super) enum Look {
    /// Somebody else has taken it.
    Gone,
    /// It is still being written.
    NotYet,
    /// We must not read it.
    Forbidden(String),
    /// It is complete.
    Ready(File),
    /// It will never be a message.
    Strange(String),
}

/// Looks at a file without changing it.
///
/// kombu opens a file, locks it, and then writes it, in the folder in which it is looked for: one that is locked or
/// empty is still under way.
pub(super) fn look(path: &Path) -> Result<Look, Failure> {
    // Neither links nor pipes are followed or waited for.
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Look::Gone),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Ok(Look::Strange("it is a link".to_owned()));
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(Look::Forbidden(error.to_string())),
        Err(error) => return Err(Failure::io("open", path, &error)),
    };
    let about = file.metadata().map_err(|error| Failure::io("read", path, &error))?;
    if !about.is_file() {
        return Ok(Look::Strange("it is not a file".to_owned()));
    }
    if about.len() > MESSAGE_BYTES_MAX {
        return Ok(Look::Strange(format!("it has {} bytes, and {MESSAGE_BYTES_MAX} is the most", about.len())));
    }
    // Where nobody keeps locks there are none.
    let is_locked = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    if !is_locked && about.len() > 0 {
        // It may have grown since, but nobody writes any more.
        return Ok(Look::Ready(file));
    }
    let age = about.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    match age {
        Some(age) if age > WRITING_MAX && !is_locked => Ok(Look::Strange("it is empty".to_owned())),
        _ => Ok(Look::NotYet),
    }
}

/// Reads what [`look`] found, wherever it is called now.
pub(super) fn read(mut file: File, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| Failure::io("read", path, &error))?;
    Ok(bytes)
}

/// Writes messages, each for a queue. They are seen whole, in this order, and, if that is wanted, on disk before
/// this returns. On a failure some of them may be there.
pub(super) fn write_all(folders: &Folders, messages: &[(String, String)], care: Care) -> Result<(), Failure> {
    let mut drafts = Vec::with_capacity(messages.len());
    let written = write_drafts(folders, messages, care, &mut drafts).and_then(|()| {
        drafts.iter().try_for_each(|(name, draft)| match folders::rename(draft, &folders.outward.join(name))? {
            true => Ok(()),
            false => Err(Failure::lost(format!("{} is gone before it was sent", draft.display()))),
        })
    });
    if let Err(failure) = written {
        for (_, draft) in drafts {
            // Those that were sent are not there any more.
            let _ = folders::delete(&draft);
        }
        return Err(failure);
    }
    if care == Care::Durable { folders::sync(&folders.outward) } else { Ok(()) }
}

fn write_drafts(
    folders: &Folders,
    messages: &[(String, String)],
    care: Care,
    drafts: &mut Vec<(String, PathBuf)>,
) -> Result<(), Failure> {
    let mut files = Vec::with_capacity(messages.len());
    for (queue, text) in messages {
        let name = name::new(queue);
        let draft = folders.drafts_out.join(&name);
        drafts.push((name, draft.clone()));
        let file = write(&draft, text.as_bytes())?;
        if care == Care::Durable {
            files.push((draft, file));
        }
    }
    // After all are written: the first of these then brings most of the others with it.
    files.iter().try_for_each(|(draft, file)| file.sync_all().map_err(|error| Failure::io("write", draft, &error)))
}

fn write(path: &Path, bytes: &[u8]) -> Result<File, Failure> {
    let written = File::create_new(path).and_then(|mut file| file.write_all(bytes).map(|()| file));
    written.map_err(|error| Failure::io("write", path, &error))
}

/// Gives back a message that somebody has had: marked and counted, and called as said. False if it is gone.
pub(super) fn put_marked(folders: &Folders, taken: &Path, to: &str) -> Result<bool, Failure> {
    let text = match fs::read(taken) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Failure::io("read", taken, &error)),
    };
    let Ok(envelope) = Json::parse(text) else { return folders::rename(taken, &folders.inward.join(to)) };
    let draft = folders.drafts_in.join(to);
    let written = write(&draft, kombu::marked(&envelope).as_str().as_bytes())
        .and_then(|file| file.sync_all().map_err(|error| Failure::io("write", &draft, &error)));
    if let Err(failure) = written {
        let _ = folders::delete(&draft);
        // On a full disk an unmarked message is better than none.
        return if failure.is_full() { folders::rename(taken, &folders.inward.join(to)) } else { Err(failure) };
    }
    folders::rename(&draft, &folders.inward.join(to))?;
    folders::delete(taken)
}

/// Is done with a message that we have taken.
pub(super) fn dispose(folders: &Folders, taken: &Path, name: &str) -> Result<(), Failure> {
    let Some(processed) = &folders.processed else { return folders::delete(taken).map(drop) };
    let kept = processed.join(name);
    match fs::rename(taken, &kept) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            fs::copy(taken, &kept).map_err(|error| Failure::io("write", &kept, &error))?;
            folders::delete(taken).map(drop)
        }
        Err(error) => Err(Failure::io("move", taken, &error)),
    }
}

/// Locks a file as kombu does, within bounds. Where nobody keeps locks it goes without.
pub(super) fn lock(file: &File, path: &Path, manner: Manner) -> Result<(), Failure> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        let tried = match manner {
            Manner::Shared => file.try_lock_shared(),
            Manner::Alone => file.try_lock(),
        };
        match tried {
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::lost(format!(
                    "somebody keeps {} locked for more than {} s",
                    path.display(),
                    LOCK_PATIENCE.as_secs()
                )));
            }
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(()),
        }
    }
}

/// How a file is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Shared,
    Alone,
}
