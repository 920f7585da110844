//! Who has taken what: a folder for each owner, and a sign of life in it.
//!
//! No clocks are compared: an owner is dead when its sign of life has not changed for a while by the clock of
//! whoever looks. What it had goes back, marked, and what was bound for it alone is unbound.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use taskhost_core::protocol::content::Json;
use tracing::{info, warn};

use super::failure::Failure;
use super::folders::{self, Folders};
use super::shared::Shared;
use super::table::Binding;
use super::{file, janitor, listing, name, table};

/// The sign of life: written again and again, always as long.
const BEAT: &str = "beat";
/// The bindings that go with an owner: a list of exchange and line.
const BOUND: &str = "bound";

/// Shows that we live. Makes our folder if it is not there.
pub(super) fn beat(shared: &Shared, count: u64) -> Result<(), Failure> {
    let folder = shared.folders.owned(&shared.owner);
    let path = folder.join(BEAT);
    let text = format!("{count:020} process {} of {}\n", std::process::id(), shared.owner);
    let write = || {
        // In place: on a full disk, too.
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        opened.and_then(|mut file| file.write_all(text.as_bytes()))
    };
    match write() {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if count > 0 {
                warn!("others took us for dead, and what we had: some tasks may run twice");
            }
            folders::make(&folder)?;
            write().map_err(|error| Failure::io("write", &path, &error))?;
            record(shared)
        }
        Err(error) if error.kind() == ErrorKind::StorageFull && count > 0 => Ok(()),
        Err(error) => Err(Failure::io("write", &path, &error)),
    }
}

/// Writes down which bindings are ours.
pub(super) fn record(shared: &Shared) -> Result<(), Failure> {
    let path = shared.folders.owned(&shared.owner).join(BOUND);
    let bound = shared.own_bindings();
    if bound.is_empty() && !path.exists() {
        return Ok(());
    }
    let lines = bound.iter().map(|(exchange, binding)| Json::array([Json::text(exchange), binding.to_json()]));
    let written = fs::write(&path, Json::array(lines).as_str());
    written.map_err(|error| Failure::io("write", &path, &error))
}

fn recorded(folder: &Path) -> Vec<(String, Binding)> {
    let Some(lines) = fs::read(folder.join(BOUND)).ok().and_then(|text| Json::parse(text).ok()) else {
        return Vec::new();
    };
    let parse = |line: Json| {
        let mut parts = line.elements();
        let exchange = parts.next()?.as_text()?.into_owned();
        Some((exchange, Binding::parse(&parts.next()?)?))
    };
    lines.elements().filter_map(parse).collect()
}

/// What is known of the others.
#[derive(Default)]
pub(super) struct Others {
    seen: HashMap<String, (Vec<u8>, Instant)>,
}

impl Others {
    /// Gives back what the dead had.
    pub(super) fn sweep(&mut self, shared: &Shared, now: Instant) -> Result<(), Failure> {
        let Shared { folders, owner, lease, .. } = shared;
        let mut there = Vec::new();
        listing::names(&folders.claimed, |other| {
            if other != owner {
                there.push(other.to_owned());
            }
        })?;
        self.seen.retain(|other, _| there.contains(other));
        for other in &there {
            let sign = fs::read(folders.owned(other).join(BEAT)).unwrap_or_default();
            let (known, since) = self.seen.entry(other.clone()).or_insert_with(|| (sign.clone(), now));
            if *known != sign {
                (*known, *since) = (sign, now);
            } else if now.duration_since(*since) > *lease {
                take_over(shared, other, &there, *lease)?;
                self.seen.remove(other);
            }
        }
        Ok(())
    }
}

fn take_over(shared: &Shared, dead: &str, others: &[String], lease: Duration) -> Result<(), Failure> {
    let Shared { folders, owner, .. } = shared;
    let folder = folders.owned(dead);
    let mut count = 0;
    for file in messages(&folder)? {
        let ours = folders.owned(owner).join(&file);
        // Whoever renames it has it, should several of us do this at once.
        if folders::rename(&folder.join(&file), &ours)? && file::put_marked(folders, &ours, &file)? {
            count += 1;
        }
    }
    let still_used = |queue: &str| {
        let mut living = others.iter().filter(|other| *other != dead).map(|other| folders.owned(other));
        living.any(|other| recorded(&other).iter().any(|(_, binding)| binding.queue == queue))
            || shared.own_bindings().iter().any(|(_, binding)| binding.queue == queue)
    };
    for (exchange, binding) in recorded(&folder) {
        if !still_used(&binding.queue) {
            drop_queue(folders, &exchange, &binding)?;
        }
    }
    remove(&folder)?;
    if count > 0 {
        shared.look_again();
        info!(
            "`{dead}` has shown no sign of life for {} s: {count} messages that it had go to others",
            lease.as_secs()
        );
    }
    Ok(())
}

/// Unbinds a queue that was somebody's alone, and deletes what is in it.
pub(super) fn drop_queue(folders: &Folders, exchange: &str, binding: &Binding) -> Result<(), Failure> {
    table::unbind(folders, exchange, binding)?;
    janitor::purge(folders, &binding.queue).map(drop)
}

/// The messages in the folder of an owner.
pub(super) fn messages(folder: &Path) -> Result<Vec<String>, Failure> {
    let mut files = Vec::new();
    if fs::exists(folder).unwrap_or(false) {
        listing::names(folder, |file| files.extend(name::queue(file).map(|_| file.to_owned())))?;
    }
    files.sort_by(|one, other| name::order(one).cmp(&name::order(other)));
    Ok(files)
}

/// Removes the folder of an owner that has nothing any more.
pub(super) fn remove(folder: &Path) -> Result<(), Failure> {
    folders::delete(&folder.join(BOUND))?;
    folders::delete(&folder.join(BEAT))?;
    match fs::remove_dir(folder) {
        Ok(()) => Ok(()),
        // Somebody has put something there, or was faster.
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => Ok(()),
        Err(error) => Err(Failure::io("delete", folder, &error)),
    }
}
