//! Options of the commands that ask and tell workers: `status`, `inspect`, `control` and `events`.

use clap::Args;
use taskhost_core::control::{METHODS, MethodKind};

use super::{BrokerArgs, Flag, Flags, SettingsArgs};

/// Which workers, and how long to wait for them.
#[derive(Debug, Args, Default)]
pub(crate) struct RemoteArgs {
    /// How long to wait for answers, such as 5 (seconds) or 500ms [default: 1]
    #[arg(short, long, value_name = "TIME")]
    pub(crate) timeout: Option<String>,
    /// Only workers with these names, with commas between them [default: all]
    #[arg(short, long, value_name = "NODES", value_delimiter = ',')]
    pub(crate) destination: Vec<String>,
    /// Print one JSON object: names of workers with their answers
    #[arg(short, long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// A method and its arguments.
#[derive(Debug, Args)]
pub(crate) struct MethodArgs {
    /// Name of the method
    #[arg(value_name = "METHOD", required_unless_present = "list")]
    pub(crate) method: Option<String>,
    /// Its arguments
    #[arg(value_name = "ARGUMENTS", allow_negative_numbers = true)]
    pub(crate) words: Vec<String>,
    /// List the methods
    #[arg(long)]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Show which workers are up, ours and Python's
#[derive(Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

const STATUS_EXAMPLES: &str = "\
Examples:
  host status -b redis://localhost/0
      Exits with 69 if no worker answers.
  host status
      The embedded file cannot reach workers: asks the one that runs here, or those that -d names.";

/// Ask workers what they have and do
#[derive(Debug, Args)]
#[command(after_help = inspect_help(), override_usage = "host inspect [OPTIONS] <METHOD> [ARGUMENTS]...")]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) method: MethodArgs,
}

/// Tell workers what to do from now on
#[derive(Debug, Args)]
#[command(after_help = control_help(), override_usage = "host control [OPTIONS] <METHOD> [ARGUMENTS]...")]
pub(crate) struct ControlArgs {
    #[command(flatten)]
    pub(crate) method: MethodArgs,
}

/// Show what happens to workers and tasks, as it happens
#[derive(Debug, Args)]
#[command(after_help = EVENTS_EXAMPLES)]
pub(crate) struct EventsArgs {
    /// Print one line for people for each event; this is so without it, too
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) dump: bool,
    /// Print each event as one line of JSON
    #[arg(short, long)]
    pub(crate) json: bool,
    /// Tell all workers first to send events of tasks, as `host control enable_events` does
    #[arg(short = 'E', long)]
    pub(crate) enable: bool,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

const EVENTS_EXAMPLES: &str = "\
Examples:
  host events -b amqp://guest:guest@localhost//
      Workers always tell that they are up, and of tasks only if they were started with -E or told so.
  host events -E --json | jq 'select(.type == \"task-failed\")'
      Ctrl-C ends it.";

fn inspect_help() -> String {
    format!(
        "{}\nExamples:\n  host inspect active -b redis://localhost/0\n  host inspect query_task 7b1f5a52-3c5e-4d8c-9a43-0a4a1f0f6d2b --json\n\n{CODES}",
        method_list(MethodKind::Inspect)
    )
}

fn control_help() -> String {
    format!(
        "{}\nExamples:\n  host control rate_limit images.resize 10/m -b redis://localhost/0\n  host control pause_queue images -d images@box1,images@box2\n\n{CODES}",
        method_list(MethodKind::Control)
    )
}

const CODES: &str = "\
Exits with 69 if no worker answers, and with 1 if one answers that it could not.";

/// The methods that people use, one with its arguments and its purpose a line.
pub(crate) fn method_list(kind: MethodKind) -> String {
    let mut text = String::from("Methods:\n");
    for method in METHODS.iter().filter(|method| method.kind == kind && !method.hidden) {
        let call = format!("{} {}", method.name, method.signature);
        let ours = if method.ours { " (not in Python's)" } else { "" };
        text.push_str(&format!("  {}\n      {}{ours}\n", call.trim_end(), method.help));
    }
    text
}

impl RemoteArgs {
    /// The settings that these options stand for.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        Flags::default().broker(&self.broker).0
    }
}

impl EventsArgs {
    /// The settings that these options stand for.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        Flags::default().broker(&self.broker).0
    }
}
