//! How long a message waits here before it goes back to its queue because its task wants it to.
//!
//! A task that always wants that would otherwise be run as fast as the broker delivers. Knows nothing of
//! deliveries: the dispatcher keeps them meanwhile, with their receipts and without a slot.

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::name::TaskName;
use crate::timestamp::Jitter;

/// Wait before the second requeue in a row: doubled each time, up to the second.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How many tasks are kept apart: names that no plugin has come from outside, and without end.
const TASKS_MAX: usize = 10_000;

/// The tasks whose last attempts ended in a requeue.
#[derive(Debug, Default)]
pub(super) struct Requeues {
    in_a_row: FxHashMap<TaskName, u32>,
}

impl Requeues {
    /// This task wants its message, which was delivered so many times before, to go back. How long that has to
    /// wait depends on how often it, or all messages of the task one after the other, wanted it.
    pub(super) fn pause(&mut self, task: &TaskName, deliveries: u32, jitter: Jitter) -> Duration {
        if self.in_a_row.len() >= TASKS_MAX {
            self.in_a_row.clear();
        }
        let in_a_row = self.in_a_row.entry(task.clone()).or_default();
        let before = deliveries.max(*in_a_row);
        *in_a_row = in_a_row.saturating_add(1);
        match before {
            0 => Duration::ZERO,
            // Shorter by up to a half, so that those that came together do not come back together.
            n => PAUSE_MIN.saturating_mul(1 << (n - 1).min(16)).min(PAUSE_MAX).mul_f64(1.0 - jitter.0 / 2.0),
        }
    }

    /// This task came to another end.
    pub(super) fn ended(&mut self, task: &TaskName) {
        // Most workers never see a requeue: no look-up for them.
        if !self.in_a_row.is_empty() {
            self.in_a_row.remove(task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(task: &str) -> TaskName {
        TaskName::parse(task).expect("a name")
    }

    #[test]
    fn a_task_that_requeues_in_a_row_waits_longer_each_time() {
        let mut requeues = Requeues::default();
        let mut pause = |task, deliveries| requeues.pause(&name(task), deliveries, Jitter(0.0)).as_millis();
        assert_eq!([pause("a", 0), pause("a", 0), pause("a", 0), pause("a", 0)], [0, 100, 200, 400]);
        assert_eq!(pause("b", 0), 0, "another task");
        for _ in 0..40 {
            pause("a", 0);
        }
        assert_eq!(pause("a", 0), 10_000);
        requeues.ended(&name("a"));
        assert_eq!(requeues.pause(&name("a"), 0, Jitter(0.0)).as_millis(), 0);
    }

    #[test]
    fn a_message_that_came_back_often_waits_though_others_of_its_task_end_well() {
        let mut requeues = Requeues::default();
        requeues.ended(&name("a"));
        let mut pause = |deliveries, jitter| requeues.pause(&name("a"), deliveries, Jitter(jitter)).as_millis();
        assert_eq!([pause(3, 0.0), pause(3, 0.5), pause(u32::MAX, 0.0)], [400, 300, 10_000]);
    }
}
