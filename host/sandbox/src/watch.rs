//! Tells when something in a folder of plugins may have changed.
//!
//! Does not look what it was. The system tells where it can; a look every few seconds finds what it does not
//! tell, on network file systems and in folders that a container shares with its host.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::shelf::SETTLE;

/// How often the folder is looked at although nothing was told.
const POLL: Duration = Duration::from_secs(2);
/// Folders that are watched. Changes in others are found by looking.
const FOLDERS_MAX: usize = 1_000;

/// Watches one folder, and the folders in it: a plugin is no deeper than that, and what is built deeper is
/// nobody's business.
pub struct Watch {
    dir: PathBuf,
    told: Arc<Notify>,
    /// None, if the system cannot.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// When this returned last.
    last: Instant,
}

impl Watch {
    /// Begins to watch. The folder need not be there yet.
    pub fn new(dir: &Path) -> Self {
        let told = Arc::new(Notify::new());
        let teller = told.clone();
        let tell = move |event: notify::Result<Event>| {
            // Whoever only reads changes nothing.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                teller.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(tell);
        let watcher = watcher.inspect_err(|error| {
            tracing::debug!("{} is looked at every {} s: {error}", dir.display(), POLL.as_secs());
        });
        let (watcher, watched) = (watcher.ok(), BTreeSet::new());
        let mut watch = Self { dir: dir.to_owned(), told, watcher, watched, last: Instant::now() };
        watch.keep_up();
        watch
    }

    /// Returns when something may have changed, after this time at the latest, and not again before whoever
    /// writes had a moment to go on.
    pub async fn changed(&mut self, at_most: Option<Duration>) {
        let wait = at_most.map_or(POLL, |at_most| at_most.min(POLL));
        if timeout(wait, self.told.notified()).await.is_ok() {
            sleep_until(self.last + SETTLE).await;
        }
        self.last = Instant::now();
        self.keep_up();
    }

    /// Watches folders that have come. Those that have gone are looked for no more.
    fn keep_up(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let entries = self.dir.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
        let folders = entries.filter(|path| path.is_dir());
        let there: BTreeSet<PathBuf> =
            [self.dir.clone()].into_iter().filter(|dir| dir.is_dir()).chain(folders).take(FOLDERS_MAX).collect();
        for gone in self.watched.difference(&there) {
            // The system may have noticed by itself.
            let _ = watcher.unwatch(gone);
        }
        self.watched.retain(|folder| there.contains(folder));
        for folder in there {
            if !self.watched.contains(&folder) && watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok() {
                self.watched.insert(folder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);
    /// What is told later than this is not waited for where nothing is expected.
    const QUIET: Duration = Duration::from_millis(300);

    /// True if the system tells something, which is then all told.
    async fn is_told(watch: &mut Watch, within: Duration) -> bool {
        let told = timeout(within, watch.told.notified()).await.is_ok();
        watch.keep_up();
        while timeout(QUIET, watch.told.notified()).await.is_ok() {}
        told
    }

    #[tokio::test]
    async fn a_change_is_told_in_the_folder_and_in_those_in_it_and_no_deeper() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let write = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("it is ours");
            std::fs::write(path, "x").expect("it is ours");
        };
        write("p/target/deep/object.o");
        let mut watch = Watch::new(dir.path());
        assert!(!is_told(&mut watch, QUIET).await, "nothing has changed");
        write("p.wasm");
        assert!(is_told(&mut watch, PATIENCE).await);
        write("p/p.wasm");
        assert!(is_told(&mut watch, PATIENCE).await);
        write("new/plugin.toml");
        assert!(is_told(&mut watch, PATIENCE).await, "a folder that comes is a change");
        write("new/new.wasm");
        assert!(is_told(&mut watch, PATIENCE).await, "and is watched from then on");
        write("p/target/deep/object.o");
        assert!(!is_told(&mut watch, QUIET).await, "what is built deeper is nobody's business");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_again_and_again_looks_no_more_often_than_files_settle() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let mut watch = Watch::new(dir.path());
        watch.changed(None).await;
        for _ in 0..5 {
            let before = Instant::now();
            watch.told.notify_one();
            watch.changed(None).await;
            assert_eq!(before.elapsed(), SETTLE);
        }
    }
}
