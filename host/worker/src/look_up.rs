//! Finds out what is known about a redelivery: from the store whether it has succeeded, from the worker's own
//! state how often it came.
//!
//! What that means is decided by the dispatcher. What cannot be found out counts as unknown.

use store::ResultStore;
use store::state::NodeState;
use taskhost_core::{Json, State, TaskId, Timestamp};
use tracing::warn;

use crate::commit::chain;

/// Asks the store whether this task has succeeded, and with what result.
pub(crate) async fn success(id: &TaskId, store: &dyn ResultStore) -> Option<Json> {
    match store.get(id).await {
        Ok(stored) => stored.filter(|stored| stored.state == State::Success).map(|stored| stored.result),
        Err(error) => {
            warn!(task.id = %id, "cannot look up redelivered task {id}, running it: {}", chain(&error));
            None
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
