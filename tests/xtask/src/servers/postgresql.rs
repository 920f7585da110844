//! How PostgreSQL is started: not as root, which it refuses, but as the user that its package makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Server;
use crate::Result;
use crate::python::run;

/// Debian keeps a folder for each version here, and none of their programs on the PATH.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The user that Debian's package makes.
const SYSTEM_USER: &str = "postgres";
pub(super) const USER: &str = "taskhost";
pub(super) const PASSWORD: &str = "secret";

pub(super) fn is_installed() -> bool {
    programs().is_some()
}

/// The programs of the newest version.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?.flatten().map(|entry| entry.path().join("bin"));
    let mut versions: Vec<PathBuf> = versions.filter(|folder| folder.join("initdb").exists()).collect();
    versions.sort();
    versions.pop()
}

pub(super) fn url(server: &Server) -> String {
    format!("db+postgresql+psycopg2://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", server.port)
}

pub(super) fn command(server: &Server) -> Result<Command> {
    let data = server.folder.join("data");
    if !data.exists() {
        make(server, &data)?;
    }
    let mut command = program("postgres")?;
    command.arg("-D").arg(&data).arg("-k").arg(&server.folder);
    command.args(["-h", "127.0.0.1", "-p", &server.port.to_string()]);
    Ok(command)
}

/// Makes the files of a new server.
fn make(server: &Server, data: &Path) -> Result<()> {
    let password = server.folder.join("password");
    fs::write(&password, PASSWORD).map_err(|error| format!("write {}: {error}", password.display()))?;
    if is_root() {
        run(Command::new("chown").arg("-R").arg(format!("{SYSTEM_USER}:")).arg(&server.folder))?;
    }
    let mut command = program("initdb")?;
    command.arg("-D").arg(data).args(["-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--no-sync"]);
    run(command.arg("--pwfile").arg(&password))
}

/// One of its programs, to be run by a user that it accepts.
fn program(name: &str) -> Result<Command> {
    let path = programs().ok_or("PostgreSQL is not installed")?.join(name);
    Ok(as_its_user(&path))
}

/// A program that does not run as root either.
pub(super) fn as_its_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", SYSTEM_USER, "--regid", SYSTEM_USER, "--init-groups"]).arg(program);
    command
}

fn is_root() -> bool {
    let user = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    user.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
