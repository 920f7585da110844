//! What `#[task]` makes of functions, called as the host would call them.

use std::collections::BTreeMap;
use std::num::ParseIntError;
use std::pin::pin;
use std::task::{Poll, Waker};

use serde::{Deserialize, Serialize};
use taskhost::{Call, Context, Definition, Json, Retry, Task, TaskError, task};

/// Adds.
///
/// More words.
#[task(name = "tasks.add", max_retries = 3, rate_limit = "10/m", acks_late)]
fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task]
fn who(context: &Context, #[default = "nobody"] name: String, #[default] times: u32, title: Option<String>) -> String {
    format!("{} {} {} {name} {times} {title:?}", context.id(), context.task(), context.retries())
}

#[task]
fn join(words: &[String], glue: &str) -> String {
    words.join(glue)
}

#[task]
fn echo(payload: Json) -> Json {
    payload
}

#[task]
fn parse(text: &str) -> Result<i32, ParseIntError> {
    text.parse()
}

#[task]
fn again(context: &Context) -> Result<(), TaskError> {
    Err(Retry::new().countdown(1.0).args((context.retries() + 1,)).into())
}

#[derive(Deserialize, Serialize)]
struct Point {
    x: f64,
    y: f64,
}

#[task]
fn mirror(point: Point, r#type: Option<Json>) -> (Point, Option<Json>) {
    (Point { x: -point.x, y: point.y }, r#type)
}

#[task]
fn noop() {}

#[task]
fn gather(
    first: u8,
    #[args] rest: Vec<Json>,
    #[default = 7] size: u8,
    #[kwargs] named: BTreeMap<String, Json>,
) -> (u8, Vec<Json>, u8, BTreeMap<String, Json>) {
    (first, rest, size, named)
}

#[task]
fn first(word: &str, #[kwargs] _ignored: BTreeMap<String, Json>) -> String {
    word.to_owned()
}

mod shapes {
    #[taskhost::task]
    pub(crate) fn area(mut width: f64, height: f64) -> f64 {
        width *= height;
        width
    }
}

taskhost::plugin!(add, who, join, echo, parse, again, mirror, noop, gather, first, shapes::area);

#[track_caller]
fn check<T: Definition>(args: &str, kwargs: &str, expected: &str) {
    let Task { name, call, .. } = T::TASK;
    let context = Context::new("id", name, 1);
    let returned = match call {
        Call::Sync(call) => call(&context, args, kwargs),
        Call::Async(call) => finish(call(&context, args, kwargs)),
    };
    let found = returned.unwrap_or_else(|error| error.to_string());
    assert_eq!(found, expected, "{name}(*{args}, **{kwargs})");
}

/// Outside of a host nothing waits for a waker.
fn finish<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn a_task_is_described_by_its_attribute_and_doc_comment() {
    let Task { name, summary, schema, options, function, .. } = <add as Definition>::TASK;
    assert_eq!((name, summary, function), ("tasks.add", "Adds.", "add"));
    let schema: serde_json::Value = serde_json::from_str(schema).expect("is JSON");
    assert_eq!(schema["required"], serde_json::json!(["x", "y"]));
    let options: BTreeMap<_, _> = options.iter().copied().collect();
    assert_eq!(options, BTreeMap::from([("acks_late", "true"), ("max_retries", "3"), ("rate_limit", "\"10/m\"")]));
}

#[test]
fn a_task_without_a_name_is_called_after_crate_and_function() {
    assert_eq!(<noop as Definition>::TASK.name, "task.noop");
    assert_eq!(<shapes::area as Definition>::TASK.name, "task.area");
}

#[test]
fn arguments_come_by_place_and_by_name() {
    check::<add>("[2, 3]", "{}", "5");
    check::<add>("[2]", r#"{"y": 3}"#, "5");
    check::<shapes::area>("[]", r#"{"height": 2, "width": 1.5}"#, "3.0");
    check::<join>(r#"[["a", "b"], "-"]"#, "{}", "\"a-b\"");
    check::<noop>("[]", "{}", "null");
}

#[test]
fn what_is_missing_has_its_default() {
    check::<who>("[]", "{}", "\"id task.who 1 nobody 0 None\"");
    check::<who>(r#"["a"]"#, r#"{"times": 2, "title": null}"#, "\"id task.who 1 a 2 None\"");
}

#[test]
fn a_task_may_take_what_it_has_no_names_for() {
    check::<gather>("[1]", "{}", "[1,[],7,{}]");
    check::<gather>("[1, 2, null]", r#"{"size": 3, "z": [4]}"#, r#"[1,[2,null],3,{"z":[4]}]"#);
    check::<first>(r#"["a"]"#, r#"{"b": 1}"#, "\"a\"");
    check::<first>(r#"["a", "b"]"#, "{}", "TypeError: first() takes 1 positional argument but 2 were given");
}

#[test]
fn wrong_arguments_are_type_errors() {
    check::<add>("[2]", "{}", "TypeError: add() missing 1 required positional argument: 'y'");
    check::<add>(r#"[2, "a"]"#, "{}", "TypeError: add() argument 'y': invalid type: string \"a\", expected i64");
    check::<who>("[1, 2, 3, 4]", "{}", "TypeError: who() takes from 0 to 3 positional arguments but 4 were given");
    check::<who>("[]", r#"{"context": 1}"#, "TypeError: who() got an unexpected keyword argument 'context'");
    check::<mirror>(r#"[{"x": 1}]"#, "{}", "TypeError: mirror() argument 'point': missing field `y`");
}

#[test]
fn odd_json_passes_through() {
    let odd = format!("{{ \"a\": [NaN, {}, \"\\ud800\"]}}", "1".repeat(300));
    check::<echo>(&format!("[{odd}]"), "{}", &odd);
    check::<shapes::area>("[NaN, 1]", "{}", "NaN");
    check::<mirror>(r#"[{"x": 1, "y": 2}]"#, r#"{"type": -Infinity}"#, r#"[{"x":-1.0,"y":2.0},-Infinity]"#);
}

#[test]
fn errors_end_a_task() {
    check::<parse>(r#"["7"]"#, "{}", "7");
    check::<parse>(r#"["x"]"#, "{}", "ParseIntError: invalid digit found in string");
    check::<again>("[]", "{}", "retry");
}

#[test]
fn a_task_remains_a_function() {
    assert_eq!(add(2, 3), 5);
    assert_eq!(join(&["a".to_owned()], ","), "a");
}

/// A task of the same name as its parameter, which is called and not the parameter.
#[task]
fn context(context: &Context) -> String {
    context.id().to_owned()
}

#[task]
fn call(args: u8, kwargs: u8) -> u8 {
    args + kwargs
}

#[task]
async fn nap(context: &Context, words: &[String], #[default = 1] milliseconds: u64) -> Result<usize, TaskError> {
    taskhost::sleep(std::time::Duration::from_millis(milliseconds)).await;
    match words.len() {
        0 => Err(TaskError::new("ValueError", context.task())),
        length => Ok(length),
    }
}

mod plugin {
    mod inner {
        #[taskhost::task]
        pub(in super::super) fn sync() {}
        #[taskhost::task]
        pub(super) async fn r#async() {}
    }
    taskhost::plugin!(inner::sync, super::noop, inner::r#async);
}

#[test]
fn a_task_may_be_called_as_anything_is_in_what_calls_it() {
    check::<context>("[]", "{}", "\"id\"");
    check::<call>("[1]", r#"{"kwargs": 2}"#, "3");
}

#[test]
fn an_asynchronous_task_is_bound_and_ends_as_any_other() {
    check::<nap>(r#"[["a", "b"]]"#, "{}", "2");
    check::<nap>("[[]]", r#"{"milliseconds": 0}"#, "ValueError: task.nap");
    check::<nap>("[]", "{}", "TypeError: nap() missing 1 required positional argument: 'words'");
}
