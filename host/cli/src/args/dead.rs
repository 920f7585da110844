//! Options of the commands about dead letters.

use clap::{Args, Subcommand};

use super::{BrokerArgs, Flags, SettingsArgs};
use crate::config::Flag;

/// Look at messages that were kept aside because nobody could finish them
#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    List(DeadListArgs),
    Show(DeadShowArgs),
    Requeue(DeadRequeueArgs),
    Drop(DeadDropArgs),
}

/// Where dead letters are.
#[derive(Debug, Args, Default)]
pub(crate) struct DeadArgs {
    /// Queues whose dead letters are meant, with commas between them [default: celery]
    #[arg(short = 'Q', long, value_name = "NAMES")]
    pub(crate) queues: Option<String>,
    /// Parked messages instead: those whose task no plugin has
    #[arg(long)]
    pub(crate) parked: bool,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// Which of them.
#[derive(Debug, Args, Default)]
#[group(required = true, multiple = false)]
pub(crate) struct PickArgs {
    /// Ids of tasks
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
}

/// List dead letters: task, id, why and how often it was delivered
#[derive(Debug, Args)]
#[command(after_help = DEAD_LIST_EXAMPLES)]
pub(crate) struct DeadListArgs {
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) dead: DeadArgs,
}

const DEAD_LIST_EXAMPLES: &str = "\
Examples:
  host dead list -Q celery,images
      Dead letters of a queue are in the queue of the same name with .dead behind it.
  host dead list --parked
      Messages that wait for a plugin with their task; a worker that has it takes them back.";

/// Show one dead letter with all its headers and its body
#[derive(Debug, Args)]
pub(crate) struct DeadShowArgs {
    /// Id of the task
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) dead: DeadArgs,
}

/// Send dead letters back to the queue that they came from
#[derive(Debug, Args)]
pub(crate) struct DeadRequeueArgs {
    #[command(flatten)]
    pub(crate) pick: PickArgs,
    #[command(flatten)]
    pub(crate) dead: DeadArgs,
}

/// Delete dead letters for good
#[derive(Debug, Args)]
pub(crate) struct DeadDropArgs {
    #[command(flatten)]
    pub(crate) pick: PickArgs,
    #[command(flatten)]
    pub(crate) dead: DeadArgs,
}

impl DeadCommand {
    /// What all of them have in common.
    pub(crate) fn args(&self) -> &DeadArgs {
        match self {
            Self::List(args) => &args.dead,
            Self::Show(args) => &args.dead,
            Self::Requeue(args) => &args.dead,
            Self::Drop(args) => &args.dead,
        }
    }
}

impl DeadArgs {
    /// The settings that these options stand for.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        Flags::default().broker(&self.broker).add("--queues", "task.queues", &self.queues).0
    }
}
