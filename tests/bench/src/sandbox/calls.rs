//! Calls one task again and again, and says how long that took.
//!
//! Used by every part: a part differs in what the plugin is.

use std::collections::BTreeMap;
use std::fs;
use std::future;
use std::io::{Write, stdout};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::sandbox::{Config, Grant, Limits, Loaded, Sandbox};
use taskhost_core::{
    Attempt, AttemptId, Codec, DeliveryId, DeliveryInfo, NodeName, Outcome, PluginName, Policy, QueueName, Request,
    TaskName, Timestamp,
};

use crate::publish::{NOOP, QUEUE, noop};
use crate::table::Spread;
use crate::{Result, SandboxArgs, process};

/// Calls until caches, branch predictors and the pool are as in a worker that has run for a while.
const WARM_UP_CALLS: usize = 5_000;

/// The plugin whose task is called.
pub(super) const DEMO: &str = "demo";

/// One way to run a task, and what its calls took.
pub(super) struct Subject {
    name: String,
    sandbox: Sandbox,
    attempt: Attempt,
    whole: Vec<Duration>,
    inside: Vec<Duration>,
    cpu: Option<Duration>,
}

/// Measures the demo plugin with an instance for each call, and with one for all.
pub(super) async fn measure(args: &SandboxArgs) -> Result<()> {
    let mut fresh = Subject::load(String::new(), &args.plugins, BTreeMap::new()).await?;
    let pooled = fresh.sandbox.is_pooled();
    fresh.name = if pooled { "fresh from the pool" } else { "fresh, without a pool" }.to_owned();
    fresh.warm_up(WARM_UP_CALLS).await?;
    fresh.call(args.calls).await?;
    fresh.print(None)?;
    fresh.print_inside()?;
    if let Some(noop) = &args.noop {
        // Each interface that a component imports is a part of every instance.
        let folder = tempfile::tempdir()?;
        fs::copy(noop, folder.path().join("noop.wasm"))?;
        let mut alone = Subject::load("of a plugin with no more".to_owned(), folder.path(), BTreeMap::new()).await?;
        alone.warm_up(WARM_UP_CALLS).await?;
        alone.call(args.calls).await?;
        alone.print(Some(fresh.median_us()))?;
        alone.print_inside()?;
    }
    if pooled {
        let folder = tempfile::tempdir()?;
        copy_demo(&args.plugins, folder.path(), &format!("[instance]\nreuse = {}\n", u32::MAX))?;
        let mut reused = Subject::load("reused".to_owned(), folder.path(), BTreeMap::new()).await?;
        reused.warm_up(WARM_UP_CALLS).await?;
        reused.call(args.calls).await?;
        reused.print(Some(fresh.median_us()))?;
        reused.print_inside()?;
    }
    Ok(())
}

/// Puts the demo plugin into a folder of plugins, with a manifest that ends with this.
pub(super) fn copy_demo(plugins: &Path, folder: &Path, manifest: &str) -> Result<()> {
    let copy = folder.join(DEMO);
    fs::create_dir_all(&copy)?;
    fs::copy(plugins.join(DEMO).join("demo.wasm"), copy.join("demo.wasm"))?;
    fs::write(copy.join("plugin.toml"), format!("name = \"{DEMO}\"\n{manifest}"))?;
    Ok(())
}

impl Subject {
    /// Serves a folder with the demo plugin.
    pub(super) async fn load(name: String, plugins: &Path, grants: BTreeMap<PluginName, Grant>) -> Result<Self> {
        let sandbox = Sandbox::new(config(grants)?)?;
        let loaded = sandbox.load_folder(plugins).await;
        let attempt = attempt(&loaded, NOOP)?;
        Ok(Self { name, sandbox, attempt, whole: Vec::new(), inside: Vec::new(), cpu: Some(Duration::ZERO) })
    }

    /// Calls without measuring.
    pub(super) async fn warm_up(&self, calls: usize) -> Result<()> {
        for _ in 0..calls {
            call(&self.sandbox, &self.attempt).await?;
        }
        Ok(())
    }

    pub(super) async fn call(&mut self, calls: usize) -> Result<()> {
        let before = process::own_cpu_time();
        for _ in 0..calls {
            let started = Instant::now();
            self.inside.push(call(&self.sandbox, &self.attempt).await?);
            self.whole.push(started.elapsed());
        }
        let used = process::own_cpu_time().zip(before).map(|(after, before)| after - before);
        self.cpu = self.cpu.zip(used).map(|(sum, used)| sum + used);
        Ok(())
    }

    pub(super) fn median_us(&self) -> f64 {
        spread(&self.whole).median
    }

    /// One line; beside another one's median as well.
    pub(super) fn print(&self, beside_us: Option<f64>) -> Result<()> {
        let Spread { median, p90, .. } = spread(&self.whole);
        let cpu = self.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / self.whole.len().max(1) as f64);
        let cpu = cpu.map_or(String::new(), |cpu| format!("   CPU {cpu:>6.2} µs"));
        let ratio = beside_us.map_or(String::new(), |beside| format!("   × {:.2}", median / beside));
        Ok(writeln!(stdout(), "  {:<28} median {median:>6.2} µs   p90 {p90:>6.2} µs{cpu}{ratio}", self.name)?)
    }

    fn print_inside(&self) -> Result<()> {
        let Spread { median, p90, .. } = spread(&self.inside);
        let what = "  of it instantiate + call";
        Ok(writeln!(stdout(), "  {what:<28} median {median:>6.2} µs   p90 {p90:>6.2} µs")?)
    }
}

fn spread(times: &[Duration]) -> Spread {
    Spread::of(times.iter().map(|time| time.as_secs_f64() * 1e6))
}

/// A sandbox for one attempt at a time.
pub(crate) fn config(grants: BTreeMap<PluginName, Grant>) -> Result<Config> {
    let hostname = NodeName::parse("bench@localhost")?;
    Ok(Config {
        concurrency: 1,
        hostname,
        limits: Limits::default(),
        grants,
        cache: None,
        scratch_dir: None,
        wasi_0_3: false,
    })
}

/// One call; how long the guest was being instantiated and ran.
pub(super) async fn call(sandbox: &Sandbox, attempt: &Attempt) -> Result<Duration> {
    let finished = sandbox.invoke(attempt.clone(), future::pending()).await;
    match finished.outcome {
        Outcome::Success(_) => Ok(finished.usage.cpu),
        other => Err(format!("{} did not succeed: {other:?}", attempt.spec.name).into()),
    }
}

/// An attempt of a task that was loaded, with the request of the one that does nothing.
pub(crate) fn attempt(loaded: &Loaded, task: &str) -> Result<Attempt> {
    let name = TaskName::parse(task)?;
    let spec = loaded.catalog.get(&name);
    let spec = spec.ok_or_else(|| format!("no plugin has {task}; refused: {:?}", loaded.refused))?;
    let queue = QueueName::parse(QUEUE)?;
    let info = DeliveryInfo { queue, exchange: String::new(), routing_key: QUEUE.to_owned(), redelivered: false };
    let mut request = Request::decode(noop(false)?, info, &Codec::default())?;
    request.task = name;
    Ok(Attempt {
        id: AttemptId(0),
        delivery: DeliveryId(0),
        request: Arc::new(request),
        spec: Arc::clone(spec),
        call: None,
        pinned: None,
        started: Timestamp::from_micros(0),
        time_limit: Duration::from_secs(60),
        soft_time_limit: None,
        policy: Policy::default(),
    })
}
