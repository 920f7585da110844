//! What happens to a delivery when it comes in: it is new, or it is one that we have or had, or nobody here has
//! its task.
//!
//! When it starts is decided afterwards (`queueing`).

use std::sync::Arc;
use std::time::Duration;

use crate::admit::{Admission, admit};
use crate::event::{Event, Happening};
use crate::message::{Acknowledgement, PUT_BACK_HEADER};
use crate::outcome::DeliveryId;
use crate::request::{DecodeError, Request};
use crate::settle::{self, Refusal};
use crate::task::Disposition;
use crate::timestamp::Timestamp;

use super::identity::Identity;
use super::stage::{Commit, Parked, Stage, Work};
use super::{Action, Dispatcher, Lookup};

impl Dispatcher {
    pub(super) fn received(
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
        if was_put_back {
            self.away.remove(&request.id);
        }
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
            if redelivered && let Some(told) = self.remembered.told(&identity) {
                // One of two is refused once.
                let again = if request.delivery.redelivered { told } else { Acknowledgement::Ack };
                return actions.push(Action::Settle(delivery, again));
            }
            self.identities.insert(identity, delivery);
        }
        let deliveries = request.message.headers.delivery_count();
        if self.limits.delivery_limit.is_some_and(|limit| deliveries >= limit) {
            let identity = Identity::of(&request);
            return self.refuse(delivery, Some(identity), Refusal::Undeliverable(*request, deliveries), now, actions);
        }
        if redelivered && self.limits.look_up {
            actions.push(Action::LookUp(delivery, request.id.clone()));
            self.track(delivery, Stage::LookingUp(request));
            return;
        }
        self.resolve(delivery, request, now, actions);
    }

    /// A redelivery of something that is still in our hands: the new receipt replaces the dead one.
    pub(super) fn adopt(&mut self, known: DeliveryId, redelivered: DeliveryId, actions: &mut Vec<Action>) {
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

    pub(super) fn looked_up(
        &mut self,
        delivery: DeliveryId,
        lookup: Lookup,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        // Gone if the broker was lost meanwhile.
        let Some(Stage::LookingUp(request)) = self.untrack(delivery).map(|tracked| tracked.stage) else { return };
        let identity = Identity::of(&request);
        if let Some(result) = lookup.succeeded {
            let settlement = settle::succeeded_before(&request, result);
            if !settlement.chord.is_empty() {
                let commit = Commit { member: Some(Arc::from(request)), ..Commit::new(Some(identity)) };
                return self.commit(delivery, commit, settlement, false, actions);
            }
            self.forget_identity(&identity, delivery);
            if self.must_count(&request) {
                // By a process that ended before it could say so to the broker.
                actions.push(Action::ForgetCount(identity.to_string()));
            }
            self.overtime.forget(delivery);
            self.remembered.insert(identity, Acknowledgement::Ack);
            return actions.push(Action::Settle(delivery, Acknowledgement::Ack));
        }
        self.resolve(delivery, request, now, actions);
    }

    pub(super) fn resolve(
        &mut self,
        delivery: DeliveryId,
        request: Box<Request>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let Some(spec) = self.catalog.get(&request.task).cloned() else {
            return self.unknown(delivery, request, now, actions);
        };
        let policy = self.limits.task.policy(&request, &spec.options);
        let admission = admit(&request, &self.revoked, now, self.clock_is_wrong);
        let refused = matches!(admission, Admission::Expired | Admission::Revoked);
        let request: Arc<Request> = Arc::from(request);
        actions.push(Action::Announce(Event {
            id: request.id.clone(),
            task: request.task.clone(),
            spec: Some(spec.clone()),
            what: Happening::Received { request: request.clone(), refused },
        }));
        let work = Work { request, spec, policy, turn: None, let_through: false, received: now };
        self.admit(delivery, work, now, actions);
    }

    pub(super) fn unknown(
        &mut self,
        delivery: DeliveryId,
        request: Box<Request>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let once_served = self.once_served.contains(&request.task);
        let disposition = if once_served { self.limits.removed_task } else { self.limits.unknown_task };
        let pause = match disposition {
            Disposition::Requeue => {
                let deliveries = request.message.headers.delivery_count();
                self.requeues.pause(&request.task, deliveries, self.chance.next())
            }
            Disposition::Reject | Disposition::Park => Duration::ZERO,
        };
        let parked = (disposition == Disposition::Park).then(|| Parked::Unknown(request.task.clone()));
        let commit = Commit { parked, ..Commit::new(Some(Identity::of(&request))) };
        let settlement = self.settle_refusal(Refusal::Unknown { request: *request, disposition, once_served }, now);
        self.commit_after(pause, delivery, commit, settlement, false, now, actions);
    }
}
