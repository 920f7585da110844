//! The project's own commands, started as `cargo xtask <command>`.
//!
//! Uses nothing but std: it must build within seconds on a fresh machine.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod archive;
mod bench;
mod cache;
mod cargo;
mod celery;
mod certificates;
mod debian;
mod demo;
mod group;
mod node;
mod plugins;
mod python;
mod rust_client;
mod serve;
mod servers;
mod test;
mod tools;
mod wasm_toolchain;

const HELP: &str = "\
The project's own commands.

Usage: cargo xtask <command>

Commands:
  demo [OPTION..]    build and start a worker with the demo plugin, and say what to type next;
                     options go to `host run`
  test [FILTER]      fetch what tests need, start private servers, run every test (or those whose
                     name contains FILTER), and count them; options for libtest follow `--`; with --complete before
                     FILTER a test that cannot run on this machine has failed
  celery [FILTER]    run Celery's own integration tests against the host, on RabbitMQ and on Redis (or those
                     whose name contains FILTER), and count them
  plugins [NAME..]   build the plugins of plugins/, examples/, tests/guests/ and tests/celery/ (or only those named) to
                     WebAssembly components
  tools [LANGUAGE]   print what `host plugin build` needs to find the tools of all languages on this
                     machine, for `eval` in a shell
  bench [WHAT] [OPTION..]
                     measure `sandbox`, `languages` (one plugin in each), `worker`, `canvas` (chords), `all`, or only lanes of the worker whose names contain
                     WHAT (`redis-results`, `classic-ignored-host`), in release builds, beside bare loops
                     and Celery; --quick-build builds without link-time optimisation; --tasks N, --rounds N
                     and others (`bench worker --help`) go to the measurement
  help               show this text
";

/// The result of a command: an error is text for the person who typed it.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some((command, rest)) = arguments.split_first() else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    let result = match command.as_str() {
        "demo" => demo::run(rest),
        "test" => test::run(rest),
        "celery" => celery::run(rest),
        "plugins" => plugins::run(rest).map(|_| ExitCode::SUCCESS),
        "tools" => tools::run(rest).map(|()| ExitCode::SUCCESS),
        "bench" => bench::run(rest),
        // The next two are for this program's own use.
        "guard" => group::guard(rest),
        "serve" => serve::run(rest).map(|()| ExitCode::SUCCESS),
        "help" | "--help" | "-h" => {
            eprint!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => Err(format!("unknown command `{other}`; `cargo xtask help` lists them")),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the checkout.
fn root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().map_err(|error| format!("find the checkout at {}: {error}", root.display()))
}
