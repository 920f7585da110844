//! Deliveries that stay unsettled for longer than their broker bears: RabbitMQ closes the channel then, and
//! delivers everything again. What runs goes into the worker's journal, after which the broker is told that
//! it is done with; what only waits is given back.
//!
//! Keeps no time for each delivery: they are numbered in the order of their arrival, so a mark now and then
//! tells how old all before it are. Where the journal is, is the business of the driver.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::message::{Acknowledgement, DELIVERY_COUNT_HEADER, HeaderValue, PUT_BACK_HEADER};
use crate::outcome::DeliveryId;
use crate::request::{DecodeError, Request};
use crate::retry;
use crate::timestamp::Timestamp;

use super::identity::Identity;
use super::stage::{Stage, Work};
use super::{Action, Dispatcher, Kept};

/// Deliveries that arrive within this part of the limit are treated as if they had arrived together.
const MARKS_MAX: u32 = 8;

/// What is known about ages, and which deliveries are in the journal.
#[derive(Debug, Default)]
pub(super) struct Overtime {
    /// How old a delivery may become; none: as old as it likes.
    limit: Option<Duration>,
    /// The arrival of the first of several deliveries, the oldest first.
    marks: VecDeque<(Timestamp, DeliveryId)>,
    /// Some are over the limit and something was done about them: when to see whether that helped.
    again: Option<Timestamp>,
    /// Deliveries that are in the journal (true), or on the way there.
    journal: FxHashMap<DeliveryId, bool>,
    /// Deliveries that are being put back, and came again already.
    superseded: FxHashSet<DeliveryId>,
}

impl Overtime {
    /// A new connection, and how long its broker lets a delivery be unsettled.
    pub(super) fn begin(&mut self, consumer_timeout: Option<Duration>) {
        // The rest is for the way there, for what lies unread, and for a busy moment.
        self.limit = consumer_timeout.map(|timeout| timeout * 2 / 3);
        self.marks.clear();
        self.again = None;
        self.superseded.clear();
    }

    /// This delivery is being put back, and has come again already.
    pub(super) fn supersede(&mut self, delivery: Option<DeliveryId>) {
        self.superseded.extend(delivery);
    }

    pub(super) fn is_superseded(&mut self, delivery: DeliveryId) -> bool {
        !self.superseded.is_empty() && self.superseded.remove(&delivery)
    }

    /// A delivery arrived.
    pub(super) fn arrived(&mut self, delivery: DeliveryId, now: Timestamp) {
        let Some(limit) = self.limit else { return };
        if self.marks.back().is_none_or(|(at, _)| now.since(*at) >= limit / MARKS_MAX) {
            self.marks.push_back((now, delivery));
        }
    }

    /// When to look at the old ones.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let limit = self.limit?;
        let oldest = self.marks.front().map(|(at, _)| *at + limit);
        oldest.into_iter().chain(self.again).min()
    }

    /// If it is time: all deliveries before this one are over the limit, or will be soon.
    fn take_due(&mut self, now: Timestamp) -> Option<DeliveryId> {
        let limit = self.limit?;
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        while self.marks.front().is_some_and(|(at, _)| *at + limit <= now) {
            self.marks.pop_front();
        }
        self.again = None;
        Some(self.marks.front().map_or(DeliveryId(u64::MAX), |(_, delivery)| *delivery))
    }

    /// True if the message is in the journal, so that it is ours whatever happens to the connection.
    pub(super) fn is_journaled(&self, delivery: DeliveryId) -> bool {
        !self.journal.is_empty() && self.journal.get(&delivery) == Some(&true)
    }

    /// True while it is not known whether a message is in the journal.
    pub(super) fn is_writing(&self) -> bool {
        self.journal.values().any(|written| !written)
    }

    pub(super) fn forget(&mut self, delivery: DeliveryId) {
        if !self.journal.is_empty() && self.is_journaled(delivery) {
            self.journal.remove(&delivery);
        }
    }
}

impl Dispatcher {
    /// A message that an earlier process of this worker left in the journal.
    pub(super) fn resumed(
        &mut self,
        delivery: DeliveryId,
        request: Result<Box<Request>, DecodeError>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        self.overtime.journal.insert(delivery, true);
        self.received(delivery, request, now, actions);
    }

    /// True if this execution is being put back at this moment.
    pub(super) fn is_back_already(&self, identity: &Identity) -> bool {
        let known = self.identities.get(identity).and_then(|known| self.deliveries.get(known));
        known.is_some_and(|tracked| matches!(tracked.stage, Stage::PuttingBack { .. }))
    }

    /// Looks for deliveries that are too old, if it is time to.
    pub(super) fn look_for_old(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(before) = self.overtime.take_due(now) else { return };
        let deliveries = &self.deliveries;
        self.overtime.journal.retain(|delivery, written| !*written || deliveries.contains_key(delivery));
        let is_late = |delivery: &DeliveryId| {
            let tracked = &deliveries[delivery];
            *delivery < before && !tracked.lost && !tracked.stage.is_acknowledged()
        };
        let mut late: Vec<DeliveryId> = deliveries.keys().copied().filter(is_late).collect();
        late.retain(|delivery| !self.overtime.journal.contains_key(delivery));
        late.sort_unstable();
        if let (Some(limit), false) = (self.overtime.limit, late.is_empty()) {
            self.overtime.again = Some(now + limit / MARKS_MAX);
        }
        for delivery in late {
            match self.take_idle(delivery, now) {
                Some(work) => self.give_back_old(delivery, work, now, actions),
                None => self.journal(delivery, actions),
            }
        }
    }

    /// It has not begun, so it need not be ours.
    fn give_back_old(&mut self, delivery: DeliveryId, work: Work, now: Timestamp, actions: &mut Vec<Action>) {
        if !self.puts_back || self.stopping {
            // To keep it in the journal would make room for more of its kind, without end.
            self.forget_identity(&Identity::of(&work.request), delivery);
            self.counted.remove(delivery);
            return actions.push(Action::Settle(delivery, Acknowledgement::Requeue));
        }
        let until = work.request.eta.map_or(now, |eta| eta.max(now));
        let mut publication = Box::new(retry::publication(&work.request));
        publication.message.headers.set(PUT_BACK_HEADER, HeaderValue::Bool(true));
        if let Some(count) = self.counted.remove(delivery) {
            publication.message.headers.set(DELIVERY_COUNT_HEADER, HeaderValue::Int(count.into()));
            actions.push(Action::ForgetCount(Identity::of(&work.request).to_string()));
        }
        self.track(delivery, Stage::PuttingBack { work, until });
        actions.push(Action::PutBack { delivery, publication, until });
    }

    /// It runs, or waits for its commit: the message is kept by us from now on.
    fn journal(&mut self, delivery: DeliveryId, actions: &mut Vec<Action>) {
        if !self.limits.journals {
            return;
        }
        let request = match self.deliveries.get(&delivery).map(|tracked| &tracked.stage) {
            Some(Stage::Running(attempt)) => &attempt.request,
            Some(Stage::Committing { commit, .. } | Stage::CommitDelayed { commit, .. }) => match &commit.attempt {
                Some(attempt) => &attempt.request,
                // It never ran. Should the broker deliver it again, that is recognised.
                None => return,
            },
            // These are on their way already.
            _ => return,
        };
        let mut message = request.message.clone();
        let info = request.delivery.clone();
        let identity = Identity::of(request);
        if let Some(count) = self.counted.remove(delivery) {
            message.headers.set(DELIVERY_COUNT_HEADER, HeaderValue::Int(count.into()));
            actions.push(Action::ForgetCount(identity.to_string()));
        }
        self.overtime.journal.insert(delivery, false);
        actions.push(Action::Journal(delivery, Box::new(Kept { message, info })));
    }

    /// The message is in the journal and acknowledged, or it could not be written.
    pub(super) fn journaled(&mut self, delivery: DeliveryId, written: bool, actions: &mut Vec<Action>) {
        self.overtime.journal.remove(&delivery);
        if !written {
            return;
        }
        let Some(tracked) = self.deliveries.get_mut(&delivery) else {
            // It came to its end meanwhile.
            return actions.push(Action::Settle(delivery, Acknowledgement::Ack));
        };
        tracked.lost = false;
        if let Stage::Committing { adopted, .. } = &mut tracked.stage {
            // The step that settles may have spent the old receipt.
            *adopted = true;
        }
        self.overtime.journal.insert(delivery, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::dispatcher::fixture::{limits, request, spec};
    use crate::dispatcher::tests::{
        Bench, NOW, at, committed, dispatcher, finished, received, redelivered, retry_now, success,
    };
    use crate::dispatcher::{Input, Limits, Lookup, Shutdown};
    use crate::outcome::Outcome;
    use crate::task::TaskOptions;

    /// Two thirds of the half hour that the fixture has.
    const LIMIT: u64 = 1_200_000;

    fn bench(concurrency: usize, puts_back: bool) -> Bench {
        let mut bench = Bench(dispatcher(concurrency));
        bench.step(NOW, Input::BrokerBack { puts_back, times_out: true, clock_is_wrong: false }, "");
        bench
    }

    fn journaled(delivery: u64, written: bool) -> Input {
        Input::Journaled(DeliveryId(delivery), written)
    }

    fn resumed(delivery: u64, id: &str, count: i64) -> Input {
        let mut request = request("tasks.add", id);
        request.delivery.redelivered = true;
        request.message.headers.set(DELIVERY_COUNT_HEADER, HeaderValue::Int(count));
        Input::Resumed(DeliveryId(delivery), Ok(Box::new(request)))
    }

    #[test]
    fn what_runs_too_long_goes_to_the_journal_and_ends_as_ever() {
        let mut bench = bench(1, true);
        bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1; wake at 1200000");
        bench.step(at(LIMIT), Input::Due, "journal 1 deliveries=0; wake at 1350000");
        bench.step(at(LIMIT), journaled(1, true), "");
        bench.step(at(LIMIT + 150_000), Input::Due, "");
        // The connection is no matter any more.
        bench.step(at(LIMIT + 150_000), Input::BrokerLost, "");
        bench.step(
            at(LIMIT + 150_000),
            Input::BrokerBack { puts_back: true, times_out: true, clock_is_wrong: false },
            "",
        );
        bench.step(at(LIMIT + 150_001), success(1), "commit 1: SUCCESS, ack");
        bench.step(at(LIMIT + 150_001), committed(1), "");
    }

    #[test]
    fn what_cannot_be_written_is_tried_again() {
        let mut bench = bench(1, true);
        bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1; wake at 1200000");
        bench.step(at(LIMIT), Input::Due, "journal 1 deliveries=0; wake at 1350000");
        bench.step(at(LIMIT), journaled(1, false), "");
        bench.step(at(LIMIT + 150_000), Input::Due, "journal 1 deliveries=0; wake at 1500000");
    }

    #[test]
    fn what_only_waits_is_given_back() {
        let mut bench = bench(1, true);
        bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1; wake at 1200000");
        bench.step(at(1), received(2, "tasks.add", "b"), "");
        let mut later = request("tasks.add", "c");
        later.eta = Some(at(LIMIT + 30_000));
        let later = Input::Received(DeliveryId(3), Ok(Box::new(later)));
        // Of the next group, and so not over the limit when the first is.
        bench.step(at(LIMIT - 20_000), later, "prefetch 5");
        let expected = "journal 1 deliveries=0; put back 2 until 1200000; wake at 1230000";
        bench.step(at(LIMIT), Input::Due, expected);
        bench.step(at(LIMIT), Input::PutBack(DeliveryId(2), true), "");
    }

    #[test]
    fn what_is_given_back_may_come_again_before_that_is_known() {
        for done in [true, false] {
            let mut bench = bench(1, true);
            bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1; wake at 1200000");
            bench.step(at(1), received(2, "tasks.add", "b"), "");
            let expected = "journal 1 deliveries=0; put back 2 until 1200000; wake at 1350000";
            bench.step(at(LIMIT), Input::Due, expected);
            let mut again = request("tasks.add", "b");
            again.message.headers.set(PUT_BACK_HEADER, HeaderValue::Bool(true));
            bench.step(at(LIMIT), Input::Received(DeliveryId(3), Ok(Box::new(again))), "look up b for 3");
            // Settling what is settled does nothing.
            bench.step(at(LIMIT), Input::PutBack(DeliveryId(2), done), "ack 2");
            bench.step(at(LIMIT), Input::LookedUp(DeliveryId(3), Lookup::default()), "");
            bench.step(at(LIMIT), success(1), "commit 1: SUCCESS, ack; start 3 as 2");
        }
    }

    #[test]
    fn what_waits_is_requeued_where_nothing_can_be_put_back() {
        let mut bench = bench(1, false);
        bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1; wake at 1200000");
        bench.step(NOW, received(2, "tasks.add", "b"), "");
        bench.step(at(LIMIT), Input::Due, "journal 1 deliveries=0; requeue 2; wake at 1350000");
        bench.step(at(LIMIT), redelivered(3, "tasks.add", "b", 0), "look up b for 3");
    }

    #[test]
    fn a_commit_that_waits_is_kept_and_settled_once() {
        let mut bench = bench(1, true);
        bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1; wake at 1200000");
        bench.step(NOW, retry_now(1), "commit 1: publish, RETRY, ack");
        bench.step(at(LIMIT), Input::Due, "journal 1 deliveries=0; wake at 1350000");
        bench.step(at(LIMIT), journaled(1, true), "");
        // The commit may have spent the old receipt.
        bench.step(at(LIMIT), committed(1), "ack 1");
    }

    #[test]
    fn what_ends_while_it_is_written_is_taken_out_again() {
        let mut bench = bench(1, true);
        bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1; wake at 1200000");
        bench.step(at(LIMIT), Input::Due, "journal 1 deliveries=0; wake at 1350000");
        bench.step(at(LIMIT), success(1), "commit 1: SUCCESS, ack");
        bench.step(at(LIMIT), committed(1), "");
        bench.step(at(LIMIT), Input::Stop(Shutdown::Warm), "stop consuming");
        bench.step(at(LIMIT), journaled(1, true), "ack 1; stopped");
    }

    #[test]
    fn a_redelivery_of_what_is_in_the_journal_is_acknowledged() {
        let mut bench = bench(1, true);
        bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1; wake at 1200000");
        bench.step(at(LIMIT), Input::Due, "journal 1 deliveries=0; wake at 1350000");
        // The broker has not heard that it is done with.
        bench.step(at(LIMIT), Input::BrokerLost, "");
        bench.step(at(LIMIT), journaled(1, true), "");
        bench.step(at(LIMIT), redelivered(2, "tasks.add", "a", 0), "ack 2");
    }

    #[test]
    fn what_was_taken_back_and_adopted_is_looked_at_anew() {
        let mut bench = bench(1, true);
        bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1; wake at 1200000");
        bench.step(at(600_000), Input::BrokerLost, "");
        bench.step(at(600_000), Input::BrokerBack { puts_back: true, times_out: true, clock_is_wrong: false }, "");
        bench.step(at(600_000), redelivered(2, "tasks.add", "a", 0), "(1) adopts (2)");
        bench.step(at(LIMIT), Input::Due, "wake at 1800000");
        bench.step(at(600_000 + LIMIT), Input::Due, "journal 1 deliveries=0; wake at 1950000");
    }

    #[test]
    fn the_count_goes_along_into_the_journal() {
        let mut bench = bench(1, true);
        bench.step(NOW, redelivered(1, "tasks.add", "a", 0), "look up a for 1; wake at 1200000");
        let answer = Input::LookedUp(DeliveryId(1), Lookup::default());
        bench.step(NOW, answer, "count 0 0 tasks.add a for 1");
        bench.step(NOW, Input::Counted(DeliveryId(1), 3), "start 1 as 1");
        let expected = "forget the count of 0 0 tasks.add a; journal 1 deliveries=3; wake at 1350000";
        bench.step(at(LIMIT), Input::Due, expected);
    }

    #[test]
    fn what_is_resumed_is_looked_up_and_outlives_a_lost_connection() {
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, resumed(1, "a", 1), "look up a for 1");
        bench.step(NOW, resumed(2, "b", 1), "look up b for 2");
        bench.step(NOW, resumed(3, "c", 20), "commit 3: shelve in celery.dead, FAILURE, ack");
        bench.step(NOW, Input::LookedUp(DeliveryId(1), Lookup::default()), "start 1 as 1");
        bench.step(NOW, Input::LookedUp(DeliveryId(2), Lookup::default()), "");
        bench.step(NOW, Input::BrokerBack { puts_back: true, times_out: true, clock_is_wrong: false }, "");
        bench.step(NOW, Input::BrokerLost, "");
        bench.step(NOW, success(1), "commit 1: SUCCESS, ack; start 2 as 2");
        bench.step(NOW, finished(2, Outcome::Ignored), "commit 2: ack");
    }

    #[test]
    fn what_is_resumed_and_waits_goes_back_at_a_shutdown() {
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, resumed(1, "a", 1), "look up a for 1");
        bench.step(NOW, resumed(2, "b", 1), "look up b for 2");
        bench.step(NOW, Input::LookedUp(DeliveryId(1), Lookup::default()), "start 1 as 1");
        bench.step(NOW, Input::LookedUp(DeliveryId(2), Lookup::default()), "");
        bench.step(NOW, Input::Stop(Shutdown::Warm), "stop consuming; requeue 2");
    }

    #[test]
    fn nothing_is_kept_without_need_or_without_a_journal() {
        let mut patient = Bench(dispatcher(1));
        patient.step(NOW, Input::BrokerBack { puts_back: true, times_out: false, clock_is_wrong: false }, "");
        patient.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");

        let tasks = [spec("tasks.add", TaskOptions::default())];
        let limits = Limits { journals: false, ..limits(1) };
        let mut without = Bench(Dispatcher::new(limits, std::sync::Arc::new(Catalog::new(tasks)), 1));
        without.step(NOW, Input::BrokerBack { puts_back: true, times_out: true, clock_is_wrong: false }, "");
        without.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1; wake at 1200000");
        without.step(at(LIMIT), Input::Due, "wake at 1350000");

        let mut early = bench(1, true);
        early.step(NOW, received(1, "tasks.early", "a"), "ack 1; record STARTED; start 1 as 1; wake at 1200000");
        early.step(at(LIMIT), Input::Due, "");
    }
}
