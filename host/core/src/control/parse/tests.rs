//! Commands as clients write them, and what they are read as.

use super::*;

fn parse(method: &str, arguments: &str) -> Result<Command, String> {
    let arguments = Json::parse(arguments.to_owned()).expect("JSON");
    Command::parse(method, &arguments).map_err(|error| error.reply().to_string())
}

#[track_caller]
fn check(method: &str, arguments: &str, expected: &str) {
    let shown = match parse(method, arguments) {
        Ok(command) => format!("{command:?}"),
        Err(reply) => reply,
    };
    assert_eq!(shown, expected);
}

#[test]
fn every_method_is_a_command() {
    for method in crate::control::METHODS {
        let arguments = r#"{"queue": "q", "ids": "a", "task_id": "a", "from_node": "n", "signal": "TERM",
            "headers": {"a": "b"}, "task_name": "t", "rate_limit": "1/s", "id": "1", "topic": "t"}"#;
        let only_known = if method.only.is_some() { "{}" } else { arguments };
        for name in [Some(method.name), method.alias].into_iter().flatten() {
            assert!(parse(name, only_known).is_ok(), "{name}: {:?}", parse(name, only_known));
        }
    }
}

#[test]
fn what_python_cannot_call_is_answered_as_python_answers() {
    check("nosuch", "{}", r#"{"error": "KeyError('nosuch')"}"#);
    check(
        "query_task",
        "{}",
        r#"{"error": "TypeError(\"query_task() missing 1 required positional argument: 'ids'\")"}"#,
    );
    check(
        "terminate",
        "null",
        r#"{"error": "TypeError(\"terminate() missing 2 required positional arguments: 'signal' and 'task_id'\")"}"#,
    );
    check(
        "autoscale",
        r#"{"max": 3, "n": 1}"#,
        r#"{"error": "TypeError(\"autoscale() got an unexpected keyword argument 'n'\")"}"#,
    );
    check("ping", "[1]", r#"{"error": "TypeError('ping() argument after ** must be a mapping, not list')"}"#);
    check("ping", r#"{"unknown": 1}"#, "Ping");
}

#[test]
fn ids_come_alone_or_in_lists_and_count_once() {
    check("revoke", r#"{"task_id": "a"}"#, r#"Revoke { ids: ["a"], terminate: None }"#);
    check(
        "revoke",
        r#"{"task_id": ["a", "b", "a", "", 7], "terminate": true, "signal": "KILL"}"#,
        r#"Revoke { ids: ["a", "b"], terminate: Some(Signal(9)) }"#,
    );
    check("revoke", r#"{"task_id": null, "terminate": 0, "signal": "no"}"#, "Revoke { ids: [], terminate: None }");
    check(
        "terminate",
        r#"{"signal": "SIGTERM", "task_id": "a"}"#,
        r#"Revoke { ids: ["a"], terminate: Some(Signal(15)) }"#,
    );
    check("dump_active", r#"{"safe": true}"#, "Active { safe: true }");
    check("hello", r#"{"from_node": "n", "revoked": {"a": 1.5}}"#, r#"Hello { from: "n", revoked: ["a"] }"#);
}

#[test]
fn stamps_come_as_a_map_or_as_words() {
    let expected = r#"RevokeByStamps { stamps: [Stamp { header: "k", value: "\"a\"" }, Stamp { header: "k", value: "\"b\"" }], shown: "{'k': ['a', 'b']}", terminate: None }"#;
    check("revoke_by_stamped_headers", r#"{"headers": {"k": ["a", "b"]}}"#, expected);
    let expected = r#"RevokeByStamps { stamps: [Stamp { header: "k", value: "\"a\"" }], shown: "{'k': 'a'}", terminate: Some(Signal(15)) }"#;
    check("revoke_by_stamped_headers", r#"{"headers": ["k=a"], "terminate": true}"#, expected);
    check(
        "revoke_by_stamped_headers",
        r#"{"headers": ["k"]}"#,
        r#"{"error": "IndexError('list index out of range')"}"#,
    );
}

#[test]
fn limits_are_read_as_celery_reads_them() {
    let rate = |limit: &str| parse("rate_limit", &format!(r#"{{"task_name": "t", "rate_limit": {limit}}}"#));
    let every = |ms| Some(Rate { interval: Duration::from_millis(ms) });
    let limited = |rate, disabled| Ok(Command::RateLimit { task: "t".into(), rate, disabled });
    assert_eq!(rate(r#""10/m""#), limited(every(6_000), false));
    assert_eq!(rate("4"), limited(every(250), false));
    assert_eq!(rate(r#""0/m""#), limited(None, false));
    for nothing in ["0", "null", "\"\""] {
        assert_eq!(rate(nothing), limited(None, true));
    }
    let error = rate(r#""often""#).expect_err("no rate");
    assert_eq!(
        error,
        r#"{"error": "Invalid rate limit string: ValueError(\"could not convert string to float: 'often'\")"}"#
    );
    assert_eq!(rate(r#""1/d""#), Err(r#"{"error": "KeyError('d')"}"#.to_owned()));
    check(
        "time_limit",
        r#"{"task_name": "t", "hard": 20, "soft": 1.5}"#,
        r#"TimeLimit { task: "t", hard: Some(20s), soft: Some(1.5s) }"#,
    );
    check("time_limit", r#"{"task_name": "t", "hard": 0}"#, r#"TimeLimit { task: "t", hard: None, soft: None }"#);
    check("pool_grow", "{}", "PoolGrow(1)");
    check("autoscale", r#"{"max": 10, "min": null}"#, "Autoscale { max: Some(10), min: None }");
}

#[test]
fn a_queue_is_described_as_far_as_the_command_does() {
    let queue = |arguments: &str| match parse("add_consumer", arguments) {
        Ok(Command::AddConsumer(queue)) => {
            format!("{} {} {:?} {}", queue.name, queue.exchange.name, queue.exchange.kind, queue.routing_key)
        }
        other => format!("{other:?}"),
    };
    assert_eq!(queue(r#"{"queue": "q"}"#), "q q Direct q");
    assert_eq!(
        queue(r#"{"queue": "q", "exchange": "x", "exchange_type": "topic", "routing_key": "a.*"}"#),
        "q x Topic a.*"
    );
    assert!(queue(r#"{"queue": "q", "exchange_type": "x-random"}"#).contains("no exchange type x-random"));
    assert!(queue(r#"{"queue": ""}"#).contains("queue name is empty"));
}
