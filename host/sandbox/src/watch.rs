//! Tells when something in a folder may have changed.
//!
//! Does not look what it was. The system tells where it can; a look every few seconds finds what it does not
//! tell, on network file systems and in folders that a container shares with its host.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::timeout;

/// How often the folder is looked at although nothing was told.
const POLL: Duration = Duration::from_secs(2);

/// Watches one folder.
pub struct Watch {
    dir: PathBuf,
    told: Arc<Notify>,
    /// None, if the system cannot, or the folder is not there yet.
    watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Begins to watch. The folder need not be there yet.
    pub fn new(dir: &Path) -> Self {
        let mut watch = Self { dir: dir.to_owned(), told: Arc::new(Notify::new()), watcher: None };
        watch.begin();
        watch
    }

    /// Returns when something may have changed, after this time at the latest.
    pub async fn changed(&mut self, at_most: Option<Duration>) {
        if self.watcher.is_none() {
            self.begin();
        }
        let wait = at_most.map_or(POLL, |at_most| at_most.min(POLL));
        let _ = timeout(wait, self.told.notified()).await;
        if !self.dir.is_dir() {
            // Another folder of that name has to be watched anew.
            self.watcher = None;
        }
    }

    fn begin(&mut self) {
        let told = self.told.clone();
        let tell = move |event: notify::Result<Event>| {
            // Whoever only reads changes nothing.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                told.notify_one();
            }
        };
        let watching = notify::recommended_watcher(tell)
            .and_then(|mut watcher| watcher.watch(&self.dir, RecursiveMode::Recursive).map(|()| watcher));
        match watching {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => tracing::debug!("{} is looked at every {} s: {error}", self.dir.display(), POLL.as_secs()),
        }
    }
}
