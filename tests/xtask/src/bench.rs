//! Measures the sandbox and the worker in release builds, beside a bare loop and Celery on the same servers.
//!
//! What is measured, and how, is in the package `bench`; here it is given what it needs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::python::{self, Python};
use crate::serve::Served;
use crate::servers::{self, Kind};
use crate::test::executable;
use crate::{Result, group, plugins};

/// The languages with an SDK, and the folder of each.
const LANGUAGES: [(&str, &str); 5] =
    [("Rust", "rust"), ("C", "c"), ("Go", "go"), ("TypeScript", "js"), ("Python", "python")];

/// Builds nearly as fast as release, in a fraction of the time.
const QUICK_BUILD: &str = "--quick-build";

/// `cargo xtask bench [sandbox|languages|worker|canvas|all|LANE] [--quick-build] [OPTION..]`: other options go to the measuring program.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let named = arguments.first().filter(|first| !first.starts_with('-'));
    let mut options = arguments[usize::from(named.is_some())..].to_vec();
    let quick = options.iter().any(|option| option == QUICK_BUILD);
    options.retain(|option| option != QUICK_BUILD);
    let what = named.map_or("all", String::as_str);
    if !["sandbox", "languages", "worker", "canvas", "all"].contains(&what) {
        // Whether there is such a lane is known to the measuring program.
        options.extend(["--only".to_owned(), what.to_owned()]);
    }
    let root = crate::root()?;
    if options.iter().any(|option| ["--help", "-h"].contains(&option.as_str())) {
        // What is not optimised is there already, if tests were run.
        let command = if ["sandbox", "languages", "canvas"].contains(&what) { what } else { "worker" };
        return Programs::build(&root, "dev")?.measure(command, Vec::new(), &["--help".to_owned()]);
    }
    plugins::run(&["demo".to_owned(), "noop".to_owned()])?;
    let programs = Programs::build(&root, if quick { "measure" } else { "release" })?;
    let mut code = ExitCode::SUCCESS;
    if what == "sandbox" || what == "all" {
        // With `all`, options are the worker's: it has nearly all of them.
        let options = if what == "all" { &[] } else { &options[..] };
        code = programs.sandbox(options)?;
    }
    if what == "languages" {
        code = programs.languages(&root, &options)?;
    } else if what == "canvas" {
        code = programs.worker("canvas", &options)?;
    } else if what != "sandbox" && code == ExitCode::SUCCESS {
        code = programs.worker("worker", &options)?;
    }
    Ok(code)
}

/// The optimised builds, and the folder of plugins.
struct Programs {
    host: PathBuf,
    bench: PathBuf,
    plugins: PathBuf,
    /// A component with one task that does nothing.
    noop: PathBuf,
}

impl Programs {
    fn build(root: &Path, profile: &str) -> Result<Programs> {
        say(&format!("building the host with profile `{profile}` (the first time takes many minutes)"));
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["build", "--profile", profile, "--package", "host", "--package", "bench"]);
        command.args(["--message-format", "json-render-diagnostics"]);
        command.current_dir(root).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().map_err(|error| format!("start cargo: {error}"))?;
        if !output.status.success() {
            return Err(format!("the build failed: cargo ended with {}", output.status));
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let program = |name| executable(&messages, name).ok_or_else(|| format!("cargo named no binary `{name}`"));
        Ok(Programs {
            host: program("host")?,
            bench: program("bench")?,
            plugins: root.join("plugins"),
            noop: root.join("tests/guests/noop/noop.wasm"),
        })
    }

    fn sandbox(&self, options: &[String]) -> Result<ExitCode> {
        say("measuring the sandbox");
        let given = ["--plugins".into(), self.plugins.clone().into(), "--noop".into(), self.noop.clone().into()];
        self.measure("sandbox", given.into(), options)
    }

    /// The plugin of the contract, in each language that could be built here.
    fn languages(&self, root: &Path, options: &[String]) -> Result<ExitCode> {
        plugins::run(&["contract".to_owned()])?;
        let component = |language: &str| root.join("tests/guests/contract").join(language).join("contract.wasm");
        let there = LANGUAGES.iter().filter(|(_, folder)| component(folder).exists());
        let given = there.map(|(name, folder)| format!("{name}={}", component(folder).display()).into()).collect();
        say("measuring the languages");
        self.measure("languages", given, options)
    }

    /// Measures the worker, or it with canvases: both need the same.
    fn worker(&self, what: &str, options: &[String]) -> Result<ExitCode> {
        let kinds = [Kind::RabbitMq, Kind::Redis, Kind::PostgreSql, Kind::MariaDb, Kind::Sqs];
        if servers::obtain(&kinds)?.len() < kinds.len() {
            return Err("the worker is measured with real servers".to_owned());
        }
        let python = python::obtain()?;
        say("starting private servers");
        let mut servers = kinds.into_iter().map(Served::start).collect::<Result<Vec<_>>>()?;
        let mut given: Vec<OsString> = vec!["--host".into(), self.host.clone().into()];
        given.extend(["--plugins".into(), self.plugins.clone().into()]);
        for (server, option) in servers.iter_mut().zip(["--amqp", "--redis", "--postgresql", "--mysql", "--sqs"]) {
            given.extend([option.into(), server.url()?.into()]);
        }
        match python {
            Python::Ready(interpreter) => given.extend(["--python".into(), interpreter.into()]),
            Python::Missing(reason) => say(&format!("Celery is left out: {reason}")),
        }
        say("measuring the worker; other work on this machine distorts rates, and CPU times less so");
        self.measure(what, given, options)
    }

    /// Runs the measuring program where no Ctrl-C reaches it, so that it and its workers end with us.
    fn measure(&self, what: &str, given: Vec<OsString>, options: &[String]) -> Result<ExitCode> {
        let mut command = group::this_program(&[OsStr::new("guard"), self.bench.as_os_str(), OsStr::new(what)])?;
        let mut child = command.args(given).args(options).spawn().map_err(|error| format!("start bench: {error}"))?;
        let input = child.stdin.take();
        let status = child.wait().map_err(|error| format!("wait for bench: {error}"))?;
        drop(input);
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn say(message: &str) {
    eprintln!("bench: {message}");
}
