//! How many unsettled deliveries are wanted: enough that no slot waits for the broker, and no more.
//!
//! Celery's fixed multiple of the slots starves a worker whose tasks take less than the broker's round
//! trip, most of all on quorum queues. Here the credit follows the work: what is done in a tenth of a
//! second is fetched ahead. Long tasks keep to the multiple, so that other workers get their share.

use std::time::Duration;

use crate::timestamp::Timestamp;

/// How much work is fetched ahead: several times what a broker takes to write, confirm and deliver.
const AHEAD: Duration = Duration::from_millis(100);

/// The rate is measured over at least this long.
const WINDOW: Duration = Duration::from_millis(100);

/// A worker that does nothing for this long goes back to the multiple.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// Follows the rate at which tasks end.
#[derive(Debug)]
pub(super) struct Credit {
    /// The largest credit that is given; zero gives none beyond the multiple.
    max: u32,
    window: Option<Timestamp>,
    finished: u32,
    credit: u32,
}

impl Credit {
    pub(super) fn new(max: u32) -> Self {
        Self { max, window: None, finished: 0, credit: 0 }
    }

    /// The credit as it is now, in deliveries; a power of two.
    pub(super) fn get(&self) -> u32 {
        self.credit
    }

    /// An attempt has ended, or a message went back to wait for its time.
    pub(super) fn finished(&mut self, now: Timestamp) {
        if self.max == 0 {
            return;
        }
        let start = *self.window.get_or_insert(now);
        self.finished = self.finished.saturating_add(1);
        let elapsed = now.since(start);
        if elapsed < WINDOW {
            return;
        }
        let ahead = f64::from(self.finished) * AHEAD.as_secs_f64() / elapsed.as_secs_f64();
        let wanted = (ahead as u32).max(1).checked_next_power_of_two().unwrap_or(self.max).min(self.max);
        // A change costs the broker something, and rates waver.
        if wanted > self.credit || wanted < self.credit / 2 {
            self.credit = wanted;
        }
        self.window = Some(now);
        self.finished = 0;
    }

    /// True if nothing has ended for a while; the credit is gone then.
    pub(super) fn lapse(&mut self, now: Timestamp) -> bool {
        let idle = self.window.is_none_or(|start| now.since(start) >= IDLE);
        if idle {
            (self.credit, self.finished, self.window) = (0, 0, None);
        }
        idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(credit: &mut Credit, from_ms: i64, every_us: i64, times: i64) -> i64 {
        let mut now = from_ms * 1_000;
        for _ in 0..times {
            now += every_us;
            credit.finished(Timestamp::from_micros(now));
        }
        now / 1_000
    }

    #[test]
    fn short_tasks_are_fetched_a_tenth_of_a_second_ahead() {
        let mut credit = Credit::new(256);
        after(&mut credit, 0, 1_000, 1_000);
        assert_eq!(credit.get(), 128);
        let mut credit = Credit::new(256);
        after(&mut credit, 0, 50, 10_000);
        assert_eq!(credit.get(), 256, "no more than the bound");
        let mut credit = Credit::new(256);
        after(&mut credit, 0, 1_000_000, 10);
        assert_eq!(credit.get(), 1, "long tasks ask for nothing");
    }

    #[test]
    fn a_wavering_rate_changes_nothing_and_a_slow_one_does() {
        let mut credit = Credit::new(256);
        let now = after(&mut credit, 0, 1_000, 1_000);
        let now = after(&mut credit, now, 1_800, 1_000);
        assert_eq!(credit.get(), 128);
        after(&mut credit, now, 20_000, 100);
        assert_eq!(credit.get(), 8);
    }

    #[test]
    fn the_credit_of_an_idle_worker_lapses() {
        let mut credit = Credit::new(256);
        after(&mut credit, 0, 1_000, 1_000);
        assert!(!credit.lapse(Timestamp::from_micros(1_500_000)));
        assert_eq!(credit.get(), 128);
        assert!(credit.lapse(Timestamp::from_micros(3_000_000)));
        assert_eq!(credit.get(), 0);
    }

    #[test]
    fn none_is_given_where_none_is_allowed() {
        let mut credit = Credit::new(0);
        after(&mut credit, 0, 10, 100_000);
        assert_eq!(credit.get(), 0);
    }
}
