//! Worker processes: started, watched from /proc, and ended by their ids.
//!
//! CPU time is read on Linux only; elsewhere there is none to report.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// How long a worker may take to finish what it began.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// How much of a worker's output is worth showing when something is wrong, in bytes.
const OUTPUT_SHOWN_BYTES: usize = 2_000;

/// A worker that runs; ended with all its children when dropped.
pub(crate) struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts it in `folder`, where its output goes as well.
    pub(crate) fn start(command: &mut Command, folder: &Path) -> Result<Self> {
        let output = folder.join("output.log");
        let file = File::create(&output)?;
        command.current_dir(folder).stdin(Stdio::null()).stderr(file.try_clone()?).stdout(file);
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| format!("start {name}: {error}"))?;
        Ok(Self { child, output })
    }

    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// It and its descendants.
    pub(crate) fn family(&self) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for pid in all() {
            if let Some(parent) = parent(pid) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut family = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = family.get(next) {
            family.extend(children.remove(pid).unwrap_or_default());
            next += 1;
        }
        family
    }

    /// The end of what it printed.
    pub(crate) fn last_words(&self) -> String {
        let output = fs::read(&self.output).unwrap_or_default();
        let start = output.len().saturating_sub(OUTPUT_SHOWN_BYTES);
        String::from_utf8_lossy(&output[start..]).trim().to_owned()
    }

    /// Asks it to finish, and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        let family = self.family();
        signal(self.child.id(), Signal::Term);
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(format!("the worker did not end within {} s", PATIENCE.as_secs()).into());
            }
            thread::sleep(POLL);
        }
        kill(&family[1..]);
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let family = self.family();
            let _ = self.child.kill();
            let _ = self.child.wait();
            kill(&family[1..]);
        }
    }
}

/// CPU time of processes so far, user and system, in nanoseconds: the sum over their threads, since the sum that the
/// kernel keeps for a process (`/proc/<pid>/stat`) has hundredths of a second. A thread that ends takes its own along;
/// none of the workers' do while they are measured.
pub(crate) fn cpu_time(pids: &[u32]) -> Option<Duration> {
    let mut nanos = 0;
    for pid in pids {
        for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            // One that ended meanwhile has no file any more.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
            nanos += text.split(' ').next()?.parse::<u64>().ok()?;
        }
    }
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}

/// CPU time of this process so far, threads that have ended included.
#[cfg(unix)]
pub(crate) fn own_cpu_time() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

#[cfg(not(unix))]
pub(crate) fn own_cpu_time() -> Option<Duration> {
    None
}

/// How much of the memory this process has now.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The process whose command line contains all of these.
pub(crate) fn find(words: &[&str]) -> Option<u32> {
    all().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        words.iter().all(|word| line.contains(word))
    })
}

/// How many processes wanted a processor in the last minute, on average.
pub(crate) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // 4711 (any ) name) S 1234 ..
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[derive(Clone, Copy)]
enum Signal {
    Term,
    Kill,
}

fn kill(pids: &[u32]) {
    pids.iter().for_each(|pid| signal(*pid, Signal::Kill));
}

/// A process that has ended already is as good.
#[cfg(unix)]
fn signal(pid: u32, signal: Signal) {
    let signal = match signal {
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
    };
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

#[cfg(not(unix))]
fn signal(pid: u32, signal: Signal) {
    let force: &[&str] = match signal {
        Signal::Term => &[],
        Signal::Kill => &["/F"],
    };
    let mut command = Command::new("taskkill");
    let _ = command.args(force).args(["/PID", &pid.to_string()]).stdout(Stdio::null()).stderr(Stdio::null()).status();
}
