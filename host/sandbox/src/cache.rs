//! Compiled code, kept from one start to the next in a folder of the worker's own.
//!
//! Machine code is not checked when it is loaded: whoever can write it can do whatever the worker can. So each
//! file carries a seal made with a key that is not in the folder, and what has none, or another one, is
//! compiled anew. Trouble with the cache is never trouble with a plugin.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Size of all files together. Beyond it the ones that were not used for longest are deleted.
const CACHE_BYTES_MAX: u64 = 2 << 30;
const KEY_BYTES: usize = 32;
const SEAL_BYTES: usize = 32;

/// Where compiled code is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// The folder. It is made if it is missing; nobody else may have rights on it.
    pub dir: PathBuf,
    /// The file with the key, which is made if it is missing. Not in that folder.
    pub key: PathBuf,
}

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error("`{}`", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` belongs to another user, or others have rights on it", path.display())]
    Shared { path: PathBuf },
    #[error("`{}` is not a key of {KEY_BYTES} bytes", path.display())]
    Key { path: PathBuf },
}

/// The open cache.
pub(crate) struct CompileCache {
    dir: PathBuf,
    key: [u8; KEY_BYTES],
}

impl CompileCache {
    pub(crate) fn open(config: &CacheConfig) -> Result<Self, CacheError> {
        let failed = |path: &Path, source| CacheError::Io { path: path.to_owned(), source };
        make_private_dir(&config.dir).map_err(|error| failed(&config.dir, error))?;
        check_private(&config.dir)?;
        let key = match read_key(&config.key) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_key(&config.key),
            read => read,
        };
        let key = key.map_err(|error| failed(&config.key, error))?;
        check_private(&config.key)?;
        let key = key.try_into().map_err(|_| CacheError::Key { path: config.key.clone() })?;
        Ok(Self { dir: config.dir.clone(), key })
    }

    /// The component of that hash, if it was compiled before by an engine like this one.
    pub(crate) fn get(&self, engine: &Engine, sha256: &str) -> Option<Component> {
        let name = name(engine, sha256);
        let path = self.dir.join(&name);
        let mut bytes = Vec::new();
        let mut file = File::open(&path).ok()?;
        file.read_to_end(&mut bytes).ok()?;
        let (seal, code) = bytes.split_at_checked(SEAL_BYTES)?;
        if self.mac(&name, code).verify_slice(seal).is_err() {
            tracing::warn!("compiled code in {} is not what this host wrote, and is not used", path.display());
            let _ = fs::remove_file(&path);
            return None;
        }
        // What is used stays. It fails on a file that we may only read, of which we are the owner: no harm.
        let _ = file.set_modified(SystemTime::now());
        #[expect(unsafe_code, reason = "the seal says that this host compiled it")]
        // SAFETY: the seal shows that these very bytes were written by `put`, which got them from wasmtime.
        match unsafe { Component::deserialize(engine, code) } {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::debug!("compiled code in {} is not used: {error:#}", path.display());
                None
            }
        }
    }

    /// Keeps what was compiled.
    pub(crate) fn put(&self, engine: &Engine, sha256: &str, component: &Component) {
        let written = component.serialize().map_err(io::Error::other).and_then(|code| {
            let name = name(engine, sha256);
            let seal = self.mac(&name, &code).finalize().into_bytes();
            self.make_room((SEAL_BYTES + code.len()) as u64)?;
            write_whole(&self.dir.join(name), &[&seal, &code], 0o400)
        });
        if let Err(error) = written {
            tracing::warn!("cannot keep compiled code in {}: {error}", self.dir.display());
        }
    }

    fn mac(&self, name: &str, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length makes a key");
        mac.update(name.as_bytes());
        mac.update(&[0]);
        mac.update(code);
        mac
    }

    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in self.dir.read_dir()? {
            let entry = entry?;
            let meta = entry.metadata()?;
            files.push((meta.modified()?, meta.len(), entry.path()));
        }
        let mut sum: u64 = files.iter().map(|(_, len, _)| len).sum();
        files.sort();
        for (_, len, path) in files {
            if sum + bytes <= CACHE_BYTES_MAX {
                break;
            }
            // Another worker with the same folder may have been faster.
            let _ = fs::remove_file(path);
            sum -= len;
        }
        Ok(())
    }
}

/// Another engine, or the same with other settings, has other names.
fn name(engine: &Engine, sha256: &str) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{sha256}-{:016x}", hasher.finish())
}

fn read_key(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = Vec::new();
    File::open(path)?.take(KEY_BYTES as u64 + 1).read_to_end(&mut key)?;
    Ok(key)
}

fn make_key(path: &Path) -> io::Result<Vec<u8>> {
    if let Some(dir) = path.parent() {
        make_private_dir(dir)?;
    }
    let mut key = vec![0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    // Of two workers that start at the same time the second takes the key of the first.
    match write_new(path, &[&key], 0o600) {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read_key(path),
        Err(error) => Err(error),
    }
}

/// Writes beside it, and puts it in its place when it is on disk.
fn write_whole(path: &Path, parts: &[&[u8]], mode: u32) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    let _ = fs::remove_file(&beside);
    let written = write_new(&beside, parts, mode).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

fn write_new(path: &Path, parts: &[&[u8]], mode: u32) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
}

fn make_private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(unix)]
fn check_private(path: &Path) -> Result<(), CacheError> {
    use std::os::unix::fs::MetadataExt;
    const OTHERS: u32 = 0o077;
    let meta = path.symlink_metadata().map_err(|source| CacheError::Io { path: path.to_owned(), source })?;
    let ours = meta.uid() == rustix::process::geteuid().as_raw() && !meta.is_symlink();
    match ours && meta.mode() & OTHERS == 0 {
        true => Ok(()),
        false => Err(CacheError::Shared { path: path.to_owned() }),
    }
}

#[cfg(not(unix))]
fn check_private(_path: &Path) -> Result<(), CacheError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAT: &str = "(component (core module (func (export \"f\") (result i32) (i32.const 7))))";

    fn cache(dir: &Path) -> Result<CompileCache, CacheError> {
        CompileCache::open(&CacheConfig { dir: dir.join("compiled"), key: dir.join("keys/cache.key") })
    }

    #[test]
    fn what_was_compiled_is_found_again_and_anything_else_is_not() {
        let (dir, engine) = (tempfile::TempDir::new().expect("a folder"), Engine::default());
        let component = Component::new(&engine, wat::parse_str(WAT).expect("valid")).expect("it compiles");
        let cache_now = cache(dir.path()).expect("a cache");
        assert!(cache_now.get(&engine, "ab").is_none());
        cache_now.put(&engine, "ab", &component);
        assert!(cache_now.get(&engine, "ab").is_some());
        assert!(cache(dir.path()).expect("the same key").get(&engine, "ab").is_some());
        assert!(cache_now.get(&engine, "cd").is_none());
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let other = Engine::new(&config).expect("an engine");
        assert!(cache_now.get(&other, "ab").is_none());
    }

    #[test]
    fn what_somebody_else_wrote_or_moved_is_not_loaded() {
        let (dir, engine) = (tempfile::TempDir::new().expect("a folder"), Engine::default());
        let cache = cache(dir.path()).expect("a cache");
        cache.put(&engine, "ab", &Component::new(&engine, wat::parse_str(WAT).expect("valid")).expect("it compiles"));
        let path = |hash| dir.path().join("compiled").join(name(&engine, hash));
        let good = fs::read(path("ab")).expect("it is there");
        let write = |hash, bytes: &[u8]| {
            let _ = fs::remove_file(path(hash));
            fs::write(path(hash), bytes).expect("written");
        };
        for position in [0, SEAL_BYTES, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[position] ^= 1;
            write("ab", &bad);
            assert!(cache.get(&engine, "ab").is_none(), "byte {position}");
            assert!(!path("ab").exists(), "it is gone");
        }
        // The code of one component under the name of another.
        write("cd", &good);
        assert!(cache.get(&engine, "cd").is_none());
        write("ab", &good[..10]);
        assert!(cache.get(&engine, "ab").is_none());
        write("ab", &good);
        assert!(cache.get(&engine, "ab").is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_or_a_key_that_others_can_reach_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::TempDir::new().expect("a folder");
        cache(dir.path()).expect("a cache");
        let open = |path: &str, mode| {
            fs::set_permissions(dir.path().join(path), fs::Permissions::from_mode(mode)).expect("ours");
        };
        open("compiled", 0o755);
        assert!(matches!(cache(dir.path()), Err(CacheError::Shared { .. })));
        open("compiled", 0o700);
        open("keys/cache.key", 0o644);
        assert!(matches!(cache(dir.path()), Err(CacheError::Shared { .. })));
        open("keys/cache.key", 0o600);
        fs::write(dir.path().join("keys/cache.key"), "short").expect("written");
        assert!(matches!(cache(dir.path()), Err(CacheError::Key { .. })));
    }
}
