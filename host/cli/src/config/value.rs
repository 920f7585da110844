//! A value of a setting after it was read, and how it is shown.
//!
//! Secrets cannot be shown: a URL that may hold a password is a [`SecretUrl`].

use std::fmt;
use std::time::Duration;

use serde_json::{Value as Json, json};
use taskhost_core::concurrency::KeyPath;
use taskhost_core::protocol::auth::Digest;
use taskhost_core::protocol::codec::Serializer;
use taskhost_core::rate::{Rate, RateScope};
use taskhost_core::{Disposition, ExchangeKind, QueueKind, QueueName, RedactedUrl};

use crate::config::secret::{SecretText, SecretUrl};

/// A value that was read and checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Count(u32),
    Factor(f64),
    Duration(Duration),
    Bytes(u64),
    /// The rate, and how it was written.
    Rate(Rate, String),
    RateScope(RateScope),
    KeyPath(KeyPath),
    Autoscale {
        max: u32,
        min: u32,
    },
    Disposition(Disposition),
    Url(SecretUrl),
    Queue(QueueName),
    Queues(Vec<QueueName>),
    QueueKind(QueueKind),
    ExchangeKind(ExchangeKind),
    Text(String),
    Texts(Vec<String>),
    Serializers(Vec<Serializer>),
    Serializer(Serializer),
    Secret(SecretText),
    Digest(Digest),
    Level(Level),
    Format(Format),
}

/// How much is logged, under Python's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

/// What log lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

impl Level {
    /// The level of that name, in any case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.to_lowercase().as_str() {
            "debug" => Some(Self::Debug),
            "info" => Some(Self::Info),
            "warning" | "warn" => Some(Self::Warning),
            "error" => Some(Self::Error),
            "critical" | "fatal" => Some(Self::Critical),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

impl Format {
    /// The format of that name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl Value {
    /// The value as JSON: times in seconds, sizes in bytes, secrets masked.
    pub(crate) fn to_json(&self) -> Json {
        match self {
            Self::None => Json::Null,
            Self::Bool(value) => json!(value),
            Self::Count(value) => json!(value),
            Self::Factor(value) => json!(value),
            Self::Duration(value) => json!(value.as_secs_f64()),
            Self::Bytes(value) => json!(value),
            Self::Queues(names) => names.iter().map(QueueName::as_str).collect(),
            Self::Texts(texts) => json!(masked(texts)),
            Self::Serializers(serializers) => serializers.iter().map(|serializer| serializer.as_str()).collect(),
            other => json!(other.to_string()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Bool(value) => value.fmt(f),
            Self::Count(value) => value.fmt(f),
            Self::Factor(value) => value.fmt(f),
            Self::Duration(value) => f.write_str(&show_duration(*value)),
            Self::Bytes(value) => f.write_str(&show_bytes(*value)),
            Self::Rate(_, text) | Self::Text(text) => f.write_str(text),
            Self::RateScope(scope) => f.write_str(scope.as_str()),
            Self::KeyPath(path) => path.fmt(f),
            Self::Autoscale { max, min } => write!(f, "{max},{min}"),
            Self::Disposition(disposition) => f.write_str(disposition.as_str()),
            Self::Url(url) => url.fmt(f),
            Self::Queue(name) => name.fmt(f),
            Self::Queues(names) if names.is_empty() => f.write_str("none"),
            Self::Queues(names) => f.write_str(&join(names)),
            Self::QueueKind(QueueKind::Classic) => f.write_str("classic"),
            Self::QueueKind(QueueKind::Quorum) => f.write_str("quorum"),
            Self::ExchangeKind(ExchangeKind::Direct) => f.write_str("direct"),
            Self::ExchangeKind(ExchangeKind::Topic) => f.write_str("topic"),
            Self::ExchangeKind(ExchangeKind::Fanout) => f.write_str("fanout"),
            Self::ExchangeKind(ExchangeKind::Headers) => f.write_str("headers"),
            Self::Texts(texts) => f.write_str(&join(&masked(texts))),
            Self::Secret(secret) => secret.fmt(f),
            Self::Digest(digest) => f.write_str(digest.as_str()),
            Self::Serializer(serializer) => f.write_str(serializer.as_str()),
            Self::Serializers(serializers) => {
                let names: Vec<&str> = serializers.iter().map(|serializer| serializer.as_str()).collect();
                f.write_str(&join(&names))
            }
            Self::Level(level) => f.write_str(level.as_str()),
            Self::Format(format) => f.write_str(format.as_str()),
        }
    }
}

/// Options of which nothing is shown.
const SECRETS: [&str; 1] = ["sentinel_kwargs"];

/// The value of an option as it may be shown: a URL without its password, and JSON without what its names call
/// a secret.
pub(crate) fn shown_option(name: &str, value: &str) -> String {
    if SECRETS.contains(&name) {
        return "**".to_owned();
    }
    if value.trim_start().starts_with('{') {
        let Ok(mut json) = serde_json::from_str::<Json>(value) else { return "**".to_owned() };
        mask(&mut json);
        return json.to_string();
    }
    match value.contains("://") {
        true => RedactedUrl::new(value).to_string(),
        false => value.to_owned(),
    }
}

/// Texts without the secrets in them: what plugins keep may be at a URL of its own, and a transport may have
/// credentials for single queues.
fn masked(texts: &[String]) -> Vec<String> {
    let masked = |text: &String| match text.split_once('=') {
        Some((name, value)) => format!("{name}={}", shown_option(name, value)),
        None => text.clone(),
    };
    texts.iter().map(masked).collect()
}

fn mask(json: &mut Json) {
    const NAMES: [&str; 5] = ["secret", "password", "token", "access_key", "passwd"];
    match json {
        Json::Object(members) => members.iter_mut().for_each(|(name, value)| {
            match NAMES.iter().any(|secret| name.to_lowercase().contains(secret)) {
                true => *value = json!("**"),
                false => mask(value),
            }
        }),
        Json::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

fn join(items: &[impl AsRef<str>]) -> String {
    items.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(",")
}

/// The time in the largest unit that shows it exactly; readable again by `parse_duration`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        _ if duration.subsec_nanos() != 0 => format!("{}s", duration.as_secs_f64()),
        0 => "0s".to_owned(),
        _ if seconds.is_multiple_of(86400) => format!("{}d", seconds / 86400),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

fn show_bytes(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}
