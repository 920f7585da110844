//! Fetches what the tests' client in Node.js needs from npm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::cache;
use crate::debian::{self, Installed};
use crate::python::hash;

/// Exact versions, with checksums.
const PACKAGE: &str = include_str!("../../fixtures/node/package.json");
const LOCK: &str = include_str!("../../fixtures/node/package-lock.json");
/// amqplib needs as much.
const SUITABLE: &str = "process.exit(Number(process.versions.node.split('.')[0]) < 18 ? 1 : 0)";

/// The folder of modules, or why this machine cannot have one.
pub(crate) enum Node {
    Ready(PathBuf),
    Missing(String),
}

/// Finds the modules, or fetches them, which takes some seconds the first time.
pub(crate) fn obtain() -> Result<Node> {
    if let Some(reason) = lacking()? {
        return Ok(Node::Missing(reason));
    }
    let folder = cache::folder()?.join(format!("node-{:08x}", hash(LOCK)));
    let (marker, modules) = (folder.join("complete"), folder.join("node_modules"));
    if marker.exists() {
        return Ok(Node::Ready(modules));
    }
    let _lock = cache::lock(&folder.with_extension("lock"), "the modules for Node.js")?;
    if !marker.exists() {
        fetch(&folder)?;
        fs::write(&marker, "").map_err(|error| format!("write {}: {error}", marker.display()))?;
    }
    Ok(Node::Ready(modules))
}

/// Why there is no Node.js; none if there is one, installed if need be.
fn lacking() -> Result<Option<String>> {
    let works = || {
        let node = Command::new("node").args(["-e", SUITABLE]).stdin(Stdio::null()).status();
        node.is_ok_and(|status| status.success()) && debian::in_path("npm")
    };
    if works() {
        return Ok(None);
    }
    if let Installed::No(reason) = debian::install(&["nodejs", "npm"])? {
        return Ok(Some(reason));
    }
    Ok((!works()).then(|| "the machine's Node.js is older than 18".to_owned()))
}

fn fetch(folder: &Path) -> Result<()> {
    eprintln!("test: fetching modules for Node.js (once)");
    let _ = fs::remove_dir_all(folder); // what an interrupted process left behind
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| format!("write {}: {error}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| format!("create {}: {error}", folder.display()))?;
    write("package.json", PACKAGE)?;
    write("package-lock.json", LOCK)?;
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder).stdin(Stdio::null());
    let output = npm.output().map_err(|error| format!("start npm: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("`npm ci` ended with {}: {}", output.status, complaint.trim()))
}
