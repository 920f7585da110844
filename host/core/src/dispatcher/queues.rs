//! Which queues messages are taken from: some come, go or pause while the worker runs, and a quiet worker takes
//! from none.
//!
//! What was taken already runs on, whatever becomes of its queue, as in Celery (celery/worker/consumer/consumer.py
//! `cancel_task_queue`).

use crate::name::QueueName;
use crate::queue::{Queue, Queues};

use super::{Action, Dispatcher};

/// Whether messages of a queue are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueState {
    Consuming,
    Paused,
}

/// The queues of this worker.
#[derive(Debug, Default)]
pub(super) struct Taken {
    queues: Vec<(Queue, QueueState)>,
    /// What queues look like that are only named.
    known: Queues,
    quiet: bool,
}

impl Taken {
    /// Those that messages are to be taken from now.
    fn wanted(&self) -> Vec<Queue> {
        if self.quiet {
            return Vec::new();
        }
        let consuming = self.queues.iter().filter(|(_, state)| *state == QueueState::Consuming);
        consuming.map(|(queue, _)| queue.clone()).collect()
    }

    fn set(&mut self, name: &QueueName, state: QueueState) -> bool {
        let found = self.queues.iter_mut().find(|(queue, _)| queue.name == *name);
        found.is_some_and(|(_, was)| std::mem::replace(was, state) != state)
    }
}

impl Dispatcher {
    /// The queues to begin with, and what others look like.
    pub fn begin_with(&mut self, queues: Vec<Queue>, known: Queues) {
        let queues = queues.into_iter().map(|queue| (queue, QueueState::Consuming)).collect();
        self.taken = Taken { queues, known, quiet: false };
    }

    /// The queues of this worker, in the order in which they came, also while it is quiet.
    pub fn queues(&self) -> impl Iterator<Item = (&Queue, QueueState)> {
        self.taken.queues.iter().map(|(queue, state)| (queue, *state))
    }

    /// No messages are taken, but what is here is finished and the worker stays.
    pub fn is_quiet(&self) -> bool {
        self.taken.quiet
    }

    /// What a queue of this name looks like: as it is configured, else as every other.
    pub(super) fn describe_queue(&self, name: &QueueName) -> Queue {
        self.taken.known.get(name)
    }

    /// Takes messages from this queue too. False if that is done already; a paused one goes on.
    pub(super) fn add_queue(&mut self, queue: Queue, actions: &mut Vec<Action>) -> bool {
        let name = queue.name.clone();
        if self.taken.queues.iter().any(|(known, _)| known.name == name) {
            return self.resume_queue(&name, actions);
        }
        self.taken.queues.push((queue, QueueState::Consuming));
        self.consume(actions);
        true
    }

    /// Takes no more messages from this queue and forgets it. False if it is none of ours.
    pub(super) fn cancel_queue(&mut self, name: &QueueName, actions: &mut Vec<Action>) -> bool {
        let before = self.taken.queues.len();
        self.taken.queues.retain(|(queue, _)| queue.name != *name);
        let cancelled = self.taken.queues.len() < before;
        if cancelled {
            self.consume(actions);
        }
        cancelled
    }

    /// Takes no more messages from this queue until it is resumed. False if it is none of ours, or paused.
    pub(super) fn pause_queue(&mut self, name: &QueueName, actions: &mut Vec<Action>) -> bool {
        let changed = self.taken.set(name, QueueState::Paused);
        if changed {
            self.consume(actions);
        }
        changed
    }

    /// Takes messages from a paused queue again. False if it is none of ours, or not paused.
    pub(super) fn resume_queue(&mut self, name: &QueueName, actions: &mut Vec<Action>) -> bool {
        let changed = self.taken.set(name, QueueState::Consuming);
        if changed {
            self.consume(actions);
        }
        changed
    }

    /// Takes no messages at all until the quiet ends. False if it is quiet already.
    pub(super) fn be_quiet(&mut self, actions: &mut Vec<Action>) -> bool {
        self.set_quiet(true, actions)
    }

    /// Takes messages again, but for queues that are paused. False if it was not quiet.
    pub(super) fn end_quiet(&mut self, actions: &mut Vec<Action>) -> bool {
        self.set_quiet(false, actions)
    }

    fn set_quiet(&mut self, quiet: bool, actions: &mut Vec<Action>) -> bool {
        let changed = std::mem::replace(&mut self.taken.quiet, quiet) != quiet;
        if changed {
            self.consume(actions);
        }
        changed
    }

    fn consume(&self, actions: &mut Vec<Action>) {
        if !self.stopping {
            actions.push(Action::Consume(self.taken.wanted()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::tests::{NOW, dispatcher, render};
    use crate::dispatcher::{Input, Shutdown};
    use crate::name::NodeName;
    use crate::queue::QueueKind;

    fn name(name: &str) -> QueueName {
        QueueName::parse(name).expect("a name")
    }

    fn of(queues: &[&str]) -> Dispatcher {
        let mut dispatcher = dispatcher(1);
        dispatcher.begin_with(queues.iter().map(|it| Queue::named(name(it))).collect(), Queues::default());
        dispatcher
    }

    /// What is done, and what that leads to.
    #[track_caller]
    fn check(
        dispatcher: &mut Dispatcher,
        act: impl Fn(&mut Dispatcher, &mut Vec<Action>) -> bool,
        changes: bool,
        leads_to: &str,
    ) {
        let mut actions = Vec::new();
        assert_eq!(act(dispatcher, &mut actions), changes);
        assert_eq!(render(actions), leads_to);
    }

    #[test]
    fn queues_come_and_go_and_nothing_is_done_twice() {
        let mut it = of(&["a"]);
        check(&mut it, |it, actions| it.add_queue(Queue::named(name("b")), actions), true, "consume a b");
        check(&mut it, |it, actions| it.add_queue(Queue::named(name("b")), actions), false, "");
        check(&mut it, |it, actions| it.cancel_queue(&name("a"), actions), true, "consume b");
        check(&mut it, |it, actions| it.cancel_queue(&name("a"), actions), false, "");
        check(&mut it, |it, actions| it.cancel_queue(&name("b"), actions), true, "consume");
    }

    #[test]
    fn a_paused_queue_is_known_and_not_consumed() {
        let mut it = of(&["a", "b"]);
        check(&mut it, |it, actions| it.pause_queue(&name("a"), actions), true, "consume b");
        check(&mut it, |it, actions| it.pause_queue(&name("a"), actions), false, "");
        check(&mut it, |it, actions| it.pause_queue(&name("z"), actions), false, "");
        let states: Vec<_> = it.queues().map(|(queue, state)| (queue.name.as_str(), state)).collect();
        assert_eq!(states, [("a", QueueState::Paused), ("b", QueueState::Consuming)]);
        check(&mut it, |it, actions| it.resume_queue(&name("a"), actions), true, "consume a b");
        check(&mut it, |it, actions| it.resume_queue(&name("a"), actions), false, "");
        check(&mut it, |it, actions| it.pause_queue(&name("a"), actions), true, "consume b");
        check(&mut it, |it, actions| it.add_queue(Queue::named(name("a")), actions), true, "consume a b");
    }

    #[test]
    fn a_quiet_worker_takes_nothing_and_remembers_what_it_took() {
        let mut it = of(&["a", "b"]);
        check(&mut it, Dispatcher::be_quiet, true, "consume");
        check(&mut it, Dispatcher::be_quiet, false, "");
        assert!(it.is_quiet());
        check(&mut it, |it, actions| it.pause_queue(&name("a"), actions), true, "consume");
        check(&mut it, |it, actions| it.add_queue(Queue::named(name("c")), actions), true, "consume");
        check(&mut it, Dispatcher::end_quiet, true, "consume b c");
        check(&mut it, Dispatcher::end_quiet, false, "");
    }

    #[test]
    fn a_queue_that_is_only_named_looks_as_it_is_configured() {
        let mut known = Queues::new(QueueKind::Quorum, None);
        known.define(Queue::direct(&NodeName::parse("n@h").expect("a name")).expect("a queue"));
        let mut it = dispatcher(1);
        it.begin_with(Vec::new(), known);
        assert_eq!(it.describe_queue(&name("a")).kind, QueueKind::Quorum);
        assert_eq!(it.describe_queue(&name("n@h.dq2")).exchange.name, "C.dq2");
    }

    #[test]
    fn a_queue_that_cannot_be_consumed_is_forgotten() {
        let mut it = of(&["a", "b"]);
        assert_eq!(render(it.handle(Input::CannotConsume(name("b")), NOW)), "consume a");
    }

    #[test]
    fn a_worker_that_stops_takes_no_queue_any_more() {
        let mut it = of(&["a"]);
        assert_eq!(render(it.handle(Input::Stop(Shutdown::Warm), NOW)), "stop consuming; stopped");
        check(&mut it, |it, actions| it.add_queue(Queue::named(name("b")), actions), true, "");
    }
}
