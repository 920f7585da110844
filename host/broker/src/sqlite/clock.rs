//! Whether leases may be judged by the wall clock, which all processes have in common and anybody may set.
//!
//! A clock that was set forward makes every lease look expired until its owner has renewed it by the new time.

use std::time::{Duration, Instant};

use tracing::warn;

/// A difference between wall clock and monotonic clock, from one look to the next, that is no drift.
const JUMP_MS: i64 = 2_000;

/// Nobody living has a lease that ends later than this: the clock was set back since.
pub(super) const LEASE_MS_MAX: i64 = 600_000;

#[derive(Debug, Default)]
pub(super) struct WallClock {
    looked: Option<(i64, Instant)>,
    judges_from: Option<Instant>,
}

impl WallClock {
    /// False for as long as a lease after the clock was set: meanwhile the living renew theirs.
    pub(super) fn judges(&mut self, now_ms: i64, now: Instant, lease: Duration) -> bool {
        if let Some((then_ms, then)) = self.looked.replace((now_ms, now)) {
            let jump_ms = now_ms - then_ms - now.duration_since(then).as_millis() as i64;
            if jump_ms.abs() > JUMP_MS {
                warn!(
                    jump_ms,
                    "the wall clock was set by {jump_ms} ms: nothing is taken from other workers for {lease:?}"
                );
                self.judges_from = Some(now + lease);
            }
        }
        self.judges_from.is_none_or(|from| now >= from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(12);

    #[track_caller]
    fn check(looks: &[(u64, i64)], expected: &[bool]) {
        let mut clock = WallClock::default();
        let began = Instant::now();
        let judged: Vec<bool> =
            looks.iter().map(|(s, wall_ms)| clock.judges(*wall_ms, began + Duration::from_secs(*s), LEASE)).collect();
        assert_eq!(judged, expected);
    }

    #[test]
    fn a_clock_that_goes_as_time_does_is_believed() {
        check(&[(0, 5_000), (2, 7_000), (4, 9_900), (3_600, 3_605_500)], &[true; 4]);
    }

    #[test]
    fn a_clock_that_was_set_is_believed_after_a_lease() {
        let hour = 3_600_000;
        check(&[(0, 0), (2, hour), (13, hour + 11_000), (14, hour + 12_000)], &[true, false, false, true]);
        check(&[(0, hour), (2, 0), (14, 12_000)], &[true, false, true]);
    }
}
