//! A Celery client: a Python process that runs a piece of code against the site's broker and results.
//!
//! The code sees what `tests/fixtures/client.py` defines, and gives its answer with `emit(value)`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process::{Process, Stream};

/// A running client.
pub struct Client {
    process: Process,
}

impl Client {
    /// Starts Python with this code; each name and value of `settings` is an environment variable.
    #[track_caller]
    pub fn start(python: &Path, folder: &Path, settings: &[(&str, &str)], code: &str) -> Client {
        let mut command = fixture(python, "client.py", folder, settings);
        Client { process: Process::start("client", command.arg(code)) }
    }

    /// Waits for its end and gives the last value it emitted. A client that failed fails the test.
    #[track_caller]
    pub fn finish(mut self) -> Value {
        let status = self.process.wait();
        assert!(status.success(), "the client ended with {status}");
        let written = self.process.written(Stream::Out);
        let Some(last) = written.lines().next_back() else { return Value::Null };
        match serde_json::from_str(last) {
            Ok(value) => value,
            Err(error) => panic!("the client's last line is no JSON: {error}: {last}"),
        }
    }

    /// Waits until the client has emitted this text.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.process.wait_for(text)
    }

    /// The lines so far that hold `text`.
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        self.process.lines_with(text)
    }
}

/// A Python worker with the demo plugin's tasks; ends with the value.
#[track_caller]
pub fn start_worker(python: &Path, folder: &Path, settings: &[(&str, &str)], options: &[&str]) -> Process {
    let mut command = fixture(python, "worker.py", folder, settings);
    // A group of its own, so that its children end with it.
    let worker = Process::start_group("python worker", command.args(options));
    worker.wait_for(" ready.");
    worker
}

/// A program of the folder of fixtures.
pub(crate) fn fixture(python: &Path, name: &str, folder: &Path, settings: &[(&str, &str)]) -> Command {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name);
    let mut command = Command::new(python);
    command.args(["-E", "-s"]).arg(file).current_dir(folder).envs(settings.iter().copied());
    command
}
