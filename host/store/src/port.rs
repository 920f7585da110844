//! The port: what the host asks of any result store, in plain data.
//!
//! Deliberately absent: retrying (the worker decides) and the meaning of states. Writes come in batches,
//! since a round trip for each result is what makes a worker slow.

use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::{ChordPart, ChordStyle, Json, Progress, RedactedUrl, ResultRecord, StoredResult, TaskId};

/// The cause of an error of an adapter.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where results are kept.
#[async_trait]
pub trait ResultStore: Send + Sync {
    /// Writes these, in order; the answers stand in the same order. A stored SUCCESS stays: any other
    /// record of that id is silently left out (celery/backends/base.py `_store_result`).
    async fn put(&self, records: &[ResultRecord]) -> Vec<Result<(), StoreError>>;

    /// What is known about a task; `None` is Celery's PENDING.
    async fn get(&self, id: &TaskId) -> Result<Option<StoredResult>, StoreError>;

    /// Deletes what is known about a task.
    async fn forget(&self, id: &TaskId) -> Result<(), StoreError>;

    /// Returns when the state of a task may have become final, at once if it is, or after `within`.
    /// Stores without notification poll. Nothing is missed between a [`ResultStore::get`] and this: an
    /// adapter listens first and looks then, so `loop { get; changed }` is a wait without races.
    async fn changed(&self, id: &TaskId, within: Duration);

    /// Asks the store for a sign of life. Stores that connect lazily connect now.
    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Deletes results that became final longer ago than `older_than`, and says how many there were.
    /// Nothing to do for stores that expire results by themselves.
    async fn delete_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let _ = older_than;
        Ok(0)
    }

    /// How chords come together in this store. Unless it counts them, it is asked for nothing else about them.
    fn chords(&self) -> ChordStyle {
        ChordStyle::Refused("this")
    }

    /// So many members complete the chord. One that is over begins anew (a chord may be applied twice), unless
    /// this may have been said `again`.
    async fn set_chord_size(&self, group: &str, size: u64, again: bool) -> Result<(), StoreError> {
        let _ = (group, size, again);
        Err(self.without("count chords"))
    }

    /// As that, with the result tuple of the header, for a store that keeps no parts of its own
    /// ([`ChordStyle::Counter`]).
    async fn begin_chord(&self, group: &str, size: u64, header: &Json, again: bool) -> Result<(), StoreError> {
        self.set_chord_size(group, size, again).await?;
        self.save_group(group, header).await
    }

    /// The chord has one more member; said twice of the same, it counts once.
    async fn extend_chord(&self, group: &str, member: &TaskId) -> Result<(), StoreError> {
        let _ = (group, member);
        Err(self.without("count chords"))
    }

    /// Keeps these parts; for each, whether it was the last, and then claims the chord for the caller in the
    /// same step. The answers stand in the same order.
    async fn count_chord_parts(&self, parts: &[ChordPart]) -> Vec<Result<Progress, StoreError>> {
        parts.iter().map(|_| Err(self.without("count chords"))).collect()
    }

    /// Gives whoever holds the claim the time that publishing may take; false if it is not held any more.
    async fn extend_claim(&self, group: &str, token: &str) -> Result<bool, StoreError> {
        let _ = (group, token);
        Err(self.without("count chords"))
    }

    /// The body is published: the chord is over. False if the claim was lost meanwhile.
    async fn finish_chord(&self, group: &str, token: &str) -> Result<bool, StoreError> {
        let _ = (group, token);
        Err(self.without("count chords"))
    }

    /// The body has failed: the chord is over.
    async fn fail_chord(&self, group: &str) -> Result<(), StoreError> {
        let _ = group;
        Err(self.without("count chords"))
    }

    /// Keeps the result tuple of a group.
    async fn save_group(&self, group: &str, result: &Json) -> Result<(), StoreError> {
        let _ = (group, result);
        Err(self.without("keep groups"))
    }

    /// The result tuple of a group, if somebody has kept it.
    async fn group(&self, group: &str) -> Result<Option<Json>, StoreError> {
        let _ = group;
        Err(self.without("keep groups"))
    }

    /// What it answers when it is asked for something that it does not do.
    fn without(&self, operation: &'static str) -> StoreError {
        let store = match self.chords() {
            ChordStyle::Refused(name) => name,
            ChordStyle::Native | ChordStyle::Counter | ChordStyle::Unlock => "this",
        };
        StoreError::Without { store, operation }
    }

    /// True if results outlive this process and can be asked for by anyone.
    fn is_durable(&self) -> bool;

    /// True if there is a place for what an attempt used ([`ResultRecord::usage`]).
    fn keeps_usage(&self) -> bool {
        true
    }
}

/// How results reach a client by the broker.
#[async_trait]
pub trait ReplySender: Send + Sync {
    /// Publishes to the default exchange with `reply_to` as routing key. Messages are not confirmed: a client that is
    /// gone has no queue, and that is no error.
    async fn send(&self, replies: Vec<taskhost_core::Publication>) -> Result<(), BoxError>;

    /// Publishes each to a queue of its own, which is made if it is missing, and which is gone when its reader is, or
    /// after `expires` without one. Confirmed; an answer for each, in the same order.
    async fn leave(&self, results: Vec<taskhost_core::Publication>, expires: Duration) -> Vec<Result<(), LeaveError>>;
}

/// A result was not left at the broker.
#[derive(Debug)]
pub struct LeaveError {
    pub source: BoxError,
    /// The same may work later.
    pub transient: bool,
}

/// Trouble with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names no store that we have. Permanent.
    #[error("result backend URL `{url}`: {reason}")]
    Url { url: RedactedUrl, reason: String },
    #[error("connect to {url}")]
    Connect { url: RedactedUrl, source: BoxError, transient: bool },
    #[error("{operation} result of task {id}")]
    Operation { operation: &'static str, id: TaskId, source: BoxError, transient: bool },
    #[error("{operation} group {group}")]
    Group { operation: &'static str, group: String, source: BoxError, transient: bool },
    /// The store is there and does not answer as it should.
    #[error("{operation} results")]
    Store { operation: &'static str, source: BoxError, transient: bool },
    /// This store keeps nothing that could be read.
    #[error("{store} results cannot be {operation}")]
    Unsupported { store: &'static str, operation: &'static str },
    /// There is no place for it.
    #[error("the {store} result store does not {operation}")]
    Without { store: &'static str, operation: &'static str },
}

impl StoreError {
    /// True if the same thing may work later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Url { .. } | Self::Unsupported { .. } | Self::Without { .. } => false,
            Self::Connect { transient, .. }
            | Self::Operation { transient, .. }
            | Self::Group { transient, .. }
            | Self::Store { transient, .. } => *transient,
        }
    }
}
