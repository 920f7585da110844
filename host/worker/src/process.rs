//! What the system says about this process, under the names of Python's `resource` module.
//!
//! Linux only: elsewhere nobody is asked, and whoever wants to know is told that.

use std::fmt::Write as _;

use taskhost_core::Json;

/// `resource.getrusage(RUSAGE_SELF)` with all its sixteen fields (celery/worker/worker.py `rusage`); `"N/A"` where
/// nobody knows.
#[cfg(target_os = "linux")]
pub(crate) fn usage() -> Json {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let threads: Vec<String> =
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok()).collect();
    linux::usage(&read("stat"), &read("status"), &read("io"), &threads)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn usage() -> Json {
    Json::text("N/A")
}

/// Memory that this process has now, in bytes.
#[cfg(target_os = "linux")]
pub(crate) fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    linux::field(&status, "VmRSS:").map(|kilobytes| kilobytes * 1024)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn memory() -> Option<u64> {
    None
}

/// A size as Celery shows one: five digits and a unit (celery/utils/debug.py `humanbytes`).
pub(crate) fn human_bytes(bytes: u64) -> String {
    let (size, unit) = match bytes {
        0x4000_0000.. => (bytes as f64 / 1024_f64.powi(3), "GB"),
        0x10_0000.. => (bytes as f64 / 1024_f64.powi(2), "MB"),
        0x400.. => (bytes as f64 / 1024.0, "KB"),
        _ => (bytes as f64, "B"),
    };
    let before = (size.max(1.0).log10() as usize) + 1;
    let mut text = String::new();
    let _ = write!(text, "{size:.*}", 5_usize.saturating_sub(before));
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text + unit
}

#[cfg(target_os = "linux")]
mod linux {
    use taskhost_core::Json;
    use taskhost_core::protocol::content::MapWriter;

    /// Ticks of the times in `/proc`: the same on every machine that runs this.
    const TICKS_PER_SECOND: f64 = 100.0;
    /// What Linux counts blocks of files in.
    const BLOCK_BYTES: u64 = 512;

    pub(super) fn usage(stat: &str, status: &str, io: &str, threads: &[String]) -> Json {
        // The name in brackets may hold anything.
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let numbers: Vec<u64> = after_name.split(' ').map(|word| word.parse().unwrap_or(0)).collect();
        // proc_pid_stat(5) counts from 1, and the first of these is its third.
        let number = |place: usize| numbers.get(place - 3).copied().unwrap_or(0);
        let switches = |key: &str| threads.iter().filter_map(|thread| field(thread, key)).sum::<u64>();
        let blocks = |key: &str| field(io, key).unwrap_or(0) / BLOCK_BYTES;
        let mut usage = MapWriter::new();
        usage
            .put("utime", &(number(14) as f64 / TICKS_PER_SECOND))
            .put("stime", &(number(15) as f64 / TICKS_PER_SECOND))
            .put("maxrss", &field(status, "VmHWM:").unwrap_or(0));
        for unknown in ["ixrss", "idrss", "isrss"] {
            usage.put(unknown, &0_u64);
        }
        usage.put("minflt", &number(10)).put("majflt", &number(12)).put("nswap", &0_u64);
        usage.put("inblock", &blocks("read_bytes:")).put("oublock", &blocks("write_bytes:"));
        for unknown in ["msgsnd", "msgrcv", "nsignals"] {
            usage.put(unknown, &0_u64);
        }
        usage
            .put("nvcsw", &switches("voluntary_ctxt_switches:"))
            .put("nivcsw", &switches("nonvoluntary_ctxt_switches:"));
        usage.finish()
    }

    /// The number behind a key at the beginning of a line.
    pub(super) fn field(text: &str, key: &str) -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_as_celery_shows_them() {
        for (bytes, shown) in [
            (64_085_000, "61.116MB"),
            (1 << 20, "1MB"),
            (5_500_000_000, "5.1223GB"),
            (123_456_789, "117.74MB"),
            (2048, "2KB"),
            (7, "7B"),
        ] {
            assert_eq!(human_bytes(bytes), shown);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn usage_is_read_from_what_the_kernel_writes() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 6239 0 7 0 104 26 0 0 20 0 9 0 1 2 3";
        let status = "Name:\thost\nVmHWM:\t   33296 kB\nVmRSS:\t   100 kB\n";
        let io = "rchar: 1\nread_bytes: 270336\nwrite_bytes: 8192\n";
        let thread = "voluntary_ctxt_switches:\t16\nnonvoluntary_ctxt_switches:\t13\n".to_owned();
        let usage = linux::usage(stat, status, io, &[thread.clone(), thread]);
        assert_eq!(
            usage.to_string(),
            r#"{"utime": 1.04, "stime": 0.26, "maxrss": 33296, "ixrss": 0, "idrss": 0, "isrss": 0, "minflt": 6239, "majflt": 7, "nswap": 0, "inblock": 528, "oublock": 16, "msgsnd": 0, "msgrcv": 0, "nsignals": 0, "nvcsw": 32, "nivcsw": 26}"#
        );
        assert!(memory().is_some_and(|bytes| bytes > 100_000));
        assert_eq!(super::usage().members().count(), 16);
    }
}
