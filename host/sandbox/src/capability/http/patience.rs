//! How long a guest's request may wait, and for what.
//!
//! The guest names times, the host has a ceiling for each, and the attempt itself ends. Never zero, and never for ever.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use wasmtime_wasi_http::Error;

use crate::clock::{Deadlines, Notice};

/// The shortest wait: a timer of zero is over before the packet is sent.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// Resolves to the error for the guest when its time is over.
pub(super) type Elapsed = Pin<Box<dyn Future<Output = Error> + Send>>;

/// One of the three waits of a request.
#[derive(Clone)]
pub(super) struct Patience {
    /// What the guest asks for.
    pub(super) wanted: Option<Duration>,
    /// What it is told then.
    pub(super) its_error: fn() -> Error,
    /// `limits.http_timeout`.
    pub(super) ceiling: Duration,
    pub(super) deadlines: Deadlines,
    pub(super) notice: Option<Arc<Notice>>,
}

impl Patience {
    /// Begins to wait. A guest that listens is told at once that it should come to an end.
    pub(super) fn begin(&self, for_what: &'static str) -> Elapsed {
        let (wait, error) = self.longest(for_what);
        let notice = self.notice.clone().filter(|notice| !notice.is_given());
        Box::pin(async move {
            let wait = sleep(wait);
            match notice {
                Some(notice) => tokio::select! {
                    () = wait => error,
                    () = notice.arrived() => over(for_what),
                },
                None => {
                    wait.await;
                    error
                }
            }
        })
    }

    /// The time, and whose it is.
    fn longest(&self, for_what: &'static str) -> (Duration, Error) {
        let left = self.deadlines.patience();
        let (wait, error) = match self.wanted {
            Some(wanted) if wanted <= self.ceiling && wanted <= left => (wanted, (self.its_error)()),
            _ if self.ceiling <= left => {
                let seconds = self.ceiling.as_secs_f64();
                let text = format!("waited {seconds} s for {for_what}; raise limits.http_timeout");
                (self.ceiling, Error::InternalError(Some(text)))
            }
            _ => (left, over(for_what)),
        };
        (wait.max(WAIT_MIN), error)
    }
}

fn over(for_what: &str) -> Error {
    Error::InternalError(Some(format!("the time of the task was over while it waited for {for_what}")))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn patience(wanted: Option<u64>, left: u64) -> Patience {
        let deadlines = Deadlines::new(Instant::now(), Duration::from_secs(left), None, false);
        let wanted = wanted.map(Duration::from_secs);
        Patience {
            wanted,
            its_error: || Error::ConnectionTimeout,
            ceiling: Duration::from_secs(60),
            deadlines,
            notice: None,
        }
    }

    #[test]
    fn the_shortest_of_three_times_counts_and_says_whose_it_is() {
        for (wanted, left, seconds, text) in [
            (Some(5), 100, 5, "ConnectionTimeout"),
            (Some(600), 100, 60, "raise limits.http_timeout"),
            (None, 100, 60, "waited 60 s for an answer; raise limits.http_timeout"),
            (None, 10, 10, "the time of the task was over while it waited for an answer"),
            (Some(20), 10, 10, "the time of the task was over"),
            (Some(0), 100, 0, "ConnectionTimeout"),
            (Some(u64::MAX), 100, 60, "limits.http_timeout"),
        ] {
            let (wait, error) = patience(wanted, left).longest("an answer");
            assert!(format!("{error:?}").contains(text), "{wanted:?} {left}: {error:?}");
            assert!(wait >= WAIT_MIN && wait.as_secs_f64().round() as u64 == seconds, "{wanted:?} {left}: {wait:?}");
        }
        assert_eq!(patience(None, 0).longest("an answer").0, WAIT_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_listens_is_told_to_end_while_it_waits() {
        let notice = Arc::new(Notice::default());
        let patience = Patience { notice: Some(Arc::clone(&notice)), ..patience(None, 100) };
        let waiting = patience.begin("an answer");
        notice.give();
        assert!(format!("{:?}", waiting.await).contains("the time of the task was over"));
        // What it does after that has its own time.
        let started = tokio::time::Instant::now();
        assert!(format!("{:?}", patience.begin("an answer").await).contains("limits.http_timeout"));
        assert_eq!(started.elapsed(), Duration::from_secs(60));
    }
}
