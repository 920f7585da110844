//! The writer's side of a consumer: what it holds and how much more it wants.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use taskhost_core::QueueName;
use tracing::warn;

use super::writer::NewConsumer;
use crate::sqlalchemy::{Claimed, End, Inbox};

/// Most rows that one claim takes, and that wait in an inbox if there is no prefetch.
const CLAIM_MAX: usize = 256;

pub(super) struct Claimant {
    pub(super) connection: u64,
    pub(super) queue_id: i64,
    pub(super) owner: Arc<str>,
    pub(super) prefetch: u32,
    /// Claimed and not settled.
    pub(super) held: HashSet<i64>,
    /// Held, not seen by anybody, and on the way back.
    pub(super) returning: Vec<i64>,
    pub(super) next_due_ms: Option<i64>,
    queue: QueueName,
    inbox: Weak<Inbox>,
    ended: bool,
}

impl Claimant {
    pub(super) fn new(new: &NewConsumer, queue_id: i64) -> Self {
        Self {
            connection: new.connection,
            queue_id,
            owner: Arc::clone(&new.owner),
            prefetch: new.prefetch,
            held: HashSet::new(),
            returning: Vec::new(),
            next_due_ms: None,
            queue: new.queue.clone(),
            inbox: Weak::clone(&new.inbox),
            ended: false,
        }
    }

    /// How many rows to claim now.
    pub(super) fn credit(&self) -> usize {
        if self.ended {
            return 0;
        }
        let Some(inbox) = self.inbox.upgrade() else { return 0 };
        match self.prefetch as usize {
            0 => CLAIM_MAX.saturating_sub(inbox.len()),
            prefetch => prefetch.saturating_sub(self.held.len()).min(CLAIM_MAX),
        }
    }

    pub(super) fn is_hungry(&self) -> bool {
        self.credit() > 0
    }

    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Its consumer was dropped.
    pub(super) fn is_gone(&self) -> bool {
        self.inbox.strong_count() == 0
    }

    pub(super) fn receive(&mut self, rows: Vec<Claimed>) {
        self.held.extend(rows.iter().map(|row| row.id));
        if let Some(inbox) = self.inbox.upgrade() {
            inbox.put(rows);
        }
    }

    pub(super) fn end(&mut self, end: End) {
        self.ended = true;
        if let Some(inbox) = self.inbox.upgrade() {
            self.returning.extend(inbox.end(end).into_iter().map(|row| row.id));
        }
    }

    /// What was on its way back has arrived.
    pub(super) fn returned(&mut self) {
        for row in self.returning.drain(..) {
            self.held.remove(&row);
        }
    }

    /// Compares what it holds with what the database says that it holds.
    pub(super) fn compare(&self, renewed: usize) {
        if let Some(missing) = self.held.len().checked_sub(renewed).filter(|missing| *missing > 0) {
            warn!(
                queue.name = %self.queue,
                "the leases of {missing} messages of queue `{}` have expired: they may run twice", self.queue
            );
        }
    }
}
