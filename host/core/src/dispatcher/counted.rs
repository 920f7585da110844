//! Deliveries of brokers that do not count them: asked for when one comes again, forgotten when it is done.
//!
//! Where the counts are kept is the business of whoever answers the question.

use rustc_hash::FxHashMap;

use crate::message::DELIVERY_COUNT_HEADER;
use crate::outcome::DeliveryId;
use crate::request::Request;

use super::identity::Identity;
use super::{Action, Dispatcher, Question};

/// How often each of these was delivered before. Others were counted by their broker, or never came again.
#[derive(Debug, Default)]
pub(super) struct Counted(FxHashMap<DeliveryId, u32>);

impl Counted {
    pub(super) fn insert(&mut self, delivery: DeliveryId, deliveries: u32) {
        if deliveries > 0 {
            self.0.insert(delivery, deliveries);
        }
    }

    pub(super) fn remove(&mut self, delivery: DeliveryId) -> Option<u32> {
        // Empty unless something went wrong a short while ago.
        if self.0.is_empty() { None } else { self.0.remove(&delivery) }
    }

    pub(super) fn retain(&mut self, wanted: impl Fn(&DeliveryId) -> bool) {
        self.0.retain(|delivery, _| wanted(delivery));
    }
}

impl Dispatcher {
    /// What must be known about a redelivery before it is worked on; none if it is nothing.
    pub(super) fn question(&self, request: &Request) -> Option<Question> {
        let is_counted = request.message.headers.get(DELIVERY_COUNT_HEADER).is_some();
        let counts = self.limits.delivery_limit.is_some() && request.delivery.redelivered && !is_counted;
        let question = Question {
            succeeded: self.limits.look_up.then(|| request.id.clone()),
            count: counts.then(|| Identity::of(request).to_string()),
        };
        (question.succeeded.is_some() || question.count.is_some()).then_some(question)
    }

    pub(super) fn forget_count(&mut self, delivery: DeliveryId, identity: &Identity, actions: &mut Vec<Action>) {
        if self.counted.remove(delivery).is_some() {
            actions.push(Action::ForgetCount(identity.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::fixture::{limits, request, spec};
    use crate::dispatcher::tests::{Bench, NOW, committed, dispatcher, finished, redelivered, success};
    use crate::dispatcher::{Input, Limits, Lookup};
    use crate::message::{HeaderValue, PUT_BACK_HEADER};
    use crate::outcome::Outcome;
    use crate::task::{Catalog, TaskOptions};

    fn answer(delivery: u64, deliveries: u32) -> Input {
        Input::LookedUp(DeliveryId(delivery), Lookup { succeeded: false, deliveries })
    }

    #[test]
    fn a_redelivery_without_a_count_is_counted_until_it_is_committed() {
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, redelivered(1, "tasks.add", "a", 2), "look up and count a for 1");
        bench.step(NOW, answer(1, 19), "start 1 as 1");
        bench.step(NOW, success(1), "commit 1: SUCCESS, ack");
        bench.step(NOW, committed(1), "forget the count of 2 0 tasks.add a");
    }

    #[test]
    fn what_was_delivered_too_often_is_kept_aside_and_not_counted_on() {
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, redelivered(1, "tasks.add", "a", 0), "look up and count a for 1");
        bench.step(NOW, answer(1, 20), "commit 1: publish, FAILURE, ack");
        bench.step(NOW, committed(1), "forget the count of 0 0 tasks.add a");
    }

    #[test]
    fn what_is_given_back_stays_counted() {
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, redelivered(1, "tasks.add", "a", 0), "look up and count a for 1");
        bench.step(NOW, answer(1, 1), "start 1 as 1");
        bench.step(NOW, finished(1, Outcome::Rejected { requeue: true }), "commit 1: requeue");
        bench.step(NOW, committed(1), "");
    }

    #[test]
    fn what_the_store_knows_to_be_done_is_forgotten_at_once() {
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, redelivered(1, "tasks.add", "a", 0), "look up and count a for 1");
        let done = Input::LookedUp(DeliveryId(1), Lookup { succeeded: true, deliveries: 1 });
        bench.step(NOW, done, "forget the count of 0 0 tasks.add a; ack 1");
    }

    #[test]
    fn what_the_broker_counts_or_only_waited_is_not_counted_again() {
        let mut bench = Bench(dispatcher(1));
        let mut counted = request("tasks.add", "a");
        counted.delivery.redelivered = true;
        counted.message.headers.set(DELIVERY_COUNT_HEADER, HeaderValue::Int(1));
        bench.step(NOW, Input::Received(DeliveryId(1), Ok(Box::new(counted))), "look up a for 1");
        let mut waited = request("tasks.add", "b");
        waited.message.headers.set(PUT_BACK_HEADER, HeaderValue::Bool(true));
        bench.step(NOW, Input::Received(DeliveryId(2), Ok(Box::new(waited))), "look up b for 2");
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
        bench.step(NOW, answer(1, 1), "start 1 as 1");
    }
}
