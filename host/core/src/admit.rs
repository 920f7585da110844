//! Decides whether a request runs now, waits, or is refused.
//!
//! Knows nothing about brokers or slots: the answer is a value, the dispatcher acts on it.

use crate::request::Request;
use crate::revoke::Revoked;
use crate::timestamp::Timestamp;

/// What is to be done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may start as soon as there is a slot.
    Execute,
    /// It is too early.
    Hold(Timestamp),
    /// It is too late: `expires` has passed (celery/worker/request.py `maybe_expire`).
    Expired,
    /// Somebody revoked it.
    Revoked,
}

/// Looks at the times of a request, and whether it is revoked. Asked when it arrives, when its hold is over
/// and once more when there is a slot for it, since it may expire while it waits.
/// With a clock that is known to be wrong nothing is thrown away: that cannot be made good.
pub fn admit(request: &Request, revoked: &Revoked, now: Timestamp, clock_is_wrong: bool) -> Admission {
    if !clock_is_wrong && request.expires.is_some_and(|expires| now >= expires) {
        return Admission::Expired;
    }
    if revoked.covers(request) {
        return Admission::Revoked;
    }
    match request.eta {
        Some(eta) if eta > now => Admission::Hold(eta),
        _ => Admission::Execute,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::fixture::request;
    use crate::revoke::Revocation;

    const NOW: Timestamp = Timestamp::from_micros(1_000);

    #[track_caller]
    fn check(eta: Option<i64>, expires: Option<i64>, expected: Admission) {
        let mut request = request("tasks.add", "id");
        request.eta = eta.map(Timestamp::from_micros);
        request.expires = expires.map(Timestamp::from_micros);
        assert_eq!(admit(&request, &Revoked::default(), NOW, false), expected);
        // What is revoked does not wait for its eta; what has expired has expired.
        let mut revoked = Revoked::default();
        revoked.insert(Revocation::Id(request.id.clone()), NOW);
        let expected = if expected == Admission::Expired { expected } else { Admission::Revoked };
        assert_eq!(admit(&request, &revoked, NOW, false), expected);
    }

    #[test]
    fn a_request_waits_for_its_eta_and_is_refused_once_expired() {
        check(None, None, Admission::Execute);
        check(Some(999), None, Admission::Execute);
        check(Some(1_000), None, Admission::Execute);
        check(Some(1_001), None, Admission::Hold(Timestamp::from_micros(1_001)));
        check(None, Some(1_001), Admission::Execute);
        check(None, Some(1_000), Admission::Expired);
        check(Some(5_000), Some(900), Admission::Expired);
    }

    #[test]
    fn nothing_expires_by_a_clock_that_is_wrong() {
        let mut request = request("tasks.add", "id");
        request.expires = Some(Timestamp::from_micros(900));
        assert_eq!(admit(&request, &Revoked::default(), NOW, true), Admission::Execute);
    }
}
