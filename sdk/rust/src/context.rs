//! What a task may know about the call it serves.

use std::cell::OnceCell;
use std::fmt;
use std::time::Duration;

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
    /// stopping at once. Only a task with the option `handles_soft_limit` gets to see its soft time limit here.
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
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, task, retries, request: _ } = self;
        f.debug_struct("Context").field("id", id).field("task", task).field("retries", retries).finish_non_exhaustive()
    }
}
