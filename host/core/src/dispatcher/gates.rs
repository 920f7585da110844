//! Where tasks with a concurrency limit or a rate limit wait for their turn, without standing in the way
//! of others.
//!
//! Knows deliveries by their ids and moves none: what may go on is said in [`Opened`], and the dispatcher
//! does it. Tasks without limits never come here.
//!
//! A delivery passes two gates. At the first it gets one of the turns of its key; a key has as many as
//! the limit allows, and a turn is kept until the attempt has ended. So each key has at most that many
//! deliveries in the line for a slot, and a key with thousands waiting takes turns with the others. At
//! the second it waits for the rate: one delivery of a task is let through at a time, and the next after
//! the interval that begins when that one starts.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::name::TaskName;
use crate::outcome::DeliveryId;
use crate::rate::{Bucket, Rate, RateScope};
use crate::timestamp::Timestamp;

/// How long to wait before the cluster is asked again, when it did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Both gates of all tasks.
#[derive(Debug, Default)]
pub(super) struct Gates {
    turns: FxHashMap<Turn, Turns>,
    paces: FxHashMap<TaskName, Pace>,
    /// How many wait at either gate.
    waiting: u32,
    opened: VecDeque<Opened>,
}

/// One of the turns that a concurrency limit allows: those of a task, or of one key of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Turn {
    pub(super) task: TaskName,
    pub(super) key: Box<str>,
}

/// What is to be done since a gate opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Opened {
    /// This delivery has got this turn, and goes on to the second gate.
    Turn(DeliveryId, Turn),
    /// The rate lets this delivery start.
    Pace(DeliveryId),
    /// Ask the cluster when this delivery may start.
    Ask(DeliveryId, TaskName, Rate),
    /// Call [`Gates::due`] for this task at that time.
    Wake(Timestamp, TaskName),
}

#[derive(Debug, Default)]
struct Turns {
    taken: u32,
    waiting: VecDeque<DeliveryId>,
}

/// The line of a task at its rate limit.
#[derive(Debug)]
struct Pace {
    bucket: Bucket,
    scope: RateScope,
    line: VecDeque<DeliveryId>,
    head: Head,
}

/// What the first of a line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// Nobody was let through since the last start.
    None,
    /// It waits for this time.
    Until(Timestamp),
    /// The cluster is being asked when this one may start.
    Asked(DeliveryId),
    /// The cluster lets this one start at this time.
    Granted(DeliveryId, Timestamp),
    /// This one was let through and has not started yet.
    Through(DeliveryId),
}

impl Gates {
    /// How many deliveries wait at a gate.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting
    }

    /// What is to be done next since a gate opened.
    pub(super) fn next_opened(&mut self) -> Option<Opened> {
        self.opened.pop_front()
    }

    /// Takes a turn, or puts the delivery into the line for one.
    pub(super) fn take_turn(&mut self, delivery: DeliveryId, turn: &Turn, limit: NonZeroU32) -> bool {
        let turns = match self.turns.get_mut(turn) {
            Some(turns) => turns,
            None => self.turns.entry(turn.clone()).or_default(),
        };
        if turns.taken < limit.get() {
            turns.taken += 1;
            return true;
        }
        turns.waiting.push_back(delivery);
        self.waiting += 1;
        false
    }

    /// An attempt that had this turn has ended, or will never start: the next one gets it.
    pub(super) fn return_turn(&mut self, turn: Turn) {
        let Some(turns) = self.turns.get_mut(&turn) else { return };
        match turns.waiting.pop_front() {
            Some(next) => {
                self.waiting -= 1;
                self.opened.push_back(Opened::Turn(next, turn));
            }
            None => {
                turns.taken -= 1;
                if turns.taken == 0 {
                    self.turns.remove(&turn);
                }
            }
        }
    }

    /// Puts a delivery into the line of its task's rate limit.
    pub(super) fn line_up(
        &mut self,
        delivery: DeliveryId,
        task: &TaskName,
        rate: Rate,
        scope: RateScope,
        now: Timestamp,
    ) {
        if !self.paces.contains_key(task) {
            let pace = Pace { bucket: Bucket::new(rate), scope, line: VecDeque::new(), head: Head::None };
            self.paces.insert(task.clone(), pace);
        }
        let pace = self.paces.get_mut(task).expect("it was inserted above");
        if pace.bucket.rate() != rate || pace.scope != scope {
            pace.bucket = Bucket::new(rate);
            pace.scope = scope;
        }
        pace.line.push_back(delivery);
        self.waiting += 1;
        self.advance(task, now);
    }

    /// The rate limit of a task changes to this. Those who wait in its line follow it at once.
    pub(super) fn change_rate(&mut self, task: &TaskName, rate: Option<Rate>, now: Timestamp) {
        let Some(pace) = self.paces.get_mut(task) else { return };
        match rate {
            Some(rate) => {
                pace.bucket = Bucket::new(rate);
                if let Head::Until(_) = pace.head {
                    pace.head = Head::None;
                }
                self.advance(task, now);
            }
            None => {
                let pace = self.paces.remove(task).expect("it was found above");
                self.waiting -= length(&pace.line);
                self.opened.extend(pace.line.into_iter().map(Opened::Pace));
            }
        }
    }

    /// The time of an [`Opened::Wake`] has come.
    pub(super) fn due(&mut self, task: &TaskName, now: Timestamp) {
        let Some(pace) = self.paces.get_mut(task) else { return };
        match pace.head {
            Head::Until(at) if at <= now => pace.head = Head::None,
            Head::Granted(delivery, at) if at <= now => return self.let_through(task, delivery),
            _ => return,
        }
        self.advance(task, now);
    }

    /// The cluster has answered: this delivery may start after so long, or it does not know.
    pub(super) fn permitted(&mut self, delivery: DeliveryId, task: &TaskName, wait: Option<Duration>, now: Timestamp) {
        let Some(pace) = self.paces.get_mut(task).filter(|pace| pace.head == Head::Asked(delivery)) else { return };
        match wait {
            Some(Duration::ZERO) => self.let_through(task, delivery),
            Some(wait) => {
                pace.head = Head::Granted(delivery, now + wait);
                self.opened.push_back(Opened::Wake(now + wait, task.clone()));
            }
            None => {
                pace.head = Head::Until(now + ASK_AGAIN);
                self.opened.push_back(Opened::Wake(now + ASK_AGAIN, task.clone()));
            }
        }
    }

    /// A delivery that was let through has started: the interval to the next begins.
    pub(super) fn started(&mut self, delivery: DeliveryId, task: &TaskName, now: Timestamp) {
        let Some(pace) = self.paces.get_mut(task).filter(|pace| pace.head == Head::Through(delivery)) else { return };
        if pace.scope == RateScope::Worker {
            pace.bucket.take(now);
        }
        pace.head = Head::None;
        self.advance(task, now);
    }

    /// A delivery that waits here, or was let through, goes away without a start.
    pub(super) fn leave(&mut self, delivery: DeliveryId, task: &TaskName, turn: Option<Turn>, now: Timestamp) {
        let turn_held = turn.is_some();
        if let Some(turn) = turn {
            self.return_turn(turn);
        }
        if let Some(pace) = self.paces.get_mut(task) {
            self.waiting -= take_out(&mut pace.line, delivery);
            match pace.head {
                Head::Through(head) | Head::Asked(head) | Head::Granted(head, _) if head == delivery => {
                    pace.head = Head::None;
                    return self.advance(task, now);
                }
                _ => {}
            }
        }
        if !turn_held {
            for (_, turns) in self.turns.iter_mut().filter(|(turn, _)| turn.task == *task) {
                self.waiting -= take_out(&mut turns.waiting, delivery);
            }
        }
    }

    /// Nobody waits any more; `running` are the turns that attempts have.
    pub(super) fn clear<'a>(&mut self, running: impl Iterator<Item = &'a Turn>) {
        self.turns.clear();
        for turn in running {
            self.turns.entry(turn.clone()).or_default().taken += 1;
        }
        for pace in self.paces.values_mut() {
            pace.line.clear();
            if !matches!(pace.head, Head::Until(_)) {
                pace.head = Head::None;
            }
        }
        self.waiting = 0;
        self.opened.clear();
    }

    /// Nobody waits, and nobody has a turn.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let lines_empty =
            self.paces.values().all(|pace| pace.line.is_empty() && !matches!(pace.head, Head::Through(_)));
        self.turns.is_empty() && lines_empty && self.waiting == 0 && self.opened.is_empty()
    }

    fn advance(&mut self, task: &TaskName, now: Timestamp) {
        let Some(pace) = self.paces.get_mut(task).filter(|pace| pace.head == Head::None) else { return };
        let Some(&first) = pace.line.front() else { return };
        match (pace.scope, pace.bucket.next(now)) {
            (RateScope::Cluster, _) => {
                pace.head = Head::Asked(first);
                self.opened.push_back(Opened::Ask(first, task.clone(), pace.bucket.rate()));
            }
            (RateScope::Worker, None) => self.let_through(task, first),
            (RateScope::Worker, Some(at)) => {
                pace.head = Head::Until(at);
                self.opened.push_back(Opened::Wake(at, task.clone()));
            }
        }
    }

    fn let_through(&mut self, task: &TaskName, delivery: DeliveryId) {
        let Some(pace) = self.paces.get_mut(task) else { return };
        pace.head = Head::Through(delivery);
        self.waiting -= take_out(&mut pace.line, delivery);
        self.opened.push_back(Opened::Pace(delivery));
    }
}

/// Takes a delivery out of a line, mostly its first, and says how many that were.
fn take_out(line: &mut VecDeque<DeliveryId>, delivery: DeliveryId) -> u32 {
    let Some(index) = line.iter().position(|waiting| *waiting == delivery) else { return 0 };
    line.remove(index);
    1
}

fn length(line: &VecDeque<DeliveryId>) -> u32 {
    u32::try_from(line.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    fn task() -> TaskName {
        TaskName::parse("tasks.x").expect("a name")
    }

    fn turn(key: &str) -> Turn {
        Turn { task: task(), key: key.into() }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_micros(ms * 1_000)
    }

    fn rate(ms: u64) -> Rate {
        Rate { interval: Duration::from_millis(ms) }
    }

    #[track_caller]
    fn opened(gates: &mut Gates, expected: &[&str]) {
        let mut seen = Vec::new();
        while let Some(opened) = gates.next_opened() {
            seen.push(match opened {
                Opened::Turn(delivery, turn) => format!("turn {} {}", delivery.0, turn.key),
                Opened::Pace(delivery) => format!("go {}", delivery.0),
                Opened::Ask(delivery, ..) => format!("ask {}", delivery.0),
                Opened::Wake(at, _) => format!("wake {}", at.as_micros() / 1_000),
            });
        }
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_key_has_as_many_turns_as_its_limit() {
        let mut gates = Gates::default();
        assert!(gates.take_turn(DeliveryId(1), &turn("a"), ONE));
        assert!(!gates.take_turn(DeliveryId(2), &turn("a"), ONE));
        assert!(!gates.take_turn(DeliveryId(3), &turn("a"), ONE));
        assert!(gates.take_turn(DeliveryId(4), &turn("b"), ONE));
        assert_eq!(gates.waiting(), 2);
        opened(&mut gates, &[]);
        gates.return_turn(turn("a"));
        opened(&mut gates, &["turn 2 a"]);
        gates.return_turn(turn("b"));
        opened(&mut gates, &[]);
        // One that waits goes away.
        gates.leave(DeliveryId(3), &task(), None, at(0));
        gates.return_turn(turn("a"));
        opened(&mut gates, &[]);
        assert_eq!((gates.waiting(), gates.turns.len()), (0, 0));
    }

    #[test]
    fn starts_of_a_task_are_an_interval_apart() {
        let mut gates = Gates::default();
        for delivery in 1..=3 {
            gates.line_up(DeliveryId(delivery), &task(), rate(100), RateScope::Worker, at(0));
        }
        opened(&mut gates, &["go 1"]);
        assert_eq!(gates.waiting(), 2);
        // It had to wait for a slot.
        gates.started(DeliveryId(1), &task(), at(30));
        opened(&mut gates, &["wake 130"]);
        gates.due(&task(), at(129));
        opened(&mut gates, &[]);
        gates.due(&task(), at(130));
        opened(&mut gates, &["go 2"]);
        // That one expired instead: the next need not wait for it.
        gates.leave(DeliveryId(2), &task(), None, at(131));
        opened(&mut gates, &["go 3"]);
        gates.started(DeliveryId(3), &task(), at(140));
        opened(&mut gates, &[]);
        assert_eq!(gates.waiting(), 0);
    }

    #[test]
    fn a_changed_rate_holds_for_those_who_wait() {
        let mut gates = Gates::default();
        for delivery in 1..=4 {
            gates.line_up(DeliveryId(delivery), &task(), rate(1_000), RateScope::Worker, at(0));
        }
        gates.started(DeliveryId(1), &task(), at(0));
        opened(&mut gates, &["go 1", "wake 1000"]);
        gates.change_rate(&task(), Some(rate(10)), at(5));
        gates.started(DeliveryId(2), &task(), at(5));
        opened(&mut gates, &["go 2", "wake 15"]);
        gates.change_rate(&task(), None, at(6));
        opened(&mut gates, &["go 3", "go 4"]);
        assert_eq!(gates.waiting(), 0);
    }

    #[test]
    fn a_cluster_is_asked_for_one_start_at_a_time() {
        let mut gates = Gates::default();
        for delivery in 1..=3 {
            gates.line_up(DeliveryId(delivery), &task(), rate(100), RateScope::Cluster, at(0));
        }
        opened(&mut gates, &["ask 1"]);
        gates.permitted(DeliveryId(1), &task(), Some(Duration::ZERO), at(1));
        gates.started(DeliveryId(1), &task(), at(1));
        opened(&mut gates, &["go 1", "ask 2"]);
        gates.permitted(DeliveryId(2), &task(), Some(Duration::from_millis(250)), at(2));
        opened(&mut gates, &["wake 252"]);
        gates.due(&task(), at(252));
        opened(&mut gates, &["go 2"]);
        gates.started(DeliveryId(2), &task(), at(253));
        opened(&mut gates, &["ask 3"]);
        // Whoever keeps the count does not answer.
        gates.permitted(DeliveryId(3), &task(), None, at(254));
        opened(&mut gates, &["wake 1254"]);
        gates.due(&task(), at(1_254));
        opened(&mut gates, &["ask 3"]);
    }

    #[test]
    fn only_the_turns_of_running_attempts_outlive_a_lost_connection() {
        let mut gates = Gates::default();
        assert!(gates.take_turn(DeliveryId(1), &turn("a"), ONE));
        assert!(gates.take_turn(DeliveryId(2), &turn("b"), ONE));
        assert!(!gates.take_turn(DeliveryId(3), &turn("a"), ONE));
        gates.line_up(DeliveryId(4), &task(), rate(100), RateScope::Cluster, at(0));
        gates.clear([turn("a")].iter());
        opened(&mut gates, &[]);
        assert_eq!(gates.waiting(), 0);
        assert!(!gates.take_turn(DeliveryId(5), &turn("a"), ONE));
        assert!(gates.take_turn(DeliveryId(6), &turn("b"), ONE));
        // An answer to a question of before.
        gates.permitted(DeliveryId(4), &task(), Some(Duration::ZERO), at(1));
        opened(&mut gates, &[]);
    }
}
