//! What is measured, and on what, in words: numbers mean nothing without.

use std::fs;
use std::process::Command;

use crate::WorkerArgs;

/// `2 x Intel Xeon, Linux 6.1`.
pub(crate) fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (cpuinfo, kernel) = (read("/proc/cpuinfo"), read("/proc/sys/kernel/osrelease"));
    let model = cpuinfo.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(": ")?.1));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{processors} x {}, {} {}", model.unwrap_or(std::env::consts::ARCH), std::env::consts::OS, kernel.trim())
}

/// The host's version and Celery's, as they say themselves.
pub(crate) fn programs(args: &WorkerArgs) -> String {
    let host = said(Command::new(&args.host).arg("--version"));
    let celery = args.python.as_ref().map(|python| said(Command::new(python).args(["-m", "celery", "--version"])));
    match celery {
        Some(celery) => format!("{host}, Celery {celery}"),
        None => format!("{host}, no Celery"),
    }
}

fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output).trim().to_owned();
    if text.is_empty() { "of unknown version".to_owned() } else { text }
}
