//! The loop of the whole worker as a state machine: what arrives goes in, what is to be done comes out.
//!
//! Owns everything that is known about deliveries, and neither receipts, time nor chance. Whatever needs
//! I/O to be decided comes back as an input, and is decided then.

mod counted;
mod credit;
mod gates;
mod identity;
mod input;
mod overtime;
mod requeue;
mod revoking;
mod stage;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::admit::{Admission, admit};
use crate::event::{Event, Happening};
use crate::message::{Acknowledgement, HeaderValue, PUT_BACK_HEADER};
use crate::name::{TaskId, TaskName};
use crate::outcome::{Attempt, AttemptId, DeliveryId, Finished, Outcome};
use crate::rate::Rate;
use crate::record::CallRecord;
use crate::request::{DecodeError, Request};
use crate::retry;
use crate::revoke::Revoked;
use crate::settle::{self, Refusal, Settlement, Step};
use crate::task::{Catalog, Disposition};
use crate::timestamp::{Jitter, Timestamp};
use crate::timetable::Timetable;

use counted::Counted;
use credit::Credit;
use gates::{Gates, Opened, Turn};
use identity::{Identity, Remembered};
use overtime::Overtime;
use requeue::Requeues;
use stage::{Commit, Due, Running, Stage, Tracked, Work};

pub use input::{Action, CommitFailure, Input, Kept, Limits, Lookup, Question, Revoke, Shutdown, TaskDefaults};

/// Wait before a failed commit is tried again: doubled each time, up to the second.
const COMMIT_BACKOFF_MIN: Duration = Duration::from_millis(100);
const COMMIT_BACKOFF_MAX: Duration = Duration::from_secs(10);

/// A shorter wait is not worth the way to the broker and back.
const PUT_BACK_MIN: Duration = Duration::from_secs(2);

/// AMQP's `basic.qos` counts in 16 bits.
const PREFETCH_MAX: u32 = u16::MAX as u32;

/// Decides what happens to every delivery.
#[derive(Debug)]
pub struct Dispatcher {
    limits: Limits,
    catalog: Arc<Catalog>,
    chance: Chance,
    deliveries: FxHashMap<DeliveryId, Tracked>,
    /// Which delivery carries an execution; the first one, should a client send the same twice.
    identities: FxHashMap<Identity, DeliveryId>,
    attempts: FxHashMap<AttemptId, Running>,
    /// Names of tasks that this node has had, now or before.
    once_served: FxHashSet<TaskName>,
    /// Executions that were committed a short while ago.
    remembered: Remembered,
    counted: Counted,
    overtime: Overtime,
    revoked: Revoked,
    /// Attempts that were stopped since their tasks are revoked.
    terminated: FxHashSet<AttemptId>,
    timetable: Timetable<Due>,
    ready: VecDeque<DeliveryId>,
    requeues: Requeues,
    gates: Gates,
    /// Rate limits that were changed while the worker runs.
    rates: FxHashMap<TaskName, Option<Rate>>,
    credit: Credit,
    /// It will be looked whether the credit has lapsed.
    credit_watched: bool,
    /// Ids whose successors are being published, with the deliveries that must wait until the records
    /// that belong to them are stored: a retry may be here before the state RETRY is.
    publishing: FxHashMap<TaskId, Vec<DeliveryId>>,
    held: u32,
    /// How many wait here before they go back to their queue.
    requeuing: u32,
    committing: usize,
    attempts_started: u64,
    prefetch: u32,
    wake_at: Option<Timestamp>,
    /// The broker can keep messages until a later time.
    puts_back: bool,
    /// `now` says nothing about what has expired.
    clock_is_wrong: bool,
    stopping: bool,
    /// A cold shutdown waits for what runs, up to a time.
    soft: bool,
    stopped: bool,
}

impl Dispatcher {
    /// A dispatcher with nothing to do. The seed is for the jitter of retries.
    pub fn new(limits: Limits, catalog: Arc<Catalog>, seed: u64) -> Self {
        Self {
            once_served: catalog.tasks().map(|spec| spec.name.clone()).collect(),
            prefetch: limits.prefetch(0, 0, 0),
            credit: Credit::new(limits.credit_max()),
            credit_watched: false,
            remembered: Remembered::new(limits.remembered_max),
            limits,
            catalog,
            chance: Chance(seed),
            deliveries: FxHashMap::default(),
            identities: FxHashMap::default(),
            attempts: FxHashMap::default(),
            counted: Counted::default(),
            overtime: Overtime::default(),
            revoked: Revoked::default(),
            terminated: FxHashSet::default(),
            timetable: Timetable::default(),
            ready: VecDeque::new(),
            requeues: Requeues::default(),
            gates: Gates::default(),
            rates: FxHashMap::default(),
            publishing: FxHashMap::default(),
            held: 0,
            requeuing: 0,
            committing: 0,
            attempts_started: 0,
            wake_at: None,
            puts_back: false,
            clock_is_wrong: false,
            stopping: false,
            soft: false,
            stopped: false,
        }
    }

    /// Adds names of tasks that this node has had in an earlier life.
    pub fn remember_served(&mut self, names: impl IntoIterator<Item = TaskName>) {
        self.once_served.extend(names);
    }

    /// How many unsettled deliveries are wanted now.
    pub fn prefetch(&self) -> u32 {
        self.prefetch
    }

    /// Takes one input and says what is to be done, in this order.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Received(delivery, request) => {
                self.overtime.arrived(delivery, now);
                self.received(delivery, request, now, &mut actions);
            }
            Input::Resumed(delivery, request) => self.resumed(delivery, request, now, &mut actions),
            Input::Journaled(delivery, written) => self.journaled(delivery, written, &mut actions),
            Input::LookedUp(delivery, lookup) => self.looked_up(delivery, lookup, now, &mut actions),
            Input::Due => {
                self.wake_at = None;
                self.due(now, &mut actions);
                self.look_for_old(now, &mut actions);
            }
            Input::Finished(attempt, finished) => self.finished(attempt, finished, now, &mut actions),
            Input::Committed(delivery) => self.committed(delivery, &mut actions),
            Input::CommitFailed(delivery, failure) => self.commit_failed(delivery, *failure, now, &mut actions),
            Input::BrokerLost => self.broker_lost(now, &mut actions),
            Input::BrokerBack { puts_back, times_out, clock_is_wrong } => {
                self.puts_back = puts_back;
                self.clock_is_wrong = clock_is_wrong;
                self.overtime.begin(self.limits.consumer_timeout.filter(|_| times_out));
                self.hurry_commits(now, &mut actions);
            }
            Input::PutBack(delivery, done) => self.put_back_answered(delivery, done, now, &mut actions),
            Input::Permit(delivery, task, wait) => self.gates.permitted(delivery, &task, wait, now),
            Input::RateLimit(task, rate) => {
                self.gates.change_rate(&task, rate, now);
                self.rates.insert(task, rate);
            }
            Input::Revoke(revoke) => self.revoke(revoke, now, &mut actions),
            Input::Stop(shutdown) => self.stop(shutdown, now, &mut actions),
        }
        self.open_gates(now, &mut actions);
        self.start_ready(now, &mut actions);
        self.wake(&mut actions);
        self.adjust_prefetch(&mut actions);
        if self.stopping && !self.stopped && self.deliveries.is_empty() && !self.overtime.is_writing() {
            self.stopped = true;
            actions.push(Action::Stopped);
        }
        actions
    }

    fn received(
        &mut self,
        delivery: DeliveryId,
        request: Result<Box<Request>, DecodeError>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        if self.stopping {
            return actions.push(Action::Settle(delivery, Acknowledgement::Requeue));
        }
        let request = match request {
            Ok(request) => request,
            Err(error) => return self.refuse(delivery, None, Refusal::Unreadable(error), now, actions),
        };
        let identity = Identity::of(&request);
        let was_put_back = request.message.headers.get(PUT_BACK_HEADER).is_some();
        let redelivered = request.delivery.redelivered || was_put_back;
        if was_put_back && self.is_back_already(&identity) {
            // Where there was no time to wait, it may come again before we hear that it is away.
            self.overtime.supersede(self.identities.insert(identity, delivery));
        } else if let Some(&known) = self.identities.get(&identity) {
            // A message that a client sent twice runs twice; one that the broker hands out again does not.
            if request.delivery.redelivered || self.deliveries.get(&known).is_some_and(|tracked| tracked.lost) {
                return self.adopt(known, delivery, actions);
            }
            if was_put_back {
                // The other one of two, and that one has a receipt of its own.
                return actions.push(Action::Settle(delivery, Acknowledgement::Ack));
            }
        } else {
            if redelivered && self.remembered.contains(&identity) {
                return actions.push(Action::Settle(delivery, Acknowledgement::Ack));
            }
            self.identities.insert(identity, delivery);
        }
        let deliveries = request.message.headers.delivery_count();
        if self.limits.delivery_limit.is_some_and(|limit| deliveries >= limit) {
            let identity = Identity::of(&request);
            return self.refuse(delivery, Some(identity), Refusal::Undeliverable(*request, deliveries), now, actions);
        }
        if redelivered && let Some(question) = self.question(&request) {
            actions.push(Action::LookUp(delivery, question));
            self.track(delivery, Stage::LookingUp(request));
            return;
        }
        self.resolve(delivery, request, now, actions);
    }

    /// A redelivery of something that is still in our hands: the new receipt replaces the dead one.
    fn adopt(&mut self, known: DeliveryId, redelivered: DeliveryId, actions: &mut Vec<Action>) {
        let Some(tracked) = self.deliveries.get_mut(&known) else { return };
        if tracked.stage.is_acknowledged() || self.overtime.is_journaled(known) {
            return actions.push(Action::Settle(redelivered, Acknowledgement::Ack));
        }
        tracked.lost = false;
        if let Stage::Committing { adopted, .. } = &mut tracked.stage {
            *adopted = true;
        }
        actions.push(Action::Adopt { known, redelivered });
    }

    fn looked_up(&mut self, delivery: DeliveryId, lookup: Lookup, now: Timestamp, actions: &mut Vec<Action>) {
        // Gone if the broker was lost meanwhile.
        let Some(Stage::LookingUp(request)) = self.untrack(delivery).map(|tracked| tracked.stage) else { return };
        let identity = Identity::of(&request);
        self.counted.insert(delivery, lookup.deliveries);
        if lookup.succeeded {
            self.forget_identity(&identity, delivery);
            self.forget_count(delivery, &identity, actions);
            self.overtime.forget(delivery);
            self.remembered.insert(identity);
            return actions.push(Action::Settle(delivery, Acknowledgement::Ack));
        }
        if self.limits.delivery_limit.is_some_and(|limit| lookup.deliveries >= limit) {
            let refusal = Refusal::Undeliverable(*request, lookup.deliveries);
            return self.refuse(delivery, Some(identity), refusal, now, actions);
        }
        self.resolve(delivery, request, now, actions);
    }

    fn resolve(&mut self, delivery: DeliveryId, request: Box<Request>, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(spec) = self.catalog.get(&request.task).cloned() else {
            return self.unknown(delivery, request, now, actions);
        };
        let policy = self.limits.task.policy(&request, &spec.options);
        actions.push(Action::Announce(Event {
            id: request.id.clone(),
            task: request.task.clone(),
            what: Happening::Received { eta: request.eta, expires: request.expires },
        }));
        let work = Work { request: Arc::from(request), spec, policy, turn: None, let_through: false };
        self.admit(delivery, work, now, actions);
    }

    fn unknown(&mut self, delivery: DeliveryId, request: Box<Request>, now: Timestamp, actions: &mut Vec<Action>) {
        let once_served = self.once_served.contains(&request.task);
        let disposition = if once_served { self.limits.removed_task } else { self.limits.unknown_task };
        let pause = match disposition {
            Disposition::Requeue => {
                let deliveries = request.message.headers.delivery_count();
                self.requeues.pause(&request.task, deliveries, self.chance.next())
            }
            Disposition::Reject | Disposition::Park => Duration::ZERO,
        };
        let commit = Commit { attempt: None, identity: Some(Identity::of(&request)), failures: 0, shelved: false };
        let settlement = self.settle_refusal(Refusal::Unknown { request: *request, disposition, once_served }, now);
        self.commit_after(pause, delivery, commit, settlement, false, now, actions);
    }

    fn admit(&mut self, delivery: DeliveryId, work: Work, now: Timestamp, actions: &mut Vec<Action>) {
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
    fn is_for_the_broker(&self, until: Timestamp, now: Timestamp) -> bool {
        let wait = until.since(now);
        self.puts_back && (wait > self.limits.eta_hold || (wait > PUT_BACK_MIN && self.held >= self.limits.held_max))
    }

    /// Through the gates of the task's limits, if it has any, into the line for a slot.
    fn queue_up(&mut self, delivery: DeliveryId, mut work: Work, now: Timestamp) {
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

    fn rate(&self, work: &Work) -> Option<Rate> {
        let changed = if self.rates.is_empty() { None } else { self.rates.get(&work.request.task) };
        changed.copied().unwrap_or_else(|| work.spec.options.rate_limit.unwrap_or(self.limits.task.rate_limit))
    }

    /// Moves on what waited at a gate that opened.
    fn open_gates(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
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

    fn take_waiting(&mut self, delivery: DeliveryId) -> Option<Work> {
        match self.untrack(delivery)? {
            Tracked { stage: Stage::Waiting(work), .. } => Some(work),
            other => {
                self.deliveries.insert(delivery, other);
                None
            }
        }
    }

    fn put_back_answered(&mut self, delivery: DeliveryId, done: bool, now: Timestamp, actions: &mut Vec<Action>) {
        // Gone if the broker was lost meanwhile.
        let Some(Stage::PuttingBack { work, until }) = self.untrack(delivery).map(|tracked| tracked.stage) else {
            return;
        };
        let identity = Identity::of(&work.request);
        if self.overtime.is_superseded(delivery) {
            // The broker has given it to us again, whatever became of the original.
            return actions.push(Action::Settle(delivery, Acknowledgement::Ack));
        }
        match done {
            true => {
                self.forget_identity(&identity, delivery);
                // Thousands of them should not go back in batches of a few.
                self.credit.finished(now);
                self.watch_credit(now);
            }
            false if self.stopping => {
                self.forget_identity(&identity, delivery);
                actions.push(Action::Settle(delivery, Acknowledgement::Requeue));
            }
            false => self.hold(delivery, work, until),
        }
    }

    fn hold(&mut self, delivery: DeliveryId, work: Work, until: Timestamp) {
        self.timetable.insert(until, Due::Delivery(delivery));
        self.held += 1;
        self.track(delivery, Stage::Held(work));
    }

    fn due(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        while let Some(due) = self.timetable.pop_due(now) {
            match due {
                Due::Delivery(delivery) => self.delivery_due(delivery, now, actions),
                Due::Gate(task) => self.gates.due(&task, now),
                Due::Credit => {
                    self.credit_watched = false;
                    self.credit.lapse(now);
                    self.watch_credit(now);
                }
                Due::Cold => self.stop_cold(actions),
            }
        }
    }

    fn delivery_due(&mut self, delivery: DeliveryId, now: Timestamp, actions: &mut Vec<Action>) {
        match self.untrack(delivery) {
            Some(Tracked { stage: Stage::Held(work), .. }) => {
                self.held -= 1;
                self.admit(delivery, work, now, actions);
            }
            Some(Tracked { stage: Stage::CommitDelayed { commit, settlement, requeues }, lost }) => {
                self.requeuing -= u32::from(requeues);
                self.commit(delivery, commit, *settlement, lost, actions);
            }
            // It went away, or is somewhere else by now.
            Some(tracked) => {
                self.deliveries.insert(delivery, tracked);
            }
            None => {}
        }
    }

    fn start_ready(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        while self.attempts.len() < self.limits.concurrency && self.committing < self.limits.committing_max {
            let Some(delivery) = self.ready.pop_front() else { return };
            let Some(Tracked { stage: Stage::Ready(work), lost }) = self.untrack(delivery) else { continue };
            if let Some(behind) = self.publishing.get_mut(&work.request.id) {
                behind.push(delivery);
                self.deliveries.insert(delivery, Tracked { stage: Stage::Behind(work), lost });
                continue;
            }
            // It may have expired while it waited for a slot.
            match admit(&work.request, &self.revoked, now, self.clock_is_wrong) {
                Admission::Expired => {
                    self.expire(delivery, work, now, actions);
                    self.open_gates(now, actions);
                    continue;
                }
                Admission::Revoked => {
                    self.refuse_revoked(delivery, work, now, actions);
                    self.open_gates(now, actions);
                    continue;
                }
                Admission::Hold(_) | Admission::Execute => {}
            }
            self.start(delivery, work, now, actions);
            // The rate limit of the one that started may have another with no time to wait.
            self.open_gates(now, actions);
        }
    }

    fn start(&mut self, delivery: DeliveryId, work: Work, now: Timestamp, actions: &mut Vec<Action>) {
        self.attempts_started += 1;
        let id = AttemptId(self.attempts_started);
        let (time_limit, soft_time_limit) = self.limits.time_limits(&work.request, &work.spec.options);
        if work.let_through {
            self.gates.started(delivery, &work.request.task, now);
        }
        let told = self.limits.result_extended.as_ref();
        let attempt = Attempt {
            id,
            call: told.map(|worker| Arc::new(CallRecord::of(&work.request, worker))),
            delivery,
            request: work.request,
            spec: work.spec,
            started: now,
            time_limit,
            soft_time_limit,
            policy: work.policy,
        };
        if !attempt.policy.acks_late {
            actions.push(Action::Settle(delivery, Acknowledgement::Ack));
        }
        if attempt.policy.track_started && !attempt.policy.ignore_result {
            actions.push(Action::Record(settle::started(&attempt, self.limits.started_meta.clone(), now)));
        }
        self.attempts.insert(id, Running { delivery, turn: work.turn });
        self.track(delivery, Stage::Running(attempt.clone()));
        actions.push(Action::Start(attempt));
    }

    fn finished(&mut self, id: AttemptId, finished: Finished, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(Running { delivery, turn }) = self.attempts.remove(&id) else { return };
        if let Some(turn) = turn {
            self.gates.return_turn(turn);
        }
        self.credit.finished(now);
        self.watch_credit(now);
        let Some(Tracked { stage: Stage::Running(attempt), lost }) = self.untrack(delivery) else { return };
        let finished = self.unless_terminated(id, finished);
        let interrupted = matches!(finished.outcome, Outcome::Interrupted);
        let settlement = settle::settle(&attempt, finished, now, self.chance.next());
        let pause = match settlement.acknowledgement {
            _ if interrupted || self.stopping => Duration::ZERO,
            Some(Acknowledgement::Requeue) => {
                let deliveries = attempt.request.message.headers.delivery_count();
                self.requeues.pause(&attempt.request.task, deliveries, self.chance.next())
            }
            _ => {
                self.requeues.ended(&attempt.request.task);
                Duration::ZERO
            }
        };
        let identity = Some(Identity::of(&attempt.request));
        let commit = Commit { attempt: Some(attempt), identity, failures: 0, shelved: false };
        self.commit_after(pause, delivery, commit, settlement, lost, now, actions);
    }

    /// A message that goes back to its queue does so after a pause.
    #[expect(clippy::too_many_arguments, reason = "a commit and when it is made")]
    fn commit_after(
        &mut self,
        pause: Duration,
        delivery: DeliveryId,
        commit: Commit,
        settlement: Settlement,
        lost: bool,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        if pause.is_zero() {
            return self.commit(delivery, commit, settlement, lost, actions);
        }
        self.requeuing += 1;
        self.timetable.insert(now + pause, Due::Delivery(delivery));
        let stage = Stage::CommitDelayed { commit, settlement: Box::new(settlement), requeues: true };
        self.deliveries.insert(delivery, Tracked { stage, lost });
    }

    fn commit(
        &mut self,
        delivery: DeliveryId,
        mut commit: Commit,
        settlement: Settlement,
        lost: bool,
        actions: &mut Vec<Action>,
    ) {
        commit.shelved |= settlement.before.iter().any(|step| matches!(step, Step::Shelve { .. }));
        if let Some(attempt) = &commit.attempt
            && !settlement.before.is_empty()
        {
            self.publishing.entry(attempt.request.id.clone()).or_default();
        }
        self.committing += 1;
        let stage = Stage::Committing { commit, acknowledgement: settlement.acknowledgement, adopted: false };
        self.deliveries.insert(delivery, Tracked { stage, lost });
        actions.push(Action::Commit(delivery, settlement));
    }

    /// What becomes of a refusal; its results tell what the call was, where that is wanted.
    fn settle_refusal(&self, refusal: Refusal, now: Timestamp) -> Settlement {
        let told = self.limits.result_extended.as_ref().and_then(|worker| refusal.call(worker));
        let mut settlement = settle::refuse(refusal, now);
        if let Some(call) = told.map(Arc::new) {
            settlement.records.iter_mut().for_each(|record| record.call = Some(call.clone()));
        }
        settlement
    }

    fn refuse(
        &mut self,
        delivery: DeliveryId,
        identity: Option<Identity>,
        refusal: Refusal,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let settlement = self.settle_refusal(refusal, now);
        self.commit(
            delivery,
            Commit { attempt: None, identity, failures: 0, shelved: false },
            settlement,
            false,
            actions,
        );
    }

    fn expire(&mut self, delivery: DeliveryId, mut work: Work, now: Timestamp, actions: &mut Vec<Action>) {
        self.leave_gates(delivery, &mut work, now);
        let identity = Identity::of(&work.request);
        let request = Arc::unwrap_or_clone(work.request);
        self.remember_expired(&request.id, now, actions);
        self.refuse(delivery, Some(identity), Refusal::Expired(request, work.policy), now, actions);
    }

    /// It will not start: whoever waits behind it at a gate moves up.
    fn leave_gates(&mut self, delivery: DeliveryId, work: &mut Work, now: Timestamp) {
        if work.turn.is_some() || work.let_through {
            self.gates.leave(delivery, &work.request.task, work.turn.take(), now);
        }
    }

    fn committed(&mut self, delivery: DeliveryId, actions: &mut Vec<Action>) {
        let Some(Stage::Committing { commit, acknowledgement, adopted }) =
            self.untrack(delivery).map(|tracked| tracked.stage)
        else {
            return;
        };
        self.committing -= 1;
        self.overtime.forget(delivery);
        if let Some(attempt) = commit.attempt {
            self.release_followers(&attempt.request.id);
        }
        if adopted && let Some(acknowledgement) = acknowledgement {
            // The new receipt may have come after the step that would have spent it.
            actions.push(Action::Settle(delivery, acknowledgement));
        }
        let Some(identity) = commit.identity else { return };
        self.forget_identity(&identity, delivery);
        if acknowledgement != Some(Acknowledgement::Requeue) {
            self.forget_count(delivery, &identity, actions);
            // What is kept aside is to run when it comes back.
            if !commit.shelved {
                self.remembered.insert(identity);
            }
        }
    }

    fn commit_failed(
        &mut self,
        delivery: DeliveryId,
        failure: CommitFailure,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let Some(Tracked { stage: Stage::Committing { mut commit, .. }, lost }) = self.untrack(delivery) else {
            return;
        };
        self.committing -= 1;
        let mut settlement = failure.remaining;
        if failure.transient {
            settlement.before.iter_mut().for_each(Step::mark_as_repeated);
            self.timetable.insert(now + commit_backoff(commit.failures), Due::Delivery(delivery));
            commit.failures = commit.failures.saturating_add(1);
            let stage = Stage::CommitDelayed { commit, settlement: Box::new(settlement), requeues: false };
            self.deliveries.insert(delivery, Tracked { stage, lost });
            return;
        }
        match &commit.attempt {
            Some(attempt) if !settlement.before.is_empty() => {
                self.release_followers(&attempt.request.id);
                settlement = settle::unpublishable(attempt, &failure.reason, now);
            }
            // The store will never take it. The task ran, so its message must not come back.
            _ => settlement.records.clear(),
        }
        self.commit(delivery, commit, settlement, lost, actions);
    }

    /// The successors of this id are published and its records stored: those behind it may start.
    fn release_followers(&mut self, id: &TaskId) {
        for delivery in self.publishing.remove(id).into_iter().flatten() {
            let Some(tracked) = self.untrack(delivery) else { continue };
            let Stage::Behind(work) = tracked.stage else {
                self.deliveries.insert(delivery, tracked);
                continue;
            };
            self.deliveries.insert(delivery, Tracked { stage: Stage::Ready(work), lost: tracked.lost });
            self.ready.push_front(delivery);
        }
    }

    /// All receipts are void. What had not started comes back by itself; what runs goes on.
    fn broker_lost(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let (mut gone, mut ours) = (Vec::new(), Vec::new());
        for (&delivery, tracked) in &mut self.deliveries {
            if self.overtime.is_journaled(delivery) {
                ours.push(delivery);
                continue;
            }
            match tracked.stage.identity_if_not_started() {
                Some(identity) => gone.push((delivery, identity)),
                None => tracked.lost = true,
            }
        }
        for (delivery, identity) in gone {
            self.untrack(delivery);
            self.forget_identity(&identity, delivery);
        }
        ours.sort_unstable();
        let ours: Vec<_> = ours.into_iter().filter_map(|it| self.take_idle(it, now).map(|work| (it, work))).collect();
        self.forget_waiting();
        // They are in the journal and wait as before.
        for (delivery, work) in ours {
            self.admit(delivery, work, now, actions);
        }
        self.counted.retain(|delivery| self.deliveries.contains_key(delivery));
    }

    /// Nothing waits any more.
    fn forget_waiting(&mut self) {
        self.held = 0;
        self.ready.clear();
        self.publishing.values_mut().for_each(Vec::clear);
        self.gates.clear(self.attempts.values().filter_map(|running| running.turn.as_ref()));
    }

    /// What waited to be committed, for a connection or because it was to go back to its queue, waits no longer.
    fn hurry_commits(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let delayed = |(&delivery, tracked): (&DeliveryId, &Tracked)| {
            matches!(tracked.stage, Stage::CommitDelayed { .. }).then_some(delivery)
        };
        let delayed: Vec<DeliveryId> = self.deliveries.iter().filter_map(delayed).collect();
        for delivery in delayed {
            self.timetable.insert(now, Due::Delivery(delivery));
        }
        self.due(now, actions);
    }

    fn stop(&mut self, shutdown: Shutdown, now: Timestamp, actions: &mut Vec<Action>) {
        if !self.stopping {
            self.stopping = true;
            actions.push(Action::StopConsuming);
            // What is being put back needs its receipt for that, and is not waited for long.
            let waiting = |(&delivery, tracked): (&DeliveryId, &Tracked)| match tracked.stage {
                Stage::PuttingBack { .. } => None,
                _ => tracked.stage.identity_if_not_started().map(|identity| (delivery, identity)),
            };
            let mut waiting: Vec<_> = self.deliveries.iter().filter_map(waiting).collect();
            waiting.sort_unstable_by_key(|(delivery, _)| *delivery);
            for (delivery, identity) in waiting {
                self.untrack(delivery);
                self.forget_identity(&identity, delivery);
                actions.push(Action::Settle(delivery, Acknowledgement::Requeue));
            }
            self.forget_waiting();
            // What is to go back to its queue does so now.
            self.hurry_commits(now, actions);
        }
        match (shutdown, self.limits.soft_shutdown_timeout) {
            (Shutdown::Warm, _) => {}
            (Shutdown::Cold, Some(timeout)) if !self.soft && !self.attempts.is_empty() => {
                self.soft = true;
                self.timetable.insert(now + timeout, Due::Cold);
                actions.push(Action::SoftShutdown(timeout));
            }
            (Shutdown::Cold, _) => self.stop_cold(actions),
        }
    }

    fn stop_cold(&mut self, actions: &mut Vec<Action>) {
        actions.push(Action::ColdShutdown);
        let mut running: Vec<AttemptId> = self.attempts.keys().copied().collect();
        running.sort_unstable();
        actions.extend(running.into_iter().map(Action::Terminate));
    }

    fn wake(&mut self, actions: &mut Vec<Action>) {
        let next = self.timetable.next().into_iter().chain(self.overtime.due()).min();
        if let Some(at) = next
            && self.wake_at.is_none_or(|wake_at| at < wake_at)
        {
            self.wake_at = Some(at);
            actions.push(Action::WakeAt(at));
        }
    }

    fn adjust_prefetch(&mut self, actions: &mut Vec<Action>) {
        let wanted = self.limits.prefetch(self.held + self.requeuing, self.gates.waiting(), self.credit.get());
        if wanted != self.prefetch && !self.stopping {
            self.prefetch = wanted;
            actions.push(Action::SetPrefetch(wanted));
        }
    }

    /// A credit that nobody uses any more is taken back.
    fn watch_credit(&mut self, now: Timestamp) {
        if self.credit.get() > 0 && !self.credit_watched {
            self.credit_watched = true;
            self.timetable.insert(now + credit::IDLE, Due::Credit);
        }
    }

    fn track(&mut self, delivery: DeliveryId, stage: Stage) {
        self.deliveries.insert(delivery, Tracked { stage, lost: false });
    }

    fn untrack(&mut self, delivery: DeliveryId) -> Option<Tracked> {
        self.deliveries.remove(&delivery)
    }

    fn forget_identity(&mut self, identity: &Identity, delivery: DeliveryId) {
        if self.identities.get(identity) == Some(&delivery) {
            self.identities.remove(identity);
        }
    }
}

fn commit_backoff(failures: u32) -> Duration {
    COMMIT_BACKOFF_MIN.saturating_mul(1u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX)).min(COMMIT_BACKOFF_MAX)
}

/// Chance from a seed (Sebastiano Vigna's splitmix64), so that a run can be repeated.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> Jitter {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        Jitter((z >> 11) as f64 / (1u64 << 53) as f64)
    }
}
