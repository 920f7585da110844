//! What the result store keeps about a task: Celery's states and its result document.
//!
//! Says what is stored, not where: keys, tables and expiry belong to the adapters of the `store` crate.

use std::sync::Arc;

use crate::exception::Exception;
use crate::message::HeaderValue;
use crate::name::{NodeName, TaskId};
use crate::protocol::content::Json;
use crate::request::Request;
use crate::timestamp::Timestamp;
use crate::usage::Usage;

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

    /// The state that a running task gives itself.
    pub fn of_task(name: &str) -> Result<Self, StateNameError> {
        match Self::parse(name) {
            Self::Success | Self::Failure | Self::Revoked | Self::Retry => {
                Err(StateNameError::Outcome(name.to_owned()))
            }
            _ if name.is_empty() => Err(StateNameError::Empty),
            _ if name.chars().count() > STATE_CHARS_MAX => Err(StateNameError::TooLong),
            _ if name.chars().any(char::is_control) => Err(StateNameError::Control),
            state => Ok(state),
        }
    }

    /// True for the states that are final (READY_STATES).
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
    }
}

/// Longest name of a state: the column of Celery's database backend
/// (celery/backends/database/models.py).
pub const STATE_CHARS_MAX: usize = 50;

/// Why a task cannot give itself a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateNameError {
    #[error("the state is empty")]
    Empty,
    #[error("the state is longer than {STATE_CHARS_MAX} characters")]
    TooLong,
    #[error("the state holds a control character")]
    Control,
    // A client that reads one of these waits no longer, or expects an exception.
    #[error("the state {0} is what a task comes to, and follows from how it ends")]
    Outcome(String),
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
    /// The result tuples of what the task called, its callbacks and the next step of its chain included: a JSON
    /// array, or null if nobody knows.
    pub children: Json,
    pub group_id: Option<String>,
    pub parent_id: Option<String>,
    /// Where a client of the rpc store listens, and under which correlation id.
    pub reply_to: Option<String>,
    pub correlation_id: Option<String>,
    /// What else is stored about the call, where that is wanted (`result_extended`).
    pub call: Option<Arc<CallRecord>>,
    /// What the attempt used, where that is wanted (`result.usage`). Tables have no column for it.
    pub usage: Option<Usage>,
}

/// Why a client gets a failure though its task ended well: the store takes no such result.
const REFUSED: &str = "ResultRefused";

impl ResultRecord {
    /// The failure in place of a final result that the store will never take, so that whoever waits hears of it: without
    /// what may be too much for the store. None if nobody waits, or if this is such a failure.
    pub fn refused(&self, reason: &str) -> Option<Self> {
        let is_refused = matches!(&self.result, ResultValue::Exception(exception) if exception.kind == REFUSED);
        if !self.state.is_ready() || is_refused {
            return None;
        }
        let text = format!("the result store does not take the result of the task: {reason}");
        Some(Self {
            state: State::Failure,
            result: ResultValue::Exception(Exception::new("taskhost.errors", REFUSED, [Json::text(&text)])),
            traceback: None,
            children: Json::empty_list(),
            call: None,
            ..self.clone()
        })
    }
}

/// The call that a result belongs to (celery/backends/base.py `_get_result_meta`). What is none is stored
/// as null.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CallRecord {
    pub name: Option<String>,
    pub args: Option<Json>,
    pub kwargs: Option<Json>,
    pub worker: Option<String>,
    pub retries: Option<u32>,
    pub queue: Option<String>,
    /// The names of the stamps, as the client gave them, and the stamps; none if there are no stamps.
    pub stamps: Option<(Json, Vec<(String, Json)>)>,
}

impl CallRecord {
    /// The call that this worker was asked for.
    pub fn of(request: &Request, worker: &NodeName) -> Self {
        Self {
            name: Some(request.task.to_string()),
            args: Some(request.args.clone()),
            kwargs: Some(request.kwargs.clone()),
            worker: Some(worker.to_string()),
            retries: Some(request.retries),
            queue: Some(request.delivery.routing_key.clone()),
            stamps: stamps(request),
        }
    }
}

fn stamps(request: &Request) -> Option<(Json, Vec<(String, Json)>)> {
    let headers = &request.message.headers;
    let Some(HeaderValue::Map(stamps)) = headers.get("stamps") else { return None };
    if stamps.is_empty() {
        return None;
    }
    let names = headers.get("stamped_headers").unwrap_or(&HeaderValue::Null);
    let is_named = |name: &str| match names {
        HeaderValue::List(names) => names.iter().any(|it| matches!(it, HeaderValue::Text(text) if text == name)),
        _ => false,
    };
    let named = stamps.iter().filter(|(name, _)| is_named(name)).map(|(name, value)| (name.clone(), value.into()));
    Some((names.into(), named.collect()))
}

/// What the store answers about a task.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredResult {
    pub state: State,
    /// The `result` value as JSON; for exceptions the map with `exc_type`, `exc_message`, `exc_module`.
    pub result: Json,
    pub traceback: Option<String>,
    pub date_done: Option<String>,
    /// The result tuples of what the task called: a JSON list, or null if nobody knows.
    pub children: Json,
    /// Who called the task, where the store keeps that.
    pub parent_id: Option<String>,
    /// What `result_extended` added, in the order of [`CALL_FIELDS`], and [`USAGE_FIELD`] last; nothing if
    /// neither is there.
    pub call: Vec<(&'static str, Json)>,
}

/// The names in a document of what `result_extended` adds, without the stamps.
pub const CALL_FIELDS: [&str; 6] = ["name", "args", "kwargs", "worker", "retries", "queue"];

/// The name in a document of what the attempt used. Ours; clients of Celery pass over it.
pub const USAGE_FIELD: &str = "usage";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_gives_itself_any_state_that_is_no_outcome() {
        for name in ["PROGRESS", "STARTED", "PENDING", "halfway there", &"ü".repeat(50)] {
            assert_eq!(State::of_task(name).map(|state| state.as_str().to_owned()), Ok(name.to_owned()));
        }
        for name in ["SUCCESS", "FAILURE", "REVOKED", "RETRY"] {
            assert_eq!(State::of_task(name), Err(StateNameError::Outcome(name.to_owned())));
        }
        assert_eq!(State::of_task(""), Err(StateNameError::Empty));
        assert_eq!(State::of_task(&"x".repeat(51)), Err(StateNameError::TooLong));
        assert_eq!(State::of_task("a\nb"), Err(StateNameError::Control));
    }
}
