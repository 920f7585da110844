//! Finds out what is known about a redelivery: in the store whether it has succeeded, in the worker's own
//! state how often it came.
//!
//! What that means is decided by the dispatcher. What cannot be found out counts as unknown.

use store::ResultStore;
use store::state::NodeState;
use taskhost_core::dispatcher::{Lookup, Question};
use taskhost_core::{State, TaskId, Timestamp};
use tracing::warn;

use crate::commit::chain;

/// Asks both at the same time.
pub(crate) async fn ask(question: Question, store: &dyn ResultStore, state: &dyn NodeState, now: Timestamp) -> Lookup {
    let Question { succeeded, count } = question;
    let succeeded = async {
        match succeeded {
            Some(id) => has_succeeded(&id, store).await,
            None => false,
        }
    };
    let deliveries = async {
        match count {
            Some(execution) => count_delivery(execution, state, now).await,
            None => 0,
        }
    };
    let (succeeded, deliveries) = tokio::join!(succeeded, deliveries);
    Lookup { succeeded, deliveries }
}

async fn has_succeeded(id: &TaskId, store: &dyn ResultStore) -> bool {
    match store.get(id).await {
        Ok(stored) => stored.is_some_and(|stored| stored.state == State::Success),
        Err(error) => {
            warn!(task.id = %id, "cannot look up redelivered task {id}, running it: {}", chain(&error));
            false
        }
    }
}

async fn count_delivery(execution: String, state: &dyn NodeState, now: Timestamp) -> u32 {
    match state.count(execution, now).await {
        Ok(count) => count,
        Err(error) => {
            warn!("cannot count how often a task was delivered, running it: {}", chain(&error));
            0
        }
    }
}
