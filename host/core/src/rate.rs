//! Rate limits: how often a task may start.
//!
//! The bucket holds one token, so tasks are spaced evenly and there are no bursts
//! (celery/utils/time.py `rate`, kombu/utils/limits.py `TokenBucket` with capacity 1).

use std::fmt;
use std::time::Duration;

use crate::timestamp::Timestamp;

/// A rate such as `10/m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time between two starts.
    pub interval: Duration,
}

/// Among whom a rate limit is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RateScope {
    /// Each worker counts for itself, as in Celery.
    #[default]
    Worker,
    /// All workers that share a place to keep the count.
    Cluster,
}

impl RateScope {
    /// The name under which it is configured.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Cluster => "cluster",
        }
    }

    /// The scope of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Worker, Self::Cluster].into_iter().find(|scope| scope.as_str() == text)
    }
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

/// As Celery writes a rate: in the unit in which it is a whole number, if there is one.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interval = self.interval.as_secs_f64();
        for (unit, seconds) in [("s", 1.0), ("m", 60.0), ("h", 3600.0)] {
            let count: f64 = seconds / interval;
            // An interval is a whole number of nanoseconds, and so a little off.
            if count >= 0.5 && (count - count.round()).abs() <= count * 1e-6 {
                return write!(f, "{}/{unit}", count.round());
            }
        }
        write!(f, "{}/h", 3600.0 / interval)
    }
}

/// Spaces the starts of one task.
#[derive(Debug, Clone)]
pub struct Bucket {
    rate: Rate,
    /// When there is a token again.
    full: Option<Timestamp>,
}

impl Bucket {
    /// A full bucket: the first start is at once.
    pub fn new(rate: Rate) -> Self {
        Self { rate, full: None }
    }

    /// What it was made for.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// When the next start may be; none if there is a token now.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.full.filter(|full| *full > now)
    }

    /// A start happens now and takes the token.
    pub fn take(&mut self, now: Timestamp) {
        self.full = Some(now + self.rate.interval);
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
    fn a_rate_is_written_as_it_was_given() {
        for text in ["10/m", "30/m", "7/m", "3/s", "1000/s", "5/h", "999/h"] {
            assert_eq!(Rate::parse(text).ok().flatten().map(|rate| rate.to_string()).as_deref(), Some(text));
        }
        for (text, written) in [("4", "4/s"), ("60/m", "1/s"), ("0.5", "30/m"), ("0.5/h", "0.5/h")] {
            assert_eq!(Rate::parse(text).ok().flatten().map(|rate| rate.to_string()).as_deref(), Some(written));
        }
    }

    #[test]
    fn starts_are_an_interval_apart_and_are_not_saved_up() {
        let at = |ms: i64| Timestamp::from_micros(ms * 1000);
        let mut bucket = Bucket::new(Rate { interval: Duration::from_millis(100) });
        assert_eq!(bucket.next(at(0)), None);
        bucket.take(at(0));
        assert_eq!(bucket.next(at(20)), Some(at(100)));
        assert_eq!(bucket.next(at(100)), None);
        // This one is late: the next must not come right behind it.
        bucket.take(at(170));
        assert_eq!(bucket.next(at(200)), Some(at(270)));
        assert_eq!(bucket.next(at(1000)), None);
        bucket.take(at(1000));
        assert_eq!(bucket.next(at(1001)), Some(at(1100)));
    }

    #[test]
    fn scopes_have_names() {
        assert_eq!(RateScope::parse("cluster"), Some(RateScope::Cluster));
        assert_eq!(RateScope::parse("worker"), Some(RateScope::Worker));
        assert_eq!(RateScope::parse("galaxy"), None);
    }
}
