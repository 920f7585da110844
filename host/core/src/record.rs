//! What the result store keeps about a task: Celery's states and its result document.
//!
//! Says what is stored, not where: keys, tables and expiry belong to the adapters of the `store` crate.

use crate::exception::Exception;
use crate::name::TaskId;
use crate::protocol::content::Json;
use crate::timestamp::Timestamp;

/// Celery's names for the state of a task (celery/states.py).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing is known. Never stored.
    Pending,
    Started,
    Retry,
    Success,
    Failure,
    Revoked,
    /// Whatever a task called its own state.
    Custom(String),
}

impl State {
    /// The name that is stored.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "PENDING",
            Self::Started => "STARTED",
            Self::Retry => "RETRY",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Revoked => "REVOKED",
            Self::Custom(name) => name,
        }
    }

    /// The state of that name.
    pub fn parse(text: &str) -> Self {
        match text {
            "PENDING" => Self::Pending,
            "STARTED" => Self::Started,
            "RETRY" => Self::Retry,
            "SUCCESS" => Self::Success,
            "FAILURE" => Self::Failure,
            "REVOKED" => Self::Revoked,
            other => Self::Custom(other.to_owned()),
        }
    }

    /// True for the states that are final (READY_STATES).
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
    }
}

/// The value under `result` in a result document.
#[derive(Debug, Clone, PartialEq)]
pub enum ResultValue {
    /// Any JSON: a return value, or the meta of STARTED and of custom states.
    Json(Json),
    /// An exception, for FAILURE, RETRY and REVOKED.
    Exception(Exception),
}

/// One write to the result store.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultRecord {
    pub id: TaskId,
    pub state: State,
    pub result: ResultValue,
    pub traceback: Option<String>,
    /// When the state is final: the time at which it became so.
    pub date_done: Option<Timestamp>,
    pub group_id: Option<String>,
    pub parent_id: Option<String>,
    /// Where a client of the rpc store listens, and under which correlation id.
    pub reply_to: Option<String>,
    pub correlation_id: Option<String>,
}

/// What the store answers about a task.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredResult {
    pub state: State,
    /// The `result` value as JSON; for exceptions the map with `exc_type`, `exc_message`, `exc_module`.
    pub result: Json,
    pub traceback: Option<String>,
    pub date_done: Option<String>,
}
