//! What goes over the wire for each event, beside what Celery sends.

use std::sync::Arc;

use expect_test::{Expect, expect};

use super::*;
use crate::control::Signal;
use crate::message::{DeliveryInfo, Route};
use crate::name::{QueueName, TaskName};
use crate::outcome::Trap;
use crate::protocol::codec::Codec;
use crate::protocol::content::Json;
use crate::protocol::v2::{self, Call};

const AT: Timestamp = Timestamp::from_micros(1_795_343_528_048_566);
const STAMP: Stamp = Stamp { clock: 7, at: AT };

fn writer() -> EventWriter {
    let software = Software { name: "taskhost", version: "0.1.0", system: "Linux" };
    EventWriter::new(&NodeName::parse("taskhost@box").expect("a name"), 42, software)
}

fn call() -> Call {
    let (task, id) = (TaskName::parse("tasks.add"), TaskId::parse("t-1"));
    Call { args: Json::array([2, 2]), ..Call::new(task.expect("a name"), id.expect("an id"), "gen1@box") }
}

fn received(change: impl FnOnce(&mut Message)) -> Happening {
    let delivery = DeliveryInfo {
        queue: QueueName::parse("celery").expect("a name"),
        exchange: String::new(),
        routing_key: "celery".to_owned(),
        redelivered: false,
    };
    let call = Call { eta: Some(AT), parent_id: Some("p".to_owned()), retries: 1, ..call() };
    let mut message = v2::message(&call, AT);
    change(&mut message);
    let request = Request::decode(message, delivery, &Codec::default()).expect("a request");
    Happening::Received { request: Arc::new(request), refused: false }
}

fn written(what: Happening) -> String {
    let event = Event {
        id: TaskId::parse("t-1").expect("an id"),
        task: TaskName::parse("tasks.add").expect("a name"),
        spec: None,
        what,
    };
    let mut out = String::new();
    let said = writer().task(&mut out, &event, STAMP);
    assert_eq!(said, !out.is_empty());
    if said {
        Json::parse(out.clone()).expect("it is JSON");
    }
    out
}

/// Without what all have.
#[track_caller]
fn check(what: Happening, expected: Expect) {
    let out = written(what);
    let begin = r#"{"hostname": "taskhost@box", "pid": 42, "clock": 7, "uuid": "t-1""#;
    let inside = out.strip_prefix(begin).expect("it begins as all do");
    let (fields, kind) = inside.split_once(r#", "timestamp": 1795343528.048566, "type": "#).expect("it ends as all do");
    expected.assert_eq(&format!("{}{fields}", kind.trim_end_matches('}')));
}

#[test]
fn what_is_received_is_told_as_the_client_shows_it() {
    check(
        received(|_| {}),
        expect![[
            r#""task-received", "name": "tasks.add", "args": "(2, 2)", "kwargs": "{}", "root_id": "t-1", "parent_id": "p", "retries": 1, "eta": "2026-11-22T10:32:08.048566+00:00", "expires": null"#
        ]],
    );
    let hidden = received(|message| {
        message.headers.set("argsrepr", HeaderValue::Text("('***',)".to_owned()));
        message.headers.set("kwargsrepr", HeaderValue::Null);
        message.headers.set("shadow", HeaderValue::Text("sum".to_owned()));
        message.headers.set("eta", HeaderValue::Null);
    });
    check(
        hidden,
        expect![[
            r#""task-received", "name": "sum", "args": "('***',)", "kwargs": "{}", "root_id": "t-1", "parent_id": "p", "retries": 1, "eta": null, "expires": null"#
        ]],
    );
}

#[test]
fn a_client_cannot_make_an_event_long() {
    let long = received(|message| message.headers.set("argsrepr", HeaderValue::Text("ü".repeat(10_000))));
    let out = Json::parse(written(long)).expect("it is JSON");
    let args = out.get("args").and_then(|args| args.as_text().map(|args| args.into_owned())).expect("a text");
    assert_eq!((args.chars().count(), args.ends_with("...")), (ARGUMENTS_CHARS_MAX, true));
}

#[test]
fn every_end_has_celerys_event() {
    let usage = Usage { wall: Duration::from_nanos(1_002_000_003), ..Usage::default() };
    let exception = Exception::new("builtins", "ValueError", [Json::text("no \"x\"")]);
    check(Happening::Started { waited: Duration::ZERO }, expect![[r#""task-started""#]]);
    check(
        Happening::Succeeded { result: Json::parse(r#"{"a": [null, "é"]}"#).expect("JSON"), usage },
        expect![[r#""task-succeeded", "result": "{'a': [None, '\u00e9']}", "runtime": 1.002000003"#]],
    );
    check(
        Happening::Failed { exception: exception.clone(), traceback: Some("T\n".to_owned()), limit: None, usage },
        expect![[r#""task-failed", "exception": "ValueError('no \"x\"')", "traceback": "T\n""#]],
    );
    check(
        Happening::Retried { cause: Some(exception), traceback: None, delay: Duration::ZERO },
        expect![[r#""task-retried", "exception": "ValueError('no \"x\"')", "traceback": null"#]],
    );
    check(
        Happening::Retried { cause: None, traceback: None, delay: Duration::ZERO },
        expect![[r#""task-retried", "exception": "None", "traceback": null"#]],
    );
    check(Happening::Rejected { requeue: false }, expect![[r#""task-rejected", "requeue": false"#]]);
    let exception = Exception::trap(&Trap::StackOverflow);
    check(Happening::Lost { exception }, expect![[r#""task-rejected", "requeue": true"#]]);
    check(
        Happening::Revoked { expired: true, terminated: None },
        expect![[r#""task-revoked", "terminated": false, "signum": null, "expired": true"#]],
    );
    check(
        Happening::Revoked { expired: false, terminated: Some(Signal::KILL) },
        expect![[r#""task-revoked", "terminated": true, "signum": 9, "expired": false"#]],
    );
    check(
        Happening::Unregistered { requeue: false },
        expect![[r#""task-failed", "exception": "NotRegistered('tasks.add')", "traceback": null"#]],
    );
    check(Happening::Unregistered { requeue: true }, expect![[r#""task-rejected", "requeue": true"#]]);
    check(Happening::Parked { quarantined: true }, expect![[r#""task-parked", "quarantined": true"#]]);
    check(
        Happening::DeadLettered { deliveries: 3 },
        expect![[
            r#""task-failed", "exception": "WorkerLostError('delivered 3 times, and each time the worker was lost')", "traceback": null"#
        ]],
    );
    check(Happening::Interrupted, expect![[r#""task-cancelled""#]]);
    assert_eq!(written(Happening::Ignored), "");
    let Happening::Received { request, .. } = received(|_| {}) else { unreachable!("it was made here") };
    assert_eq!(written(Happening::Received { request, refused: true }), "");
}

#[test]
fn of_a_long_traceback_the_end_is_told() {
    let exception = Exception::soft_time_limit();
    let traceback = Some(format!("{}é: the end", "é".repeat(TRACEBACK_BYTES_MAX)));
    let out = written(Happening::Failed { exception, traceback, limit: None, usage: Usage::default() });
    let told = Json::parse(out).expect("it is JSON").get("traceback").expect("it has one");
    let told = told.as_text().expect("a text").into_owned();
    assert!(told.ends_with("é: the end") && told.len() <= TRACEBACK_BYTES_MAX, "{} bytes", told.len());
}

#[test]
fn what_a_task_says_has_its_fields_as_they_are() {
    let fields = Json::parse(r#"{"pages": 300, "rate": NaN, "é": [1]}"#).expect("JSON");
    let event = CustomEvent::new(TaskId::parse("t-1").expect("an id"), "task-indexed", fields).expect("an event");
    let mut out = String::new();
    writer().custom(&mut out, &event, STAMP);
    expect![[r#"{"hostname": "taskhost@box", "pid": 42, "clock": 7, "uuid": "t-1", "pages": 300, "rate": NaN, "\u00e9": [1], "timestamp": 1795343528.048566, "type": "task-indexed"}"#]]
        .assert_eq(&out);
}

#[test]
fn what_the_worker_sends_is_told_as_a_client_tells_it() {
    let publication =
        Publication { message: v2::message(&call(), AT), route: Route::queue(&QueueName::parse("q").expect("a name")) };
    let mut out = String::new();
    assert!(writer().sent(&mut out, &publication, STAMP));
    expect![[r#"{"hostname": "gen42@box", "pid": 42, "clock": 7, "uuid": "t-1", "root_id": "t-1", "parent_id": null, "name": "tasks.add", "args": "(2, 2)", "kwargs": "{}", "retries": 0, "eta": null, "expires": null, "queue": "q", "exchange": "", "routing_key": "q", "timestamp": 1795343528.048566, "type": "task-sent"}"#]]
        .assert_eq(&out);
    let nothing = Publication { message: Message::default(), ..publication };
    assert!(!writer().sent(&mut String::new(), &nothing, STAMP));
}

#[test]
fn a_worker_says_how_it_is() {
    let vitals = Vitals { interval: Duration::from_secs(2), active: 3, processed: 99, load: [0.456, 1.0, 12.0] };
    expect![[r#"{"hostname": "taskhost@box", "pid": 42, "clock": 7, "freq": 2.0, "active": 3, "processed": 99, "loadavg": [0.46, 1.00, 12.00], "sw_ident": "taskhost", "sw_ver": "0.1.0", "sw_sys": "Linux", "timestamp": 1795343528.048566, "type": "worker-heartbeat"}"#]]
        .assert_eq(&writer().beat(Beat::Heartbeat, &vitals, STAMP));
    let message = writer().message("{}".to_owned());
    assert_eq!(message.headers.get("hostname"), Some(&HeaderValue::Text("taskhost@box".to_owned())));
    assert_eq!(
        (message.properties.delivery_mode, routing_key(Beat::Online.kind()).as_str()),
        (Some(1), "worker.online")
    );
}
