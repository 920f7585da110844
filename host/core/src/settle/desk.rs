//! What becomes of an attempt, one method a kind of end: what the arms of [`super::settle`] have in common.
//!
//! Which of them applies is decided there.

use crate::event::{Event, Happening};
use crate::exception::Exception;
use crate::flow::{self, Aftermath, Body, Failed, Means};
use crate::message::Acknowledgement;
use crate::outcome::{Attempt, Limit, RetryDelay, RetryRequest, Unlocked, Violation};
use crate::protocol::content::Json;
use crate::record::{ResultRecord, ResultValue, State};
use crate::retry::{self, Retry};
use crate::timestamp::{Jitter, Timestamp};
use crate::usage::Usage;

use super::{Settlement, Step, event, of_attempt};

/// What all arms of `settle` have at hand.
pub(super) struct Desk<'a> {
    pub(super) attempt: &'a Attempt,
    pub(super) now: Timestamp,
    /// None of what did not end by itself.
    pub(super) usage: Option<Usage>,
    /// The result tuples of what it called.
    pub(super) children: Vec<Json>,
    pub(super) means: Means<'a>,
}

impl Desk<'_> {
    /// Acknowledged and announced, nothing else: what most outcomes have in common.
    pub(super) fn done(&self, what: Happening) -> Settlement {
        Settlement {
            acknowledgement: self.unless_early(Acknowledgement::Ack),
            events: vec![Event { spec: Some(self.attempt.spec.clone()), ..event(&self.attempt.request, what) }],
            ..Settlement::default()
        }
    }

    /// What follows is published before the result is stored, which names it (celery/app/trace.py).
    pub(super) fn succeed(mut self, result: Json, effects: Vec<Step>, usage: Usage) -> Settlement {
        let next = match flow::succeeded(self.means, &self.attempt.request, &result, self.now) {
            Ok(next) => next,
            Err(error) => return self.fail(error.exception(), None, None),
        };
        let mut before = effects;
        before.extend(next.steps);
        self.children.extend(next.children);
        Settlement {
            before,
            records: self.record_unless_ignored(State::Success, ResultValue::Json(result.clone()), None),
            chord: next.chord.into_iter().collect(),
            ..self.done(Happening::Succeeded { result, usage })
        }
    }

    /// The body of a chord is called by the task that looked after it, or fails.
    pub(super) fn unlock(self, unlocked: Unlocked, usage: Usage) -> Settlement {
        let Unlocked { group, body, joined, failure } = unlocked;
        let body = flow::unlocked(self.means, &self.attempt.request, &group, &body, joined, self.now);
        let (steps, aftermath) = match body {
            Body::Runs(steps) => (steps, Aftermath::default()),
            Body::Fails(aftermath) => (Vec::new(), aftermath),
        };
        let settlement = match failure {
            None => self.succeed(Json::null(), steps, usage),
            Some(exception) => self.fail(exception, None, None),
        };
        settlement.followed_by(aftermath)
    }

    /// For good.
    pub(super) fn reject(&self, reason: &str) -> Settlement {
        let exception = Exception::rejected(reason);
        let aftermath = self.aftermath(&exception, None);
        Settlement {
            records: self.failure(exception, None),
            acknowledgement: self.unless_early(Acknowledgement::Reject),
            ..self.done(Happening::Rejected { requeue: false })
        }
        .followed_by(aftermath)
    }

    fn aftermath(&self, exception: &Exception, traceback: Option<&str>) -> Aftermath {
        let failed = Failed { exception, traceback, stores: self.stores_failures() };
        flow::failed(self.means, &self.attempt.request, &failed, self.now)
    }

    pub(super) fn fail(&self, exception: Exception, traceback: Option<String>, limit: Option<Limit>) -> Settlement {
        let aftermath = self.aftermath(&exception, traceback.as_deref());
        Settlement {
            records: self.failure(exception.clone(), traceback.clone()),
            acknowledgement: self.unless_early(match self.attempt.policy.acks_on_failure {
                true => Acknowledgement::Ack,
                false => Acknowledgement::Reject,
            }),
            ..self.done(Happening::Failed { exception, traceback, limit, usage: self.usage.unwrap_or_default() })
        }
        .followed_by(aftermath)
    }

    pub(super) fn fail_or_retry(
        &self,
        exception: Exception,
        traceback: Option<String>,
        limit: Option<Limit>,
        jitter: Jitter,
    ) -> Settlement {
        let options = &self.attempt.spec.options;
        match retry::automatic(options, self.attempt.request.retries, &exception, jitter) {
            Some(delay) => self.retry(RetryRequest {
                cause: Some((exception, traceback)),
                delay,
                max_retries: options.retry_kwargs.max_retries,
                args: None,
                kwargs: None,
            }),
            None => self.fail(exception, traceback, limit),
        }
    }

    pub(super) fn retry(&self, wish: RetryRequest) -> Settlement {
        match retry::decide(self.attempt, &wish, self.now) {
            Retry::Exhausted(exception, traceback) => self.fail(exception, traceback, None),
            Retry::Again { publication, delay } => {
                let (cause, traceback) = wish.cause.unzip();
                let traceback = traceback.flatten();
                let result = cause.clone().map_or(ResultValue::Json(Json::null()), ResultValue::Exception);
                Settlement {
                    before: vec![Step::Send(*publication)],
                    records: self.record_unless_ignored(State::Retry, result, traceback.clone()),
                    ..self.done(Happening::Retried { cause, traceback, delay })
                }
            }
        }
    }

    /// The instance is gone, as a process of Celery's pool would be (celery/worker/request.py
    /// `on_failure`). A task that has used up its retries is not given back for more.
    pub(super) fn lose(&self, exception: Exception) -> Settlement {
        let policy = self.attempt.policy;
        if policy.retry_on_worker_lost {
            return self.retry_because(exception);
        }
        if policy.reject_on_worker_lost && policy.acks_late {
            return Settlement {
                acknowledgement: Some(Acknowledgement::Requeue),
                ..self.done(Happening::Lost { exception })
            };
        }
        self.fail(exception, None, None)
    }

    /// True if the task wants to be retried when the sandbox ends it for this.
    pub(super) fn retries_on(&self, violation: Violation) -> bool {
        let retry_on = self.attempt.spec.options.retry_on;
        match violation {
            Violation::Trap => retry_on.trap,
            Violation::Memory => retry_on.memory,
            Violation::Time => retry_on.time,
        }
    }

    pub(super) fn retry_because(&self, exception: Exception) -> Settlement {
        let (cause, delay) = (Some((exception, None)), RetryDelay::Default);
        self.retry(RetryRequest { cause, delay, max_retries: None, args: None, kwargs: None })
    }

    /// The worker stops at once. A message that is still ours goes back; one that was acknowledged
    /// early is published again, where Celery would lose it (celery/worker/request.py `cancel`).
    pub(super) fn give_back(&self) -> Settlement {
        let request = &self.attempt.request;
        let before = match self.attempt.policy.acks_late {
            true => Vec::new(),
            false => vec![Step::Send(retry::publication(request))],
        };
        Settlement {
            before,
            acknowledgement: self.unless_early(Acknowledgement::Requeue),
            ..self.done(Happening::Interrupted)
        }
    }

    fn stores_failures(&self) -> bool {
        !self.attempt.policy.ignore_result || self.attempt.policy.store_errors
    }

    fn failure(&self, exception: Exception, traceback: Option<String>) -> Vec<ResultRecord> {
        if !self.stores_failures() {
            return Vec::new();
        }
        let exception = ResultValue::Exception(exception);
        vec![self.record(State::Failure, exception, traceback)]
    }

    fn record_unless_ignored(&self, state: State, result: ResultValue, traceback: Option<String>) -> Vec<ResultRecord> {
        if self.attempt.policy.ignore_result {
            return Vec::new();
        }
        vec![self.record(state, result, traceback)]
    }

    pub(super) fn record(&self, state: State, result: ResultValue, traceback: Option<String>) -> ResultRecord {
        let usage = self.usage.filter(|_| self.attempt.policy.store_usage);
        let children = match &*self.children {
            [] => Json::empty_list(),
            children => Json::array(children.iter().cloned()),
        };
        ResultRecord { usage, children, ..of_attempt(self.attempt, state, result, traceback, self.now) }
    }

    pub(super) fn unless_early(&self, acknowledgement: Acknowledgement) -> Option<Acknowledgement> {
        self.attempt.policy.acks_late.then_some(acknowledgement)
    }
}
