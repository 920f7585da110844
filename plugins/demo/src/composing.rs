//! Tasks that have others run as a canvas says. As those of [`crate::calling`] they are denied until they are granted.

use taskhost::{AsyncResult, Context, Json, Signature, TaskError, group, task};

/// Has a task called once for each item, side by side; whoever called this one gets the list of their results.
#[task(name = "tasks.fan_out")]
pub(crate) fn fan_out(task: &str, items: Vec<Json>) -> Result<(), TaskError> {
    let calls = items.into_iter().map(|item| Signature::new(task).args((item,)));
    Err(TaskError::replace(&group(calls)))
}

/// Publishes whatever a canvas says, and returns where the results will be.
#[task(name = "tasks.apply")]
pub(crate) fn apply(context: &Context, canvas: Signature, #[default] now: bool) -> Result<AsyncResult, TaskError> {
    Ok(if now { context.apply_now(&canvas)? } else { context.apply(&canvas)? })
}

/// Publishes a canvas, and returns the results of all members of a group, or of the last task.
#[task(name = "tasks.join")]
pub(crate) fn join(
    context: &Context,
    canvas: Signature,
    #[default = 30.0] timeout: f64,
) -> Result<Vec<Json>, TaskError> {
    let result = context.apply_now(&canvas)?;
    let joined = context.join(&result, super::duration(timeout)?)?;
    Ok(joined.into_iter().map(|joined| joined.result).collect())
}

/// Has a canvas run in its place.
#[task(name = "tasks.become")]
pub(crate) fn r#become(canvas: Signature) -> Result<(), TaskError> {
    Err(TaskError::replace(&canvas))
}

/// Adds to the chord that it is in, and returns a value.
#[task(name = "tasks.extend")]
pub(crate) fn extend(
    context: &Context,
    canvases: Vec<Signature>,
    #[default] value: Option<Json>,
) -> Result<Option<Json>, TaskError> {
    for canvas in &canvases {
        context.add_to_chord(canvas)?;
    }
    Ok(value)
}
