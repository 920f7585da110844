//! The command line: names and options follow Celery's habits.
//!
//! Values of settings stay text here; they are read together with file and environment, so that a
//! mistake is reported the same way wherever it was made.

mod authoring;
mod dead;
mod plugin;
mod remote;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Flag};

pub(crate) use authoring::{PluginBuildArgs, PluginNewArgs, PluginRunArgs, PluginTestArgs, RehearsalArgs};
pub(crate) use dead::{DeadArgs, DeadCommand, PickArgs};
pub(crate) use plugin::{
    NodeArgs, PluginCheckArgs, PluginCommand, PluginGrantArgs, PluginListArgs, PluginReloadArgs, PluginStubsArgs,
};
pub(crate) use remote::{ControlArgs, EventsArgs, InspectArgs, MethodArgs, RemoteArgs, StatusArgs, method_list};

/// Run sandboxed WebAssembly tasks for Celery clients.
#[derive(Debug, Parser)]
#[command(name = "host", version, max_term_width = 100, after_help = EXAMPLES, disable_help_subcommand = true, args_override_self = true)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  host run --plugins ./plugins
      Starts a worker. Needs no server.
  host call tasks.add --args '[2, 2]' --wait
      Calls a task and prints its result.
  host run --help
      Shows options and examples of a command.

Exit codes: 0 done, 1 failed, 2 wrong options or configuration, 69 no worker answered.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
    Call(CallArgs),
    Result(ResultArgs),
    #[command(subcommand)]
    Plugin(PluginCommand),
    Status(StatusArgs),
    Inspect(InspectArgs),
    Control(ControlArgs),
    Events(EventsArgs),
    Purge(PurgeArgs),
    #[command(subcommand)]
    Dead(DeadCommand),
    Config(ConfigArgs),
}

/// Options that every command with a configuration takes.
#[derive(Debug, Args, Default)]
pub(crate) struct SettingsArgs {
    /// Configuration file [default: host.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Any setting by its name, such as task_acks_late=false; may be repeated. `host config --help`
    /// lists them
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) sets: Vec<String>,
}

/// Options of commands that talk to a broker.
#[derive(Debug, Args, Default)]
pub(crate) struct BrokerArgs {
    /// Where tasks are: amqp(s)://user:password@host// for RabbitMQ, redis(s)://:password@host/0,
    /// sentinel://, sqs://, sqla+postgresql://, filesystem:// or sqlite:///FILE; several with `;`
    /// stand in for each other [default: sqlite:///host.db]
    #[arg(short, long, value_name = "URL")]
    pub(crate) broker: Option<String>,
}

/// Options of commands that read or write results.
#[derive(Debug, Args, Default)]
pub(crate) struct BackendArgs {
    /// Where results are: redis(s)://:password@host/0, sentinel://, db+postgresql://, db+mysql://,
    /// db+sqlite:///FILE, cache+memcached://, file:///DIR, rpc://, amqp:// or disabled://
    /// [default: the broker itself, or rpc:// with RabbitMQ]
    #[arg(short, long, value_name = "URL")]
    pub(crate) result_backend: Option<String>,
}

/// Options that say how a worker works.
#[derive(Debug, Args, Default)]
pub(crate) struct WorkerArgs {
    /// Folder with plugins: *.wasm files, and folders with a plugin.toml [default: plugins]
    #[arg(long, value_name = "DIR")]
    pub(crate) plugins: Option<String>,
    /// Serve metrics for Prometheus at this address, such as 127.0.0.1:9464
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<String>,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    /// Queues to take tasks from, with commas between them [default: those of [queues] in the
    /// configuration, or celery]
    #[arg(short = 'Q', long, value_name = "NAMES")]
    pub(crate) queues: Option<String>,
    /// Of these, queues to take no tasks from, with commas between them
    #[arg(short = 'X', long, value_name = "NAMES")]
    pub(crate) exclude_queues: Option<String>,
    /// How many tasks run at a time [default: number of CPUs]
    #[arg(short, long, value_name = "N")]
    pub(crate) concurrency: Option<String>,
    /// Most and fewest tasks that run at a time, such as 10,3: the number follows the load
    #[arg(long, value_name = "MAX,MIN")]
    pub(crate) autoscale: Option<String>,
    /// Name of this worker; %h is the name of the machine, %n the same without domain, %d the domain
    /// [default: taskhost@%h]
    #[arg(short = 'n', long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Messages to fetch ahead for each task that can run at a time; 0 fetches all [default: 4]
    #[arg(long, value_name = "N")]
    pub(crate) prefetch_multiplier: Option<String>,
    /// Stop a task after this time, such as 90 (seconds), 5m or 1h [default: none]
    #[arg(long, value_name = "TIME")]
    pub(crate) time_limit: Option<String>,
    /// Tell a task to finish after this time; a task that does not listen is stopped [default: none]
    #[arg(long, value_name = "TIME")]
    pub(crate) soft_time_limit: Option<String>,
    /// File for what this worker alone must remember, such as revoked tasks; %n is its name, none keeps
    /// nothing [default: the name of the worker with .state.db]
    #[arg(short = 'S', long, value_name = "FILE")]
    pub(crate) statedb: Option<String>,
    /// Tell monitors (celery events, Flower) what happens to tasks from the start; else when one asks
    #[arg(short = 'E', long, visible_alias = "events")]
    pub(crate) task_events: bool,
    /// How often monitors hear that this worker lives [default: 2s]
    #[arg(long, value_name = "TIME")]
    pub(crate) heartbeat_interval: Option<String>,
    /// Do not tell monitors that this worker lives
    #[arg(long, conflicts_with = "heartbeat_interval")]
    pub(crate) without_heartbeat: bool,
    /// Do not ask other workers at the start what is revoked
    #[arg(long)]
    pub(crate) without_mingle: bool,
    /// How much to log: debug, info, warning, error or critical [default: info]
    #[arg(short, long, value_name = "LEVEL")]
    pub(crate) loglevel: Option<String>,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// Start a worker: it takes tasks from queues and runs each in a sandbox of its own
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) worker: WorkerArgs,
    /// Delete all waiting messages of the queues before starting
    #[arg(long, visible_alias = "discard")]
    pub(crate) purge: bool,
    /// Build plugins again when their sources change: those with [build] in their plugin.toml
    #[arg(long)]
    pub(crate) watch_build: bool,
}

const RUN_EXAMPLES: &str = "\
Examples:
  host run --plugins ./plugins
      Needs no server: tasks and results are kept in the file host.db.
  host run -b amqp://guest:guest@localhost// -r redis://localhost/0 -Q a,b -c 8
      Takes tasks from two queues of RabbitMQ and keeps results in Redis.
  host run --watch-build
      For whoever writes plugins: a change in a source is served as soon as it is built.

Ctrl-C once finishes the tasks that run, twice stops them and gives them back,
three times quits at once.";

/// Publish a task and print its id, or its result with --wait
#[derive(Debug, Args)]
#[command(after_help = CALL_EXAMPLES)]
pub(crate) struct CallArgs {
    /// Name of the task, such as images.resize
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Positional arguments: a JSON array [default: []]
    #[arg(short, long, value_name = "JSON")]
    pub(crate) args: Option<String>,
    /// Keyword arguments: a JSON object [default: {}]
    #[arg(short, long, value_name = "JSON")]
    pub(crate) kwargs: Option<String>,
    /// Run the task after this time, such as 90 (seconds), 5m or 1h
    #[arg(long, value_name = "TIME", conflicts_with = "eta")]
    pub(crate) countdown: Option<String>,
    /// Run the task at this time, such as 2026-12-24T18:00:00Z; without a zone it is UTC
    #[arg(long, value_name = "DATE")]
    pub(crate) eta: Option<String>,
    /// Forget the task if it has not started by then: a date, or a time from now
    #[arg(long, value_name = "DATE|TIME")]
    pub(crate) expires: Option<String>,
    /// Queue to publish to [default: celery]
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// Priority from 0 to 255; on RabbitMQ and in the embedded file a larger one goes first
    #[arg(long, value_name = "N")]
    pub(crate) priority: Option<u8>,
    /// Id of the call [default: a new UUID]
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

const CALL_EXAMPLES: &str = "\
Examples:
  host call tasks.add --args '[2, 2]' --wait
      Prints 4. If the task fails, prints its exception on stderr and exits with 1.
  host call images.resize --kwargs '{\"width\": 80}' --countdown 5m --queue images
      Prints the id of the task; `host result ID` shows how it goes on.";

/// How long to wait for a result.
#[derive(Debug, Args, Default)]
pub(crate) struct WaitArgs {
    /// Wait for the result, at most this time if one is given (as --wait=30s)
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = WAIT_WITHOUT_END,
    )]
    pub(crate) wait: Option<String>,
}

/// What `--wait` without a time means.
pub(crate) const WAIT_WITHOUT_END: &str = "none";

/// Show the state and the result of a task
#[derive(Debug, Args)]
#[command(after_help = RESULT_EXAMPLES)]
pub(crate) struct ResultArgs {
    /// Id of the task
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

const RESULT_EXAMPLES: &str = "\
Examples:
  host result 7b1f5a52-3c5e-4d8c-9a43-0a4a1f0f6d2b
      An unknown id is PENDING, as in Celery: it looks like a task that waits.
  host result my-id --wait=30s --json -r redis://localhost/0
      Exits with 1 if the task failed, or was not done in time.";

/// Delete all waiting messages of queues
#[derive(Debug, Args)]
#[command(after_help = PURGE_EXAMPLES)]
pub(crate) struct PurgeArgs {
    /// Queues to empty, with commas between them [default: celery]
    #[arg(short = 'Q', long, value_name = "NAMES")]
    pub(crate) queues: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

const PURGE_EXAMPLES: &str = "\
Examples:
  host purge -Q celery,images
      Says how many messages wait in each queue and asks before it deletes them.
      Tasks that a worker has already fetched are not touched.";

/// Show every setting in effect, and where its value came from
#[derive(Debug, Args)]
#[command(after_help = CONFIG_EXAMPLES, after_long_help = config_help())]
pub(crate) struct ConfigArgs {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) worker: WorkerArgs,
}

const CONFIG_EXAMPLES: &str = "\
Examples:
  host config
  host config -c 8 --set task_acks_late=false
      Takes the options of `host run`, and shows what it would work with.

A setting is looked for in this order: command line, environment (CELERY_BROKER_URL,
CELERY_RESULT_BACKEND, HOST_TASK_ACKS_LATE, ..), host.toml, default. Passwords are
not shown.";

fn config_help() -> String {
    format!("{CONFIG_EXAMPLES}\n\n{}", config::help())
}

/// Collects the options that were given.
#[derive(Default)]
struct Flags(Vec<Flag>);

impl Flags {
    fn add(mut self, name: &'static str, key: &'static str, value: &Option<String>) -> Self {
        if let Some(text) = value {
            self.0.push(Flag { name, key, text: text.clone() });
        }
        self
    }

    fn switch(mut self, name: &'static str, key: &'static str, value: &str, given: bool) -> Self {
        if given {
            self.0.push(Flag { name, key, text: value.to_owned() });
        }
        self
    }

    fn broker(self, args: &BrokerArgs) -> Self {
        self.add("--broker", "broker.url", &args.broker)
    }

    fn node(self, args: &NodeArgs) -> Self {
        self.add("--hostname", "worker.hostname", &args.hostname).add("--statedb", "worker.state_db", &args.statedb)
    }

    fn backend(self, args: &BackendArgs) -> Self {
        self.add("--result-backend", "result.backend", &args.result_backend)
    }
}

impl WorkerArgs {
    /// The settings that these options stand for.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        Flags::default()
            .add("--plugins", "plugins.dir", &self.plugins)
            .add("--metrics", "worker.metrics", &self.metrics)
            .broker(&self.broker)
            .backend(&self.backend)
            .add("--queues", "task.queues", &self.queues)
            .add("--exclude-queues", "task.exclude_queues", &self.exclude_queues)
            .add("--concurrency", "worker.concurrency", &self.concurrency)
            .add("--autoscale", "worker.autoscale", &self.autoscale)
            .add("--hostname", "worker.hostname", &self.hostname)
            .add("--statedb", "worker.state_db", &self.statedb)
            .add("--prefetch-multiplier", "worker.prefetch_multiplier", &self.prefetch_multiplier)
            .add("--time-limit", "task.time_limit", &self.time_limit)
            .add("--soft-time-limit", "task.soft_time_limit", &self.soft_time_limit)
            .add("--heartbeat-interval", "worker.heartbeat_interval", &self.heartbeat_interval)
            .switch("--without-heartbeat", "worker.heartbeat_interval", "none", self.without_heartbeat)
            .switch("--task-events", "worker.send_task_events", "true", self.task_events)
            .switch("--without-mingle", "worker.mingle", "false", self.without_mingle)
            .add("--loglevel", "log.level", &self.loglevel)
            .0
    }
}

impl CallArgs {
    /// The settings that these options stand for.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        Flags::default().broker(&self.broker).backend(&self.backend).0
    }
}

impl ResultArgs {
    /// The settings that these options stand for.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        Flags::default().broker(&self.broker).backend(&self.backend).0
    }
}

impl PurgeArgs {
    /// The settings that these options stand for.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        Flags::default().broker(&self.broker).add("--queues", "task.queues", &self.queues).0
    }
}

#[cfg(test)]
mod tests;
