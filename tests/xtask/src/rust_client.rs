//! Builds the Celery client in Rust, which has dependencies of its own and of other years than the host's.
//!
//! Made once in the cache folder: nothing of it changes with the host.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use crate::python::hash;
use crate::{Result, cache, cargo};

const MANIFEST: &str = include_str!("../../clients/rust/Cargo.toml");
const LOCK: &str = include_str!("../../clients/rust/Cargo.lock");
const SOURCE: &str = include_str!("../../clients/rust/src/main.rs");
const PROGRAM: &str = "taskhost-test-client";

/// Finds the program, or builds it, which takes some minutes the first time; or says why it cannot be had.
pub(crate) fn obtain() -> Result<PathBuf> {
    let folder = cache::folder()?.join(format!("rust-client-{:08x}", hash(&[MANIFEST, LOCK, SOURCE].concat())));
    let program = folder.join(PROGRAM);
    if program.exists() {
        return Ok(program);
    }
    let _lock = cache::lock(&folder.with_extension("lock"), "the Celery client in Rust")?;
    if !program.exists() {
        build(&folder)?;
    }
    Ok(program)
}

fn build(folder: &PathBuf) -> Result<()> {
    eprintln!("rust-client: building the Celery client in Rust (once)");
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    fs::create_dir_all(folder).map_err(|error| failed("create its folder", &error))?;
    let target = folder.join("target");
    let manifest = crate::root()?.join("tests/clients/rust/Cargo.toml");
    let mut command = cargo::command(&crate::root()?);
    command.args(["build", "--locked", "--quiet", "--manifest-path"]).arg(manifest).arg("--target-dir").arg(&target);
    let output = command.stdin(Stdio::null()).output().map_err(|error| failed("start cargo", &error))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo ended with {}: {}", output.status, complaint.trim()));
    }
    // The last step: what is there is complete.
    let built = target.join("debug").join(PROGRAM);
    fs::rename(&built, folder.join(PROGRAM)).map_err(|error| failed("move the program", &error))?;
    let _ = fs::remove_dir_all(target);
    Ok(())
}
