//! Where the scratch folders of attempts are on this machine: made, removed, and swept up after workers that
//! were killed.
//!
//! Whether a worker is alive shows in a lock that it holds, which ends with it whatever ends it. Numbers of
//! processes mean nothing between containers that share a folder.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// The ending of a lock beside the folder that it is for.
const LOCK: &str = "lock";
/// Between the name of a folder and a number: something that was in it.
const GONE: &str = "-gone-";
/// Names that are tried before giving up; another worker that sweeps takes one at most for a moment.
const NAMES_MAX: u32 = 16;

/// The folder of this worker, in which each attempt has its own.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    lock_path: PathBuf,
    /// Held as long as this is there.
    _lock: File,
    made: AtomicU64,
}

/// The folder of one attempt. It goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Goes last.
    _root: Arc<Root>,
}

/// The folder of all workers of this user, if none was chosen.
pub(crate) fn default_dir() -> PathBuf {
    std::env::temp_dir().join(format!("taskhost-scratch-{}", user()))
}

#[cfg(unix)]
fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn user() -> u32 {
    0
}

impl Root {
    /// Makes this worker's folder in `dir`, and removes there, meanwhile, what is left of dead ones.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            make_private(dir)?;
        }
        check_private(dir)?;
        let root = Self::claim(dir)?;
        let (dir, own) = (dir.to_owned(), root.lock_path.clone());
        thread::Builder::new().name("scratch-sweeper".into()).spawn(move || sweep(&dir, &own))?;
        Ok(root)
    }

    fn claim(dir: &Path) -> Result<Self> {
        for number in 0..NAMES_MAX {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let path = dir.join(format!("{}-{:x}-{number}", std::process::id(), since.as_nanos()));
            let lock_path = path.with_extension(LOCK);
            let lock = File::options().write(true).create_new(true).open(&lock_path)?;
            match lock.try_lock() {
                // A sweeper may have had it for a moment, and removed it.
                Ok(()) if lock_path.exists() => {
                    make_private(&path)?;
                    return Ok(Self { path, lock_path, _lock: lock, made: AtomicU64::new(0) });
                }
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    let _ = fs::remove_file(&lock_path);
                    return Err(error);
                }
            }
        }
        Err(Error::new(ErrorKind::ResourceBusy, "other workers take every name"))
    }

    /// A folder for one attempt.
    pub(crate) fn make(self: &Arc<Self>) -> Result<Folder> {
        let path = self.path.join(self.made.fetch_add(1, Ordering::Relaxed).to_string());
        make_private(&path)?;
        Ok(Folder { path, _root: Arc::clone(self) })
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        clear(&self.path);
        let _ = fs::remove_file(&self.lock_path);
    }
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        clear(&self.path);
    }
}

/// Removes folders of workers that are dead.
fn sweep(dir: &Path, own: &Path) {
    let Ok(entries) = dir.read_dir() else { return };
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    // One that was killed while it removed a folder left some of it beside.
    for path in paths.iter().filter(|path| path.is_dir()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some((worker, _)) = name.split_once(GONE) else { continue };
        if !dir.join(worker).with_extension(LOCK).exists() {
            clear(path);
        }
    }
    for lock_path in paths {
        if lock_path.extension() != Some(OsStr::new(LOCK)) || lock_path == own {
            continue;
        }
        let Ok(lock) = File::options().write(true).open(&lock_path) else { continue };
        if lock.try_lock().is_ok() {
            let path = lock_path.with_extension("");
            tracing::info!("removing what a worker left in {}", path.display());
            clear(&path);
            let _ = fs::remove_file(&lock_path);
        }
    }
}

/// Removes a folder with everything in it. A guest may have nested folders deeper than paths can be, or than
/// there are files that can be open: each is moved up before it is emptied.
fn clear(top: &Path) {
    if fs::remove_dir(top).is_ok() {
        return;
    }
    match empty(top).and_then(|()| fs::remove_dir(top)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!("cannot remove the scratch folder {}: {error}", top.display());
        }
        _ => {}
    }
}

fn empty(top: &Path) -> Result<()> {
    let beside = |number: u64| {
        let name = top.file_name().unwrap_or_default().to_string_lossy().into_owned();
        top.with_file_name(format!("{name}{GONE}{number}"))
    };
    let (mut moved, mut emptied) = (0, 0);
    let mut folder = top.to_owned();
    loop {
        for entry in folder.read_dir()? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
            } else if fs::remove_dir(entry.path()).is_err() {
                fs::rename(entry.path(), beside(moved))?;
                moved += 1;
            }
        }
        if folder != top {
            fs::remove_dir(&folder)?;
        }
        if emptied == moved {
            return Ok(());
        }
        folder = beside(emptied);
        emptied += 1;
    }
}

fn make_private(path: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Whoever could write there could put links in the place of our folders.
#[cfg(unix)]
fn check_private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let meta = dir.metadata()?;
    match meta.uid() == user() && meta.mode() & WRITABLE_BY_OTHERS == 0 {
        true => Ok(()),
        false => {
            let why = "it has to belong to the worker's own user, and nobody else may write there";
            Err(Error::new(ErrorKind::PermissionDenied, why))
        }
    }
}

#[cfg(not(unix))]
fn check_private(_dir: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = dir.read_dir().expect("it is there").map(|entry| entry.expect("an entry")).collect();
        names.sort_by_key(fs::DirEntry::file_name);
        names.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn folders_are_private_and_leave_nothing_behind() {
        let dir = TempDir::new().expect("a temporary folder");
        let base = dir.path().join("scratch");
        let root = Arc::new(Root::open(&base).expect("a folder"));
        let (first, second) = (root.make().expect("a folder"), root.make().expect("a folder"));
        assert_ne!(first.path(), second.path());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
            assert_eq!((mode(&base), mode(first.path())), (0o700, 0o700));
        }
        fs::write(first.path().join("file"), "text").expect("a file");
        fs::create_dir_all(second.path().join("a/b/c")).expect("folders");
        drop((first, root, second));
        assert_eq!(names(&base), [""; 0]);
    }

    #[test]
    fn a_tree_that_is_too_deep_for_any_path_is_removed() {
        let dir = TempDir::new().expect("a temporary folder");
        let root = Arc::new(Root::open(dir.path()).expect("a folder"));
        let folder = root.make().expect("a folder");
        // From the inside out, since no path leads in.
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).expect("a folder");
        for _ in 0..1_200 {
            let outer = folder.path().join("outer");
            fs::create_dir(&outer).expect("a folder");
            fs::write(outer.join("file"), "text").expect("a file");
            fs::rename(&inner, outer.join("inner")).expect("another folder");
            fs::rename(&outer, &inner).expect("another folder");
        }
        let own = root.path.clone();
        drop(folder);
        assert_eq!(names(&own), [""; 0]);
    }

    #[test]
    fn what_a_dead_worker_left_is_swept_and_a_living_one_is_left_alone() {
        let dir = TempDir::new().expect("a temporary folder");
        // Without a sweeper beside the one that is called here.
        let living = Arc::new(Root::claim(dir.path()).expect("a folder"));
        let kept = living.make().expect("a folder");
        // As if its process had been killed: the lock is gone, the folder is not.
        let dead = dir.path().join("1-dead-0");
        fs::create_dir_all(dead.join("0/a")).expect("folders");
        fs::write(dead.with_extension(LOCK), "").expect("a file");
        fs::create_dir_all(dir.path().join("2-dead-0-gone-7/a")).expect("folders");
        sweep(dir.path(), Path::new(""));
        assert!(kept.path().is_dir());
        assert!(!dead.exists() && !dead.with_extension(LOCK).exists());
        assert_eq!(names(dir.path()).len(), 2, "{:?}", names(dir.path()));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_write_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let dir = TempDir::new().expect("a temporary folder");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
        let error = Root::open(dir.path()).expect_err("others can write there");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
}
