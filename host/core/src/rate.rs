//! Rate limits: how often a task may start.
//!
//! The bucket holds one token, so tasks are spaced evenly and there are no bursts
//! (celery/utils/time.py `rate`, kombu/utils/limits.py `TokenBucket` with capacity 1).

use std::time::Duration;

use crate::timestamp::Timestamp;

/// A rate such as `10/m`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Time between two starts.
    pub interval: Duration,
}

/// Why a text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a rate limit such as `10/s`, `100/m` or `5/h`")]
pub struct RateError(String);

impl Rate {
    /// Reads `n/s`, `n/m`, `n/h` or a bare `n` per second; `n` may have a fraction. Zero is no limit.
    pub fn parse(text: &str) -> Result<Option<Self>, RateError> {
        let error = || RateError(text.to_owned());
        let (count, unit) = match text.split_once('/') {
            Some((count, unit)) => (count, unit),
            None => (text, "s"),
        };
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(error()),
        };
        let count: f64 = count.trim().parse().map_err(|_| error())?;
        if !count.is_finite() || count < 0.0 {
            return Err(error());
        }
        if count == 0.0 {
            return Ok(None);
        }
        let interval = Duration::try_from_secs_f64(seconds / count).map_err(|_| error())?;
        Ok(Some(Self { interval }))
    }
}

/// Spaces the starts of one task.
#[derive(Debug, Clone)]
pub struct Bucket {
    rate: Rate,
    /// When there is a token again.
    full: Option<Timestamp>,
    /// Up to when tokens are spoken for by those who wait.
    reserved: Option<Timestamp>,
}

impl Bucket {
    /// A full bucket: the first start is at once.
    pub fn new(rate: Rate) -> Self {
        Self { rate, full: None, reserved: None }
    }

    /// When to come back for a token, in the order of asking; `now` if there may be one.
    pub fn reserve(&mut self, now: Timestamp) -> Timestamp {
        let earliest = self.full.map_or(now, |full| full.max(now));
        let at = self.reserved.map_or(earliest, |reserved| reserved.max(earliest));
        self.reserved = Some(at + self.rate.interval);
        at
    }

    /// Takes the token for a start that happens now, or says when there will be one. Whoever had to
    /// wait for a slot as well may find that another has just taken it.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        match self.full {
            Some(full) if full > now => Err(full),
            _ => {
                self.full = Some(now + self.rate.interval);
                Ok(())
            }
        }
    }

    /// Those who waited are gone.
    pub fn forget_reservations(&mut self) {
        self.reserved = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_celery_reads_them() {
        let interval = |text| Rate::parse(text).map(|rate| rate.map(|r| r.interval.as_millis()));
        assert_eq!(interval("10/m"), Ok(Some(6000)));
        assert_eq!(interval("2/s"), Ok(Some(500)));
        assert_eq!(interval("4"), Ok(Some(250)));
        assert_eq!(interval("0.5"), Ok(Some(2000)));
        assert_eq!(interval("1/h"), Ok(Some(3_600_000)));
        assert_eq!(interval("0/m"), Ok(None));
        for bad in ["", "fast", "1/d", "-1", "nan", "inf/s"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn starts_are_an_interval_apart_and_never_earlier_than_now() {
        let at = |ms: i64| Timestamp::from_micros(ms * 1000);
        let mut bucket = Bucket::new(Rate { interval: Duration::from_millis(100) });
        assert_eq!(bucket.reserve(at(0)), at(0));
        assert_eq!(bucket.take(at(0)), Ok(()));
        assert_eq!(bucket.reserve(at(10)), at(100));
        assert_eq!(bucket.reserve(at(20)), at(200));
        // The first of them is late: the second must not come right behind it.
        assert_eq!(bucket.take(at(170)), Ok(()));
        assert_eq!(bucket.take(at(200)), Err(at(270)));
        bucket.forget_reservations();
        assert_eq!(bucket.reserve(at(210)), at(270));
        assert_eq!(bucket.take(at(1000)), Ok(()));
        assert_eq!(bucket.reserve(at(1000)), at(1100));
    }
}
