//! The binary `host`: reads the command line and wires everything together.
//!
//! Decides nothing about tasks; says everything to the operator.

mod args;
mod build;
mod command;
mod config;
mod desk;
mod exit;
mod local;
mod logging;
mod metrics;
mod otel;
mod reach;
mod reload;
mod security;
mod signals;
mod status;
mod stubs;
mod values;
mod watch_build;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

use crate::args::CommandLine;

// A message is read on one thread, decided about on another, run on a third and freed wherever it ends. The allocators
// of most systems lock for every such free; this one does not.
#[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd", target_os = "windows"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match command::run(CommandLine::parse().command) {
        Ok(code) => code,
        Err(failure) => {
            eprint!("{failure}");
            failure.code()
        }
    }
}
