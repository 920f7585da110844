//! The one place that decides what happens to a message: what is published, what is stored, and how
//! the delivery is acknowledged.
//!
//! Acts on nothing itself. The order in which a settlement is carried out is fixed: `before`, `records`, `chord`,
//! `after`, `acknowledgement`, `events` (worker `commit`), so that a crash between two steps repeats work and never
//! loses it.

mod desk;

use std::sync::Arc;

use crate::builtin;
use crate::chord::ChordPart;
use crate::dead;
use crate::dispatcher::ReadyChord;
use crate::event::{Event, Happening};
use crate::exception::Exception;
use crate::flow::{self, Aftermath, Body, Failed, Means};
use crate::message::{Acknowledgement, HeaderValue, Message, PUT_BACK_HEADER, Publication};
use crate::name::{NodeName, PluginName, QueueName, TaskId};
use crate::outcome::{Attempt, Child, Finished, Limit, Outcome, Policy, Violation};
use crate::protocol::content::Json;
use crate::queue::Queue;
use crate::record::{CallRecord, ResultRecord, ResultValue, State};
use crate::request::{DecodeError, Request};
use crate::task::Disposition;
use crate::timestamp::{Jitter, Timestamp};

use desk::Desk;

/// What we do about a delivery.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settlement {
    /// Published and confirmed before anything else, in this order.
    pub before: Vec<Step>,
    /// Then stored.
    pub records: Vec<ResultRecord>,
    /// Then the chords are told that the task belongs to.
    pub chord: Vec<ChordStep>,
    /// Then these are published: errbacks, which look at what is stored.
    pub after: Vec<Step>,
    /// Then the delivery is settled; none if that was done when the attempt started.
    pub acknowledgement: Option<Acknowledgement>,
    /// Then announced.
    pub events: Vec<Event>,
    /// What the log is to be told: something else that went wrong.
    pub remarks: Vec<String>,
}

/// What is done with a chord.
#[derive(Debug, Clone, PartialEq)]
pub enum ChordStep {
    /// One of its members is done.
    Count(ChordPart),
    /// Its body is published.
    Finish { group: String, token: String },
    /// Its body has failed; nobody is to publish it any more.
    Fail { group: String },
}

/// Something that is published, or that the store has to know before.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Where it goes is there, or it is an error.
    Send(Publication),
    /// To a queue that is created, as it is described here, if it is missing.
    SendTo(Box<Queue>, Publication),
    /// Kept aside in a queue that is created if it is missing.
    Shelve { queue: QueueName, message: Message },
    /// So many members of the header complete a chord. One that is done begins anew, unless this may have been
    /// said `again`, by an execution that nobody knows the end of. With the result tuple of the header, where the
    /// store keeps no parts of its own.
    SetChordSize { group: String, size: u64, again: bool, header: Option<Json> },
    /// A chord has one more member. Said twice of the same, it counts once.
    ExtendChord { group: String, member: TaskId },
    /// The result tuple of a group.
    SaveGroup { group: String, result: Json },
}

impl Step {
    /// It was tried before, and may have succeeded though it was said to have failed: whoever gets the second
    /// message of one execution is to know that it may be one.
    pub fn mark_as_repeated(&mut self) {
        match self {
            Self::Send(publication) | Self::SendTo(_, publication) => {
                publication.message.headers.set(PUT_BACK_HEADER, HeaderValue::Bool(true))
            }
            // Looked at by people, and harmless twice.
            Self::Shelve { .. } => {}
            Self::SetChordSize { again, .. } => *again = true,
            // The same, however often.
            Self::ExtendChord { .. } | Self::SaveGroup { .. } => {}
        }
    }
}

/// Why a delivery never became an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// It is no request.
    Unreadable(DecodeError),
    /// No plugin has a task of that name; `once_served` if one had before.
    Unknown { request: Request, disposition: Disposition, once_served: bool },
    /// It expired.
    Expired(Request, Policy),
    /// The plugin of its task is in quarantine.
    Quarantined(Request, PluginName),
    /// Somebody revoked it.
    Revoked(Request, Policy),
    /// It was delivered so many times, and nobody ever finished it.
    Undeliverable(Request, u32),
}

/// Decides about an attempt that ended.
pub fn settle(attempt: &Attempt, finished: Finished, now: Timestamp, jitter: Jitter, means: Means<'_>) -> Settlement {
    // Of the others there is nothing to tell: they were never published.
    let published = |child: &Child| child.published || matches!(finished.outcome, Outcome::Success(_));
    let children = finished.children.iter().filter(|child| published(child)).map(|child| child.result.clone());
    let desk = Desk { attempt, now, usage: Some(finished.usage), children: children.collect(), means };
    match finished.outcome {
        Outcome::Success(result) => desk.succeed(result, finished.effects, finished.usage),
        Outcome::Failure(exception, traceback) => desk.fail_or_retry(exception, traceback, None, jitter),
        Outcome::Retry(wish) => desk.retry(wish),
        Outcome::Ignored => desk.done(Happening::Ignored),
        Outcome::Rejected { requeue: true } => Settlement {
            acknowledgement: desk.unless_early(Acknowledgement::Requeue),
            ..desk.done(Happening::Rejected { requeue: true })
        },
        Outcome::Rejected { requeue: false } => desk.reject("rejected by the task"),
        // Celery publishes the other and raises `Ignore` (celery/app/task.py `on_replace`).
        Outcome::Replaced(replacement) => Settlement {
            before: finished.effects.into_iter().chain(replacement).collect(),
            ..desk.done(Happening::Ignored)
        },
        Outcome::Unlocked(unlocked) => desk.unlock(*unlocked, finished.usage),
        // In Celery the soft limit is an exception inside the task, so `autoretry_for` sees it.
        Outcome::TimedOut(limit @ Limit::Soft(_)) => {
            let exception = Exception::soft_time_limit();
            if desk.retries_on(Violation::Time) {
                return desk.retry_because(exception);
            }
            let traceback = format!("Traceback (most recent call last):\n{}()\n", exception.kind);
            desk.fail_or_retry(exception, Some(traceback), Some(limit), jitter)
        }
        Outcome::TimedOut(Limit::Hard(duration)) if desk.retries_on(Violation::Time) => {
            desk.retry_because(Exception::time_limit(duration))
        }
        // Celery stores the failure and gives the message back all the same (`on_timeout`).
        Outcome::TimedOut(limit @ Limit::Hard(duration)) => Settlement {
            acknowledgement: desk.unless_early(match attempt.policy.acks_on_timeout {
                true => Acknowledgement::Ack,
                false => Acknowledgement::Requeue,
            }),
            ..desk.fail(Exception::time_limit(duration), None, Some(limit))
        },
        Outcome::Trapped(trap) if trap.violation().is_some_and(|violation| desk.retries_on(violation)) => {
            desk.retry_because(Exception::trap(&trap))
        }
        Outcome::Trapped(trap) if trap.lost_the_instance() => desk.lose(Exception::trap(&trap)),
        Outcome::Trapped(trap) => desk.fail(Exception::trap(&trap), None, None),
        Outcome::Interrupted => desk.give_back(),
        Outcome::Terminated(signal) => Settlement {
            records: revoked_record(&attempt.request, attempt.policy, "terminated", now),
            chord: revoked_part(&attempt.request, "terminated"),
            ..desk.done(Happening::Revoked { expired: false, terminated: Some(signal) })
        },
    }
}

/// Decides about a delivery that never became an attempt.
pub fn refuse(refusal: Refusal, now: Timestamp, means: Means<'_>) -> Settlement {
    match refusal {
        // celery/worker/consumer/consumer.py: `on_decode_error` acknowledges what cannot be decoded at
        // all, `on_unknown_message` and `on_invalid_task` reject.
        Refusal::Unreadable(error) => Settlement {
            acknowledgement: Some(match error {
                DecodeError::Body(_) => Acknowledgement::Ack,
                _ => Acknowledgement::Reject,
            }),
            ..Settlement::default()
        },
        Refusal::Unknown { request, disposition: Disposition::Requeue, .. } => Settlement {
            acknowledgement: Some(Acknowledgement::Requeue),
            events: vec![event(&request, Happening::Unregistered { requeue: true })],
            ..Settlement::default()
        },
        Refusal::Unknown { request, disposition: Disposition::Park, once_served } => {
            let reason = if once_served { "removed_task" } else { "unknown_task" };
            park(&request, reason, &format!("no plugin has a task `{}`", request.task))
        }
        Refusal::Quarantined(request, plugin) => {
            park(&request, QUARANTINE, &format!("plugin `{plugin}` is in quarantine"))
        }
        Refusal::Unknown { request, disposition: Disposition::Reject, .. } => {
            let exception = ResultValue::Exception(Exception::not_registered(&request.task));
            Settlement {
                records: vec![record(&request, State::Failure, exception, None, now)],
                acknowledgement: Some(Acknowledgement::Reject),
                events: vec![event(&request, Happening::Unregistered { requeue: false })],
                ..Settlement::default()
            }
        }
        Refusal::Expired(request, policy) => Settlement {
            records: revoked_record(&request, policy, "expired", now),
            chord: revoked_part(&request, "expired"),
            acknowledgement: Some(Acknowledgement::Ack),
            events: vec![event(&request, Happening::Revoked { expired: true, terminated: None })],
            ..Settlement::default()
        },
        Refusal::Revoked(request, policy) => Settlement {
            records: revoked_record(&request, policy, "revoked", now),
            chord: revoked_part(&request, "revoked"),
            acknowledgement: Some(Acknowledgement::Ack),
            events: vec![event(&request, Happening::Revoked { expired: false, terminated: None })],
            ..Settlement::default()
        },
        Refusal::Undeliverable(request, deliveries) => dead_letter(&request, deliveries, now, means),
    }
}

/// Why a message is kept aside whose plugin is there.
const QUARANTINE: &str = "quarantine";

/// Kept aside until a plugin can run it. Nothing is stored: the task has not failed.
fn park(request: &Request, reason: &str, error: &str) -> Settlement {
    let reason = dead::Reason { reason, error, count: request.message.headers.delivery_count() };
    let message = dead::letter(&request.message, &request.delivery.queue, &reason);
    let queue = dead::parked_queue(&request.delivery.queue);
    Settlement {
        // Without a name for its queue (the own one is as long as can be) it stays in that one.
        acknowledgement: Some(if queue.is_some() { Acknowledgement::Ack } else { Acknowledgement::Requeue }),
        before: queue.map(|queue| Step::Shelve { queue, message }).into_iter().collect(),
        events: vec![event(request, Happening::Parked { quarantined: reason.reason == QUARANTINE })],
        ..Settlement::default()
    }
}

/// REVOKED, unless nobody wants to know (celery/worker/request.py `_announce_revoked`).
pub(crate) fn revoked_record(request: &Request, policy: Policy, reason: &str, now: Timestamp) -> Vec<ResultRecord> {
    if policy.ignore_result && !policy.store_errors {
        return Vec::new();
    }
    vec![record(request, State::Revoked, ResultValue::Exception(Exception::revoked(reason)), None, now)]
}

/// The chord of a revoked task will never be complete without it.
fn revoked_part(request: &Request, reason: &str) -> Vec<ChordStep> {
    let result = ResultValue::Exception(Exception::revoked(reason));
    flow::part_of(request, State::Revoked, &result).into_iter().collect()
}

/// REVOKED for a task that is not here and that nobody has begun (celery/worker/control.py `_revoke`).
pub fn revoked_elsewhere(id: TaskId, now: Timestamp) -> ResultRecord {
    ResultRecord {
        id,
        state: State::Revoked,
        result: ResultValue::Exception(Exception::revoked("revoked")),
        traceback: None,
        date_done: Some(now),
        children: Json::null(),
        group_id: None,
        parent_id: None,
        reply_to: None,
        correlation_id: None,
        call: None,
        usage: None,
    }
}

/// What lost worker after worker is kept aside for people to look at.
fn dead_letter(request: &Request, deliveries: u32, now: Timestamp, means: Means<'_>) -> Settlement {
    let error = dead::undeliverable(deliveries);
    let exception = Exception::worker_lost(&error);
    let failed = Failed { exception: &exception, traceback: None, stores: true };
    let aftermath = flow::failed(means, request, &failed, now);
    let exception = ResultValue::Exception(exception);
    let reason = dead::Reason { reason: "delivery_limit", error: &error, count: deliveries };
    let message = dead::letter(&request.message, &request.delivery.queue, &reason);
    Settlement {
        // Without a name for its queue (the own one is as long as can be) there is nowhere to keep it.
        before: dead::queue(&request.delivery.queue).map(|queue| Step::Shelve { queue, message }).into_iter().collect(),
        records: vec![record(request, State::Failure, exception, None, now)],
        acknowledgement: Some(Acknowledgement::Ack),
        events: vec![event(request, Happening::DeadLettered { deliveries })],
        ..Settlement::default()
    }
    .followed_by(aftermath)
}

/// Decides about an attempt whose successors can never be published: one whose retry it is, Celery rejects
/// for good; one that called other tasks, or is replaced, fails.
pub fn unpublishable(
    attempt: &Attempt,
    remaining: &Settlement,
    reason: &str,
    now: Timestamp,
    means: Means<'_>,
) -> Settlement {
    let desk = Desk { attempt, now, usage: None, children: Vec::new(), means };
    let called = |event: &Event| matches!(event.what, Happening::Succeeded { .. } | Happening::Ignored);
    let settlement = match remaining.events.iter().any(called) {
        true => desk.fail(Exception::unpublished(reason), None, None),
        false => desk.reject(reason),
    };
    // Neither its body nor another look at it will be published.
    match builtin::unlocked_chord(attempt) {
        Some((group, body)) => {
            let broken = flow::unpublished(reason);
            settlement.followed_by(flow::fail_body(means, &attempt.request, &group, &body, &broken, now))
        }
        None => settlement,
    }
}

/// Decides about the body of a chord all of whose parts are there. The request is that of the last of them.
pub fn chord_ready(request: &Request, ready: ReadyChord, now: Timestamp, means: Means<'_>) -> Settlement {
    let ReadyChord { claimed, body, mut remaining } = ready;
    match Body::of(means, request, &claimed, &body, now) {
        Body::Runs(steps) => {
            remaining.before = steps;
            if claimed.again {
                remaining.before.iter_mut().for_each(Step::mark_as_repeated);
            }
            remaining.chord.insert(0, ChordStep::Finish { group: claimed.group, token: claimed.token });
            remaining
        }
        Body::Fails(mut aftermath) => {
            if claimed.again {
                aftermath.after.iter_mut().for_each(Step::mark_as_repeated);
            }
            remaining.without_body(claimed.group, aftermath)
        }
    }
}

/// Decides about the body of a chord that can never be published.
pub fn body_unpublishable(
    request: &Request,
    group: &str,
    body: &Json,
    mut remaining: Settlement,
    reason: &str,
    now: Timestamp,
    means: Means<'_>,
) -> Settlement {
    remaining.before.clear();
    remaining.chord.retain(|step| !matches!(step, ChordStep::Finish { group: of, .. } if of == group));
    let aftermath = flow::fail_body(means, request, group, body, &flow::unpublished(reason), now);
    remaining.without_body(group.to_owned(), aftermath)
}

/// Decides about a redelivery that has succeeded before: its part in a chord may not have been counted.
pub fn succeeded_before(request: &Request, result: Json) -> Settlement {
    let part = flow::part_of(request, State::Success, &ResultValue::Json(result));
    Settlement {
        chord: part.into_iter().collect(),
        acknowledgement: Some(Acknowledgement::Ack),
        ..Settlement::default()
    }
}

impl Settlement {
    /// With all that a failure leads to.
    fn followed_by(mut self, aftermath: Aftermath) -> Self {
        let Aftermath { records, chord, after, remarks } = aftermath;
        self.records.extend(records);
        self.chord.extend(chord);
        self.after.extend(after);
        self.remarks.extend(remarks);
        self
    }

    /// With all that the failure of a body leads to; that the chord is over is said last, so that a repeat after a
    /// crash does not miss any of it.
    fn without_body(self, group: String, aftermath: Aftermath) -> Self {
        let mut settlement = self.followed_by(aftermath);
        settlement.chord.push(ChordStep::Fail { group });
        settlement
    }
}

impl Refusal {
    /// The request, if a chord waits for it.
    pub(crate) fn member(&self) -> Option<Arc<Request>> {
        match self {
            Self::Unreadable(_) | Self::Unknown { .. } | Self::Quarantined(..) => None,
            Self::Expired(request, _) | Self::Revoked(request, _) | Self::Undeliverable(request, _) => {
                (!request.embed.is_null()).then(|| Arc::new(request.clone()))
            }
        }
    }

    /// What results tell about the call. Celery knows nothing about one whose task it does not know
    /// (celery/worker/consumer/consumer.py `on_unknown_task`).
    pub(crate) fn call(&self, worker: &NodeName) -> Option<CallRecord> {
        match self {
            Self::Unreadable(_) => None,
            Self::Unknown { .. } => Some(CallRecord::default()),
            // Nothing is stored.
            Self::Quarantined(..) => None,
            Self::Expired(request, _) | Self::Revoked(request, _) | Self::Undeliverable(request, _) => {
                Some(CallRecord::of(request, worker))
            }
        }
    }
}

/// The record that a task has started, with Celery's meta (`pid`, `hostname`).
pub fn started(attempt: &Attempt, meta: Json, now: Timestamp) -> ResultRecord {
    of_attempt(attempt, State::Started, ResultValue::Json(meta), None, now)
}

/// The record of a state that a running task gave itself. As in Celery it is stored even if the task's
/// result is not (celery/app/task.py `update_state`).
pub fn updated(attempt: &Attempt, state: State, meta: Json) -> ResultRecord {
    // The time does not show: only a final state has one, and a task gives itself none of those.
    of_attempt(attempt, state, ResultValue::Json(meta), None, attempt.started)
}

fn event(request: &Request, what: Happening) -> Event {
    Event { id: request.id.clone(), task: request.task.clone(), spec: None, what }
}

/// With what the call was, where that is told.
fn of_attempt(
    attempt: &Attempt,
    state: State,
    result: ResultValue,
    traceback: Option<String>,
    now: Timestamp,
) -> ResultRecord {
    ResultRecord { call: attempt.call.clone(), ..record(&attempt.request, state, result, traceback, now) }
}

fn record(
    request: &Request,
    state: State,
    result: ResultValue,
    traceback: Option<String>,
    now: Timestamp,
) -> ResultRecord {
    let date_done = state.is_ready().then_some(now);
    ResultRecord {
        id: request.id.clone(),
        state,
        result,
        traceback,
        date_done,
        children: Json::empty_list(),
        group_id: request.group_id.clone(),
        parent_id: request.parent_id.clone(),
        reply_to: request.message.properties.reply_to.clone().filter(|reply_to| !reply_to.is_empty()),
        correlation_id: request.message.properties.correlation_id.clone(),
        call: None,
        usage: None,
    }
}

#[cfg(test)]
mod tests;
