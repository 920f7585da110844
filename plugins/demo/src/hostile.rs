//! Tasks that a worker has to survive.

use std::hint::black_box;
use std::process;
use std::time::{Duration, Instant};

use taskhost::{TaskError, task};

/// Burns CPU for so many seconds, or for ever, and returns how many rounds it made.
#[task(name = "tasks.spin")]
pub(crate) fn spin(seconds: Option<f64>) -> Result<u64, TaskError> {
    let duration = match seconds {
        Some(seconds) => crate::duration(seconds)?,
        None => Duration::MAX,
    };
    let start = Instant::now();
    let mut rounds = 0;
    loop {
        for _ in 0..100_000 {
            rounds = black_box(rounds + 1);
        }
        // Not even a call of the host for the one that never ends.
        if seconds.is_some() && start.elapsed() >= duration {
            return Ok(rounds);
        }
    }
}

/// Allocates so many megabytes, writes to every page, and returns how many bytes there are.
#[task(name = "tasks.allocate")]
pub(crate) fn allocate(megabytes: usize) -> usize {
    let mut blocks = Vec::new();
    for _ in 0..megabytes {
        let mut block = vec![0_u8; 1 << 20];
        block.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        blocks.push(black_box(block));
    }
    blocks.iter().map(Vec::len).sum()
}

/// Calls itself until the stack is used up.
#[task(name = "tasks.recurse")]
pub(crate) fn recurse() -> u64 {
    deeper(black_box(1))
}

// Everything stays in registers. A frame in linear memory would run out of Rust's own stack of 1 MiB first, which
// shows as an access out of bounds instead of an exhausted call stack.
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { deeper(depth + 1).wrapping_mul(31) ^ depth }
}

/// Panics, as a bug would.
#[task(name = "tasks.panic")]
pub(crate) fn panic(#[default = "a bug in the task"] message: &str) {
    panic!("{message}");
}

/// Exits the process that it believes to be; of the code the host learns only whether it is zero.
#[task(name = "tasks.exit")]
pub(crate) fn exit(#[default = 1] code: i32) {
    process::exit(code);
}
