//! Options of the commands for whoever writes plugins.

use std::path::PathBuf;

use clap::Args;

use super::{Flags, SettingsArgs};
use crate::build::Language;
use crate::config::Flag;

/// Make a folder with a new plugin to start from
#[derive(Debug, Args)]
#[command(after_help = NEW_EXAMPLES)]
pub(crate) struct PluginNewArgs {
    /// What it is written in
    #[arg(short, long, value_name = "rust|python|js|go|c", value_enum, hide_possible_values = true)]
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

/// Run one task of a plugin here, with no broker and no worker
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct PluginRunArgs {
    /// A .wasm file, or a folder with a plugin.toml
    #[arg(value_name = "FILE|DIR")]
    pub(crate) path: PathBuf,
    /// Name of the task, such as images.resize
    #[arg(value_name = "TASK")]
    pub(crate) task: String,
    /// Arguments: JSON, or else text; NAME=VALUE is a keyword argument, and - is what stdin has
    #[arg(value_name = "ARG", allow_negative_numbers = true)]
    pub(crate) words: Vec<String>,
    /// Positional arguments before those: a JSON array [default: []]
    #[arg(short, long, value_name = "JSON")]
    pub(crate) args: Option<String>,
    /// Keyword arguments beside those: a JSON object [default: {}]
    #[arg(short, long, value_name = "JSON")]
    pub(crate) kwargs: Option<String>,
    /// Print one JSON object instead: state, result, traceback, retries, states, calls, events, usage
    #[arg(long)]
    pub(crate) json: bool,
    /// Wait for countdowns, ETAs and delays of retries; without it nothing waits
    #[arg(long)]
    pub(crate) wait: bool,
    /// Only show which tasks it calls, even if the plugin has them
    #[arg(long)]
    pub(crate) no_follow: bool,
    #[command(flatten)]
    pub(crate) rehearsal: RehearsalArgs,
}

const RUN_EXAMPLES: &str = "\
Examples:
  host plugin run plugins/images images.resize in/cat.png 80 format=webp
      Prints the result; logs, states, calls and what was used go to stderr.
  host plugin run tasks.wasm tasks.add --args '[2, 2]'
  host plugin run tasks.wasm tasks.echo '\"80\"' note='\"a=b\"'
      A text that looks like JSON, or like a keyword, is written as JSON.
  host plugin run tasks.wasm tasks.index - --grant fs=/in=./data < page.html

Sandbox, limits and grants are those of a worker, from host.toml; broker, results
and values are in memory. A plugin without [grants.NAME] there has what stays in
memory: publish, results, keyvalue and scratch.

Exit codes: 0 the task succeeded, ignored its message, or was replaced by a task of
another plugin, 1 it failed or was rejected, 2 wrong options, 130 interrupted.";

/// Options of commands that run tasks in their own process.
#[derive(Debug, Args, Default)]
pub(crate) struct RehearsalArgs {
    /// Grant this besides what host.toml grants, such as config=region=eu; may be repeated
    #[arg(long = "grant", value_name = "OPTION=ENTRY")]
    pub(crate) grants: Vec<String>,
    /// Stop a task after this time, such as 90 (seconds), 5m or 1h [default: none]
    #[arg(long, value_name = "TIME")]
    pub(crate) time_limit: Option<String>,
    /// Tell a task to finish after this time; a task that does not listen is stopped [default: none]
    #[arg(long, value_name = "TIME")]
    pub(crate) soft_time_limit: Option<String>,
    /// How much to log: debug, info, warning, error or critical [default: info]
    #[arg(short, long, value_name = "LEVEL")]
    pub(crate) loglevel: Option<String>,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// Run the cases of a plugin: calls with what is to come of them
#[derive(Debug, Args)]
#[command(after_help = TEST_EXAMPLES)]
pub(crate) struct PluginTestArgs {
    /// A folder with a plugin.toml, or a .wasm file
    #[arg(value_name = "DIR|FILE", default_value = ".")]
    pub(crate) path: PathBuf,
    /// File with the cases, a JSON object a line [default: cases.jsonl beside the plugin]
    #[arg(long, value_name = "FILE")]
    pub(crate) cases: Option<PathBuf>,
    /// Only cases whose name or task has this text in it
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    #[command(flatten)]
    pub(crate) rehearsal: RehearsalArgs,
}

const TEST_EXAMPLES: &str = "\
Examples:
  host plugin test
      Runs the cases of the plugin in this folder. Exits with 1 if one fails.
  host plugin test plugins/images --filter resize -l debug

A case is one line, with a task and what is to come of it; all else may be left out:
  {\"name\": \"adds\", \"task\": \"tasks.add\", \"args\": [1, 2], \"result\": 3}
  {\"task\": \"tasks.add\", \"kwargs\": {\"x\": 1}, \"error\": \"TypeError\"}
  {\"task\": \"tasks.get\", \"error\": {\"type\": \"KeyError\", \"message\": \"no such\"}}
  {\"task\": \"tasks.index\", \"retries\": 1, \"states\": [\"PROGRESS\", \"DONE\"]}
      What the task reports; {\"state\": \"PROGRESS\", \"meta\": {..}} compares more.
  {\"task\": \"tasks.crawl\", \"publishes\": [{\"task\": \"a.b\", \"queue\": \"slow\"}]}
      What it calls; a call is run if the plugin has it and there is no \"follow\": false.
  {\"task\": \"tasks.x\", \"state\": \"REJECTED\"}
      Or IGNORED, or REPLACED by a task of another plugin.
  {\"task\": \"tasks.y\", \"config\": {\"region\": \"eu\"}, \"secrets\": {\"key\": \"sesame\"}}
      Granted for this case; so is \"grant\": {\"fs\": [\"/in=testdata\"]}, from this folder.
Numbers are compared as numbers, objects in any order, messages by a part of them.
Nothing waits. Empty lines, and lines that begin with # or //, are passed over.";

impl RehearsalArgs {
    /// The settings that these options stand for.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        Flags::default()
            .add("--time-limit", "task.time_limit", &self.time_limit)
            .add("--soft-time-limit", "task.soft_time_limit", &self.soft_time_limit)
            .add("--loglevel", "log.level", &self.loglevel)
            .0
    }
}
