//! Write Taskhost tasks in Rust: plain functions that any Celery client calls by name.
//!
//! ```
//! use taskhost::{Context, Retry, TaskError, task};
//!
//! /// Adds two numbers.
//! #[task(name = "tasks.add", time_limit = 30, rate_limit = "10/m")]
//! fn add(x: i64, y: i64) -> i64 {
//!     x + y
//! }
//!
//! /// Succeeds at the third attempt.
//! #[task(name = "tasks.flaky", max_retries = 5)]
//! fn flaky(context: &Context, #[default = 2] times: u32) -> Result<u32, TaskError> {
//!     if context.retries() < times {
//!         return Err(Retry::new().countdown(1.0).into());
//!     }
//!     Ok(context.retries())
//! }
//!
//! taskhost::plugin!(add, flaky);
//! ```
//!
//! A plugin is a library crate with `crate-type = ["cdylib"]` that depends on `taskhost` and is built for
//! `wasm32-wasip2`. What tasks take and return is serde's. See [`macro@task`] for options and parameters,
//! [`TaskError`] for ways to fail, [`Context`] for what a task may know about its call.
//!
//! # JSON that is not JSON
//!
//! Celery's clients write JSON as Python does. An argument is parsed strictly first; only when that fails, `NaN` and
//! infinities in it become `null` and unpaired surrogate escapes U+FFFD. An argument or result that is `f64`, `f32` or an
//! `Option` of them as a whole keeps NaN and infinities (inside other results they are written as `null`). [`Json`] keeps
//! everything, numbers of 300 digits included. An integer too large for its parameter's type is a `TypeError`.
//!
//! # Logging
//!
//! What a task prints is in the worker's log, with its id and name. With the feature `log`, so are the lines of the crate
//! [`log`](https://docs.rs/log), with their level.
//!
//! # Tasks that wait
//!
//! A task has an instance to itself and may block. One that waits for several things at a time is an `async fn`:
//!
//! ```
//! use std::time::Duration;
//! use taskhost::{Context, ResultError, Signature, TaskError, join_all, task};
//!
//! /// Asks several others at a time, and gives the answers.
//! #[task(name = "tasks.ask")]
//! async fn ask(context: &Context, task: &str, words: Vec<String>) -> Result<Vec<taskhost::Json>, TaskError> {
//!     let answers = words.iter().map(async |word| -> Result<_, TaskError> {
//!         let id = context.publish_now_async(&Signature::new(task).args((word,))).await?;
//!         Ok(context.wait_async(&id, Duration::from_secs(60)).await?.result)
//!     });
//!     join_all(answers).await.into_iter().collect()
//! }
//!
//! taskhost::plugin!(ask);
//! ```
//!
//! While it waits it keeps a slot and some ten kilobytes, and no processor. What `std` blocks on, blocks all of the task.
//!
//! # Panics
//!
//! A panic is a bug: it is written to stderr with its place, ends the instance with a trap, and is no exception of yours.

extern crate self as taskhost;

#[doc(hidden)]
pub mod bindings;
mod call;
mod canvas;
mod context;
mod elements;
mod error;
mod guest;
mod json;
mod keyvalue;
mod lenient;
mod lent;
#[cfg(feature = "log")]
mod logging;
mod outcome;
mod result;
mod retry;
mod signature;
mod waiting;

pub use taskhost_macros::{plugin, task};

pub use crate::call::PublishError;
pub use crate::canvas::{Kind, Signature, chain, chord, chunks, group, xmap, xstarmap};
pub use crate::context::{Context, EventError, UpdateError};
pub use crate::error::TaskError;
pub use crate::guest::{Call, Definition, Running, Task};
pub use crate::json::Json;
pub use crate::keyvalue::{Bucket, BucketError};
pub use crate::lent::{Denied, config, secret};
pub use crate::result::{AsyncResult, ResultError, TaskResult};
pub use crate::retry::Retry;
pub use crate::waiting::{join_all, sleep};

#[doc(hidden)]
#[macro_export]
macro_rules! __export_sync {
    ($($task:path),+) => {
        const _: () = {
            struct Plugin;

            const TASKS: &[$crate::Task] = &[$(<$task as $crate::Definition>::TASK),+];
            const _: () = $crate::__private::assert_distinct(TASKS);

            impl $crate::__private::Guest for Plugin {
                fn describe() -> ::std::vec::Vec<$crate::__private::TaskInfo> {
                    $crate::__private::describe(TASKS)
                }

                fn run(
                    call: $crate::__private::Invocation,
                ) -> ::std::result::Result<::std::string::String, $crate::__private::Failure> {
                    $crate::__private::run(TASKS, call)
                }
            }

            #[cfg(target_family = "wasm")]
            $crate::bindings::export!(Plugin with_types_in $crate::bindings);
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_async {
    ($($task:path),+) => {
        const _: () = {
            struct Plugin;

            const TASKS: &[$crate::Task] = &[$(<$task as $crate::Definition>::TASK),+];
            const _: () = $crate::__private::assert_distinct(TASKS);

            impl $crate::__private::AsyncGuest for Plugin {
                fn describe() -> ::std::vec::Vec<$crate::__private::TaskInfo> {
                    $crate::__private::describe(TASKS)
                }

                async fn run(
                    call: $crate::__private::Invocation,
                ) -> ::std::result::Result<::std::string::String, $crate::__private::Failure> {
                    $crate::__private::run_async(TASKS, call).await
                }
            }

            #[cfg(target_family = "wasm")]
            $crate::bindings::asynchronous::export!(Plugin with_types_in $crate::bindings::asynchronous);
        };
    };
}

/// What the macros write names of; not for anyone else.
#[doc(hidden)]
pub mod __private {
    pub use wit_bindgen;

    pub use crate::bindings::asynchronous::exports::taskhost::task::tasks_async::Guest as AsyncGuest;
    pub use crate::bindings::exports::taskhost::task::tasks::{Guest, Invocation, TaskInfo};
    pub use crate::bindings::taskhost::task::types::Failure;
    pub use crate::guest::{assert_distinct, describe, run, run_async};
    pub use crate::outcome::{ErrorKind, Returned, TextKind, ValueKind};
    pub use crate::signature::{Parameter, Rest, Signature};
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
