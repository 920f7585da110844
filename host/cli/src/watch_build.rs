//! `host run --watch-build`: builds plugins again when their sources change; the worker then takes the new component
//! as it takes any.
//!
//! How a plugin is built is the business of [`crate::build`]. One is built at a time, beside the worker.

mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::build;
use crate::config::Config;
use snapshot::Snapshot;

/// How often sources are looked at. Editors, containers and network file systems tell of changes in too many ways, and
/// a look costs less than a millisecond. Files that stay as they are from one look to the next are written.
const LOOK: Duration = Duration::from_millis(300);

/// The file that makes a folder a plugin.
const MANIFEST: &str = "plugin.toml";

/// What the worker serves, and where it comes from.
pub(crate) struct Builder {
    config: Arc<Config>,
    known: BTreeMap<PathBuf, Known>,
}

/// A plugin that is built here.
struct Known {
    /// The sources when they were looked at last.
    seen: Snapshot,
    /// What was built, or was there.
    built: Snapshot,
}

impl Builder {
    /// Knows of nothing yet.
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { config, known: BTreeMap::new() }
    }

    /// Builds what is missing or older than its sources, for a worker that is to begin with it.
    pub(crate) async fn begin(&mut self) {
        for (folder, why) in self.look() {
            self.build(folder, &why).await;
        }
    }

    /// Builds what changes, as long as the worker runs.
    pub(crate) async fn run(mut self) {
        loop {
            sleep(LOOK).await;
            for (folder, why) in self.look() {
                self.build(folder, &why).await;
            }
        }
    }

    /// What is to be built now, and why.
    fn look(&mut self) -> Vec<(PathBuf, String)> {
        let folders = find(&self.config.plugins.dir);
        self.known.retain(|folder, _| folders.contains(folder));
        let mut due = Vec::new();
        for folder in folders {
            let now = Snapshot::take(&folder);
            match self.known.get_mut(&folder) {
                None => {
                    due.extend(now.staleness().map(|why| (folder.clone(), why)));
                    self.known.insert(folder, Known { seen: now.clone(), built: now });
                }
                Some(known) => {
                    let settled = known.seen == now;
                    if let Some(why) = now.difference(&known.built).filter(|_| settled) {
                        due.push((folder.clone(), why));
                    }
                    known.seen = now;
                }
            }
        }
        due
    }

    /// Builds, and says what came of it. Whatever that is: the same sources are not built again.
    async fn build(&mut self, folder: PathBuf, why: &str) {
        let shown = folder.display().to_string();
        info!(plugin.folder = %shown, "building {shown}: {why}");
        let before = Snapshot::take(&folder);
        let (done, ending) = oneshot::channel();
        let (config, dir) = (self.config.clone(), folder.clone());
        // Not a thread of a runtime: those are waited for when the worker ends.
        let build = move || {
            let mut say = |line: &str| match line.strip_prefix("warning: ") {
                Some(warning) => warn!(plugin.folder = %dir.display(), "{}: {warning}", dir.display()),
                None => info!(plugin.folder = %dir.display(), "{}: {line}", dir.display()),
            };
            let built = build::build(&dir, &config, &mut say).map(|built| built.summary());
            // Nobody hears it if the worker has ended.
            let _ = done.send(built.map_err(|failure| failure.to_string()));
        };
        let started = std::thread::Builder::new().name("build".to_owned()).spawn(build);
        let ended = match started {
            Ok(_) => ending.await.unwrap_or_else(|_| Err("the build panicked".to_owned())),
            Err(error) => Err(format!("cannot start a thread: {error}")),
        };
        match ended {
            Ok(summary) => info!(plugin.folder = %shown, "built {summary}"),
            Err(why) => {
                let kept = "what serves now goes on serving, and the next change builds it again";
                error!(plugin.folder = %shown, "cannot build {shown}; {kept}:\n{}", why.trim_end());
            }
        }
        let built = before.with_locks_of(&Snapshot::take(&folder));
        self.known.insert(folder, Known { seen: built.clone(), built });
    }
}

/// Why the component of the plugin in this folder is to be built anew, if it says how that is done and it is.
pub(crate) fn staleness(folder: &Path) -> Option<String> {
    if is_built(folder) { Snapshot::take(folder).staleness() } else { None }
}

/// The folders of plugins whose manifest says how they are built.
fn find(dir: &Path) -> Vec<PathBuf> {
    let entries = dir.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders: Vec<PathBuf> =
        std::iter::once(dir.to_owned()).chain(entries).filter(|dir| is_built(dir)).collect();
    folders.sort();
    folders
}

fn is_built(folder: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(folder.join(MANIFEST)) else { return false };
    match text.parse::<toml::Table>() {
        Ok(table) => table.contains_key("build"),
        // Somebody is writing it; who builds says what is wrong.
        Err(_) => text.contains("[build]"),
    }
}
