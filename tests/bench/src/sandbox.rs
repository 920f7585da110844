//! What one attempt costs in the sandbox: instantiate, call and drop, with nothing around it.

use std::future;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::sandbox::{Config, Limits, Sandbox};
use taskhost_core::{
    Attempt, AttemptId, Codec, DeliveryId, DeliveryInfo, NodeName, Outcome, Policy, QueueName, Request, TaskName,
    Timestamp,
};

use crate::publish::{NOOP, QUEUE, noop};
use crate::table::Spread;
use crate::{Result, SandboxArgs, process};

/// Calls until caches, branch predictors and the pool are as in a worker that has run for a while.
const WARM_UP_CALLS: usize = 5_000;

/// Measures and prints.
pub(crate) async fn measure(args: &SandboxArgs) -> Result<ExitCode> {
    let hostname = NodeName::parse("bench@localhost")?;
    let sandbox = Sandbox::new(Config {
        concurrency: 1,
        hostname,
        limits: Limits::default(),
        grants: Default::default(),
        cache: None,
        scratch_dir: None,
    })?;
    let attempt = attempt(&sandbox, args).await?;
    for _ in 0..WARM_UP_CALLS {
        call(&sandbox, &attempt).await?;
    }
    let mut whole = Vec::with_capacity(args.calls);
    let mut inside = Vec::with_capacity(args.calls);
    for _ in 0..args.calls {
        let started = Instant::now();
        inside.push(call(&sandbox, &attempt).await?);
        whole.push(started.elapsed());
    }
    let pool = if sandbox.is_pooled() { "instances from a pool" } else { "no pool: instances are allocated on demand" };
    let load = process::load().map_or(String::new(), |load| format!(", load {load:.1}"));
    writeln!(stdout(), "no-op task in the sandbox, one thread, {} calls ({pool}; {}{load})", args.calls, kernel())?;
    let line = |what: &str, times: &[Duration]| -> Result<()> {
        let Spread { median, p90, .. } = Spread::of(times.iter().map(|time| time.as_secs_f64() * 1e6));
        Ok(writeln!(stdout(), "  {what:<28} median {median:>6.2} µs   p90 {p90:>6.2} µs")?)
    };
    line("instantiate + call + drop", &whole)?;
    line("of it instantiate + call", &inside)?;
    Ok(ExitCode::SUCCESS)
}

/// One call; how long the guest was being instantiated and ran.
async fn call(sandbox: &Sandbox, attempt: &Attempt) -> Result<Duration> {
    let finished = sandbox.invoke(attempt.clone(), future::pending()).await;
    match finished.outcome {
        Outcome::Success(_) => Ok(finished.usage.cpu),
        other => Err(format!("{NOOP} did not succeed: {other:?}").into()),
    }
}

async fn attempt(sandbox: &Sandbox, args: &SandboxArgs) -> Result<Attempt> {
    let loaded = sandbox.load_folder(&args.plugins).await;
    let spec = loaded.catalog.get(&TaskName::parse(NOOP)?);
    let spec = spec.ok_or_else(|| format!("no plugin has {NOOP}; refused: {:?}", loaded.refused))?;
    let queue = QueueName::parse(QUEUE)?;
    let info = DeliveryInfo { queue, exchange: String::new(), routing_key: QUEUE.to_owned(), redelivered: false };
    Ok(Attempt {
        id: AttemptId(0),
        delivery: DeliveryId(0),
        request: Arc::new(Request::decode(noop(false)?, info, &Codec::default())?),
        spec: Arc::clone(spec),
        call: None,
        pinned: None,
        started: Timestamp::from_micros(0),
        time_limit: Duration::from_secs(60),
        soft_time_limit: None,
        policy: Policy::default(),
    })
}

/// The kernel decides whether the pool can ask which pages were touched (PAGEMAP_SCAN, Linux 6.7).
fn kernel() -> String {
    let Ok(release) = std::fs::read_to_string("/proc/sys/kernel/osrelease") else { return "not Linux".to_owned() };
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let scan = if version >= (6, 7) { "with" } else { "without" };
    format!("Linux {}.{} {scan} pagemap_scan", version.0, version.1)
}
