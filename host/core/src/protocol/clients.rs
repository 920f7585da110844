//! What Celery clients in other languages put on the wire is read (`testdata/clients.json`, made by
//! tests/fixtures/capture_clients.py with the real packages).

use bytes::Bytes;

use crate::message::{DeliveryInfo, Headers, Message, Properties};
use crate::name::QueueName;
use crate::protocol::codec::{Codec, Serializer};
use crate::protocol::content::{Json, header_value};
use crate::protocol::envelope;
use crate::request::Request;

const CLIENTS: &str = include_str!("../../testdata/clients.json");

/// Where they were found, and what becomes of the route that the message names.
const QUEUE: &str = "capture";

fn text(case: &Json, key: &str) -> Option<String> {
    Some(case.get(key)?.as_text()?.into_owned())
}

/// What is left of the message over the wire, without what differs from run to run.
fn read(case: &Json) -> String {
    let codec = Codec { accept: vec![Serializer::Json, Serializer::Yaml], ..Codec::default() };
    let queue = QueueName::parse(QUEUE).expect("a name");
    let client = text(case, "client").expect("it says whose it is");
    let (by, message, delivery) = match text(case, "envelope") {
        Some(captured) => {
            let envelope = envelope::decode(captured.as_bytes()).unwrap_or_else(|error| panic!("{client}: {error}"));
            ("redis", envelope.message, DeliveryInfo::found(queue, envelope.route, envelope.redelivered))
        }
        None => {
            let message = case.get("message").expect("one of both");
            let properties = message.get("properties").expect("properties");
            let headers = message.get("headers").expect("headers");
            let headers = headers.members().map(|(name, value)| (name.into(), header_value(value.raw()))).collect();
            let properties = Properties {
                content_type: text(&properties, "content_type"),
                content_encoding: text(&properties, "content_encoding"),
                correlation_id: text(&properties, "correlation_id"),
                reply_to: text(&properties, "reply_to"),
                ..Properties::default()
            };
            let body = Bytes::from(text(&message, "body").expect("a body"));
            let route = crate::message::Route::queue(&queue);
            ("amqp", Message { properties, headers: Headers(headers), body }, DeliveryInfo::found(queue, route, false))
        }
    };
    let request = Request::decode(message, delivery, &codec).unwrap_or_else(|error| panic!("{client}: {error}"));
    assert_eq!(request.delivery.routing_key, QUEUE, "{client}: a retry comes back to this queue");
    assert_eq!(request.id.as_str().len(), 36, "{client}: a UUID, and not the correlation id of somebody else");
    let listens = request.message.properties.reply_to.as_deref().is_some_and(|queue| !queue.is_empty());
    let notes = [(request.eta.is_some(), " eta"), (request.expires.is_some(), " expires"), (listens, " listens")];
    let notes: String = notes.iter().filter(|(is, _)| *is).map(|(_, note)| *note).collect();
    format!("{client} {by}: {} {} {}{notes}", request.task, request.args, request.kwargs)
}

#[test]
fn messages_of_clients_in_other_languages_are_read() {
    let file = Json::parse_wrapped(Bytes::from_static(CLIENTS.as_bytes())).expect("a golden file is JSON");
    let read: Vec<String> = file.get("cases").expect("it has cases").elements().map(|case| read(&case)).collect();
    assert_eq!(read, EXPECTED);
}

/// Client and broker: task, args, kwargs, and whether it has an ETA and listens for a reply.
const EXPECTED: &[&str] = &[
    r#"celery-node redis: tasks.add [2,3] {}"#,
    r#"celery-node redis: tasks.add [] {"x":40,"y":2}"#,
    r#"celery-node amqp: tasks.add [2,3] {}"#,
    r#"celery-ts redis: tasks.add [2,3] {} listens"#,
    r#"celery-ts redis: tasks.add [] {"x":40,"y":2} listens"#,
    r#"celery-ts redis: tasks.add [20,22] {} eta listens"#,
    r#"celery-ts redis: tasks.echo ["packed ☃"] {} listens"#,
    r#"celery-ts redis: tasks.echo ["written \u2603"] {} listens"#,
    r#"celery-ts redis: tasks.add [9007199254740990,1] {} listens"#,
    r#"celery-ts redis: tasks.echo ["alone"] {} listens"#,
    r#"celery-ts amqp: tasks.add [2,3] {} listens"#,
    r#"node-celery redis: tasks.add [2,3] {} listens"#,
    r#"node-celery redis: tasks.add [] {"x":40,"y":2} listens"#,
    r#"node-celery redis: tasks.add [20,22] {} eta listens"#,
    r#"node-celery amqp: tasks.add [2,3] {}"#,
    r#"gocelery redis: tasks.add [2,3] {} listens"#,
    r#"gocelery redis: tasks.add [] {"x":40,"y":2} listens"#,
    r#"gocelery amqp: tasks.add [2,3] {}"#,
    r#"rusty-celery redis: tasks.add [] {"x":40,"y":2}"#,
    r#"rusty-celery redis: tasks.add [] {"x":9223372036854775806,"y":1}"#,
    r#"rusty-celery redis: tasks.add [] {"x":20,"y":22} eta"#,
    r#"rusty-celery redis: tasks.echo [] {"payload": "written \u2603"}"#,
    r#"rusty-celery redis: tasks.echo [] {"payload":"naïve ☃ 🦀"}"#,
    r#"rusty-celery amqp: tasks.add [] {"x":40,"y":2}"#,
];
