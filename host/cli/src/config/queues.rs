//! Which queues there are and what each looks like: `[queues.NAME]`, and the defaults for all others.
//!
//! Knows nothing about brokers, and nothing of queues that exist there.

use std::collections::BTreeMap;

use taskhost_core::{Exchange, ExchangeKind, Queue, QueueKind, QueueName, Queues};

use crate::config::error::{ConfigError, ConfigErrors};
use crate::config::origin::Origin;
use crate::config::resolve::Resolved;
use crate::config::value::Value;

/// The options of one queue, by their names.
type Options = BTreeMap<&'static str, (Value, Origin)>;

/// Reads the definitions.
pub(crate) fn read(resolved: &Resolved) -> Result<Queues, ConfigErrors> {
    let kind = match resolved.value("task.default_queue_type") {
        Value::QueueKind(kind) => *kind,
        _ => QueueKind::Classic,
    };
    let mut queues = Queues::new(kind, priority(resolved.value("task.queue_max_priority")));
    let mut errors = Vec::new();
    for (name, options) in &resolved.queue_options {
        match define(&queues, name, options) {
            Ok(queue) => queues.define(queue),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(queues) } else { Err(ConfigErrors::new(errors)) }
}

/// The queues to take tasks from: those that are wanted without those that are excluded.
pub(crate) fn select(queues: &Queues, resolved: &Resolved) -> Result<Vec<QueueName>, ConfigErrors> {
    let names = |key| match resolved.value(key) {
        Value::Queues(names) => names.clone(),
        _ => Vec::new(),
    };
    let mut errors = Vec::new();
    let wanted = names("task.queues");
    if *resolved.value("task.create_missing_queues") == Value::Bool(false) {
        let is_known = |name: &&QueueName| match resolved.value("task.default_queue") {
            // As in Celery: the default queue is one of the queues only if there are no others.
            Value::Queue(default) if queues.is_empty() => *name == default,
            _ => queues.defines(name),
        };
        for name in wanted.iter().filter(|name| !is_known(name)) {
            let problem = format!("queue `{name}` is not defined; write [queues.\"{name}\"] in host.toml");
            errors.push(ConfigError::value(resolved.origin("task.queues"), "task.queues", &problem));
        }
    }
    let excluded = names("task.exclude_queues");
    let selected: Vec<_> = wanted.into_iter().filter(|name| !excluded.contains(name)).collect();
    if selected.is_empty() {
        let (key, problem) = ("task.exclude_queues", "no queue is left to take tasks from");
        errors.push(ConfigError::value(resolved.origin(key), key, problem));
    }
    if errors.is_empty() { Ok(selected) } else { Err(ConfigErrors::new(errors)) }
}

fn define(queues: &Queues, name: &QueueName, options: &Options) -> Result<Queue, ConfigError> {
    let broadcast = matches!(options.get("broadcast"), Some((Value::Bool(true), _)));
    let kind = match options.get("type") {
        Some((Value::QueueKind(QueueKind::Quorum), origin)) if broadcast => {
            let problem = "a broadcast queue cannot be a quorum queue: it goes with its worker";
            return Err(ConfigError::value(origin, &key(name, "type"), problem));
        }
        Some((Value::QueueKind(kind), _)) => *kind,
        _ if broadcast => QueueKind::Classic,
        _ => queues.kind(),
    };
    let mut queue = Queue { broadcast, ..queues.plain(name, kind) };
    if let Some((max, origin)) = options.get("max_priority") {
        queue.max_priority = priority(max);
        if kind == QueueKind::Quorum && queue.max_priority.is_some() {
            let problem = "a quorum queue has no max_priority; write type = \"classic\"";
            return Err(ConfigError::value(origin, &key(name, "max_priority"), problem));
        }
    }
    let exchange_kind = match options.get("exchange_type") {
        Some((Value::ExchangeKind(kind), _)) => *kind,
        _ if broadcast => ExchangeKind::Fanout,
        _ => ExchangeKind::Direct,
    };
    let exchange = text(options, "exchange").unwrap_or_else(|| name.to_string());
    queue.exchange = Exchange { name: exchange, kind: exchange_kind };
    queue.routing_key = match (text(options, "routing_key"), exchange_kind) {
        (Some(key), _) => key,
        // These two look at no key.
        (None, ExchangeKind::Fanout | ExchangeKind::Headers) => String::new(),
        (None, ExchangeKind::Direct | ExchangeKind::Topic) => name.to_string(),
    };
    if let Some((Value::Texts(pairs), _)) = options.get("binding_arguments") {
        let pairs = pairs.iter().filter_map(|pair| pair.split_once('='));
        queue.binding_arguments = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    }
    Ok(queue)
}

/// The name of an option as it is shown.
pub(crate) fn key(queue: &QueueName, option: &str) -> String {
    format!("queues.\"{queue}\".{option}")
}

fn text(options: &Options, name: &str) -> Option<String> {
    match options.get(name) {
        Some((Value::Text(text), _)) => Some(text.clone()),
        _ => None,
    }
}

fn priority(value: &Value) -> Option<u8> {
    match value {
        Value::Count(count) => u8::try_from(*count).ok(),
        _ => None,
    }
}
