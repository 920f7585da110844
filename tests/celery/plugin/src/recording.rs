//! Tasks that leave in Redis that they were there.

use serde_json::Value;
use taskhost::{Context, Json, TaskError, task};

use crate::pure::Number;
use crate::redis;
use crate::request::fact;

/// Appends its message to a list.
#[task(name = "t.integration.tasks.redis_echo")]
pub(crate) fn redis_echo(message: Json, #[default = "redis-echo"] redis_key: String) -> Result<(), TaskError> {
    redis::push(&redis_key, &message)
}

/// Appends the id of its group to a list.
#[task(name = "t.integration.tasks.redis_echo_group_id")]
pub(crate) fn redis_echo_group_id(
    context: &Context,
    _ignored: Json,
    #[default = "redis-group-ids"] redis_key: String,
) -> Result<(), TaskError> {
    redis::push(&redis_key, &Json::from_value(&fact(context, "group"))?)
}

/// Counts its calls.
#[task(name = "t.integration.tasks.redis_count")]
pub(crate) fn redis_count(#[default = "redis-count"] redis_key: String) -> Result<(), TaskError> {
    redis::increment(&redis_key)
}

/// Sums a list, and appends its own id to another.
#[task(name = "t.integration.tasks.sum_and_record")]
pub(crate) fn sum_and_record(context: &Context, values: Vec<Number>, redis_key: String) -> Result<Number, TaskError> {
    let sum = Number::sum(&values)?;
    redis::push(&redis_key, &Json::from_value(&context.id())?)?;
    Ok(sum)
}

/// Counts the failures of a task that it knows by its id.
#[task(name = "t.integration.tasks.errback_old_style")]
pub(crate) fn errback_old_style(request_id: String) -> Result<String, TaskError> {
    redis::increment(&request_id)?;
    Ok(request_id)
}

/// Counts the failures of a task that it knows by its request.
#[task(name = "t.integration.tasks.errback_new_style")]
pub(crate) fn errback_new_style(request: Value, _exc: Json, _tb: Json) -> Result<String, TaskError> {
    errback_old_style(id_of(&request)?)
}

/// Appends what it was given in advance to a list that is called like the failed task.
#[task(name = "t.integration.tasks.errback_old_style_with_args")]
pub(crate) fn errback_old_style_with_args(request_id: String, label: Json) -> Result<(), TaskError> {
    redis::push(&request_id, &label)
}

/// The same with a request.
#[task(name = "t.integration.tasks.errback_new_style_with_args")]
pub(crate) fn errback_new_style_with_args(request: Value, _exc: Json, _tb: Json, label: Json) -> Result<(), TaskError> {
    redis::push(&id_of(&request)?, &label)
}

fn id_of(request: &Value) -> Result<String, TaskError> {
    let id = request["id"].as_str().ok_or_else(|| TaskError::new("AttributeError", "the request has no id"))?;
    Ok(id.to_owned())
}
