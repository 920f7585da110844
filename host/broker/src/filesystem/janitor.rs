//! Counts and deletes files that wait, and those that would pile up since nobody reads them.
//!
//! kombu keeps what is sent to mailboxes and monitors of those who are gone. What Celery asks of a broker that can
//! (`control_queue_ttl`, `event_queue_expires`) is done here by the age of files.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tracing::debug;

use super::failure::Failure;
use super::folders::{self, Folders};
use super::listing::names;
use super::{name, owner, table};
use crate::broadcast::Topic;

/// How long commands and replies wait to be read: Celery's `control_queue_ttl`.
const CONTROL_AGE_MAX: Duration = Duration::from_secs(300);
/// When a monitor counts as gone that reads no events: Celery's `event_queue_expires`.
const EVENT_AGE_MAX: Duration = Duration::from_secs(60);
/// When a draft counts as forgotten.
const DRAFT_AGE_MAX: Duration = Duration::from_secs(3600);

/// How many messages wait in a queue, for their time too.
pub(super) fn count(folders: &Folders, queue: &str) -> Result<u64, Failure> {
    let mut count = 0;
    names(&folders.inward, |file| count += u64::from(name::queue(file) == Some(queue)))?;
    names(&folders.later, |file| count += u64::from(waits_for(file) == Some(queue)))?;
    Ok(count)
}

/// Deletes all messages that wait in a queue, and says how many there were.
pub(super) fn purge(folders: &Folders, queue: &str) -> Result<u64, Failure> {
    let mut files = Vec::new();
    names(&folders.inward, |file| {
        if name::queue(file) == Some(queue) {
            files.push(folders.inward.join(file));
        }
    })?;
    names(&folders.later, |file| {
        if waits_for(file) == Some(queue) {
            files.push(folders.later.join(file));
        }
    })?;
    let mut count = 0;
    for file in files {
        count += u64::from(folders::delete(&file)?);
    }
    Ok(count)
}

fn waits_for(file: &str) -> Option<&str> {
    name::queue(name::due(file)?.1)
}

/// Deletes what was broadcast to those who do not read it. Returns how many files there were.
pub(super) fn sweep_letters(folders: &Folders, broadcasts: &[(String, Topic)]) -> Result<u64, Failure> {
    let mut deleted = 0;
    for (exchange, topic) in broadcasts {
        let age_max = if *topic == Topic::Events { EVENT_AGE_MAX } else { CONTROL_AGE_MAX };
        for binding in table::read(folders, exchange)? {
            let mut files = Vec::new();
            names(&folders.outward, |file| {
                if name::queue(file) == Some(&binding.queue) {
                    files.push(folders.outward.join(file));
                }
            })?;
            let mut old = 0;
            for file in files {
                if is_older(&file, age_max) && folders::delete(&file)? {
                    old += 1;
                }
            }
            if old > 0 {
                debug!("{old} files in queue `{}` were read by nobody and are deleted", binding.queue);
            }
            // A mailbox may be that of a worker who is busy; a monitor that wants nothing is none.
            if old > 0 && *topic == Topic::Events {
                owner::drop_queue(folders, exchange, &binding)?;
            }
            deleted += old;
        }
    }
    Ok(deleted)
}

/// Deletes what somebody began to write and never sent.
pub(super) fn sweep_drafts(folders: &Folders) -> Result<(), Failure> {
    for folder in [&folders.drafts_in, &folders.drafts_out] {
        let mut files = Vec::new();
        names(folder, |file| files.push(folder.join(file)))?;
        for file in files {
            if is_older(&file, DRAFT_AGE_MAX) {
                folders::delete(&file)?;
            }
        }
    }
    Ok(())
}

fn is_older(file: &Path, age: Duration) -> bool {
    let modified = fs::metadata(file).and_then(|about| about.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|since| since > age))
}
