//! How many attempts may run at a time, when that changes while the worker runs: by command, or by itself with the
//! load.
//!
//! Celery's pool without its processes: a slot costs nothing until something runs in it
//! (celery/worker/autoscale.py).

use std::time::Duration;

use crate::timestamp::Timestamp;

use super::Dispatcher;
use super::stage::Due;

/// How long a slot is kept that nobody needs (`AUTOSCALE_KEEPALIVE`).
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The bounds between which the number of slots follows the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Autoscale {
    pub max: usize,
    pub min: usize,
}

/// Why the pool stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolRefusal {
    #[error("the pool has {now} slots and must keep one")]
    TooSmall { now: usize },
    #[error("the pool may have {max} slots at most; raise worker.concurrency_max")]
    TooLarge { max: usize },
    #[error("max={max} is less than min={min}")]
    Crossed { max: usize, min: usize },
    #[error("Autoscale not enabled")]
    NotAutoscaled,
}

impl Dispatcher {
    /// How many attempts may run at a time now.
    pub fn concurrency(&self) -> usize {
        self.limits.concurrency
    }

    /// The bounds, if the number of slots follows the load.
    pub fn autoscaled(&self) -> Option<Autoscale> {
        self.limits.autoscale
    }

    /// How many attempts run, or wait for nothing but a slot.
    pub fn reserved(&self) -> usize {
        self.attempts.len() + self.ready.len()
    }

    /// Adds so many slots, or takes them away; attempts that run in one are not stopped. How many there are then.
    pub(super) fn grow(&mut self, by: i64) -> Result<usize, PoolRefusal> {
        let now = self.limits.concurrency;
        let wanted = i64::try_from(now).unwrap_or(i64::MAX).saturating_add(by);
        let wanted = usize::try_from(wanted).unwrap_or(0);
        if wanted == 0 {
            return Err(PoolRefusal::TooSmall { now });
        }
        if by > 0 && wanted > self.limits.concurrency_max {
            return Err(PoolRefusal::TooLarge { max: self.limits.concurrency_max });
        }
        self.limits.concurrency = wanted;
        Ok(wanted)
    }

    /// Changes the bounds, those that are given.
    pub(super) fn autoscale(
        &mut self,
        max: Option<usize>,
        min: Option<usize>,
        now: Timestamp,
    ) -> Result<Autoscale, PoolRefusal> {
        let was = self.limits.autoscale.ok_or(PoolRefusal::NotAutoscaled)?;
        let (max, min) = (max.unwrap_or(was.max), min.unwrap_or(was.min));
        if min == 0 {
            return Err(PoolRefusal::TooSmall { now: self.limits.concurrency });
        }
        if max < min {
            return Err(PoolRefusal::Crossed { max, min });
        }
        if max > self.limits.concurrency_max {
            return Err(PoolRefusal::TooLarge { max: self.limits.concurrency_max });
        }
        let bounds = Autoscale { max, min };
        self.limits.autoscale = Some(bounds);
        self.limits.concurrency = self.limits.concurrency.clamp(min, max);
        self.look_at_slots(now);
        Ok(bounds)
    }

    /// More slots as soon as they are needed.
    pub(super) fn scale_up(&mut self, now: Timestamp) {
        let Some(Autoscale { max, .. }) = self.limits.autoscale else { return };
        let wanted = self.reserved().min(max);
        if wanted > self.limits.concurrency {
            self.limits.concurrency = wanted;
            self.grown = now;
            self.look_at_slots(now);
        }
    }

    /// Fewer, when none was added for a while.
    pub(super) fn scale_down(&mut self, now: Timestamp) {
        self.slots_watched = false;
        let Some(Autoscale { min, .. }) = self.limits.autoscale else { return };
        if now.since(self.grown) >= KEEPALIVE {
            self.limits.concurrency = self.limits.concurrency.min(self.reserved().max(min));
        }
        self.look_at_slots(now);
    }

    /// While there are more than the fewest, it is looked again whether they are needed.
    fn look_at_slots(&mut self, now: Timestamp) {
        let more = self.limits.autoscale.is_some_and(|bounds| self.limits.concurrency > bounds.min);
        if more && !self.slots_watched {
            self.slots_watched = true;
            self.timetable.insert(now + KEEPALIVE, Due::Slots);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::Input;
    use crate::dispatcher::tests::{NOW, at, committed, dispatcher, received, render, success};

    fn autoscaled(max: usize, min: usize) -> Dispatcher {
        let mut dispatcher = dispatcher(min);
        dispatcher.limits.autoscale = Some(Autoscale { max, min });
        dispatcher
    }

    #[test]
    fn the_pool_grows_and_shrinks_within_its_bounds() {
        let mut it = dispatcher(2);
        assert_eq!(it.grow(3), Ok(5));
        assert_eq!(it.grow(-4), Ok(1));
        assert_eq!(
            it.grow(-1).map_err(|error| error.to_string()),
            Err("the pool has 1 slots and must keep one".into())
        );
        assert_eq!(it.grow(1_000), Err(PoolRefusal::TooLarge { max: 16 }));
        assert_eq!(it.concurrency(), 1);
        assert_eq!(it.autoscale(Some(3), None, NOW), Err(PoolRefusal::NotAutoscaled));
    }

    #[test]
    fn more_slots_are_used_at_once_and_fewer_stop_nobody() {
        let mut it = dispatcher(1);
        it.handle(received(1, "tasks.add", "a"), NOW);
        it.handle(received(2, "tasks.add", "b"), NOW);
        assert_eq!(it.grow(1), Ok(2));
        assert_eq!(render(it.handle(Input::Due, NOW)), "start 2 as 2; prefetch 8");
        assert_eq!(it.grow(-1), Ok(1));
        it.handle(received(3, "tasks.add", "c"), NOW);
        assert!(!render(it.handle(success(1), NOW)).contains("start"), "one still runs");
        assert!(render(it.handle(success(2), NOW)).contains("start 3 as 3"));
    }

    #[test]
    fn slots_follow_the_load_up_at_once_and_down_after_a_while() {
        let mut it = autoscaled(3, 1);
        for n in 1..=4 {
            let started = render(it.handle(received(n, "tasks.add", &n.to_string()), NOW)).contains("start");
            assert_eq!(started, n <= 3, "{n}");
        }
        assert_eq!(it.concurrency(), 3);
        for n in 1..=4 {
            it.handle(success(n), at(1_000));
            it.handle(committed(n), at(1_000));
        }
        it.handle(Input::Due, at(29_999));
        assert_eq!((it.concurrency(), it.reserved()), (3, 0));
        it.handle(Input::Due, at(30_000));
        assert_eq!(it.concurrency(), 1);
    }

    #[test]
    fn new_bounds_hold_at_once() {
        let mut it = autoscaled(3, 1);
        assert_eq!(it.autoscale(Some(6), Some(2), NOW), Ok(Autoscale { max: 6, min: 2 }));
        assert_eq!(it.concurrency(), 2);
        assert_eq!(it.autoscale(Some(1), None, NOW), Err(PoolRefusal::Crossed { max: 1, min: 2 }));
        assert_eq!(it.autoscale(Some(17), None, NOW), Err(PoolRefusal::TooLarge { max: 16 }));
        assert_eq!(it.autoscale(None, Some(0), NOW), Err(PoolRefusal::TooSmall { now: 2 }));
        assert_eq!(it.autoscale(Some(1), Some(1), NOW), Ok(Autoscale { max: 1, min: 1 }));
        assert_eq!(it.concurrency(), 1);
    }
}
