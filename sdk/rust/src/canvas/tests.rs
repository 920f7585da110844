//! Canvases as they are composed, written and read.

use serde_json::{Value, json};

use super::*;
use crate::lenient;

fn text(signature: &Signature) -> String {
    signature.to_json().map_or_else(|why| why, Json::into_string)
}

fn task(name: &str) -> Signature {
    Signature::new(name)
}

fn all<const N: usize>(names: [&str; N]) -> [Signature; N] {
    names.map(Signature::new)
}

/// The shape of a canvas in one line: `a | b`, `(a, b)` for a group, `[a, b -> c]` for a chord. What hangs on a task
/// is behind it: `a+callback!errback`, and `'` says that it is immutable.
fn draw(signature: &Signature) -> String {
    let list = |tasks: &[Signature]| tasks.iter().map(draw).collect::<Vec<_>>().join(", ");
    let mut drawn = match &signature.shape {
        Shape::Task { .. } => signature.task.clone(),
        Shape::Chain(tasks) => format!("<{}>", tasks.iter().map(draw).collect::<Vec<_>>().join(" | ")),
        Shape::Group(tasks) => format!("({})", list(tasks)),
        Shape::Chord { header, body, .. } => {
            format!("[{} -> {}]", list(header), body.as_deref().map_or_else(|| "nothing".to_owned(), draw))
        }
        Shape::Chunks { task, .. } | Shape::Map { task, .. } | Shape::Starmap { task, .. } => {
            format!("each {}", task.task)
        }
    };
    if signature.immutable {
        drawn.push('\'');
    }
    for (sign, attached) in [('+', &signature.links), ('!', &signature.errbacks)] {
        for attached in attached {
            drawn.push(sign);
            drawn.push_str(&draw(attached));
        }
    }
    drawn
}

#[track_caller]
fn check(signature: &Signature, expected: &str) {
    assert_eq!(draw(signature), expected);
    let read = Signature::read(&text(signature)).expect("what was written can be read");
    assert_eq!(read, *signature, "it comes back as it was");
}

#[test]
fn a_signature_is_celerys_map() {
    let signature =
        task("a\"").args((1, "x")).kwargs(json!({"k": 1.5})).countdown(1.5).link(&task("b").option("queue", "q"));
    let expected = json!({
        "task": "a\"", "args": [1, "x"], "kwargs": {"k": 1.5}, "subtask_type": null, "immutable": false,
        "options": {"countdown": 1.5, "link": [
            {"task": "b", "args": [], "kwargs": {}, "options": {"queue": "q"}, "subtask_type": null, "immutable": false}
        ]},
    });
    assert_eq!(serde_json::to_value(&signature).expect("is JSON"), expected);
}

#[test]
fn every_kind_has_celerys_name_and_its_parts_in_its_keyword_arguments() {
    let parts = |signature: &Signature| {
        let map = serde_json::to_value(signature).expect("is JSON");
        let keys: Vec<String> = map["kwargs"].as_object().expect("a map").keys().cloned().collect();
        format!("{} {} {} {}", map["task"], map["subtask_type"], keys.join(","), map["immutable"])
    };
    for (signature, expected) in [
        (chain(all(["a", "b"])), r#""celery.chain" "chain" tasks false"#),
        (group(all(["a", "b"])), r#""celery.group" "group" tasks false"#),
        (chord(all(["a", "b"]), task("c")), r#""celery.chord" "chord" body,header,kwargs false"#),
        (chunks(task("a"), [(1, 2)], 10), r#""celery.chunks" "chunks" it,n,task true"#),
        (xmap(task("a"), [1, 2]), r#""celery.map" "xmap" it,task true"#),
        (xstarmap(task("a"), [(1, 2)]), r#""celery.starmap" "xstarmap" it,task true"#),
    ] {
        assert_eq!(parts(&signature), expected);
        assert_eq!(Signature::read(&text(&signature)), Ok(signature));
    }
}

#[test]
fn tasks_are_composed_by_celerys_rules() {
    let [a, b, c, d, e] = all(["a", "b", "c", "d", "e"]);
    let both = || group(all(["x", "y"]));
    let empty = || group([]);
    let lone = || group([task("x")]);
    check(&(a.clone() | b.clone() | c.clone()), "<a | b | c>");
    check(&(a.clone() | (b.clone() | c.clone())), "<a | b | c>");
    check(&(a.clone() | both()), "<a | (x, y)>");
    check(&(a.clone() | both() | b.clone()), "<a | [x, y -> b]>");
    check(&(a.clone() | both() | b.clone() | c.clone()), "<a | [x, y -> <b | c>]>");
    check(&(a.clone() | both() | both()), "<a | (x, y) | (x, y)>");
    check(&(both() | a.clone()), "[x, y -> a]");
    check(&(both() | a.clone() | b.clone()), "[x, y -> <a | b>]");
    check(&(both() | both()), "[x, y -> (x, y)]");
    check(&(both() | both() | a.clone()), "[x, y -> [x, y -> a]]");
    check(&(a.clone() | lone() | b.clone()), "<a | x | b>");
    check(&(a.clone() | empty()), "a");
    check(&(a.clone() | empty() | b.clone()), "<a | b>");
    check(&(chord(all(["x"]), a.clone()) | lone()), "[x -> <a | x>]");
    check(&(chord(all(["x"]), a.clone()) | both()), "<[x -> a] | (x, y)>");
    check(&(chord(all(["x"]), a.clone()) | (b.clone() | c.clone())), "<[x -> a] | b | c>");
    check(&(a.clone() | chord(all(["x"]), b.clone()) | chord(all(["y"]), c.clone())), "<a | [x -> b] | [y -> c]>");
    check(&chain([]), "<>");
    check(&chain([a.clone()]), "<a>");
    check(&chain([both()]), "(x, y)");
    check(&chain([both(), a.clone(), b.clone()]), "[x, y -> <a | b>]");
    check(&chain([a.clone(), both(), b.clone(), both(), c.clone()]), "<a | [x, y -> <b | [x, y -> c]>]>");
    check(&chain([a.clone(), chain([b.clone(), both()]), c.clone(), d.clone()]), "<a | b | [x, y -> <c | d>]>");
    check(&chain([empty(), chain([both(), a.clone()]), e]), "<[x, y -> <a | e>]>");
    check(&chord(group([a, b]).into_tasks(), c), "[a, b -> c]");
    check(&chord(d.into_tasks(), task("e")), "[d -> e]");
}

#[test]
fn what_hangs_on_a_canvas_hangs_where_celery_hangs_it() {
    let [callback, errback] = all(["k", "e"]);
    let hung = |canvas: Signature| canvas.link(&callback).link_error(&errback).link_error(&errback);
    let [a, b, c] = all(["a", "b", "c"]);
    check(&hung(a.clone()), "a+k!e");
    check(&hung(chain([a.clone(), b.clone()])), "<a | b>+k!e");
    check(&(hung(chain([a.clone(), b.clone()])) | c.clone()), "<a!e | b+k!e | c>");
    check(&hung(group([a.clone(), b.clone()])), "(a+k'!e, b!e)");
    check(&hung(chord([a.clone(), chord([b.clone()], c.clone())], c.clone())), "[a, [b -> c!e] -> c+k!e]");
    assert!(text(&group([]).link(&callback)).ends_with("an empty group has no task that a callback could follow"));
}

#[test]
fn immutable_is_what_would_get_the_arguments() {
    let [a, b, c] = all(["a", "b", "c"]);
    check(&a.clone().immutable(), "a'");
    check(&chain([a.clone(), b.clone()]).immutable(), "<a' | b>");
    check(&group([a.clone(), b.clone()]).immutable(), "(a', b')");
    check(&chord([a.clone()], b.clone()).immutable(), "[a' -> b]");
    assert_eq!(c.clone().args([3]).partial([json!(1), json!(null)]).args, Json::from_text("[1, null, 3]"));
    assert_eq!(c.args([3]).immutable().partial([1]).args, Json::from_text("[3]"));
}

#[test]
fn a_stamp_is_on_every_task() {
    let [a, b, c, k] = all(["a", "b", "c", "k"]);
    let canvas = chain([a.link(&k), chord([b.stamp("run", 0)], c)]).stamp("run", 1).stamp("tenant", "acme");
    let map = serde_json::to_value(&canvas).expect("is JSON");
    let [first, second] = [&map["kwargs"]["tasks"][0], &map["kwargs"]["tasks"][1]];
    let parts = &second["kwargs"];
    for task in [first, &first["options"]["link"][0], &parts["header"][0], &parts["body"]] {
        let options = &task["options"];
        assert_eq!(options["stamped_headers"], json!(["run", "tenant"]), "{task}");
        assert_eq!((&options["run"], &options["tenant"]), (&json!(1), &json!("acme")), "{task}");
    }
    assert_eq!((&map["options"], &second["options"]), (&json!({}), &json!({})), "a canvas is sent nowhere itself");
}

#[test]
fn a_signature_of_somebody_else_keeps_what_it_has() {
    let odd = format!(
        "{{\"task\": \"t\", \"args\": [NaN, {}], \"kwargs\": {{\"a\": \"\\ud800\"}}, \"options\": {{\"x\": -Infinity}}, \
         \"subtask_type\": null, \"immutable\": true, \"chord_size\": 3}}",
        "9".repeat(300)
    );
    let read = lenient::parse::<Signature>(&odd).expect("a signature");
    assert_eq!(text(&read), odd);
    assert_eq!(lenient::parse::<Option<Signature>>(&odd), Ok(Some(read)));
    assert_eq!(lenient::parse::<Option<Signature>>("null"), Ok(None));
    let frozen = r#"{"task": "celery.chord", "args": [], "options": {"link": {"task": "k"}}, "subtask_type": "chord", "kwargs": {
        "header": {"task": "celery.group", "kwargs": {"tasks": [{"task": "a"}]}, "subtask_type": "group"}, "body": null}}"#;
    assert_eq!(draw(&Signature::read(frozen).expect("a signature")), "[a -> nothing]+k");
}

#[test]
fn what_is_no_signature_is_refused() {
    for (text, expected) in [
        ("[]", "not a signature: no JSON object"),
        ("{}", "not a signature: it names no task"),
        (r#"{"task": 1}"#, "not a signature: it names no task"),
        (r#"{"task": "t", "subtask_type": "ring"}"#, "a signature of an unknown kind: \"ring\""),
        (r#"{"task": "t", "args": {}}"#, "a signature whose args are no array"),
        (r#"{"task": "t", "options": {"link": [1]}}"#, "not a signature: no JSON object"),
        (r#"{"task": "celery.chain", "subtask_type": "chain"}"#, "a chain without tasks"),
        (
            r#"{"task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": [{}]}}"#,
            "not a signature: it names no task",
        ),
        (
            r#"{"task": "celery.map", "subtask_type": "xmap", "kwargs": {"task": {"task": "a"}, "it": 1}}"#,
            "a xmap over no list",
        ),
    ] {
        assert_eq!(Signature::read(text).expect_err(text), expected);
        assert!(serde_json::from_str::<Signature>(text).is_err(), "{text}");
    }
}

#[test]
fn what_cannot_be_published_is_told_when_it_is_used() {
    let broken = task("a").args([std::collections::BTreeMap::from([((1, 2), 3)])]);
    assert_eq!(text(&broken), "a signature of a: not JSON serializable: key must be a string");
    assert_eq!(text(&chain([task("b"), broken.clone()])), text(&broken));
    assert_eq!(text(&xmap(task("a"), 1)), "a signature of celery.map: what it is called with is no list");
    assert_eq!(
        text(&chain([]).kwargs(Value::Null)),
        "a signature of celery.chain: only a call of a task has keyword arguments"
    );
    assert_eq!(
        text(&task("a").option("link", 1)),
        "a signature of a: option link: what should be a list of signatures is no array"
    );
}
