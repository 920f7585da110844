//! Finds out what is known about a redelivery: from the store whether it has succeeded, from the worker's own
//! state how often it came.
//!
//! What that means is decided by the dispatcher. What cannot be found out counts as unknown.

use store::ResultStore;
use store::state::NodeState;
use taskhost_core::{State, TaskId, Timestamp};
use tracing::warn;

use crate::commit::chain;

/// Asks the store whether this task has succeeded.
pub(crate) async fn has_succeeded(id: &TaskId, store: &dyn ResultStore) -> bool {
    match store.get(id).await {
        Ok(stored) => stored.is_some_and(|stored| stored.state == State::Success),
        Err(error) => {
            warn!(task.id = %id, "cannot look up redelivered task {id}, running it: {}", chain(&error));
            false
        }
    }
}

/// Counts another delivery of this execution, and says how many that makes.
pub(crate) async fn count_delivery(execution: String, state: &dyn NodeState, now: Timestamp) -> u32 {
    match state.count(execution, now).await {
        Ok(count) => count,
        Err(error) => {
            warn!("cannot count how often a task was delivered, running it: {}", chain(&error));
            0
        }
    }
}
