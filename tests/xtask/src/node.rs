//! Fetches modules from npm: those of the tests' client, and what others name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::cache;
use crate::debian::{self, Installed};
use crate::python::hash;

/// What the tests' client needs.
const CLIENT: Modules = Modules {
    name: "node",
    package: include_str!("../../fixtures/node/package.json"),
    lock: include_str!("../../fixtures/node/package-lock.json"),
    // amqplib needs as much.
    version_min: 18,
};

/// Celery clients that people have.
const CELERY_CLIENTS: Modules = Modules {
    name: "celery-clients",
    package: include_str!("../../clients/node/package.json"),
    lock: include_str!("../../clients/node/package-lock.json"),
    version_min: 18,
};

/// What the example of a producer in TypeScript needs, its compiler included.
const TS_PRODUCER: Modules = Modules {
    name: "ts-producer",
    package: include_str!("../../../examples/ts-producer/package.json"),
    lock: include_str!("../../../examples/ts-producer/package-lock.json"),
    version_min: 18,
};

/// The folder of modules, or why this machine cannot have one.
pub(crate) enum Node {
    Ready(PathBuf),
    Missing(String),
}

/// Modules of npm that somebody needs.
pub(crate) struct Modules {
    /// What their folder begins with.
    pub(crate) name: &'static str,
    /// What is wanted, and exact versions of it and of everything that it pulls in, with checksums.
    pub(crate) package: &'static str,
    pub(crate) lock: &'static str,
    /// The oldest Node.js that runs them.
    pub(crate) version_min: u32,
}

/// Finds the modules of the tests' client, or fetches them, which takes some seconds the first time.
pub(crate) fn obtain() -> Result<Node> {
    obtain_with(&CLIENT)
}

/// As [`obtain`], with the Celery clients that people have.
pub(crate) fn obtain_celery_clients() -> Result<Node> {
    obtain_with(&CELERY_CLIENTS)
}

/// As [`obtain`], for the example of a producer in TypeScript.
pub(crate) fn obtain_ts_producer() -> Result<Node> {
    obtain_with(&TS_PRODUCER)
}

/// Finds modules, or fetches them.
pub(crate) fn obtain_with(wanted: &Modules) -> Result<Node> {
    if let Some(reason) = lacking(wanted.version_min)? {
        return Ok(Node::Missing(reason));
    }
    let folder = cache::folder()?.join(format!("{}-{:08x}", wanted.name, hash(wanted.lock)));
    let (marker, modules) = (folder.join("complete"), folder.join("node_modules"));
    if marker.exists() {
        return Ok(Node::Ready(modules));
    }
    let _lock = cache::lock(&folder.with_extension("lock"), "the modules for Node.js")?;
    if !marker.exists() {
        fetch(wanted, &folder)?;
        fs::write(&marker, "").map_err(|error| format!("write {}: {error}", marker.display()))?;
    }
    Ok(Node::Ready(modules))
}

/// Why there is no Node.js; none if there is one, installed if need be.
fn lacking(version_min: u32) -> Result<Option<String>> {
    let suitable = format!("process.exit(Number(process.versions.node.split('.')[0]) < {version_min} ? 1 : 0)");
    let works = || {
        let node = Command::new("node").args(["-e", &suitable]).stdin(Stdio::null()).status();
        node.is_ok_and(|status| status.success()) && debian::in_path("npm")
    };
    if works() {
        return Ok(None);
    }
    if let Installed::No(reason) = debian::install(&["nodejs", "npm"])? {
        return Ok(Some(reason));
    }
    Ok((!works()).then(|| format!("the machine's Node.js is older than {version_min}")))
}

fn fetch(wanted: &Modules, folder: &Path) -> Result<()> {
    eprintln!("{}: fetching modules for Node.js (once)", wanted.name);
    let _ = fs::remove_dir_all(folder); // what an interrupted process left behind
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| format!("write {}: {error}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| format!("create {}: {error}", folder.display()))?;
    write("package.json", wanted.package)?;
    write("package-lock.json", wanted.lock)?;
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
