//! Fetches what builds plugins in TypeScript from npm: the bundler, the compiler of components, and TypeScript.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Found, Tools};
use crate::Result;
use crate::cache;
use crate::debian::{self, Installed};
use crate::python::hash;

/// Exact versions, with checksums.
const PACKAGE: &str = include_str!("../../../fixtures/js/package.json");
const LOCK: &str = include_str!("../../../fixtures/js/package-lock.json");
/// What the SDK's build needs.
const SUITABLE: &str = "process.exit(Number(process.versions.node.split('.')[0]) < 20 ? 1 : 0)";
/// Where the SDK's build looks for modules that a project does not have.
const VARIABLE: &str = "TASKHOST_NODE_MODULES";

/// Finds the modules, or fetches them, which takes some seconds the first time.
pub(crate) fn obtain() -> Result<Tools> {
    if let Some(reason) = lacking()? {
        return Ok(Tools::Missing(reason));
    }
    let folder = cache::folder()?.join(format!("js-{:08x}", hash(LOCK)));
    let (marker, modules) = (folder.join("complete"), folder.join("node_modules"));
    if !marker.exists() {
        let _lock = cache::lock(&folder.with_extension("lock"), "the tools for TypeScript")?;
        if !marker.exists() {
            fetch(&folder)?;
            fs::write(&marker, "").map_err(|error| format!("write {}: {error}", marker.display()))?;
        }
    }
    Ok(Tools::Ready(Found { variables: vec![(VARIABLE, modules.into_os_string())], ..Found::default() }))
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
    Ok((!works()).then(|| "the machine's Node.js is older than 20".to_owned()))
}

fn fetch(folder: &Path) -> Result<()> {
    eprintln!("tools: fetching what builds TypeScript (once)");
    let _ = fs::remove_dir_all(folder); // what an interrupted process left behind
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| format!("write {}: {error}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| format!("create {}: {error}", folder.display()))?;
    write("package.json", PACKAGE)?;
    write("package-lock.json", LOCK)?;
    let mut npm = Command::new("npm");
    // What is built for this machine comes as a package of its own, so nothing has to run.
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder).stdin(Stdio::null());
    let output = npm.output().map_err(|error| format!("start npm: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("`npm ci` ended with {}: {}", output.status, complaint.trim()))
}
