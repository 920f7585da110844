//! What happened to tasks, counted for each task and version of its plugin, with how long it took.
//!
//! Counters without a lock; the table of them has one, which is taken to read but for the first event of a version.
//! Writes no page: whoever shows the numbers reads them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustc_hash::FxHashMap;
use taskhost_core::{Event, Happening, PluginName, PluginVersion, TaskName, TaskSpec, Usage};

/// Versions of a task that are counted apart, the newest ones. What a plugin was that was replaced since is history.
const VERSIONS_MAX: usize = 4;

/// Tasks and versions altogether: a bound for the page and for whoever stores it.
const SERIES_MAX: usize = 5_000;

/// Upper bounds of the buckets of times, in nanoseconds: from a task that only adds to one of half an hour.
const TIMES: [u64; 18] = [
    100_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    60_000_000_000,
    300_000_000_000,
    1_800_000_000_000,
];

/// Upper bounds of the buckets of sizes, in bytes.
const SIZES: [u64; 12] = [
    64 << 10,
    256 << 10,
    1 << 20,
    2 << 20,
    4 << 20,
    8 << 20,
    16 << 20,
    32 << 20,
    64 << 20,
    128 << 20,
    512 << 20,
    2 << 30,
];

/// What is counted, by the names that monitors know.
pub const OCCURRENCES: [&str; 14] = [
    "received",
    "started",
    "succeeded",
    "failed",
    "retried",
    "rejected",
    "ignored",
    "lost",
    "revoked",
    "expired",
    "unregistered",
    "parked",
    "dead_lettered",
    "interrupted",
];

/// All counts of a worker.
#[derive(Debug, Default)]
pub struct Tally {
    table: RwLock<Table>,
    /// Events of tasks that no plugin has: their names are anybody's, and would be as many as he likes.
    unknown: Series,
}

#[derive(Debug, Default)]
struct Table {
    /// The versions of each task, the oldest first.
    tasks: FxHashMap<TaskName, Vec<(PluginVersion, Arc<Series>)>>,
    /// The oldest first.
    order: VecDeque<Key>,
}

type Key = (TaskName, PluginVersion);

#[derive(Debug, Default)]
struct Series {
    plugin: Option<PluginName>,
    occurrences: [AtomicU64; OCCURRENCES.len()],
    waited: Histogram<{ TIMES.len() + 1 }>,
    wall: Histogram<{ TIMES.len() + 1 }>,
    cpu: Histogram<{ TIMES.len() + 1 }>,
    memory: Histogram<{ SIZES.len() + 1 }>,
}

/// The counts of one task in one version of its plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskTally {
    /// None: all tasks that no plugin has.
    pub task: Option<(TaskName, PluginName, PluginVersion)>,
    /// As in [`OCCURRENCES`].
    pub occurrences: [u64; OCCURRENCES.len()],
    /// From being received, or from its ETA, to the start.
    pub waited: Distribution,
    pub wall: Distribution,
    pub cpu: Distribution,
    pub memory: Distribution,
}

/// How values are spread, as Prometheus wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Upper bounds, in seconds or bytes, with how many values are not above; the last is infinite.
    pub buckets: Vec<(f64, u64)>,
    pub sum: f64,
}

impl Tally {
    /// Something happened to a task.
    pub(crate) fn event(&self, event: &Event) {
        let occurrence = occurrence(&event.what);
        let waited = match event.what {
            Happening::Started { waited } => Some(waited),
            _ => None,
        };
        self.with(event.spec.as_deref(), |series| {
            series.occurrences[occurrence].fetch_add(1, Relaxed);
            if let Some(waited) = waited {
                series.waited.add(&TIMES, nanoseconds(waited));
            }
        });
    }

    /// An attempt ended, however it did.
    pub(crate) fn attempt(&self, spec: &TaskSpec, usage: &Usage) {
        self.with(Some(spec), |series| {
            series.wall.add(&TIMES, nanoseconds(usage.wall));
            series.cpu.add(&TIMES, nanoseconds(usage.cpu));
            series.memory.add(&SIZES, usage.memory_bytes_peak);
        });
    }

    fn with(&self, spec: Option<&TaskSpec>, count: impl FnOnce(&Series)) {
        let Some(spec) = spec else { return count(&self.unknown) };
        {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(series) = table.find(spec) {
                return count(series);
            }
        }
        count(&self.table.write().unwrap_or_else(PoisonError::into_inner).add(spec));
    }

    /// All of it: tasks by name, and those that no plugin has at the end.
    pub fn read(&self) -> Vec<TaskTally> {
        let mut all: Vec<(Key, Arc<Series>)> = {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            let versions = table.tasks.iter().flat_map(|(task, versions)| versions.iter().map(move |it| (task, it)));
            versions.map(|(task, (version, series))| ((task.clone(), version.clone()), series.clone())).collect()
        };
        all.sort_by(|(a, _), (b, _)| (a.0.as_str(), &a.1).cmp(&(b.0.as_str(), &b.1)));
        let known = all.into_iter().map(|((task, version), series)| {
            let named = series.plugin.clone().map(|plugin| (task, plugin, version));
            series.read(named)
        });
        known.chain([self.unknown.read(None)]).collect()
    }
}

impl Table {
    /// Clones no names, whose counts of owners all threads would write to.
    fn find(&self, spec: &TaskSpec) -> Option<&Arc<Series>> {
        let versions = self.tasks.get(&spec.name)?;
        versions.iter().find(|(version, _)| *version == spec.version).map(|(_, series)| series)
    }

    fn add(&mut self, spec: &TaskSpec) -> Arc<Series> {
        if let Some(series) = self.find(spec) {
            return series.clone();
        }
        let versions = self.tasks.get(&spec.name).map_or(0, Vec::len);
        let oldest = match versions >= VERSIONS_MAX {
            true => self.order.iter().position(|(task, _)| *task == spec.name),
            false => (self.order.len() >= SERIES_MAX).then_some(0),
        };
        if let Some(gone) = oldest.and_then(|at| self.order.remove(at)) {
            self.remove(&gone);
        }
        let series = Arc::new(Series { plugin: Some(spec.plugin.clone()), ..Series::default() });
        self.tasks.entry(spec.name.clone()).or_default().push((spec.version.clone(), series.clone()));
        self.order.push_back((spec.name.clone(), spec.version.clone()));
        series
    }

    fn remove(&mut self, (task, version): &Key) {
        let Some(versions) = self.tasks.get_mut(task) else { return };
        versions.retain(|(kept, _)| kept != version);
        if versions.is_empty() {
            self.tasks.remove(task);
        }
    }
}

impl Series {
    fn read(&self, task: Option<(TaskName, PluginName, PluginVersion)>) -> TaskTally {
        TaskTally {
            task,
            occurrences: std::array::from_fn(|at| self.occurrences[at].load(Relaxed)),
            waited: self.waited.read(&TIMES, 1e9),
            wall: self.wall.read(&TIMES, 1e9),
            cpu: self.cpu.read(&TIMES, 1e9),
            memory: self.memory.read(&SIZES, 1.0),
        }
    }
}

/// How many values fell between which bounds, and beyond the last.
#[derive(Debug)]
struct Histogram<const BUCKETS: usize> {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl<const BUCKETS: usize> Default for Histogram<BUCKETS> {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }
}

impl<const BUCKETS: usize> Histogram<BUCKETS> {
    fn add(&self, bounds: &[u64], value: u64) {
        let at = bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    fn read(&self, bounds: &[u64], unit: f64) -> Distribution {
        let bounds = bounds.iter().map(|bound| *bound as f64 / unit).chain([f64::INFINITY]);
        let counts = self.counts.iter().scan(0, |below, count| {
            *below += count.load(Relaxed);
            Some(*below)
        });
        Distribution { buckets: bounds.zip(counts).collect(), sum: self.sum.load(Relaxed) as f64 / unit }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Its place in [`OCCURRENCES`].
fn occurrence(what: &Happening) -> usize {
    match what {
        Happening::Received { .. } => 0,
        Happening::Started { .. } => 1,
        Happening::Succeeded { .. } => 2,
        Happening::Failed { .. } => 3,
        Happening::Retried { .. } => 4,
        Happening::Rejected { .. } => 5,
        Happening::Ignored => 6,
        Happening::Lost { .. } => 7,
        Happening::Revoked { expired: false, .. } => 8,
        Happening::Revoked { expired: true, .. } => 9,
        Happening::Unregistered { .. } => 10,
        Happening::Parked { .. } => 11,
        Happening::DeadLettered { .. } => 12,
        Happening::Interrupted => 13,
    }
}

#[cfg(test)]
mod tests {
    use taskhost_core::control::Signal;
    use taskhost_core::{TaskId, TaskOptions};

    use super::*;

    fn spec(task: &str, version: &str) -> Arc<TaskSpec> {
        Arc::new(TaskSpec {
            name: TaskName::parse(task).expect("a name"),
            plugin: PluginName::parse("p").expect("a name"),
            version: PluginVersion::of(version),
            plugin_concurrency: None,
            summary: String::new(),
            takes: None,
            options: TaskOptions::default(),
        })
    }

    fn tell(tally: &Tally, spec: Option<Arc<TaskSpec>>, what: Happening) {
        let task = spec.as_ref().map_or_else(|| TaskName::parse("who").expect("a name"), |spec| spec.name.clone());
        tally.event(&Event { id: TaskId::parse("id").expect("an id"), task, spec, what });
    }

    fn told(tally: &Tally) -> Vec<String> {
        let line = |tally: TaskTally| {
            let name = tally.task.map_or("-".to_owned(), |(task, _, version)| format!("{task} {version}"));
            let counts = OCCURRENCES.iter().zip(tally.occurrences).filter(|(_, count)| *count > 0);
            let counts: Vec<String> = counts.map(|(name, count)| format!("{name}={count}")).collect();
            format!("{name}: {}", counts.join(" "))
        };
        tally.read().into_iter().map(line).collect()
    }

    #[test]
    fn events_are_counted_for_each_task_and_version() {
        let tally = Tally::default();
        tell(&tally, Some(spec("b", "one")), Happening::Ignored);
        tell(&tally, Some(spec("a", "two")), Happening::Revoked { expired: true, terminated: None });
        tell(&tally, Some(spec("a", "two")), Happening::Revoked { expired: false, terminated: Some(Signal::TERM) });
        tell(&tally, Some(spec("a", "one")), Happening::Ignored);
        tell(&tally, Some(spec("a", "one")), Happening::Ignored);
        tell(&tally, None, Happening::Unregistered { requeue: false });
        assert_eq!(
            told(&tally),
            ["a one: ignored=2", "a two: revoked=1 expired=1", "b one: ignored=1", "-: unregistered=1"]
        );
    }

    #[test]
    fn values_fall_into_the_bucket_that_holds_them() {
        let tally = Tally::default();
        let spec = spec("a", "one");
        for millis in [1, 3, 2_000_000] {
            tell(&tally, Some(spec.clone()), Happening::Started { waited: Duration::from_millis(millis) });
        }
        let usage = Usage { memory_bytes_peak: 1 << 20, cpu: Duration::from_micros(200), ..Usage::default() };
        tally.attempt(&spec, &usage);
        let read = &tally.read()[0];
        let at = |distribution: &Distribution, bound: f64| {
            distribution.buckets.iter().find(|(upper, _)| *upper >= bound).expect("the last is infinite").1
        };
        assert_eq!([0.0005, 0.001, 0.005, 1800.0, f64::INFINITY].map(|bound| at(&read.waited, bound)), [0, 1, 2, 2, 3]);
        assert_eq!(read.waited.sum, 2000.004);
        assert_eq!([at(&read.cpu, 0.0001), at(&read.cpu, 0.0005)], [0, 1]);
        assert_eq!([at(&read.memory, 262_144.0), at(&read.memory, 1_048_576.0)], [0, 1]);
        assert_eq!(at(&read.wall, 0.0001), 1, "an attempt of no time");
    }

    #[test]
    fn no_more_is_kept_than_the_newest_versions_and_tasks() {
        let tally = Tally::default();
        for version in ["1", "2", "3", "4", "5"] {
            tell(&tally, Some(spec("a", version)), Happening::Ignored);
        }
        assert_eq!(told(&tally), ["a 2: ignored=1", "a 3: ignored=1", "a 4: ignored=1", "a 5: ignored=1", "-: "]);
        for number in 0..SERIES_MAX {
            tell(&tally, Some(spec(&format!("t{number}"), "1")), Happening::Ignored);
        }
        assert_eq!(tally.read().len(), SERIES_MAX + 1);
        assert!(told(&tally).iter().all(|line| !line.starts_with("a ")));
    }
}
