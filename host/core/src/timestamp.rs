//! Points in wall time, and chance as an argument.
//!
//! Never asks for the time: whoever calls `core` brings it.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use jiff::civil;
use jiff::tz::TimeZone;

/// Microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

/// Why a text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an ISO 8601 time")]
pub struct TimestampError {
    text: String,
}

impl Timestamp {
    /// Microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Reads any ISO 8601 time, as clients of many languages write it: with an offset, `Z` or
    /// neither, with or without a fraction, extended or basic. One without an offset is UTC, which is
    /// Celery's default `timezone`.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let error = || TimestampError { text: text.chars().take(64).collect() };
        if let Ok(instant) = text.parse::<jiff::Timestamp>() {
            return Ok(Self(instant.as_microsecond()));
        }
        let naive: civil::DateTime = text.parse().map_err(|_| error())?;
        let instant = TimeZone::UTC.to_timestamp(naive).map_err(|_| error())?;
        Ok(Self(instant.as_microsecond()))
    }

    /// The way Python's `datetime.isoformat()` writes a time with offset:
    /// `2026-11-22T10:32:08.348566+00:00`, without a fraction when it is zero.
    pub fn isoformat(self) -> String {
        let mut text = self.isoformat_naive('T');
        text.push_str("+00:00");
        text
    }

    /// The same without offset and with a separator of choice: Celery's database columns hold naive
    /// UTC text with a blank between date and time.
    pub fn isoformat_naive(self, separator: char) -> String {
        // Every result has one, so it is written digit by digit, without the machinery of `format!`.
        let instant = jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::MAX);
        let at = TimeZone::UTC.to_datetime(instant);
        let mut text = String::with_capacity("2026-11-22T10:32:08.348566+00:00".len());
        if at.year() < 0 {
            text.push('-');
        }
        push_digits(&mut text, at.year().unsigned_abs().into(), 4);
        for (before, part) in
            [('-', at.month()), ('-', at.day()), (separator, at.hour()), (':', at.minute()), (':', at.second())]
        {
            text.push(before);
            push_digits(&mut text, part.unsigned_abs().into(), 2);
        }
        let micros = at.subsec_nanosecond() / 1_000;
        if micros != 0 {
            text.push('.');
            push_digits(&mut text, micros.unsigned_abs(), 6);
        }
        text
    }

    /// How long it is from `earlier` until this; zero if this is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).max(0) as u64)
    }
}

/// Writes so many decimal digits.
fn push_digits(text: &mut String, number: u32, digits: u32) {
    for place in (0..digits).rev() {
        let digit = number / 10_u32.pow(place) % 10;
        text.push(char::from(b'0' + digit as u8));
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    /// Saturates: a time beyond the clock is the end of time, never an overflow.
    fn add(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.isoformat())
    }
}

/// A number in `0.0..1.0` that somebody else threw, for decisions that need chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter(pub f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_a_time_is_read() {
        let expected = Ok(Timestamp::from_micros(1_795_343_528_348_566));
        for text in [
            "2026-11-22T10:32:08.348566+00:00",
            "2026-11-22T10:32:08.348566Z",
            "2026-11-22T11:32:08.348566+01:00",
            "2026-11-22 10:32:08.348566",
            "2026-11-22T10:32:08.348566",
            "20261122T103208.348566Z",
        ] {
            assert_eq!(Timestamp::parse(text), expected, "{text}");
        }
        assert_eq!(Timestamp::parse("2026-11-22T10:32Z"), Ok(Timestamp::from_micros(1_795_343_520_000_000)));
        assert!(Timestamp::parse("soon").is_err());
        assert!(Timestamp::parse("").is_err());
    }

    #[test]
    fn times_are_written_as_python_writes_them() {
        let at = Timestamp::from_micros(1_795_343_528_348_566);
        assert_eq!(at.isoformat(), "2026-11-22T10:32:08.348566+00:00");
        assert_eq!(at.isoformat_naive(' '), "2026-11-22 10:32:08.348566");
        assert_eq!(Timestamp::from_micros(0).isoformat(), "1970-01-01T00:00:00+00:00");
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp::from_micros(i64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(Timestamp::from_micros(5).since(end), Duration::ZERO);
    }
}
