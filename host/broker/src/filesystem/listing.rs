//! The names of files that wait: as the folder was when it was last listed, and what we were told since.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use super::failure::Failure;
use super::name;

/// Most names that are known of a queue: the first ones.
const NAMES_MAX: usize = 10_000;

/// What waits in the queues that somebody takes from.
pub(super) struct Listing {
    waiting: HashMap<String, BTreeSet<(u64, String)>>,
    /// There may be others.
    stale: bool,
    listed: bool,
}

impl Listing {
    pub(super) fn new() -> Self {
        Self { waiting: HashMap::new(), stale: true, listed: false }
    }

    /// Begins a look: at most once in it the folder is listed.
    pub(super) fn begin(&mut self, queues: Vec<String>, fresh: Vec<String>, is_stale: bool) {
        self.listed = false;
        self.stale |= is_stale;
        self.waiting.retain(|queue, _| queues.contains(queue));
        for queue in queues {
            self.waiting.entry(queue).or_default();
        }
        // As long as others may be missing that are older, these wait for the list.
        if !self.stale {
            fresh.into_iter().for_each(|file| self.add(file));
        }
    }

    fn add(&mut self, file: String) {
        let Some(waiting) = name::queue(&file).and_then(|queue| self.waiting.get_mut(queue)) else { return };
        waiting.insert((name::order(&file).0, file));
        if waiting.len() > NAMES_MAX {
            waiting.pop_last();
            self.stale = true;
        }
    }

    /// The next file of a queue.
    pub(super) fn next(&mut self, folder: &Path, queue: &str) -> Result<Option<String>, Failure> {
        if let Some(file) = self.pop(queue) {
            return Ok(Some(file));
        }
        if !self.stale || self.listed {
            return Ok(None);
        }
        self.list(folder)?;
        Ok(self.pop(queue))
    }

    fn pop(&mut self, queue: &str) -> Option<String> {
        Some(self.waiting.get_mut(queue)?.pop_first()?.1)
    }

    fn list(&mut self, folder: &Path) -> Result<(), Failure> {
        self.listed = true;
        self.stale = false;
        self.waiting.values_mut().for_each(BTreeSet::clear);
        names(folder, |file| self.add(file.to_owned()))
    }
}

/// Calls with the name of everything in a folder. What is no text is nobody's message.
pub(super) fn names(folder: &Path, mut each: impl FnMut(&str)) -> Result<(), Failure> {
    let failed = |error| Failure::io("list", folder, &error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        if let Some(name) = entry.map_err(failed)?.file_name().to_str() {
            each(name);
        }
    }
    Ok(())
}
