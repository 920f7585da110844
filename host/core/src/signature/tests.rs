//! What a signature may say, and the message that it becomes.

use expect_test::{Expect, expect};

use super::*;
use crate::dispatcher::fixture;
use crate::message::{HeaderValue, Message, PUT_BACK_HEADER};
use crate::name::{NodeName, TaskId};
use crate::protocol::codec::Codec;
use crate::protocol::content::MapWriter;
use crate::protocol::v2;
use crate::request::Request;
use crate::route::Router;
use crate::settle::Step;
use crate::timestamp::Timestamp;

const NOW: Timestamp = Timestamp::from_micros(1_795_343_528_000_000);

fn signature(text: &str) -> Signature {
    Signature::parse(text.to_owned()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A task with a place in a workflow, and others that hang on it.
fn request() -> Request {
    let mut request = fixture::request("tasks.work", "id-1");
    request.root_id = Some("root".to_owned());
    request.parent_id = Some("parent".to_owned());
    request.group_id = Some("group".to_owned());
    request.embed = Json::parse(
        r#"{"callbacks": [{"task": "done"}], "errbacks": [{"task": "failed"}], "chord": {"task": "body"},
            "chain": [{"task": "last", "options": {"task_id": "z"}}, {"task": "celery.chord", "kwargs": {"x": NaN}}]}"#,
    )
    .expect("it is JSON");
    request.message.properties.reply_to = Some("client".to_owned());
    request.message.properties.correlation_id = Some("correlation".to_owned());
    let headers = &mut request.message.headers;
    headers.set("group_index", HeaderValue::Int(3));
    let stamp = |name: &str, value: &str| (name.to_owned(), HeaderValue::Text(value.to_owned()));
    headers.set("stamps", HeaderValue::Map(vec![stamp("tenant", "acme"), stamp("run", "1")]));
    request
}

fn with<T>(request: &Request, act: impl FnOnce(Sender<'_>) -> T) -> T {
    let node = NodeName::parse("taskhost@box").expect("a name");
    act(Sender { request, node: &node, router: &Router::default(), signs: false })
}

/// Everything of a message that the client of a task can see.
fn render(step: &Step) -> String {
    let (to, publication) = match step {
        Step::Send(publication) => ("somewhere".to_owned(), publication),
        Step::SendTo(queue, publication) => (queue.name.to_string(), publication),
        step => panic!("{step:?} publishes nothing"),
    };
    let Message { properties, headers, body } = &publication.message;
    let mut text = format!("to {to} by {}/{}\n", publication.route.exchange, publication.route.routing_key);
    for (name, value) in &headers.0 {
        let dull = matches!(value, HeaderValue::Null) || ["lang", "argsrepr", "kwargsrepr"].contains(&name.as_str());
        if !dull {
            text += &format!("{name} {}\n", Json::from(value));
        }
    }
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    text += &format!("reply to `{}`, correlation `{}`", of(&properties.reply_to), of(&properties.correlation_id));
    text += &format!(", priority {:?}, mode {:?}\n", properties.priority, properties.delivery_mode);
    text + &String::from_utf8_lossy(body) + "\n"
}

#[track_caller]
fn check_sent(text: &str, expected: Expect) {
    expected.assert_eq(&render(
        &with(&request(), |sender| sender.send(&signature(text), 0, NOW)).expect("queues are made").1,
    ));
}

#[test]
fn a_task_that_is_called_is_a_child_of_the_one_that_calls_it() {
    check_sent(
        r#"{"task": "mail.send", "args": [1, NaN], "kwargs": {"x": "y"}, "options": {}, "immutable": false}"#,
        expect![[r#"
            to celery by /celery
            task "mail.send"
            id "7fa4e215-bf18-5861-bbdd-015090e6ef53"
            retries 0
            timelimit [null, null]
            root_id "root"
            parent_id "id-1"
            origin "taskhost@box"
            replaced_task_nesting 0
            stamps {}
            reply to ``, correlation `7fa4e215-bf18-5861-bbdd-015090e6ef53`, priority Some(0), mode Some(2)
            [[1, NaN], {"x": "y"}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]
        "#]],
    );
}

#[test]
fn every_option_has_its_place_in_the_message() {
    check_sent(
        r#"{"task": "mail.send", "options": {
            "task_id": "mine", "queue": "mail", "reply_to": "me", "countdown": 1.5, "eta": "2000-01-01",
            "expires": 60, "time_limit": 9, "soft_time_limit": 8.5, "priority": 5, "delivery_mode": "transient",
            "retries": 1, "replaced_task_nesting": 2, "ignore_result": true, "shadow": "shown", "origin": "gen1@box",
            "root_id": "r", "parent_id": "p", "group_id": "g", "group_index": 4, "headers": {"tenant": "acme"},
            "link": {"task": "a"}, "link_error": [{"task": "b", "args": []}], "chain": [{"task": "c"}],
            "stamped_headers": ["stamp"], "stamp": ["s"], "serializer": "json", "compression": null, "retry": true,
            "argsrepr": "(hidden)"}}"#,
        expect![[r#"
            to mail by /mail
            task "mail.send"
            id "mine"
            shadow "shown"
            eta "2026-11-22T10:32:09.500000+00:00"
            expires "2026-11-22T10:33:08+00:00"
            group "g"
            group_index 4
            retries 1
            timelimit [9, 8.5]
            root_id "r"
            parent_id "p"
            origin "gen1@box"
            ignore_result true
            replaced_task_nesting 2
            stamped_headers ["stamp"]
            stamps {"stamp": ["s"]}
            tenant "acme"
            reply to `me`, correlation `mine`, priority Some(5), mode Some(1)
            [[], {}, {"callbacks": [{"task": "a"}], "errbacks": [{"task": "b", "args": []}], "chain": [{"task": "c"}], "chord": null}]
        "#]],
    );
}

#[test]
fn a_replacement_takes_the_place_of_its_task_with_all_that_hangs_on_it() {
    let text = r#"{"task": "tasks.other", "args": [1], "options": {"task_id": "not this one", "priority": 2,
        "link": [{"task": "own"}, {"task": "done"}], "chain": [{"task": "soon"}], "stamped_headers": ["run"], "run": "2"}}"#;
    let step = with(&request(), |sender| sender.replace(&signature(text), NOW)).expect("queues are made");
    let expected = expect![[r#"
        to celery by /celery
        task "tasks.other"
        id "id-1"
        group "group"
        group_index 3
        retries 0
        timelimit [null, null]
        root_id "root"
        parent_id "parent"
        origin "taskhost@box"
        replaced_task_nesting 1
        stamped_headers ["tenant", "run"]
        stamps {"tenant": "acme", "run": "2"}
        reply to `client`, correlation `correlation`, priority Some(2), mode Some(2)
        [[1], {}, {"callbacks": [{"task": "own"}, {"task": "done"}], "errbacks": [{"task": "failed"}], "chain": [{"task": "last", "options": {"task_id": "z", "replaced_task_nesting": 1}}, {"task": "celery.chord", "kwargs": {"x": NaN}, "options": {"replaced_task_nesting": 1}}, {"task": "soon"}], "chord": {"task": "body"}}]
    "#]];
    expected.assert_eq(&render(&step));
}

#[test]
fn ids_follow_from_the_execution_and_its_number() {
    let ids = |request: &Request| with(request, |sender| [sender.derived_id(0), sender.derived_id(1)]);
    let first = ids(&request());
    assert_eq!(first, ids(&request()), "a repeat sends the same");
    let retry = Request { retries: 1, ..request() };
    let replacement = Request { replaced_task_nesting: 1, ..request() };
    let other = Request { id: TaskId::parse("id-2").expect("an id"), ..request() };
    let all = [first, ids(&retry), ids(&replacement), ids(&other)].concat();
    assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
}

#[test]
fn a_retry_knows_what_it_sent_before() {
    let ids = with(&request(), |sender| [sender.derived_id(0), sender.derived_id(1)]);
    let retry = Request { retries: 2, ..request() };
    assert!(ids.iter().all(|id| was_sent_before(&retry, id, 2)));
    assert!(!was_sent_before(&retry, &ids[1], 1), "it sends no more than one");
    assert!(!was_sent_before(&request(), &ids[0], 2), "this is the first execution");
    let others = Request { id: TaskId::parse("id-2").expect("an id"), ..retry.clone() };
    assert!(!was_sent_before(&others, &ids[0], 2));
    for foreign in ["mine", "7f3c2b1e-9d64-4c1a-8a55-0d5f5d1e2b77", "71fce12e-3b10-541f-a9d2-d5c60a9e4c1f"] {
        assert!(!was_sent_before(&retry, &TaskId::parse(foreign).expect("an id"), 2), "{foreign}");
    }
}

#[test]
fn what_a_repeat_sends_says_that_it_may_be_there_twice() {
    let is_marked = |request: &Request| {
        let sent = with(request, |sender| sender.send(&signature(r#"{"task": "t"}"#), 0, NOW));
        let (_, step) = sent.expect("queues are made");
        let Step::SendTo(_, publication) = step else { panic!("it goes to a queue") };
        publication.message.headers.get(PUT_BACK_HEADER).is_some()
    };
    assert!(!is_marked(&request()));
    let mut again = request();
    again.delivery.redelivered = true;
    assert!(is_marked(&again));
}

#[test]
fn a_worker_that_signs_says_so() {
    let (request, node) = (request(), NodeName::parse("taskhost@box").expect("a name"));
    let sender = Sender { request: &request, node: &node, router: &Router::default(), signs: true };
    let (_, step) = sender.send(&signature(r#"{"task": "t"}"#), 0, NOW).expect("queues are made");
    let Step::SendTo(_, publication) = step else { panic!("it goes to a queue") };
    assert!(crate::protocol::auth::is_open(&publication.message), "it is signed before it leaves");
}

#[test]
fn all_that_a_signature_publishes_is_found() {
    let text = r#"{"task": "a", "options": {"link": [{"task": "b", "options": {"link_error": {"task": "c"}}}],
        "chain": [{"task": "d", "options": {"queue": "q"}}]}}"#;
    let all = signature(text);
    let tasks: Vec<&str> = all.all().iter().map(|signature| signature.task.as_str()).collect();
    assert_eq!(tasks, ["a", "b", "d", "c"]);
    assert!(!all.all()[2].destination().is_default());
}

#[test]
fn what_is_no_plain_signature_is_refused_with_what_is_wrong() {
    let options = |options: &str| format!(r#"{{"task": "t", "options": {options}}}"#);
    let deep = (0..20)
        .fold(r#"{"task": "t"}"#.to_owned(), |inner, _| format!(r#"{{"task": "t", "options": {{"link": {inner}}}}}"#));
    for (text, expected) in [
        ("{", "the signature is not JSON: "),
        ("[]", "all of the signature is not a JSON object"),
        ("{}", "`task` of the signature is not there"),
        (r#"{"task": 1}"#, "`task` of the signature is not a text"),
        (r#"{"task": ""}"#, "the signature: task name is empty"),
        (r#"{"task": "t", "args": {}}"#, "`args` of the signature is not a JSON array"),
        (r#"{"task": "t", "kwargs": []}"#, "`kwargs` of the signature is not a JSON object"),
        (r#"{"task": "t", "options": 1}"#, "`options` of the signature is not a JSON object"),
        (r#"{"task": "celery.group", "subtask_type": "group"}"#, "the signature is a group: only plain"),
        (r#"{"task": "celery.chain"}"#, "the signature is a chain: only plain"),
        (&options(r#"{"chord": {"task": "b"}}"#), "the signature is a member of a chord: only plain"),
        (&options(r#"{"link": [{"task": "celery.map", "kwargs": {}}]}"#), "the signature is a xmap: only plain"),
        (&options(r#"{"link": "t"}"#), "option `link` of the signature is not a signature, or an array of them"),
        (&options(r#"{"eta": "soon"}"#), "option `eta` of the signature is not an ISO 8601 time"),
        (&options(r#"{"expires": "soon"}"#), "option `expires` of the signature is not seconds, or an ISO 8601 time"),
        (&options(r#"{"countdown": 1e99}"#), "option `countdown` of the signature is not seconds"),
        (&options(r#"{"time_limit": -1}"#), "option `time_limit` of the signature is not seconds, zero or more"),
        (&options(r#"{"priority": 256}"#), "option `priority` of the signature is not a number from 0 to 255"),
        (&options(r#"{"serializer": "pickle"}"#), "option `serializer` of the signature is not \"json\""),
        (&options(r#"{"compression": "gzip"}"#), "option `compression` of the signature is not null"),
        (&options(r#"{"user_id": "guest"}"#), "the signature has an option `user_id`, which nobody knows"),
        (&options(r#"{"headers": {"task": "other"}}"#), "header `task` of the signature cannot be set"),
        (&options(r#"{"headers": {"BCC": ["other"]}}"#), "header `BCC` of the signature cannot be set"),
        (&options(r#"{"headers": {"x-death": []}}"#), "header `x-death` of the signature cannot be set"),
        (&deep, "the signature holds signatures that hold others, deeper than 16"),
    ] {
        let error = Signature::parse(text.to_owned()).expect_err(text).to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn a_time_may_be_typed_as_kombu_types_it() {
    let typed = r#"{"task": "t", "options": {"eta": {"__type__": "datetime", "__value__": "2026-12-24T18:00:00"}}}"#;
    let plain = r#"{"task": "t", "options": {"eta": "2026-12-24T18:00:00Z", "countdown": 0}}"#;
    assert_eq!(signature(typed), signature(plain));
}

/// Names that a guest may try, to say another way what its grant has heard.
const TRIED: [&str; 32] = [
    "task",
    "id",
    "task_id",
    "queue",
    "exchange",
    "routing_key",
    "reply_to",
    "countdown",
    "eta",
    "expires",
    "time_limit",
    "soft_time_limit",
    "priority",
    "delivery_mode",
    "retries",
    "replaced_task_nesting",
    "ignore_result",
    "shadow",
    "origin",
    "root_id",
    "parent_id",
    "group_id",
    "group_index",
    "link",
    "link_error",
    "chain",
    "headers",
    "argsrepr",
    "stamped_headers",
    "stamps",
    "CC",
    "x-put-back",
];

#[test]
fn whatever_is_published_is_the_task_that_was_read() {
    let name = |index: u8| TRIED[usize::from(index) % TRIED.len()];
    let value = |kind: u8, text: &str| match kind % 6 {
        0 => Json::text(text),
        1 => Json::int(i64::from(kind)),
        2 => Json::float(f64::from(kind) * 1e7 - 1e9),
        3 => Json::parse(text.to_owned()).unwrap_or(Json::null()),
        4 => Json::object([("task", Json::text(text))]),
        _ => Json::array([Json::text(text)]),
    };
    let made_up = bolero::check!().with_type::<([(u8, u8); 2], [u8; 2], u8, String)>();
    made_up.for_each(|(options, headers, parts, text)| {
        let mut map = MapWriter::new();
        for (index, kind) in options.iter().take(usize::from(parts % 3)) {
            map.put(name(*index), &value(*kind, text));
        }
        if parts & 0x40 != 0 {
            let headers = headers.iter().take(usize::from(parts >> 7) + 1);
            map.put("headers", &Json::object(headers.map(|index| (name(*index), value(*parts, text)))));
        }
        let signature = Json::object([("task", Json::text("tasks.add")), ("options", map.finish())]);
        let Ok(signature) = Signature::read(&signature) else { return };
        let request = request();
        let steps = with(&request, |sender| {
            [sender.send(&signature, 0, NOW).map(|(_, step)| step), sender.replace(&signature, NOW)]
        });
        for step in steps {
            let (Ok(Step::Send(publication)) | Ok(Step::SendTo(_, publication))) = step else {
                panic!("not sent: {step:?}")
            };
            let message = publication.message;
            assert!(message.headers.get("CC").is_none() && message.headers.get(PUT_BACK_HEADER).is_none());
            let read = v2::decode(message, request.delivery.clone(), &Codec::default()).expect("we wrote it");
            assert_eq!((read.task.as_str(), read.parent_id.is_some()), ("tasks.add", true));
        }
    });
}
