//! Where the messages of one consumer come from, and when it is worth asking for more.

use taskhost_core::QueueName;

use super::layout::{Layout, entry_tail};
use crate::port::Delivery;
use crate::shelf::Shelf;
use crate::stock::{READY_MAX, Step, Stock};

/// Most messages that one step takes.
const TAKE_MAX: usize = READY_MAX;
/// Most messages of a broadcast that wait here; older ones are dropped, as a slow subscriber's are.
const BROADCASTS_MAX: usize = 1000;

/// The taking side of one consumer.
pub(super) struct Intake {
    pub(super) queue: QueueName,
    /// The keys of the queue's lists, in the order in which they are served.
    pub(super) lists: Vec<String>,
    /// What follows the envelope of its messages in `unacked`.
    pub(super) tail: String,
    /// The channels of a fanout queue: it has no lists.
    pub(super) channels: Option<Vec<String>>,
    /// Of a message that is held its number is all that there is to know.
    pub(super) shelf: Shelf<u64, Pace>,
}

/// When to look into the lists.
pub(super) struct Pace {
    /// The lists were empty when we looked, and nobody has said anything since.
    known_empty: bool,
    /// Somebody said something since the last step began.
    woken: bool,
}

impl Intake {
    pub(super) fn new(queue: QueueName, layout: &Layout, prefetch: u32, channels: Option<Vec<String>>) -> Self {
        let pace = Pace { known_empty: channels.is_some(), woken: false };
        Self {
            lists: layout.lists(queue.as_str()),
            tail: entry_tail(&queue),
            queue,
            channels,
            shelf: Shelf::new(prefetch, pace),
        }
    }

    /// Decides what the taking task does next.
    pub(super) fn step(&self) -> Step<u64> {
        self.shelf.step(|state| state.pace.next(&state.stock))
    }

    /// Adds what a step took. `exhausted` if the lists were seen empty afterwards.
    pub(super) fn receive(&self, taken: impl IntoIterator<Item = (u64, Option<Delivery>)>, exhausted: bool) {
        self.shelf.fill(|state| {
            for (number, delivery) in taken {
                state.stock.add(number, number, delivery);
            }
            state.pace.known_empty = exhausted && !state.pace.woken;
        });
    }

    /// Adds a message of a channel, which nobody settles. False if an older one had to go.
    pub(super) fn receive_broadcast(&self, delivery: Delivery) -> bool {
        self.shelf.fill(|state| state.stock.add_unheld(delivery, BROADCASTS_MAX))
    }

    /// Something may be in the lists.
    pub(super) fn wake(&self) {
        self.shelf.change(|state| state.pace = Pace { known_empty: self.channels.is_some(), woken: true });
    }
}

impl Pace {
    fn next(&mut self, stock: &Stock<u64>) -> Step<u64> {
        match stock.room(0).min(TAKE_MAX) {
            wanted if wanted > 0 && !self.known_empty => {
                self.woken = false;
                Step::Take(wanted)
            }
            _ => Step::Wait(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intake(channels: Option<Vec<String>>) -> Intake {
        let queue = QueueName::parse("q").expect("a name");
        Intake::new(queue, &Layout::new(&super::super::RedisOptions::default(), 0), 1000, channels)
    }

    #[test]
    fn empty_lists_are_not_asked_again_until_somebody_says_something() {
        let intake = intake(None);
        assert_eq!(intake.step(), Step::Take(TAKE_MAX));
        intake.receive([], true);
        assert_eq!(intake.step(), Step::Wait(None));
        intake.wake();
        assert_eq!(intake.step(), Step::Take(TAKE_MAX));
        // While it looked something came.
        intake.wake();
        intake.receive([], true);
        assert_eq!(intake.step(), Step::Take(TAKE_MAX));
        // Not all was taken.
        intake.receive([(1, None)], false);
        assert_eq!(intake.step(), Step::Take(TAKE_MAX));
    }

    #[test]
    fn a_fanout_queue_has_no_lists_to_ask() {
        let intake = intake(Some(vec!["/0.all".to_owned()]));
        assert_eq!(intake.step(), Step::Wait(None));
        intake.wake();
        assert_eq!(intake.step(), Step::Wait(None));
    }
}
