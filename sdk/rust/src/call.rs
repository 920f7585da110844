//! Calls of other tasks, and what became of them.
//!
//! What may be called, and whose results may be seen, is declared in `[needs]` of `plugin.toml` and granted by the
//! operator.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::context::Context;
use crate::elements;
use crate::error::TaskError;
use crate::json::Json;
use crate::lenient;

/// A call of a task that is to be published: Celery's signature.
///
/// ```
/// use taskhost::{Context, Signature, TaskError};
///
/// fn thumbnails(context: &Context, urls: Vec<String>) -> Result<Vec<String>, TaskError> {
///     let resize = |url| Signature::new("images.resize").args((url, 800)).option("queue", "images");
///     let ids: Result<_, _> = urls.iter().map(|url| context.publish(&resize(url))).collect();
///     Ok(ids?) // published once this task has succeeded
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Signature {
    task: String,
    args: Json,
    kwargs: Json,
    options: Map<String, Value>,
    /// Arguments that are no JSON are told when the signature is used.
    broken: Option<String>,
}

impl Signature {
    /// A call without arguments.
    pub fn new(task: impl Into<String>) -> Self {
        let (args, kwargs) = (Json::from_text("[]"), Json::from_text("{}"));
        Self { task: task.into(), args, kwargs, options: Map::new(), broken: None }
    }

    /// Positional arguments: a tuple or a list.
    pub fn args(mut self, args: impl Serialize) -> Self {
        match Json::from_value(&args) {
            Ok(json) => self.args = json,
            Err(error) => self.broken = Some(error.to_string()),
        }
        self
    }

    /// Keyword arguments: a struct or a map.
    pub fn kwargs(mut self, kwargs: impl Serialize) -> Self {
        match Json::from_value(&kwargs) {
            Ok(json) => self.kwargs = json,
            Err(error) => self.broken = Some(error.to_string()),
        }
        self
    }

    /// An option under Celery's name, as `apply_async` takes it: `queue`, `priority`, `expires`, `task_id`, ..
    pub fn option(mut self, name: &str, value: impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => drop(self.options.insert(name.to_owned(), value)),
            Err(error) => self.broken = Some(error.to_string()),
        }
        self
    }

    /// To be run not before so many seconds have passed.
    pub fn countdown(self, seconds: f64) -> Self {
        self.option("countdown", seconds)
    }

    /// Another task, to be called with the result of this one.
    pub fn link(self, callback: &Signature) -> Self {
        self.attach("link", callback)
    }

    /// Another task, to be called with the id of this one if it fails.
    pub fn link_error(self, errback: &Signature) -> Self {
        self.attach("link_error", errback)
    }

    fn attach(mut self, option: &str, other: &Signature) -> Self {
        let other =
            other.to_json().and_then(|json| serde_json::from_str::<Value>(json.as_str()).map_err(|e| e.to_string()));
        match (other, self.options.entry(option).or_insert_with(|| Value::Array(Vec::new()))) {
            (Ok(other), Value::Array(all)) => all.push(other),
            (Ok(_), _) => self.broken = Some(format!("option {option} is no list")),
            (Err(why), _) => self.broken = Some(why),
        }
        self
    }

    /// Celery's map.
    pub(crate) fn to_json(&self) -> Result<Json, String> {
        if let Some(why) = &self.broken {
            return Err(format!("a signature of {} is not JSON serializable: {why}", self.task));
        }
        let Self { task, args, kwargs, options, .. } = self;
        let task = Value::from(task.as_str());
        let options = Value::Object(options.clone());
        Ok(Json::from_text(format!(
            "{{\"task\": {task}, \"args\": {args}, \"kwargs\": {kwargs}, \"options\": {options}, \
             \"subtask_type\": null, \"immutable\": false}}"
        )))
    }
}

impl Context {
    /// Calls another task once this one has succeeded, or is replaced: if it comes to anything else, nothing is
    /// published. Gives the id of the call. Declared under `publish` in `[needs]`.
    pub fn publish(&self, signature: &Signature) -> Result<String, PublishError> {
        send(signature, false)
    }

    /// Calls another task now, whatever this one comes to, and returns when the broker has the call.
    pub fn publish_now(&self, signature: &Signature) -> Result<String, PublishError> {
        send(signature, true)
    }

    /// What is known about a task that this one called. Declared under `results` in `[needs]`.
    pub fn result(&self, id: &str) -> Result<TaskResult, ResultError> {
        ask(id, None)
    }

    /// Waits until a task is done that was called with [`Context::publish_now`]. This task keeps its slot meanwhile: a
    /// worker all of whose tasks wait for others that it alone could run does nothing.
    pub fn wait(&self, id: &str, timeout: Duration) -> Result<TaskResult, ResultError> {
        ask(id, Some(timeout))
    }
}

impl TaskError {
    /// Puts another task in this one's place, under its id: Celery's `Task.replace`. The other has to be declared
    /// under `publish` in `[needs]`.
    ///
    /// ```
    /// # use taskhost::{Signature, TaskError};
    /// fn resize(url: &str) -> Result<(), TaskError> {
    ///     Err(TaskError::replace(&Signature::new("images.resize_large").args((url,))))
    /// }
    /// # resize("x").unwrap_err();
    /// ```
    #[track_caller]
    pub fn replace(signature: &Signature) -> Self {
        match signature.to_json() {
            Ok(json) => Self::replace_by(json),
            Err(why) => Self::new("TypeError", why),
        }
    }
}

/// Why a call was not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishError {
    /// The plugin was not granted it; the text names what is missing.
    Denied(String),
    /// It can never be published.
    Invalid(String),
    /// It is more than the operator allows; the text names the limit.
    Limited(String),
    /// The broker is away, or did not confirm in time. It may have the call all the same.
    Unavailable(String),
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultError {
    /// The plugin may not see it; the text names what is missing.
    Denied(String),
    /// This is no id of a task.
    Invalid(String),
    /// The call is published when this task has succeeded, so it cannot be waited for.
    Unpublished(String),
    /// The other task was not done in time.
    TimedOut(String),
    /// This task is to come to an end.
    Cancelled(String),
    /// The result store is away, or did not answer in time.
    Unavailable(String),
}

/// What is known about a task.
#[derive(Debug, Clone)]
pub struct TaskResult {
    /// Celery's name of it; PENDING, if nothing is known.
    pub state: String,
    /// What it returned; of a failure Celery's map of the exception.
    pub result: Json,
    pub traceback: Option<String>,
    /// Everything, as the host told it.
    pub meta: Json,
}

impl TaskResult {
    /// True once it has returned.
    pub fn is_success(&self) -> bool {
        self.state == "SUCCESS"
    }

    /// True once it will not change any more.
    pub fn is_ready(&self) -> bool {
        matches!(self.state.as_str(), "SUCCESS" | "FAILURE" | "REVOKED")
    }

    #[cfg_attr(not(any(target_family = "wasm", test)), expect(dead_code, reason = "only a host tells results"))]
    fn read(meta: String) -> Self {
        let mut read =
            Self { state: String::new(), result: Json::from_text("null"), traceback: None, meta: Json::from_text("") };
        let _ = elements::of_object(&meta, |name, text| match &*name {
            "state" => read.state = lenient::parse(text).unwrap_or_default(),
            "result" => read.result = Json::from_text(text),
            "traceback" => read.traceback = lenient::parse(text).unwrap_or_default(),
            _ => {}
        });
        Self { meta: Json::from_text(meta), ..read }
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Denied(why) | Self::Invalid(why) | Self::Limited(why) | Self::Unavailable(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for PublishError {}

impl fmt::Display for ResultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Denied(why) | Self::Invalid(why) | Self::Unpublished(why)) = self else {
            let (Self::TimedOut(why) | Self::Cancelled(why) | Self::Unavailable(why)) = self else { return Ok(()) };
            return f.write_str(why);
        };
        f.write_str(why)
    }
}

impl std::error::Error for ResultError {}

#[cfg(target_family = "wasm")]
fn send(signature: &Signature, now: bool) -> Result<String, PublishError> {
    use crate::bindings::taskhost::task::publish::{self, PublishError as Wire};
    let json = signature.to_json().map_err(PublishError::Invalid)?;
    let sent = if now { publish::immediately(json.as_str()) } else { publish::send(json.as_str()) };
    sent.map_err(|error| match error {
        Wire::Denied(why) => PublishError::Denied(why),
        Wire::Invalid(why) => PublishError::Invalid(why),
        Wire::Limited(why) => PublishError::Limited(why),
        Wire::Unavailable(why) => PublishError::Unavailable(why),
    })
}

#[cfg(not(target_family = "wasm"))]
fn send(signature: &Signature, _now: bool) -> Result<String, PublishError> {
    signature.to_json().map_err(PublishError::Invalid)?;
    Err(PublishError::Unavailable("tasks are published by a host, and this is none".to_owned()))
}

#[cfg(target_family = "wasm")]
fn ask(id: &str, timeout: Option<Duration>) -> Result<TaskResult, ResultError> {
    use crate::bindings::taskhost::task::results::{self, ResultError as Wire};
    let told = match timeout {
        None => results::get(id),
        Some(timeout) => results::wait(id, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
    };
    told.map(TaskResult::read).map_err(|error| match error {
        Wire::Denied(why) => ResultError::Denied(why),
        Wire::Invalid(why) => ResultError::Invalid(why),
        Wire::Unpublished(why) => ResultError::Unpublished(why),
        Wire::TimedOut(why) => ResultError::TimedOut(why),
        Wire::Cancelled(why) => ResultError::Cancelled(why),
        Wire::Unavailable(why) => ResultError::Unavailable(why),
    })
}

#[cfg(not(target_family = "wasm"))]
fn ask(_id: &str, _timeout: Option<Duration>) -> Result<TaskResult, ResultError> {
    Err(ResultError::Unavailable("results are kept by a host, and this is none".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(signature: &Signature) -> String {
        signature.to_json().map_or_else(|why| why, Json::into_string)
    }

    #[test]
    fn a_signature_is_celerys_map() {
        let callback = Signature::new("b").option("queue", "q");
        let signature = Signature::new("a\"").args((1, "x")).kwargs(Map::new()).countdown(1.5).link(&callback);
        let expected =
            r#"{"task": "a\"", "args": [1,"x"], "kwargs": {}, "options": {"countdown":1.5,"link":[{"args":[],"#;
        assert!(text(&signature).starts_with(expected), "{}", text(&signature));
        assert!(serde_json::from_str::<Value>(&text(&signature)).is_ok());
    }

    #[test]
    fn arguments_that_are_no_json_are_told_when_it_is_used() {
        let broken = Signature::new("a").args([std::collections::BTreeMap::from([((1, 2), 3)])]);
        assert_eq!(text(&broken), "a signature of a is not JSON serializable: key must be a string");
        assert!(TaskError::replace(&broken).to_string().starts_with("TypeError: a signature of a is not JSON"));
        assert!(TaskError::replace(&Signature::new("a")).to_string().starts_with("replace by {\"task\": \"a\""));
        let context = Context::new("id", "task", 0);
        assert!(matches!(context.publish(&broken), Err(PublishError::Invalid(_))));
        assert!(matches!(context.publish_now(&Signature::new("a")), Err(PublishError::Unavailable(_))));
    }

    #[test]
    fn a_result_is_read_from_what_the_host_tells() {
        let told = r#"{"task_id": "a", "state": "SUCCESS", "result": [NaN], "traceback": null}"#;
        let result = TaskResult::read(told.to_owned());
        assert!(result.is_success() && result.is_ready());
        assert_eq!((result.result.as_str(), result.traceback, result.meta.as_str()), ("[NaN]", None, told));
    }
}
