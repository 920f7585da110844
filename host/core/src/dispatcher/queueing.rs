//! The way of a delivery from its acceptance to the line for a slot: past its times and through the gates of
//! its task's limits.
//!
//! How the gates work is their own business ([`super::gates`]).

use std::sync::Arc;
use std::time::Duration;

use crate::admit::{Admission, admit};
use crate::message::{Acknowledgement, HeaderValue, PUT_BACK_HEADER};
use crate::outcome::DeliveryId;
use crate::rate::Rate;
use crate::retry;
use crate::settle::{self, Refusal};
use crate::timestamp::Timestamp;

use super::gates::{Opened, Turn};
use super::identity::Identity;
use super::stage::{Due, Stage, Tracked, Work};
use super::{Action, Dispatcher};

/// A shorter wait is not worth the way to the broker and back.
const PUT_BACK_MIN: Duration = Duration::from_secs(2);

impl Dispatcher {
    pub(super) fn admit(&mut self, delivery: DeliveryId, work: Work, now: Timestamp, actions: &mut Vec<Action>) {
        match admit(&work.request, &self.revoked, now, self.clock_is_wrong) {
            Admission::Expired => self.expire(delivery, work, now, actions),
            Admission::Revoked => self.refuse_revoked(delivery, work, now, actions),
            Admission::Hold(until) if self.is_for_the_broker(until, now) => {
                let mut publication = Box::new(retry::publication(&work.request));
                publication.message.headers.set(PUT_BACK_HEADER, HeaderValue::Bool(true));
                self.track(delivery, Stage::PuttingBack { work, until });
                actions.push(Action::PutBack { delivery, publication, until });
            }
            Admission::Hold(until) => self.hold(delivery, work, until),
            Admission::Execute => self.queue_up(delivery, work, now),
        }
    }

    /// Waiting that long is not for this worker's memory.
    pub(super) fn is_for_the_broker(&self, until: Timestamp, now: Timestamp) -> bool {
        let wait = until.since(now);
        self.puts_back && (wait > self.limits.eta_hold || (wait > PUT_BACK_MIN && self.held >= self.limits.held_max))
    }

    /// Through the gates of the task's limits, if it has any, into the line for a slot.
    pub(super) fn queue_up(&mut self, delivery: DeliveryId, mut work: Work, now: Timestamp) {
        let options = &work.spec.options;
        if let Some(limit) = options.concurrency
            && work.turn.is_none()
        {
            let key = options.concurrency_key.as_ref().map(|path| path.find(&work.request)).unwrap_or_default();
            let turn = Turn { task: work.request.task.clone(), key };
            if !self.gates.take_turn(delivery, &turn, limit) {
                return self.track(delivery, Stage::Waiting(work));
            }
            work.turn = Some(turn);
        }
        if !work.let_through
            && let Some(rate) = self.rate(&work)
        {
            self.gates.line_up(delivery, &work.request.task, rate, work.spec.options.rate_limit_scope, now);
            return self.track(delivery, Stage::Waiting(work));
        }
        self.track(delivery, Stage::Ready(work));
        self.ready.push_back(delivery);
    }

    pub(super) fn rate(&self, work: &Work) -> Option<Rate> {
        let changed = if self.rates.is_empty() { None } else { self.rates.get(&work.request.task) };
        changed.copied().unwrap_or_else(|| work.spec.options.rate_limit.unwrap_or(self.limits.task.rate_limit))
    }

    /// Moves on what waited at a gate that opened.
    pub(super) fn open_gates(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        while let Some(opened) = self.gates.next_opened() {
            match opened {
                Opened::Turn(delivery, turn) => match self.take_waiting(delivery) {
                    Some(mut work) => {
                        work.turn = Some(turn);
                        self.queue_up(delivery, work, now);
                    }
                    None => self.gates.return_turn(turn),
                },
                Opened::Pace(delivery) => {
                    let Some(mut work) = self.take_waiting(delivery) else { continue };
                    work.let_through = true;
                    self.queue_up(delivery, work, now);
                }
                Opened::Ask(delivery, task, rate) => actions.push(Action::Acquire { delivery, task, rate }),
                Opened::Wake(at, task) => self.timetable.insert(at, Due::Gate(task)),
            }
        }
    }

    pub(super) fn take_waiting(&mut self, delivery: DeliveryId) -> Option<Work> {
        match self.untrack(delivery)? {
            Tracked { stage: Stage::Waiting(work), .. } => Some(work),
            other => {
                self.deliveries.insert(delivery, other);
                None
            }
        }
    }

    pub(super) fn put_back_answered(
        &mut self,
        delivery: DeliveryId,
        done: bool,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        // Gone if the broker was lost meanwhile.
        let Some(Stage::PuttingBack { work, until }) = self.untrack(delivery).map(|tracked| tracked.stage) else {
            return;
        };
        let identity = Identity::of(&work.request);
        if self.overtime.is_superseded(delivery) {
            // The broker has given it to us again, whatever became of the original.
            return actions.push(Action::Settle(delivery, Acknowledgement::Ack));
        }
        let revoked = self.revoked.covers(&work.request);
        match done {
            true => {
                self.forget_identity(&identity, delivery);
                if revoked {
                    // It is refused when it comes again. Nobody has to wait until then to know.
                    let records = settle::revoked_record(&work.request, work.policy, "revoked", now);
                    actions.extend(records.into_iter().map(Action::Record));
                } else {
                    let hostname = self.hostname();
                    self.away.insert(&work.request, until, &hostname);
                }
                // Thousands of them should not go back in batches of a few.
                self.credit.finished(now);
                self.watch_credit(now);
            }
            false if self.stopping => {
                self.forget_identity(&identity, delivery);
                actions.push(Action::Settle(delivery, Acknowledgement::Requeue));
            }
            false if revoked => self.refuse_revoked(delivery, work, now, actions),
            false => self.hold(delivery, work, until),
        }
    }

    pub(super) fn hold(&mut self, delivery: DeliveryId, work: Work, until: Timestamp) {
        self.timetable.insert(until, Due::Delivery(delivery));
        self.held += 1;
        self.track(delivery, Stage::Held(work));
    }

    /// It will not start: whoever waits behind it at a gate moves up.
    pub(super) fn leave_gates(&mut self, delivery: DeliveryId, work: &mut Work, now: Timestamp) {
        if work.turn.is_some() || work.let_through {
            self.gates.leave(delivery, &work.request.task, work.turn.take(), now);
        }
    }

    pub(super) fn expire(&mut self, delivery: DeliveryId, mut work: Work, now: Timestamp, actions: &mut Vec<Action>) {
        self.leave_gates(delivery, &mut work, now);
        let identity = Identity::of(&work.request);
        let request = Arc::unwrap_or_clone(work.request);
        self.remember_expired(&request.id, now, actions);
        self.refuse(delivery, Some(identity), Refusal::Expired(request, work.policy), now, actions);
    }
}
