//! What is answered to commands, and what they lead to.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::builtin;
use crate::catalog::Catalog;
use crate::dispatcher::fixture::{limits, request, spec};
use crate::dispatcher::tests::{Bench, NOW, at, committed, dispatcher, received, render, success};
use crate::dispatcher::{Input, Limits};
use crate::name::QueueName;
use crate::outcome::DeliveryId;
use crate::queue::Queues;
use crate::task::TaskOptions;

fn id(text: &str) -> TaskId {
    TaskId::parse(text).expect("an id")
}

fn command(line: &str) -> Input {
    let (method, arguments) = line.split_once(' ').unwrap_or((line, "{}"));
    let arguments = Json::parse(arguments.to_owned()).expect("JSON");
    Input::Control(QuestionId(1), Box::new(Command::parse(method, &arguments).expect("a command")))
}

/// The answer to a command that is answered at once and leads to nothing else.
#[track_caller]
fn ask(dispatcher: &mut Dispatcher, line: &str) -> String {
    let said = render(dispatcher.handle(command(line), NOW));
    said.strip_prefix("reply 1 ").unwrap_or_else(|| panic!("{said}")).to_owned()
}

fn named(concurrency: usize) -> Dispatcher {
    let meta = Json::object([("pid", Json::int(7)), ("hostname", Json::text("w@box"))]);
    let tasks = ["tasks.add", "tasks.other", "celery.own"].map(|name| spec(name, TaskOptions::default()));
    let builtins = builtin::specs(Duration::from_secs(1)).filter(|spec| spec.name.as_str() == "celery.ping");
    let limits = Limits { started_meta: meta, ..limits(concurrency) };
    let mut dispatcher = Dispatcher::new(limits, Arc::new(Catalog::new(tasks).with_builtins(builtins)), 1);
    let queue = QueueName::parse("celery").expect("a name");
    dispatcher.begin_with(vec![Queue::named(queue)], Queues::default());
    dispatcher
}

fn delayed(delivery: u64, id: &str, ms: u64) -> Input {
    let mut request = request("tasks.add", id);
    request.eta = Some(at(ms));
    Input::Received(DeliveryId(delivery), Ok(Box::new(request)))
}

fn ids_of(answer: &str) -> Vec<String> {
    let answer = Json::parse(answer.to_owned()).expect("JSON");
    let id =
        |it: Json| it.get("request").unwrap_or(it).get("id").expect("an id").as_text().expect("a text").into_owned();
    answer.elements().map(id).collect()
}

#[test]
fn requests_are_listed_by_where_they_stand() {
    let mut it = named(1);
    it.handle(received(1, "tasks.add", "a"), NOW);
    it.handle(received(2, "tasks.add", "b"), NOW);
    it.handle(delayed(3, "c", 1_000), NOW);
    it.handle(received(4, "tasks.add", "d"), NOW);
    let active = ask(&mut it, "active");
    assert_eq!(
        active,
        r#"[{"id": "a", "name": "tasks.add", "args": [2, 2], "kwargs": {}, "type": "tasks.add", "hostname": "w@box", "time_start": 1795343528.0, "acknowledged": false, "delivery_info": {"exchange": "", "routing_key": "celery", "priority": null, "redelivered": false}, "worker_pid": 7}]"#
    );
    assert!(ask(&mut it, r#"active {"safe": true}"#).contains(r#""args": "(2, 2)", "kwargs": "{}""#));
    assert_eq!(ids_of(&ask(&mut it, "reserved")), ["b", "d"]);
    let scheduled = ask(&mut it, "scheduled");
    assert!(
        scheduled.starts_with(r#"[{"eta": "2026-11-22T10:32:09+00:00", "priority": 6, "request": {"id": "c""#),
        "{scheduled}"
    );
    let found = ask(&mut it, r#"query_task {"ids": ["c", "a", "b", "z"]}"#);
    let found = Json::parse(found).expect("JSON");
    let states: Vec<String> =
        found.members().map(|(id, pair)| format!("{id} {}", pair.elements().next().expect("a state"))).collect();
    assert_eq!(states, [r#"a "active""#, r#"b "reserved""#, r#"c "scheduled""#]);
    // What is done with is nowhere.
    it.handle(success(1), NOW);
    assert_eq!(ids_of(&ask(&mut it, "active")), ["b"]);
    assert_eq!(ask(&mut it, r#"query_task {"ids": "a"}"#), "{}");
}

#[test]
fn what_the_broker_keeps_until_later_is_scheduled_too() {
    let mut it = named(1);
    it.handle(Input::BrokerBack { puts_back: true, times_out: false, clock_is_wrong: false }, NOW);
    let put_back = render(it.handle(delayed(1, "a", 600_000), NOW));
    assert!(put_back.starts_with("put back 1"), "{put_back}");
    assert_eq!(ids_of(&ask(&mut it, "scheduled")), ["a"]);
    it.handle(Input::PutBack(DeliveryId(1), true), NOW);
    assert_eq!(ids_of(&ask(&mut it, "scheduled")), ["a"]);
    assert!(ask(&mut it, r#"query_task {"ids": "a"}"#).starts_with(r#"{"a": ["scheduled", "#));
    // Its time comes, here or with another worker.
    let late = at(600_000);
    assert_eq!(render(it.handle(command("scheduled"), late)), "reply 1 []");
    let mut bench = Bench(it);
    bench.step(NOW, command(r#"revoke {"task_id": "a"}"#), "remember 1; states for 1: a");
    assert_eq!(ask(&mut bench.0, "scheduled"), "[]", "it will be refused");
}

#[test]
fn what_is_revoked_on_its_way_back_to_the_broker_is_revoked_at_once() {
    for (done, becomes) in [(true, "record REVOKED"), (false, "commit 1: REVOKED, ack")] {
        let mut bench = Bench(named(1));
        bench.0.handle(Input::BrokerBack { puts_back: true, times_out: false, clock_is_wrong: false }, NOW);
        bench.0.handle(delayed(1, "a", 600_000), NOW);
        let flagged = r#"remember 1; reply 1 {"ok": "tasks {'a'} flagged as revoked"}"#;
        bench.step(NOW, command(r#"revoke {"task_id": "a"}"#), flagged);
        bench.step(NOW, Input::PutBack(DeliveryId(1), done), becomes);
        assert_eq!(ask(&mut bench.0, "scheduled"), "[]");
    }
}

#[test]
fn tasks_and_queues_are_told_with_what_was_changed() {
    let mut it = named(1);
    assert_eq!(ask(&mut it, "registered"), r#"["tasks.add", "tasks.other"]"#);
    let all = r#"["celery.own", "celery.ping", "tasks.add", "tasks.other"]"#;
    assert_eq!(ask(&mut it, r#"registered {"builtins": true}"#), all);
    let limit = |it: &mut Dispatcher, task: &str, rate: &str| {
        ask(it, &format!(r#"rate_limit {{"task_name": "{task}", "rate_limit": "{rate}"}}"#))
    };
    assert_eq!(limit(&mut it, "tasks.add", "30/m"), r#"{"ok": "new rate limit set successfully"}"#);
    assert_eq!(limit(&mut it, "nosuch", "30/m"), r#"{"error": "unknown task"}"#);
    assert_eq!(ask(&mut it, "registered"), r#"["tasks.add [rate_limit=30/m]", "tasks.other"]"#);
    assert_eq!(limit(&mut it, "tasks.add", ""), r#"{"ok": "rate limit disabled successfully"}"#);
    assert_eq!(ask(&mut it, "registered"), r#"["tasks.add", "tasks.other"]"#);
    let times = r#"time_limit {"task_name": "tasks.add", "hard": 20, "soft": 10}"#;
    assert_eq!(ask(&mut it, times), r#"{"ok": "time limits set successfully"}"#);
    assert_eq!(
        ask(&mut it, r#"registered {"taskinfoitems": ["time_limit", "soft_time_limit"]}"#),
        r#"["tasks.add [time_limit=20 soft_time_limit=10]", "tasks.other"]"#
    );
    assert_eq!(ask(&mut it, r#"time_limit {"task_name": "nosuch"}"#), r#"{"error": "unknown task"}"#);
    let queues = Json::parse(ask(&mut it, "active_queues")).expect("JSON");
    assert_eq!(queues.elements().map(|it| it.members().count()).collect::<Vec<_>>(), [18]);
}

#[test]
fn changed_time_limits_hold_for_what_starts_afterwards() {
    let mut it = named(2);
    ask(&mut it, r#"time_limit {"task_name": "tasks.add", "hard": 20, "soft": 10}"#);
    let limits = |actions: Vec<Action>| {
        let starts = actions.into_iter().filter_map(|action| match action {
            Action::Start(attempt) => {
                Some((attempt.time_limit.as_secs(), attempt.soft_time_limit.map(|it| it.as_secs())))
            }
            _ => None,
        });
        starts.collect::<Vec<_>>()
    };
    assert_eq!(limits(it.handle(received(1, "tasks.add", "a"), NOW)), [(20, Some(10))]);
    // The message's own word counts more.
    let mut call = request("tasks.add", "b");
    call.time_limit = Some(Duration::from_secs(5));
    assert_eq!(limits(it.handle(Input::Received(DeliveryId(2), Ok(Box::new(call))), NOW)), [(5, None)]);
}

#[test]
fn starts_are_counted_by_the_name_that_is_shown() {
    let mut it = named(4);
    it.handle(received(1, "tasks.add", "a"), NOW);
    it.handle(received(2, "tasks.add", "b"), NOW);
    let mut shadowed = request("tasks.add", "c");
    shadowed.message.headers.set("shadow", crate::message::HeaderValue::Text("sum".to_owned()));
    it.handle(Input::Received(DeliveryId(3), Ok(Box::new(shadowed))), NOW);
    assert_eq!(
        ask(&mut it, "stats"),
        r#"{"total": {"sum": 1, "tasks.add": 2}, "prefetch_count": 16, "concurrency": 4}"#
    );
}

#[test]
fn names_that_clients_make_up_are_bounded() {
    let mut totals = super::super::inspect::Totals::default();
    let mut call = request("tasks.add", "a");
    for index in 0..20_000 {
        call.message.headers.set("shadow", crate::message::HeaderValue::Text(index.to_string()));
        totals.count(&call);
    }
    call.message.headers.set("shadow", crate::message::HeaderValue::Text("x".repeat(1_000)));
    totals.count(&call);
    assert!(format!("{totals:?}").contains(r#""tasks.add": 10001"#));
    let mut totals = super::super::inspect::Totals::default();
    totals.count(&call);
    assert_eq!(format!("{totals:?}"), r#"Totals({"tasks.add": 1})"#);
}

#[test]
fn a_revoke_stops_what_is_here_and_marks_what_nobody_has_begun() {
    let mut bench = Bench(named(1));
    bench.0.handle(received(1, "tasks.add", "a"), NOW);
    bench.0.handle(received(2, "tasks.add", "b"), NOW);
    bench.step(
        NOW,
        command(r#"revoke {"task_id": ["a", "b", "x", "y", "z"]}"#),
        "remember 5; commit 2: REVOKED, ack; states for 1: x y z",
    );
    let states =
        vec![(id("x"), State::Pending), (id("y"), State::Started), (id("z"), State::Custom("RECEIVED".into()))];
    bench.step(
        NOW,
        Input::States(QuestionId(1), states),
        r#"store x z for 1 then reply {"ok": "tasks {'a', 'b', 'x', 'y', 'z'} flagged as revoked"}"#,
    );
    // Nobody waits for that answer any more.
    bench.step(NOW, Input::States(QuestionId(1), Vec::new()), "");
    assert_eq!(ask(&mut bench.0, "revoked"), r#"["a", "b", "x", "y", "z"]"#);
}

#[test]
fn what_has_a_state_already_is_left_to_whoever_gave_it() {
    let mut bench = Bench(named(1));
    bench.step(NOW, command(r#"revoke {"task_id": "x"}"#), "remember 1; states for 1: x");
    bench.step(
        NOW,
        Input::States(QuestionId(1), vec![(id("x"), State::Success)]),
        r#"reply 1 {"ok": "tasks {'x'} flagged as revoked"}"#,
    );
    bench.step(NOW, command(r#"revoke {"task_id": []}"#), r#"reply 1 {"ok": "tasks set() flagged as revoked"}"#);
}

#[test]
fn a_store_that_cannot_be_asked_is_not_asked() {
    let tasks = Catalog::new([spec("tasks.add", TaskOptions::default())]);
    let mut bench = Bench(Dispatcher::new(Limits { look_up: false, ..limits(1) }, Arc::new(tasks), 1));
    bench.step(
        NOW,
        command(r#"revoke {"task_id": "x"}"#),
        r#"remember 1; reply 1 {"ok": "tasks {'x'} flagged as revoked"}"#,
    );
}

#[test]
fn a_terminate_says_whom_it_found() {
    let mut bench = Bench(named(1));
    bench.0.handle(received(1, "tasks.add", "a"), NOW);
    bench.step(
        NOW,
        command(r#"terminate {"task_id": ["a"], "signal": "KILL"}"#),
        r#"remember 1; terminate 1; reply 1 {"ok": "terminate: a"}"#,
    );
    bench.step(NOW, command(r#"revoke {"task_id": "z", "terminate": true}"#), "remember 1; states for 1: z");
    bench.step(NOW, Input::States(QuestionId(1), Vec::new()), r#"reply 1 {"ok": "terminate: tasks unknown"}"#);
}

#[test]
fn stamps_are_revoked_with_the_answers_of_celery() {
    let stamped = |delivery, id: &str| {
        let mut request = request("tasks.add", id);
        let text = |text: &str| crate::message::HeaderValue::Text(text.to_owned());
        let headers = &mut request.message.headers;
        headers.set("stamped_headers", crate::message::HeaderValue::List(vec![text("tenant")]));
        headers.set("stamps", crate::message::HeaderValue::Map(vec![("tenant".to_owned(), text("acme"))]));
        Input::Received(DeliveryId(delivery), Ok(Box::new(request)))
    };
    let mut bench = Bench(named(2));
    bench.0.handle(stamped(1, "a"), NOW);
    let revoke = |headers: &str, terminate: bool| {
        command(&format!(r#"revoke_by_stamped_headers {{"headers": {headers}, "terminate": {terminate}}}"#))
    };
    bench.step(
        NOW,
        revoke(r#"{"tenant": ["acme", "b"]}"#, false),
        r#"remember 2; reply 1 {"ok": "headers {'tenant': ['acme', 'b']} flagged as revoked, but not terminated"}"#,
    );
    bench.step(
        NOW,
        revoke(r#"{"tenant": "other"}"#, true),
        r#"remember 1; reply 1 {"ok": "headers {'tenant': 'other'} were not terminated"}"#,
    );
    bench.step(
        NOW,
        revoke(r#"["tenant=acme"]"#, true),
        r#"remember 1; terminate 1; reply 1 {"ok": "headers {'tenant': {'acme'}} revoked"}"#,
    );
}

#[test]
fn what_is_no_longer_revoked_runs() {
    let mut bench = Bench(named(1));
    bench.0.recall([(Revocation::Id(id("a")), NOW), (Revocation::Id(id("b")), NOW)]);
    bench.step(
        NOW,
        command(r#"unrevoke {"task_id": ["a", "z"]}"#),
        r#"forget 1; reply 1 {"ok": "tasks {'a'} may run again"}"#,
    );
    bench.step(NOW, command(r#"unrevoke {"task_id": "a"}"#), r#"reply 1 {"error": "tasks {'a'} are not revoked"}"#);
    bench.step(NOW, received(1, "tasks.add", "a"), "start 1 as 1");
    bench.step(NOW, received(2, "tasks.add", "b"), "commit 2: REVOKED, ack");
}

#[test]
fn nodes_tell_each_other_what_is_revoked() {
    let mut bench = Bench(named(1));
    bench.0.recall([
        (Revocation::Id(id("old")), NOW + Duration::ZERO - crate::revoke::EXPIRES),
        (Revocation::Id(id("a")), NOW),
    ]);
    bench.0.handle(received(1, "tasks.add", "x"), NOW);
    bench.0.handle(received(2, "tasks.add", "b"), NOW);
    bench.step(
        NOW,
        command(r#"hello {"from_node": "n@box", "revoked": ["a", "b"]}"#),
        r#"remember 1; commit 2: REVOKED, ack; reply 1 ["a", "b"]"#,
    );
    bench.step(NOW, command(r#"hello {"from_node": "n@box"}"#), r#"reply 1 ["a", "b"]"#);
}

#[test]
fn queues_come_and_go_by_command() {
    let mut bench = Bench(named(1));
    bench.step(NOW, command(r#"add_consumer {"queue": "q"}"#), r#"consume celery q; reply 1 {"ok": "add consumer q"}"#);
    bench.step(NOW, command(r#"add_consumer {"queue": "q"}"#), r#"reply 1 {"ok": "add consumer q"}"#);
    bench.step(NOW, command(r#"pause_queue {"queue": "q"}"#), r#"consume celery; reply 1 {"ok": "queue q paused"}"#);
    bench.step(NOW, command(r#"pause_queue {"queue": "q"}"#), r#"reply 1 {"ok": "queue q is paused already"}"#);
    bench.step(NOW, command(r#"pause_queue {"queue": "z"}"#), r#"reply 1 {"error": "not consuming from z"}"#);
    assert!(!ask(&mut bench.0, "active_queues").contains(r#""name": "q""#));
    assert!(ask(&mut bench.0, "stats").contains(r#""paused_queues": ["q"]"#));
    bench.step(
        NOW,
        command(r#"resume_queue {"queue": "q"}"#),
        r#"consume celery q; reply 1 {"ok": "queue q resumed"}"#,
    );
    bench.step(NOW, command(r#"resume_queue {"queue": "q"}"#), r#"reply 1 {"ok": "queue q is not paused"}"#);
    bench.step(
        NOW,
        command(r#"cancel_consumer {"queue": "q"}"#),
        r#"consume celery; reply 1 {"ok": "no longer consuming from q"}"#,
    );
    bench.step(NOW, command(r#"cancel_consumer {"queue": "z"}"#), r#"reply 1 {"ok": "no longer consuming from z"}"#);
    bench.step(NOW, command("quiet"), r#"consume; reply 1 {"ok": "quiet: no more tasks are taken"}"#);
    assert_eq!(ask(&mut bench.0, "quiet"), r#"{"ok": "quiet already"}"#);
    assert_eq!(ask(&mut bench.0, "active_queues"), "[]");
    bench.step(NOW, command("unquiet"), r#"consume celery; reply 1 {"ok": "no longer quiet: tasks are taken again"}"#);
    assert_eq!(ask(&mut bench.0, "unquiet"), r#"{"ok": "not quiet"}"#);
}

#[test]
fn a_queue_is_as_it_is_configured_or_else_as_the_command_says() {
    let mut it = named(1);
    let mut known = Queues::new(crate::queue::QueueKind::Quorum, None);
    let configured = QueueName::parse("configured").expect("a name");
    known.define(Queue { routing_key: "its.own".to_owned(), ..Queue::named(configured) });
    it.begin_with(Vec::new(), known);
    for queue in [
        r#"{"queue": "configured", "routing_key": "other"}"#,
        r#"{"queue": "new", "exchange": "x", "exchange_type": "topic", "routing_key": "a.*"}"#,
    ] {
        it.handle(command(&format!("add_consumer {queue}")), NOW);
    }
    let queues = it
        .queues()
        .map(|(queue, _)| format!("{} {} {} {:?}", queue.name, queue.exchange.name, queue.routing_key, queue.kind));
    assert_eq!(queues.collect::<Vec<_>>(), ["configured configured its.own Classic", "new x a.* Quorum"]);
}

#[test]
fn the_pool_changes_by_command() {
    let mut bench = Bench(named(1));
    bench.0.handle(received(1, "tasks.add", "a"), NOW);
    bench.0.handle(received(2, "tasks.add", "b"), NOW);
    bench.step(NOW, command("pool_grow"), r#"reply 1 {"ok": "pool will grow"}; start 2 as 2; prefetch 8"#);
    bench.step(NOW, command(r#"pool_shrink {"n": 1}"#), r#"reply 1 {"ok": "pool will shrink"}; prefetch 4"#);
    assert_eq!(ask(&mut bench.0, "pool_shrink"), r#"{"error": "the pool has 1 slots and must keep one"}"#);
    assert_eq!(ask(&mut bench.0, r#"autoscale {"max": 3}"#), r#"{"error": "ValueError('Autoscale not enabled')"}"#);
    bench.step(NOW, success(1), "commit 1: SUCCESS, ack");
    bench.step(NOW, committed(1), "");
}

#[test]
fn under_autoscale_only_the_bounds_change() {
    let tasks = Catalog::new([spec("tasks.add", TaskOptions::default())]);
    let bounds = super::super::Autoscale { max: 4, min: 1 };
    let limits =
        Limits { autoscale: Some(bounds), remembered_max: NonZeroUsize::new(10).expect("not zero"), ..limits(1) };
    let mut it = Dispatcher::new(limits, Arc::new(tasks), 1);
    assert_eq!(
        ask(&mut it, "pool_grow"),
        r#"{"error": "pool_grow is not supported with autoscale. Adjust autoscale range instead."}"#
    );
    let wider = render(it.handle(command(r#"autoscale {"max": 8}"#), NOW));
    assert_eq!(wider, r#"reply 1 {"ok": "autoscale now max=8 min=1"}; prefetch 32"#);
    assert!(ask(&mut it, "stats").contains(r#""autoscaler": {"max": 8, "min": 1, "current": 1, "qty": 0}"#));
}

#[test]
fn a_command_for_somebody_else_is_not_taken_for_done() {
    assert_eq!(ask(&mut dispatcher(1), "ping"), r#"{"error": "not a matter of the dispatcher"}"#);
}
