//! What stands between the polls that take messages from a queue and the consumer who wants them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taskhost_core::QueueName;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::batch::BATCH_MAX;
use crate::port::{Delivery, Token};

/// Most polls of one consumer that are under way: with one hardly more than ten messages come in a round trip.
const POLLS_MAX: usize = 8;
/// Most messages that wait here if there is no prefetch: so many bodies are in memory at once.
const READY_MAX: usize = 128;

/// The taking side of one consumer.
pub(super) struct Intake {
    pub(super) queue: QueueName,
    state: Mutex<State>,
    arrived: Notify,
    /// For the one task that takes.
    changed: Notify,
    /// For those who wait until what was not handed out is back.
    returned: Notify,
}

struct State {
    ready: VecDeque<Delivery>,
    /// Taken and not settled, those that are ready included.
    held: HashMap<u64, Held>,
    prefetch: usize,
    /// How many messages the polls under way may bring.
    asked: usize,
    polls: usize,
    /// How many polls may be under way: more while all that come back are full.
    polls_max: usize,
    /// No poll begins before.
    pause_until: Option<Instant>,
    phase: Phase,
}

/// A message that is ours for some time.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) handle: String,
    /// When SQS gave it to us.
    pub(super) since: Instant,
    /// Until when it is ours.
    pub(super) until: Instant,
    /// Of a FIFO queue.
    pub(super) group: Option<String>,
    /// Kept only where a refused message has a place to go.
    pub(super) body: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Taking,
    Cancelled {
        returned: bool,
    },
    /// The consumer was dropped, or the connection is being closed.
    Ending,
    Lost(String),
}

/// Why no more messages come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Cancelled,
    Lost(String),
}

/// What the taking task has to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// Begin a poll for so many messages.
    Poll(usize),
    /// Wait for a poll, for a change, and at the longest until then.
    Wait(Option<Instant>),
    /// Give these back, then call [`Intake::returned`].
    Return(Vec<Held>),
    /// Give these back, and end.
    End(Vec<Held>),
    Stop,
}

impl Intake {
    pub(super) fn new(queue: QueueName, prefetch: u32) -> Self {
        let state = State {
            ready: VecDeque::new(),
            held: HashMap::new(),
            prefetch: prefetch as usize,
            asked: 0,
            polls: 0,
            polls_max: 1,
            pause_until: None,
            phase: Phase::Taking,
        };
        Self {
            queue,
            state: Mutex::new(state),
            arrived: Notify::new(),
            changed: Notify::new(),
            returned: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides what the taking task does next.
    pub(super) fn step(&self) -> Step {
        let mut state = self.state();
        match &state.phase {
            Phase::Lost(_) => Step::Stop,
            Phase::Ending => {
                state.ready.clear();
                Step::End(state.held.drain().map(|(_, held)| held).collect())
            }
            Phase::Cancelled { returned: true } => Step::Wait(None),
            Phase::Cancelled { returned: false } => Step::Return(state.take_unseen()),
            Phase::Taking => {
                let wanted = state.credit().min(BATCH_MAX);
                if wanted == 0 || state.polls >= state.polls_max {
                    return Step::Wait(None);
                }
                if let Some(until) = state.pause_until.filter(|until| *until > Instant::now()) {
                    return Step::Wait(Some(until));
                }
                state.polls += 1;
                state.asked += wanted;
                Step::Poll(wanted)
            }
        }
    }

    /// A poll for so many messages is over, and has brought these. After one that brought none it is waited.
    pub(super) fn receive(&self, asked: usize, taken: Vec<(u64, Held, Delivery)>, pause: Duration) {
        let mut state = self.state();
        state.polls -= 1;
        state.asked -= asked;
        state.polls_max = match taken.len() {
            0 => 1,
            count if count == asked => POLLS_MAX.min(2 * state.polls_max),
            _ => state.polls_max,
        };
        state.pause_until = (taken.is_empty() && !pause.is_zero()).then(|| Instant::now() + pause);
        for (number, held, delivery) in taken {
            state.held.insert(number, held);
            state.ready.push_back(delivery);
        }
        if let Phase::Cancelled { returned } = &mut state.phase {
            *returned = false;
        }
        drop(state);
        self.arrived.notify_waiters();
    }

    /// Waits until [`Intake::step`] may say something else.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until messages are there and takes all of them.
    pub(super) async fn take(&self) -> Result<Vec<Delivery>, End> {
        loop {
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            let taken = {
                let mut state = self.state();
                if let Some(end) = state.end() {
                    return Err(end);
                }
                std::mem::take(&mut state.ready)
            };
            if !taken.is_empty() {
                // There is room again if there is no prefetch.
                self.changed.notify_one();
                return Ok(taken.into());
            }
            arrived.await;
        }
    }

    pub(super) fn lost(&self) -> Option<String> {
        match self.state().end() {
            Some(End::Lost(reason)) => Some(reason),
            _ => None,
        }
    }

    /// Those of these that are ours.
    pub(super) fn held(&self, numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, Held)> {
        let state = self.state();
        numbers.into_iter().filter_map(|number| Some((number, state.held.get(&number)?.clone()))).collect()
    }

    /// Those that are ours for no longer than until then.
    pub(super) fn held_until(&self, then: Instant) -> Vec<(u64, Held)> {
        let state = self.state();
        let soon = state.held.iter().filter(|(_, held)| held.until <= then);
        soon.map(|(number, held)| (*number, held.clone())).collect()
    }

    /// Each of these is ours until then.
    pub(super) fn extend(&self, renewed: impl IntoIterator<Item = (u64, Instant)>) {
        let mut state = self.state();
        for (number, until) in renewed {
            if let Some(held) = state.held.get_mut(&number) {
                held.until = until;
            }
        }
    }

    /// These are not ours any more. Returns those that were.
    pub(super) fn release(&self, numbers: impl IntoIterator<Item = u64>) -> usize {
        let mut state = self.state();
        let released = numbers.into_iter().filter(|number| state.held.remove(number).is_some()).count();
        drop(state);
        self.changed.notify_one();
        released
    }

    pub(super) fn set_prefetch(&self, prefetch: u32) {
        self.state().prefetch = prefetch as usize;
        self.changed.notify_one();
    }

    pub(super) fn cancel(&self) {
        let mut state = self.state();
        if state.phase == Phase::Taking {
            state.phase = Phase::Cancelled { returned: false };
        }
        drop(state);
        self.arrived.notify_waiters();
        self.changed.notify_one();
    }

    /// Waits until what was not handed out before a cancel is back, or the connection is lost.
    pub(super) async fn until_returned(&self) {
        loop {
            let mut returned = std::pin::pin!(self.returned.notified());
            returned.as_mut().enable();
            {
                let state = self.state();
                if !matches!(state.phase, Phase::Taking | Phase::Cancelled { returned: false }) {
                    return;
                }
            }
            returned.await;
        }
    }

    /// What [`Step::Return`] named is back.
    pub(super) fn returned(&self) {
        let mut state = self.state();
        if let Phase::Cancelled { returned } = &mut state.phase {
            *returned = true;
        }
        drop(state);
        self.returned.notify_waiters();
    }

    /// Everything goes back, and the taking task ends.
    pub(super) fn end(&self) {
        let mut state = self.state();
        if !matches!(state.phase, Phase::Lost(_)) {
            state.phase = Phase::Ending;
        }
        drop(state);
        self.wake_all();
    }

    /// Nothing can be done any more. The first reason stays.
    pub(super) fn lose(&self, reason: &str) {
        let mut state = self.state();
        if !matches!(state.phase, Phase::Lost(_)) {
            state.phase = Phase::Lost(reason.to_owned());
        }
        state.ready.clear();
        drop(state);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.arrived.notify_waiters();
        self.returned.notify_waiters();
        self.changed.notify_one();
    }
}

impl State {
    /// How many more messages may be asked for.
    fn credit(&self) -> usize {
        match self.prefetch {
            0 => READY_MAX.saturating_sub(self.ready.len() + self.asked),
            prefetch => prefetch.saturating_sub(self.held.len() + self.asked),
        }
    }

    fn end(&self) -> Option<End> {
        match &self.phase {
            Phase::Taking => None,
            Phase::Cancelled { .. } => Some(End::Cancelled),
            Phase::Ending => Some(End::Lost("it was closed".to_owned())),
            Phase::Lost(reason) => Some(End::Lost(reason.clone())),
        }
    }

    /// Those that nobody has seen, which are held no more.
    fn take_unseen(&mut self) -> Vec<Held> {
        let numbers: Vec<u64> = self.ready.drain(..).filter_map(|delivery| number(delivery.receipt.token())).collect();
        numbers.iter().filter_map(|number| self.held.remove(number)).collect()
    }
}

/// What we call a message of ours.
pub(super) fn number(token: &Token) -> Option<u64> {
    match token {
        Token::Number(number) => Some(*number),
        Token::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use taskhost_core::{DeliveryInfo, Message};

    use super::*;
    use crate::port::Receipt;

    fn taken(numbers: std::ops::Range<u64>) -> Vec<(u64, Held, Delivery)> {
        let each = |number| {
            let now = Instant::now();
            let held = Held { handle: format!("h{number}"), since: now, until: now, group: None, body: None };
            let queue = QueueName::parse("q").expect("a name");
            let info = DeliveryInfo { queue, exchange: String::new(), routing_key: String::new(), redelivered: false };
            let receipt = Receipt::new(Token::Number(number));
            (number, held, Delivery { message: Message::default(), info, receipt })
        };
        numbers.map(each).collect()
    }

    fn intake(prefetch: u32) -> Intake {
        Intake::new(QueueName::parse("q").expect("a name"), prefetch)
    }

    #[track_caller]
    fn expect_poll(intake: &Intake, expected: usize) {
        let step = intake.step();
        assert!(matches!(step, Step::Poll(wanted) if wanted == expected), "{step:?}");
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
        assert_eq!(intake.take().await.unwrap().len(), 15);
        expect_poll(&intake, 10);
        assert_eq!(intake.release([0, 1, 99]), 2);
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
        intake.cancel();
        assert!(matches!(intake.step(), Step::Return(held) if held.is_empty()));
        intake.returned();
        expect_wait(&intake);
        intake.receive(10, taken(0..2), Duration::ZERO);
        assert!(matches!(intake.step(), Step::Return(held) if held.len() == 2));
        assert_eq!(intake.take().await.unwrap_err(), End::Cancelled);
    }
}
