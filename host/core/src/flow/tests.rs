//! What follows results and failures, as the messages, records and parts that come of them.

use std::sync::LazyLock;

use expect_test::{Expect, expect};

use super::chord::Broken;
use super::*;
use crate::arity::Arity;
use crate::chord::{ClaimedChord, Part};
use crate::dispatcher::{ReadyChord, fixture};
use crate::exception::Exception;
use crate::message::{HeaderValue, PUT_BACK_HEADER};
use crate::name::TaskId;
use crate::settle::{self, Settlement};
use crate::task::{TaskOptions, TaskSpec};
use crate::timestamp::Timestamp;

const NOW: Timestamp = Timestamp::from_micros(1_795_343_528_000_000);

/// A worker that has `told`, which wants to know more about failures than an id.
fn means() -> Means<'static> {
    static SETTINGS: LazyLock<SendSettings> = LazyLock::new(fixture::sending);
    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
        let schema = r#"{"properties": {"request": {}, "error": {}, "traceback": {}}}"#;
        let takes = Arity::of_schema(&json(schema));
        Catalog::new([TaskSpec { takes, ..fixture::spec("told", TaskOptions::default()) }])
    });
    Means { settings: &SETTINGS, catalog: &CATALOG, tells_calls: false }
}

fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).expect("the tests write JSON")
}

fn request(embed: &str) -> Request {
    Request { embed: json(embed), ..fixture::request("tasks.add", "t-1") }
}

fn member(embed: &str) -> Request {
    let mut request = Request { group_id: Some("g-1".to_owned()), ..request(embed) };
    request.message.headers.set("group_index", HeaderValue::Int(3));
    request
}

fn oops() -> Exception {
    Exception::new("builtins", "ValueError", [Json::text("oops")])
}

/// `task[args] {kwargs}` with what hangs on it, for each message.
fn steps(steps: &[Step]) -> String {
    let render = |step: &Step| match step {
        Step::Send(publication) | Step::SendTo(_, publication) => {
            let message = &publication.message;
            let body = json(std::str::from_utf8(&message.body).expect("we write UTF-8"));
            let mut text = String::new();
            let header = |key: &str| message.headers.get(key).map_or(Json::null(), Json::from);
            let [args, _, embed] = [0, 1, 2].map(|at| body.elements().nth(at).expect("three parts"));
            // Every fact about the request is in there.
            let shown = |it: Json| if it.get("hostname").is_some() { "the request".to_owned() } else { it.to_string() };
            let args = args.elements().map(shown).collect::<Vec<_>>().join(", ");
            text += &format!("{} ({args}) parent={} root={}", header("task"), header("parent_id"), header("root_id"));
            let chain: Vec<Json> = embed.get("chain").iter().flat_map(Json::elements).collect();
            if !chain.is_empty() {
                let names = chain.iter().map(|step| step.get("task").expect("it has a name").to_string());
                text += &format!(" chain={}", names.collect::<Vec<_>>().join(","));
            }
            text + "\n"
        }
        step => format!("{step:?}\n"),
    };
    steps.iter().map(render).collect()
}

fn aftermath(Aftermath { records, chord, after, remarks }: &Aftermath) -> String {
    let mut text = String::new();
    for record in records {
        let ResultValue::Exception(exception) = &record.result else { panic!("a failure is an exception") };
        text += &format!("store {} {} {}\n", record.id, record.state.as_str(), exception.repr());
    }
    for step in chord {
        let ChordStep::Count(part) = step else { panic!("only parts follow") };
        text += &format!("count {} {:?} {} in {}\n", part.task, part.index, part.state.as_str(), part.group);
    }
    text + &steps(after) + &remarks.join("\n")
}

#[track_caller]
fn check_success(request: &Request, expected: Expect) {
    let next = succeeded(means(), request, &json("[4, NaN]"), NOW).expect("it can be published");
    let part = next.chord.iter().map(|step| match step {
        ChordStep::Count(part) => format!("count {} {:?} {:?} in {}\n", part.task, part.index, part.result, part.group),
        step => panic!("{step:?} is no part"),
    });
    let children = format!("children {}\n", next.children.len());
    expected.assert_eq(&(steps(&next.steps) + &part.collect::<String>() + &children));
}

#[track_caller]
fn check_failure(request: &Request, expected: Expect) {
    let exception = oops();
    let failure = Failed { exception: &exception, traceback: Some("Traceback"), stores: true };
    expected.assert_eq(&aftermath(&failed(means(), request, &failure, NOW)));
}

#[test]
fn nothing_follows_a_plain_task() {
    for embed in ["null", r#"{"callbacks": null, "errbacks": null, "chain": null, "chord": null}"#] {
        check_success(&request(embed), expect!["children 0\n"]);
        check_failure(&request(embed), expect![[""]]);
    }
}

#[test]
fn callbacks_and_the_next_step_get_the_result() {
    check_success(
        &request(
            r#"{"callbacks": [{"task": "one", "args": [1], "immutable": true}],
                "chain": [{"task": "last"}, {"task": "middle"}, {"task": "next", "args": [2]}]}"#,
        ),
        expect![[r#"
            "one" (1) parent="t-1" root="t-1"
            "next" ([4, NaN], 2) parent="t-1" root="t-1" chain="last","middle"
            children 2
        "#]],
    );
    check_success(
        &request(
            r#"{"callbacks": [{"task": "one"}, {"task": "celery.group", "subtask_type": "group",
                "kwargs": {"tasks": [{"task": "a"}, {"task": "b"}]}}, {"task": "two"}]}"#,
        ),
        expect![[r#"
            "a" ([4, NaN]) parent="t-1" root="t-1"
            "b" ([4, NaN]) parent="t-1" root="t-1"
            "one" ([4, NaN]) parent="t-1" root="t-1"
            "two" ([4, NaN]) parent="t-1" root="t-1"
            children 2
        "#]],
    );
}

#[test]
fn a_member_of_a_chord_has_its_part_in_it() {
    check_success(
        &member(r#"{"chord": {"task": "body"}}"#),
        expect![[r#"
        count t-1 Some(3) Json([4, NaN]) in g-1
        children 0
    "#]],
    );
    check_failure(
        &member(r#"{"chord": {"task": "body"}}"#),
        expect![[r#"
        count t-1 Some(3) FAILURE in g-1
    "#]],
    );
}

#[test]
fn a_failure_goes_down_the_chain_and_into_chords() {
    let chain = r#"{"chain": [
        {"task": "last", "options": {"task_id": "c", "group_id": "g", "group_index": 1, "chord": {"task": "around"}}},
        {"task": "celery.chord", "subtask_type": "chord", "options": {"task_id": "h"},
         "kwargs": {"header": [{"task": "x"}], "body": {"task": "body", "options": {"task_id": "b"}}}},
        {"task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": []}, "options": {}},
        {"task": "next", "options": {"task_id": "a"}}]}"#;
    check_failure(
        &request(chain),
        expect![[r#"
        store c FAILURE ValueError('oops')
        store h FAILURE ValueError('oops')
        store a FAILURE ValueError('oops')
        store b FAILURE ValueError('oops')
        count c Some(1) FAILURE in g
    "#]],
    );
}

#[test]
fn errbacks_get_the_id_unless_they_are_ours_and_take_more() {
    check_failure(
        &request(
            r#"{"errbacks": [{"task": "by_id", "args": [1]}, {"task": "fixed", "args": [2], "immutable": true},
                             {"task": "told"}, {"task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": 5}}]}"#,
        ),
        expect![[r#"
            "told" (the request, {"exc_type": "ValueError", "exc_message": ["oops"], "exc_module": "builtins"}, "Traceback") parent="t-1" root="t-1"
            "by_id" ("t-1", 1) parent="t-1" root="t-1"
            "fixed" (2) parent="t-1" root="t-1"
            an errback of task t-1 is not published: `kwargs.tasks` of the signature is not a JSON array"#]],
    );
}

fn claimed(parts: &[(&str, State, &str)], structure: Option<&str>) -> ClaimedChord {
    let id = |text: &str| TaskId::parse(text).expect("an id");
    let part = |(task, state, result): &(&str, State, &str)| Part {
        task: id(task),
        state: state.clone(),
        result: json(result),
    };
    ClaimedChord {
        group: "g-1".to_owned(),
        token: "token".to_owned(),
        again: false,
        parts: parts.iter().map(part).collect(),
        structure: structure.map(json),
        broken: None,
    }
}

#[track_caller]
fn check_body(claimed: &ClaimedChord, body: &str, expected: Expect) {
    let text = match Body::of(means(), &request("null"), claimed, &json(body), NOW) {
        Body::Runs(published) => steps(&published),
        Body::Fails(failed) => aftermath(&failed),
    };
    expected.assert_eq(&text);
}

const FAILED: &str = r#"{"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"}"#;

#[test]
fn a_body_gets_the_results_in_the_shape_of_the_header() {
    let parts = [("a", State::Success, "1"), ("b", State::Success, "NaN"), ("c", State::Success, "\"x\"")];
    check_body(
        &claimed(&parts, None),
        r#"{"task": "body", "args": [0]}"#,
        expect![[r#"
        "body" ([1, NaN, "x"], 0) parent="t-1" root="t-1"
    "#]],
    );
    let shape = r#"[["g-1", null], [[["b", null], null], [["h", null], [[["c", null], null], [["a", null], null]]]]]"#;
    check_body(
        &claimed(&parts, Some(shape)),
        r#"{"task": "body"}"#,
        expect![[r#"
        "body" ([NaN, ["x", 1]]) parent="t-1" root="t-1"
    "#]],
    );
    check_body(
        &claimed(&parts[..2], Some(shape)),
        r#"{"task": "body", "options": {"task_id": "b-1"}}"#,
        expect![[r#"
        store b-1 FAILURE ChordError("Join error: TimeoutError('The operation timed out.')")
    "#]],
    );
}

#[test]
fn a_body_fails_with_what_keeps_its_results_from_coming_together() {
    let chord = ClaimedChord { broken: Some("GroupResult g-1 no longer exists".to_owned()), ..claimed(&[], None) };
    check_body(
        &chord,
        r#"{"task": "body", "options": {"task_id": "b-1"}}"#,
        expect![[r#"
        store b-1 FAILURE ChordError('GroupResult g-1 no longer exists')
    "#]],
    );
}

#[test]
fn a_body_fails_with_the_first_part_that_failed() {
    let parts = [("a", State::Success, "1"), ("b", State::Failure, FAILED), ("c", State::Revoked, FAILED)];
    let chord = claimed(&parts, None);
    check_body(
        &chord,
        r#"{"task": "body", "options": {"task_id": "b-1", "link_error": [{"task": "by_id"}, {"task": "told"}],
            "chain": [{"task": "rest", "options": {"task_id": "r-1"}}]}}"#,
        expect![[r#"
            store b-1 FAILURE ChordError("Dependency b raised KeyError('k')")
            store r-1 FAILURE ChordError("Dependency b raised KeyError('k')")
            "told" ({"id": "b-1", "errbacks": [{"task": "by_id"}, {"task": "told"}], "task": "body", "args": null, "kwargs": null}, {"exc_type": "ChordError", "exc_message": ["Dependency b raised KeyError('k')"], "exc_module": "celery.exceptions"}, null) parent="b-1" root="b-1"
            "by_id" ("b-1") parent="b-1" root="b-1"
        "#]],
    );
    check_body(
        &chord,
        r#"{"task": "celery.chord", "subtask_type": "chord", "options": {"task_id": "h-1"},
            "kwargs": {"header": [], "body": {"task": "inner", "options": {"task_id": "b-1"}}}}"#,
        expect![[r#"
            store h-1 FAILURE ChordError("Dependency b raised KeyError('k')")
            store b-1 FAILURE ChordError("Dependency b raised KeyError('k')")
        "#]],
    );
}

#[test]
fn the_members_of_a_body_that_is_a_group_fail_with_what_went_wrong() {
    let parts = [("b", State::Failure, FAILED)];
    check_body(
        &claimed(&parts, None),
        r#"{"task": "celery.group", "subtask_type": "group", "options": {"task_id": "g-2", "link_error": {"task": "of_all"}},
            "kwargs": {"tasks": [
                {"task": "x", "options": {"task_id": "x-1", "link_error": [{"task": "of_x"}, {"task": "of_all"}]}},
                {"task": "celery.chord", "subtask_type": "chord", "options": {"task_id": "h-1"},
                 "kwargs": {"header": [], "body": {"task": "y", "options": {"task_id": "y-1"}}}}]}}"#,
        expect![[r#"
            store x-1 FAILURE KeyError('k')
            store y-1 FAILURE KeyError('k')
            store g-2 FAILURE KeyError('k')
            "of_x" ("x-1") parent="x-1" root="x-1"
            "of_all" ("x-1") parent="x-1" root="x-1"
            "of_all" ("y-1") parent="y-1" root="y-1"
        "#]],
    );
}

#[test]
fn a_body_that_may_have_been_published_before_says_so() {
    for again in [false, true] {
        let claimed = ClaimedChord { again, ..claimed(&[("a", State::Success, "1")], None) };
        let body = json(r#"{"task": "body", "options": {"task_id": "b-1"}}"#);
        let ready = ReadyChord { claimed, body, remaining: Settlement::default() };
        let settlement = settle::chord_ready(&request("null"), ready, NOW, means());
        let [Step::Send(body) | Step::SendTo(_, body)] = &*settlement.before else { panic!("{settlement:?}") };
        assert_eq!(body.message.headers.get(PUT_BACK_HEADER).is_some(), again);
    }
}

#[test]
fn errbacks_that_may_have_been_published_before_say_so() {
    for again in [false, true] {
        let claimed = ClaimedChord { again, ..claimed(&[("a", State::Failure, "{}")], None) };
        let body = json(r#"{"task": "body", "options": {"task_id": "b-1", "link_error": [{"task": "by_id"}]}}"#);
        let ready = ReadyChord { claimed, body, remaining: Settlement::default() };
        let settlement = settle::chord_ready(&request("null"), ready, NOW, means());
        let [Step::Send(told) | Step::SendTo(_, told)] = &*settlement.after else { panic!("{settlement:?}") };
        assert_eq!(told.message.headers.get(PUT_BACK_HEADER).is_some(), again);
        assert_eq!(settlement.chord, [ChordStep::Fail { group: "g-1".to_owned() }]);
    }
}

#[test]
fn a_body_that_is_no_signature_fails_the_chord() {
    let parts = [("a", State::Success, "1")];
    check_body(
        &claimed(&parts, None),
        r#"{"args": []}"#,
        expect![[r#"
        store 4382eb9a-4fb8-5969-b3b3-69aa4bf19950 FAILURE ChordError("Callback error: OperationalError('`task` of the signature is not there')")
    "#]],
    );
    let broken = Broken::plain("gone");
    assert_eq!((broken.error.repr(), broken.cause), ("ChordError('gone')".to_owned(), broken.error));
}
