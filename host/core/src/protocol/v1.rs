//! Task message protocol 1: no headers, and a body that is one map (celery/app/amqp.py
//! `as_task_v1`); and the mixture of both protocols (celery/worker/strategy.py `hybrid_to_proto2`).
//!
//! Only translates to protocol 2.

use bytes::Bytes;

use crate::message::{DeliveryInfo, HeaderValue, Headers, Message};
use crate::protocol::codec::Codec;
use crate::protocol::content::{Json, Kind, MapWriter};
use crate::protocol::repr::{ARGUMENTS_CHARS_MAX, repr, repr_args};
use crate::protocol::v2;
use crate::request::{DecodeError, Request};

/// What the body's members are called as headers. `taskset` is the old name of `group`, and the one that
/// counts where both are given.
const HEADERS: [(&str, &str); 15] = [
    ("lang", "lang"),
    ("task", "task"),
    ("id", "id"),
    ("shadow", "shadow"),
    ("eta", "eta"),
    ("expires", "expires"),
    ("group", "group"),
    ("taskset", "group"),
    ("group_index", "group_index"),
    ("retries", "retries"),
    ("timelimit", "timelimit"),
    ("root_id", "root_id"),
    ("parent_id", "parent_id"),
    ("origin", "origin"),
    ("meth", "meth"),
];

/// Reads a message without header `task`.
///
/// `utc: false` is passed over: a time without offset is UTC here, whatever the sender's clock showed.
pub fn decode(message: Message, delivery: DeliveryInfo, codec: &Codec) -> Result<Request, DecodeError> {
    let body = codec.decode(&message)?;
    if body.get("task").is_none_or(|task| task.is_null()) {
        return Err(DecodeError::UnknownMessage);
    }
    let (message, body) = translate(message, &body)?;
    v2::decode_body(message, body, delivery)
}

/// The message of protocol 2 that says the same, with its body, which is JSON. Headers that are there
/// already count more than the body.
pub(crate) fn translate(message: Message, body: &Json) -> Result<(Message, Json), DecodeError> {
    let member = |key: &str| body.get(key).filter(|value| !value.is_null());
    let args = member("args").unwrap_or_else(Json::empty_list);
    let kwargs = member("kwargs").unwrap_or_else(Json::empty_map);
    if args.kind() != Kind::List {
        return Err(DecodeError::Shape("args is not an array"));
    }
    if kwargs.kind() != Kind::Map {
        return Err(DecodeError::Shape("kwargs is not an object"));
    }
    let Message { mut properties, headers: given, .. } = message;
    let mut headers = Headers::default();
    for (key, header) in HEADERS {
        if let Some(value) = member(key) {
            headers.set(header, HeaderValue::from(&value));
        }
    }
    if let Some(id) = properties.correlation_id.as_ref().filter(|_| v2::is_absent(headers.get("id"))) {
        headers.set("id", HeaderValue::Text(id.clone()));
    }
    headers.set("argsrepr", HeaderValue::Text(repr_args(&args, ARGUMENTS_CHARS_MAX)));
    headers.set("kwargsrepr", HeaderValue::Text(repr(&kwargs, ARGUMENTS_CHARS_MAX)));
    for (name, value) in given.0 {
        // Looking for each of a client's own headers among all others would take forever for many.
        match v2::HEADERS.contains(&name.as_str()) {
            true => headers.set(&name, value),
            false => headers.0.push((name, value)),
        }
    }
    if let Some(HeaderValue::Text(id)) = headers.get("id") {
        properties.correlation_id.get_or_insert_with(|| id.clone());
    }
    let mut embed = MapWriter::new();
    for key in v2::EMBED {
        embed.put(key, &member(key));
    }
    let body = v2::body(&args, &kwargs, &embed.finish());
    let mut message = Message { properties, headers, body: Bytes::new() };
    v2::replace_body(&mut message, &body);
    Ok((message, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Properties;
    use crate::name::QueueName;

    fn decode(headers: Headers, correlation_id: Option<&str>, body: &'static str) -> Result<Request, DecodeError> {
        let properties = Properties { correlation_id: correlation_id.map(str::to_owned), ..Properties::default() };
        let delivery = DeliveryInfo {
            queue: QueueName::parse("celery").expect("a name"),
            exchange: String::new(),
            routing_key: "celery".to_owned(),
            redelivered: false,
        };
        Request::decode(Message { properties, headers, body: body.into() }, delivery, &Codec::default())
    }

    #[test]
    fn a_name_and_an_id_are_enough() {
        let request = decode(Headers::default(), None, r#"{"task": "t", "id": "1"}"#).expect("a request");
        assert_eq!((request.args.as_str(), request.kwargs.as_str(), request.retries), ("[]", "{}", 0));
        assert_eq!(request.message.properties.correlation_id.as_deref(), Some("1"));
        let request = decode(Headers::default(), Some("2"), r#"{"task": "t"}"#).expect("a request");
        assert_eq!(request.id.as_str(), "2", "the property stands in for the id");
    }

    #[test]
    fn taskset_is_the_group() {
        let body = r#"{"task": "t", "id": "1", "taskset": "old", "group": "new"}"#;
        assert_eq!(decode(Headers::default(), None, body).map(|request| request.group_id), Ok(Some("old".into())));
        let body = r#"{"task": "t", "id": "1", "taskset": null, "group": "new"}"#;
        assert_eq!(decode(Headers::default(), None, body).map(|request| request.group_id), Ok(Some("new".into())));
    }

    #[test]
    fn a_mixture_takes_the_headers_first() {
        let headers = Headers(vec![
            ("task".into(), HeaderValue::Text("header".into())),
            ("id".into(), HeaderValue::Text("1".into())),
            ("tenant".into(), HeaderValue::Text("acme".into())),
        ]);
        let body = r#"{"task": "body", "id": "2", "args": [7], "retries": 4, "callbacks": [{"task": "next"}]}"#;
        let request = decode(headers, None, body).expect("a request");
        assert_eq!((request.task.as_str(), request.id.as_str(), request.retries), ("header", "1", 4));
        assert_eq!(request.args.as_str(), "[7]");
        assert_eq!(request.embed.get("callbacks").map(|json| json.to_string()), Some(r#"[{"task": "next"}]"#.into()));
        assert_eq!(request.message.headers.get("tenant"), Some(&HeaderValue::Text("acme".into())));
    }

    #[test]
    fn what_names_no_task_is_unknown() {
        for body in ["[]", "{}", "1", r#"{"task": null}"#, r#"{"args": []}"#] {
            assert_eq!(decode(Headers::default(), None, body), Err(DecodeError::UnknownMessage), "{body}");
        }
        assert!(matches!(decode(Headers::default(), None, ""), Err(DecodeError::Body(_))));
        let error = decode(Headers::default(), None, r#"{"task": "t", "id": "1", "kwargs": []}"#);
        assert_eq!(error, Err(DecodeError::Shape("kwargs is not an object")));
        let error = decode(Headers::default(), None, r#"{"task": "t"}"#);
        assert_eq!(error, Err(DecodeError::Header { header: "id", expected: "there" }));
    }
}
