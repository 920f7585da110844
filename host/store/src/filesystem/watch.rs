//! Lets the file system tell of results that others write, as long as somebody waits for one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use taskhost_core::TaskId;
use tracing::debug;

use crate::waiters::Waiters;

/// Watches a folder when asked to.
pub(super) struct Watch {
    folder: PathBuf,
    /// Before the id in the name of a task's file.
    prefix: String,
    waiters: Arc<Waiters>,
    running: Mutex<Weak<RecommendedWatcher>>,
}

impl Watch {
    pub(super) fn new(folder: PathBuf, prefix: String, waiters: Arc<Waiters>) -> Self {
        Self { folder, prefix, waiters, running: Mutex::default() }
    }

    /// Wakes waiters until all that this returned are dropped; `None` if the file system tells nothing.
    pub(super) fn begin(&self) -> Option<Arc<RecommendedWatcher>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = running.upgrade() {
            return Some(watcher);
        }
        let (prefix, waiters) = (self.prefix.clone(), Arc::clone(&self.waiters));
        let watcher = notify::recommended_watcher(move |event| hear(event, &prefix, &waiters));
        let watcher = watcher.and_then(|mut watcher| {
            watcher.watch(&self.folder, RecursiveMode::NonRecursive)?;
            Ok(Arc::new(watcher))
        });
        let watcher = watcher
            .inspect_err(|error| debug!("{} is looked at again and again: {error}", self.folder.display()))
            .ok()?;
        *running = Arc::downgrade(&watcher);
        Some(watcher)
    }
}

fn hear(event: notify::Result<Event>, prefix: &str, waiters: &Waiters) {
    // What is missed is found by looking, a little later.
    let Ok(event) = event else { return };
    let is_reading = matches!(event.kind, EventKind::Access(access) if !is_written(access));
    if is_reading || event.kind.is_remove() {
        return;
    }
    let ids = event.paths.iter().filter_map(|path| path.file_name()?.to_str()?.strip_prefix(prefix));
    ids.filter_map(|id| TaskId::parse(id).ok()).for_each(|id| waiters.wake(&id));
}

fn is_written(access: notify::event::AccessKind) -> bool {
    use notify::event::{AccessKind, AccessMode};
    access == AccessKind::Close(AccessMode::Write)
}
