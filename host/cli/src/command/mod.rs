//! One subcommand a file.
//!
//! Each first reads the whole configuration, then does its work.

mod banner;
mod call;
mod config;
mod dead;
mod events;
mod grant;
mod outcome;
mod plugin;
mod plugin_build;
mod plugin_new;
mod plugin_run;
mod plugin_test;
mod purge;
mod rehearsal;
mod remote;
mod result;
mod run;
mod stubs;

use std::process::ExitCode;
use std::time::Duration;

use crate::args::{Command, PluginCommand, WAIT_WITHOUT_END, WaitArgs};
use crate::config::parse_duration;
use crate::exit::Failure;
use crate::wiring;

/// Carries out a command.
pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Call(args) => call::run(&args),
        Command::Result(args) => result::run(&args),
        Command::Plugin(PluginCommand::New(args)) => plugin_new::run(&args),
        Command::Plugin(PluginCommand::Build(args)) => plugin_build::run(&args),
        Command::Plugin(PluginCommand::Run(args)) => plugin_run::run(&args),
        Command::Plugin(PluginCommand::Test(args)) => plugin_test::run(&args),
        Command::Plugin(PluginCommand::Check(args)) => plugin::check(&args),
        Command::Plugin(PluginCommand::List(args)) => plugin::list(&args),
        Command::Plugin(PluginCommand::Reload(args)) => plugin::reload(&args),
        Command::Plugin(PluginCommand::Stubs(args)) => stubs::run(&args),
        Command::Plugin(PluginCommand::Grant(args)) => grant::run(&args),
        Command::Status(args) => remote::status(&args),
        Command::Inspect(args) => remote::inspect(&args),
        Command::Control(args) => remote::control(&args),
        Command::Events(args) => events::run(&args),
        Command::Purge(args) => purge::run(&args),
        Command::Dead(command) => dead::run(&command),
        Command::Config(args) => config::run(&args),
    }
}

/// Whether to wait, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    No,
    AtMost(Duration),
    WithoutEnd,
}

impl Wait {
    fn parse(args: &WaitArgs) -> Result<Self, Failure> {
        match args.wait.as_deref() {
            None => Ok(Self::No),
            Some(WAIT_WITHOUT_END) => Ok(Self::WithoutEnd),
            Some(text) => duration("--wait", text).map(Self::AtMost),
        }
    }
}

/// Reads a time that an option gives.
fn duration(option: &str, text: &str) -> Result<Duration, Failure> {
    parse_duration(text).ok_or_else(|| {
        let expected = "seconds, or a time such as \"30s\", \"5m\" or \"1h\"";
        Failure::usage(anyhow::anyhow!("{option}: expected {expected}, found \"{}\"", text.escape_debug()))
    })
}
