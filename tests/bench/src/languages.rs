//! What a plugin costs in each language: the same plugin, loaded, called in fresh and in reused instances, and waiting.
//!
//! Each language is measured in a process of its own, since memory that one has used is not given back before the next.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::future;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::str::FromStr;
use std::time::{Duration, Instant};

use ::sandbox::{CacheConfig, Sandbox};
use futures_util::future::join_all;
use taskhost_core::{Attempt, Json, Outcome};

use crate::sandbox::calls::{attempt, config};
use crate::table::Spread;
use crate::{LanguagesArgs, Result, process};

/// What is called: two numbers are read, and one is written.
const TASK: &str = "contract.add";
const ARGS: &str = "[20, 22]";
/// What waits: a task that looks again and again whether it is to end.
const WAITING_TASK: &str = "contract.graceful";
const WAITING_ARGS: &str = "[1.5]";
/// So many of them wait at a time.
const WAITING: usize = 32;
/// When all of them have started and none has ended.
const WAITED: Duration = Duration::from_millis(1_000);
const WARM_UP_CALLS: usize = 200;
const MIB: f64 = (1 << 20) as f64;

/// A component and the language that it was written in.
#[derive(Debug, Clone)]
pub(crate) struct Plugin {
    name: String,
    component: PathBuf,
}

impl FromStr for Plugin {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, component) = text.split_once('=').ok_or("expected LANGUAGE=FILE")?;
        Ok(Self { name: name.to_owned(), component: component.into() })
    }
}

/// Measures every language in turn and prints a table, or this one, and prints a row.
pub(crate) async fn measure(args: &LanguagesArgs) -> Result<ExitCode> {
    if args.row {
        for plugin in &args.plugins {
            row(plugin, args.calls).await?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let load = process::load().map_or(String::new(), |load| format!(", load {load:.1}"));
    let calls = args.calls;
    writeln!(stdout(), "`{TASK}` on one thread, {calls} calls{load}; µs are medians\n")?;
    writeln!(
        stdout(),
        "| language | component | load, compiled | load, from the cache | fresh attempt | of it CPU | reused attempt | \
         memory of an instance | resident while it waits |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    )?;
    for plugin in &args.plugins {
        let mut command = Command::new(env::current_exe()?);
        let given = format!("{}={}", plugin.name, plugin.component.display());
        let status = command.args(["languages", "--row", "--calls", &calls.to_string(), &given]).status()?;
        if !status.success() {
            return Err(format!("{} ended with {status}", plugin.name).into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn row(plugin: &Plugin, calls: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let size = fs::metadata(&plugin.component)?.len();
    let fresh = folder.path().join("fresh");
    put(&plugin.component, &fresh, "")?;
    let (compiled, sandbox) = load(&fresh, folder.path(), 1).await?;
    drop(sandbox);
    let (cached, sandbox) = load(&fresh, folder.path(), 1).await?;
    let (whole, cpu, memory) = call_again_and_again(&sandbox, &fresh, calls).await?;
    drop(sandbox);
    let reused = folder.path().join("reused");
    put(&plugin.component, &reused, &format!("[instance]\nreuse = {}\n", u32::MAX))?;
    let (_, sandbox) = load(&reused, folder.path(), 1).await?;
    let (reused, _, _) = call_again_and_again(&sandbox, &reused, calls).await?;
    // One that keeps something of the host's is not used again.
    let reused = if sandbox.idle_instances() > 0 { format!("{reused:.1} µs") } else { "not reused".to_owned() };
    drop(sandbox);
    let waiting = waiting(&fresh, folder.path()).await?;
    let waiting = waiting.map_or("–".to_owned(), |bytes| format!("{:.2} MiB", bytes / MIB));
    Ok(writeln!(
        stdout(),
        "| {} | {} KiB | {:.2} s | {:.1} ms | {whole:.0} µs | {cpu:.0} µs | {reused} | {:.1} MiB | {waiting} |",
        plugin.name,
        size.div_ceil(1024),
        compiled.as_secs_f64(),
        cached.as_secs_f64() * 1e3,
        memory as f64 / MIB,
    )?)
}

/// A folder of plugins with this one, under a manifest that ends with this.
fn put(component: &Path, folder: &Path, manifest: &str) -> Result<()> {
    let plugin = folder.join("contract");
    fs::create_dir_all(&plugin)?;
    fs::copy(component, plugin.join("contract.wasm"))?;
    Ok(fs::write(plugin.join("plugin.toml"), format!("name = \"contract\"\n{manifest}"))?)
}

/// How long it takes until the plugins of a folder are served.
async fn load(plugins: &Path, cache: &Path, concurrency: usize) -> Result<(Duration, Sandbox)> {
    let mut config = config(BTreeMap::new())?;
    config.concurrency = concurrency;
    config.cache = Some(CacheConfig { dir: cache.join("code"), key: cache.join("key") });
    let sandbox = Sandbox::new(config)?;
    let started = Instant::now();
    let loaded = sandbox.load_folder(plugins).await;
    let elapsed = started.elapsed();
    match loaded.refused.first() {
        Some(refused) => Err(format!("{} is refused: {}", refused.path.display(), refused.reason).into()),
        None => Ok((elapsed, sandbox)),
    }
}

/// The median of a call and its CPU time in µs, and the memory of the guest in bytes.
async fn call_again_and_again(sandbox: &Sandbox, plugins: &Path, calls: usize) -> Result<(f64, f64, u64)> {
    let attempt = of_task(sandbox, plugins, TASK, ARGS).await?;
    let mut memory = 0;
    for _ in 0..WARM_UP_CALLS {
        memory = memory.max(succeed(sandbox, &attempt).await?);
    }
    let before = process::own_cpu_time();
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let started = Instant::now();
        succeed(sandbox, &attempt).await?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    let cpu = process::own_cpu_time().zip(before).map(|(after, before)| after - before).unwrap_or_default();
    Ok((Spread::of(times).median, cpu.as_secs_f64() * 1e6 / calls.max(1) as f64, memory))
}

/// What one instance keeps of the machine's memory while it waits.
async fn waiting(plugins: &Path, cache: &Path) -> Result<Option<f64>> {
    let (_, sandbox) = load(plugins, cache, WAITING).await?;
    let attempt = of_task(&sandbox, plugins, WAITING_TASK, WAITING_ARGS).await?;
    // What the first one loads is everybody's.
    let all = join_all((0..2).map(|_| succeed(&sandbox, &attempt)));
    all.await.into_iter().collect::<Result<Vec<_>>>()?;
    let before = process::resident_bytes();
    let attempts = join_all((0..WAITING).map(|_| succeed(&sandbox, &attempt)));
    let look = async {
        tokio::time::sleep(WAITED).await;
        process::resident_bytes()
    };
    let (ended, resident) = tokio::join!(attempts, look);
    ended.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(resident.zip(before).map(|(now, before)| now.saturating_sub(before) as f64 / WAITING as f64))
}

async fn of_task(sandbox: &Sandbox, plugins: &Path, task: &str, args: &str) -> Result<Attempt> {
    let loaded = sandbox.load_folder(plugins).await;
    let mut attempt = attempt(&loaded, task)?;
    let request = std::sync::Arc::get_mut(&mut attempt.request).ok_or("nobody else has the request")?;
    request.args = Json::parse(args.to_owned())?;
    Ok(attempt)
}

/// The memory of the guest in bytes.
async fn succeed(sandbox: &Sandbox, attempt: &Attempt) -> Result<u64> {
    let finished = sandbox.invoke(attempt.clone(), future::pending()).await;
    match finished.outcome {
        Outcome::Success(_) => Ok(finished.usage.memory_bytes_peak),
        other => Err(format!("{} did not succeed: {other:?}", attempt.spec.name).into()),
    }
}
