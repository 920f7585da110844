//! What the dispatcher does about revoked tasks: those that wait are settled at once, those that run are
//! stopped if that is wanted.
//!
//! What is revoked is the business of [`crate::revoke`].

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::control::Signal;
use crate::name::TaskId;
use crate::outcome::{AttemptId, DeliveryId, Finished, Outcome};
use crate::protocol::content::Json;
use crate::revoke::{Revocation, Revoked};
use crate::settle::Refusal;
use crate::timestamp::Timestamp;

use super::identity::Identity;
use super::stage::{Stage, Tracked, Work};
use super::{Action, Dispatcher};

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Revoke {
    pub(super) revocations: Vec<Revocation>,
    /// Stop those that run, and say that it was with this.
    pub(super) terminate: Option<Signal>,
}

/// What was here of what was revoked.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Waited, and is refused now.
    pub(super) waited: FxHashSet<TaskId>,
    /// Runs, and is stopped if that is wanted.
    pub(super) ran: FxHashSet<TaskId>,
    /// Has ended, and what it came to is being stored.
    pub(super) ended: FxHashSet<TaskId>,
    /// The stamps of what runs that are revoked.
    pub(super) matched: BTreeMap<String, Vec<Json>>,
}

impl Dispatcher {
    /// Adds what an earlier process of this worker knew, the oldest first.
    pub fn recall(&mut self, revocations: impl IntoIterator<Item = (Revocation, Timestamp)>) {
        revocations.into_iter().for_each(|(revocation, at)| self.revoked.insert(revocation, at));
    }

    /// Everything that is revoked.
    pub fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    pub(super) fn revoke(&mut self, revoke: Revoke, now: Timestamp, actions: &mut Vec<Action>) -> Found {
        // Looked for in what is new, since the rest was looked for before.
        let mut new = Revoked::default();
        for revocation in &revoke.revocations {
            new.insert(revocation.clone(), now);
            self.revoked.insert(revocation.clone(), now);
        }
        if !revoke.revocations.is_empty() {
            actions.push(Action::Remember(revoke.revocations));
        }
        let mut found = Found::default();
        let (mut waiting, mut running) = (Vec::new(), Vec::new());
        for (&delivery, tracked) in &self.deliveries {
            match &tracked.stage {
                Stage::Held(work) | Stage::Waiting(work) | Stage::Ready(work) | Stage::Behind(work)
                    if new.covers(&work.request) =>
                {
                    waiting.push(delivery);
                }
                Stage::Running(attempt) if new.covers(&attempt.request) => {
                    running.push((attempt.id, attempt.request.id.clone()));
                    for (header, value) in new.stamps_of(&attempt.request) {
                        let values = found.matched.entry(header.to_owned()).or_default();
                        if !values.contains(&value) {
                            values.push(value);
                        }
                    }
                }
                // It is asked again as soon as that is over.
                Stage::LookingUp(request) if new.covers(request) => drop(found.waited.insert(request.id.clone())),
                Stage::Counting(work) | Stage::PuttingBack { work, .. } if new.covers(&work.request) => {
                    found.waited.insert(work.request.id.clone());
                }
                Stage::Committing { commit, .. } | Stage::CommitDelayed { commit, .. } => {
                    found.ended.extend(commit.identity.as_ref().map(|identity| identity.id().clone()));
                }
                _ => {}
            }
        }
        waiting.sort_unstable();
        for delivery in waiting {
            if let Some(work) = self.take_idle(delivery, now) {
                if let Some(signal) = revoke.terminate {
                    actions.push(Action::Terminating(work.request.id.clone(), signal));
                }
                found.waited.insert(work.request.id.clone());
                self.refuse_revoked(delivery, work, now, actions);
            }
        }
        running.sort_unstable_by_key(|(attempt, _)| *attempt);
        for (attempt, id) in running {
            if let Some(signal) = revoke.terminate {
                actions.push(Action::Terminating(id.clone(), signal));
                self.terminated.insert(attempt, signal);
                actions.push(Action::Terminate(attempt));
            }
            found.ran.insert(id);
        }
        found
    }

    /// Takes out a delivery that waits in this worker, wherever that is. None if it does not.
    pub(super) fn take_idle(&mut self, delivery: DeliveryId, now: Timestamp) -> Option<Work> {
        let tracked = self.untrack(delivery)?;
        let mut work = match tracked.stage {
            // Its entry in the timetable comes up and finds nothing.
            Stage::Held(work) => {
                self.held -= 1;
                work
            }
            Stage::Waiting(work) => work,
            Stage::Ready(work) => {
                self.ready.retain(|ready| *ready != delivery);
                work
            }
            Stage::Behind(work) => {
                if let Some(behind) = self.publishing.get_mut(&work.request.id) {
                    behind.retain(|other| *other != delivery);
                }
                work
            }
            stage @ (Stage::LookingUp(_)
            | Stage::Counting(_)
            | Stage::PuttingBack { .. }
            | Stage::Running(_)
            | Stage::Committing { .. }
            | Stage::CommitDelayed { .. }) => {
                self.deliveries.insert(delivery, Tracked { stage, lost: tracked.lost });
                return None;
            }
        };
        self.crowds.forget(&work.spec.plugin, delivery);
        // Out of the lines, and whoever stands behind it moves up.
        self.gates.leave(delivery, &work.request.task, work.turn.take(), now);
        work.let_through = false;
        Some(work)
    }

    pub(super) fn refuse_revoked(
        &mut self,
        delivery: DeliveryId,
        mut work: Work,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        self.leave_gates(delivery, &mut work, now);
        let identity = Identity::of(&work.request);
        let request = Arc::unwrap_or_clone(work.request);
        self.refuse(delivery, Some(identity), Refusal::Revoked(request, work.policy), now, actions);
    }

    /// Celery counts what has expired as revoked (celery/worker/request.py `maybe_expire`).
    pub(super) fn remember_expired(&mut self, id: &TaskId, now: Timestamp, actions: &mut Vec<Action>) {
        let revocation = Revocation::Id(id.clone());
        self.revoked.insert(revocation.clone(), now);
        actions.push(Action::Remember(vec![revocation]));
    }

    /// An attempt that was stopped since its task is revoked did not end because the worker does.
    pub(super) fn unless_terminated(&mut self, id: AttemptId, mut finished: Finished) -> Finished {
        if let Some(signal) = self.terminated.remove(&id)
            && finished.outcome == Outcome::Interrupted
        {
            finished.outcome = Outcome::Terminated(signal);
        }
        finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Command;
    use crate::dispatcher::Input;
    use crate::dispatcher::fixture::request;
    use crate::dispatcher::tests::{
        Bench, NOW, at, committed, dispatcher, finished, received, redelivered, render, retry_now, success,
    };
    use crate::message::HeaderValue;

    fn ids(ids: &[&str], terminate: bool) -> Command {
        let ids = ids.iter().map(|id| TaskId::parse(id).expect("a name")).collect();
        Command::Revoke { ids, terminate: terminate.then_some(Signal::TERM) }
    }

    fn delayed(delivery: u64, id: &str) -> Input {
        let mut request = request("tasks.add", id);
        request.eta = Some(at(1_000));
        Input::Received(DeliveryId(delivery), Ok(Box::new(request)))
    }

    #[test]
    fn what_is_revoked_is_refused_when_it_arrives() {
        let mut bench = Bench(dispatcher(1));
        bench.tell(NOW, ids(&["a", "b"], false), "remember 2");
        bench.step(NOW, received(1, "tasks.add", "a"), "commit 1: REVOKED, ack");
        bench.step(NOW, delayed(2, "b"), "commit 2: REVOKED, ack");
        bench.step(NOW, received(3, "tasks.add", "c"), "start 3 as 1");
        bench.step(NOW, committed(1), "");
        bench.step(NOW, received(4, "tasks.add", "a"), "commit 4: REVOKED, ack");
        let known: Vec<_> = bench.0.revoked().ids().map(TaskId::as_str).collect();
        assert_eq!(known, ["a", "b"]);
    }

    #[test]
    fn what_was_revoked_before_a_restart_is_refused() {
        let mut bench = Bench(dispatcher(1));
        bench.0.recall([(Revocation::Id(TaskId::parse("a").expect("a name")), NOW)]);
        bench.step(at(5), received(1, "tasks.add", "a"), "commit 1: REVOKED, ack");
    }

    #[test]
    fn what_waits_is_settled_at_once_and_the_rest_goes_on() {
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
        bench.step(NOW, received(2, "tasks.add", "b"), "");
        bench.step(NOW, received(3, "tasks.add", "c"), "");
        bench.step(NOW, delayed(4, "d"), "wake at 1000; prefetch 5");
        bench.tell(
            NOW,
            ids(&["a", "b", "d", "z"], false),
            "remember 4; commit 2: REVOKED, ack; commit 4: REVOKED, ack; prefetch 4",
        );
        bench.step(at(1_000), Input::Due, "");
        bench.step(at(1_000), success(1), "commit 1: SUCCESS, ack; start 3 as 2");
        bench.step(at(1_000), committed(2), "");
        bench.step(at(1_000), success(2), "commit 3: SUCCESS, ack");
    }

    #[test]
    fn whoever_stands_behind_a_revoked_one_at_a_gate_moves_up() {
        let mut bench = Bench(dispatcher(4));
        bench.step(NOW, received(1, "tasks.limited", "a"), "start 1 as 1");
        let rest = render(bench.0.handle(received(2, "tasks.limited", "b"), NOW));
        assert!(rest.contains("wake at 100"), "{rest}");
        bench.0.handle(received(3, "tasks.limited", "c"), NOW);
        let revoked = render(bench.told(NOW, ids(&["b"], false)));
        assert!(revoked.contains("commit 2: REVOKED, ack"), "{revoked}");
        let due = render(bench.0.handle(Input::Due, at(100)));
        assert!(due.contains("start 3 as 2"), "{due}");
    }

    #[test]
    fn a_retry_behind_its_predecessor_is_settled_too() {
        let mut bench = Bench(dispatcher(2));
        bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
        bench.step(NOW, retry_now(1), "commit 1: publish, RETRY, ack");
        let mut retry = request("tasks.add", "a");
        retry.retries = 1;
        bench.step(NOW, Input::Received(DeliveryId(2), Ok(Box::new(retry))), "");
        bench.tell(NOW, ids(&["a"], true), "remember 1; commit 2: REVOKED, ack");
        bench.step(NOW, committed(1), "");
        bench.step(NOW, committed(2), "");
    }

    #[test]
    fn what_runs_is_stopped_only_if_that_is_wanted() {
        let mut bench = Bench(dispatcher(2));
        bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
        bench.step(NOW, received(2, "tasks.add", "b"), "start 2 as 2");
        bench.tell(NOW, ids(&["a"], false), "remember 1");
        bench.tell(NOW, ids(&["a", "b"], true), "remember 2; terminate 1; terminate 2");
        bench.step(NOW, finished(1, Outcome::Interrupted), "commit 1: REVOKED, ack");
        // It had come to its end before it was stopped.
        bench.step(NOW, success(2), "commit 2: SUCCESS, ack");
    }

    #[test]
    fn a_stamp_revokes_every_task_that_carries_it() {
        let stamped = |delivery, id: &str, tenant: &str| {
            let mut request = request("tasks.add", id);
            let text = |text: &str| HeaderValue::Text(text.to_owned());
            request.message.headers.set("stamped_headers", HeaderValue::List(vec![text("tenant")]));
            request.message.headers.set("stamps", HeaderValue::Map(vec![("tenant".to_owned(), text(tenant))]));
            Input::Received(DeliveryId(delivery), Ok(Box::new(request)))
        };
        let mut bench = Bench(dispatcher(1));
        bench.step(NOW, stamped(1, "a", "acme"), "start 1 as 1");
        bench.step(NOW, stamped(2, "b", "acme"), "");
        bench.step(NOW, stamped(3, "c", "other"), "");
        let stamps = vec![Revocation::stamp("tenant", &HeaderValue::Text("acme".to_owned()))];
        let revoke = Command::RevokeByStamps { stamps, shown: String::new(), terminate: Some(Signal::TERM) };
        bench.tell(NOW, revoke, "remember 1; commit 2: REVOKED, ack; terminate 1");
        bench.step(NOW, finished(1, Outcome::Interrupted), "commit 1: REVOKED, ack; start 3 as 2");
        bench.step(NOW, stamped(4, "d", "acme"), "commit 4: REVOKED, ack");
    }

    #[test]
    fn what_expired_is_revoked_when_it_comes_again() {
        let mut bench = Bench(dispatcher(1));
        let mut expired = request("tasks.add", "a");
        expired.expires = Some(NOW);
        bench.step(NOW, Input::Received(DeliveryId(1), Ok(Box::new(expired))), "remember 1; commit 1: REVOKED, ack");
        bench.step(NOW, committed(1), "");
        bench.step(NOW, redelivered(2, "tasks.add", "a", 0), "ack 2");
        bench.step(NOW, received(3, "tasks.add", "a"), "commit 3: REVOKED, ack");
    }
}
