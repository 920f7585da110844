//! Makes the Python environment with the Celery client that tests talk to the host with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Result;
use crate::cache;
use crate::debian::{self, Installed};

/// Exact versions of Celery and of everything it pulls in.
const REQUIREMENTS: &str = include_str!("../../fixtures/requirements.txt");
/// Celery 5.7 needs Python 3.10; `ensurepip` is a package of its own on Debian.
const SUITABLE: &str = "import ensurepip, venv, sys; sys.exit(sys.version_info < (3, 10))";

/// The interpreter of the environment, or why this machine cannot have one.
pub(crate) enum Python {
    Ready(PathBuf),
    Missing(String),
}

/// Finds the environment of the Celery client, or makes it, which takes about half a minute the first time.
pub(crate) fn obtain() -> Result<Python> {
    obtain_with(&Packages { name: "python", requirements: REQUIREMENTS, probe: "import celery" })
}

/// An environment that tests need.
pub(crate) struct Packages {
    /// What its folder begins with.
    pub(crate) name: &'static str,
    /// Exact versions, as pip reads them.
    pub(crate) requirements: &'static str,
    /// A line of Python that fails where something is missing.
    pub(crate) probe: &'static str,
}

/// Finds an environment, or makes it.
pub(crate) fn obtain_with(packages: &Packages) -> Result<Python> {
    let Packages { name, requirements, probe } = packages;
    let cache = cache::folder()?;
    let folder = cache.join(format!("{name}-{:08x}", hash(requirements)));
    let (marker, interpreter) = (folder.join("complete"), folder.join("bin/python"));
    // An upgrade of the system's Python breaks the links of the environment.
    let complete = || marker.exists() && run(Command::new(&interpreter).args(["-c", probe])).is_ok();
    if complete() {
        return Ok(Python::Ready(interpreter));
    }
    let _lock = cache::lock(&folder.with_extension("lock"), "the Python environment")?;
    if complete() {
        return Ok(Python::Ready(interpreter)); // made by the process that held the lock
    }
    let base = match base()? {
        Ok(base) => base,
        Err(reason) => return Ok(Python::Missing(reason)),
    };
    make(base, &folder, packages)?;
    fs::write(&marker, "").map_err(|error| format!("write {}: {error}", marker.display()))?;
    Ok(Python::Ready(interpreter))
}

/// The machine's Python, installed if need be; the inner error says why there is none.
fn base() -> Result<std::result::Result<&'static str, String>> {
    let find = || {
        let known = ["python3", "/usr/bin/python3"].into_iter();
        known.into_iter().find(|python| run(Command::new(python).args(["-c", SUITABLE])).is_ok())
    };
    if let Some(base) = find() {
        return Ok(Ok(base));
    }
    if let Installed::No(reason) = debian::install(&["python3", "python3-venv"])? {
        return Ok(Err(reason));
    }
    Ok(find().ok_or_else(|| "the machine's Python is older than 3.10".to_owned()))
}

fn make(base: &str, folder: &Path, packages: &Packages) -> Result<()> {
    let started = Instant::now();
    let Packages { name, requirements, .. } = packages;
    let count = requirements.lines().filter(|line| line.contains("==")).count();
    eprintln!("test: making the Python environment `{name}` (once; pip downloads {count} packages)");
    let _ = fs::remove_dir_all(folder); // what an interrupted process left behind
    run(Command::new(base).args(["-m", "venv"]).arg(folder))?;
    let file = folder.join("requirements.txt");
    fs::write(&file, requirements).map_err(|error| format!("write {}: {error}", file.display()))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "5", "--requirement"]);
    run(pip.arg(&file))?;
    eprintln!("test: ready in {} s: {}", started.elapsed().as_secs(), folder.display());
    Ok(())
}

/// Runs a program of Python's to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    // A variable of the caller's own Python must not lead ours astray.
    let output = command.env_remove("PYTHONPATH").env_remove("PYTHONHOME").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("start `{name}`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{name}` ended with {}: {}", output.status, complaint.trim()))
}

/// FNV-1a, which gives the same folder on every run and machine.
pub(crate) fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
