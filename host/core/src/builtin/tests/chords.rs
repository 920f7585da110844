//! Tasks of Celery's that bring chords together, or publish canvases.

use rustc_hash::FxHashMap;

use super::*;
use crate::canvas::Sender;
use crate::dispatcher::fixture;
use crate::message::{HeaderValue, Publication};
use crate::name::TaskId;
use crate::outcome::Unlocked;
use crate::record::{State, StoredResult};
use crate::settle::Step;
use crate::timestamp::Timestamp;

const NOW: Timestamp = Timestamp::from_micros(1_795_343_528_000_000);

/// As Celery sends it.
fn unlock(kwargs: &str) -> Request {
    let mut request = request(Builtin::ChordUnlock, r#"["g", {"task": "body"}]"#, kwargs);
    request.retries = 2;
    request
}

fn found(results: &[(&str, State, &str)]) -> Look {
    let stored = |state: &State, result: &str| StoredResult {
        state: state.clone(),
        result: json(result),
        traceback: None,
        date_done: None,
        children: Json::null(),
        parent_id: None,
        call: Vec::new(),
    };
    let id = |id: &str| TaskId::parse(id).expect("an id");
    let results = results.iter().map(|(task, state, result)| (id(task), stored(state, result)));
    Look::Ready(results.collect::<FxHashMap<_, _>>())
}

/// What the task comes to, in words.
fn render_end(request: &Request, look: Look) -> String {
    let chord = match Unlock::read(request).and_then(|chord| chord.members().map(|_| chord)) {
        Ok(chord) => chord,
        Err(exception) => return exception.headline(),
    };
    match chord.end(request, look) {
        Outcome::Retry(RetryRequest { cause, delay, max_retries, args: None, kwargs: None }) => {
            let cause = cause.map_or_else(String::new, |(cause, _)| format!(" for {}", cause.headline()));
            format!("retry {delay:?} of {max_retries:?}{cause}")
        }
        Outcome::Unlocked(unlocked) => {
            let Unlocked { group, body, joined, failure } = *unlocked;
            let joined = match joined {
                Ok(results) => format!("with {results}"),
                Err(broken) => format!("fails: {} by {}", broken.error.headline(), broken.cause.headline()),
            };
            let failure = failure.map_or_else(String::new, |failure| format!("; {}", failure.headline()));
            format!("{group} {body} {joined}{failure}")
        }
        other => format!("{other:?}"),
    }
}

#[track_caller]
fn check(kwargs: &str, look: Look, expected: &str) {
    assert_eq!(render_end(&unlock(kwargs), look), expected, "{kwargs}");
}

const TWO: &str = r#"{"result": [[["a", null], null], [["b", null], null]], "interval": null, "max_retries": null,
    "_chord_unlock_exchange_type": "direct"}"#;

#[test]
fn a_chord_whose_header_is_not_done_is_looked_at_again() {
    check(TWO, Look::Unready, "retry Default of None");
    check(r#"{"result": [], "interval": 0.5, "max_retries": 3}"#, Look::Unready, "retry Countdown(500ms) of Some(3)");
    let asking = || Look::Failed(Exception::new("builtins", "ConnectionError", [Json::text("away")]));
    check(TWO, asking(), "retry Default of None for ConnectionError: away");
}

#[test]
fn after_the_last_look_the_body_fails() {
    let last = r#"{"result": [], "max_retries": 2}"#;
    let why =
        "Can't retry celery.chord_unlock[t-1] args:['g', {'task': 'body'}] kwargs:{'result': [], 'max_retries': 2}";
    let expected = format!(
        "g {{\"task\": \"body\"}} fails: ChordError: chord_unlock could not be retried: MaxRetriesExceededError(\"{why}\") \
         by MaxRetriesExceededError: {why}; MaxRetriesExceededError: {why}"
    );
    check(last, Look::Unready, &expected);
    let away = || Exception::new("builtins", "ConnectionError", [Json::text("away")]);
    check(
        last,
        Look::Failed(away()),
        "g {\"task\": \"body\"} fails: ChordError: chord_unlock could not be retried: ConnectionError('away') \
         by ConnectionError: away; ConnectionError: away",
    );
    check(
        TWO,
        Look::Impossible(away()),
        "g {\"task\": \"body\"} fails: ChordError: ConnectionError('away') by ConnectionError: away; ConnectionError: away",
    );
}

#[test]
fn the_body_gets_the_results_in_the_shape_of_the_header() {
    let done = [("a", State::Success, "1"), ("b", State::Success, "NaN"), ("c", State::Success, "[3]")];
    check(TWO, found(&done), r#"g {"task": "body"} with [1, NaN]"#);
    let nested = r#"{"result": [[["c", [["x", null], null]], null],
        [["h", null], [[["b", null], null], [["i", null], [["a", null]]], [["j", null], []]]]]}"#;
    check(nested, found(&done), r#"g {"task": "body"} with [[3], [NaN, [1], []]]"#);
    check(r#"{"result": []}"#, found(&[]), r#"g {"task": "body"} with []"#);
}

#[test]
fn the_first_member_that_did_not_succeed_breaks_the_chord() {
    let no = r#"{"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"}"#;
    let revoked = r#"{"exc_type": "TaskRevokedError", "exc_message": ["revoked"], "exc_module": "celery.exceptions"}"#;
    let failed = r#"g {"task": "body"} fails: ChordError: ValueError('no') by ValueError: no"#;
    check(TWO, found(&[("a", State::Success, "1"), ("b", State::Failure, no)]), failed);
    check(TWO, found(&[("a", State::Failure, no), ("b", State::Revoked, revoked)]), failed);
    let revoked = found(&[("a", State::Revoked, revoked), ("b", State::Success, "1")]);
    let expected = r#"g {"task": "body"} fails: ChordError: TaskRevokedError('revoked') by TaskRevokedError: revoked"#;
    check(TWO, revoked, expected);
    let nested = r#"{"result": [[["h", null], [[["a", null], null]]]]}"#;
    check(nested, found(&[("a", State::Failure, no)]), failed);
}

#[test]
fn what_is_no_chord_is_refused() {
    for (kwargs, expected) in [
        ("{}", "TypeError: 'NoneType' object is not iterable"),
        (r#"{"result": 3}"#, "TypeError: 'int' object is not iterable"),
        (r#"{"result": [3]}"#, "ValueError: the header holds what is no result"),
        (r#"{"result": [[["", null], null]]}"#, "ValueError: the header holds what is no result"),
        (r#"{"result": [], "interval": "x"}"#, "TypeError: interval cannot be a 'str'"),
        (r#"{"result": [], "max_retries": 1.5}"#, "TypeError: max_retries cannot be a 'float'"),
    ] {
        check(kwargs, Look::Unready, expected);
    }
    let deep = (0..100).fold(r#"[["a", null], null]"#.to_owned(), |inner, _| format!(r#"[["g", null], [{inner}]]"#));
    let expected = "ValueError: the groups of the header lie too deep within each other";
    check(&format!(r#"{{"result": [{deep}]}}"#), Look::Unready, expected);
    let unlock = "TypeError: add_unlock_chord_task.<locals>.unlock_chord()";
    let missing = render_end(&request(Builtin::ChordUnlock, r#"["g"]"#, "{}"), Look::Unready);
    assert_eq!(missing, format!("{unlock} missing 1 required positional argument: 'callback'"));
    let many = render_end(&request(Builtin::ChordUnlock, "[0, 1, 2, 3, 4, 5, 6, 7, 8]", "{}"), Look::Unready);
    assert_eq!(many, format!("{unlock} takes from 3 to 9 positional arguments but 10 were given"));
}

/// What is sent, with ids by the order in which they come.
#[track_caller]
fn check_sent(builtin: Builtin, args: &str, expected: &[&str]) {
    let (request, settings) = (request(builtin, args, "{}"), fixture::sending());
    let sender = Sender { request: &request, settings: &settings };
    let applied = match publish(builtin, &sender, NOW) {
        Ok(applied) => applied,
        Err(exception) => return assert_eq!([exception.headline()], *expected, "{args}"),
    };
    let mut lines = Vec::new();
    for step in &applied.steps {
        let (Step::Send(Publication { message, .. }) | Step::SendTo(_, Publication { message, .. })) = step else {
            lines.push(match step {
                Step::SetChordSize { size, .. } => format!("a chord of {size}"),
                step => format!("{step:?}"),
            });
            continue;
        };
        let header = |name: &str| match message.headers.get(name) {
            Some(HeaderValue::Text(text)) => text.clone(),
            _ => "none".to_owned(),
        };
        let body = Json::parse(message.body.clone()).expect("JSON");
        let mut parts = body.elements();
        let (args, kwargs) = (parts.next().expect("args"), parts.next().expect("kwargs"));
        lines.push(format!("{} {args} {kwargs} by {} in {}", header("task"), header("parent_id"), header("group")));
    }
    let children: Vec<String> = applied.children.iter().map(Json::to_string).collect();
    lines.push(format!("{} children {}", applied.result, children.join(" ")));
    let mut text = lines.join("\n");
    // Derived ids, in the order in which they are told.
    let mut number = 0;
    while let Some(at) = text.as_bytes().windows(36).position(|part| {
        let text = String::from_utf8_lossy(part);
        uuid::Uuid::parse_str(&text).is_ok()
    }) {
        let id = text[at..at + 36].to_owned();
        text = text.replace(&id, &format!("id-{number}"));
        number += 1;
    }
    assert_eq!(text.lines().collect::<Vec<_>>(), expected, "{args}");
}

#[test]
fn chunks_are_starmaps_in_a_group() {
    check_sent(
        Builtin::Chunks,
        r#"[{"task": "add"}, [[1, 2], [3, 4], [5, 6]], 2]"#,
        &[
            r#"celery.starmap [] {"task": {"task": "add"}, "it": [[1, 2], [3, 4]]} by t-1 in id-0"#,
            r#"celery.starmap [] {"task": {"task": "add"}, "it": [[5, 6]]} by t-1 in id-0"#,
            r#"[["id-0", null], [[["id-1", null], null], [["id-2", null], null]]] children [["id-0", null], [[["id-1", null], null], [["id-2", null], null]]]"#,
        ],
    );
    let islice = "ValueError: Stop argument for islice() must be None or an integer: 0 <= x <= sys.maxsize.";
    check_sent(Builtin::Chunks, r#"["add", [[1]], 0]"#, &[islice]);
    let operand = "TypeError: unsupported operand type(s) for -: 'str' and 'int'";
    check_sent(Builtin::Chunks, r#"["add", [[1]], "a"]"#, &[operand]);
    check_sent(Builtin::Chunks, r#"["add", 5, 2]"#, &["TypeError: 'int' object is not iterable"]);
}

#[test]
fn a_group_has_the_ids_that_its_client_gave_it() {
    let result = r#"[["g", null], [[["m", null], null]]]"#;
    check_sent(
        Builtin::Group,
        &format!(r#"[[{{"task": "add", "args": [1], "options": {{"task_id": "m"}}}}], {result}, "g", [5]]"#),
        &["add [5, 1] {} by t-1 in g", &format!("{result} children {result}")],
    );
    let alone = format!(r#"[[], {result}, "g", [], false]"#);
    check_sent(Builtin::Group, &alone, &[&format!("{result} children ")]);
}

#[test]
fn a_chord_is_published_with_its_body_in_each_member() {
    check_sent(
        Builtin::Chord,
        r#"[[{"task": "add", "args": [1]}, {"task": "add", "args": [2]}], {"task": "body"}, [5]]"#,
        &[
            "a chord of 2",
            "add [5, 1] {} by t-1 in id-0",
            "add [5, 2] {} by t-1 in id-0",
            r#"[["id-1", [["id-0", null], [[["id-2", null], null], [["id-3", null], null]]]], null] children [["id-0", null], [[["id-2", null], null], [["id-3", null], null]]]"#,
        ],
    );
    check_sent(
        Builtin::Chord,
        "[[]]",
        &["TypeError: add_chord_task.<locals>.chord() missing 1 required positional argument: 'body'"],
    );
}
