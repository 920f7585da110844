//! Where the keeper puts what it has taken for a consumer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A message that was taken.
pub(super) struct Taken {
    /// What its receipt says.
    pub(super) token: u64,
    pub(super) text: Vec<u8>,
}

/// Between the keeper's thread and one consumer. Its size is bounded by the prefetch, or by what one look
/// takes.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Taken>,
    end: Option<End>,
}

/// Why nothing more comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Cancelled,
    Lost(String),
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds messages. Only the keeper does, which knows whether the end has come.
    pub(super) fn put(&self, taken: Vec<Taken>) {
        self.state().waiting.extend(taken);
        self.arrived.notify_waiters();
    }

    pub(super) fn len(&self) -> usize {
        self.state().waiting.len()
    }

    /// Nothing comes any more. Returns the tokens of what lies here. The first reason to end stays, but
    /// everything can be lost afterwards.
    pub(super) fn end(&self, end: End) -> Vec<u64> {
        let mut state = self.state();
        if state.end.is_none() || end != End::Cancelled {
            state.end = Some(end);
        }
        let tokens = state.waiting.drain(..).map(|taken| taken.token).collect();
        drop(state);
        self.arrived.notify_waiters();
        tokens
    }

    pub(super) fn lost(&self) -> Option<String> {
        match &self.state().end {
            Some(End::Lost(reason)) => Some(reason.clone()),
            Some(End::Cancelled) | None => None,
        }
    }

    /// Waits until something is there and takes all of it.
    pub(super) async fn take(&self) -> Result<Vec<Taken>, End> {
        loop {
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            {
                let mut state = self.state();
                if !state.waiting.is_empty() {
                    return Ok(std::mem::take(&mut state.waiting).into());
                }
                if let Some(end) = &state.end {
                    return Err(end.clone());
                }
            }
            arrived.await;
        }
    }
}
