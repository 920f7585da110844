//! For how long a chord is kept and claimed, in stores in which workers of Celery may count the same chord.

use std::time::Duration;

use uuid::Uuid;

use crate::connect::StoreOptions;

/// How long a claim lasts once its body is being published: what Celery comes to with its default settings
/// (`_chord_publish_claim_expires` of celery/backends/redis.py).
const PUBLISHING_S: u64 = 21;
/// How long our own marks stay if chords are kept for ever.
const MARKS_KEPT_S: u64 = 86_400;

/// How chords are kept.
pub(crate) struct ChordTerms {
    /// Before our marks and claims: no other process has the same.
    pub(crate) owner: String,
    /// Of what is counted; zero is for ever.
    pub(crate) expires_s: u64,
    /// Of the header and its results, which are for clients as well and not kept for less time than results
    /// (`_chord_result_expires`).
    pub(crate) results_expire_s: u64,
    pub(crate) claim_s: u64,
    pub(crate) done_s: u64,
}

impl ChordTerms {
    pub(crate) fn new(options: &StoreOptions) -> Self {
        let results_s = whole_seconds(options.expires);
        let expires_s = options.chord_expires.map_or(results_s, whole_seconds);
        // Celery's, with the same rounding: twice the time that the last member has for joining the results.
        let claim_s = options.chord_join_timeout.map_or(10, |timeout| (timeout * 2).as_secs().max(5));
        Self {
            owner: Uuid::new_v4().simple().to_string(),
            expires_s,
            results_expire_s: if expires_s == 0 || results_s == 0 { 0 } else { expires_s.max(results_s) },
            claim_s,
            done_s: (claim_s * 2).max(300),
        }
    }

    /// How long a claim lasts once its body is being published.
    pub(crate) fn publishing_s(&self) -> u64 {
        PUBLISHING_S.max(self.claim_s)
    }

    /// How long our own marks stay, such as who made a chord larger.
    pub(crate) fn marks_s(&self) -> u64 {
        if self.expires_s == 0 { MARKS_KEPT_S } else { self.expires_s }
    }
}

/// Servers count whole seconds, and none is for ever: a fraction is rounded up.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_last_as_long_as_in_celery() {
        let claim = |timeout: Option<f64>| {
            let chord_join_timeout = timeout.map(Duration::from_secs_f64);
            let terms = ChordTerms::new(&StoreOptions { chord_join_timeout, ..StoreOptions::default() });
            (terms.claim_s, terms.done_s, terms.publishing_s())
        };
        assert_eq!(claim(Some(3.0)), (6, 300, 21));
        assert_eq!(claim(Some(0.5)), (5, 300, 21));
        assert_eq!(claim(Some(100.7)), (201, 402, 201));
        assert_eq!(claim(None), (10, 300, 21));
    }

    #[test]
    fn a_chord_is_kept_for_no_longer_than_is_said_and_its_results_for_no_less() {
        let kept = |expires: u64, chord_expires: Option<f64>| {
            let (expires, chord_expires) = (Duration::from_secs(expires), chord_expires.map(Duration::from_secs_f64));
            let terms = ChordTerms::new(&StoreOptions { expires, chord_expires, ..StoreOptions::default() });
            (terms.expires_s, terms.results_expire_s, terms.marks_s())
        };
        assert_eq!(kept(100, None), (100, 100, 100));
        assert_eq!(kept(100, Some(9.5)), (10, 100, 10));
        assert_eq!(kept(100, Some(900.0)), (900, 900, 900));
        assert_eq!(kept(0, Some(900.0)), (900, 0, 900), "results are kept for ever");
        assert_eq!(kept(100, Some(0.0)), (0, 0, MARKS_KEPT_S));
    }
}
