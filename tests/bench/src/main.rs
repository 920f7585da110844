//! Measures the sandbox, and whole workers beside a bare loop that does the same I/O.
//!
//! Started by `cargo xtask bench`, which builds what is measured and starts servers. Compares nothing with
//! a limit: numbers of a shared machine are for people to judge.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

mod bare;
mod chord;
mod contender;
mod database;
mod drain;
mod lane;
mod languages;
mod process;
mod publish;
mod sandbox;
mod services;
mod sqs;
mod table;
mod versions;
mod worker;

/// An error is text for the person who typed the command.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measure the sandbox and the worker. `cargo xtask bench` gives all that these commands need.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Sandbox(SandboxArgs),
    Languages(LanguagesArgs),
    Worker(WorkerArgs),
    Canvas(CanvasArgs),
    Bare(BareArgs),
}

/// Instantiate, call and drop the no-op task on one thread, and load many plugins
#[derive(Debug, Args)]
struct SandboxArgs {
    /// Folder with the demo plugin
    #[arg(long, value_name = "DIR")]
    plugins: PathBuf,
    /// A component with one task that does nothing, to be measured as well
    #[arg(long, value_name = "FILE")]
    noop: Option<PathBuf>,
    /// How many calls to measure
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    calls: usize,
    /// Measure only this, in this process
    #[arg(long, value_name = "PART")]
    part: Option<sandbox::Part>,
    /// Where compiled code is kept while the plugins of a folder are loaded
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// Load and call the same plugin, written in each language, and print a table
#[derive(Debug, Args)]
struct LanguagesArgs {
    /// The components
    #[arg(value_name = "LANGUAGE=FILE", required = true)]
    plugins: Vec<languages::Plugin>,
    /// How many calls to measure
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    calls: usize,
    /// Print nothing but rows of the table, all from this process
    #[arg(long)]
    row: bool,
}

/// Drain a queue of no-op tasks with each worker in turn
#[derive(Debug, Args)]
struct WorkerArgs {
    /// The host's binary
    #[arg(long, value_name = "FILE")]
    host: PathBuf,
    /// Folder with the demo plugin
    #[arg(long, value_name = "DIR")]
    plugins: PathBuf,
    /// A RabbitMQ whose queue `celery` may be deleted
    #[arg(long, value_name = "URL")]
    amqp: String,
    /// A Redis all of whose databases may be flushed
    #[arg(long, value_name = "URL")]
    redis: String,
    /// A PostgreSQL, as a result backend of Celery, whose tables of results may be emptied
    #[arg(long, value_name = "URL")]
    postgresql: String,
    /// A MariaDB or MySQL, likewise
    #[arg(long, value_name = "URL")]
    mysql: String,
    /// An emulator of SQS whose queue `celery` may be emptied
    #[arg(long, value_name = "URL")]
    sqs: String,
    /// A Python that has Celery; without it Celery is left out
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Tasks to publish before each measurement; by default what keeps the host busy for some seconds
    #[arg(long, value_name = "N")]
    tasks: Option<u64>,
    /// The same for Celery, which is slow
    #[arg(long, value_name = "N")]
    celery_tasks: Option<u64>,
    /// How often all is measured; the table shows medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Messages that a worker fetches ahead
    #[arg(long, value_name = "N", default_value_t = 256)]
    prefetch: u16,
    /// Tasks that the host runs at a time, unless its default settings are measured
    #[arg(long, value_name = "N", default_value_t = 16)]
    concurrency: u16,
    /// Only lanes whose name contains one of these, such as `redis-results` or `classic-ignored-host`
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
}

/// Run chords of no-op tasks on Redis, messages and results
#[derive(Debug, Args)]
struct CanvasArgs {
    #[command(flatten)]
    worker: WorkerArgs,
    /// How many tasks the headers have
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
    members: Vec<u64>,
}

/// The bare loop: takes messages, writes results, acknowledges, and does nothing else
#[derive(Debug, Args)]
struct BareArgs {
    /// amqp, redis, sqlite or sqs
    #[arg(long, value_name = "URL")]
    broker: String,
    /// Where to write results: a Redis, a PostgreSQL, a MariaDB, or the same file; without it none are written
    #[arg(long, value_name = "URL")]
    results: Option<String>,
    #[arg(long, value_name = "N")]
    prefetch: u16,
}

fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Sandbox(args) => run(sandbox::measure(&args)),
        Command::Languages(args) => run(languages::measure(&args)),
        Command::Worker(args) => run(worker::measure(&args)),
        Command::Canvas(args) => run(chord::measure(&args)),
        Command::Bare(args) => run(bare::serve(&args)),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// On one thread, so that no CPU time is spent on waking others.
fn run(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime: Runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}
