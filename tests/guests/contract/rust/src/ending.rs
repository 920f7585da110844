//! Every way to end other than a result.

use std::error::Error;
use std::fmt;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use taskhost::{Context, Retry, TaskError, task};

/// An error of the plugin's own.
#[derive(Debug)]
struct ContractError(&'static str, Option<TaskErrorCause>);

/// What stands behind it.
#[derive(Debug)]
struct TaskErrorCause;

impl fmt::Display for TaskErrorCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("inner")
    }
}

impl Error for TaskErrorCause {}

impl fmt::Display for ContractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for ContractError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_ref().map(|cause| cause as _)
    }
}

/// Fails in one way or another.
#[task(name = "contract.fail")]
pub(crate) fn fail(#[default = "value"] kind: &str) -> Result<(), TaskError> {
    match kind {
        "value" => Err(TaskError::new("ValueError", "bad value").arguments(("bad value", 42))),
        "own" => Ok(deeper()?),
        "chained" => Err(ContractError("outer", Some(TaskErrorCause)))?,
        _ => Err(TaskError::new("ContractError", "")),
    }
}

fn deeper() -> Result<(), ContractError> {
    Err(ContractError("own trouble", None))
}

/// Has a bug.
#[task(name = "contract.crash")]
pub(crate) fn crash() {
    panic!("a bug in the task");
}

/// Asks for so many retries.
#[task(name = "contract.retry", max_retries = None)]
pub(crate) fn retry(context: &Context, #[default = 2] times: u32, #[default] countdown: f64) -> Result<u32, TaskError> {
    let retries = context.retries();
    if retries < times {
        let cause = TaskError::new("ConnectionError", format!("attempt {}", retries + 1));
        return Err(Retry::new().countdown(countdown).cause(cause).into());
    }
    Ok(retries)
}

/// Asks for a retry with another word.
#[task(name = "contract.retry_args")]
pub(crate) fn retry_args(context: &Context, word: String) -> Result<String, TaskError> {
    if context.retries() == 0 {
        return Err(Retry::new().countdown(0.0).args(["second"]).into());
    }
    Ok(word)
}

/// Asks for one retry too many.
#[task(name = "contract.give_up", max_retries = 1, default_retry_delay = 0)]
pub(crate) fn give_up() -> Result<(), TaskError> {
    Err(Retry::new().cause(TaskError::new("ValueError", "never")).into())
}

/// Fails so many times with what its options retry.
#[task(name = "contract.unsteady", autoretry_for = ["ConnectionError"], max_retries = 2, default_retry_delay = 0)]
pub(crate) fn unsteady(context: &Context, #[default = 1] times: u32) -> Result<u32, TaskError> {
    let retries = context.retries();
    if retries < times {
        return Err(TaskError::new("ConnectionError", format!("attempt {}", retries + 1)));
    }
    Ok(retries)
}

/// Gives its message back.
#[task(name = "contract.reject")]
pub(crate) fn reject(#[default] requeue: bool) -> Result<(), TaskError> {
    Err(TaskError::reject(requeue))
}

/// Ends with nothing.
#[task(name = "contract.ignore")]
pub(crate) fn ignore() -> Result<(), TaskError> {
    Err(TaskError::ignore())
}

/// Waits until it is told to end.
#[task(name = "contract.graceful", handles_soft_limit, soft_time_limit = 1, time_limit = 30)]
pub(crate) fn graceful(context: &Context, #[default = 60.0] seconds: f64) -> Result<&'static str, TaskError> {
    let end = Instant::now() + Duration::try_from_secs_f64(seconds)?;
    while Instant::now() < end {
        if context.cancelled() {
            return Ok("cancelled");
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok("finished")
}

/// Is stopped at its soft limit.
#[task(name = "contract.soft", soft_time_limit = 1, time_limit = 30)]
pub(crate) fn soft() {
    thread::sleep(Duration::from_secs(20));
}

/// Never ends.
#[task(name = "contract.spin", time_limit = 1)]
pub(crate) fn spin() {
    loop {
        black_box(());
    }
}

/// Takes all memory there is.
#[task(name = "contract.hog")]
pub(crate) fn hog() {
    let mut blocks = Vec::new();
    loop {
        blocks.push(black_box(vec![1_u8; 1 << 20]));
    }
}

/// Calls itself until the stack is used up.
#[task(name = "contract.recurse")]
pub(crate) fn recurse() -> u64 {
    deepest(black_box(1))
}

#[inline(never)]
fn deepest(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { deepest(depth + 1).wrapping_mul(31) ^ depth }
}
