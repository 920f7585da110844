//! What stands in the body of a message at SQS: kombu's envelope, as a rule in base64.
//!
//! Whatever else somebody sends is a message too, with that text for its body and no headers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use taskhost_core::protocol::envelope::{self, Envelope};
use taskhost_core::{Message, QueueName, Route};
use uuid::Uuid;

/// Writes a message as kombu does (`Channel._put`); `in_base64` is its option `sqs_base64_encoding`.
pub(super) fn encode(message: &Message, route: &Route, in_base64: bool) -> String {
    let tag = Uuid::new_v4().hyphenated().to_string();
    let envelope = envelope::encode(message, route, &tag);
    match in_base64 {
        true => STANDARD.encode(envelope),
        false => envelope,
    }
}

/// Reads one (`Channel._message_to_python`): base64 is recognised by itself, and what is no envelope is wrapped.
pub(super) fn decode(body: &str, queue: &QueueName) -> Envelope {
    let unpacked = unpacked(body);
    let text = unpacked.as_deref().unwrap_or(body);
    envelope::decode(text.as_bytes()).unwrap_or_else(|_| Envelope {
        message: Message { body: Bytes::from(text.to_owned()), ..Message::default() },
        route: Route::queue(queue),
        redelivered: false,
        delivery_tag: None,
    })
}

/// The text that is in base64 here; `None` if it is none, as most texts are not that look like one.
fn unpacked(body: &str) -> Option<String> {
    let body = body.trim();
    if body.is_empty() || body.starts_with(['{', '[']) {
        return None;
    }
    String::from_utf8(STANDARD.decode(body).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use taskhost_core::HeaderValue;

    use super::*;

    fn queue() -> QueueName {
        QueueName::parse("celery").expect("a name")
    }

    #[test]
    fn a_message_comes_back_as_it_went_packed_or_not() {
        let mut message = Message { body: Bytes::from_static(b"[[1], {}, {}]"), ..Message::default() };
        message.properties.delivery_mode = Some(2);
        message.properties.priority = Some(0);
        message.headers.set("task", HeaderValue::Text("tasks.add".to_owned()));
        for in_base64 in [true, false] {
            let text = encode(&message, &Route::queue(&queue()), in_base64);
            assert_eq!(text.starts_with('{'), !in_base64);
            let read = decode(&text, &queue());
            assert_eq!((read.message, read.route), (message.clone(), Route::queue(&queue())));
        }
    }

    #[test]
    fn what_is_no_envelope_is_the_body_of_a_message() {
        let body = |text: &str| String::from_utf8(decode(text, &queue()).message.body.to_vec()).expect("text");
        let raw = r#"{"task": "tasks.add", "id": "a", "args": [1, 2]}"#;
        assert_eq!(body(raw), raw, "protocol 1 without an envelope");
        assert_eq!(body(&STANDARD.encode(raw)), raw);
        assert_eq!(body("hello"), "hello", "no base64: its length is wrong");
        assert_eq!(body("////"), "////", "base64 of what is no text");
        assert_eq!(decode("hello", &queue()).route, Route::queue(&queue()));
    }
}
