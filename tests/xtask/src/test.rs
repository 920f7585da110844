//! Runs every test on a machine that need not have anything but Rust, and counts them.
//!
//! Fetches what tests need, builds guests and the host, starts private servers, and stops what it started.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead, BufReader, Write, stdout};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use crate::certificates;
use crate::debian::{self, Installed};
use crate::node::{self, Node};
use crate::python::{self, Python};
use crate::serve::Served;
use crate::servers::{self, Kind};
use crate::{Result, cargo, group, plugins, rust_client};

pub(crate) use crate::cargo::executable;

const TEST_THREADS_MIN: usize = 6;

/// The program and the Debian package.
const BROWSER: &str = "chromium";

/// How long each test with random input goes on. Without it they take a moment.
const FUZZ_SECONDS: &str = "TASKHOST_TEST_FUZZ_SECONDS";
const FUZZ_SECONDS_HERE: &str = "60";

/// With this, a test that cannot run here has failed.
const COMPLETE: &str = "--complete";

/// `cargo xtask test [--complete] [FILTER] [-- OPTION..]`: the filter is libtest's, and so are the options.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let started = Instant::now();
    let complete = arguments.first().is_some_and(|first| first == COMPLETE);
    let arguments = &arguments[usize::from(complete)..];
    let mut environment = Environment::default();
    environment.set("TASKHOST_TEST_XTASK", env::current_exe().map_err(|error| format!("find this program: {error}"))?);

    match python::obtain()? {
        Python::Ready(interpreter) => environment.set("TASKHOST_TEST_PYTHON", interpreter),
        Python::Missing(reason) => say(&format!("tests with a Celery client will be skipped: {reason}")),
    }
    match node::obtain()? {
        Node::Ready(modules) => environment.set("TASKHOST_TEST_NODE", modules),
        Node::Missing(reason) => say(&format!("tests with a client in Node.js will be skipped: {reason}")),
    }
    match node::obtain_celery_clients()? {
        Node::Ready(modules) => environment.set("TASKHOST_TEST_NODE_CLIENTS", modules),
        Node::Missing(reason) => say(&format!("tests with Celery clients for Node.js will be skipped: {reason}")),
    }
    match node::obtain_ts_producer()? {
        Node::Ready(modules) => environment.set("TASKHOST_TEST_TS_PRODUCER", modules),
        Node::Missing(reason) => say(&format!("the example of a producer in TypeScript will be skipped: {reason}")),
    }
    match rust_client::obtain() {
        Ok(program) => environment.set("TASKHOST_TEST_RUST_CLIENT", program),
        Err(reason) => say(&format!("tests with a Celery client in Rust will be skipped: {reason}")),
    }
    if !debian::in_path(BROWSER)
        && let Installed::No(reason) = debian::install(&[BROWSER])?
    {
        say(&format!("tests with a browser will be skipped: {reason}"));
    }
    if debian::in_path(BROWSER) {
        environment.set("TASKHOST_TEST_BROWSER", BROWSER);
    }
    match certificates::fetch()? {
        Installed::Yes => environment.set(certificates::VARIABLE, certificates::obtain()?),
        Installed::No(reason) => say(&format!("tests with certificates will be skipped: {reason}")),
    }
    let kinds = servers::obtain(&Kind::ALL)?;

    let root = crate::root()?;
    // A guest is named by its folder: TASKHOST_TEST_DEMO, TASKHOST_TEST_CONTRACT_GO, TASKHOST_TEST_EXAMPLES_..
    for guest in plugins::run(&[])? {
        environment.set(format!("TASKHOST_TEST_{}", guest.variable(&root)), guest.component);
    }
    environment.set(FUZZ_SECONDS, env::var_os(FUZZ_SECONDS).unwrap_or_else(|| FUZZ_SECONDS_HERE.into()));
    say("building the host (the first time takes some minutes)");
    environment.set("TASKHOST_TEST_HOST", cargo::build_host(&root)?);
    say("building the tests (the first time takes some minutes)");
    build_tests(&root)?;

    say("starting private servers");
    let mut servers = Vec::new();
    for kind in kinds {
        servers.push((kind, Served::start(kind)?));
    }
    for (kind, server) in &mut servers {
        let url = server.url()?;
        say(&format!("{} at {url}", kind.name()));
        environment.set(kind.variable(), url);
    }

    if env::var_os("RUST_TEST_THREADS").is_none() {
        // Most of the time tests wait for something; few processors are no reason to wait one after the other.
        let processors = std::thread::available_parallelism().map_or(1, |number| number.get());
        environment.set("RUST_TEST_THREADS", processors.max(TEST_THREADS_MIN).to_string());
    }
    let count = test(&root, arguments, &environment)?;
    drop(servers);
    say(&format!("took {} s", started.elapsed().as_secs()));
    writeln!(stdout(), "{count}").map_err(|error| format!("print the summary: {error}"))?;
    if complete && count.skipped > 0 {
        say("tests were skipped, and all were to be run");
    }
    let succeeded = count.failed == 0 && !(complete && count.skipped > 0);
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What tests find in their environment.
#[derive(Default)]
struct Environment(Vec<(String, OsString)>);

impl Environment {
    fn set(&mut self, name: impl Into<String>, value: impl Into<OsString>) {
        self.0.push((name.into(), value.into()));
    }
}

/// Tests by how they ended.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Count {
    /// Reads one line of what cargo and the test programs print.
    fn add(&mut self, line: &str) {
        if line.starts_with("skipped:") {
            self.skipped += 1;
        }
        // test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let Some((number, word)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<usize>() else { continue };
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    /// A test that says it cannot run has passed for libtest. A test program that died has said nothing.
    fn finish(mut self, succeeded: bool) -> Count {
        self.passed = self.passed.saturating_sub(self.skipped);
        if !succeeded && self.failed == 0 {
            self.failed = 1;
        }
        self
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Builds what will be run, so that a mistake in the source is not taken for a failed test.
fn build_tests(root: &Path) -> Result<()> {
    let status = cargo::command(root).args(["test", "--workspace", "--no-run"]).status();
    let status = status.map_err(|error| format!("start cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cannot build the tests: cargo ended with {status}")) }
}

/// Runs the tests where no Ctrl-C reaches them, so that they end with us and not before.
fn test(root: &Path, arguments: &[String], environment: &Environment) -> Result<Count> {
    let separator = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    let (filter, options) = arguments.split_at(separator);
    let cargo = cargo::command(root);
    let mut command = group::this_program(&[OsStr::new("guard"), cargo.get_program()])?;
    command.args(["test", "--workspace", "--no-fail-fast"]).args(filter);
    // What a passing test prints is shown too, since a test that cannot run says why.
    command.args(["--", "--show-output"]).args(options.iter().skip(1));
    command.current_dir(root).envs(environment.0.iter().map(|(name, value)| (name, value)));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| format!("start the tests: {error}"))?;
    let input = child.stdin.take();
    let mut count = Count::default();
    let mut lines = BufReader::new(child.stdout.take().expect("it was piped above"));
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).map_err(|error| format!("read what the tests print: {error}"))? > 0 {
        stdout().write_all(&line).map_err(|error| format!("print: {error}"))?;
        count.add(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    let status = child.wait().map_err(|error| format!("wait for the tests: {error}"))?;
    drop(input);
    Ok(count.finish(status.success()))
}

fn say(message: &str) {
    eprintln!("test: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(output: &str, succeeded: bool, expected: &str) {
        let mut count = Count::default();
        output.lines().for_each(|line| count.add(line));
        assert_eq!(count.finish(succeeded).to_string(), expected);
    }

    #[test]
    fn results_of_all_test_programs_are_added_up() {
        let ok = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s";
        check(ok, true, "2 passed, 0 failed, 1 skipped");
        let both = format!("{ok}\ntest result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        check(&both, false, "3 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_test_that_says_it_cannot_run_is_skipped() {
        check(
            "skipped: no RabbitMQ\ntest result: ok. 2 passed; 0 failed; 0 ignored",
            true,
            "1 passed, 0 failed, 1 skipped",
        );
    }

    #[test]
    fn a_test_program_that_died_is_a_failure() {
        check("running 3 tests", false, "0 passed, 1 failed, 0 skipped");
    }
}
