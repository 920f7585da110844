//! What one attempt costs in the sandbox, and what plugins cost that are loaded, with nothing around it.
//!
//! Each part runs in a process of its own: how instances are made is settled when a process starts, and memory
//! that one part has used is not given back before the next.

use std::env;
use std::ffi::OsStr;
use std::io::{Write, stdout};
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::{Result, SandboxArgs, process};

pub(crate) mod calls;
mod capabilities;
mod load;
mod small;

/// What is measured in one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Instantiate, call and drop
    Calls,
    /// The same by plugins that may do something and do not
    Capabilities,
    /// Load the plugins of a folder
    Load,
}

/// Plugins of a few instructions each.
const SMALL_PLUGINS: usize = 1_000;
/// Plugins as the Rust SDK makes them.
const DEMO_PLUGINS: usize = 100;

/// Measures and prints.
pub(crate) async fn measure(args: &SandboxArgs) -> Result<ExitCode> {
    match args.part {
        Some(Part::Calls) => calls::measure(args).await?,
        Some(Part::Capabilities) => capabilities::measure(args).await?,
        Some(Part::Load) => load::measure(args).await?,
        None => all(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn all(args: &SandboxArgs) -> Result<()> {
    let load = process::load().map_or(String::new(), |load| format!(", load {load:.1}"));
    writeln!(stdout(), "no-op task in the sandbox, one thread, {} calls ({}{load})", args.calls, kernel())?;
    let calls = args.calls.to_string();
    let common = ["--plugins".as_ref(), args.plugins.as_os_str(), "--calls".as_ref(), calls.as_ref()];
    let mut calls = common.to_vec();
    if let Some(noop) = &args.noop {
        calls.extend(["--noop".as_ref(), noop.as_os_str()]);
    }
    part(Part::Calls, &calls, Some("0"))?;
    part(Part::Calls, &calls, None)?;
    writeln!(stdout(), "the same by plugins that may do something and do not")?;
    part(Part::Capabilities, &common, None)?;
    writeln!(stdout(), "plugins loaded, until the first task has run")?;
    let (small, demo) = (tempfile::tempdir()?, tempfile::tempdir()?);
    load::write_small(small.path(), SMALL_PLUGINS)?;
    load::write_demo(demo.path(), &args.plugins, DEMO_PLUGINS)?;
    for (name, folder) in [("small plugins", small.path()), ("copies of the demo plugin", demo.path())] {
        let cache = tempfile::tempdir()?;
        for state in ["compiled", "from the cache"] {
            let given = ["--plugins".as_ref(), folder.as_os_str(), "--cache".as_ref(), cache.path().as_os_str()];
            write!(stdout(), "  {:>5} {:<42}", count(folder)?, format!("{name}, {state}"))?;
            stdout().flush()?;
            part(Part::Load, &given, None)?;
        }
    }
    Ok(())
}

fn count(folder: &Path) -> Result<usize> {
    Ok(folder.read_dir()?.count())
}

fn part(part: Part, given: &[&OsStr], pooling: Option<&str>) -> Result<()> {
    let name = clap::ValueEnum::to_possible_value(&part).expect("no part is skipped");
    let mut command = Command::new(env::current_exe()?);
    command.args(["sandbox", "--part", name.get_name()]).args(given);
    match pooling {
        Some(pooling) => command.env("HOST_POOLING", pooling),
        None => command.env_remove("HOST_POOLING"),
    };
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", name.get_name()).into()) }
}

/// The kernel decides whether the pool can ask which pages were touched (PAGEMAP_SCAN, Linux 6.7).
fn kernel() -> String {
    let Ok(release) = std::fs::read_to_string("/proc/sys/kernel/osrelease") else { return "not Linux".to_owned() };
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let scan = if version >= (6, 7) { "with" } else { "without" };
    format!("Linux {}.{} {scan} pagemap_scan", version.0, version.1)
}
