//! The SDKs' own tests, each with the runner of its language and outside the host.
//!
//! What a task does inside the host is shown by `contract`.

use std::path::Path;
use std::process::Command;

use it::process::Stream;
use it::{COMPILER_PATIENCE, Process, settings};

/// Runs a script in the folder of an SDK, with the tools of its language.
#[track_caller]
fn passes(language: &str, script: &str) {
    let Some(xtask) = settings::required_path(settings::XTASK) else { return };
    let Some(python) = settings::required_path(settings::PYTHON) else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk").join(language);
    let mut tools = Process::start("xtask tools", Command::new(xtask).args(["tools", language]));
    if !tools.wait_within(COMPILER_PATIENCE).success() {
        return settings::skip(&format!("no tools for {language}: {}", tools.written(Stream::Err)));
    }
    let script = format!("set -eu\n{}{script}", tools.written(Stream::Out));
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(folder).env("PYTHON", python);
    let mut process = Process::start(&format!("tests of sdk/{language}"), &mut command);
    let status = process.wait_within(COMPILER_PATIENCE);
    assert!(status.success(), "ended with {status}");
}

#[test]
fn pythons_pass() {
    passes("python", "\"$PYTHON\" -E -s -m unittest");
}

#[test]
fn javascripts_pass() {
    passes("js", "node --test test/\nnode test.mjs --project ../../plugins/webhook");
}

#[test]
fn gos_pass_and_are_formatted_and_vetted() {
    passes(
        "go",
        "go vet ./...\nunformatted=$(gofmt -l .)\ntest -z \"$unformatted\" || { echo \"gofmt: $unformatted\"; exit 1; }\ngo test ./...",
    );
}

#[test]
fn cs_pass_with_sanitizers() {
    passes("c", "sh tests/run.sh");
}
