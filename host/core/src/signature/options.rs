//! The options of a signature: what `apply_async` takes (celery/app/base.py `send_task`).
//!
//! An option that is null is one that is not there.

use std::time::Duration;

use crate::message::{HeaderValue, PUT_BACK_HEADER};
use crate::name::{NAME_BYTES_MAX, QueueName, TaskId};
use crate::protocol::content::{Json, Kind};
use crate::protocol::v2;
use crate::route::Destination;
use crate::timestamp::Timestamp;

use super::SignatureError;

/// Longest time until something, in seconds: a hundred years.
const SECONDS_MAX: f64 = 100.0 * 365.25 * 86_400.0;

/// What Celery takes and what has no meaning here: every publication is mandatory, confirmed, and tried again.
const WITHOUT_EFFECT: [&str; 13] = [
    "add_to_parent",
    "confirm_timeout",
    "create_sent_event",
    "eager",
    "exchange_type",
    "immutable",
    "interval",
    "mandatory",
    "max_retries",
    "retry",
    "retry_policy",
    "route_name",
    "timeout",
];

/// Options that say which call it is, when it is due and where it goes: what they say is not left out.
const DECISIVE: [&str; 12] = [
    "task_id",
    "queue",
    "exchange",
    "routing_key",
    "countdown",
    "eta",
    "expires",
    "group_id",
    "link",
    "link_error",
    "chain",
    "chord",
];

/// With these, RabbitMQ sends a message to further queues.
const COPIES: [&str; 2] = ["cc", "bcc"];

/// What is done about options that have no meaning here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Refused. Celery makes properties of the message of what it does not know, and its own headers can be set:
    /// another way to say which task is called, and where it goes.
    Strict,
    /// Left out, as are values of a kind that the option never has. The signatures that Celery's clients write
    /// have been accepted by a client, and a chain must not break for an option that means something to it alone.
    Lenient,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Options {
    pub(crate) destination: Destination,
    pub(crate) reply_to: Option<String>,
    pub(super) eta: Option<When>,
    pub(super) expires: Option<When>,
    pub(super) time_limit: Option<Duration>,
    pub(super) soft_time_limit: Option<Duration>,
    pub(super) priority: Option<u8>,
    pub(super) delivery_mode: Option<u8>,
    pub(super) retries: u32,
    pub(super) replaced_task_nesting: u32,
    pub(super) ignore_result: Option<bool>,
    pub(super) shadow: Option<String>,
    pub(super) origin: Option<String>,
    pub(super) root_id: Option<String>,
    pub(super) parent_id: Option<String>,
    pub(super) group_id: Option<String>,
    pub(super) group_index: Option<u32>,
    pub(super) callbacks: Vec<Json>,
    pub(super) errbacks: Vec<Json>,
    pub(super) chain: Vec<Json>,
    pub(super) chord: Option<Json>,
    /// Those of the task's own, and texts that take the place of what we would write.
    pub(super) headers: Vec<(String, HeaderValue)>,
    pub(super) stamps: Vec<(String, HeaderValue)>,
}

/// A point in time, or how long it is until then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum When {
    In(f64),
    At(Timestamp),
}

impl When {
    pub(super) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::In(seconds) if seconds < 0.0 => now - Duration::from_secs_f64(-seconds),
            Self::In(seconds) => now + Duration::from_secs_f64(seconds),
        }
    }
}

impl Options {
    pub(super) fn read<'o>(
        pairs: impl Iterator<Item = (&'o str, Json)>,
        manner: Manner,
    ) -> Result<Self, SignatureError> {
        let pairs: Vec<(&str, Json)> = pairs.filter(|(_, value)| !value.is_null()).collect();
        let get = |key: &str| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| value);
        let mut read = Self::default();
        let stamped: Vec<String> = match get("stamped_headers").map(|names| texts("stamped_headers", names)) {
            Some(Err(error)) if manner == Manner::Strict => return Err(error),
            Some(Ok(names)) => names,
            _ => Vec::new(),
        };
        let mut countdown = None;
        for (key, value) in &pairs {
            match read.read_option(key, value, &stamped, &mut countdown, manner) {
                // Without these it would be another call.
                Err(error) if manner == Manner::Strict || DECISIVE.contains(key) => return Err(error),
                Err(_) | Ok(()) => {}
            }
        }
        // In this order of precedence, as in Celery.
        read.eta = countdown.map(When::In).or(read.eta);
        let value = |stamp: &String| get(stamp).map_or(HeaderValue::Null, HeaderValue::from);
        read.stamps = stamped.iter().map(|stamp| (stamp.clone(), value(stamp))).collect();
        Ok(read)
    }

    fn read_option(
        &mut self,
        key: &str,
        value: &Json,
        stamped: &[String],
        countdown: &mut Option<f64>,
        manner: Manner,
    ) -> Result<(), SignatureError> {
        match key {
            // Read by whoever sends it.
            "task_id" => drop(TaskId::parse(&text("task_id", value)?)?),
            "queue" => self.destination.queue = Some(QueueName::parse(&text("queue", value)?)?),
            "exchange" => self.destination.exchange = Some(text("exchange", value)?),
            "routing_key" => self.destination.routing_key = Some(text("routing_key", value)?),
            "reply_to" => self.reply_to = Some(text("reply_to", value)?).filter(|queue| !queue.is_empty()),
            // Celery counts zero as none.
            "countdown" => *countdown = Some(seconds("countdown", value)?).filter(|seconds| *seconds != 0.0),
            "eta" => self.eta = Some(time("eta", value, "an ISO 8601 time")?),
            "expires" => {
                self.expires = Some(match value.as_f64() {
                    Some(_) => When::In(seconds("expires", value)?),
                    None => time("expires", value, "seconds, or an ISO 8601 time")?,
                });
            }
            "time_limit" => self.time_limit = Some(limit("time_limit", value)?),
            "soft_time_limit" => self.soft_time_limit = Some(limit("soft_time_limit", value)?),
            "priority" => self.priority = Some(number("priority", value, "a number from 0 to 255")?),
            "delivery_mode" => self.delivery_mode = Some(delivery_mode(value)?),
            "retries" => self.retries = number("retries", value, "a count")?,
            "replaced_task_nesting" => self.replaced_task_nesting = number("replaced_task_nesting", value, "a count")?,
            "ignore_result" => {
                let wrong = SignatureError::Option { option: "ignore_result", expected: "true or false" };
                self.ignore_result = Some(value.as_bool().ok_or(wrong)?);
            }
            "shadow" => self.shadow = Some(long_text("shadow", value)?),
            "origin" => self.origin = Some(text("origin", value)?),
            "root_id" => self.root_id = Some(text("root_id", value)?).filter(|id| !id.is_empty()),
            "parent_id" => self.parent_id = Some(text("parent_id", value)?).filter(|id| !id.is_empty()),
            "group_id" => self.group_id = Some(text("group_id", value)?),
            "group_index" => self.group_index = Some(number("group_index", value, "a count")?),
            "link" => self.callbacks = attached("link", value)?,
            "link_error" => self.errbacks = attached("link_error", value)?,
            "chain" => self.chain = attached("chain", value)?,
            "chord" => {
                let wrong = SignatureError::Option { option: "chord", expected: "a signature" };
                self.chord = Some(Some(value.clone()).filter(|value| value.kind() == Kind::Map).ok_or(wrong)?);
            }
            // With these a client hides arguments that are nobody's business.
            "argsrepr" | "kwargsrepr" => {
                let shown = long_text("argsrepr", value)?;
                self.headers.push((key.to_owned(), HeaderValue::Text(shown)));
            }
            "headers" => self.read_headers(value, manner)?,
            // What is published here is JSON, and as it is.
            "serializer" if value.as_text().as_deref() == Some("json") => {}
            "serializer" => return Err(SignatureError::Option { option: "serializer", expected: "\"json\"" }),
            "compression" => return Err(SignatureError::Option { option: "compression", expected: "null" }),
            "stamped_headers" => {}
            other if stamped.iter().any(|stamp| stamp == other) || WITHOUT_EFFECT.contains(&other) => {}
            other => return Err(SignatureError::UnknownOption(other.to_owned())),
        }
        Ok(())
    }

    /// Headers of the task's own.
    fn read_headers(&mut self, headers: &Json, manner: Manner) -> Result<(), SignatureError> {
        if headers.kind() != Kind::Map {
            return Err(SignatureError::Option { option: "headers", expected: "a JSON object" });
        }
        for (name, value) in headers.members() {
            let is_ours = v2::HEADERS.contains(&&*name) || v2::is_brokers(&name) || *name == *PUT_BACK_HEADER;
            let is_short = (1..=NAME_BYTES_MAX).contains(&name.len());
            if !is_ours && is_short && !COPIES.contains(&name.to_ascii_lowercase().as_str()) {
                self.headers.push((name.into_owned(), HeaderValue::from(&value)));
            } else if manner == Manner::Strict {
                return Err(SignatureError::Header(name.into_owned()));
            }
        }
        Ok(())
    }
}

/// One signature, or a list of them.
fn attached(option: &'static str, value: &Json) -> Result<Vec<Json>, SignatureError> {
    match value.kind() {
        Kind::Map => Ok(vec![value.clone()]),
        Kind::List => Ok(value.elements().collect()),
        _ => Err(SignatureError::Option { option, expected: "a signature, or an array of them" }),
    }
}

fn long_text(option: &'static str, value: &Json) -> Result<String, SignatureError> {
    let text = value.as_text().ok_or(SignatureError::Option { option, expected: "a text" })?;
    Ok(text.into_owned())
}

/// What AMQP keeps as a short string.
fn text(option: &'static str, value: &Json) -> Result<String, SignatureError> {
    let text = long_text(option, value)?;
    match text.len() <= NAME_BYTES_MAX {
        true => Ok(text),
        false => Err(SignatureError::Option { option, expected: "a text of at most 255 bytes" }),
    }
}

fn texts(option: &'static str, value: &Json) -> Result<Vec<String>, SignatureError> {
    match value.kind() {
        Kind::List => value.elements().map(|element| text(option, &element)).collect(),
        _ => Err(SignatureError::Option { option, expected: "an array of texts" }),
    }
}

fn number<T: TryFrom<i64>>(option: &'static str, value: &Json, expected: &'static str) -> Result<T, SignatureError> {
    let number = value.as_i64().and_then(|number| T::try_from(number).ok());
    number.ok_or(SignatureError::Option { option, expected })
}

fn seconds(option: &'static str, value: &Json) -> Result<f64, SignatureError> {
    let seconds = value.as_f64().filter(|seconds| seconds.abs() <= SECONDS_MAX);
    seconds.ok_or(SignatureError::Option { option, expected: "seconds" })
}

fn limit(option: &'static str, value: &Json) -> Result<Duration, SignatureError> {
    let limit = seconds(option, value).ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    limit.ok_or(SignatureError::Option { option, expected: "seconds, zero or more" })
}

/// As text, or as kombu writes a `datetime` (kombu/utils/json.py).
fn time(option: &'static str, value: &Json, expected: &'static str) -> Result<When, SignatureError> {
    let typed = value.get("__type__").is_some_and(|kind| kind.as_text().as_deref() == Some("datetime"));
    let value = if typed { value.get("__value__") } else { Some(value.clone()) };
    let text = value.as_ref().and_then(Json::as_text);
    let at = text.and_then(|text| Timestamp::parse(&text).ok());
    at.map(When::At).ok_or(SignatureError::Option { option, expected })
}

/// As a number or as kombu's name of it.
fn delivery_mode(value: &Json) -> Result<u8, SignatureError> {
    match (value.as_i64(), value.as_text().as_deref()) {
        (Some(1), _) | (_, Some("transient")) => Ok(1),
        (Some(2), _) | (_, Some("persistent")) => Ok(2),
        _ => Err(SignatureError::Option { option: "delivery_mode", expected: "1, 2, \"transient\" or \"persistent\"" }),
    }
}
