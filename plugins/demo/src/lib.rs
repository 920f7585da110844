//! Tasks to try Taskhost with: useful ones, failing ones and hostile ones.

use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use taskhost::{Context, Json, Retry, TaskError, task};

mod calling;
mod composing;
mod granted;
mod hostile;

taskhost::plugin!(
    add,
    sleep,
    fail,
    flaky,
    replaced,
    slow_flaky,
    unsteady,
    reject,
    echo,
    noop,
    log,
    request,
    graceful,
    progress,
    announce,
    report,
    limited,
    soft_limited,
    calling::publish,
    calling::replace,
    calling::relay,
    calling::result,
    composing::apply,
    composing::r#become,
    composing::extend,
    composing::fan_out,
    composing::join,
    granted::variable,
    granted::setting,
    granted::length,
    granted::read,
    granted::write,
    granted::keep,
    hostile::spin,
    hostile::allocate,
    hostile::recurse,
    hostile::panic,
    hostile::exit,
);

/// A number as Python has it: an integer unless it has a fraction.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(untagged, expecting = "not a number that fits into 64 bits")]
enum Number {
    Integer(i64),
    Real(f64),
}

/// Adds two numbers.
#[task(name = "tasks.add")]
fn add(x: Number, y: Number) -> Result<Number, TaskError> {
    match (x, y) {
        (Number::Integer(x), Number::Integer(y)) => match x.checked_add(y) {
            Some(sum) => Ok(Number::Integer(sum)),
            None => Err(TaskError::new("OverflowError", "the sum does not fit into 64 bits")),
        },
        _ => Ok(Number::Real(x.real() + y.real())),
    }
}

impl Number {
    fn real(self) -> f64 {
        match self {
            Number::Integer(integer) => integer as f64,
            Number::Real(real) => real,
        }
    }
}

/// Waits so many seconds and returns them.
#[task(name = "tasks.sleep")]
fn sleep(seconds: f64) -> Result<f64, TaskError> {
    thread::sleep(duration(seconds)?);
    Ok(seconds)
}

fn duration(seconds: f64) -> Result<Duration, TaskError> {
    Duration::try_from_secs_f64(seconds).map_err(|error| TaskError::new("ValueError", error))
}

/// Raises the exception of one's choice.
#[task(name = "tasks.fail")]
fn fail(
    #[default = "this task always fails"] message: &str,
    #[default = "ValueError"] exc_type: &str,
    #[default = "builtins"] exc_module: &str,
) -> Result<(), TaskError> {
    Err(TaskError::new(exc_type, message).module(exc_module))
}

/// Asks for so many retries, then succeeds and returns how many there were.
#[task(name = "tasks.flaky", max_retries = None)]
fn flaky(context: &Context, #[default = 2] times: u32, #[default] countdown: f64) -> Result<u32, TaskError> {
    let retries = context.retries();
    if retries < times {
        let cause = TaskError::new("ConnectionError", format!("attempt {} of {}", retries + 1, times + 1));
        return Err(Retry::new().countdown(countdown).cause(cause).into());
    }
    Ok(retries)
}

/// Takes so many seconds each time, asks for one retry at the end of the first, and returns how many there were.
#[task(name = "tasks.slow_flaky", max_retries = None)]
fn slow_flaky(context: &Context, seconds: f64) -> Result<u32, TaskError> {
    sleep(seconds)?;
    flaky(context, 1, 0.0)
}

/// Rejects its message, which then goes back to its queue if that is wanted.
#[task(name = "tasks.reject")]
fn reject(#[default] requeue: bool) -> Result<(), TaskError> {
    Err(TaskError::reject(requeue))
}

/// Fails so many times with a ConnectionError, then succeeds and returns how many retries there were. It asks for none:
/// its options do.
#[task(name = "tasks.unsteady", autoretry_for = ["ConnectionError"], max_retries = 2, default_retry_delay = 0)]
fn unsteady(context: &Context, #[default = 1] times: u32) -> Result<u32, TaskError> {
    let retries = context.retries();
    if retries < times {
        return Err(TaskError::new("ConnectionError", format!("attempt {}", retries + 1)));
    }
    Ok(retries)
}

/// Asks for a retry with another word, and returns that one then.
#[task(name = "tasks.replaced")]
fn replaced(context: &Context, word: String, #[default] countdown: f64) -> Result<String, TaskError> {
    if context.retries() == 0 {
        return Err(Retry::new().countdown(countdown).args(["second"]).into());
    }
    Ok(word)
}

/// Returns what it is given, byte for byte.
#[task(name = "tasks.echo")]
fn echo(payload: Json) -> Json {
    payload
}

/// Does nothing, for benchmarks.
#[task(name = "tasks.noop")]
fn noop() {}

/// Writes a line to stdout or stderr.
#[task(name = "tasks.log")]
fn log(line: &str, #[default] stderr: bool) {
    if stderr {
        eprintln!("{line}");
    } else {
        println!("{line}");
    }
}

/// Returns all that the host knows about this call.
#[task(name = "tasks.request")]
fn request(context: &Context) -> Json {
    context.request_json()
}

/// Waits so many seconds unless told to stop, and returns whether it was.
#[task(name = "tasks.graceful", handles_soft_limit)]
fn graceful(context: &Context, #[default = 60.0] seconds: f64) -> Result<bool, TaskError> {
    let end = Instant::now() + duration(seconds)?;
    while !context.cancelled() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        thread::sleep(left.min(Duration::from_millis(10)));
    }
    Ok(true)
}

/// Makes so many steps with a pause before each, tells how far it is, rests, and returns how many steps it made.
#[task(name = "tasks.progress")]
fn progress(
    context: &Context,
    #[default = 5] steps: u64,
    #[default = 0.5] pause: f64,
    #[default] rest: f64,
) -> Result<u64, TaskError> {
    let (pause, rest) = (duration(pause)?, duration(rest)?);
    for step in 1..=steps {
        thread::sleep(pause);
        context.progress(step, steps);
    }
    thread::sleep(rest);
    Ok(steps)
}

/// Gives itself a state with any meta, waits so many seconds, and returns nothing.
#[task(name = "tasks.report")]
fn report(
    context: &Context,
    state: &str,
    #[default] meta: Option<Json>,
    #[default] pause: f64,
) -> Result<(), TaskError> {
    context.update_state(state, &meta)?;
    thread::sleep(duration(pause)?);
    Ok(())
}

/// Tells monitors an event of its own kind so many times, and returns nothing.
#[task(name = "tasks.announce")]
fn announce(
    context: &Context,
    kind: &str,
    #[default] fields: Option<Json>,
    #[default = 1] times: u64,
) -> Result<(), TaskError> {
    let fields = fields.unwrap_or_else(|| Json::from_text("{}"));
    for _ in 0..times {
        context.send_event(kind, &fields)?;
    }
    Ok(())
}

/// As tasks.sleep, but has only one second.
#[task(name = "tasks.limited", time_limit = 1)]
fn limited(seconds: f64) -> Result<f64, TaskError> {
    sleep(seconds)
}

/// As tasks.sleep, but is to end after one second.
#[task(name = "tasks.soft_limited", soft_time_limit = 1)]
fn soft_limited(seconds: f64) -> Result<f64, TaskError> {
    sleep(seconds)
}
