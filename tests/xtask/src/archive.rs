//! Downloads packages of a newer Debian than the machine has, with an apt of our own that checks them.
//!
//! Nothing is installed: whoever asks unpacks them into a folder of its own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::debian;

/// Testing comes first, since it holds still for longer.
const SUITES: [&str; 2] = ["forky", "sid"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What this machine lacks to download packages; nothing, if it can.
pub(crate) fn lacking() -> Option<&'static str> {
    if !cfg!(target_os = "linux") {
        Some("it can be fetched only on Debian and its relatives")
    } else if !debian::in_path("apt-get") || !debian::in_path("dpkg-deb") {
        Some("there is no apt-get and dpkg-deb to fetch it with")
    } else if !Path::new(KEYRING).exists() {
        Some("there is no keyring of Debian (package debian-archive-keyring) to check it with")
    } else {
        None
    }
}

/// Downloads what apt would install for `wanted`, as far as `select` picks it from apt's plan, to below `folder`.
pub(crate) fn download(folder: &Path, wanted: &[&str], select: fn(&str) -> Vec<&str>) -> Result<Vec<PathBuf>> {
    let suites = match env::var("TASKHOST_DEBIAN_SUITE") {
        Ok(suite) => vec![suite],
        Err(_) => SUITES.map(str::to_owned).to_vec(),
    };
    let mut failures = Vec::new();
    for suite in &suites {
        match from_suite(folder, suite, wanted, select) {
            Ok(packages) => return Ok(packages),
            Err(message) => failures.push(format!("{suite}: {message}")),
        }
    }
    Err(failures.join("; "))
}

fn from_suite(apt: &Path, suite: &str, wanted: &[&str], select: fn(&str) -> Vec<&str>) -> Result<Vec<PathBuf>> {
    let _ = fs::remove_dir_all(apt);
    for folder in ["lists/partial", "cache/archives/partial", "debs"] {
        create_dir(&apt.join(folder))?;
    }
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let source = format!("deb [arch={} signed-by={KEYRING}] {} {suite} main\n", architecture.trim(), mirror()?);
    for (name, content) in [("sources.list", source.as_str()), ("status", "")] {
        let path = apt.join(name);
        fs::write(&path, content).map_err(|error| format!("write {}: {error}", path.display()))?;
    }
    let apt_get = || {
        let mut command = Command::new("apt-get");
        let folder = apt.display();
        for option in [
            format!("Dir::Etc::sourcelist={folder}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            format!("Dir::State={folder}"),
            format!("Dir::State::lists={folder}/lists"),
            format!("Dir::State::status={folder}/status"),
            format!("Dir::Cache={folder}/cache"),
            "APT::Get::List-Cleanup=0".to_owned(),
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.env("LC_ALL", "C");
        command
    };
    output(apt_get().args(["-qq", "update"]))?;
    let plan = output(apt_get().args(["-s", "--no-install-recommends", "install"]).args(wanted))?;
    let names = select(&plan);
    eprintln!("plugins: downloading {} packages of Debian {suite}", names.len());
    let debs = apt.join("debs");
    output(apt_get().args(["-qq", "download"]).args(&names).current_dir(&debs))?;
    let entries = fs::read_dir(&debs).map_err(|error| format!("read {}: {error}", debs.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// The archive that this machine uses already, whatever its address.
fn mirror() -> Result<String> {
    if let Ok(mirror) = env::var("TASKHOST_DEBIAN_MIRROR") {
        return Ok(mirror);
    }
    debian::ensure_lists()?;
    let format = "$(REPO_URI) $(COMPONENT) $(ORIGIN)";
    let targets = output(Command::new("apt-get").args(["indextargets", "--format", format])).unwrap_or_default();
    for line in targets.lines() {
        let mut words = line.split_whitespace();
        let (Some(uri), Some("main"), Some("Debian")) = (words.next(), words.next(), words.next()) else { continue };
        if !uri.contains("security") {
            return Ok(uri.to_owned());
        }
    }
    Err("apt knows no archive of Debian: name one with TASKHOST_DEBIAN_MIRROR".to_owned())
}

/// What apt would install, by its plan.
pub(crate) fn installed(plan: &str) -> impl Iterator<Item = &str> {
    plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split([' ', ':']).next())
}

/// Runs a command to its end and gives what it printed; what it complained about becomes the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("start `{name}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{name}` ended with {}: {}", output.status, complaint.trim()))
}

pub(crate) fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| format!("create {}: {error}", path.display()))
}
