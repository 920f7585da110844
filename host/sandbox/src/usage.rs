//! What the attempts of one version of a plugin have used, added up for each task.
//!
//! Counters without a lock, each right by itself: a report that is made while attempts end may have one of
//! them half.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use taskhost_core::{Finished, Outcome, PluginName, PluginVersion, TaskName};

/// The tasks of one version of a plugin with what they used since it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginUsage {
    pub plugin: PluginName,
    pub version: PluginVersion,
    pub tasks: Vec<(TaskName, Sum)>,
}

/// What attempts used together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    pub attempts: u64,
    /// Those that raised an exception, ran out of time or were ended by the sandbox.
    pub failures: u64,
    /// Of the failures those that the sandbox or a time limit ended.
    pub traps: u64,
    pub wall: Duration,
    pub cpu: Duration,
    /// Of the one that had most.
    pub memory_bytes_peak: u64,
    pub host_calls: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl PluginUsage {
    /// All tasks together.
    pub fn whole(&self) -> Sum {
        self.tasks.iter().fold(Sum::default(), |sum, (_, task)| sum.plus(task))
    }
}

impl Sum {
    fn plus(self, other: &Self) -> Self {
        Self {
            attempts: self.attempts + other.attempts,
            failures: self.failures + other.failures,
            traps: self.traps + other.traps,
            wall: self.wall + other.wall,
            cpu: self.cpu + other.cpu,
            memory_bytes_peak: self.memory_bytes_peak.max(other.memory_bytes_peak),
            host_calls: self.host_calls + other.host_calls,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
        }
    }
}

/// The counters of one version of a plugin.
#[derive(Debug, Default)]
pub(crate) struct Totals(Vec<(TaskName, Counters)>);

#[derive(Debug, Default)]
struct Counters {
    attempts: AtomicU64,
    failures: AtomicU64,
    traps: AtomicU64,
    wall_ns: AtomicU64,
    cpu_ns: AtomicU64,
    memory_bytes_peak: AtomicU64,
    host_calls: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Totals {
    pub(crate) fn new(tasks: impl IntoIterator<Item = TaskName>) -> Self {
        let mut counters: Vec<_> = tasks.into_iter().map(|task| (task, Counters::default())).collect();
        counters.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        Self(counters)
    }

    pub(crate) fn add(&self, task: &TaskName, finished: &Finished) {
        let Ok(at) = self.0.binary_search_by(|(known, _)| known.as_str().cmp(task.as_str())) else { return };
        let (counters, usage) = (&self.0[at].1, &finished.usage);
        let (failed, trapped) = match finished.outcome {
            Outcome::Failure(..) => (true, false),
            Outcome::TimedOut(_) | Outcome::Trapped(_) => (true, true),
            _ => (false, false),
        };
        counters.attempts.fetch_add(1, Relaxed);
        if failed {
            counters.failures.fetch_add(1, Relaxed);
            counters.traps.fetch_add(trapped.into(), Relaxed);
        }
        counters.wall_ns.fetch_add(nanoseconds(usage.wall), Relaxed);
        counters.cpu_ns.fetch_add(nanoseconds(usage.cpu), Relaxed);
        counters.memory_bytes_peak.fetch_max(usage.memory_bytes_peak, Relaxed);
        counters.host_calls.fetch_add(usage.host_calls, Relaxed);
        counters.bytes_in.fetch_add(usage.bytes_in, Relaxed);
        counters.bytes_out.fetch_add(usage.bytes_out, Relaxed);
    }

    pub(crate) fn read(&self) -> Vec<(TaskName, Sum)> {
        self.0.iter().map(|(task, counters)| (task.clone(), counters.read())).collect()
    }
}

impl Counters {
    fn read(&self) -> Sum {
        Sum {
            attempts: self.attempts.load(Relaxed),
            failures: self.failures.load(Relaxed),
            traps: self.traps.load(Relaxed),
            wall: Duration::from_nanos(self.wall_ns.load(Relaxed)),
            cpu: Duration::from_nanos(self.cpu_ns.load(Relaxed)),
            memory_bytes_peak: self.memory_bytes_peak.load(Relaxed),
            host_calls: self.host_calls.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use taskhost_core::{Json, Limit, Trap, Usage};

    use super::*;

    #[test]
    fn attempts_are_added_up_for_each_task_and_for_the_plugin() {
        let name = |name| TaskName::parse(name).expect("a name");
        let totals = Totals::new([name("b"), name("a")]);
        let add = |task, outcome, memory_bytes_peak| {
            let wall = Duration::from_secs(2);
            let usage = Usage { wall, memory_bytes_peak, host_calls: 3, bytes_in: 5, bytes_out: 7, ..Usage::default() };
            totals.add(&name(task), &Finished::alone(outcome, usage));
        };
        add("a", Outcome::Success(Json::null()), 10);
        add("a", Outcome::Trapped(Trap::StackOverflow), 30);
        add("b", Outcome::TimedOut(Limit::Hard(Duration::ZERO)), 20);
        add("unknown", Outcome::Ignored, 1000);

        let plugin = PluginName::parse("p").expect("a name");
        let usage = PluginUsage { plugin, version: PluginVersion::of("a"), tasks: totals.read() };
        let told: Vec<_> = usage.tasks.iter().map(|(task, sum)| (task.as_str(), sum.attempts, sum.traps)).collect();
        assert_eq!(told, [("a", 2, 1), ("b", 1, 1)]);
        let whole = usage.whole();
        assert_eq!((whole.attempts, whole.failures, whole.memory_bytes_peak), (3, 2, 30));
        assert_eq!((whole.wall, whole.host_calls), (Duration::from_secs(6), 9));
        assert_eq!((whole.bytes_in, whole.bytes_out), (15, 21));
    }
}
