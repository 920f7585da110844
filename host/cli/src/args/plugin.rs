//! Options of the commands that look into plugins; those for whoever writes them are in [`super::authoring`].

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::authoring::{PluginBuildArgs, PluginNewArgs, PluginRunArgs, PluginTestArgs};
use super::{Flags, SettingsArgs};
use crate::config::Flag;

/// Write plugins, and look into those of a folder or of a running worker
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    New(PluginNewArgs),
    Build(PluginBuildArgs),
    Run(PluginRunArgs),
    Test(PluginTestArgs),
    Check(PluginCheckArgs),
    List(PluginListArgs),
    Reload(PluginReloadArgs),
    Grant(PluginGrantArgs),
    Stubs(PluginStubsArgs),
}

/// Say whether a plugin can be loaded, and which tasks it has
#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct PluginCheckArgs {
    /// A .wasm file, or a folder with a plugin.toml
    #[arg(value_name = "FILE|DIR")]
    pub(crate) path: PathBuf,
    /// Print one JSON object, with each task's signature and the JSON Schema of its arguments
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  host plugin check target/wasm32-wasip2/release/images.wasm
  host plugin check plugins/images
      Exits with 1 if a worker would refuse the plugin, and says why.";

/// List plugins with their tasks, and those that are refused with the reason
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct PluginListArgs {
    /// Folder with plugins to look into, whatever a worker serves: *.wasm files, and folders with a plugin.toml
    #[arg(long, value_name = "DIR")]
    pub(crate) plugins: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

const LIST_EXAMPLES: &str = "\
Examples:
  host plugin list
      As the worker that runs here serves them, with what their tasks have used; if none runs, the folder.
  host plugin list --plugins ./plugins
      Exits with 1 if a plugin is refused.";

/// Make the running worker load its plugins anew
#[derive(Debug, Args)]
#[command(after_help = RELOAD_EXAMPLES)]
pub(crate) struct PluginReloadArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

const RELOAD_EXAMPLES: &str = "\
Examples:
  host plugin reload
      A worker loads files that change by itself. This makes it read secrets and the grants in host.toml again, too.
  host plugin reload -n images@%h
      Exits with 1 if a plugin is refused; the version before it goes on serving.";

/// Which worker on this machine
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Name of the worker, as it was given to `host run` [default: taskhost@%h]
    #[arg(short = 'n', long = "hostname", value_name = "NODE")]
    pub(crate) hostname: Option<String>,
    /// Its file of state, beside which it listens [default: the name of the worker with .state.db]
    #[arg(long, value_name = "FILE")]
    pub(crate) statedb: Option<String>,
}

/// Grant a plugin what it declares, by writing it into host.toml
#[derive(Debug, Args)]
#[command(after_help = GRANT_EXAMPLES)]
pub(crate) struct PluginGrantArgs {
    /// Name of a plugin, a .wasm file, or a folder with a plugin.toml
    #[arg(value_name = "PLUGIN")]
    pub(crate) plugin: PathBuf,
    /// What only you know: values, folders, and where secrets are
    #[arg(value_name = "OPTION=ENTRY")]
    pub(crate) entries: Vec<String>,
    /// For this component only, by its sha256
    #[arg(long)]
    pub(crate) pin: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Folder with plugins [default: plugins]
    #[arg(long, value_name = "DIR")]
    pub(crate) plugins: Option<String>,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

const GRANT_EXAMPLES: &str = "\
Examples:
  host plugin grant images
      Says what is missing, and what you have to add to the command.
  host plugin grant images config=region=eu secrets=key=env:IMAGES_KEY fs=/out=/srv/out:rw --pin
      Shows the lines, asks, and writes them into host.toml.";

/// Write the tasks of plugins as a module for their callers
#[derive(Debug, Args)]
#[command(after_help = STUBS_EXAMPLES)]
pub(crate) struct PluginStubsArgs {
    /// For Celery clients and Flower
    #[arg(long, required = true)]
    pub(crate) python: bool,
    /// Where to write the module [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Folder with plugins [default: plugins]
    #[arg(long, value_name = "DIR")]
    pub(crate) plugins: Option<String>,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

const STUBS_EXAMPLES: &str = "\
Examples:
  host plugin stubs --python -o taskhost_tasks.py
      Then, in Python: from taskhost_tasks import images_resize; images_resize.delay(url, width=100)
  celery -A taskhost_tasks -b redis://localhost flower
      Flower knows the tasks, and starts them.";

impl PluginListArgs {
    /// The settings that these options stand for.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        Flags::default().add("--plugins", "plugins.dir", &self.plugins).node(&self.node).0
    }
}

impl PluginStubsArgs {
    /// The settings that these options stand for.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        Flags::default().add("--plugins", "plugins.dir", &self.plugins).0
    }
}

impl PluginReloadArgs {
    /// The settings that these options stand for.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        Flags::default().node(&self.node).0
    }
}

impl PluginGrantArgs {
    /// The settings that these options stand for.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        Flags::default().add("--plugins", "plugins.dir", &self.plugins).0
    }
}
