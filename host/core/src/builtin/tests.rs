//! What Python 3.11 and Celery 5.7 answered to the same calls.

mod chords;

use super::*;
use crate::dispatcher::fixture;
use crate::message::HeaderValue;
use crate::outcome::{Limit, Outcome, RetryDelay, RetryRequest};

fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).expect("JSON")
}

fn request(builtin: Builtin, args: &str, kwargs: &str) -> Request {
    Request { args: json(args), kwargs: json(kwargs), ..fixture::request(builtin.name(), "t-1") }
}

fn render<T: std::fmt::Display>(result: Result<T, Exception>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(exception) => exception.headline(),
    }
}

#[test]
fn all_of_them_are_in_the_catalog_under_celerys_names() {
    let mut names: Vec<String> = specs(Duration::from_secs(1)).map(|spec| spec.name.to_string()).collect();
    names.sort_unstable();
    let expected = [
        "celery.accumulate",
        "celery.backend_cleanup",
        "celery.chain",
        "celery.chord",
        "celery.chord_unlock",
        "celery.chunks",
        "celery.group",
        "celery.map",
        "celery.ping",
        "celery.starmap",
    ];
    assert_eq!(names, expected);
    for spec in specs(Duration::from_secs(1)) {
        let builtin = Builtin::of(&spec).expect("it is one of them");
        assert_eq!(builtin.name(), spec.name.as_str());
        let of_a_plugin = TaskSpec { plugin: PluginName::parse("demo").expect("a name"), ..spec };
        assert_eq!(Builtin::of(&of_a_plugin), None);
    }
    assert_eq!(Builtin::named(&TaskName::parse("celery.other").expect("a name")), None);
}

#[test]
fn a_chord_is_looked_at_for_ever_and_nobody_wants_to_know_how_often() {
    let mut specs = specs(Duration::from_millis(200));
    let unlock = specs.find(|spec| spec.name.as_str() == "celery.chord_unlock").expect("it is there").options;
    assert_eq!((unlock.max_retries, unlock.ignore_result), (None, Some(true)));
    assert_eq!(unlock.default_retry_delay, Duration::from_millis(200));
}

#[test]
fn ping_answers_pong() {
    assert_eq!(render(ping(&request(Builtin::Ping, "[]", "{}"))), r#""pong""#);
    let refused = render(ping(&request(Builtin::Ping, "[1]", "{}")));
    assert_eq!(refused, "TypeError: ping() takes 0 positional arguments but 1 was given");
}

#[test]
fn accumulate_returns_its_arguments_or_one_of_them() {
    for (args, kwargs, expected) in [
        ("[1, 2]", "{}", "[1, 2]"),
        ("[]", "{}", "[]"),
        ("[1, 2]", r#"{"other": 1, "index": null}"#, "[1, 2]"),
        ("[1, [NaN, 2]]", r#"{"index": 1}"#, "[NaN, 2]"),
        ("[1, 2]", r#"{"index": 0}"#, "1"),
        ("[1, 2]", r#"{"index": -1}"#, "2"),
        ("[1, 2]", r#"{"index": -2}"#, "1"),
        ("[1, 2]", r#"{"index": true}"#, "2"),
        ("[1, 2]", r#"{"index": 5}"#, "IndexError: tuple index out of range"),
        ("[1, 2]", r#"{"index": -3}"#, "IndexError: tuple index out of range"),
        ("[1, 2]", r#"{"index": -9223372036854775808}"#, "IndexError: tuple index out of range"),
        ("[1, 2]", r#"{"index": 99999999999999999999}"#, "IndexError: tuple index out of range"),
        ("[1, 2]", r#"{"index": "x"}"#, "TypeError: tuple indices must be integers or slices, not str"),
        ("[1, 2]", r#"{"index": 1.0}"#, "TypeError: tuple indices must be integers or slices, not float"),
        ("[1, 2]", r#"{"index": [1]}"#, "TypeError: tuple indices must be integers or slices, not list"),
        ("[1]", r#"{"index": {}}"#, "TypeError: tuple indices must be integers or slices, not dict"),
    ] {
        assert_eq!(render(accumulate(&request(Builtin::Accumulate, args, kwargs))), expected, "{args} {kwargs}");
    }
}

#[test]
fn a_cleanup_takes_nothing() {
    assert_eq!(cleanup(&request(Builtin::BackendCleanup, "[]", "{}")), Ok(()));
    let refused = cleanup(&request(Builtin::BackendCleanup, "[1]", "{}")).expect_err("it takes nothing");
    let text = "add_backend_cleanup_task.<locals>.backend_cleanup() takes 0 positional arguments but 1 was given";
    assert_eq!(refused.headline(), format!("TypeError: {text}"));
}

/// The calls that a map makes: the arguments of each.
#[track_caller]
fn check_map(builtin: Builtin, args: &str, kwargs: &str, expected: &str) {
    let whole = request(builtin, args, kwargs);
    let calls = Mapping::read(builtin, &whole).and_then(|mapping| {
        let calls = (0..mapping.count()).map(|index| Ok(mapping.call(&whole, index)?.args.to_string()));
        Ok(format!("{} {}", mapping.task, calls.collect::<Result<Vec<_>, Exception>>()?.join(" ")))
    });
    let calls = render(calls);
    assert_eq!(calls.trim_end(), expected, "{args} {kwargs}");
}

#[test]
fn a_map_calls_a_task_with_each_element() {
    let check = |args, kwargs, expected| check_map(Builtin::Map, args, kwargs, expected);
    check(r#"["add", [1, 2]]"#, "{}", "add [1] [2]");
    check(r#"[{"task": "add", "args": [9]}, [[1, 2], null]]"#, "{}", "add [[1, 2]] [null]");
    check(r#"[{"task": "add"}]"#, r#"{"it": [1]}"#, "add [1]");
    check("[]", r#"{"it": "ab", "task": {"task": "add"}}"#, r#"add ["a"] ["b"]"#);
    check(r#"["add", {"a": 1, "b": 2}]"#, "{}", r#"add ["a"] ["b"]"#);
    check(r#"["add", []]"#, "{}", "add");
    check(r#"["add", 5]"#, "{}", "TypeError: 'int' object is not iterable");
    check(r#"["add", null]"#, "{}", "TypeError: 'NoneType' object is not iterable");
    check("[5, [1]]", "{}", "NotRegistered: 5");
    check("[null, [1]]", "{}", "NotRegistered: None");
    check(r#"["", [1]]"#, "{}", "NotRegistered:");
    check(r#"[{"a": 1}, [1]]"#, "{}", "KeyError: task");
}

#[test]
fn a_starmap_calls_a_task_with_each_list() {
    let check = |args, expected| check_map(Builtin::Starmap, args, "{}", expected);
    check(r#"["add", [[1, 2], [3], []]]"#, "add [1, 2] [3] []");
    check(r#"["add", ["ab", {"c": 1}]]"#, r#"add ["a", "b"] ["c"]"#);
    check(r#"["add", [[1], 2]]"#, "TypeError: add() argument after * must be an iterable, not int");
}

#[test]
fn arguments_are_refused_in_pythons_words() {
    let xmap = |why: &str| format!("TypeError: add_map_task.<locals>.xmap() {why}");
    for (args, kwargs, why) in [
        (r#"["add"]"#, "{}", "missing 1 required positional argument: 'it'"),
        ("[]", "{}", "missing 2 required positional arguments: 'task' and 'it'"),
        ("[1, 2, 3]", "{}", "takes 2 positional arguments but 3 were given"),
        (r#"["add", [1]]"#, r#"{"x": 1}"#, "got an unexpected keyword argument 'x'"),
        (r#"["add", [1]]"#, r#"{"it": [1]}"#, "got multiple values for argument 'it'"),
    ] {
        check_map(Builtin::Map, args, kwargs, &xmap(why));
    }
    let expected = "TypeError: add_starmap_task.<locals>.xstarmap() missing 1 required positional argument: 'it'";
    check_map(Builtin::Starmap, r#"["add"]"#, "{}", expected);
}

#[test]
fn a_mapped_call_is_an_execution_of_its_own_within_the_whole() {
    let mut whole = request(Builtin::Map, r#"["add", [1, 2]]"#, "{}");
    whole.embed = json(r#"{"callbacks": [], "chord": {"task": "body"}}"#);
    (whole.retries, whole.group_id, whole.root_id) = (2, Some("g".to_owned()), Some("r".to_owned()));
    whole.message.headers.set("group_index", HeaderValue::Int(3));
    let mapping = Mapping::read(Builtin::Map, &whole).expect("it can be read");
    let call = mapping.call(&whole, 1).expect("it can be made");
    assert_eq!((call.root_id.as_deref(), call.parent_id.as_deref()), (Some("r"), Some("t-1")));
    assert_eq!((call.retries, call.group_id.as_deref(), call.embed.is_null()), (0, None, true));
    assert_eq!(call.message.headers.get("group_index"), None);
    let again = mapping.call(&whole, 1).expect("it can be made");
    assert_eq!(call.id, again.id, "a repeat sends the same tasks as the first time");
    let other = mapping.call(&whole, 0).expect("it can be made");
    assert!(call.id != other.id && call.id != whole.id);
    let elsewhere = mapping.call(&Request { id: crate::name::TaskId::parse("t-2").expect("an id"), ..whole }, 1);
    assert_ne!(call.id, elsewhere.expect("it can be made").id);
}

#[test]
fn the_task_of_a_map_is_known_before_it_runs() {
    let of = |args, kwargs| mapped_task(&request(Builtin::Map, args, kwargs)).map(|task| task.to_string());
    assert_eq!(of(r#"[{"task": "add"}, [1]]"#, "{}").as_deref(), Some("add"));
    assert_eq!(of("[]", r#"{"it": [], "task": "add"}"#).as_deref(), Some("add"));
    assert_eq!(of("[]", "{}"), None);
    assert_eq!(of("[3]", "{}"), None);
}

#[test]
fn what_only_a_message_could_do_fails_within_a_map() {
    let whole = request(Builtin::Map, r#"["add", [1]]"#, "{}");
    let mapping = Mapping::read(Builtin::Map, &whole).expect("it can be read");
    let retry = |cause| {
        let wish = RetryRequest { cause, delay: RetryDelay::Default, max_retries: None, args: None, kwargs: None };
        Outcome::Retry(wish)
    };
    let cause = Exception::new("builtins", "ValueError", [Json::text("no")]);
    let given = mapping.end(retry(Some((cause.clone(), Some("tb".to_owned())))), Duration::ZERO, None);
    assert_eq!(given, Outcome::Failure(cause, Some("tb".to_owned())));
    for (outcome, expected) in [
        (retry(None), "Retry: Task can be retried"),
        (
            Outcome::Replaced(Vec::new()),
            "RuntimeError: `add` cannot be replaced: it runs within celery.map or celery.starmap",
        ),
    ] {
        let Outcome::Failure(exception, _) = mapping.end(outcome, Duration::ZERO, None) else { panic!("no failure") };
        assert_eq!(exception.headline(), expected);
    }
}

#[test]
fn the_time_of_a_map_is_that_of_all_its_calls() {
    let whole = request(Builtin::Map, r#"["add", [1]]"#, "{}");
    let mapping = Mapping::read(Builtin::Map, &whole).expect("it can be read");
    let (hard, soft, left) = (Duration::from_secs(9), Duration::from_secs(8), Duration::from_secs(1));
    let end = |limit| mapping.end(Outcome::TimedOut(limit), hard, Some(soft));
    assert_eq!(end(Limit::Hard(left)), Outcome::TimedOut(Limit::Hard(hard)));
    assert_eq!(end(Limit::Soft(left)), Outcome::TimedOut(Limit::Soft(soft)));
    assert_eq!(mapping.end(Outcome::Ignored, hard, None), Outcome::Ignored);
}
