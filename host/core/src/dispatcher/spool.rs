//! Outcomes whose results the store does not take now: how many there may be, and when they are tried again.
//!
//! Their tasks have ended and have no slot; their messages stay unacknowledged. What a commit is, and how it is carried
//! out, is no business of this module.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::message::{Acknowledgement, Publication};
use crate::name::TaskId;
use crate::outcome::DeliveryId;
use crate::protocol::content::Json;
use crate::record::{ResultRecord, ResultValue};
use crate::settle::{ChordStep, Settlement, Step};
use crate::timestamp::Timestamp;

use super::committing::{commit_backoff, stores};
use super::stage::{Commit, Due, Stage, Tracked};
use super::{Action, Dispatcher};

/// How many of those that wait are tried at once after the store took one. If it takes these too, each of them brings as
/// many again.
const TRIED_AT_ONCE: usize = 64;

/// How long a worker that has nothing else to do before it ends waits for its store.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(10);

/// What an outcome takes beside its texts, roughly, in bytes.
const OUTCOME_BYTES: usize = 1_024;

/// How many outcomes may wait for the result store until no more tasks are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLimits {
    pub outcomes: usize,
    /// Of their results and of what else they bring, together.
    pub bytes: usize,
}

/// What becomes of outcomes that cannot be stored.
#[derive(Debug, Clone, PartialEq)]
pub enum SpoolEvent {
    /// The first one: it waits here, and tasks run on.
    Began { reason: String },
    /// There is room for no more: no task starts until some are stored.
    Full { outcomes: usize, bytes: usize },
    /// All are stored. There were so many at most.
    Over { most: usize },
    /// The worker ends without having stored this one. If it was `acknowledged` nobody ever will; else the message goes
    /// back to its queue.
    GivenUp { id: Option<TaskId>, acknowledged: bool },
}

/// Outcomes that could not be stored.
#[derive(Debug)]
pub(super) struct Spool {
    limits: SpoolLimits,
    kept: FxHashMap<DeliveryId, Kept>,
    /// Those that are not being tried, the one that has waited for longest first. Some may be gone.
    waiting: VecDeque<DeliveryId>,
    bytes: usize,
    /// Outcomes and bytes that are on their way to the store for the first time: it may be silent.
    first_tries: (usize, usize),
    unsettled: u32,
    /// How often in a row the store did not take one that was tried to see whether it does.
    failures: u32,
    /// One will be tried.
    watched: bool,
    said_full: bool,
    most: usize,
    /// When it ends, the worker goes without.
    ending: bool,
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    bytes: usize,
    unsettled: bool,
}

impl Spool {
    pub(super) fn new(limits: SpoolLimits) -> Self {
        Self {
            limits,
            kept: FxHashMap::default(),
            waiting: VecDeque::new(),
            bytes: 0,
            first_tries: (0, 0),
            unsettled: 0,
            failures: 0,
            watched: false,
            said_full: false,
            most: 0,
            ending: false,
            ended: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// There is room for no more.
    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= self.limits.outcomes || self.bytes >= self.limits.bytes
    }

    /// There may be room for no more, as far as is known now: nothing is to start.
    pub(super) fn may_be_full(&self) -> bool {
        let (outcomes, bytes) = self.first_tries;
        self.kept.len() + outcomes >= self.limits.outcomes || self.bytes + bytes >= self.limits.bytes
    }

    /// This is on its way to the store. Tells its bytes if it was not here before.
    pub(super) fn begin(&mut self, delivery: DeliveryId, settlement: &Settlement) -> Option<usize> {
        if self.kept.contains_key(&delivery) {
            return None;
        }
        let bytes = byte_len(settlement);
        self.first_tries.0 += 1;
        self.first_tries.1 += bytes;
        Some(bytes)
    }

    /// It has come to an end, good or bad.
    pub(super) fn end(&mut self, first_try: Option<usize>) {
        if let Some(bytes) = first_try {
            self.first_tries.0 -= 1;
            self.first_tries.1 -= bytes;
        }
    }

    /// How many of the broker's unsettled deliveries are only here for the store.
    pub(super) fn unsettled(&self) -> u32 {
        self.unsettled
    }

    fn keep(&mut self, delivery: DeliveryId, settlement: &Settlement) {
        self.waiting.push_back(delivery);
        let kept = Kept { bytes: byte_len(settlement), unsettled: settlement.acknowledgement.is_some() };
        if let Some(before) = self.kept.insert(delivery, kept) {
            self.subtract(before);
        }
        self.bytes += kept.bytes;
        self.unsettled += u32::from(kept.unsettled);
        self.most = self.most.max(self.kept.len());
    }

    fn subtract(&mut self, kept: Kept) {
        self.bytes -= kept.bytes;
        self.unsettled -= u32::from(kept.unsettled);
    }

    /// It is stored, or given up. True if it was here.
    fn forget(&mut self, delivery: DeliveryId) -> bool {
        let kept = self.kept.remove(&delivery);
        kept.map(|kept| self.subtract(kept)).is_some()
    }
}

impl Dispatcher {
    /// Keeps an outcome until the store takes it.
    pub(super) fn keep_for_store(
        &mut self,
        delivery: DeliveryId,
        (commit, settlement): (Commit, Settlement),
        lost: bool,
        reason: String,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        if self.spool.ended {
            return self.give_up(delivery, commit, &settlement, actions);
        }
        if self.spool.kept.is_empty() {
            actions.push(Action::Spool(SpoolEvent::Began { reason }));
        }
        self.spool.keep(delivery, &settlement);
        let stage = Stage::CommitDelayed { commit, settlement: Box::new(settlement), requeues: false };
        self.deliveries.insert(delivery, Tracked { stage, lost });
        if !std::mem::replace(&mut self.spool.watched, true) {
            self.timetable.insert(now + commit_backoff(self.spool.failures), Due::Spool);
        }
        if self.spool.is_full() && !std::mem::replace(&mut self.spool.said_full, true) {
            let (outcomes, bytes) = (self.spool.len(), self.spool.bytes);
            actions.push(Action::Spool(SpoolEvent::Full { outcomes, bytes }));
        }
    }

    /// True if what failed is that the store did not take what it was given: everything else has been done, or has
    /// to wait for it.
    pub(super) fn waits_for_store(settlement: &Settlement) -> bool {
        settlement.before.is_empty() && stores(settlement)
    }

    /// Looks whether the store is back, with one of those that wait. It goes to the end of their line, so that one that is
    /// never taken does not hold up the others.
    pub(super) fn probe_store(&mut self, actions: &mut Vec<Action>) {
        self.spool.watched = false;
        self.spool.failures = self.spool.failures.saturating_add(1);
        self.try_waiting(1, actions);
    }

    /// Tries so many of those that wait.
    pub(super) fn try_waiting(&mut self, at_most: usize, actions: &mut Vec<Action>) {
        let mut tried = 0;
        while tried < at_most && self.committing < self.limits.committing_max {
            let Some(delivery) = self.spool.waiting.pop_front() else { return };
            match self.untrack(delivery) {
                Some(Tracked { stage: Stage::CommitDelayed { commit, settlement, requeues: false }, lost }) => {
                    self.commit(delivery, commit, *settlement, lost, actions);
                    tried += 1;
                }
                Some(tracked) => drop(self.deliveries.insert(delivery, tracked)),
                None => {}
            }
        }
    }

    /// Something may have changed that the store needs: as many are tried as show whether it works.
    pub(super) fn hurry_store(&mut self, actions: &mut Vec<Action>) {
        self.try_waiting(TRIED_AT_ONCE, actions);
    }

    /// The store took something, most likely of this delivery.
    pub(super) fn store_works(&mut self, delivery: DeliveryId, actions: &mut Vec<Action>) {
        self.spool.failures = 0;
        let was_kept = self.spool.forget(delivery);
        if !was_kept && self.spool.kept.is_empty() {
            return;
        }
        self.try_waiting(TRIED_AT_ONCE, actions);
        if self.spool.kept.is_empty() {
            let most = std::mem::take(&mut self.spool.most);
            self.spool.said_full = false;
            self.spool.waiting.clear();
            actions.push(Action::Spool(SpoolEvent::Over { most }));
        }
    }

    pub(super) fn is_kept_for_store(&self, delivery: DeliveryId) -> bool {
        self.spool.kept.contains_key(&delivery)
    }

    /// A worker that is to end, and has nothing else to do, waits for its store only for a while.
    pub(super) fn limit_patience(&mut self, now: Timestamp) {
        let only_waits = self.stopping && self.attempts.is_empty() && !self.spool.kept.is_empty();
        if only_waits && !std::mem::replace(&mut self.spool.ending, true) {
            self.timetable.insert(now + PATIENCE_AT_THE_END, Due::SpoolEnds);
        }
    }

    /// What is not stored by now will not be. What is being tried may still succeed.
    pub(super) fn end_spool(&mut self, actions: &mut Vec<Action>) {
        self.spool.ended = true;
        let mut kept: Vec<DeliveryId> = self.spool.kept.keys().copied().collect();
        kept.sort_unstable();
        for delivery in kept {
            match self.untrack(delivery) {
                Some(Tracked { stage: Stage::CommitDelayed { commit, settlement, .. }, .. }) => {
                    self.give_up(delivery, commit, &settlement, actions);
                }
                Some(tracked) => drop(self.deliveries.insert(delivery, tracked)),
                None => {}
            }
        }
    }

    /// The message goes back as it came, and its task runs again: better than an outcome that nobody hears of.
    fn give_up(&mut self, delivery: DeliveryId, commit: Commit, settlement: &Settlement, actions: &mut Vec<Action>) {
        self.spool.forget(delivery);
        self.overtime.forget(delivery);
        let id = commit.request().map(|request| request.id.clone());
        if let Some(id) = &id {
            self.release_followers(id);
        }
        if let Some(identity) = &commit.identity {
            self.forget_identity(identity, delivery);
        }
        let acknowledged = settlement.acknowledgement.is_none();
        if !acknowledged {
            actions.push(Action::Settle(delivery, Acknowledgement::Requeue));
        }
        actions.push(Action::Spool(SpoolEvent::GivenUp { id, acknowledged }));
    }
}

/// What an outcome takes in memory, as far as its client or its task can make it long.
fn byte_len(settlement: &Settlement) -> usize {
    let records: usize = settlement.records.iter().map(record_bytes).sum();
    let published: usize = settlement.after.iter().map(step_bytes).sum();
    let chords: usize = settlement.chord.iter().map(chord_bytes).sum();
    OUTCOME_BYTES + records + published + chords
}

fn value_bytes(value: &ResultValue) -> usize {
    match value {
        ResultValue::Json(json) => json.byte_len(),
        ResultValue::Exception(exception) => exception.arguments.byte_len(),
    }
}

fn record_bytes(record: &ResultRecord) -> usize {
    value_bytes(&record.result) + record.traceback.as_ref().map_or(0, String::len) + record.children.byte_len()
}

fn step_bytes(step: &Step) -> usize {
    match step {
        Step::Send(Publication { message, .. }) | Step::SendTo(_, Publication { message, .. }) => message.body.len(),
        Step::Shelve { message, .. } => message.body.len(),
        Step::SaveGroup { result, .. } => result.byte_len(),
        Step::SetChordSize { header, .. } => header.as_ref().map_or(0, Json::byte_len),
        Step::ExtendChord { .. } => 0,
    }
}

fn chord_bytes(step: &ChordStep) -> usize {
    match step {
        ChordStep::Count(part) => value_bytes(&part.result) + part.body.byte_len(),
        ChordStep::Finish { .. } | ChordStep::Fail { .. } => 0,
    }
}

#[cfg(test)]
mod tests;
