//! `host plugin stubs`: the tasks of a folder of plugins, as a module for those who call them.
//!
//! Writes all of it or nothing: a module that lacks tasks would break its callers later.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};

use super::{plugin, wiring};
use crate::args::PluginStubsArgs;
use crate::config;
use crate::exit::{Failure, OrHint};
use crate::logging::print;
use crate::stubs;

/// Writes the module.
pub(crate) fn run(args: &PluginStubsArgs) -> Result<ExitCode, Failure> {
    let config = config::load(args.settings.config.as_deref(), &args.settings.sets, args.flags())?;
    plugin::check_folder(&config)?;
    let sandbox = wiring::sandbox(&config)?;
    let loaded = wiring::client_runtime()?.block_on(plugin::load(&config, &sandbox));
    if let Some(refused) = loaded.refused.first() {
        let error = anyhow!("{}: {}", refused.path.display(), refused.reason).context("a plugin is refused");
        return Err(error).or_hint("nothing was written; repair the plugin, or name another folder with --plugins");
    }
    if loaded.catalog.is_empty() {
        return Err(anyhow!("no plugins in {}", config.plugins.dir.display()))
            .or_hint("name the folder with --plugins");
    }
    let text = stubs::python(&loaded.plugins, &command(args));
    match &args.output {
        Some(path) => write(path, &text).with_context(|| format!("cannot write {}", path.display()))?,
        None => print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts the file in its place when it is whole: somebody may be importing it.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, path).inspect_err(|_| drop(std::fs::remove_file(&beside)))
}

/// What was typed, as far as it decides what is written and is nobody's secret.
fn command(args: &PluginStubsArgs) -> String {
    let mut words = vec!["host plugin stubs --python".to_owned()];
    let mut add = |option: &str, value: &str| words.push(format!("{option} {}", quoted(value)));
    if let Some(plugins) = &args.plugins {
        add("--plugins", plugins);
    }
    if let Some(config) = &args.settings.config {
        add("--config", &config.display().to_string());
    }
    if let Some(output) = &args.output {
        add("-o", &output.display().to_string());
    }
    words.join(" ")
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_./=:,@%+".contains(char);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
