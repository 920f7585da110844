//! Messages that are for later: SQS delays a message for 15 minutes at most, so longer waits are made of several.
//!
//! A message that waits for longer says until when, and whoever gets it in between sends it on its way again as
//! a new one. That is the one way that loses nothing: a message that is only hidden is counted at each look
//! (which may send it to a dead-letter queue), comes out after 12 hours, and is deleted when it is four days old.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use taskhost_core::{HeaderValue, Headers, Timestamp};

/// SQS' longest delay (kombu's `MAX_DELAY_SECONDS`).
const DELAY_MAX: Duration = Duration::from_secs(900);
/// How much too early a message may be handed out: whoever gets it looks at the ETA again.
pub(super) const EARLY_MAX: Duration = Duration::from_secs(1);

/// The delay for now and, if that is not all, the micros since the epoch until which there are more.
pub(super) fn parts(due: i64, left: Duration) -> (Duration, Option<i64>) {
    match left > DELAY_MAX {
        true => (DELAY_MAX, Some(due)),
        false => (left, None),
    }
}

/// The same for a moment; none if that has come.
pub(super) fn until(due: Timestamp) -> (Duration, Option<i64>) {
    parts(due.as_micros(), left(due))
}

/// The same for a message that has an ETA with an offset; a naive one is for the worker to read.
pub(super) fn of(headers: &Headers) -> (Duration, Option<i64>) {
    let Some(HeaderValue::Text(eta)) = headers.get("eta") else { return (Duration::ZERO, None) };
    let has_offset = eta
        .split_once(['T', 't', ' '])
        .is_some_and(|(_, time)| time.ends_with(['Z', 'z']) || time.contains(['+', '-']));
    match Timestamp::parse(eta) {
        Ok(due) if has_offset => until(due),
        _ => (Duration::ZERO, None),
    }
}

/// How long it is until then.
pub(super) fn left(due: Timestamp) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let due = u64::try_from(due.as_micros()).unwrap_or(0);
    Duration::from_micros(due).saturating_sub(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_delays_have_several_parts() {
        let hour = Duration::from_secs(3600);
        assert_eq!(parts(7, Duration::from_secs(900)), (Duration::from_secs(900), None));
        assert_eq!(parts(7, hour), (Duration::from_secs(900), Some(7)));
    }

    #[test]
    fn an_eta_that_has_come_or_that_only_the_worker_can_read_is_no_delay() {
        let eta = |eta: &str| {
            let mut headers = Headers::default();
            headers.set("eta", HeaderValue::Text(eta.to_owned()));
            of(&headers)
        };
        assert_eq!(eta("2020-01-01T00:00:00+00:00"), (Duration::ZERO, None));
        assert_eq!(eta("2999-01-01T00:00:00"), (Duration::ZERO, None));
        assert_eq!(eta("soon"), (Duration::ZERO, None));
        assert_eq!(eta("2999-01-01T00:00:00Z").0, DELAY_MAX);
        assert!(eta("2999-01-01T00:00:00+00:00").1.is_some());
        assert_eq!(of(&Headers::default()), (Duration::ZERO, None));
    }
}
