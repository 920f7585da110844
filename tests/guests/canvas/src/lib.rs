//! The tasks of the differential test: those of `tests/fixtures/canvas/tasks.py`, with the same behaviour.

mod record;
mod sending;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use record::{keep, keep_args, shown, shown_inside};
use serde_json::{Value, json};
use taskhost::{Context, Retry, TaskError, task};

taskhost::plugin!(
    put,
    slow,
    item,
    fail,
    flaky,
    auto,
    old_errback,
    heard,
    new_errback,
    sending::replace,
    sending::extend,
    sending::spread,
    sending::compose,
);

/// How long a task waits for its retry, in seconds.
const PAUSE: f64 = 0.2;

/// Says how it was called.
#[task(name = "diff.put")]
fn put(
    context: &Context,
    #[args] mut args: Vec<Value>,
    label: String,
    #[kwargs] more: BTreeMap<String, Value>,
) -> Result<String, TaskError> {
    let more = Value::from_iter(more);
    let facts = [("args", shown(&args.clone().into()).into()), ("more", shown(&more).into())];
    keep(context, &label, facts)?;
    if more.as_object().is_some_and(|more| !more.is_empty()) {
        args.push(more);
    }
    Ok(format!("{label}({})", shown_inside(args)))
}

/// Says how it was called after so many seconds.
#[task(name = "diff.slow")]
fn slow(context: &Context, #[args] args: Vec<Value>, label: String, seconds: f64) -> Result<String, TaskError> {
    keep_args(context, &label, &args)?;
    thread::sleep(Duration::try_from_secs_f64(seconds)?);
    Ok(format!("{label}({})", shown_inside(args)))
}

/// Says how it was called, by a map.
#[task(name = "diff.item")]
fn item(label: String, #[args] args: Vec<Value>) -> Result<String, TaskError> {
    record::write(&label, json!({"args": shown(&json!(args))}))?;
    if args == [json!("fail")] {
        return Err(TaskError::new("KeyError", &label));
    }
    Ok(format!("{label}({})", shown_inside(args)))
}

/// Fails.
#[task(name = "diff.fail")]
fn fail(context: &Context, #[args] args: Vec<Value>, label: String) -> Result<(), TaskError> {
    keep_args(context, &label, &args)?;
    Err(TaskError::new("ValueError", "").arguments((format!("{label} failed"), args.len())))
}

/// Asks for a retry so many times, of so many at most.
#[task(name = "diff.flaky")]
fn flaky(
    context: &Context,
    #[args] args: Vec<Value>,
    label: String,
    times: u32,
    most: Option<u32>,
) -> Result<String, TaskError> {
    keep_args(context, &label, &args)?;
    if context.retries() < times {
        let cause = TaskError::new("ConnectionError", format!("{label}: {} of {times}", context.retries() + 1));
        let retry = Retry::new().countdown(PAUSE).cause(cause);
        return Err(most.into_iter().fold(retry, Retry::max_retries).into());
    }
    Ok(format!("{label}({})", shown_inside(args)))
}

/// Fails so many times, and is run again for it.
#[task(name = "diff.auto", autoretry_for = ["OSError"], default_retry_delay = 0.2, max_retries = 2)]
fn auto(context: &Context, #[args] args: Vec<Value>, label: String, times: u32) -> Result<String, TaskError> {
    keep_args(context, &label, &args)?;
    if context.retries() < times {
        return Err(TaskError::new("OSError", label));
    }
    Ok(format!("{label}({})", shown_inside(args)))
}

/// Hears which task has failed.
#[task(name = "diff.old_errback")]
fn old_errback(context: &Context, failed: Value, label: String) -> Result<String, TaskError> {
    keep_args(context, &label, &[failed])?;
    Ok(label)
}

/// Hears that a task has failed.
#[task(name = "diff.heard")]
fn heard(context: &Context, label: String) -> Result<String, TaskError> {
    keep(context, &label, [])?;
    Ok(label)
}

/// Hears which task has failed, and why.
#[task(name = "diff.new_errback")]
fn new_errback(request: Value, exc: Value, traceback: Value, label: String) -> Result<String, TaskError> {
    let arguments = exc["exc_message"].as_array().cloned().unwrap_or_default();
    let arguments: Vec<String> = arguments.iter().map(record::python).collect();
    let exc = format!("{}({})", exc["exc_type"].as_str().unwrap_or_default(), arguments.join(", "));
    let traced = !matches!(traceback.as_str(), None | Some(""));
    let facts = json!({"failed": request["id"], "task": request["task"], "exc": exc, "traced": traced});
    record::write(&label, facts)?;
    Ok(label)
}
