//! What one worker remembers for itself, beyond its own end: revoked tasks, how often messages came back,
//! which tasks it served, and messages that it acknowledged before their task was done.
//!
//! Deliberately absent: results, which belong to everybody (see [`crate::ResultStore`]), and every decision
//! that is made from what is remembered here (`core`).

mod file;
mod memory;
mod packed;
mod schema;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use async_trait::async_trait;
use taskhost_core::revoke::Revocation;
use taskhost_core::{DeliveryInfo, Message, TaskName, Timestamp};

use crate::port::BoxError;

pub use file::StateFile;
pub use memory::StateMemory;

/// The state of one worker. All methods may be called at the same time; what is written is on disk when
/// they return, if it is kept on disk at all.
#[async_trait]
pub trait NodeState: Send + Sync {
    /// True if what is kept here outlives this process.
    fn is_durable(&self) -> bool;

    /// Everything that was revoked, the oldest first.
    async fn revocations(&self) -> Result<Vec<(Revocation, Timestamp)>, StateError>;

    /// Adds these; one that is there already becomes the newest. The oldest are forgotten beyond as many as
    /// [`taskhost_core::revoke`] remembers.
    async fn revoke(&self, revocations: Vec<(Revocation, Timestamp)>) -> Result<(), StateError>;

    /// Forgets that these were revoked. Nothing happens for what was not.
    async fn unrevoke(&self, revocations: Vec<Revocation>) -> Result<(), StateError>;

    /// The logical clock that an earlier process had reached; zero if there was none.
    async fn clock(&self) -> Result<u64, StateError>;

    /// Keeps how far the logical clock has come.
    async fn keep_clock(&self, clock: u64) -> Result<(), StateError>;

    /// Notes that this execution came back once more, and says how often that was. The least recent beyond
    /// [`COUNTS_MAX`] are forgotten.
    async fn count(&self, execution: String, now: Timestamp) -> Result<u32, StateError>;

    /// Forgets how often these came back.
    async fn forget_counts(&self, executions: Vec<String>) -> Result<(), StateError>;

    /// The names of all tasks that this worker ever had, up to [`SERVED_MAX`].
    async fn served(&self) -> Result<Vec<TaskName>, StateError>;

    /// Adds names of tasks that this worker has now.
    async fn serve(&self, names: Vec<TaskName>) -> Result<(), StateError>;

    /// Keeps messages that are to be acknowledged before their task is done.
    async fn write_journal(&self, entries: Vec<JournalEntry>) -> Result<Vec<JournalId>, StateError>;

    /// What an earlier process left in the journal, the oldest first. Each is counted as resumed once more.
    async fn resume_journal(&self) -> Result<Vec<(JournalId, JournalEntry)>, StateError>;

    /// One entry of the journal, if it is there.
    async fn read_journal(&self, id: JournalId) -> Result<Option<JournalEntry>, StateError>;

    /// Takes out what is done with. Nothing happens for what is not there.
    async fn delete_journal(&self, ids: Vec<JournalId>) -> Result<(), StateError>;
}

/// How many executions are counted at most: more than a worker can have been given back.
pub const COUNTS_MAX: u32 = 100_000;

/// How many names of tasks are remembered.
pub const SERVED_MAX: u32 = 10_000;

/// Identifies an entry of the journal for as long as it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JournalId(pub u64);

/// A message that is kept here in place of the broker.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalEntry {
    pub message: Message,
    pub info: DeliveryInfo,
    /// How often it was resumed.
    pub resumed: u32,
}

/// Trouble with the state of a worker.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("open state file {}", path.display())]
    Open { path: PathBuf, source: BoxError },
    /// A worker that runs now has it.
    #[error("open state file {}: another worker is using it", path.display())]
    InUse { path: PathBuf },
    #[error("open state file {}: {reason}", path.display())]
    Foreign { path: PathBuf, reason: String },
    #[error("{operation} in the state file")]
    Operation { operation: &'static str, source: BoxError },
}
