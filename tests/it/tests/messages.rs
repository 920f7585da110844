//! Messages in every form that clients send, and some that no client would: each is dealt with, and none
//! disturbs the worker.

use it::{Engine, Site};
use serde_json::json;

on_every_engine! {
    clients_of_protocol_1_are_served
    a_mixture_of_protocols_is_read
    bodies_in_other_serializers_are_read_where_they_are_accepted
    compressed_bodies_are_read
    rubbish_does_not_disturb_the_worker
    a_pickle_is_refused_with_advice
}

fn clients_of_protocol_1_are_served(site: &Site) {
    let host = site.host(&[]);
    let code = r#"
app.conf.task_protocol = 1
results = [
    send("tasks.add", 2, 2), send("tasks.add", kwargs={"x": 40, "y": 2}), send("tasks.flaky", 2, 0.1),
    send("tasks.add", 1, 2, countdown=0.5), send("tasks.add", 1, 2, expires=600),
]
ends = [fails("tasks.fail", "no"), fails("tasks.missing"), fails("tasks.sleep", 60, time_limit=1)]
request = call("tasks.request")
emit([[get(result) for result in results], [end["type"] for end in ends], request["id"] == request["correlation_id"]])
"#;
    let expected = json!([[4, 42, 2, 3, 3], ["ValueError", "NotRegistered", "TimeLimitExceeded"], true]);
    assert_eq!(site.client(code), expected);
    assert_eq!(host.wait_for_count("Task tasks.flaky[", 3).len(), host.lines_with("Task tasks.flaky[").len());
}

fn a_mixture_of_protocols_is_read(site: &Site) {
    let _host = site.host(&[]);
    let code = r#"
import json
from uuid import uuid4

def raw(body, **headers):
    id = str(uuid4())
    properties = {"reply_to": app.thread_oid, "correlation_id": id}
    result = app.AsyncResult(id)
    with app.producer_or_acquire() as producer:
        app.backend.on_task_call(producer, id)
    headers = {"id": id, **headers} if headers else {}
    body = json.dumps(body).replace("ID", id).encode()
    publish_raw(body, content_type="application/json", content_encoding="utf-8", headers=headers, **properties)
    return result

results = [
    raw({"task": "tasks.missing", "id": "other", "args": [20, 22], "kwargs": {}}, task="tasks.add"),
    raw({"task": "tasks.add", "id": "ID", "args": [1, 2]}),
    raw({"task": "tasks.add", "id": "ID", "kwargs": {"x": 3, "y": 4}, "unknown": [1], "retries": None}),
    raw([[5, 6], {}, None], task="tasks.add"),
    raw([[7, 8], {}, {}], task="tasks.add", lang="go", retries=0, eta=None, expires=None, mine={"a": [1.5, None]}),
]
emit([get(result) for result in results])
"#;
    assert_eq!(site.client(code), json!([42, 3, 7, 11, 15]));
}

fn bodies_in_other_serializers_are_read_where_they_are_accepted(site: &Site) {
    let host = site.host(&["--set", "accept.content=json,yaml"]);
    let code = r#"
values = [None, True, 2**70, 1.5, "naïve ☃\n", ["yes", "12", {"a: b": [None]}]]
by_yaml = [call("tasks.echo", value, serializer="yaml") for value in values]
send("tasks.echo", 1, serializer="msgpack")
emit([by_yaml == values, call("tasks.echo", values) == values])
"#;
    assert_eq!(site.client(code), json!([true, true]));
    host.wait_for("content type `application/x-msgpack` is refused: accept_content is ['json', 'yaml']");
    let _other = site.host(&["--set", "accept.content=json,msgpack", "-c", "1"]);
    drop(host);
    let code = r#"
values = [None, True, 2**64 - 1, -1, 1.5, "naïve ☃", [{"a": [None]}], b"\xff\0"]
emit([call("tasks.echo", value, serializer="msgpack") == value for value in values].count(True))
"#;
    assert_eq!(site.client(code), json!(8));
}

fn compressed_bodies_are_read(site: &Site) {
    let _host = site.host(&[]);
    let code = r#"
from kombu.compression import encoders
payload = "0123456789" * 20_000
known = [mime for mime in encoders()]
values = [call("tasks.echo", [mime, payload], compression=mime) == [mime, payload] for mime in known]
retried = call("tasks.flaky", 1, 0, compression="zlib")
emit([all(values), len(known) >= 3, retried])
"#;
    assert_eq!(site.client(code), json!([true, true, 1]));
}

fn rubbish_does_not_disturb_the_worker(site: &Site) {
    let mut host = site.host(&[]);
    let code = r#"
call("tasks.add", 1, 1)
headers = {"task": "tasks.add", "id": "rubbish"}
publish_raw(b"not json", content_type="application/json", content_encoding="utf-8", headers=headers)
publish_raw(b"\xff\xfe\x00", content_type="application/json", content_encoding="utf-8", headers=headers)
publish_raw(b"", content_type="application/json", content_encoding="utf-8", headers=headers)
publish_raw(b"{}", content_type="application/json", content_encoding="utf-8", headers=headers)
publish_raw(b"[[1, 2], [], {}]", content_type="application/json", content_encoding="utf-8", headers=headers)
publish_raw(b"[[1, 2], {}, {}]", content_type="application/json", content_encoding="utf-8")
publish_raw(b"[" * 100_000, content_type="application/json", content_encoding="utf-8", headers=headers)
publish_raw(b"[[1, 2], {}, {}]", content_type="application/x-unknown", content_encoding="utf-8", headers=headers)
publish_raw(b"[[1, 2], {}, {}]", content_type="application/json", content_encoding="utf-8", headers={"task": 5, "id": []})
emit(call("tasks.add", 2, 2))
"#;
    assert_eq!(site.client(code), json!(4));
    assert!(host.stop().success());
    // Nothing was left in the queue either.
    let second = site.host(&[]);
    assert_eq!(site.client("emit(call('tasks.add', 3, 3))"), json!(6));
    assert!(second.lines_with("rubbish").is_empty(), "a message that cannot be read was given back");
}

fn a_pickle_is_refused_with_advice(site: &Site) {
    let host = site.host(&[]);
    let code = r#"
pickled = send("tasks.add", 1, 2, serializer="pickle")
value = call("tasks.add", 2, 2)
until(lambda: depth() == 0, "the pickle is gone")
emit([value, pickled.state])
"#;
    assert_eq!(site.client(code), json!([4, "PENDING"]));
    let line = host.wait_for("pickle");
    assert!(line.contains("task_serializer"), "the line does not name the setting to change: {line}");
}

/// celery/worker/consumer/consumer.py: what cannot be decoded is acknowledged, and what is no task is
/// rejected, which a queue's dead letters show.
#[test]
fn what_cannot_be_read_is_acknowledged_or_rejected_as_in_celery() {
    let Some(site) = Site::open(Engine::RabbitMqRedis) else { return };
    let queues = r#"
from kombu import Exchange, Queue
rejected = Queue(QUEUE + ".rejected", Exchange(QUEUE + ".dlx", type="fanout"))
dead_letters = {"x-dead-letter-exchange": QUEUE + ".dlx"}
queue = Queue(QUEUE, Exchange(QUEUE), QUEUE, queue_arguments=dead_letters)
app.conf.task_queues = [queue]
"#;
    let publish = r#"
import pickle
with app.connection_for_write() as connection:
    for each in (rejected, queue):
        each(connection.default_channel).declare()

def put(id, body, content_type="application/json", **headers):
    headers = {"task": "tasks.add", "id": id, **headers}
    publish_raw(body, content_type=content_type, content_encoding="utf-8", headers=headers)

put("malformed", b"[[1, 2")
put("cut off", b"x\x9c\x8b", compression="application/x-gzip")
put("pickle", pickle.dumps(((1, 2), {}, {})), "application/x-python-serialize")
put("unknown type", b"[[1, 2], {}, {}]", "application/x-unknown")
put("kwargs is a list", b"[[1, 2], [], {}]")
put("no array", b"{}")
put("no task", b"[[1, 2], {}, {}]", task=None)
put("eta", b"[[1, 2], {}, {}]", eta="soon")
put("not registered", b"[[1, 2], {}, {}]", task="tasks.missing")
"#;
    let read = r#"
call("tasks.add", 1, 1)
seen = []
with app.connection_for_read() as connection:
    channel = connection.default_channel
    for n in range(7):
        message = until(lambda: channel.basic_get(rejected.name, no_ack=True), "a rejected message")
        seen.append(message.headers["id"])
    more = channel.basic_get(rejected.name, no_ack=True)
emit([seen, more is None])
"#;
    site.client(&format!("{queues}{publish}"));
    let _host = site.host(&["-c", "1"]);
    let rejected = ["pickle", "unknown type", "kwargs is a list", "no array", "no task", "eta", "not registered"]
        .map(String::from);
    assert_eq!(site.client(&format!("{queues}{read}")), json!([rejected, true]));
}
