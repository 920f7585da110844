//! The two functions that a plugin exports, over a list of tasks.

use std::pin::Pin;

use crate::bindings::exports::taskhost::task::tasks::{Invocation, TaskInfo};
use crate::bindings::taskhost::task::types::{Delay, Error, Failure, Retry as WireRetry};
use crate::context::Context;
use crate::error::{End, Raised, TaskError};
use crate::json::Json;
use crate::retry::{Due, Retry};

/// A task, as the attribute `#[task]` describes it.
#[derive(Debug)]
pub struct Task {
    /// The name that clients use.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// A JSON Schema of the arguments: an object with a property for each, in their order.
    pub schema: &'static str,
    /// Celery's option names with JSON values.
    pub options: &'static [(&'static str, &'static str)],
    /// The name of the function, for tracebacks.
    pub function: &'static str,
    /// Binds the arguments (a JSON array and a JSON object), calls the function and writes its result as JSON.
    pub call: Call,
}

/// How the function of a task is called: with the arguments, positional and by keyword.
#[derive(Debug, Clone, Copy)]
pub enum Call {
    /// It returns when it is done.
    Sync(fn(&Context, &str, &str) -> Result<String, TaskError>),
    /// It waits meanwhile for other things.
    Async(for<'a> fn(&'a Context, &'a str, &'a str) -> Running<'a>),
}

/// An asynchronous task that is not done yet.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<String, TaskError>> + 'a>>;

/// What `#[task]` defines beside the function, under the same name.
pub trait Definition {
    /// The task.
    const TASK: Task;
}

/// Fails to compile if two tasks have the same name.
pub const fn assert_distinct(tasks: &[Task]) {
    let mut i = 0;
    while i < tasks.len() {
        let mut j = 0;
        while j < i {
            assert!(
                !same(tasks[i].name.as_bytes(), tasks[j].name.as_bytes()),
                "two tasks of this plugin have the same name"
            );
            j += 1;
        }
        i += 1;
    }
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// `tasks.describe`.
pub fn describe(tasks: &[Task]) -> Vec<TaskInfo> {
    let info = |task: &Task| TaskInfo {
        name: task.name.to_owned(),
        summary: task.summary.to_owned(),
        schema: Some(task.schema.to_owned()),
        options: task.options.iter().map(|(name, json)| ((*name).to_owned(), (*json).to_owned())).collect(),
    };
    tasks.iter().map(info).collect()
}

/// `tasks.run`.
#[expect(clippy::result_large_err, reason = "the generated trait wants this type")]
pub fn run(tasks: &[Task], invocation: Invocation) -> Result<String, Failure> {
    let Invocation { id, task: name, args, kwargs, retries } = invocation;
    prepare();
    // A plugin with others than these is exported otherwise.
    let Some(Task { call: Call::Sync(call), function, .. }) = find(tasks, &name) else {
        return Err(unknown(&name));
    };
    let context = Context::new(id, name, retries);
    call(&context, &args, &kwargs).map_err(|error| failure(error, function))
}

/// `tasks-async.run`.
pub async fn run_async(tasks: &[Task], invocation: Invocation) -> Result<String, Failure> {
    let Invocation { id, task: name, args, kwargs, retries } = invocation;
    prepare();
    let Some(task) = find(tasks, &name) else { return Err(unknown(&name)) };
    let context = Context::new(id, name, retries);
    let returned = match task.call {
        Call::Sync(call) => call(&context, &args, &kwargs),
        Call::Async(call) => call(&context, &args, &kwargs).await,
    };
    returned.map_err(|error| failure(error, task.function))
}

fn prepare() {
    report_panics();
    #[cfg(feature = "log")]
    crate::logging::install();
}

fn unknown(name: &str) -> Failure {
    failure(TaskError::new("NotRegistered", name).module("celery.exceptions"), "run")
}

/// Names of a plugin begin alike, so the last letter goes first: it saves most of the comparisons.
fn find<'a>(tasks: &'a [Task], name: &str) -> Option<&'a Task> {
    let last = name.as_bytes().last();
    tasks.iter().find(|task| task.name.as_bytes().last() == last && task.name == name)
}

/// A panic ends the instance with a trap, which says nothing; stderr goes to the worker's log.
fn report_panics() {
    #[cfg(target_family = "wasm")]
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
}

#[cold]
fn failure(error: TaskError, function: &str) -> Failure {
    match error.into_end() {
        End::Failed(raised) => Failure::Failed(exception(raised, function)),
        End::Retry(retry) => match retry {
            Retry { broken: Some(error), .. } => failure(error, function),
            Retry { due, max_retries, args, kwargs, cause, broken: None } => Failure::Retry(WireRetry {
                cause: cause.and_then(|cause| match cause.into_end() {
                    End::Failed(raised) => Some(exception(raised, function)),
                    _ => None,
                }),
                delay: match due {
                    Due::Default => Delay::Default,
                    Due::Countdown(seconds) => Delay::Countdown(seconds),
                    Due::Eta(time) => Delay::Eta(time),
                },
                max_retries,
                args: args.map(Json::into_string),
                kwargs: kwargs.map(Json::into_string),
            }),
        },
        End::Reject { requeue } => Failure::Reject(requeue),
        End::Ignore => Failure::Ignore,
        End::Replace(signature) => Failure::Replace(signature.into_string()),
    }
}

fn exception(raised: Raised, function: &str) -> Error {
    let traceback = raised.render_traceback(function);
    let Raised { exc_type, exc_module, arguments, message, .. } = raised;
    let arguments = match arguments {
        Some(json) => json.into_string(),
        None => serde_json::to_string(&[message]).expect("a string is JSON"),
    };
    Error { exc_type, exc_module, arguments, traceback: Some(traceback) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASKS: &[Task] = &[task("retry", retry), task("fail", fail), task("end", end)];

    const fn task(name: &'static str, call: fn(&Context, &str, &str) -> Result<String, TaskError>) -> Task {
        Task {
            name,
            summary: "",
            schema: "{}",
            options: &[("max_retries", "null")],
            function: name,
            call: Call::Sync(call),
        }
    }

    fn retry(context: &Context, args: &str, _: &str) -> Result<String, TaskError> {
        if context.retries() > 0 {
            return Ok(args.to_owned());
        }
        let cause = TaskError::new("ConnectionError", "no \"route\"");
        Err(Retry::new().countdown(2.5).max_retries(7).args((1, "a")).cause(cause).into())
    }

    fn fail(_: &Context, _: &str, kwargs: &str) -> Result<String, TaskError> {
        Err(TaskError::new("KeyError", "k").arguments(Json::from_text(kwargs)).traceback("text"))
    }

    fn end(_: &Context, args: &str, _: &str) -> Result<String, TaskError> {
        Err(match args {
            "[0]" => TaskError::reject(true),
            "[1]" => TaskError::ignore(),
            "[2]" => TaskError::replace_by(Json::from_text("{}")),
            _ => Retry::new().kwargs(std::collections::BTreeMap::from([((1, 2), 3)])).into(),
        })
    }

    #[expect(clippy::result_large_err, reason = "as `run`")]
    fn run_one(name: &str, args: &str, kwargs: &str, retries: u32) -> Result<String, Failure> {
        let (task, args, kwargs) = (name.to_owned(), args.to_owned(), kwargs.to_owned());
        run(TASKS, Invocation { id: "id".to_owned(), task, args, kwargs, retries })
    }

    #[track_caller]
    fn failed(result: Result<String, Failure>) -> Error {
        match result {
            Err(Failure::Failed(error)) => error,
            other => panic!("is no failure: {other:?}"),
        }
    }

    #[test]
    fn a_task_is_found_by_name() {
        assert_eq!(run_one("retry", "[5]", "{}", 1).expect("succeeds"), "[5]");
        let error = failed(run_one("entry", "[]", "{}", 0));
        assert_eq!((&*error.exc_type, error.exc_module.as_deref()), ("NotRegistered", Some("celery.exceptions")));
        assert_eq!(error.arguments, "[\"entry\"]");
    }

    #[test]
    fn a_retry_carries_its_cause() {
        let Err(Failure::Retry(retry)) = run_one("retry", "[]", "{}", 0) else { panic!("is no retry") };
        assert!(matches!(retry.delay, Delay::Countdown(2.5)), "{:?}", retry.delay);
        assert_eq!((retry.max_retries, retry.args.as_deref(), retry.kwargs), (Some(7), Some("[1,\"a\"]"), None));
        let cause = retry.cause.expect("was given");
        assert_eq!((&*cause.exc_type, &*cause.arguments), ("ConnectionError", "[\"no \\\"route\\\"\"]"));
        assert!(cause.traceback.is_some_and(|text| text.contains(", in retry\nConnectionError: no \"route\"\n")));
    }

    #[test]
    fn a_failure_is_passed_on_as_chosen() {
        let error = failed(run_one("fail", "[]", "{\"a\": NaN}", 0));
        assert_eq!((&*error.arguments, error.traceback.as_deref()), ("[{\"a\": NaN}]", Some("text")));
    }

    #[test]
    fn the_other_ends_have_their_own_cases() {
        assert!(matches!(run_one("end", "[0]", "{}", 0), Err(Failure::Reject(true))));
        assert!(matches!(run_one("end", "[1]", "{}", 0), Err(Failure::Ignore)));
        assert!(matches!(run_one("end", "[2]", "{}", 0), Err(Failure::Replace(signature)) if signature == "{}"));
    }

    #[test]
    fn replacement_arguments_that_are_no_json_fail_the_task() {
        assert_eq!(failed(run_one("end", "[3]", "{}", 0)).exc_type, "TypeError");
    }

    #[test]
    fn tasks_are_described_with_their_options() {
        let first = &describe(TASKS)[0];
        assert_eq!((&*first.name, &first.options), ("retry", &vec![("max_retries".to_owned(), "null".to_owned())]));
        assert_eq!(first.schema.as_deref(), Some("{}"));
    }
}
