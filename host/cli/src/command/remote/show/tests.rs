//! Answers as people see them.

use expect_test::{Expect, expect};

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_795_343_530_000_000);

fn parse(answers: &[(&str, &str)]) -> Replies {
    let parse = |text: &str| Json::parse(text.to_owned()).expect("JSON");
    answers.iter().map(|(node, reply)| ((*node).to_owned(), parse(reply))).collect()
}

#[track_caller]
fn check(method: &str, answers: &[(&str, &str)], expected: Expect) {
    expected.assert_eq(&replies(method, &parse(answers), NOW));
}

const REQUEST: &str = r#"{"id": "7b1f", "name": "tasks.add", "args": [2, "x"], "kwargs": {"k": null}, "type": "tasks.add", "hostname": "w@box", "time_start": 1795343528.5, "acknowledged": false, "delivery_info": {"exchange": "", "routing_key": "celery", "priority": 0, "redelivered": false}, "worker_pid": 7}"#;

#[test]
fn short_answers_stand_beside_the_name() {
    let answers = [
        ("a@box", r#"{"ok": "pong"}"#),
        ("b@box", r#"{"error": "KeyError('nosuch')"}"#),
        ("c@box", "null"),
        ("d@box", r#""61.1MB""#),
    ];
    check(
        "heartbeat",
        &answers,
        expect![[r#"
            a@box: pong

            b@box: ERROR KeyError('nosuch')

            c@box: OK

            d@box: 61.1MB
        "#]],
    );
    assert!(error(&parse(&answers)["b@box"]).is_some() && error(&parse(&answers)["a@box"]).is_none());
    expect![[r#"
        a@box: OK
        b@box: ERROR KeyError('nosuch')
        c@box: OK
        d@box: OK

        4 nodes online.
    "#]]
    .assert_eq(&status(&parse(&answers)));
}

#[test]
fn requests_are_a_table() {
    let scheduled = format!(r#"[{{"eta": "2026-11-26T12:00:00+00:00", "priority": 6, "request": {REQUEST}}}]"#);
    check(
        "active",
        &[("a@box", &format!("[{REQUEST}]")), ("b@box", "[]")],
        expect![[r#"
            a@box:
                id    task       args      kwargs       queue   running
                7b1f  tasks.add  [2, 'x']  {'k': None}  celery  1.5 s

            b@box: nothing
        "#]],
    );
    check(
        "scheduled",
        &[("a@box", &scheduled)],
        expect![[r#"
            a@box:
                eta                        id    task       args      kwargs       queue   running
                2026-11-26T12:00:00+00:00  7b1f  tasks.add  [2, 'x']  {'k': None}  celery  1.5 s
        "#]],
    );
    check(
        "query_task",
        &[("a@box", &format!(r#"{{"7b1f": ["active", {REQUEST}]}}"#)), ("b@box", "{}")],
        expect![[r#"
            a@box:
                state   id    task       args      kwargs       queue   running
                active  7b1f  tasks.add  [2, 'x']  {'k': None}  celery  1.5 s

            b@box: nothing
        "#]],
    );
}

#[test]
fn queues_are_a_table_without_what_all_have() {
    let queue = |name: &str, arguments: &str| {
        format!(
            r#"{{"name": "{name}", "exchange": {{"name": "{name}", "type": "direct", "durable": true}}, "routing_key": "{name}", "queue_arguments": {arguments}, "durable": true, "alias": null}}"#
        )
    };
    let list = format!("[{}, {}]", queue("celery", "null"), queue("images", r#"{"x-queue-type": "quorum"}"#));
    check(
        "active_queues",
        &[("a@box", &list)],
        expect![[r#"
            a@box:
                queue   exchange  type    routing_key  durable  arguments
                celery  celery    direct  celery       yes
                images  images    direct  images       yes      {'x-queue-type': 'quorum'}
        "#]],
    );
}

#[test]
fn maps_are_lines_and_texts_are_as_they_are() {
    check(
        "stats",
        &[(
            "a@box",
            r#"{"total": {"tasks.add": 3}, "pid": 7, "pool": {"timeouts": [0, 0], "empty": {}}, "rate": 1.0}"#,
        )],
        expect![[r#"
            a@box:
                total.tasks.add  3
                pid              7
                pool.timeouts    [0, 0]
                pool.empty       {}
                rate             1.0
        "#]],
    );
    check(
        "report",
        &[("a@box", r#"{"ok": "\nsoftware -> celery\n  os:Linux\n"}"#)],
        expect![[r#"
            a@box:
                software -> celery
                  os:Linux
        "#]],
    );
    check(
        "registered",
        &[("a@box", r#"["tasks.add", "tasks.lim [rate_limit=30/m]"]"#)],
        expect![[r#"
            a@box:
                tasks.add
                tasks.lim [rate_limit=30/m]
        "#]],
    );
}

#[test]
fn what_others_wrote_does_not_reach_the_terminal() {
    check(
        "ping",
        &[("a\u{1b}[2J", r#"{"ok": "\u001b]0;x\u0007"}"#)],
        expect![[r#"
        a\u{1b}[2J: \u{1b}]0;x\u{7}
    "#]],
    );
    let long = format!(r#"[{{"a": "{}", "b": "x\ny"}}]"#, "é".repeat(60));
    check(
        "other",
        &[("a@box", &long)],
        expect![[r#"
        a@box:
            a                                                  b
            éééééééééééééééééééééééééééééééééééééééééééééééé…  x\ny
    "#]],
    );
}

#[test]
fn for_programs_an_answer_is_as_it_came() {
    let text = r#"{"x": NaN, "n": 1e400}"#;
    assert_eq!(json(&parse(&[("a@box", text)])).to_string(), format!(r#"{{"a@box": {text}}}"#));
}
