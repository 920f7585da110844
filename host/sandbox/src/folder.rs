//! What a folder of plugins holds, without looking into the components.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use taskhost_core::PluginName;

use crate::grant::Need;
use crate::load_error::LoadError;
use crate::manifest;
use crate::plugin::Source;

/// Everything in a folder that is to be a plugin, by the file that makes it one: a `*.wasm`, the `plugin.toml`
/// of a sub-folder, or the folder's own.
pub(crate) fn find(dir: &Path) -> std::io::Result<Vec<(PathBuf, Result<Source, LoadError>)>> {
    let entries = dir.read_dir()?;
    let mut found = Vec::new();
    let mut take = |path: &Path, source: Result<Source, LoadError>| found.push((path.to_owned(), source));
    let own = dir.join(manifest::FILE_NAME);
    let mut own_component = None;
    if own.is_file() {
        let source = Source::manifest(&own);
        own_component = source.as_ref().ok().map(|source| source.component.clone());
        take(&own, source);
    }
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        // Tools that copy into a folder write hidden files first.
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden || own_component.as_ref() == Some(&path) {
            continue;
        }
        let manifest = path.join(manifest::FILE_NAME);
        if manifest.is_file() {
            take(&manifest, Source::manifest(&manifest));
        } else if path.extension().is_some_and(|extension| extension == "wasm") && path.is_file() {
            take(&path, Source::bare(&path));
        }
    }
    Ok(found)
}

/// The plugin that a file or folder belongs to.
pub(crate) fn source_of(path: &Path) -> Result<Source, LoadError> {
    if path.is_dir() {
        return Source::manifest(&path.join(manifest::FILE_NAME));
    }
    if path.file_name().is_some_and(|name| name == manifest::FILE_NAME) {
        return Source::manifest(path);
    }
    // A component with its manifest beside it is checked as it would be loaded.
    let manifest = path.with_file_name(manifest::FILE_NAME);
    if manifest.is_file() {
        let source = Source::manifest(&manifest)?;
        if source.component == path {
            return Ok(source);
        }
    }
    Source::bare(path)
}

/// What the plugin at this path is called, its component and what it declares; nothing is loaded for that.
#[derive(Debug, Clone)]
pub struct Declared {
    pub name: PluginName,
    /// The component, which need not be there.
    pub component: PathBuf,
    pub needs: Vec<Need>,
}

impl Declared {
    /// Reads the manifest, given the component, the manifest or the folder. A component without one declares
    /// nothing.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let Source { name, component, manifest, .. } = source_of(path)?;
        let needs = manifest.map(|manifest| manifest.needs.into_iter().collect()).unwrap_or_default();
        Ok(Self { name, component, needs })
    }
}

/// What tells a file that was changed, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    component: Option<FileStamp>,
    manifest: Option<FileStamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    bytes: u64,
    modified: Option<SystemTime>,
    /// A file that took another one's place is another one, however alike they are.
    inode: u64,
}

impl Stamp {
    /// The files of a plugin as they are now.
    pub(crate) fn of(source: &Source) -> Self {
        let manifest = source.manifest.as_ref().and_then(|_| FileStamp::of(&source.origin));
        Self { component: FileStamp::of(&source.component), manifest }
    }
}

impl FileStamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = path.metadata().ok()?;
        Some(Self { bytes: meta.len(), modified: meta.modified().ok(), inode: inode(&meta) })
    }
}

#[cfg(unix)]
fn inode(meta: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

#[cfg(not(unix))]
fn inode(_meta: &Metadata) -> u64 {
    0
}
