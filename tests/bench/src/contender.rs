//! How each worker is started: every one with the options that serve it best.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::lane::{Broker, Lane, Results, Setting, Who};
use crate::{Result, WorkerArgs};

/// Celery's best is one process a processor. The prefetch of all workers is the same.
const CELERY_PROCESSES: u16 = 2;

/// What a Celery user writes; messages say whether the result is ignored. As is Celery's default, it acknowledges
/// before it runs a task, which costs less than what the host does.
const CELERY_MODULE: &str = r#"
import os
from celery import Celery

app = Celery("bench_tasks", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_RESULTS"])
app.conf.update(
    task_ignore_result=False,
    task_default_queue_type=os.environ["BENCH_QUEUE_TYPE"],
    worker_prefetch_multiplier=int(os.environ["BENCH_PREFETCH_MULTIPLIER"]),
)


@app.task(name="tasks.noop")
def noop():
    pass


@app.task(name="tasks.echo")
def echo(value):
    return value
"#;

/// The file that the embedded lanes work with.
pub(crate) const EMBEDDED_FILE: &str = "bench.db";

/// Where messages come from and results go, as the host and the bare loops are told; the file is in their folder.
pub(crate) struct Urls {
    pub(crate) broker: String,
    pub(crate) results: String,
}

impl Urls {
    pub(crate) fn new(setting: Setting, args: &WorkerArgs) -> Self {
        let embedded = || format!("sqlite:///{EMBEDDED_FILE}");
        let (broker, results) = match setting.broker {
            Broker::Classic | Broker::Quorum => (args.amqp.clone(), args.redis.clone()),
            Broker::Redis => (broker_database(&args.redis), args.redis.clone()),
            Broker::Embedded => (embedded(), embedded()),
            Broker::Sqs => (args.sqs.clone(), args.redis.clone()),
        };
        let results = match setting.results {
            Results::Beside | Results::Ignored => results,
            Results::PostgreSql => args.postgresql.clone(),
            Results::MySql => args.mysql.clone(),
        };
        Self { broker, results }
    }
}

/// Messages have a database of their own, so that the keys of the other one are the results.
pub(crate) fn broker_database(redis: &str) -> String {
    let server = redis.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('/');
    // An address without a database ends with its port.
    let server = if server.ends_with(':') { redis } else { server };
    format!("{server}/1")
}

/// The command for the worker of a lane, which runs in `folder`.
pub(crate) fn command(lane: Lane, args: &WorkerArgs, folder: &Path) -> Result<Command> {
    let urls = Urls::new(lane.setting, args);
    match lane.who {
        Who::Bare => bare(lane.setting, &urls, args),
        Who::Host | Who::Events | Who::Defaults => host(lane.who, &urls, args),
        Who::Celery => celery(lane.setting, urls, args, folder),
    }
}

fn bare(setting: Setting, urls: &Urls, args: &WorkerArgs) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bare", "--broker", &urls.broker, "--prefetch", &args.prefetch.to_string()]);
    if setting.results != Results::Ignored {
        command.args(["--results", &urls.results]);
    }
    Ok(command)
}

fn host(who: Who, urls: &Urls, args: &WorkerArgs) -> Result<Command> {
    let mut command = Command::new(fs::canonicalize(&args.host)?);
    for (name, _) in std::env::vars_os() {
        // What the caller uses himself is not to be measured.
        if ["HOST_", "CELERY_"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
            command.env_remove(name);
        }
    }
    command.args(["run", "-l", "warning", "-b", &urls.broker, "-r", &urls.results]);
    command.arg("--plugins").arg(fs::canonicalize(&args.plugins)?);
    if who == Who::Events {
        command.arg("-E");
    }
    if who != Who::Defaults {
        command.args(["-c", &args.concurrency.to_string()]);
        command.args(["--prefetch-multiplier", &multiplier(args, args.concurrency)]);
    }
    Ok(command)
}

fn celery(setting: Setting, urls: Urls, args: &WorkerArgs, folder: &Path) -> Result<Command> {
    let python = args.python.as_ref().ok_or("there is no Python with Celery")?;
    fs::write(folder.join("bench_tasks.py"), CELERY_MODULE)?;
    let file = folder.join(EMBEDDED_FILE);
    let (broker, results) = match setting.broker {
        Broker::Embedded => (format!("sqla+sqlite:///{}", file.display()), format!("db+sqlite:///{}", file.display())),
        _ => (urls.broker, urls.results),
    };
    let mut command = Command::new(python);
    command
        .env("BENCH_BROKER", broker)
        .env("BENCH_RESULTS", results)
        .env("BENCH_QUEUE_TYPE", if setting.broker == Broker::Quorum { "quorum" } else { "classic" })
        .env("BENCH_PREFETCH_MULTIPLIER", multiplier(args, CELERY_PROCESSES))
        .env_remove("PYTHONPATH")
        .env_remove("PYTHONHOME")
        .args(["-m", "celery", "-A", "bench_tasks", "worker", "-P", "prefork", "-O", "fair", "-l", "WARNING"])
        .args(["-c", &CELERY_PROCESSES.to_string()])
        .args(["--without-gossip", "--without-mingle", "--without-heartbeat"]);
    Ok(command)
}

/// What makes the prefetch out of a concurrency.
fn multiplier(args: &WorkerArgs, concurrency: u16) -> String {
    args.prefetch.div_ceil(concurrency.max(1)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_results_are_in_two_databases_of_redis() {
        for url in ["redis://box:6379/0", "redis://box:6379", "redis://box:6379/"] {
            assert_eq!(broker_database(url), "redis://box:6379/1", "{url}");
        }
    }
}
