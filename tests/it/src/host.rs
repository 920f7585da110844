//! The host under test: `host run` as a process, and its other commands.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Command, ExitStatus};

use crate::process::{Process, Stream};

/// A running worker.
pub struct Host {
    process: Process,
    /// Its node name, `name@host`.
    pub node: String,
}

impl Host {
    /// Starts `command`, which runs a worker under that name, and waits until it says that it is ready.
    #[track_caller]
    pub fn start(node: &str, command: &mut Command) -> Host {
        let host = Host::launch(node, command);
        host.wait_for(&format!("{node} ready."));
        host
    }

    /// Starts it without waiting.
    #[track_caller]
    pub fn launch(node: &str, command: &mut Command) -> Host {
        Host { process: Process::start(node, command), node: node.to_owned() }
    }

    /// Asks for a warm shutdown and waits for its end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }
}

impl Deref for Host {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Host {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// How a command of the binary ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Fails the test unless the exit code was 0.
    #[track_caller]
    pub fn success(self) -> Ended {
        assert!(self.status.success(), "ended with {}\n{}\n{}", self.status, self.out, self.err);
        self
    }

    /// Fails the test unless the command ended with an error that holds all these texts.
    #[track_caller]
    pub fn refused(self, texts: &[&str]) -> Ended {
        assert!(!self.status.success(), "should have failed:\n{}\n{}", self.out, self.err);
        for text in texts {
            assert!(self.err.contains(text), "the error does not name `{text}`:\n{}", self.err);
        }
        self
    }
}

/// Runs a command of the binary to its end, with none of the tester's own settings.
#[track_caller]
pub fn run(binary: &Path, folder: &Path, arguments: &[&str]) -> Ended {
    let name = format!("host {}", arguments.join(" "));
    let mut process = Process::start(&name, command(binary, folder).args(arguments));
    let status = process.wait();
    Ended { status, out: process.written(Stream::Out), err: process.written(Stream::Err) }
}

/// The binary, to be started in `folder`.
pub fn command(binary: &Path, folder: &Path) -> Command {
    let mut command = Command::new(binary);
    command.current_dir(folder);
    // Compiled code is kept beside the binary, not in the folders of whoever tests.
    for (variable, name) in [("XDG_CACHE_HOME", "it-cache"), ("XDG_STATE_HOME", "it-state")] {
        command.env(variable, binary.with_file_name(name));
    }
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CELERY_") || name.starts_with("HOST_") || name == "RUST_LOG" {
            command.env_remove(&*name);
        }
    }
    command
}
