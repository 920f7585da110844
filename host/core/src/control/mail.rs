//! The messages of remote control (kombu/pidbox.py): what a client asks of all nodes, and what a node answers.
//!
//! What is asked is for [`Command`](super::Command) to say.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::control::Pattern;
use crate::message::{HeaderValue, Headers, Message, Properties, Publication, Route};
use crate::name::NodeName;
use crate::protocol::auth::Seal;
use crate::protocol::codec::{Codec, Format, Serializer};
use crate::protocol::content::{Json, Kind, MapWriter};
use crate::request::DecodeError;
use crate::timestamp::Timestamp;

/// A request is carried out even so long after its client has ceased to wait: clocks of machines differ, and a
/// worker that never answers whose clock is a little ahead is worse than an answer that nobody reads.
pub const EXPIRED_GRACE: Duration = Duration::from_secs(5);

/// Longest answer, in bytes: RabbitMQ 4 takes no message over 16 MiB, and closes the channel that has one.
pub const REPLY_BYTES_MAX: usize = 8 << 20;

/// Largest logical clock that is believed. A worker that took whatever it is told would soon have none to go on to.
pub const CLOCK_MAX: u64 = 1 << 53;

/// A request as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Mail {
    pub method: String,
    /// A JSON object, or whatever else came.
    pub arguments: Json,
    /// Only for these nodes.
    destination: Option<Vec<String>>,
    /// Only for nodes with such names.
    pattern: Option<Pattern>,
    /// The logical clock of whoever asks.
    pub clock: Option<u64>,
    /// When whoever asks does not wait any more.
    pub expires: Option<Timestamp>,
    /// Where an answer is wanted, if one is.
    reply_to: Option<Route>,
    ticket: Option<String>,
    /// How it was written, which is how the answer is.
    serializer: Serializer,
}

/// Why a message is no request.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MailError {
    #[error(transparent)]
    Body(#[from] DecodeError),
    #[error("the body is no object with a `method`")]
    Method,
}

impl Mail {
    /// Reads a message of the control exchange.
    pub fn decode(message: &Message, codec: &Codec) -> Result<Self, MailError> {
        let body = codec.decode(message)?;
        let text = |key: &str| body.get(key).and_then(|value| value.as_text().map(|text| text.into_owned()));
        let method = text("method").ok_or(MailError::Method)?;
        let pattern = match (text("pattern").unwrap_or_default(), text("matcher").unwrap_or_default()) {
            (pattern, matcher) if !pattern.is_empty() && !matcher.is_empty() => Some(Pattern::new(pattern, &matcher)),
            _ => None,
        };
        let content_type = message.properties.content_type.as_deref().unwrap_or("json");
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        Ok(Self {
            method,
            arguments: body.get("arguments").filter(|it| !it.is_null()).unwrap_or_else(Json::empty_map),
            destination: body.get("destination").and_then(|it| destination(&it)),
            pattern,
            clock: clock(&message.headers),
            expires: number(&message.headers, "expires").and_then(expires),
            reply_to: body.get("reply_to").and_then(|it| route(&it)),
            ticket: text("ticket"),
            serializer: Serializer::parse(essence).unwrap_or_default(),
        })
    }

    /// True if this node is to do it.
    pub fn is_for(&self, node: &NodeName) -> bool {
        match (&self.destination, &self.pattern) {
            (Some(names), _) => names.iter().any(|name| name == node.as_str()),
            (None, Some(pattern)) => pattern.matches(node.as_str()),
            (None, None) => true,
        }
    }

    /// True if nobody waits for an answer any more.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires + EXPIRED_GRACE < now)
    }

    /// True if an answer is wanted.
    pub fn wants_reply(&self) -> bool {
        self.reply_to.is_some()
    }

    /// The answer of a node, if one is wanted.
    pub fn reply(&self, node: &NodeName, value: &Json, clock: u64, seal: Option<Arc<dyn Seal>>) -> Option<Publication> {
        let route = self.reply_to.clone()?;
        let too_long = format!("the answer is longer than {REPLY_BYTES_MAX} bytes");
        let value = if value.byte_len() > REPLY_BYTES_MAX { &super::error(&too_long) } else { value };
        let mut body = MapWriter::new();
        body.put(node.as_str(), value);
        let body = Bytes::from(body.finish_text());
        // What its client cannot be told in its own form is told in JSON, which nearly all of them read.
        let format = Format { serializer: self.serializer, seal };
        let (body, format) = match format.serialize(body.clone()) {
            Ok(written) => (written, format),
            Err(_) => (body, Format::default()),
        };
        let ticket = self.ticket.clone().map_or(HeaderValue::Null, HeaderValue::Text);
        let headers = Headers(vec![("ticket".to_owned(), ticket), ("clock".to_owned(), clock_header(clock))]);
        Some(Publication { message: transient(headers, body, &format), route })
    }
}

/// What this host asks of other nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Question<'a> {
    pub method: &'a str,
    pub arguments: &'a Json,
    /// None: all nodes.
    pub destination: Option<&'a [String]>,
    /// Where the answers are to go, and under which ticket; none if none are wanted.
    pub reply_to: Option<(&'a Route, &'a str)>,
    pub clock: u64,
    /// When nobody waits for an answer any more.
    pub expires: Option<Timestamp>,
}

impl Question<'_> {
    /// The message for the control exchange (kombu/pidbox.py `_publish`).
    pub fn message(&self) -> Message {
        let mut body = MapWriter::new();
        body.put("method", self.method)
            .put("arguments", self.arguments)
            .put("destination", &self.destination.map(Json::array))
            .put("pattern", &Json::null())
            .put("matcher", &Json::null());
        if let Some((route, ticket)) = self.reply_to {
            let reply_to = Json::object([("exchange", &route.exchange), ("routing_key", &route.routing_key)]);
            body.put("ticket", ticket).put("reply_to", &reply_to);
        }
        let expires = match self.expires {
            Some(at) => HeaderValue::Double(at.as_micros() as f64 / 1e6),
            None => HeaderValue::Int(0),
        };
        let headers = vec![("clock".to_owned(), clock_header(self.clock)), ("expires".to_owned(), expires)];
        transient(Headers(headers), Bytes::from(body.finish_text()), &Format::default())
    }
}

/// What nodes answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The ticket of the question.
    pub ticket: Option<String>,
    /// The logical clock of whoever sent it.
    pub clock: Option<u64>,
    /// Mostly one.
    pub nodes: Vec<(String, Json)>,
}

impl Answer {
    /// Reads a message of a queue for answers; none if it is of another form.
    pub fn decode(message: &Message, codec: &Codec) -> Option<Self> {
        let body = codec.decode(message).ok().filter(|body| body.kind() == Kind::Map)?;
        let ticket = match message.headers.get("ticket") {
            Some(HeaderValue::Text(ticket)) => Some(ticket.clone()),
            _ => None,
        };
        let nodes = body.members().map(|(node, reply)| (node.into_owned(), reply)).collect();
        Some(Self { ticket, clock: clock(&message.headers), nodes })
    }
}

fn transient(headers: Headers, body: Bytes, format: &Format) -> Message {
    let (content_type, content_encoding) = format.content_type();
    let properties = Properties {
        content_type: Some(content_type.to_owned()),
        content_encoding: Some(content_encoding.to_owned()),
        delivery_mode: Some(1),
        priority: Some(0),
        ..Properties::default()
    };
    Message { properties, headers, body }
}

fn clock_header(clock: u64) -> HeaderValue {
    HeaderValue::Int(i64::try_from(clock).unwrap_or(i64::MAX))
}

/// Names of nodes; none if it names none, which is everybody.
fn destination(value: &Json) -> Option<Vec<String>> {
    let names: Vec<String> = match value.kind() {
        Kind::List => value.elements().filter_map(|name| name.as_text().map(|it| it.into_owned())).collect(),
        Kind::Text => vec![value.as_text().unwrap_or_default().into_owned()],
        _ => Vec::new(),
    };
    let said_something = match value.kind() {
        Kind::List => value.elements().next().is_some(),
        _ => names.iter().any(|name| !name.is_empty()),
    };
    said_something.then_some(names)
}

fn route(value: &Json) -> Option<Route> {
    let text = |key: &str| value.get(key).and_then(|it| it.as_text().map(|it| it.into_owned()));
    Some(Route { exchange: text("exchange")?, routing_key: text("routing_key")? })
}

/// Seconds since the epoch; zero is never.
fn expires(seconds: f64) -> Option<Timestamp> {
    (seconds > 0.0 && seconds.is_finite()).then(|| Timestamp::from_micros((seconds * 1e6) as i64))
}

fn clock(headers: &Headers) -> Option<u64> {
    number(headers, "clock").filter(|clock| (0.0..=CLOCK_MAX as f64).contains(clock)).map(|clock| clock as u64)
}

fn number(headers: &Headers, key: &str) -> Option<f64> {
    match headers.get(key)? {
        HeaderValue::Int(number) => Some(*number as f64),
        HeaderValue::Double(number) => Some(*number),
        HeaderValue::Timestamp(seconds) => Some(*seconds as f64),
        HeaderValue::Json(text) | HeaderValue::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str, headers: &[(&str, HeaderValue)]) -> Message {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let properties = Properties { content_type: Some("application/json".to_owned()), ..Properties::default() };
        Message { properties, headers: Headers(headers), body: Bytes::from(body.to_owned()) }
    }

    fn mail(body: &str) -> Mail {
        Mail::decode(&message(body, &[]), &Codec::default()).expect("a request")
    }

    fn node(name: &str) -> NodeName {
        NodeName::parse(name).expect("a name")
    }

    /// As kombu 5.7 writes it.
    const PING: &str = r#"{"method": "ping", "arguments": {}, "destination": null, "pattern": null, "matcher": null, "ticket": "t-1", "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "oid"}}"#;

    #[test]
    fn a_request_is_read_and_answered() {
        let headers = [("clock", HeaderValue::Int(41)), ("expires", HeaderValue::Double(1_795_343_528.5))];
        let mail = Mail::decode(&message(PING, &headers), &Codec::default()).expect("a request");
        assert_eq!((mail.method.as_str(), mail.arguments.to_string()), ("ping", "{}".to_owned()));
        assert_eq!((mail.clock, mail.expires), (Some(41), Some(Timestamp::from_micros(1_795_343_528_500_000))));
        let reply = mail.reply(&node("w@box"), &super::super::ok("pong"), 43, None).expect("one is wanted");
        assert_eq!(reply.route, Route { exchange: "reply.celery.pidbox".into(), routing_key: "oid".into() });
        assert_eq!(reply.message.body, r#"{"w@box": {"ok": "pong"}}"#.as_bytes());
        assert_eq!(reply.message.headers.get("ticket"), Some(&HeaderValue::Text("t-1".into())));
        assert_eq!(reply.message.headers.get("clock"), Some(&HeaderValue::Int(43)));
        assert_eq!(reply.message.properties.delivery_mode, Some(1));
        let answer = Answer::decode(&reply.message, &Codec::default()).expect("an answer");
        let nodes = vec![("w@box".to_owned(), super::super::ok("pong"))];
        assert_eq!(answer, Answer { ticket: Some("t-1".to_owned()), clock: Some(43), nodes });
    }

    #[test]
    fn an_answer_is_written_as_the_question_was() {
        let codec = Codec { accept: vec![Serializer::Msgpack], ..Codec::default() };
        let mut asked = message("", &[]);
        asked.body =
            Format { serializer: Serializer::Msgpack, seal: None }.serialize(Bytes::from(PING)).expect("bytes");
        asked.properties.content_type = Some("application/x-msgpack".to_owned());
        let mail = Mail::decode(&asked, &codec).expect("a request");
        let reply = mail.reply(&node("w@box"), &Json::null(), 1, None).expect("one is wanted");
        assert_eq!(reply.message.properties.content_type.as_deref(), Some("application/x-msgpack"));
        let answer = Answer::decode(&reply.message, &codec).expect("an answer");
        assert_eq!(answer.nodes, [("w@box".to_owned(), Json::null())]);
    }

    #[test]
    fn an_answer_that_no_broker_takes_is_an_error() {
        let long = Json::text(&"x".repeat(REPLY_BYTES_MAX));
        let reply = mail(PING).reply(&node("w@box"), &long, 1, None).expect("one is wanted");
        assert_eq!(reply.message.body, r#"{"w@box": {"error": "the answer is longer than 8388608 bytes"}}"#.as_bytes());
    }

    #[test]
    fn a_request_names_its_nodes() {
        let to = |rest: &str| mail(&format!(r#"{{"method": "ping", {rest}}}"#)).is_for(&node("w1@box"));
        assert!(to(r#""destination": null"#));
        assert!(to(r#""destination": []"#));
        assert!(to(r#""destination": ["w0@box", "w1@box"]"#));
        assert!(to(r#""destination": "w1@box""#));
        assert!(!to(r#""destination": ["w0@box"]"#));
        assert!(!to(r#""destination": ["w0@box"], "pattern": "*", "matcher": "glob""#));
        assert!(to(r#""pattern": "w*@box", "matcher": "glob""#));
        assert!(!to(r#""pattern": "x*", "matcher": "glob""#));
        assert!(to(r#""pattern": "w[0-9]@", "matcher": "pcre""#));
        assert!(!to(r#""pattern": "w*", "matcher": "soundex""#));
        // As in Python, a pattern without a matcher is none.
        assert!(to(r#""pattern": "x*", "matcher": null"#));
    }

    #[test]
    fn a_request_expires_a_little_later_than_it_says() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let expiring = |value| {
            let asked = message(r#"{"method": "ping"}"#, &[("expires", value)]);
            Mail::decode(&asked, &Codec::default()).expect("a request")
        };
        let mail = expiring(HeaderValue::Int(1_000));
        assert!(!mail.has_expired(at(1_004)) && mail.has_expired(at(1_006)));
        assert!(!expiring(HeaderValue::Int(0)).has_expired(at(1_006)), "zero is never");
        assert!(!mail.wants_reply());
        assert_eq!(mail.reply(&node("w@box"), &Json::null(), 1, None), None);
    }

    #[test]
    fn a_clock_that_nobody_can_have_is_not_believed() {
        let clock = |value| Mail::decode(&message(r#"{"method": "ping"}"#, &[("clock", value)]), &Codec::default());
        let clock = |value| clock(value).expect("a request").clock;
        assert_eq!(clock(HeaderValue::Int(7)), Some(7));
        assert_eq!(clock(HeaderValue::Double(1e300)), None);
        assert_eq!(clock(HeaderValue::Int(i64::MAX)), None);
        assert_eq!(clock(HeaderValue::Int(-1)), None);
        assert_eq!(clock(HeaderValue::Json("NaN".to_owned())), None);
    }

    #[test]
    fn what_is_no_request_is_an_error() {
        let error = |body: &str| Mail::decode(&message(body, &[]), &Codec::default()).expect_err(body).to_string();
        assert_eq!(error("[]"), "the body is no object with a `method`");
        assert!(error("{").starts_with("undecodable body: "), "{}", error("{"));
        let mut pickled = message("x", &[]);
        pickled.properties.content_type = Some("application/x-python-serialize".to_owned());
        assert!(Mail::decode(&pickled, &Codec::default()).is_err());
    }

    #[test]
    fn a_question_is_what_kombu_would_ask() {
        let route = Route { exchange: "reply.celery.pidbox".to_owned(), routing_key: "oid".to_owned() };
        let arguments = Json::empty_map();
        let question = Question {
            method: "ping",
            arguments: &arguments,
            destination: None,
            reply_to: Some((&route, "t-1")),
            clock: 5,
            expires: None,
        };
        let message = question.message();
        assert_eq!(message.body, PING.as_bytes());
        assert_eq!(message.headers.get("expires"), Some(&HeaderValue::Int(0)));
        let destination = ["a".to_owned()];
        let told = Question { destination: Some(&destination), reply_to: None, ..question };
        assert!(Mail::decode(&told.message(), &Codec::default()).is_ok_and(|it| it.is_for(&node("a"))));
    }
}
