//! One task that does nothing: what the SDK alone costs.

use taskhost::task;

taskhost::plugin!(noop);

/// Does nothing, for benchmarks.
#[task(name = "tasks.noop")]
fn noop() {}
