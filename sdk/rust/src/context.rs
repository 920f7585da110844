//! What a task may know about the call it serves.

use std::cell::OnceCell;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::json::Json;
use crate::lenient;

/// The call that a task serves. A parameter `context: &Context` of a task is not one of its arguments.
pub struct Context {
    id: String,
    task: String,
    retries: u32,
    request: OnceCell<Value>,
}

impl Context {
    /// The context of a call. Outside the host, as in a unit test, the request is empty, nothing is cancelled and
    /// time has no end.
    pub fn new(id: impl Into<String>, task: impl Into<String>, retries: u32) -> Self {
        Self { id: id.into(), task: task.into(), retries, request: OnceCell::new() }
    }

    /// The task id that the client chose.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name of the task.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// How often this task was retried before.
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// All facts about this execution under Celery's names (`root_id`, `group`, `eta`, `headers`, ..). Fetched from
    /// the host when first asked for, and kept.
    pub fn request(&self) -> &Value {
        self.request.get_or_init(|| lenient::parse(self.request_json().as_str()).unwrap_or_default())
    }

    /// The same as text, as the host wrote it.
    pub fn request_json(&self) -> Json {
        #[cfg(target_family = "wasm")]
        return Json::from_text(crate::bindings::taskhost::task::context::request());
        #[cfg(not(target_family = "wasm"))]
        Json::from_text("{}")
    }

    /// True once the task should come to an end: its soft time limit has passed, it was revoked, or the worker is
    /// stopping at once. Only a task with the option `handles_soft_limit` gets to see it. It then has until its hard
    /// time limit, in the other cases some seconds. However it ends by then counts; one that wants to be run again
    /// returns `TaskError::reject(true)`.
    pub fn cancelled(&self) -> bool {
        #[cfg(target_family = "wasm")]
        return crate::bindings::taskhost::task::context::cancelled();
        #[cfg(not(target_family = "wasm"))]
        false
    }

    /// How long it is until the hard time limit.
    pub fn remaining(&self) -> Duration {
        #[cfg(target_family = "wasm")]
        return Duration::from_millis(crate::bindings::taskhost::task::context::remaining_ms());
        #[cfg(not(target_family = "wasm"))]
        Duration::MAX
    }

    /// Gives the task a state that clients see as `AsyncResult.state` and `.info` until the next one or its end:
    /// Celery's `update_state`. SUCCESS, FAILURE, REVOKED and RETRY are refused, since they follow from how the task
    /// ends.
    ///
    /// Of many updates in a short time the host stores the last, and then does not make the task wait.
    ///
    /// ```
    /// # use taskhost::{Context, TaskError};
    /// fn index(context: &Context, pages: &[String]) -> Result<(), TaskError> {
    ///     context.update_state("INDEXING", &("pages", pages.len()))?;
    ///     Ok(())
    /// }
    /// # index(&Context::new("id", "task", 0), &[]).unwrap();
    /// ```
    pub fn update_state(&self, state: &str, meta: &(impl Serialize + ?Sized)) -> Result<(), UpdateError> {
        let meta = serde_json::to_string(meta);
        let meta = meta.map_err(|error| UpdateError::Invalid(format!("the meta is not JSON serializable: {error}")))?;
        send(state, &meta)
    }

    /// Tells monitors something about this task besides what the worker tells them: Celery's `send_event`. The kind
    /// is one of your own, such as `task-indexed`; the fields are whatever becomes a JSON object. Monitors get it at
    /// once; if the worker sends no events, or nobody listens, nothing happens.
    ///
    /// ```
    /// # use taskhost::{Context, TaskError};
    /// # fn index(context: &Context) -> Result<(), TaskError> {
    /// context.send_event("task-indexed", &std::collections::BTreeMap::from([("pages", 300)]))?;
    /// # Ok(())
    /// # }
    /// # index(&Context::new("id", "task", 0)).unwrap();
    /// ```
    pub fn send_event(&self, kind: &str, fields: &(impl Serialize + ?Sized)) -> Result<(), EventError> {
        let fields = serde_json::to_string(fields);
        let fields =
            fields.map_err(|error| EventError::Invalid(format!("the fields are not JSON serializable: {error}")))?;
        tell(kind, &fields)
    }

    /// Tells clients how far the task is: the state `PROGRESS` with `current` and `total`, as is the custom with
    /// Celery. A task need not care whether it could be stored; [`Context::update_state`] tells one that does.
    pub fn progress(&self, current: u64, total: u64) {
        let _ = send("PROGRESS", &format!("{{\"current\": {current}, \"total\": {total}}}"));
    }
}

#[cfg(target_family = "wasm")]
fn send(state: &str, meta: &str) -> Result<(), UpdateError> {
    use crate::bindings::taskhost::task::context::{UpdateError as Wire, update_state};
    update_state(state, meta).map_err(|error| match error {
        Wire::Invalid(why) => UpdateError::Invalid(why),
        Wire::Limited(why) => UpdateError::Limited(why),
        Wire::Unavailable(why) => UpdateError::Unavailable(why),
    })
}

#[cfg(not(target_family = "wasm"))]
fn send(_state: &str, _meta: &str) -> Result<(), UpdateError> {
    Ok(())
}

#[cfg(target_family = "wasm")]
fn tell(kind: &str, fields: &str) -> Result<(), EventError> {
    use crate::bindings::taskhost::task::context::{EventError as Wire, send_event};
    send_event(kind, fields).map_err(|error| match error {
        Wire::Invalid(why) => EventError::Invalid(why),
        Wire::Limited(why) => EventError::Limited(why),
    })
}

#[cfg(not(target_family = "wasm"))]
fn tell(_kind: &str, _fields: &str) -> Result<(), EventError> {
    Ok(())
}

/// Why an event was not taken. The task may go on as if nothing had happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventError {
    /// This can never be an event.
    Invalid(String),
    /// The task says more than the operator allows.
    Limited(String),
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Invalid(why) | Self::Limited(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for EventError {}

/// Why a state was not stored. The task may go on as if nothing had happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpdateError {
    /// This state or this meta can never be stored.
    Invalid(String),
    /// The meta is longer than the operator allows.
    Limited(String),
    /// The result store refused, or did not answer in time; later it may.
    Unavailable(String),
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Invalid(why) | Self::Limited(why) | Self::Unavailable(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for UpdateError {}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, task, retries, request: _ } = self;
        f.debug_struct("Context").field("id", id).field("task", task).field("retries", retries).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_that_json_cannot_hold_is_invalid() {
        let context = Context::new("id", "task", 0);
        assert_eq!(context.update_state("HALFWAY", &[1, 2]), Ok(()));
        let map = std::collections::BTreeMap::from([((1, 2), 3)]);
        let error = context.update_state("HALFWAY", &map).expect_err("keys are no strings");
        assert_eq!(error.to_string(), "the meta is not JSON serializable: key must be a string");
        let error = context.send_event("task-x", &map).expect_err("keys are no strings");
        assert_eq!(error.to_string(), "the fields are not JSON serializable: key must be a string");
    }
}
