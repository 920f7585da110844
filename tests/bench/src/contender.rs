//! How each worker is started: every one with the options that serve it best.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::lane::{Lane, Setting, Who};
use crate::{Result, WorkerArgs};

/// Celery's best is one process a processor. The prefetch of all workers is the same.
const CELERY_PROCESSES: u16 = 2;

/// What a Celery user writes; messages say whether the result is ignored.
const CELERY_MODULE: &str = r#"
import os
from celery import Celery

app = Celery("bench_tasks", broker=os.environ["BENCH_AMQP"], backend=os.environ["BENCH_REDIS"])
app.conf.update(
    task_ignore_result=False,
    worker_prefetch_multiplier=int(os.environ["BENCH_PREFETCH_MULTIPLIER"]),
)


@app.task(name="tasks.noop")
def noop():
    pass
"#;

/// The command for the worker of a lane, which runs in `folder`.
pub(crate) fn command(lane: Lane, args: &WorkerArgs, folder: &Path) -> Result<Command> {
    match lane.who {
        Who::Bare => bare(lane, args),
        Who::Host => host(lane, args),
        Who::Celery => celery(args, folder),
    }
}

/// The file that the embedded lane works with.
pub(crate) const EMBEDDED_URL: &str = "sqlite:///bench.db";
pub(crate) const EMBEDDED_FILE: &str = "bench.db";

fn bare(lane: Lane, args: &WorkerArgs) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bare", "--amqp", &args.amqp, "--prefetch", &args.prefetch.to_string()]);
    if lane.setting == Setting::Results {
        command.args(["--redis", &args.redis]);
    }
    Ok(command)
}

fn host(lane: Lane, args: &WorkerArgs) -> Result<Command> {
    let mut command = Command::new(fs::canonicalize(&args.host)?);
    for (name, _) in std::env::vars_os() {
        // What the caller uses himself is not to be measured.
        if ["HOST_", "CELERY_"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
            command.env_remove(name);
        }
    }
    let (broker, results) = match lane.setting {
        Setting::Embedded => (EMBEDDED_URL, EMBEDDED_URL),
        Setting::Results | Setting::Ignored => (args.amqp.as_str(), args.redis.as_str()),
    };
    command.args(["run", "-l", "warning", "-b", broker, "-r", results]);
    command.arg("--plugins").arg(fs::canonicalize(&args.plugins)?);
    command.args(["-c", &args.concurrency.to_string()]);
    command.args(["--prefetch-multiplier", &multiplier(args, args.concurrency)]);
    Ok(command)
}

fn celery(args: &WorkerArgs, folder: &Path) -> Result<Command> {
    let python = args.python.as_ref().ok_or("there is no Python with Celery")?;
    fs::write(folder.join("bench_tasks.py"), CELERY_MODULE)?;
    let mut command = Command::new(python);
    command
        .env("BENCH_AMQP", &args.amqp)
        .env("BENCH_REDIS", &args.redis)
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
