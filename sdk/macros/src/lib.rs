//! The attribute `#[task]` of the Taskhost guest SDK; use it through the crate `taskhost`.

use proc_macro::TokenStream;

mod expand;
mod export;
mod options;
mod parameter;
mod schema;

/// Makes a function a task.
///
/// ```ignore
/// /// Makes an image smaller.            <- the first line of the doc comment is the task's summary
/// #[task(name = "images.resize", max_retries = 5, rate_limit = "10/m", acks_late)]
/// fn resize(context: &Context, url: &str, #[default = 100] width: u32, title: Option<String>) -> Result<Image, TaskError>
/// ```
///
/// **Name.** Without `name` it is the crate's name, a dot and the function's name.
///
/// **Options** are Celery's: `acks_late`, `acks_on_failure_or_timeout`, `autoretry_for`, `compression`,
/// `default_retry_delay`, `dont_autoretry_for`, `exchange`, `expires`, `handles_soft_limit`, `ignore_result`, `max_retries`,
/// `priority`, `queue`, `rate_limit`, `reject_on_worker_lost`, `retry_backoff`, `retry_backoff_max`, `retry_jitter`,
/// `routing_key`, `send_events`, `serializer`, `soft_time_limit`, `store_errors_even_if_ignored`, `throws`, `time_limit`,
/// `track_started`. Values are written out: numbers, `true`, strings, arrays of strings, and `None` (so `max_retries = None`
/// is no limit). A flag may stand alone. What is not given is left to the worker.
///
/// **Parameters** are bound by position or keyword as in Python, and parsed with serde. `&str`, `&[T]` and `&T` are parsed as
/// `String`, `Vec<T>` and `T`. A parameter that is an `Option`, or that has `#[default]` or `#[default = value]`, may be
/// left out. `#[args]` on a list takes further positional arguments and `#[kwargs]` on a map further keywords, as Python's
/// `*args` and `**kwargs` do. `&Context` is not an argument. Wrong arguments fail the task with a `TypeError` that names the parameter.
///
/// **Result**: anything that is `Serialize`, or a `Result` of it whose error converts into `TaskError`, as every
/// `std::error::Error` does; an error that can merely be shown, such as `String` or `anyhow::Error`, fails as `TaskError`.
///
/// **Schema.** The arguments are described as a JSON Schema, from which `host plugin stubs` makes signatures: numbers, strings, lists,
/// maps, tuples and options of them by their types, anything else as anything.
///
/// **Asynchronous tasks** are an `async fn`: they wait for several things at a time, see `taskhost::sleep`. A plugin that has one
/// exports `tasks-async` in place of `tasks`, and its other tasks with it.
///
/// The function remains an ordinary function. The task is known by a type of the same name, for `taskhost::plugin!`.
#[proc_macro_attribute]
pub fn task(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let crate_name = std::env::var("CARGO_CRATE_NAME").unwrap_or_else(|_| "tasks".to_owned());
    match expand::expand(attribute.into(), item.into(), &crate_name) {
        Ok(tokens) => tokens.into(),
        Err(error) => error.into_compile_error().into(),
    }
}

/// Exports these tasks as a plugin. Once in a crate; a task of another module is named by its path. If any of them is
/// asynchronous, the plugin is.
///
/// ```ignore
/// mod images {
///     #[taskhost::task]
///     pub fn resize(width: u32) -> u32 {
///         width / 2
///     }
/// }
/// taskhost::plugin!(images::resize);
/// ```
#[proc_macro]
pub fn plugin(tasks: TokenStream) -> TokenStream {
    match export::expand(tasks.into()) {
        Ok(tokens) => tokens.into(),
        Err(error) => error.into_compile_error().into(),
    }
}
