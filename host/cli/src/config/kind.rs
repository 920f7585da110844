//! The types that settings can have: how each is read, and what is said when that fails.
//!
//! A value from a file has a type of its own and must match; one from the command line or the
//! environment is text and is read more freely.

use std::net::SocketAddr;
use std::time::Duration;

use broker::FailoverStrategy;
use dial::tls::TlsOptions;
use taskhost_core::concurrency::KeyPath;
use taskhost_core::protocol::auth::Digest;
use taskhost_core::protocol::codec::Serializer;
use taskhost_core::rate::{Rate, RateScope};
use taskhost_core::trace::Sampling;
use taskhost_core::{Disposition, ExchangeKind, NodeName, QueueKind, QueueName};

use crate::config::node::{expand, expand_file};
use crate::config::secret::{SecretText, SecretUrl};
use crate::config::value::{Format, Level, Value};
use crate::otel;

/// A value as somebody wrote it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Raw {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Raw>),
    /// From the command line or the environment, where everything is text.
    Loose(String),
    /// Something that no setting takes; the text says what.
    Other(&'static str),
}

/// The type of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    OptionalBool,
    Count,
    Positive,
    OptionalCount,
    OptionalPositive,
    /// A number that may have a fraction; true is 1 (Celery's `retry_backoff`).
    Factor,
    Duration,
    PositiveDuration,
    /// Zero counts as none, as it does in messages.
    OptionalDuration,
    Bytes,
    Rate,
    RateScope,
    /// Where in a request a key stands.
    KeyPath,
    /// One URL or several, as a list or with `;` between them.
    BrokerUrl,
    OptionalBrokerUrl,
    FailoverStrategy,
    ResultUrl,
    Disposition,
    /// Where a shared rate limit is counted.
    RateStoreUrl,
    /// Where plugins keep values.
    ValuesUrl,
    Queue,
    Queues,
    OptionalQueues,
    QueueType,
    ExchangeType,
    /// The largest priority of a queue.
    OptionalPriority,
    /// The most and the fewest slots, as Celery's `--autoscale` has them.
    Autoscale,
    /// What AMQP allows as a name: 255 bytes.
    ShortText,
    /// Texts such as `key=value`.
    Pairs,
    OptionalPairs,
    Texts,
    /// What the sandbox can do to a task.
    RetryOn,
    /// Names or mime types; JSON is among them.
    Serializers,
    Serializer,
    /// An address of this machine with a port, or none.
    OptionalAddress,
    /// Where traces go, or none.
    OptionalCollector,
    Sampler,
    /// Between 0 and 1.
    Ratio,
    /// A path as it is, or none.
    OptionalPath,
    /// A text that is never shown, or none.
    Secret,
    Digest,
    /// Whether a server's certificate is checked, by the names of Python's constants; `none` is one of them.
    CertReqs,
    Node,
    Folder,
    OptionalFile,
    Level,
    Format,
}

impl Kind {
    /// Reads a value. The error is a text that says what was expected and what was found.
    pub(crate) fn read(self, raw: &Raw) -> Result<Value, String> {
        let unexpected = || format!("expected {}, found {}", self.expectation(), describe(raw));
        match self {
            Self::Bool => bool(raw).map(Value::Bool).ok_or_else(unexpected),
            Self::OptionalBool if is_none(raw) => Ok(Value::None),
            Self::OptionalBool => bool(raw).map(Value::Bool).ok_or_else(unexpected),
            Self::Count => count(raw).map(Value::Count).ok_or_else(unexpected),
            Self::Positive => count(raw).filter(|count| *count > 0).map(Value::Count).ok_or_else(unexpected),
            Self::OptionalCount if is_none(raw) => Ok(Value::None),
            Self::OptionalCount => count(raw).map(Value::Count).ok_or_else(unexpected),
            Self::OptionalPositive if is_none(raw) => Ok(Value::None),
            Self::OptionalPositive => Self::Positive.read(raw).map_err(|_| unexpected()),
            Self::Factor => factor(raw).map(Value::Factor).ok_or_else(unexpected),
            Self::Duration => duration(raw).map(Value::Duration).ok_or_else(unexpected),
            Self::PositiveDuration => {
                duration(raw).filter(|duration| !duration.is_zero()).map(Value::Duration).ok_or_else(unexpected)
            }
            Self::OptionalDuration if is_none(raw) => Ok(Value::None),
            Self::OptionalDuration => match duration(raw).ok_or_else(unexpected)? {
                Duration::ZERO => Ok(Value::None),
                duration => Ok(Value::Duration(duration)),
            },
            Self::Bytes => bytes(raw).map(Value::Bytes).ok_or_else(unexpected),
            Self::Rate if is_none(raw) => Ok(Value::None),
            Self::Rate => rate(raw).ok_or_else(unexpected),
            Self::RateScope => text(raw).and_then(RateScope::parse).map(Value::RateScope).ok_or_else(unexpected),
            Self::KeyPath => {
                let path = text(raw).ok_or_else(unexpected)?;
                KeyPath::parse(path).map(Value::KeyPath).map_err(|error| error.to_string())
            }
            Self::BrokerUrl => {
                let url = urls(raw).ok_or_else(unexpected)?;
                broker::check_url(&url).map_err(|error| error.to_string())?;
                Ok(Value::Url(SecretUrl::new(&url)))
            }
            Self::OptionalBrokerUrl if is_none(raw) => Ok(Value::None),
            Self::OptionalBrokerUrl => Self::BrokerUrl.read(raw),
            Self::FailoverStrategy => text(raw)
                .and_then(FailoverStrategy::parse)
                .map(|strategy| Value::Text(strategy.as_str().to_owned()))
                .ok_or_else(unexpected),
            Self::ResultUrl => {
                let url = text(raw).ok_or_else(unexpected)?;
                store::check_url(url).map_err(|error| error.to_string())?;
                Ok(Value::Url(SecretUrl::new(url)))
            }
            Self::Disposition => text(raw).and_then(Disposition::parse).map(Value::Disposition).ok_or_else(unexpected),
            Self::RateStoreUrl if is_none(raw) => Ok(Value::None),
            Self::RateStoreUrl => {
                let url = text(raw).filter(|url| store::can_share_rates(url)).ok_or_else(unexpected)?;
                Ok(Value::Url(SecretUrl::new(url)))
            }
            Self::ValuesUrl => {
                let url = text(raw).filter(|url| store::can_keep_values(url)).ok_or_else(unexpected)?;
                Ok(Value::Url(SecretUrl::new(url)))
            }
            Self::Queue => {
                let name = text(raw).ok_or_else(unexpected)?;
                QueueName::parse(name).map(Value::Queue).map_err(|error| error.to_string())
            }
            Self::Queues => {
                let names = texts(raw).filter(|names| !names.is_empty()).ok_or_else(unexpected)?;
                let queues: Result<Vec<_>, _> = names.iter().map(|name| QueueName::parse(name)).collect();
                queues.map(Value::Queues).map_err(|error| error.to_string())
            }
            Self::OptionalQueues if is_none(raw) => Ok(Value::Queues(Vec::new())),
            Self::OptionalQueues => Self::Queues.read(raw),
            Self::QueueType => match text(raw) {
                Some("classic") => Ok(Value::QueueKind(QueueKind::Classic)),
                Some("quorum") => Ok(Value::QueueKind(QueueKind::Quorum)),
                _ => Err(unexpected()),
            },
            Self::ExchangeType => match text(raw) {
                Some("direct") => Ok(Value::ExchangeKind(ExchangeKind::Direct)),
                Some("topic") => Ok(Value::ExchangeKind(ExchangeKind::Topic)),
                Some("fanout") => Ok(Value::ExchangeKind(ExchangeKind::Fanout)),
                Some("headers") => Ok(Value::ExchangeKind(ExchangeKind::Headers)),
                _ => Err(unexpected()),
            },
            Self::OptionalPriority if is_none(raw) => Ok(Value::None),
            Self::OptionalPriority => {
                count(raw).filter(|max| (1..=255).contains(max)).map(Value::Count).ok_or_else(unexpected)
            }
            Self::Autoscale if is_none(raw) => Ok(Value::None),
            Self::Autoscale => text(raw).and_then(autoscale).ok_or_else(unexpected),
            Self::ShortText => text(raw)
                .filter(|text| text.len() <= 255)
                .map(|text| Value::Text(text.to_owned()))
                .ok_or_else(unexpected),
            Self::OptionalPairs if is_none(raw) => Ok(Value::None),
            Self::Pairs | Self::OptionalPairs => texts(raw)
                .filter(|pairs| pairs.iter().all(|pair| pair.split_once('=').is_some_and(|(key, _)| !key.is_empty())))
                .map(Value::Texts)
                .ok_or_else(unexpected),
            Self::Texts => texts(raw).map(Value::Texts).ok_or_else(unexpected),
            Self::RetryOn => texts(raw)
                .filter(|names| names.iter().all(|name| matches!(name.as_str(), "trap" | "memory" | "time")))
                .map(Value::Texts)
                .ok_or_else(unexpected),
            Self::Serializer => {
                let name = text(raw).ok_or_else(unexpected)?;
                Serializer::parse(name).map(Value::Serializer).map_err(|error| error.to_string())
            }
            Self::OptionalAddress if is_none(raw) => Ok(Value::None),
            Self::OptionalAddress => text(raw)
                .and_then(|text| text.parse::<SocketAddr>().ok())
                .map(|address| Value::Text(address.to_string()))
                .ok_or_else(unexpected),
            Self::OptionalCollector if is_none(raw) => Ok(Value::None),
            Self::OptionalCollector => {
                let url = text(raw).filter(|url| otel::is_collector(url)).ok_or_else(unexpected)?;
                Ok(Value::Url(SecretUrl::new(url)))
            }
            // The ratio is another setting.
            Self::Sampler => text(raw)
                .filter(|name| Sampling::parse(name, 1.0).is_some())
                .map(|name| Value::Text(name.to_owned()))
                .ok_or_else(unexpected),
            Self::Ratio => {
                factor(raw).filter(|ratio| (0.0..=1.0).contains(ratio)).map(Value::Factor).ok_or_else(unexpected)
            }
            Self::OptionalPath | Self::Secret if is_none(raw) => Ok(Value::None),
            Self::OptionalPath => Self::Folder.read(raw).map_err(|_| unexpected()),
            // What was found is not repeated, since it may be the secret.
            Self::Secret => {
                let secret = text(raw).ok_or_else(|| format!("expected {}", self.expectation()))?;
                Ok(Value::Secret(SecretText::new(secret)))
            }
            Self::Digest => {
                let name = text(raw).ok_or_else(unexpected)?;
                Digest::parse(name).map(Value::Digest).ok_or_else(unexpected)
            }
            Self::CertReqs => {
                let name = text(raw).ok_or_else(unexpected)?;
                let known = TlsOptions::default().set("ssl_cert_reqs", name).is_ok();
                known.then(|| Value::Text(name.to_owned())).ok_or_else(unexpected)
            }
            Self::Serializers => serializers(&texts(raw).ok_or_else(unexpected)?),
            Self::Node => {
                let pattern = text(raw).ok_or_else(unexpected)?;
                let example = expand(pattern, "host")?;
                NodeName::parse(&example).map_err(|error| error.to_string())?;
                Ok(Value::Text(pattern.to_owned()))
            }
            Self::Folder => text(raw)
                .filter(|path| !path.is_empty())
                .map(|path| Value::Text(path.to_owned()))
                .ok_or_else(unexpected),
            Self::OptionalFile if is_none(raw) => Ok(Value::None),
            Self::OptionalFile => {
                let path = text(raw).filter(|path| !path.is_empty()).ok_or_else(unexpected)?;
                expand_file(path, "name@host")?;
                Ok(Value::Text(path.to_owned()))
            }
            Self::Level => text(raw).and_then(Level::parse).map(Value::Level).ok_or_else(unexpected),
            Self::Format => text(raw).and_then(Format::parse).map(Value::Format).ok_or_else(unexpected),
        }
    }

    /// What such a value looks like.
    fn expectation(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::OptionalBool => "true, false or \"none\"",
            Self::Count => "a whole number",
            Self::Positive => "a whole number of 1 or more",
            Self::OptionalCount => "a whole number or \"none\"",
            Self::OptionalPositive => "a whole number of 1 or more, or \"none\"",
            Self::Factor => "a number",
            Self::Duration => "seconds, or a time such as \"500ms\", \"30s\", \"5m\" or \"1h\"",
            Self::PositiveDuration => "seconds above zero, or a time such as \"30s\", \"5m\" or \"1h\"",
            Self::OptionalDuration => "seconds, a time such as \"30s\", \"5m\" or \"1h\", or \"none\"",
            Self::Bytes => "a number of bytes, or a size such as \"64KiB\" or \"128MiB\"",
            Self::Rate => "a rate such as \"10/s\", \"100/m\" or \"5/h\", or \"none\"",
            Self::RateScope => "\"worker\" or \"cluster\"",
            Self::KeyPath => "a path such as \"kwargs.tenant\"",
            Self::ResultUrl => "a URL",
            Self::BrokerUrl => "a URL, or a list of URLs",
            Self::OptionalBrokerUrl => "a URL, a list of URLs, or \"none\"",
            Self::FailoverStrategy => "\"round-robin\" or \"shuffle\"",
            Self::Disposition => "\"reject\", \"requeue\" or \"park\"",
            Self::RateStoreUrl => "the URL of a Redis server or an SQLite file, or \"none\"",
            Self::ValuesUrl => "the URL of a Redis server or an SQLite file",
            Self::Queue => "the name of a queue",
            Self::Queues => "one or more names of queues, such as [\"celery\", \"images\"]",
            Self::OptionalQueues => "names of queues, such as [\"celery\", \"images\"], or \"none\"",
            Self::QueueType => "\"classic\" or \"quorum\"",
            Self::ExchangeType => "\"direct\", \"topic\", \"fanout\" or \"headers\"",
            Self::OptionalPriority => "a whole number from 1 to 255, or \"none\"",
            Self::Autoscale => "two whole numbers, the larger first, such as \"10,3\", or \"none\"",
            Self::ShortText => "a text of at most 255 bytes",
            Self::OptionalPairs => "a list such as [\"global_keyprefix=app:\"], or \"none\"",
            Self::Pairs => "a list such as [\"x-match=all\", \"region=eu\"]",
            Self::Texts => "a list of texts",
            Self::RetryOn => "a list of \"trap\", \"memory\" and \"time\", or some of them",
            Self::Serializer => "a serializer, such as \"json\"",
            Self::OptionalAddress => "an address with a port, such as \"127.0.0.1:9464\", or \"none\"",
            Self::OptionalCollector => {
                "a URL such as \"http://localhost:4318\" (a collector beside the worker; there is no TLS), or \"none\""
            }
            Self::Sampler => "always_on, always_off or traceidratio, or one of them with parentbased_ before it",
            Self::Ratio => "a number between 0 and 1",
            Self::OptionalPath => "a path, or \"none\"",
            Self::Secret => "a text, or \"none\"",
            Self::CertReqs => "\"required\", \"optional\" or \"none\"",
            Self::Digest => "\"sha224\", \"sha256\", \"sha384\" or \"sha512\"",
            Self::Serializers => "a list of serializers, such as [\"json\", \"yaml\"]",
            Self::Node => "a name such as \"taskhost@%h\"",
            Self::Folder => "a folder",
            Self::OptionalFile => "the path of a file, or \"none\"",
            Self::Level => "\"debug\", \"info\", \"warning\", \"error\" or \"critical\"",
            Self::Format => "\"text\" or \"json\"",
        }
    }
}

/// The value as it is quoted in an error.
fn describe(raw: &Raw) -> String {
    const CHARS_MAX: usize = 60;
    match raw {
        Raw::Bool(value) => value.to_string(),
        Raw::Int(value) => value.to_string(),
        Raw::Float(value) => value.to_string(),
        Raw::Text(text) | Raw::Loose(text) if text.chars().count() > CHARS_MAX => {
            format!("\"{}...\"", text.chars().take(CHARS_MAX).collect::<String>().escape_debug())
        }
        Raw::Text(text) | Raw::Loose(text) => format!("\"{}\"", text.escape_debug()),
        Raw::List(items) => format!("[{}]", items.iter().map(describe).collect::<Vec<_>>().join(", ")),
        Raw::Other(what) => (*what).to_owned(),
    }
}

fn text(raw: &Raw) -> Option<&str> {
    match raw {
        Raw::Text(text) | Raw::Loose(text) => Some(text),
        _ => None,
    }
}

/// One text of all, with `;` between them, as kombu takes it.
fn urls(raw: &Raw) -> Option<String> {
    match raw {
        Raw::List(items) if !items.is_empty() => {
            let urls: Option<Vec<&str>> = items.iter().map(text).collect();
            Some(urls?.join(";"))
        }
        raw => text(raw).map(str::to_owned),
    }
}

fn serializers(names: &[String]) -> Result<Value, String> {
    let serializers: Result<Vec<_>, _> = names.iter().map(|name| Serializer::parse(name)).collect();
    let serializers = serializers.map_err(|error| error.to_string())?;
    // Otherwise a retry with new arguments could not be read by the worker that published it.
    match serializers.contains(&Serializer::Json) || serializers == [Serializer::Auth] {
        true => Ok(Value::Serializers(serializers)),
        false => Err("\"json\" must be among them, since this host itself publishes it, or \"auth\" alone".to_owned()),
    }
}

fn is_none(raw: &Raw) -> bool {
    text(raw).is_some_and(|text| text.eq_ignore_ascii_case("none"))
}

fn bool(raw: &Raw) -> Option<bool> {
    match raw {
        Raw::Bool(value) => Some(*value),
        Raw::Loose(text) => match text.to_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn count(raw: &Raw) -> Option<u32> {
    match raw {
        Raw::Int(value) => u32::try_from(*value).ok(),
        Raw::Loose(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// `max,min`, or only `max`; one slot is kept (celery/worker/worker.py).
fn autoscale(text: &str) -> Option<Value> {
    let (max, min) = text.split_once(',').unwrap_or((text, "1"));
    let (max, min) = (max.trim().parse().ok()?, min.trim().parse::<u32>().ok()?);
    (min > 0 && min <= max).then_some(Value::Autoscale { max, min })
}

fn factor(raw: &Raw) -> Option<f64> {
    let factor = match raw {
        Raw::Int(value) => *value as f64,
        Raw::Float(value) => *value,
        Raw::Loose(text) => match text.trim().parse() {
            Ok(value) => value,
            Err(_) => f64::from(u8::from(bool(raw)?)),
        },
        Raw::Bool(value) => f64::from(u8::from(*value)),
        _ => return None,
    };
    (factor.is_finite() && factor >= 0.0).then_some(factor)
}

fn duration(raw: &Raw) -> Option<Duration> {
    match raw {
        Raw::Int(value) => u64::try_from(*value).ok().map(Duration::from_secs),
        Raw::Float(value) => Duration::try_from_secs_f64(*value).ok(),
        Raw::Text(text) | Raw::Loose(text) => parse_duration(text),
        _ => None,
    }
}

/// Reads `90`, `1.5`, `500ms`, `30s`, `5m`, `1h` or `1d`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_start = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_start);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return None,
    };
    let number: f64 = number.trim().parse().ok()?;
    Duration::try_from_secs_f64(number * seconds).ok()
}

fn bytes(raw: &Raw) -> Option<u64> {
    match raw {
        Raw::Int(value) => u64::try_from(*value).ok(),
        Raw::Text(text) | Raw::Loose(text) => parse_bytes(text),
        _ => None,
    }
}

/// Reads `4096`, `64KiB`, `128 MiB`, `1GiB`, and the units of 1000 (`kB`, `MB`, `GB`).
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit_start = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_start);
    let factor: u64 = match unit.to_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.trim().parse::<u64>().ok()?.checked_mul(factor)
}

fn rate(raw: &Raw) -> Option<Value> {
    let text = match raw {
        Raw::Text(text) | Raw::Loose(text) => text.clone(),
        Raw::Int(value) => value.to_string(),
        Raw::Float(value) => value.to_string(),
        _ => return None,
    };
    match Rate::parse(&text).ok()? {
        Some(rate) => Some(Value::Rate(rate, text)),
        None => Some(Value::None),
    }
}

fn texts(raw: &Raw) -> Option<Vec<String>> {
    match raw {
        Raw::Text(text) | Raw::Loose(text) => {
            Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
        }
        Raw::List(items) => items.iter().map(|item| text(item).map(str::to_owned)).collect(),
        _ => None,
    }
}
