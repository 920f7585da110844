//! The loop of the whole worker as a state machine: what arrives goes in, what is to be done comes out.
//!
//! Owns everything that is known about deliveries, and neither receipts, time nor chance. Whatever needs
//! I/O to be decided comes back as an input, and is decided then.

mod arriving;
mod away;
mod census;
mod committing;
mod control;
mod counted;
mod credit;
mod crowds;
mod ending;
mod gates;
mod identity;
mod input;
mod inspect;
mod overtime;
mod plugins;
mod pool;
mod queueing;
mod queues;
mod requeue;
mod revoking;
mod spool;
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
use crate::breaker::{Breakers, Passage};
use crate::catalog::Catalog;
use crate::control::Signal;
use crate::event::{Event, Happening};
use crate::message::Acknowledgement;
use crate::name::{TaskId, TaskName};
use crate::outcome::{Attempt, AttemptId, DeliveryId, Finished, Outcome};
use crate::protocol::content::Json;
use crate::rate::Rate;
use crate::record::CallRecord;
use crate::revoke::Revoked;
use crate::rollout::Trials;
use crate::settle::{self};
use crate::timestamp::{Jitter, Timestamp};
use crate::timetable::Timetable;

use away::Away;
use counted::Counted;
use credit::Credit;
use crowds::Crowds;
use gates::Gates;
use identity::{Identity, Remembered};
use inspect::Totals;
use overtime::Overtime;
use queues::Taken;
use requeue::Requeues;
use spool::Spool;
use stage::{Commit, Due, Running, Stage, Tracked, Work};

pub use census::Census;
pub use pool::{Autoscale, PoolRefusal};
pub use queues::QueueState;
pub use spool::{SpoolEvent, SpoolLimits};

pub use input::{
    Action, CommitFailure, Input, Kept, Limits, Lookup, PluginEvent, QuestionId, ReadyChord, Shutdown, TaskDefaults,
};

/// AMQP's `basic.qos` counts in 16 bits.
const PREFETCH_MAX: u32 = u16::MAX as u32;

/// Decides what happens to every delivery.
#[derive(Debug)]
pub struct Dispatcher {
    limits: Limits,
    catalog: Arc<Catalog>,
    breakers: Breakers,
    trials: Trials,
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
    terminated: FxHashMap<AttemptId, Signal>,
    timetable: Timetable<Due>,
    ready: VecDeque<DeliveryId>,
    requeues: Requeues,
    gates: Gates,
    crowds: Crowds,
    /// Rate limits that were changed while the worker runs.
    rates: FxHashMap<TaskName, Option<Rate>>,
    /// Hard and soft time limits that were changed, in place of those of the tasks.
    times: FxHashMap<TaskName, (Option<Duration>, Option<Duration>)>,
    totals: Totals,
    away: Away,
    /// Answers that wait until the store has said what it knows.
    marking: FxHashMap<QuestionId, Json>,
    credit: Credit,
    /// It will be looked whether the credit has lapsed.
    credit_watched: bool,
    taken: Taken,
    /// When a slot was last added because of the load.
    grown: Timestamp,
    /// It will be looked whether all slots are needed.
    slots_watched: bool,
    /// Ids whose successors are being published, with the deliveries that must wait until the records
    /// that belong to them are stored: a retry may be here before the state RETRY is.
    publishing: FxHashMap<TaskId, Vec<DeliveryId>>,
    held: u32,
    spool: Spool,
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
            prefetch: limits.prefetch(0, 0, 0, 0),
            credit: Credit::new(limits.credit_max()),
            credit_watched: false,
            remembered: Remembered::new(limits.remembered_max),
            breakers: Breakers::new(limits.quarantine),
            trials: Trials::default(),
            spool: Spool::new(limits.spool),
            limits,
            catalog,
            chance: Chance(seed),
            deliveries: FxHashMap::default(),
            identities: FxHashMap::default(),
            attempts: FxHashMap::default(),
            counted: Counted::default(),
            overtime: Overtime::default(),
            revoked: Revoked::default(),
            terminated: FxHashMap::default(),
            timetable: Timetable::default(),
            ready: VecDeque::new(),
            requeues: Requeues::default(),
            gates: Gates::default(),
            crowds: Crowds::default(),
            rates: FxHashMap::default(),
            taken: Taken::default(),
            grown: Timestamp::from_micros(0),
            slots_watched: false,
            times: FxHashMap::default(),
            totals: Totals::default(),
            away: Away::default(),
            marking: FxHashMap::default(),
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
            Input::Counted(delivery, deliveries) => self.counted(delivery, deliveries, now, &mut actions),
            Input::Due => {
                self.wake_at = None;
                self.due(now, &mut actions);
                self.look_for_old(now, &mut actions);
            }
            Input::Finished(attempt, finished) => self.finished(attempt, *finished, now, &mut actions),
            Input::Committed(delivery) => self.committed(delivery, &mut actions),
            Input::CommitFailed(delivery, failure) => self.commit_failed(delivery, *failure, now, &mut actions),
            Input::ChordReady(delivery, ready) => self.chord_ready(delivery, *ready, now, &mut actions),
            Input::BrokerLost => self.broker_lost(now, &mut actions),
            Input::BrokerBack { puts_back, times_out, clock_is_wrong } => {
                self.puts_back = puts_back;
                self.clock_is_wrong = clock_is_wrong;
                self.overtime.begin(self.limits.consumer_timeout.filter(|_| times_out));
                self.hurry_commits(now, &mut actions);
            }
            Input::PutBack(delivery, done) => self.put_back_answered(delivery, done, now, &mut actions),
            Input::Permit(delivery, task, wait) => self.gates.permitted(delivery, &task, wait, now),
            Input::CatalogChanged(catalog) => self.change_catalog(catalog, now, &mut actions),
            Input::CannotConsume(queue) => drop(self.cancel_queue(&queue, &mut actions)),
            Input::Control(question, command) => self.control(question, *command, now, &mut actions),
            Input::States(question, states) => self.states_known(question, states, now, &mut actions),
            Input::Stop(shutdown) => self.stop(shutdown, now, &mut actions),
        }
        self.open_gates(now, &mut actions);
        self.scale_up(now);
        self.start_ready(now, &mut actions);
        self.limit_patience(now);
        self.wake(&mut actions);
        self.adjust_prefetch(&mut actions);
        if self.stopping && !self.stopped && self.deliveries.is_empty() && !self.overtime.is_writing() {
            self.stopped = true;
            actions.push(Action::Stopped);
        }
        actions
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
                Due::Breaker(plugin, version) => self.half_open(plugin, version, actions),
                Due::Trial(plugin) => self.end_trial(&plugin, now, actions),
                Due::Slots => self.scale_down(now),
                Due::Spool => self.probe_store(actions),
                Due::SpoolEnds => self.end_spool(actions),
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
        while self.attempts.len() + self.counted.counting() < self.limits.concurrency
            && self.committing < self.limits.committing_max
            && !self.spool.may_be_full()
        {
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
            if self.must_count(&work.request) && !self.counted.has(delivery) {
                self.count(delivery, work, actions);
                continue;
            }
            match self.choose_version(delivery, work, now, actions) {
                Some((work, _)) if self.must_wait_for_others(delivery, &work) => {
                    self.track(delivery, Stage::Waiting(work));
                }
                Some((work, passage)) => self.start(delivery, work, passage, now, actions),
                // Whoever waits behind it at a gate moves up.
                None => {
                    self.open_gates(now, actions);
                    continue;
                }
            }
            // The rate limit of the one that started may have another with no time to wait.
            self.open_gates(now, actions);
        }
    }

    fn start(&mut self, delivery: DeliveryId, work: Work, passage: Passage, now: Timestamp, actions: &mut Vec<Action>) {
        self.attempts_started += 1;
        let id = AttemptId(self.attempts_started);
        if passage == Passage::Trial {
            let tried = self.ran_by(&work.request, &work.spec).unwrap_or(&work.spec).clone();
            self.breakers.try_with(&tried, id);
        }
        let (time_limit, soft_time_limit) = self.limits.time_limits(&work.request, self.task_times(&work.spec));
        self.totals.count(&work.request);
        if work.let_through {
            self.gates.started(delivery, &work.request.task, now);
        }
        let told = self.limits.result_extended.as_ref();
        let attempt = Attempt {
            id,
            call: told.map(|worker| Arc::new(CallRecord::of(&work.request, worker))),
            pinned: plugins::pinned(&work),
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
        let due = attempt.request.eta.map_or(work.received, |eta| eta.max(work.received));
        actions.push(Action::Announce(Event {
            id: attempt.request.id.clone(),
            task: attempt.request.task.clone(),
            spec: Some(attempt.spec.clone()),
            what: Happening::Started { waited: now.since(due) },
        }));
        let crowd = attempt.spec.plugin_concurrency.map(|_| attempt.spec.plugin.clone());
        self.attempts.insert(id, Running { delivery, turn: work.turn, crowd });
        self.track(delivery, Stage::Running(attempt.clone()));
        actions.push(Action::Start(attempt));
    }

    fn finished(&mut self, id: AttemptId, finished: Finished, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(Running { delivery, turn, crowd }) = self.attempts.remove(&id) else { return };
        if let Some(next) = crowd.and_then(|plugin| self.crowds.left(&plugin)) {
            self.ready_again(next);
        }
        if let Some(turn) = turn {
            self.gates.return_turn(turn);
        }
        self.credit.finished(now);
        self.watch_credit(now);
        let Some(Tracked { stage: Stage::Running(attempt), lost }) = self.untrack(delivery) else { return };
        let finished = self.unless_terminated(id, finished);
        self.judge(&attempt, &finished.outcome, now, actions);
        let interrupted = matches!(finished.outcome, Outcome::Interrupted);
        let settlement = settle::settle(&attempt, finished, now, self.chance.next(), self.means());
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
        let commit = Commit { attempt: Some(attempt), ..Commit::new(identity) };
        self.commit_after(pause, delivery, commit, settlement, lost, now, actions);
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
        let wanted = self.limits.prefetch(
            self.held + self.requeuing,
            self.gates.waiting() + self.crowds.waiting(),
            self.credit.get(),
            self.spool.unsettled(),
        );
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
