//! The wish of a task to be run once more.

use serde::Serialize;

use crate::error::TaskError;
use crate::json::Json;

/// A retry, to be returned as the error of a task: `Err(Retry::new().countdown(5.0).into())`.
#[must_use = "a retry does nothing unless the task returns it"]
pub struct Retry {
    pub(crate) due: Due,
    pub(crate) max_retries: Option<u32>,
    pub(crate) args: Option<Json>,
    pub(crate) kwargs: Option<Json>,
    pub(crate) cause: Option<TaskError>,
    /// Replacement arguments that are no JSON fail the task when it ends.
    pub(crate) broken: Option<TaskError>,
}

pub(crate) enum Due {
    Default,
    Countdown(f64),
    Eta(String),
}

impl Retry {
    /// A retry after the task's `default_retry_delay`.
    pub fn new() -> Self {
        Self { due: Due::Default, max_retries: None, args: None, kwargs: None, cause: None, broken: None }
    }

    /// Due after so many seconds.
    pub fn countdown(self, seconds: f64) -> Self {
        Self { due: Due::Countdown(seconds), ..self }
    }

    /// Due at an ISO 8601 time.
    pub fn eta(self, time: impl Into<String>) -> Self {
        Self { due: Due::Eta(time.into()), ..self }
    }

    /// How many retries the task may have, instead of its own limit.
    pub fn max_retries(self, retries: u32) -> Self {
        Self { max_retries: Some(retries), ..self }
    }

    /// Other positional arguments: a tuple or a list.
    #[track_caller]
    pub fn args(mut self, args: impl Serialize) -> Self {
        self.args = self.json(&args);
        self
    }

    /// Other keyword arguments: a struct or a map.
    #[track_caller]
    pub fn kwargs(mut self, kwargs: impl Serialize) -> Self {
        self.kwargs = self.json(&kwargs);
        self
    }

    /// Why: it is stored with the state RETRY, and is the failure once no retry is left.
    #[track_caller]
    pub fn cause(self, cause: impl Into<TaskError>) -> Self {
        let cause = Some(cause.into()).filter(TaskError::is_failure);
        Self { cause, ..self }
    }

    #[track_caller]
    fn json(&mut self, value: &impl Serialize) -> Option<Json> {
        Json::from_value(value).map_err(|error| self.broken = Some(TaskError::not_json(&error))).ok()
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}
