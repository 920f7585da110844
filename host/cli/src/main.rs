//! The binary `host`: reads the command line and wires everything together.
//!
//! Decides nothing about tasks; says everything to the operator.

mod args;
mod command;
mod config;
mod exit;
mod logging;
mod signals;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

use crate::args::CommandLine;

fn main() -> ExitCode {
    match command::run(CommandLine::parse().command) {
        Ok(code) => code,
        Err(failure) => {
            eprint!("{failure}");
            failure.code()
        }
    }
}
