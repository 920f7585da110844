//! How long a start with many plugins takes, and what they keep of the memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Write, stdout};
use std::path::Path;
use std::time::Instant;

use ::sandbox::{CacheConfig, Sandbox};

use super::calls::{DEMO, attempt, call, config};
use super::small;
use crate::{Result, SandboxArgs, process};

/// What the names of the demo plugin's tasks begin with, and where each copy has one of its own.
const DEMO_PREFIX: &[u8] = b"tasks.";

/// Loads what is in the folder, runs a task of it, and prints how that went.
pub(super) async fn measure(args: &SandboxArgs) -> Result<()> {
    let mut config = config(BTreeMap::new())?;
    config.cache = args.cache.as_ref().map(|dir| CacheConfig { dir: dir.join("code"), key: dir.join("key") });
    let before = process::resident_bytes();
    let cpu_before = process::own_cpu_time();
    let started = Instant::now();
    let sandbox = Sandbox::new(config)?;
    let loaded = sandbox.load_folder(&args.plugins).await;
    if let Some(refused) = loaded.refused.first() {
        return Err(format!("{} is refused: {}", refused.path.display(), refused.reason).into());
    }
    let mut names = loaded.plugins.iter().flat_map(|plugin| plugin.tasks.iter().map(|task| task.spec.name.as_str()));
    let task = names.rfind(|name| name.ends_with(".noop")).ok_or("no plugin has a task that does nothing")?;
    call(&sandbox, &attempt(&loaded, task)?).await?;
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = process::own_cpu_time().zip(cpu_before).map(|(after, before)| (after - before).as_secs_f64());
    let cpu = cpu.map_or(String::new(), |cpu| format!(" (CPU {cpu:.2} s)"));
    const MIB: f64 = (1 << 20) as f64;
    let resident = process::resident_bytes().zip(before).map_or(String::new(), |(after, before)| {
        let (all, each) = (after as f64 / MIB, after.saturating_sub(before) / loaded.plugins.len() as u64 / 1024);
        format!("   resident {all:.0} MiB, {each} KiB for each")
    });
    Ok(writeln!(stdout(), "{elapsed:>6.2} s{cpu}{resident}")?)
}

/// Components with a few instructions and one task each.
pub(super) fn write_small(folder: &Path, count: usize) -> Result<()> {
    for number in 0..count {
        let name = format!("small{number:04}");
        fs::write(folder.join(format!("{name}.wasm")), small::component(&format!("{name}.noop"))?)?;
    }
    Ok(())
}

/// Copies of the demo plugin whose tasks have names of their own.
pub(super) fn write_demo(folder: &Path, plugins: &Path, count: usize) -> Result<()> {
    let demo = fs::read(plugins.join(DEMO).join("demo.wasm"))?;
    for number in 0..count {
        let prefix = format!("d{number:04}.");
        let mut copy = demo.clone();
        let mut at = 0;
        while let Some(found) = copy[at..].windows(DEMO_PREFIX.len()).position(|bytes| bytes == DEMO_PREFIX) {
            at += found;
            copy[at..at + DEMO_PREFIX.len()].copy_from_slice(prefix.as_bytes());
            at += DEMO_PREFIX.len();
        }
        fs::write(folder.join(format!("demo{number:04}.wasm")), copy)?;
    }
    Ok(())
}
