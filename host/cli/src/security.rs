//! Keys and certificates for signed messages: read from their files, used with the clock and with chance.
//!
//! What a signature is, is known to `core`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use getrandom::SysRng;
use taskhost_core::protocol::auth::{AuthError, Certificate, Keys, Opened, PrivateKey, Seal};

use crate::config::{SecretText, SecurityConfig};
use crate::exit::{Failure, OrHint};
use crate::wiring::now;

/// How many certificates a store may have.
const CERTIFICATES_MAX: usize = 10_000;

/// The keys in use.
#[derive(Debug)]
struct Keyring(Keys);

impl Seal for Keyring {
    fn seal(&self, body: &[u8]) -> Result<Bytes, AuthError> {
        self.0.sign(body, &mut SysRng)
    }

    fn open(&self, signed: &[u8]) -> Result<Opened, AuthError> {
        self.0.verify(signed, now())
    }
}

/// Reads all files.
pub(crate) fn load(config: &SecurityConfig) -> Result<Arc<dyn Seal>, Failure> {
    let loaded = keys(config).context("cannot set up signed messages (security.*)");
    Ok(Arc::new(Keyring(loaded.or_hint("they are made as for Celery's `app.setup_security()`")?)))
}

fn keys(config: &SecurityConfig) -> Result<Keys, anyhow::Error> {
    let password = config.key_password.as_ref().map(SecretText::expose);
    let key = PrivateKey::parse(&read(&config.key)?, password).with_context(|| config.key.display().to_string())?;
    let own = certificate(&config.certificate)?;
    let store = files(&config.cert_store)?;
    let store: Result<Vec<_>, _> = store.iter().map(|path| certificate(path)).collect();
    Ok(Keys::new(key, &own, store?, config.digest, now())?)
}

fn certificate(path: &Path) -> Result<Certificate, anyhow::Error> {
    Certificate::parse(&read(path)?).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<String, anyhow::Error> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The files that are meant: all of a folder, or those whose name fits the pattern, in order.
fn files(store: &Path) -> Result<Vec<PathBuf>, anyhow::Error> {
    let (folder, pattern) = match store.is_dir() {
        true => (store, "*".to_owned()),
        false => {
            let name = store.file_name().ok_or_else(|| anyhow!("{} names no files", store.display()))?;
            (store.parent().unwrap_or(Path::new("")), name.to_string_lossy().into_owned())
        }
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let unreadable = || format!("cannot read the folder {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // As a shell, and Python's glob, pass over hidden files.
        if path.is_file() && !name.starts_with('.') && fits(&name, &pattern) {
            files.push(path);
        }
        if files.len() > CERTIFICATES_MAX {
            return Err(anyhow!("more than {CERTIFICATES_MAX} certificates in {}", folder.display()));
        }
    }
    if files.is_empty() {
        return Err(anyhow!("there are no certificates: {}", store.display()));
    }
    files.sort();
    Ok(files)
}

/// True if the name is what the pattern says, where `*` is any text and `?` any character.
fn fits(name: &str, pattern: &str) -> bool {
    let Some(wanted) = pattern.chars().next() else { return name.is_empty() };
    let rest = &pattern[wanted.len_utf8()..];
    let mut characters = name.chars();
    match (wanted, characters.next()) {
        ('*', _) => name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| fits(&name[at..], rest)),
        ('?', Some(_)) => fits(characters.as_str(), rest),
        (wanted, Some(found)) if wanted == found => fits(characters.as_str(), rest),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_shells() {
        for (name, pattern, expected) in [
            ("a.pem", "*", true),
            ("a.pem", "*.pem", true),
            ("a.pem.old", "*.pem", false),
            ("a.pem", "?.pem", true),
            ("ab.pem", "?.pem", false),
            ("worker-1.crt", "w*-?.c*", true),
            ("a.pem", "a.pem", true),
        ] {
            assert_eq!(fits(name, pattern), expected, "{name} as {pattern}");
        }
    }

    #[test]
    fn a_store_without_certificates_says_so() {
        let folder = std::env::temp_dir().join(format!("taskhost-no-certs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let error = files(&folder).unwrap_err().to_string();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(error.contains("there are no certificates"), "{error}");
    }
}
