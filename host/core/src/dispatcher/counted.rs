//! Deliveries of brokers that do not count them: counted when one that came again starts, forgotten when it
//! is done.
//!
//! What only waited when its worker died, or when a connection was lost, is not counted: it did no harm.
//! Where the counts are kept is the business of whoever is asked to count.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::message::DELIVERY_COUNT_HEADER;
use crate::outcome::DeliveryId;
use crate::request::Request;
use crate::settle::Refusal;
use crate::timestamp::Timestamp;

use super::identity::Identity;
use super::stage::{Stage, Tracked, Work};
use super::{Action, Dispatcher};

/// How often each of these was delivered before. Others were counted by their broker, or never came again.
#[derive(Debug, Default)]
pub(super) struct Counted {
    counts: FxHashMap<DeliveryId, u32>,
    /// Those that are being counted. Each has a slot, so that no more are counted than start.
    counting: FxHashSet<DeliveryId>,
}

impl Counted {
    /// How many slots are taken by deliveries that are being counted.
    pub(super) fn counting(&self) -> usize {
        self.counting.len()
    }

    pub(super) fn has(&self, delivery: DeliveryId) -> bool {
        self.counts.contains_key(&delivery)
    }

    pub(super) fn remove(&mut self, delivery: DeliveryId) -> Option<u32> {
        // Empty unless something went wrong a short while ago.
        if self.counts.is_empty() { None } else { self.counts.remove(&delivery) }
    }

    pub(super) fn retain(&mut self, wanted: impl Fn(&DeliveryId) -> bool) {
        self.counts.retain(|delivery, _| wanted(delivery));
    }

    /// Nothing waits for an answer any more.
    pub(super) fn forget_waiting(&mut self) {
        self.counting.clear();
    }
}

impl Dispatcher {
    /// True if this was delivered before, and nobody has counted how often.
    pub(super) fn must_count(&self, request: &Request) -> bool {
        request.delivery.redelivered
            && self.limits.delivery_limit.is_some()
            && request.message.headers.get(DELIVERY_COUNT_HEADER).is_none()
    }

    /// Asks for the count of one that has a slot.
    pub(super) fn count(&mut self, delivery: DeliveryId, work: Work, actions: &mut Vec<Action>) {
        actions.push(Action::Count(delivery, Identity::of(&work.request).to_string()));
        self.counted.counting.insert(delivery);
        self.track(delivery, Stage::Counting(work));
    }

    /// It was counted: it starts, unless that was once too often.
    pub(super) fn counted(&mut self, delivery: DeliveryId, deliveries: u32, now: Timestamp, actions: &mut Vec<Action>) {
        // Gone if the broker was lost meanwhile.
        if !self.counted.counting.remove(&delivery) {
            return;
        }
        let Some(Tracked { stage: Stage::Counting(mut work), .. }) = self.untrack(delivery) else { return };
        self.counted.counts.insert(delivery, deliveries);
        if self.limits.delivery_limit.is_some_and(|limit| deliveries >= limit) {
            self.leave_gates(delivery, &mut work, now);
            let identity = Identity::of(&work.request);
            let request = std::sync::Arc::unwrap_or_clone(work.request);
            let refusal = Refusal::Undeliverable(request, deliveries);
            return self.refuse(delivery, Some(identity), refusal, now, actions);
        }
        self.track(delivery, Stage::Ready(work));
        self.ready.push_front(delivery);
    }

    pub(super) fn forget_count(&mut self, delivery: DeliveryId, identity: &Identity, actions: &mut Vec<Action>) {
        if self.counted.remove(delivery).is_some_and(|count| count > 0) {
            actions.push(Action::ForgetCount(identity.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::dispatcher::fixture::{limits, request, spec};
    use crate::dispatcher::tests::{Bench, NOW, committed, dispatcher, finished, received, redelivered, success};
    use crate::dispatcher::{Input, Limits, Lookup};
    use crate::message::{HeaderValue, PUT_BACK_HEADER};
    use crate::outcome::Outcome;
    use crate::task::TaskOptions;

    fn counted(delivery: u64, deliveries: u32) -> Input {
        Input::Counted(DeliveryId(delivery), deliveries)
    }

    fn unknown(delivery: u64) -> Input {
        Input::LookedUp(DeliveryId(delivery), Lookup::default())
    }

    #[test]
    fn a_redelivery_without_a_count_is_counted_before_it_starts_and_until_it_is_committed() {
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, redelivered(1, "tasks.add", "a", 2), "look up a for 1");
        bench.step(NOW, unknown(1), "count 2 0 tasks.add a for 1");
        bench.step(NOW, counted(1, 19), "start 1 as 1");
        bench.step(NOW, success(1), "commit 1: SUCCESS, ack");
        bench.step(NOW, committed(1), "forget the count of 2 0 tasks.add a");
    }

    #[test]
    fn what_was_delivered_too_often_is_kept_aside_and_not_counted_on() {
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, redelivered(1, "tasks.add", "a", 0), "look up a for 1");
        bench.step(NOW, unknown(1), "count 0 0 tasks.add a for 1");
        bench.step(NOW, counted(1, 20), "commit 1: shelve in celery.dead, FAILURE, ack");
        bench.step(NOW, committed(1), "forget the count of 0 0 tasks.add a");
    }

    #[test]
    fn what_only_waits_is_not_counted() {
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, redelivered(1, "tasks.add", "a", 0), "look up a for 1");
        bench.step(NOW, redelivered(2, "tasks.add", "b", 0), "look up b for 2");
        bench.step(NOW, unknown(1), "count 0 0 tasks.add a for 1");
        // The slot is taken.
        bench.step(NOW, unknown(2), "");
        bench.step(NOW, received(3, "tasks.add", "c"), "");
        bench.step(NOW, counted(1, 1), "start 1 as 1");
        bench.step(NOW, success(1), "commit 1: SUCCESS, ack; count 0 0 tasks.add b for 2");
        bench.step(NOW, counted(2, 1), "start 2 as 2");
    }

    #[test]
    fn a_lost_connection_gives_the_slot_free_and_the_answer_comes_too_late() {
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, redelivered(1, "tasks.add", "a", 0), "look up a for 1");
        bench.step(NOW, unknown(1), "count 0 0 tasks.add a for 1");
        bench.step(NOW, Input::BrokerLost, "");
        bench.step(NOW, received(2, "tasks.add", "b"), "start 2 as 1");
        bench.step(NOW, counted(1, 1), "");
    }

    #[test]
    fn what_nobody_can_count_starts() {
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, redelivered(1, "tasks.add", "a", 0), "look up a for 1");
        bench.step(NOW, unknown(1), "count 0 0 tasks.add a for 1");
        bench.step(NOW, counted(1, 0), "start 1 as 1");
        bench.step(NOW, success(1), "commit 1: SUCCESS, ack");
        bench.step(NOW, committed(1), "");
    }

    #[test]
    fn what_is_given_back_stays_counted() {
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, redelivered(1, "tasks.add", "a", 0), "look up a for 1");
        bench.step(NOW, unknown(1), "count 0 0 tasks.add a for 1");
        bench.step(NOW, counted(1, 1), "start 1 as 1");
        bench.step(NOW, finished(1, Outcome::Rejected { requeue: true }), "commit 1: requeue");
        bench.step(NOW, committed(1), "");
    }

    #[test]
    fn what_the_store_knows_to_be_done_is_forgotten_at_once() {
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, redelivered(1, "tasks.add", "a", 0), "look up a for 1");
        let done = Input::LookedUp(DeliveryId(1), Lookup { succeeded: Some(crate::Json::null()) });
        bench.step(NOW, done, "forget the count of 0 0 tasks.add a; ack 1");
    }

    #[test]
    fn what_the_broker_counts_or_only_waited_there_is_not_counted_again() {
        let mut bench = Bench(dispatcher(2));
        let mut counted = request("tasks.add", "a");
        counted.delivery.redelivered = true;
        counted.message.headers.set(DELIVERY_COUNT_HEADER, HeaderValue::Int(1));
        bench.step(NOW, Input::Received(DeliveryId(1), Ok(Box::new(counted))), "look up a for 1");
        bench.step(NOW, unknown(1), "start 1 as 1");
        let mut waited = request("tasks.add", "b");
        waited.message.headers.set(PUT_BACK_HEADER, HeaderValue::Bool(true));
        bench.step(NOW, Input::Received(DeliveryId(2), Ok(Box::new(waited))), "look up b for 2");
        bench.step(NOW, unknown(2), "start 2 as 2");
    }

    #[test]
    fn without_a_limit_nothing_is_counted_and_without_a_store_nothing_else_is_asked() {
        let with = |limits: Limits| {
            let tasks = [spec("tasks.add", TaskOptions::default())];
            Bench(Dispatcher::new(limits, std::sync::Arc::new(Catalog::new(tasks)), 1))
        };
        let mut bench = with(Limits { delivery_limit: None, look_up: false, ..limits(1) });
        bench.step(NOW, redelivered(1, "tasks.add", "a", 0), "start 1 as 1");
        let mut bench = with(Limits { look_up: false, ..limits(1) });
        bench.step(NOW, redelivered(1, "tasks.add", "a", 0), "count 0 0 tasks.add a for 1");
        bench.step(NOW, counted(1, 1), "start 1 as 1");
    }
}
