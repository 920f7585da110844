//! Tasks that come to nothing.

use taskhost::{Context, Json, TaskError, task};

/// The exception that the tests expect, of the class that they know.
#[track_caller]
pub(crate) fn expected(arguments: &[Json]) -> TaskError {
    TaskError::new("ExpectedException", "").module("t.integration.tasks").arguments(arguments)
}

/// Fails.
#[task(name = "t.integration.tasks.raise_error")]
pub(crate) fn raise_error(#[args] _ignored: Vec<Json>) -> Result<(), TaskError> {
    Err(TaskError::new("ValueError", "deliberate error"))
}

/// Fails as the tests expect it, with its arguments in the exception.
#[task(name = "t.integration.tasks.fail")]
pub(crate) fn fail(#[args] mut args: Vec<Json>) -> Result<(), TaskError> {
    args.insert(0, Json::from_text("\"Task expected to fail\""));
    Err(expected(&args))
}

/// Gives its message back for good.
#[task(name = "t.integration.tasks.reject_without_requeue")]
pub(crate) fn reject_without_requeue() -> Result<(), TaskError> {
    Err(TaskError::reject(false))
}

/// Gives its message back once.
#[task(name = "t.integration.tasks.reject_then_succeed", acks_late)]
pub(crate) fn reject_then_succeed(context: &Context) -> Result<&'static str, TaskError> {
    match context.request()["delivery_info"]["redelivered"].as_bool() {
        Some(true) => Ok("second-pass"),
        _ => Err(TaskError::reject(true)),
    }
}
