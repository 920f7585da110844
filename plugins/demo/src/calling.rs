//! Tasks that call other tasks and look at their results. This plugin declares neither, so they are all denied; add
//! `[needs]` to `plugin.toml` and `[grants.demo]` to `host.toml` to see them work.

use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use taskhost::{Context, Json, Signature, TaskError, task};

/// A task to be called.
#[derive(Deserialize)]
pub(crate) struct Call {
    task: String,
    args: Option<Json>,
    #[serde(default)]
    options: Map<String, Value>,
}

impl Call {
    fn signature(self) -> Signature {
        let signature = Signature::new(self.task).args(self.args.unwrap_or(Json::from_text("[]")));
        self.options.into_iter().fold(signature, |signature, (name, value)| signature.option(&name, value))
    }
}

/// Calls other tasks, waits so many seconds, and returns their ids; or fails with them.
#[task(name = "tasks.publish")]
pub(crate) fn publish(
    context: &Context,
    calls: Vec<Call>,
    #[default] now: bool,
    #[default] fail: bool,
    #[default] pause: f64,
) -> Result<Vec<String>, TaskError> {
    let mut ids = Vec::with_capacity(calls.len());
    for call in calls {
        let signature = call.signature();
        ids.push(if now { context.publish_now(&signature)? } else { context.publish(&signature)? });
    }
    println!("made calls {}", ids.join(" "));
    thread::sleep(super::duration(pause)?);
    match fail {
        true => Err(TaskError::new("ValueError", "as was wanted").arguments(ids)),
        false => Ok(ids),
    }
}

/// Has another task run in its place, after it has called some more.
#[task(name = "tasks.replace")]
pub(crate) fn replace(context: &Context, other: Call, #[default] calls: Vec<Call>) -> Result<(), TaskError> {
    for call in calls {
        context.publish(&call.signature())?;
    }
    Err(TaskError::replace(&other.signature()))
}

/// Calls another task and returns its result; or waits for one that will not be called before this one is done.
#[task(name = "tasks.relay")]
pub(crate) fn relay(
    context: &Context,
    call: Call,
    #[default = 30.0] timeout: f64,
    #[default = true] now: bool,
) -> Result<Json, TaskError> {
    let signature = call.signature();
    let id = if now { context.publish_now(&signature)? } else { context.publish(&signature)? };
    Ok(context.wait(&id, Duration::from_secs_f64(timeout))?.result)
}

/// Returns what is known about a task.
#[task(name = "tasks.result")]
pub(crate) fn result(context: &Context, id: &str) -> Result<Json, TaskError> {
    Ok(context.result(id)?.meta)
}
