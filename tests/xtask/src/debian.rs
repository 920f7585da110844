//! Installs the Debian packages that tests need, on machines that have apt-get.
//!
//! Never starts or configures a service: the tests start servers of their own.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;

const LISTS: &str = "/var/lib/apt/lists";

/// What came of asking for packages.
pub(crate) enum Installed {
    Yes,
    /// This machine cannot install them; the text says why and what a person can do.
    No(String),
}

/// Installs `packages`, which this machine was found not to have.
pub(crate) fn install(packages: &[&str]) -> Result<Installed> {
    let list = packages.join(" ");
    if !in_path("apt-get") {
        return Ok(Installed::No(format!("{list} not found, and there is no apt-get to install it with")));
    }
    let Some(as_root) = become_root() else {
        return Ok(Installed::No(format!("{list} not found; install with `sudo apt-get install {list}`")));
    };
    fetch_lists(as_root)?;
    eprintln!("test: installing {list} (apt-get install; once, a minute or two)");
    let arguments = [&["install", "--yes", "--no-install-recommends"], packages].concat();
    if apt_get(as_root, &arguments).is_ok() {
        return Ok(Installed::Yes);
    }
    eprintln!("test: that failed; once more with fresh package lists");
    apt_get(as_root, &["update"])?;
    apt_get(as_root, &arguments).map(|()| Installed::Yes)
}

/// Fetches apt's package lists if this machine has none yet and lets us: without them apt does not know
/// its own archive.
pub(crate) fn ensure_lists() -> Result<()> {
    match become_root() {
        Some(as_root) => fetch_lists(as_root),
        None => Ok(()),
    }
}

fn fetch_lists(as_root: &[&str]) -> Result<()> {
    if !lists_are_empty() {
        return Ok(());
    }
    eprintln!("fetching the package lists (apt-get update)");
    apt_get(as_root, &["update"])
}

/// True if a program of this name can be started.
pub(crate) fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The words to put before a command so that it runs as root without asking for a password.
fn become_root() -> Option<&'static [&'static str]> {
    let quiet = |program: &str, arguments: &[&str]| Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let user = quiet("id", &["-u"]).ok()?;
    if user.stdout.trim_ascii() == b"0" {
        return Some(&[]);
    }
    quiet("sudo", &["-n", "true"]).ok()?.status.success().then_some(&["sudo", "-n"])
}

fn lists_are_empty() -> bool {
    let Ok(entries) = fs::read_dir(Path::new(LISTS)) else { return true };
    !entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
}

fn apt_get(as_root: &[&str], arguments: &[&str]) -> Result<()> {
    let front = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get", "-qq", "-o", "Acquire::Retries=3"];
    let words: Vec<&str> = as_root.iter().chain(&front).chain(arguments).copied().collect();
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("start `{}`: {error}", words[0]))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("`apt-get {}` ended with {}: {}", arguments.join(" "), output.status, complaint.trim()))
}
