//! What all parts of one connection share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::failure::Failure;
use super::intake::Intake;
use super::queues::Queues;

/// A connection, which is nothing at SQS: what makes it one is that all of it is lost together.
pub(super) struct Link {
    pub(super) queues: Queues,
    last_number: AtomicU64,
    state: Mutex<State>,
    closed: AtomicBool,
}

#[derive(Default)]
struct State {
    intakes: Vec<Weak<Intake>>,
    lost: Option<String>,
}

impl Link {
    pub(super) fn new(queues: Queues) -> Self {
        Self { queues, last_number: AtomicU64::new(0), state: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// A name for a message that was taken.
    pub(super) fn number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed)
    }

    /// How long SQS may be silent until we believe that it is lost: what we hold is still ours then.
    pub(super) fn patience(&self) -> Duration {
        self.queues.options().lease() / 2
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if it can still be used.
    pub(super) fn add(&self, intake: &Arc<Intake>) -> bool {
        let mut state = self.state();
        state.intakes.retain(|intake| intake.strong_count() > 0);
        state.intakes.push(Arc::downgrade(intake));
        state.lost.is_none() && !self.closed.load(Ordering::SeqCst)
    }

    pub(super) fn intakes(&self) -> Vec<Arc<Intake>> {
        self.state().intakes.iter().filter_map(Weak::upgrade).collect()
    }

    /// Ends all consumers, whose receipts are void. The first reason stays.
    pub(super) fn lose(&self, reason: &str) {
        self.state().lost.get_or_insert_with(|| reason.to_owned());
        for intake in self.intakes() {
            intake.shelf.lose(reason);
        }
    }

    /// Nothing new begins. True for whoever closes first.
    pub(super) fn begin_close(&self) -> bool {
        !self.closed.swap(true, Ordering::SeqCst)
    }

    pub(super) fn usable(&self) -> Result<(), Failure> {
        match &self.state().lost {
            Some(reason) => Err(Failure::lost(reason.clone())),
            None if self.closed.load(Ordering::SeqCst) => Err(Failure::lost("it was closed")),
            None => Ok(()),
        }
    }
}
