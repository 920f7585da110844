//! Tasks that ask to be run again.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use taskhost::{Context, Json, Retry, TaskError, task};

use crate::failing::expected;
use crate::request::fact;

/// Is retried until no retry is left; or, if it has something to return, three times.
#[task(name = "t.integration.tasks.retry", default_retry_delay = 1)]
pub(crate) fn retry(context: &Context, return_value: Option<String>) -> Result<String, TaskError> {
    match return_value {
        Some(value) if !value.is_empty() && context.retries() >= 3 => Ok(value),
        _ => Err(Retry::new().countdown(5.0).cause(expected(&[])).into()),
    }
}

/// Is retried once and returns how often it was.
#[task(name = "t.integration.tasks.retry_once", expires = 120, max_retries = 1)]
pub(crate) fn retry_once(
    context: &Context,
    #[args] _ignored: Vec<Json>,
    expires: Option<Json>,
    #[default = 1] max_retries: u32,
    #[default = 0.1] countdown: f64,
) -> Result<u32, TaskError> {
    // The retry keeps the time at which the call expires; the tests give it another that does not matter.
    drop(expires);
    once(context, countdown, max_retries, |context| context.retries().into()).map(|_| context.retries())
}

/// Is retried once and returns the priority of its message.
#[task(name = "t.integration.tasks.retry_once_priority", max_retries = 1)]
pub(crate) fn retry_once_priority(
    context: &Context,
    #[args] _ignored: Vec<Json>,
    expires: Option<Json>,
    #[default = 1] max_retries: u32,
    #[default = 0.1] countdown: f64,
) -> Result<Value, TaskError> {
    drop(expires);
    once(context, countdown, max_retries, |context| context.request()["delivery_info"]["priority"].clone())
}

/// Is retried once and returns the headers of its message.
#[task(name = "t.integration.tasks.retry_once_headers", max_retries = 1)]
pub(crate) fn retry_once_headers(
    context: &Context,
    #[args] _ignored: Vec<Json>,
    #[default = 1] max_retries: u32,
    #[default = 0.1] countdown: f64,
) -> Result<Value, TaskError> {
    once(context, countdown, max_retries, |context| fact(context, "headers"))
}

/// Is retried once and returns how often it was, to nobody.
#[task(name = "t.integration.tasks.retry_once_ignore_result", ignore_result = true)]
pub(crate) fn retry_once_ignore_result(context: &Context) -> Result<Value, TaskError> {
    once(context, 0.0, 3, |context| context.retries().into())
}

/// Is retried once and returns how often it was.
#[task(name = "t.integration.tasks.retry_once_with_result", ignore_result = false)]
pub(crate) fn retry_once_with_result(context: &Context) -> Result<Value, TaskError> {
    once(context, 0.0, 3, |context| context.retries().into())
}

fn once(
    context: &Context,
    countdown: f64,
    max_retries: u32,
    then: impl Fn(&Context) -> Value,
) -> Result<Value, TaskError> {
    match context.retries() {
        0 => Err(Retry::new().countdown(countdown).max_retries(max_retries).into()),
        _ => Ok(then(context)),
    }
}

/// What a task with replaced arguments was called with in the end.
#[derive(Serialize)]
pub(crate) struct Told {
    foo: i64,
    bar: i64,
    retries: u32,
    is_eager: bool,
}

#[derive(Serialize)]
pub(crate) struct ToldWithLabel {
    #[serde(flatten)]
    told: Told,
    label: Option<String>,
}

/// Is called by keyword and retried by position.
#[task(name = "t.integration.tasks.retry_with_args_after_kwargs", max_retries = 1)]
pub(crate) fn retry_with_args_after_kwargs(
    context: &Context,
    foo: i64,
    bar: i64,
    label: Option<String>,
) -> Result<ToldWithLabel, TaskError> {
    match context.retries() {
        0 => {
            let kwargs = BTreeMap::from([("label", label)]);
            Err(Retry::new().args((foo + 1, bar + 1)).kwargs(kwargs).countdown(0.0).into())
        }
        retries => Ok(ToldWithLabel { told: Told { foo, bar, retries, is_eager: false }, label }),
    }
}

/// Is called by position and retried by keyword.
#[task(name = "t.integration.tasks.retry_with_kwargs_after_args", max_retries = 1)]
pub(crate) fn retry_with_kwargs_after_args(context: &Context, foo: i64, bar: i64) -> Result<Told, TaskError> {
    match context.retries() {
        0 => {
            let kwargs = BTreeMap::from([("foo", foo + 1), ("bar", bar)]);
            Err(Retry::new().args([(); 0]).kwargs(kwargs).countdown(0.0).into())
        }
        retries => Ok(Told { foo, bar, retries, is_eager: false }),
    }
}

/// Is retried by its options, since it fails the first time.
#[task(name = "auto_retry_class_task", autoretry_for = ["ValueError"], max_retries = 1, retry_backoff = true)]
pub(crate) fn auto_retry_class_task(context: &Context) -> Result<u32, TaskError> {
    match context.retries() {
        0 => Err(TaskError::new("ValueError", "")),
        retries => Ok(retries),
    }
}
