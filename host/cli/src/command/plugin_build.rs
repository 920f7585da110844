//! `host plugin build`: the component of a plugin, from its sources.

use std::process::ExitCode;

use crate::args::PluginBuildArgs;
use crate::build;
use crate::config;
use crate::exit::Failure;
use crate::logging::print;

/// Says each stage on stderr, and what came of it on stdout.
pub(crate) fn run(args: &PluginBuildArgs) -> Result<ExitCode, Failure> {
    let config = config::load(args.settings.config.as_deref(), &args.settings.sets, Vec::new())?;
    let built = build::build(&args.dir, &config, &mut |line| eprintln!("build: {line}"))?;
    print(&format!("{}\n", built.summary()))?;
    Ok(ExitCode::SUCCESS)
}
