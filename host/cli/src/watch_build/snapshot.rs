//! What the sources of a plugin look like at a moment, without reading them.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::MANIFEST;
use crate::build;

/// Files that are looked at. Whoever has more has named a folder that is not his sources.
const FILES_MAX: usize = 20_000;

/// Folders that hold what is made or fetched.
const MADE: [&str; 6] = ["target", "node_modules", "__pycache__", "dist", "build", "venv"];

/// Files that a build may write itself.
const LOCKS: [&str; 5] = ["Cargo.lock", "go.sum", "go.mod", "package-lock.json", "uv.lock"];

/// All sources of one plugin, by their paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Snapshot {
    files: BTreeMap<PathBuf, Stamp>,
    component: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self { bytes: meta.len(), modified: meta.modified().ok() }
    }
}

impl Snapshot {
    /// As it is now. Of a manifest that cannot be read there is only the manifest itself.
    pub(super) fn take(folder: &Path) -> Self {
        let (watched, component) = match build::sources(folder) {
            Ok(sources) => (sources.watched, sources.component),
            Err(_) => (vec![folder.join(MANIFEST)], PathBuf::new()),
        };
        let mut snapshot = Self { files: BTreeMap::new(), component };
        for path in watched {
            match path.metadata() {
                Ok(meta) if meta.is_dir() => snapshot.walk(&path),
                Ok(meta) => snapshot.add(path, &meta),
                Err(_) => {}
            }
        }
        snapshot
    }

    fn walk(&mut self, folder: &Path) {
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            if self.files.len() >= FILES_MAX {
                return;
            }
            let (name, path) = (entry.file_name(), entry.path());
            let name = name.to_string_lossy();
            // Hidden: version control, environments, and files that editors write first.
            if name.starts_with('.') || name.ends_with('~') || MADE.contains(&&*name) {
                continue;
            }
            // A link to a folder may lead back.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.walk(&path),
                Ok(_) if path.extension().is_some_and(|extension| extension == "wasm") => {}
                Ok(_) => {
                    if let Ok(meta) = path.metadata() {
                        self.add(path, &meta);
                    }
                }
                Err(_) => {}
            }
        }
    }

    fn add(&mut self, path: PathBuf, meta: &Metadata) {
        if meta.is_file() && path != self.component {
            self.files.insert(path, Stamp::of(meta));
        }
    }

    /// Why the component is to be built before anything changes; none if it is as new as its sources.
    pub(super) fn staleness(&self) -> Option<String> {
        let modified = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
        let Some(component) = modified(&self.component) else { return Some("there is no component".to_owned()) };
        // A build that made the same component again has left it as it was.
        let built = self.component.parent().and_then(|folder| modified(&folder.join(build::BUILT)));
        let done = built.map_or(component, |built| built.max(component));
        let newer = self.files.iter().find(|(_, stamp)| stamp.modified.is_some_and(|modified| modified > done))?.0;
        Some(format!("{} is newer than the component", self.shown(newer)))
    }

    /// What is different from what was built.
    pub(super) fn difference(&self, built: &Self) -> Option<String> {
        for (path, stamp) in &self.files {
            match built.files.get(path) {
                Some(before) if before == stamp => {}
                Some(_) => return Some(format!("{} has changed", self.shown(path))),
                None => return Some(format!("{} has come", self.shown(path))),
            }
        }
        let gone = built.files.keys().find(|path| !self.files.contains_key(*path))?;
        Some(format!("{} is gone", self.shown(gone)))
    }

    /// This, with the files that a build may have written as they are after it.
    pub(super) fn with_locks_of(mut self, after: &Self) -> Self {
        let is_lock = |path: &Path| LOCKS.iter().any(|name| path.file_name().is_some_and(|found| found == *name));
        for (path, stamp) in after.files.iter().filter(|(path, _)| is_lock(path)) {
            self.files.insert(path.clone(), *stamp);
        }
        self
    }

    /// As seen from the plugin's folder.
    fn shown(&self, path: &Path) -> String {
        let folder = self.component.parent().unwrap_or(Path::new(""));
        path.strip_prefix(folder).unwrap_or(path).display().to_string()
    }
}
