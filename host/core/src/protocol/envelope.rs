//! kombu's JSON wrapping of a message for transports without headers of their own
//! (kombu/transport/virtual/base.py).
//!
//! Liberal in what it reads, complete in what it writes.

use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::engine::{DecodePaddingMode, Engine, GeneralPurposeConfig};
use bytes::Bytes;

use crate::message::{HeaderValue, Headers, Message, Properties, Route};
use crate::protocol::content::{JsonError, Kind, MapWriter, Raw, ToJson, header_value};

/// Padding may be missing; clients in other languages leave it out.
pub(crate) const LIBERAL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What an envelope held.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    pub message: Message,
    pub route: Route,
    /// kombu marked it when it put it back.
    pub redelivered: bool,
    /// `properties.delivery_tag`, if there is one.
    pub delivery_tag: Option<String>,
}

/// Writes the envelope, with the body in base64 as kombu does by default.
///
/// One that is put back is marked by the header `redelivered`, true, as in kombu.
pub fn encode(message: &Message, route: &Route, delivery_tag: &str) -> String {
    let properties = &message.properties;
    let mut info = MapWriter::new();
    info.put("exchange", &route.exchange).put("routing_key", &route.routing_key);
    let mut inner = MapWriter::new();
    inner
        .put_some("correlation_id", properties.correlation_id.as_ref())
        .put_some("reply_to", properties.reply_to.as_ref())
        .put("delivery_mode", &properties.delivery_mode.unwrap_or(2))
        .put_some("expiration", properties.expiration.as_ref())
        .put_some("app_id", properties.app_id.as_ref())
        .put("delivery_info", &info.finish())
        .put("priority", &properties.priority.unwrap_or(0))
        .put("body_encoding", "base64")
        .put("delivery_tag", delivery_tag);
    let mut envelope = MapWriter::new();
    envelope
        .put("body", &Base64(&message.body))
        .put("content-encoding", &properties.content_encoding)
        .put("content-type", &properties.content_type)
        .put("headers", &message.headers)
        .put("properties", &inner.finish());
    envelope.finish_text()
}

/// Reads an envelope.
pub fn decode(text: &[u8]) -> Result<Envelope, EnvelopeError> {
    let wire = Wire::of(Raw::parse_wrapped(text)?)?;
    let mut message = Message { body: wire.body()?, ..Message::default() };
    for (name, value) in wire.headers.into_iter().flat_map(Raw::members) {
        let name = name.as_text().ok_or(EnvelopeError::Shape("a header's name holds a lone surrogate"))?;
        message.headers.0.push((name.into_owned(), header_value(value)));
    }
    let info = wire.delivery_info.map(Info::of).unwrap_or_default();
    message.properties = Properties {
        content_type: text_of(wire.content_type),
        content_encoding: text_of(wire.content_encoding),
        correlation_id: text_of(wire.correlation_id),
        reply_to: text_of(wire.reply_to),
        delivery_mode: small(wire.delivery_mode),
        // gocelery and node-celery write it inside of delivery_info.
        priority: small(wire.priority).or(small(info.priority)),
        expiration: text_of(wire.expiration)
            .or_else(|| wire.expiration.and_then(Raw::as_i64).map(|milliseconds| milliseconds.to_string())),
        app_id: text_of(wire.app_id),
    };
    let marked = message.headers.get("redelivered") == Some(&HeaderValue::Bool(true));
    if marked {
        // It is about this delivery, and must not go with the message wherever that is published next.
        message.headers.remove(|name| name == "redelivered");
    }
    Ok(Envelope {
        message,
        route: Route {
            exchange: text_of(info.exchange).unwrap_or_default(),
            routing_key: text_of(info.routing_key).unwrap_or_default(),
        },
        redelivered: marked || is_true(info.redelivered) || is_true(wire.redelivered),
        delivery_tag: text_of(wire.delivery_tag),
    })
}

/// Why a text is not an envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("not JSON: {0}")]
    Json(#[from] JsonError),
    #[error("not an envelope: {0}")]
    Shape(&'static str),
    #[error("body is not base64")]
    Base64,
}

/// The parts of an envelope where they stand in the text.
#[derive(Default)]
struct Wire<'a> {
    body: Option<Raw<'a>>,
    content_type: Option<Raw<'a>>,
    content_encoding: Option<Raw<'a>>,
    headers: Option<Raw<'a>>,
    redelivered: Option<Raw<'a>>,
    correlation_id: Option<Raw<'a>>,
    reply_to: Option<Raw<'a>>,
    delivery_mode: Option<Raw<'a>>,
    expiration: Option<Raw<'a>>,
    app_id: Option<Raw<'a>>,
    priority: Option<Raw<'a>>,
    body_encoding: Option<Raw<'a>>,
    delivery_tag: Option<Raw<'a>>,
    delivery_info: Option<Raw<'a>>,
}

impl<'a> Wire<'a> {
    fn of(envelope: Raw<'a>) -> Result<Self, EnvelopeError> {
        if envelope.kind() != Kind::Map {
            return Err(EnvelopeError::Shape("it is not an object"));
        }
        let mut wire = Self::default();
        let mut properties = None;
        for (key, value) in envelope.members() {
            match key.inside_quotes() {
                Some("body") => wire.body = Some(value),
                Some("content-type") => wire.content_type = Some(value),
                Some("content-encoding") => wire.content_encoding = Some(value),
                Some("headers") => wire.headers = Some(value),
                Some("redelivered") => wire.redelivered = Some(value),
                Some("properties") => properties = Some(value),
                _ => {}
            }
        }
        if wire.body.is_none() && properties.is_none() {
            return Err(EnvelopeError::Shape("it has neither `body` nor `properties`"));
        }
        for (key, value) in properties.into_iter().flat_map(Raw::members) {
            let part = match key.inside_quotes() {
                Some("correlation_id") => &mut wire.correlation_id,
                Some("reply_to") => &mut wire.reply_to,
                Some("delivery_mode") => &mut wire.delivery_mode,
                Some("expiration") => &mut wire.expiration,
                Some("app_id") => &mut wire.app_id,
                Some("priority") => &mut wire.priority,
                Some("body_encoding") => &mut wire.body_encoding,
                Some("delivery_tag") => &mut wire.delivery_tag,
                Some("delivery_info") => &mut wire.delivery_info,
                _ => continue,
            };
            *part = Some(value);
        }
        Ok(wire)
    }

    fn body(&self) -> Result<Bytes, EnvelopeError> {
        let Some(body) = self.body.filter(|body| body.kind() != Kind::Null) else { return Ok(Bytes::new()) };
        if body.kind() != Kind::Text {
            return Err(EnvelopeError::Shape("`body` is not a string"));
        }
        let text = body.as_text().ok_or(EnvelopeError::Shape("`body` holds a lone surrogate"))?;
        let encoding = self.body_encoding.and_then(Raw::as_text).unwrap_or_default();
        if encoding.is_empty() || encoding.eq_ignore_ascii_case("utf-8") {
            return Ok(Bytes::from(text.into_owned()));
        }
        if !encoding.eq_ignore_ascii_case("base64") {
            return Err(EnvelopeError::Shape("`body_encoding` is neither base64 nor utf-8"));
        }
        unpack(&text).map(Bytes::from)
    }
}

/// `properties.delivery_info`, where it stands in the text.
#[derive(Default)]
struct Info<'a> {
    exchange: Option<Raw<'a>>,
    routing_key: Option<Raw<'a>>,
    priority: Option<Raw<'a>>,
    redelivered: Option<Raw<'a>>,
}

impl<'a> Info<'a> {
    fn of(info: Raw<'a>) -> Self {
        let mut parts = Self::default();
        for (key, value) in info.members() {
            match key.inside_quotes() {
                Some("exchange") => parts.exchange = Some(value),
                Some("routing_key") => parts.routing_key = Some(value),
                Some("priority") => parts.priority = Some(value),
                Some("redelivered") => parts.redelivered = Some(value),
                _ => {}
            }
        }
        parts
    }
}

/// Bytes that are written in base64, straight into the text.
struct Base64<'a>(&'a [u8]);

impl ToJson for Base64<'_> {
    fn write_json(&self, out: &mut String) {
        out.push('"');
        STANDARD.encode_string(self.0, out);
        out.push('"');
    }
}

impl ToJson for Headers {
    fn write_json(&self, out: &mut String) {
        let mut map = MapWriter::new();
        for (name, value) in &self.0 {
            map.put(name, value);
        }
        out.push_str(&map.finish_text());
    }
}

/// Decodes base64 as Python does, which passes over what is not of its alphabet, such as line ends.
fn unpack(text: &str) -> Result<Vec<u8>, EnvelopeError> {
    LIBERAL.decode(text).or_else(|_| {
        let is_base64 = |character: &char| character.is_ascii_alphanumeric() || matches!(character, '+' | '/' | '=');
        let text: String = text.chars().filter(is_base64).collect();
        LIBERAL.decode(text).map_err(|_| EnvelopeError::Base64)
    })
}

fn text_of(value: Option<Raw<'_>>) -> Option<String> {
    value?.as_text().map(|text| text.into_owned())
}

fn small(value: Option<Raw<'_>>) -> Option<u8> {
    let number = value?.as_i64()?;
    Some(u8::try_from(number.max(0)).unwrap_or(u8::MAX))
}

fn is_true(value: Option<Raw<'_>>) -> bool {
    value.and_then(Raw::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            properties: Properties {
                content_type: Some("application/json".into()),
                content_encoding: Some("utf-8".into()),
                correlation_id: Some("t-1".into()),
                reply_to: Some("r".into()),
                delivery_mode: Some(2),
                priority: Some(3),
                expiration: Some("60000".into()),
                app_id: Some("shop".into()),
            },
            headers: Headers(vec![
                ("task".into(), HeaderValue::Text("tasks.ädd".into())),
                ("timelimit".into(), HeaderValue::List(vec![HeaderValue::Int(9), HeaderValue::Null])),
                ("big".into(), HeaderValue::Json("123456789012345678901234567890".into())),
            ]),
            body: Bytes::from_static(b"[[2, 2], {}, null]"),
        }
    }

    #[test]
    fn an_envelope_is_written_in_kombus_order() {
        let route = Route { exchange: String::new(), routing_key: "celery".into() };
        assert_eq!(
            encode(&message(), &route, "tag"),
            r#"{"body": "W1syLCAyXSwge30sIG51bGxd", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"task": "tasks.\u00e4dd", "timelimit": [9, null], "big": 123456789012345678901234567890}, "properties": {"correlation_id": "t-1", "reply_to": "r", "delivery_mode": 2, "expiration": "60000", "app_id": "shop", "delivery_info": {"exchange": "", "routing_key": "celery"}, "priority": 3, "body_encoding": "base64", "delivery_tag": "tag"}}"#
        );
    }

    #[test]
    fn an_envelope_comes_back_as_it_went() {
        let route = Route { exchange: "x".into(), routing_key: "a.b".into() };
        let read = decode(encode(&message(), &route, "tag").as_bytes()).expect("an envelope");
        assert_eq!(read, Envelope { message: message(), route, redelivered: false, delivery_tag: Some("tag".into()) });
    }

    #[test]
    fn little_is_enough() {
        let read = |text: &str| decode(text.as_bytes()).map(|envelope| envelope.message);
        let body = |text: &str| read(text).map(|message| message.body);
        assert_eq!(body(r#"{"body": "[1]"}"#), Ok("[1]".into()), "without an encoding the body is text");
        assert_eq!(body(r#"{"body": "é", "properties": {"body_encoding": "UTF-8"}}"#), Ok("é".into()));
        for packed in ["W10=", "W10", "W1\\n0=\\n"] {
            let text = format!(r#"{{"properties": {{"body_encoding": "base64"}}, "body": "{packed}"}}"#);
            assert_eq!(body(&text), Ok("[]".into()), "{packed}");
        }
        let slashed = r#"{"body": "Pz8\/", "properties": {"body_encoding": "base64"}}"#;
        assert_eq!(body(slashed), Ok("???".into()), "PHP escapes slashes");
        assert_eq!(body(r#"{"body": null, "headers": null, "properties": {}}"#), Ok(Bytes::new()));
    }

    #[test]
    fn priority_and_redelivery_are_found_wherever_a_client_puts_them() {
        let read = |text: &str| decode(text.as_bytes()).expect("an envelope");
        let nested = read(r#"{"body": "", "properties": {"priority": null, "delivery_info": {"priority": 300}}}"#);
        assert_eq!(nested.message.properties.priority, Some(255));
        for text in [
            r#"{"body": "", "redelivered": true}"#,
            r#"{"body": "", "headers": {"redelivered": true}}"#,
            r#"{"body": "", "properties": {"delivery_info": {"redelivered": true}}}"#,
        ] {
            assert!(read(text).redelivered, "{text}");
        }
        assert!(!read(r#"{"body": "", "redelivered": false}"#).redelivered);
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        assert_eq!(decode(b"[]"), Err(EnvelopeError::Shape("it is not an object")));
        assert_eq!(decode(b"{}"), Err(EnvelopeError::Shape("it has neither `body` nor `properties`")));
        assert_eq!(decode(br#"{"body": 1}"#), Err(EnvelopeError::Shape("`body` is not a string")));
        assert_eq!(decode(br#"{"body": "x", "properties": {"body_encoding": "base64"}}"#), Err(EnvelopeError::Base64));
        assert!(matches!(decode(b"{"), Err(EnvelopeError::Json(_))));
    }
}
