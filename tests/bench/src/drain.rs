//! Watches a worker empty its queue, and takes the slope between a tenth and nine tenths.
//!
//! So neither the start of the worker nor its last tasks count. Progress is what others can see: results in Redis
//! (`DBSIZE`), rows of results in the embedded file or a database, and without results the messages that nobody has taken yet,
//! which is ahead of what is done by the prefetch all the time, or the messages in the embedded file.

use std::time::{Duration, Instant};

use crate::Result;
use crate::lane::Setting;
use crate::process::{self, Process};
use crate::services::Services;

/// Often enough for a drain of one second; an answer costs the servers some microseconds.
const POLL: Duration = Duration::from_millis(10);
/// Where the answer is counted row by row.
const DATABASE_POLL: Duration = Duration::from_millis(50);
/// A worker that gets nothing done for so long has broken down.
const STALL_MAX: Duration = Duration::from_secs(60);
/// A worker with nothing to do spends less CPU time than this between two looks.
const IDLE_SPACING: Duration = Duration::from_millis(500);
const IDLE_CPU_MAX: Duration = Duration::from_millis(5);

/// How things stood at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    done: u64,
    worker: Option<Duration>,
    rabbitmq: Option<Duration>,
    redis: Option<Duration>,
}

/// What one drain says. Times are CPU time in microseconds for each task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slope {
    pub(crate) tasks_per_second: f64,
    pub(crate) worker_us: Option<f64>,
    pub(crate) rabbitmq_us: Option<f64>,
    pub(crate) redis_us: Option<f64>,
}

/// Waits until the worker has done all tasks.
pub(crate) async fn watch(
    worker: &mut Process,
    services: &mut Services,
    setting: Setting,
    tasks: u64,
) -> Result<Slope> {
    let mut samples: Vec<Sample> = Vec::new();
    let mut family = Vec::new();
    let mut moved = (Instant::now(), 0);
    loop {
        let done = services.done(setting, tasks).await?;
        // Looking for the worker's children takes a while, and from now on there will be no more.
        if family.is_empty() && done >= tasks / 10 {
            family = worker.family();
        }
        if !family.is_empty() {
            samples.push(Sample {
                at: Instant::now(),
                done,
                worker: process::cpu_time(&family),
                rabbitmq: services.rabbitmq_pid.and_then(|pid| process::cpu_time(&[pid])),
                redis: services.redis_pid.and_then(|pid| process::cpu_time(&[pid])),
            });
        }
        if done >= tasks {
            break;
        }
        if let Some(status) = worker.ended()? {
            return Err(format!("the worker ended with {status}; it says:\n{}", worker.last_words()).into());
        }
        if done > moved.1 {
            moved = (Instant::now(), done);
        } else if moved.0.elapsed() > STALL_MAX {
            let words = worker.last_words();
            return Err(format!("the worker stands still at {done} of {tasks} tasks; it says:\n{words}").into());
        }
        tokio::time::sleep(if setting.is_in_a_database() { DATABASE_POLL } else { POLL }).await;
    }
    slope(&samples, tasks).ok_or_else(|| "that was too quick to be measured; use more --tasks".into())
}

/// Waits until a worker without tasks uses next to no CPU time.
pub(crate) async fn wait_until_idle(worker: &Process) {
    let family = worker.family();
    let mut before = process::cpu_time(&family);
    let deadline = Instant::now() + STALL_MAX;
    while Instant::now() < deadline {
        tokio::time::sleep(IDLE_SPACING).await;
        let now = process::cpu_time(&family);
        let spent = now.zip(before).map(|(now, before)| now.saturating_sub(before));
        if spent.is_none_or(|spent| spent < IDLE_CPU_MAX) {
            return;
        }
        before = now;
    }
}

fn slope(samples: &[Sample], tasks: u64) -> Option<Slope> {
    let first = samples.iter().find(|sample| sample.done * 10 >= tasks)?;
    let last = samples.iter().rfind(|sample| sample.done * 10 <= tasks * 9)?;
    // A batch or two between them would not be a slope.
    if last.done.saturating_sub(first.done) * 2 < tasks {
        return None;
    }
    let count = (last.done - first.done) as f64;
    let each =
        |of: fn(&Sample) -> Option<Duration>| Some(of(last)?.checked_sub(of(first)?)?.as_secs_f64() * 1e6 / count);
    Some(Slope {
        tasks_per_second: count / last.at.duration_since(first.at).as_secs_f64(),
        worker_us: each(|sample| sample.worker),
        rabbitmq_us: each(|sample| sample.rabbitmq),
        redis_us: each(|sample| sample.redis),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(done: &[u64]) -> Vec<Sample> {
        let start = Instant::now();
        let sample = |(index, done): (usize, &u64)| {
            let time = Duration::from_millis(10 * index as u64);
            Sample { at: start + time, done: *done, worker: Some(time / 2), rabbitmq: None, redis: None }
        };
        done.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn start_and_end_do_not_count() {
        let slope = slope(&samples(&[0, 0, 100, 300, 500, 900, 901, 1000]), 1000).expect("a slope");
        // 800 tasks in 30 ms, for half of which the worker had a processor.
        assert_eq!((slope.tasks_per_second * 0.03).round(), 800.0);
        assert_eq!(slope.worker_us, Some(15_000.0 / 800.0));
        assert_eq!(slope.rabbitmq_us, None);
    }

    #[test]
    fn a_drain_that_nobody_saw_has_no_slope() {
        assert!(slope(&samples(&[0, 1000]), 1000).is_none());
        assert!(slope(&samples(&[0, 500, 1000]), 1000).is_none());
    }
}
