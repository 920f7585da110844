//! `scratch`: a private folder for each attempt, with a quota, which is gone afterwards.
//!
//! The guest sees it through `wasi:filesystem` like any granted folder. Nobody's file system keeps the quota:
//! every call that writes passes the layer here, which counts. A quota that is used up is an error for the
//! guest and no trap.

mod folder;
mod layer;
mod ledger;
mod stream;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::filesystem::FsPerms;

use super::{CapabilityError, Remarks};
use crate::size::Size;
use folder::{Folder, Root};
use ledger::{Full, Key, Ledger, Writer};

pub(super) use layer::link;

/// Where the guest sees it.
pub(crate) const GUEST_PATH: &str = "/scratch";
/// What programs look at to find it.
pub(super) const VARIABLE: &str = "TMPDIR";
/// Files, folders and links that there may be at once.
const ENTRIES_MAX: usize = 10_000;

/// The scratch folders of one worker. Nothing is made before a plugin is granted one.
#[derive(Debug)]
pub(crate) struct Scratches {
    dir: PathBuf,
    root: Mutex<Option<Arc<Root>>>,
}

impl Scratches {
    /// In this folder, or in the usual one.
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        let dir = dir.unwrap_or_else(folder::default_dir);
        // Messages are read elsewhere than here.
        let dir = std::path::absolute(&dir).unwrap_or(dir);
        Self { dir, root: Mutex::default() }
    }

    /// Sees to it that folders can be made.
    pub(super) fn prepare(&self) -> Result<(), CapabilityError> {
        self.root().map(drop)
    }

    /// A folder for one attempt.
    pub(super) fn make(&self, bytes_max: u64, remarks: Arc<Remarks>) -> Result<Scratch, CapabilityError> {
        let folder = self.root()?.make().map_err(|source| self.error(source))?;
        let state = State { ledger: Ledger::new(bytes_max, ENTRIES_MAX), handles: HashMap::new() };
        Ok(Scratch { folder, bytes_max, remarks, state: Mutex::new(state), writers: AtomicU32::new(0) })
    }

    /// Removes the folder of this worker. The next one that is made is another one.
    pub(crate) fn clean_up(&self) {
        self.root.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn root(&self) -> Result<Arc<Root>, CapabilityError> {
        let mut root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = &*root {
            return Ok(Arc::clone(root));
        }
        let opened = Arc::new(Root::open(&self.dir).map_err(|source| self.error(source))?);
        Ok(Arc::clone(root.insert(opened)))
    }

    fn error(&self, source: std::io::Error) -> CapabilityError {
        CapabilityError::Scratch { dir: self.dir.clone(), source }
    }
}

/// The folder of one attempt.
pub(crate) struct Scratch {
    folder: Folder,
    bytes_max: u64,
    remarks: Arc<Remarks>,
    state: Mutex<State>,
    writers: AtomicU32,
}

struct State {
    ledger: Ledger<File>,
    /// What the guest has open in the folder, by the number of its handle.
    handles: HashMap<u32, Handle>,
}

/// What a handle leads to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Handle {
    Folder,
    File(Key),
}

impl Scratch {
    /// Gives it to a WASI context.
    pub(crate) fn furnish(&self, builder: &mut WasiCtxBuilder) -> Result<(), CapabilityError> {
        let path: &Path = self.folder.path();
        let furnished = builder.preopened_dir(path, GUEST_PATH, FsPerms::ReadWrite);
        furnished.map(drop).map_err(|error| CapabilityError::Scratch {
            dir: path.to_owned(),
            source: std::io::Error::other(format!("{error:#}")),
        })
    }

    /// Removes the folder. When the guest put nothing there this is one call of the system, and else it is
    /// done where waiting for a disk holds up nobody.
    pub(crate) async fn remove(self: Arc<Self>) {
        let is_empty = self.state().ledger.is_empty();
        if is_empty {
            drop(self);
        } else {
            // It is removed all the same if nobody waits for that.
            let _ = tokio::task::spawn_blocking(move || drop(self)).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_writer(&self) -> Writer {
        self.writers.fetch_add(1, Ordering::Relaxed)
    }

    /// Says once that there is no more room, and which line would give more.
    fn remark(&self, full: Full) {
        let what = match full {
            Full::Bytes => {
                let size = Size(usize::try_from(self.bytes_max).unwrap_or(usize::MAX));
                let plugin = self.remarks.plugin();
                format!(
                    "the scratch folder is full: {size}; raise `scratch = [\"{size}\"]` in [needs] of plugin.toml and in \
                     [grants.\"{plugin}\"] of host.toml"
                )
            }
            Full::Entries => format!("the scratch folder is full: {ENTRIES_MAX} files and folders"),
        };
        self.remarks.make(what);
    }
}
