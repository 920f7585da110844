//! Options of the commands for whoever writes plugins.

use std::path::PathBuf;

use clap::Args;

use super::SettingsArgs;
use crate::build::Language;

/// Make a folder with a new plugin to start from
#[derive(Debug, Args)]
#[command(after_help = NEW_EXAMPLES)]
pub(crate) struct PluginNewArgs {
    /// What it is written in
    #[arg(short, long, value_name = "LANGUAGE", value_enum)]
    pub(crate) lang: Language,
    /// Name of the plugin, such as images, or the folder to make, such as plugins/images
    #[arg(value_name = "NAME")]
    pub(crate) dir: PathBuf,
}

const NEW_EXAMPLES: &str = "\
Examples:
  host plugin new --lang python images
      Makes the folder images with two tasks, their tests and the SDK, and says what to type next.
  host plugin new --lang js plugins/webhooks
      TypeScript and JavaScript are one language here.";

/// Make the component of a plugin from its sources, and check it
#[derive(Debug, Args)]
#[command(after_help = BUILD_EXAMPLES)]
pub(crate) struct PluginBuildArgs {
    /// Folder with a plugin.toml
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

const BUILD_EXAMPLES: &str = "\
Examples:
  host plugin build
      Uses the tools of the plugin's language, and says how to install what is missing.
  host plugin build plugins/images
      Puts the component beside plugin.toml in one step: a worker that runs takes it at once.";
