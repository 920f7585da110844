//! What stands between the task that takes messages from a queue and the consumer who wants them.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use taskhost_core::QueueName;
use tokio::sync::Notify;

use super::layout::{Layout, entry_tail};
use crate::port::Delivery;

/// Most messages that one step takes, and that wait here if there is no prefetch: so many bodies are in
/// memory at once.
const TAKE_MAX: usize = 128;
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
    held: HashSet<u64>,
    prefetch: u32,
    phase: Phase,
    /// The lists were empty when we looked, and nobody has said anything since.
    known_empty: bool,
    /// Somebody said something since the last step began.
    woken: bool,
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
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Take(usize),
    Wait,
    /// Give these back as if nobody had seen them, then call [`Intake::returned`].
    Return(Vec<u64>),
    /// Give these back, and end.
    End {
        seen: Vec<u64>,
        unseen: Vec<u64>,
    },
    Stop,
}

impl Intake {
    pub(super) fn new(queue: QueueName, layout: &Layout, prefetch: u32, channels: Option<Vec<String>>) -> Self {
        let state = State {
            ready: VecDeque::new(),
            held: HashSet::new(),
            prefetch,
            phase: Phase::Taking,
            known_empty: channels.is_some(),
            woken: false,
        };
        Self {
            lists: layout.lists(queue.as_str()),
            tail: entry_tail(&queue),
            queue,
            channels,
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
                let unseen = state.drain_ready();
                Step::End { seen: state.held.drain().collect(), unseen }
            }
            Phase::Cancelled { returned: true } => Step::Wait,
            Phase::Cancelled { returned: false } => Step::Return(state.drain_ready()),
            Phase::Taking => match state.credit() {
                wanted if wanted > 0 && !state.known_empty => {
                    state.woken = false;
                    Step::Take(wanted)
                }
                _ => Step::Wait,
            },
        }
    }

    /// Adds what a step took. `exhausted` if the lists were seen empty afterwards.
    pub(super) fn receive(&self, taken: impl IntoIterator<Item = (u64, Option<Delivery>)>, exhausted: bool) {
        let mut state = self.state();
        for (number, delivery) in taken {
            state.held.insert(number);
            state.ready.extend(delivery);
        }
        state.known_empty = exhausted && !state.woken;
        if let Phase::Cancelled { returned } = &mut state.phase {
            *returned = false;
        }
        drop(state);
        self.arrived.notify_waiters();
    }

    /// Adds a message of a channel, which nobody settles. False if an older one had to go.
    pub(super) fn receive_broadcast(&self, delivery: Delivery) -> bool {
        let mut state = self.state();
        if state.phase != Phase::Taking {
            return true;
        }
        let fits = state.ready.len() < BROADCASTS_MAX;
        if !fits {
            state.ready.pop_front();
        }
        state.ready.push_back(delivery);
        drop(state);
        self.arrived.notify_waiters();
        fits
    }

    /// Something may be in the lists.
    pub(super) fn wake(&self) {
        let mut state = self.state();
        state.woken = true;
        state.known_empty = self.channels.is_some();
        drop(state);
        self.changed.notify_one();
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

    /// Those of these that are unsettled here.
    pub(super) fn held(&self, numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let state = self.state();
        numbers.into_iter().filter(|number| state.held.contains(number)).collect()
    }

    pub(super) fn all_held(&self) -> Vec<u64> {
        self.state().held.iter().copied().collect()
    }

    /// These are not ours any more.
    pub(super) fn release(&self, numbers: &[u64]) {
        let mut state = self.state();
        for number in numbers {
            state.held.remove(number);
        }
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn set_prefetch(&self, prefetch: u32) {
        self.state().prefetch = prefetch;
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
    /// How many messages to take now.
    fn credit(&self) -> usize {
        match self.prefetch as usize {
            0 => TAKE_MAX.saturating_sub(self.ready.len()),
            prefetch => prefetch.saturating_sub(self.held.len()).min(TAKE_MAX),
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

    /// The numbers of those that nobody has seen, which are held no more.
    fn drain_ready(&mut self) -> Vec<u64> {
        let numbers: Vec<u64> = self.ready.drain(..).filter_map(|delivery| number(&delivery)).collect();
        for number in &numbers {
            self.held.remove(number);
        }
        numbers
    }
}

/// The number of a message that we took.
fn number(delivery: &Delivery) -> Option<u64> {
    match delivery.receipt.token() {
        crate::port::Token::Number(number) => Some(*number),
        crate::port::Token::Text(_) => None,
    }
}
