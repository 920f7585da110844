//! Measures chords: what a task of a header costs, and how soon after the last of them the body is done.
//!
//! All is seen through the results: a worker announces each on a channel of Redis. The members wait in the queue before the
//! worker starts.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;

use crate::contender::{self, broker_database};
use crate::lane::{Broker, Lane, Results, Setting, Who};
use crate::process::{self, Process};
use crate::publish::{Chord, QUEUE};
use crate::table::{Spread, decimal, grouped};
use crate::{CanvasArgs, Result, versions};

const SETTING: Setting = Setting { broker: Broker::Redis, results: Results::Beside };
/// A worker that gets nothing done for so long has broken down.
const STALL_MAX: Duration = Duration::from_secs(60);
/// How long a worker may take to tidy up after the body is done.
const END_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// What one chord says. CPU time is in microseconds for each member.
#[derive(Debug, Clone, Copy)]
struct Sample {
    members_per_second: f64,
    worker_us: Option<f64>,
    redis_us: Option<f64>,
    /// From the result of the last member to that of the body, in milliseconds.
    body_ms: f64,
}

/// Measures and prints.
pub(crate) async fn measure(args: &CanvasArgs) -> Result<ExitCode> {
    let mut redis = redis::Client::open(args.worker.redis.as_str())?.get_multiplexed_async_connection().await?;
    let contenders = [Who::Host, Who::Defaults, Who::Celery];
    let mut out = stdout();
    let mut code = ExitCode::SUCCESS;
    writeln!(out, "{}; {}", versions::machine(), versions::programs(&args.worker))?;
    writeln!(
        out,
        "chords of no-op tasks, messages and results in two databases of Redis; medians of {} rounds; CPU time from 10 \
         to 90 % of the members; the body returns the list of their results",
        args.worker.rounds
    )?;
    let heads = ["members", "members/s", "worker µs", "Redis µs", "body after ms", "(min–max)"];
    let [members, rate, worker, store, after, spread] = heads;
    writeln!(out, "{:<24} {members:>8} {rate:>10} {worker:>10} {store:>9} {after:>14} {spread:>13}", "")?;
    for who in contenders.into_iter().filter(|who| *who != Who::Celery || args.worker.python.is_some()) {
        for members in &args.members {
            let mut samples = Vec::new();
            for round in 1..=args.worker.rounds {
                let at =
                    format!("round {round}/{}: {members} members, {}", args.worker.rounds, who.title(SETTING.broker));
                match run(who, *members, args, &mut redis).await {
                    Ok(sample) => {
                        eprintln!("bench: {at}: {sample:?}");
                        samples.push(sample);
                    }
                    Err(error) => {
                        eprintln!("bench: {at}: {error}");
                        code = ExitCode::FAILURE;
                    }
                }
            }
            print(&mut out, who, *members, &samples)?;
        }
    }
    Ok(code)
}

fn print(out: &mut impl Write, who: Who, members: u64, samples: &[Sample]) -> Result<()> {
    let median = |of: fn(&Sample) -> Option<f64>| {
        let values: Vec<f64> = samples.iter().filter_map(of).collect();
        (!values.is_empty()).then(|| Spread::of(values).median)
    };
    let body = Spread::of(samples.iter().map(|sample| sample.body_ms));
    writeln!(
        out,
        "{:<24} {:>8} {:>10} {:>10} {:>9} {:>14.1} {:>13}",
        who.title(SETTING.broker),
        grouped(members as f64),
        median(|sample| Some(sample.members_per_second)).map_or_else(|| "–".to_owned(), grouped),
        decimal(median(|sample| sample.worker_us)),
        decimal(median(|sample| sample.redis_us)),
        body.median,
        format!("{:.1}–{:.1}", body.min, body.max)
    )?;
    Ok(())
}

/// Has one worker run one chord.
async fn run(who: Who, members: u64, args: &CanvasArgs, redis: &mut MultiplexedConnection) -> Result<Sample> {
    let folder = tempfile::tempdir()?;
    redis::cmd("FLUSHALL").exec_async(redis).await?;
    let chord = Chord::new();
    let key = format!("celery-taskset-meta-{}", chord.group);
    redis::cmd("SET").arg(format!("{key}.s")).arg(members).exec_async(redis).await?;
    chord.to_broker(&broker_database(&args.worker.redis), members).await?;

    let mut listener = redis::Client::open(args.worker.redis.as_str())?.get_async_pubsub().await?;
    listener.psubscribe("celery-task-meta-*").await?;
    let lane = Lane { setting: SETTING, who };
    let worker = Process::start(&mut contender::command(lane, &args.worker, folder.path())?, folder.path())?;
    let sample = watch(&mut listener, &worker, &chord, members, redis).await.map_err(|error| {
        let words = worker.last_words();
        format!("{error}; the worker says:\n{words}")
    })?;
    wait_until_done(&format!("{key}.c"), redis).await?;
    worker.stop()?;
    let mut broker =
        redis::Client::open(broker_database(&args.worker.redis))?.get_multiplexed_async_connection().await?;
    let left: u64 = redis::cmd("LLEN").arg(QUEUE).query_async(&mut broker).await?;
    let unacknowledged: u64 = redis::cmd("HLEN").arg("unacked").query_async(&mut broker).await?;
    match left + unacknowledged {
        0 => Ok(sample),
        left => Err(format!("{left} messages are left").into()),
    }
}

/// Listens to the results until that of the body is there.
async fn watch(
    listener: &mut redis::aio::PubSub,
    worker: &Process,
    chord: &Chord,
    members: u64,
    redis: &mut MultiplexedConnection,
) -> Result<Sample> {
    let info: String = redis::cmd("INFO").arg("server").query_async(redis).await?;
    let pid = info.lines().find_map(|line| line.strip_prefix("process_id:")?.trim().parse::<u32>().ok());
    let mut family = Vec::new();
    let mut marks = Vec::new();
    let (mut done, mut last) = (0, Instant::now());
    let mut results = listener.on_message();
    loop {
        let result = tokio::time::timeout(STALL_MAX, results.next()).await;
        let result = result.map_err(|_| format!("nothing happens after {done} of {members} members"))?;
        let result = result.ok_or("Redis has closed the connection")?;
        let now = Instant::now();
        let payload: String = result.get_payload()?;
        if !payload.contains(r#""status": "SUCCESS""#) {
            return Err(format!("a task failed: {payload}").into());
        }
        if result.get_channel_name().ends_with(&chord.body) {
            let nulls = payload.matches("null").count() as u64;
            if done != members || nulls < members {
                return Err(format!("the body ran after {done} of {members} members, with {nulls} results").into());
            }
            let [first, second] = marks[..] else { return Err("that was too quick to be measured".into()) };
            return Ok(sample(first, second, members, now - last));
        }
        (done, last) = (done + 1, now);
        if done == members / 10 {
            family = worker.family();
        }
        if done == members / 10 || done == members * 9 / 10 {
            marks.push((now, process::cpu_time(&family), pid.and_then(|pid| process::cpu_time(&[pid]))));
        }
    }
}

type Mark = (Instant, Option<Duration>, Option<Duration>);

fn sample(first: Mark, second: Mark, members: u64, body: Duration) -> Sample {
    let count = (members * 9 / 10 - members / 10) as f64;
    let each = |from: Option<Duration>, to: Option<Duration>| Some((to? - from?).as_secs_f64() * 1e6 / count);
    Sample {
        members_per_second: count / (second.0 - first.0).as_secs_f64(),
        worker_us: each(first.1, second.1),
        redis_us: each(first.2, second.2),
        body_ms: body.as_secs_f64() * 1e3,
    }
}

/// Whoever has sent the body says so afterwards.
async fn wait_until_done(key: &str, redis: &mut MultiplexedConnection) -> Result<()> {
    let deadline = Instant::now() + END_MAX;
    loop {
        let claim: Option<String> = redis::cmd("GET").arg(key).query_async(redis).await?;
        if claim.as_deref() == Some("done") {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("the chord is not marked as done, but {claim:?}").into());
        }
        tokio::time::sleep(POLL).await;
    }
}
