//! The port: what the host asks of any result store, in plain data.
//!
//! Deliberately absent: retrying (the worker decides) and the meaning of states. Writes come in batches,
//! since a round trip for each result is what makes a worker slow.

use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::{RedactedUrl, ResultRecord, StoredResult, TaskId};

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

    /// True if results outlive this process and can be asked for by anyone.
    fn is_durable(&self) -> bool;

    /// True if there is a place for what an attempt used ([`ResultRecord::usage`]).
    fn keeps_usage(&self) -> bool {
        true
    }
}

/// How the rpc store sends a result to the client that waits for it. Messages are not confirmed: a
/// client that is gone has no queue, and that is no error.
#[async_trait]
pub trait ReplySender: Send + Sync {
    /// Publishes to the default exchange with `reply_to` as routing key.
    async fn send(&self, replies: Vec<taskhost_core::Publication>) -> Result<(), BoxError>;
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
    /// The store is there and does not answer as it should.
    #[error("{operation} results")]
    Store { operation: &'static str, source: BoxError, transient: bool },
    /// This store keeps nothing that could be read.
    #[error("{store} results cannot be {operation}")]
    Unsupported { store: &'static str, operation: &'static str },
}

impl StoreError {
    /// True if the same thing may work later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Url { .. } | Self::Unsupported { .. } => false,
            Self::Connect { transient, .. } | Self::Operation { transient, .. } | Self::Store { transient, .. } => {
                *transient
            }
        }
    }
}
