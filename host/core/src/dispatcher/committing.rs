//! Settlements on their way: given out to be carried out, answered, tried again.
//!
//! What a settlement says is decided in [`crate::settle`].

use std::sync::Arc;
use std::time::Duration;

use crate::flow::Means;
use crate::message::Acknowledgement;
use crate::name::TaskId;
use crate::outcome::DeliveryId;
use crate::settle::{self, ChordStep, Refusal, Settlement, Step};
use crate::timestamp::Timestamp;

use super::identity::Identity;
use super::stage::{Commit, Due, Parked, Stage, Tracked};
use super::{Action, CommitFailure, Dispatcher, ReadyChord};

/// Wait before a failed commit is tried again: doubled each time, up to the second.
const COMMIT_BACKOFF_MIN: Duration = Duration::from_millis(100);
const COMMIT_BACKOFF_MAX: Duration = Duration::from_secs(10);

impl Dispatcher {
    /// A message that goes back to its queue does so after a pause.
    #[expect(clippy::too_many_arguments, reason = "a commit and when it is made")]
    pub(super) fn commit_after(
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

    pub(super) fn commit(
        &mut self,
        delivery: DeliveryId,
        mut commit: Commit,
        mut settlement: Settlement,
        lost: bool,
        actions: &mut Vec<Action>,
    ) {
        if !self.limits.sending.chords.counts() {
            // Where the store counts nothing, `celery.chord_unlock` looks at the results.
            settlement.chord.clear();
        }
        if stores(&settlement) {
            commit.stores = true;
            commit.first_try = self.spool.begin(delivery, &settlement);
        }
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
    pub(super) fn settle_refusal(&self, refusal: Refusal, now: Timestamp) -> Settlement {
        let told = self.limits.result_extended.as_ref().and_then(|worker| refusal.call(worker));
        let mut settlement = settle::refuse(refusal, now, self.means());
        if let Some(call) = told.map(Arc::new) {
            settlement.records.iter_mut().for_each(|record| record.call = Some(call.clone()));
        }
        // Which version it would have run on is known here.
        settlement.events.iter_mut().for_each(|event| event.spec = self.catalog.get(&event.task).cloned());
        settlement
    }

    pub(super) fn refuse(
        &mut self,
        delivery: DeliveryId,
        identity: Option<Identity>,
        refusal: Refusal,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let member = refusal.member();
        let parked = match &refusal {
            Refusal::Quarantined(_, plugin) => Some(Parked::Quarantine(plugin.clone())),
            _ => None,
        };
        let settlement = self.settle_refusal(refusal, now);
        self.commit(delivery, Commit { member, parked, ..Commit::new(identity) }, settlement, false, actions);
    }

    pub(super) fn committed(&mut self, delivery: DeliveryId, actions: &mut Vec<Action>) {
        let Some(Stage::Committing { commit, acknowledgement, adopted }) =
            self.untrack(delivery).map(|tracked| tracked.stage)
        else {
            return;
        };
        self.committing -= 1;
        self.spool.end(commit.first_try);
        if commit.stores {
            self.store_works(delivery, actions);
        }
        self.overtime.forget(delivery);
        if commit.shelved
            && let Some(parked) = &commit.parked
        {
            self.parked(parked, actions);
        }
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
                self.remembered.insert(identity, acknowledgement.unwrap_or(Acknowledgement::Ack));
            }
        }
    }

    pub(super) fn commit_failed(
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
        self.spool.end(commit.first_try.take());
        let mut settlement = failure.remaining;
        if failure.transient && failure.wait.is_none() && Self::waits_for_store(&settlement) {
            return self.keep_for_store(delivery, (commit, settlement), lost, failure.reason, now, actions);
        }
        if failure.transient {
            let tried = if failed_after_records(&settlement) { &mut settlement.after } else { &mut settlement.before };
            tried.iter_mut().for_each(Step::mark_as_repeated);
            let wait = failure.wait.unwrap_or_else(|| commit_backoff(commit.failures));
            self.timetable.insert(now + wait, Due::Delivery(delivery));
            commit.failures = commit.failures.saturating_add(u32::from(failure.wait.is_none()));
            let stage = Stage::CommitDelayed { commit, settlement: Box::new(settlement), requeues: false };
            self.deliveries.insert(delivery, Tracked { stage, lost });
            return;
        }
        let body = commit.body.take().filter(|_| !settlement.before.is_empty());
        match &commit.attempt {
            _ if let Some((group, body)) = &body
                && let Some(request) = commit.request().cloned() =>
            {
                let reason = &failure.reason;
                settlement = settle::body_unpublishable(&request, group, body, settlement, reason, now, self.means());
            }
            Some(attempt) if !settlement.before.is_empty() => {
                self.release_followers(&attempt.request.id);
                settlement = settle::unpublishable(attempt, &settlement, &failure.reason, now, self.means());
            }
            // Nobody takes the errbacks; that their chord is over has yet to be said.
            _ if failed_after_records(&settlement) && !settlement.after.is_empty() => settlement.after.clear(),
            // The store will never take it. The task ran, so its message must not come back, and who waits hears why.
            _ if !settlement.records.is_empty() => {
                let refused = settlement.records.iter().filter_map(|record| record.refused(&failure.reason));
                settlement.records = refused.collect();
            }
            _ => settlement.chord.clear(),
        }
        self.commit(delivery, commit, settlement, lost, actions);
    }

    /// The chord that a delivery had its part in is complete.
    pub(super) fn chord_ready(
        &mut self,
        delivery: DeliveryId,
        ready: ReadyChord,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let Some(Tracked { stage: Stage::Committing { mut commit, .. }, lost }) = self.untrack(delivery) else {
            return;
        };
        self.committing -= 1;
        self.spool.end(commit.first_try.take());
        let Some(request) = commit.request().cloned() else { return };
        commit.body = Some((ready.claimed.group.clone(), ready.body.clone()));
        let settlement = settle::chord_ready(&request, ready, now, self.means());
        self.commit(delivery, commit, settlement, lost, actions);
    }

    /// What settlements are made with.
    pub(super) fn means(&self) -> Means<'_> {
        Means {
            settings: &self.limits.sending,
            catalog: &self.catalog,
            tells_calls: self.limits.result_extended.is_some(),
        }
    }

    /// The successors of this id are published and its records stored: those behind it may start.
    pub(super) fn release_followers(&mut self, id: &TaskId) {
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

    /// What waited to be committed, for a connection or because it was to go back to its queue, waits no longer.
    pub(super) fn hurry_commits(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let delayed = |(&delivery, tracked): (&DeliveryId, &Tracked)| {
            let is_delayed = matches!(tracked.stage, Stage::CommitDelayed { .. });
            (is_delayed && !self.is_kept_for_store(delivery)).then_some(delivery)
        };
        let delayed: Vec<DeliveryId> = self.deliveries.iter().filter_map(delayed).collect();
        for delivery in delayed {
            self.timetable.insert(now, Due::Delivery(delivery));
        }
        self.hurry_store(actions);
        self.due(now, actions);
    }
}

/// True if the result store is told something that has not been told.
pub(super) fn stores(settlement: &Settlement) -> bool {
    !settlement.records.is_empty() || settlement.chord.iter().any(|step| matches!(step, ChordStep::Count(_)))
}

/// True if what was to be published after the records may have been what failed: all that comes before it is done.
fn failed_after_records(remaining: &Settlement) -> bool {
    remaining.before.is_empty() && !stores(remaining)
}

pub(super) fn commit_backoff(failures: u32) -> Duration {
    COMMIT_BACKOFF_MIN.saturating_mul(1u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX)).min(COMMIT_BACKOFF_MAX)
}
