//! How Qpid Broker-J is started: as a Java program whose parts come from Maven Central.
//!
//! Messages are kept on disk, so that they are there after the next start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Server;
use crate::Result;
use crate::cache;
use crate::debian::{self, Installed};
use crate::python::{hash, run};

const WANTED: &str = include_str!("../../../fixtures/qpid/pom.xml");
/// What comes of that, as `sha256sum` writes it.
const CHECKSUMS: &str = include_str!("../../../fixtures/qpid/jars.sha256");
const CONFIGURATION: &str = include_str!("../../../fixtures/qpid/broker.json");

/// Copies what a project needs, with what that needs, to a folder.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// The programs and the Debian packages they come in.
const PROGRAMS: [(&str, &str); 2] = [("java", "default-jre-headless"), ("mvn", "maven")];

/// Its own word for being there: a port that answers is not enough, since virtual hosts come later.
const READY: &str = "BRK-1004";

/// Fetches it, unless that was done before.
pub(super) fn fetch() -> Result<Installed> {
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !debian::in_path(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty()
        && let Installed::No(reason) = debian::install(&missing)?
    {
        return Ok(Installed::No(reason));
    }
    obtain().map(|_| Installed::Yes)
}

/// The folder with its parts.
fn obtain() -> Result<PathBuf> {
    let folder = cache::folder()?.join(format!("qpid-{:08x}", hash(&format!("{WANTED}{CHECKSUMS}"))));
    let (marker, jars) = (folder.join("complete"), folder.join("jars"));
    if marker.exists() {
        return Ok(jars);
    }
    let _lock = cache::lock(&folder.with_extension("lock"), "Qpid Broker-J")?;
    if !marker.exists() {
        make(&folder, &jars)?;
        write(&marker, "")?;
    }
    Ok(jars)
}

fn make(folder: &Path, jars: &Path) -> Result<()> {
    eprintln!("test: fetching Qpid Broker-J (once)");
    let _ = fs::remove_dir_all(folder); // what an interrupted process left behind
    fs::create_dir_all(folder).map_err(|error| format!("create {}: {error}", folder.display()))?;
    write(&folder.join("pom.xml"), WANTED)?;
    let mut maven = Command::new("mvn");
    // A repository of its own, so that neither side finds what the other has left.
    maven.args(["--batch-mode", "--quiet", COPY]).arg(format!("-Dmaven.repo.local={}", folder.join("maven").display()));
    run(maven.arg(format!("-DoutputDirectory={}", jars.display())).current_dir(folder))?;
    let checksums = folder.join("jars.sha256");
    write(&checksums, CHECKSUMS)?;
    run(Command::new("sha256sum").args(["--check", "--strict", "--quiet"]).arg(&checksums).current_dir(jars))?;
    let count = fs::read_dir(jars).map_err(|error| format!("read {}: {error}", jars.display()))?.count();
    if count != CHECKSUMS.lines().count() {
        return Err(format!("{} holds {count} files, and {} were expected", jars.display(), CHECKSUMS.lines().count()));
    }
    let _ = fs::remove_dir_all(folder.join("maven"));
    Ok(())
}

pub(super) fn command(server: &Server, log: &Path) -> Result<Command> {
    let jars = obtain()?;
    let configuration = server.folder.join("initial.json");
    write(&configuration, CONFIGURATION)?;
    // What it said before it was stopped does not count.
    let _ = fs::remove_file(log);
    let mut command = Command::new("java");
    // Started fast and not kept fast: tests are short.
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    // It closes the connection of whoever makes a queue with arguments that it does not know, as Celery's clients do with
    // those of remote control.
    command.arg("-Dqueue.behaviourOnUnknownDeclareArgument=IGNORE");
    command.arg("-cp").arg(format!("{}/*", jars.display())).arg("org.apache.qpid.server.Main");
    command.arg("--initial-config-path").arg(configuration);
    command.arg("-prop").arg(format!("qpid.work_dir={}", server.folder.join("work").display()));
    command.arg("-prop").arg(format!("qpid.amqp_port={}", server.port));
    command.stdin(Stdio::null()).current_dir(&server.folder);
    Ok(command)
}

pub(super) fn is_ready(log: &Path) -> bool {
    fs::read_to_string(log).is_ok_and(|log| log.contains(READY))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| format!("write {}: {error}", path.display()))
}
