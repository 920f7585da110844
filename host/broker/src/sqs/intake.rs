//! How many polls take messages of a queue for one consumer, and what is known of those that are ours.

use std::time::Duration;

use taskhost_core::QueueName;
use tokio::time::Instant;

use super::batch::BATCH_MAX;
use crate::port::Delivery;
use crate::shelf::Shelf;
use crate::stock::{Step, Stock};

/// Most polls of one consumer that are under way: with one hardly more than ten messages come in a round trip.
const POLLS_MAX: usize = 8;

/// The taking side of one consumer.
pub(super) struct Intake {
    pub(super) queue: QueueName,
    pub(super) shelf: Shelf<Held, Pace>,
}

/// When the next poll begins.
pub(super) struct Pace {
    /// How many messages the polls under way may bring.
    asked: usize,
    polls: usize,
    /// How many polls may be under way: more while all that come back are full.
    polls_max: usize,
    /// No poll begins before.
    pause_until: Option<Instant>,
}

/// A message that is ours for some time.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// What we call it.
    pub(super) number: u64,
    pub(super) handle: String,
    /// When SQS gave it to us.
    pub(super) since: Instant,
    /// Until when it is ours.
    pub(super) until: Instant,
    /// Of a FIFO queue.
    pub(super) group: Option<String>,
    /// Kept only where a refused message has a place to go.
    pub(super) body: Option<String>,
    /// If it is refused, it stays in its queue and is hidden for so long.
    pub(super) again: Option<Duration>,
}

impl Intake {
    pub(super) fn new(queue: QueueName, prefetch: u32) -> Self {
        let pace = Pace { asked: 0, polls: 0, polls_max: 1, pause_until: None };
        Self { queue, shelf: Shelf::new(prefetch, pace) }
    }

    /// Decides what the taking task does next: to take is to begin a poll.
    pub(super) fn step(&self) -> Step<Held> {
        self.shelf.step(|state| state.pace.next(&state.stock))
    }

    /// A poll for so many messages is over, and has brought these. After one that brought none it is waited.
    pub(super) fn receive(&self, asked: usize, taken: Vec<(Held, Delivery)>, pause: Duration) {
        self.shelf.fill(|state| {
            state.pace.note(asked, taken.len(), pause);
            for (held, delivery) in taken {
                state.stock.add(held.number, held, Some(delivery));
            }
        });
    }

    /// Those that are ours for no longer than until then.
    pub(super) fn held_until(&self, then: Instant) -> Vec<Held> {
        self.shelf.held_where(|held| held.until <= then)
    }

    /// Each of these is ours until then.
    pub(super) fn extend(&self, renewed: impl IntoIterator<Item = (u64, Instant)>) {
        self.shelf.change(|state| {
            for (number, until) in renewed {
                if let Some(held) = state.stock.get_mut(number) {
                    held.until = until;
                }
            }
        });
    }
}

impl Pace {
    fn next(&mut self, stock: &Stock<Held>) -> Step<Held> {
        let wanted = stock.room(self.asked).min(BATCH_MAX);
        if wanted == 0 || self.polls >= self.polls_max {
            return Step::Wait(None);
        }
        if let Some(until) = self.pause_until.filter(|until| *until > Instant::now()) {
            return Step::Wait(Some(until));
        }
        self.polls += 1;
        self.asked += wanted;
        Step::Take(wanted)
    }

    fn note(&mut self, asked: usize, count: usize, pause: Duration) {
        self.polls -= 1;
        self.asked -= asked;
        self.polls_max = match count {
            0 => 1,
            count if count == asked => POLLS_MAX.min(2 * self.polls_max),
            _ => self.polls_max,
        };
        self.pause_until = (count == 0 && !pause.is_zero()).then(|| Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use taskhost_core::{DeliveryInfo, Message};

    use super::*;
    use crate::port::{Receipt, Token};

    fn taken(numbers: std::ops::Range<u64>) -> Vec<(Held, Delivery)> {
        let each = |number| {
            let now = Instant::now();
            let held = Held {
                number,
                handle: format!("h{number}"),
                since: now,
                until: now,
                group: None,
                body: None,
                again: None,
            };
            let queue = QueueName::parse("q").expect("a name");
            let info = DeliveryInfo { queue, exchange: String::new(), routing_key: String::new(), redelivered: false };
            let receipt = Receipt::new(Token::Number(number));
            (held, Delivery { message: Message::default(), info, receipt })
        };
        numbers.map(each).collect()
    }

    fn intake(prefetch: u32) -> Intake {
        Intake::new(QueueName::parse("q").expect("a name"), prefetch)
    }

    #[track_caller]
    fn expect_poll(intake: &Intake, expected: usize) {
        let step = intake.step();
        assert!(matches!(step, Step::Take(wanted) if wanted == expected), "{step:?}");
    }

    #[track_caller]
    fn expect_wait(intake: &Intake) {
        let step = intake.step();
        assert!(matches!(step, Step::Wait(_)), "{step:?}");
    }

    #[tokio::test]
    async fn polls_ask_for_no_more_than_the_prefetch_together() {
        let intake = intake(25);
        expect_poll(&intake, 10);
        expect_wait(&intake);
        // It came back full: two at a time, and no more than is left.
        intake.receive(10, taken(0..10), Duration::ZERO);
        expect_poll(&intake, 10);
        expect_poll(&intake, 5);
        expect_wait(&intake);
        intake.receive(10, Vec::new(), Duration::ZERO);
        // One of two is still under way, and there is room for one.
        expect_wait(&intake);
        intake.receive(5, taken(10..15), Duration::ZERO);
        assert_eq!(intake.shelf.take().await.unwrap().map(|taken| taken.len()), Some(15));
        expect_poll(&intake, 10);
        assert_eq!(intake.shelf.release([0, 1, 99]), 2);
    }

    #[tokio::test]
    async fn an_empty_answer_may_be_followed_by_a_pause() {
        let intake = intake(1);
        expect_poll(&intake, 1);
        intake.receive(1, Vec::new(), Duration::from_millis(500));
        let Step::Wait(Some(until)) = intake.step() else { panic!("it does not wait") };
        tokio::time::sleep_until(until).await;
        expect_poll(&intake, 1);
    }

    #[tokio::test]
    async fn what_a_poll_brings_after_a_cancel_goes_back() {
        let intake = intake(0);
        expect_poll(&intake, 10);
        intake.shelf.change(|state| state.stock.cancel());
        assert!(matches!(intake.step(), Step::Return(held) if held.is_empty()));
        intake.shelf.returned();
        expect_wait(&intake);
        intake.receive(10, taken(0..2), Duration::ZERO);
        assert!(matches!(intake.step(), Step::Return(held) if held.len() == 2));
        assert!(intake.shelf.take().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_lease_that_was_renewed_is_not_over_soon() {
        let intake = intake(0);
        let now = Instant::now();
        expect_poll(&intake, 10);
        intake.receive(10, taken(0..2), Duration::ZERO);
        let later = now + Duration::from_secs(60);
        intake.extend([(1, later + Duration::from_secs(60)), (9, later)]);
        let soon: Vec<u64> = intake.held_until(later).iter().map(|held| held.number).collect();
        assert_eq!(soon, [0]);
    }
}
