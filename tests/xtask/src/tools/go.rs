//! Finds a Go compiler that makes components, or fetches one.
//!
//! First choice is the one in `PATH`. One that is older, but knows how to fetch a newer one of itself, is told to. Otherwise
//! Debian's is unpacked into a private folder of the cache: its programs are linked statically, so they run on any Linux.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use crate::Result;
use crate::archive::{self, create_dir, output};
use crate::cache;

use super::{Found, Tools};

/// The first minor version that makes components, and the first that can fetch another.
const COMPONENTS: u32 = 25;
const TOOLCHAINS: u32 = 21;
/// What an older one fetches.
const FETCHED: &str = "go1.26.0";
const ADVICE: &str = "install Go 1.25 or later, and try again";

/// Finds the compiler, or fetches it, which takes about half a minute the first time.
pub(crate) fn obtain() -> Result<Tools> {
    let cache = cache::folder()?;
    let own = version("go");
    if own >= Some(COMPONENTS) {
        return Ok(Tools::Ready(found(None, &cache)));
    }
    if own >= Some(TOOLCHAINS)
        && let Some(root) = ask("go", FETCHED, "GOROOT")
    {
        return Ok(Tools::Ready(found(Some(Path::new(&root).join("bin")), &cache)));
    }
    if let Some(lacking) = archive::lacking() {
        return Ok(Tools::Missing(format!("there is no Go 1.{COMPONENTS} or later, and {lacking}; {ADVICE}")));
    }
    let prefix = cache.join("go");
    let bin = prefix.join("bin");
    if version(bin.join("go")) < Some(COMPONENTS) {
        let _lock = cache::lock(&prefix.with_extension("lock"), "a Go compiler")?;
        if version(bin.join("go")) < Some(COMPONENTS) {
            debian(&prefix)?;
        }
    }
    Ok(Tools::Ready(found(Some(bin), &cache)))
}

/// Our plugins need nothing but the SDK beside them, so nothing is to be downloaded while they are built.
fn found(bin: Option<PathBuf>, cache: &Path) -> Found {
    Found {
        path: bin.into_iter().collect(),
        variables: vec![
            ("GOTOOLCHAIN", "local".into()),
            ("GOPROXY", "off".into()),
            ("GOCACHE", cache.join("go-build").into_os_string()),
        ],
    }
}

/// The minor version of a compiler; none if there is none.
fn version(go: impl AsRef<OsStr>) -> Option<u32> {
    minor(&ask(go, "local", "GOVERSION")?)
}

/// What a compiler says of itself, or of the one that it is to fetch.
fn ask(go: impl AsRef<OsStr>, toolchain: &str, variable: &str) -> Option<String> {
    let mut command = Command::new(go);
    command.args(["env", variable]).env("GOTOOLCHAIN", toolchain).current_dir(env::temp_dir());
    output(&mut command).ok().map(|told| told.trim().to_owned())
}

/// 26 of `go1.26.8`; what was built from no release is as new as can be.
fn minor(version: &str) -> Option<u32> {
    if version.starts_with("devel") {
        return Some(u32::MAX);
    }
    let rest = version.strip_prefix("go1.")?;
    rest.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
}

/// Downloads and unpacks Debian's.
fn debian(prefix: &Path) -> Result<()> {
    eprintln!("plugins: there is no Go 1.{COMPONENTS} or later; fetching Debian's (once, about 70 MB)");
    let temporary = prefix.with_extension(format!("tmp.{}", process::id()));
    let made = unpack(&temporary);
    if let Err(message) = made {
        let _ = fs::remove_dir_all(&temporary);
        return Err(format!("cannot fetch Debian's Go: {message}\n{ADVICE}"));
    }
    let _ = fs::remove_dir_all(prefix); // what an interrupted process left behind
    fs::rename(&temporary, prefix)
        .map_err(|error| format!("rename {} to {}: {error}", temporary.display(), prefix.display()))
}

fn unpack(prefix: &Path) -> Result<()> {
    let root = prefix.join("root");
    create_dir(&root)?;
    let packages = archive::download(&prefix.join("apt"), &["golang-go", "golang-src"], packages)?;
    for package in packages {
        output(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&root))?;
    }
    let _ = fs::remove_dir_all(prefix.join("apt"));
    let libraries = root.join("usr/lib");
    let entries = fs::read_dir(&libraries).map_err(|error| format!("read {}: {error}", libraries.display()))?;
    let mut folders = entries.flatten().map(|entry| entry.file_name());
    let folder = folders.find(|name| name.to_string_lossy().starts_with("go-1.")).ok_or("it has no compiler in it")?;
    // Go finds the rest by where its program is, so it is called there and not linked to.
    let go = Path::new("root/usr/lib").join(folder).join("bin/go");
    let script = format!("#!/bin/sh\nexec \"${{0%/*}}/../{}\" \"$@\"\n", go.display());
    create_dir(&prefix.join("bin"))?;
    let path = prefix.join("bin/go");
    fs::write(&path, script).map_err(|error| format!("write {}: {error}", path.display()))?;
    output(Command::new("chmod").arg("755").arg(&path))?;
    match version(&path) >= Some(COMPONENTS) {
        true => Ok(()),
        false => Err(format!("it is older than 1.{COMPONENTS}")),
    }
}

/// The compiler and its standard library, without the C compiler that apt would install beside them.
fn packages(plan: &str) -> Vec<&str> {
    archive::installed(plan).filter(|name| name.starts_with("golang-")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        for (text, expected) in [
            ("go1.26.8", Some(26)),
            ("go1.25rc1", Some(25)),
            ("go1.9", Some(9)),
            ("devel go1.28-abc", Some(u32::MAX)),
            ("go2", None),
            ("", None),
        ] {
            assert_eq!(minor(text), expected, "{text}");
        }
    }

    #[test]
    fn the_c_compiler_is_left_out() {
        let plan = "Inst gcc-16-base (16.2.0-3 Debian:testing [amd64])\n\
                    Inst golang-1.26-go (1.26.1-1 Debian:testing [amd64])\nInst golang-go:amd64 (2:1.26~1 Debian:testing [amd64])";
        assert_eq!(packages(plan), ["golang-1.26-go", "golang-go"]);
    }
}
