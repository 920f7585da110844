//! Tasks that call others.

use std::time::Duration;

use taskhost::{AsyncResult, Context, Json, Signature, TaskError, task};

fn signature(task: &str, args: Json) -> Signature {
    Signature::new(task).args(args)
}

/// Has another task run in its place.
#[task(name = "contract.replace")]
pub(crate) fn replace(task: &str, args: Json) -> Result<(), TaskError> {
    Err(TaskError::replace(&signature(task, args)))
}

/// Calls another task, now or once it has succeeded.
#[task(name = "contract.publish")]
pub(crate) fn publish(
    context: &Context,
    task: &str,
    args: Json,
    #[default] now: bool,
    #[default] fail: bool,
) -> Result<String, TaskError> {
    let signature = signature(task, args);
    let id = if now { context.publish_now(&signature)? } else { context.publish(&signature)? };
    if fail {
        return Err(TaskError::new("ValueError", id));
    }
    Ok(id)
}

/// Publishes a canvas of its client's, and returns where the results will be.
#[task(name = "contract.apply")]
pub(crate) fn apply(context: &Context, canvas: Signature) -> Result<AsyncResult, TaskError> {
    Ok(context.apply_now(&canvas)?)
}

/// Calls another task, and returns its result.
#[task(name = "contract.ask")]
pub(crate) fn ask(
    context: &Context,
    task: &str,
    args: Json,
    #[default = 20.0] timeout: f64,
) -> Result<Json, TaskError> {
    let id = context.publish_now(&signature(task, args))?;
    Ok(context.wait(&id, Duration::try_from_secs_f64(timeout)?)?.result)
}

/// Adds to the chord that it is in.
#[task(name = "contract.extend")]
pub(crate) fn extend(context: &Context, items: Vec<i64>) -> Result<i64, TaskError> {
    for item in items {
        context.add_to_chord(&Signature::new("contract.add").args((item, 0)))?;
    }
    Ok(0)
}
