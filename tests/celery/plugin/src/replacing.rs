//! Tasks that have one other run in their place.

use serde_json::Value;
use taskhost::{Context, Json, Signature, TaskError, task};

use crate::pure::Number;
use crate::request::fact;

/// Has `add` run in its place.
#[task(name = "t.integration.tasks.add_replaced")]
pub(crate) fn add_replaced(x: Number, y: Number) -> Result<(), TaskError> {
    Err(TaskError::replace(&Signature::new("t.integration.tasks.add").args((x, y))))
}

/// Has a task that fails run in its place.
#[task(name = "t.integration.tasks.fail_replaced")]
pub(crate) fn fail_replaced(#[args] args: Vec<Json>) -> Result<(), TaskError> {
    Err(TaskError::replace(&Signature::new("t.integration.tasks.fail").args(args)))
}

/// Has itself run in its place so many times, and returns how deep each of them was.
#[task(name = "t.integration.tasks.record_replaced_task_nesting")]
pub(crate) fn record_replaced_task_nesting(
    context: &Context,
    replacements: u32,
    nesting: Option<Vec<Value>>,
) -> Result<Vec<Value>, TaskError> {
    let mut nesting = nesting.unwrap_or_default();
    nesting.push(fact(context, "replaced_task_nesting"));
    let Some(left) = replacements.checked_sub(1) else { return Ok(nesting) };
    let itself = Signature::new("t.integration.tasks.record_replaced_task_nesting").args((left, nesting));
    // With results by `rpc://` the one in its place answers the same client.
    Err(TaskError::replace(&itself.option("reply_to", fact(context, "reply_to"))))
}
