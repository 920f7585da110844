//! Where rows are put that were claimed for a consumer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Claimed;

/// Between whoever claims and one consumer. Its size is bounded by the prefetch, or by what one claim
/// takes.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    rows: VecDeque<Claimed>,
    end: Option<End>,
}

/// Why no more rows come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Cancelled,
    Lost(String),
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds rows. Only whoever claims them does, and knows whether the end has come.
    pub(crate) fn put(&self, rows: Vec<Claimed>) {
        self.state().rows.extend(rows);
        self.arrived.notify_waiters();
    }

    pub(crate) fn len(&self) -> usize {
        self.state().rows.len()
    }

    /// Nothing comes any more. Returns what lies here. The first reason to end stays, but everything can
    /// be lost afterwards.
    pub(crate) fn end(&self, end: End) -> Vec<Claimed> {
        let mut state = self.state();
        if state.end.is_none() || end != End::Cancelled {
            state.end = Some(end);
        }
        let rows = std::mem::take(&mut state.rows).into();
        drop(state);
        self.arrived.notify_waiters();
        rows
    }

    pub(crate) fn ended(&self) -> Option<End> {
        self.state().end.clone()
    }

    /// Waits until rows are there and takes all of them.
    pub(crate) async fn take(&self) -> Result<Vec<Claimed>, End> {
        loop {
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            {
                let mut state = self.state();
                if !state.rows.is_empty() {
                    return Ok(std::mem::take(&mut state.rows).into());
                }
                if let Some(end) = &state.end {
                    return Err(end.clone());
                }
            }
            arrived.await;
        }
    }
}
