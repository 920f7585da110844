//! How kombu calls its keys, and what stands in them (kombu/transport/redis.py).

use taskhost_core::protocol::content::{Json, JsonError};
use taskhost_core::{Exchange, ExchangeKind, Queue, QueueName};

use super::RedisOptions;
use crate::kombu;

/// Names of keys. The global prefix is before each, but in no name inside of messages and bindings.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    prefix: String,
    separator: String,
    steps: Vec<u8>,
    fanout_prefix: String,
    fanout_patterns: bool,
    pub(super) unacked: String,
    pub(super) index: String,
    pub(super) mutex: String,
    /// Ours: which of our connections are alive, scored with the end of their lease.
    pub(super) owners: String,
    /// Ours: what was in a queue and is no message.
    pub(super) unreadable: String,
}

impl Layout {
    pub(super) fn new(options: &RedisOptions, db: u32) -> Self {
        let prefix = options.global_keyprefix.clone();
        let key = |name: &str| format!("{prefix}{name}");
        Self {
            unacked: key("unacked"),
            index: key("unacked_index"),
            mutex: key("unacked_mutex"),
            owners: key("_taskhost.owners"),
            unreadable: key("_taskhost.unreadable"),
            separator: options.separator.clone(),
            steps: options.priority_steps.clone(),
            fanout_prefix: options.fanout_prefix.clone().unwrap_or_else(|| format!("/{db}.")),
            fanout_patterns: options.fanout_patterns,
            prefix,
        }
    }

    /// The lists of a queue, in the order in which they are served.
    pub(super) fn lists(&self, queue: &str) -> Vec<String> {
        self.steps.iter().map(|step| self.list_of_step(queue, *step)).collect()
    }

    /// The list for messages of this priority.
    pub(super) fn list(&self, queue: &str, priority: u8) -> String {
        let priority = priority.min(9);
        let step = self.steps.iter().rev().find(|step| **step <= priority);
        self.list_of_step(queue, step.copied().unwrap_or(0))
    }

    fn list_of_step(&self, queue: &str, step: u8) -> String {
        let Self { prefix, separator, .. } = self;
        if step == 0 { format!("{prefix}{queue}") } else { format!("{prefix}{queue}{separator}{step}") }
    }

    pub(super) fn bindings(&self, exchange: &str) -> String {
        format!("{}_kombu.binding.{exchange}", self.prefix)
    }

    /// The set without which kombu 5.7 may delete the other one.
    pub(super) fn permanent_bindings(&self, exchange: &str) -> String {
        format!("{}_kombu.binding_permanent.{exchange}", self.prefix)
    }

    /// When tables of queues that expire may be deleted.
    pub(super) fn binding_deadlines(&self) -> String {
        format!("{}_kombu.binding_deadlines", self.prefix)
    }

    /// What stands in both sets.
    pub(super) fn binding(&self, queue: &Queue) -> String {
        let Queue { name, exchange: Exchange { kind, .. }, routing_key, .. } = queue;
        let pattern = if *kind == ExchangeKind::Topic { kombu::pattern(routing_key) } else { String::new() };
        [routing_key, &pattern, name.as_str()].join(&self.separator)
    }

    /// The same for a queue of a direct exchange.
    pub(super) fn direct_binding(&self, routing_key: &str, queue: &str) -> String {
        [routing_key, "", queue].join(&self.separator)
    }

    /// Routing key, pattern and queue of a member of these sets.
    pub(super) fn split_binding<'a>(&self, member: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
        let mut parts = member.split(self.separator.as_str());
        Some((parts.next()?, parts.next()?, parts.next()?))
    }

    /// The channel of a fanout exchange.
    pub(super) fn channel(&self, exchange: &str, routing_key: &str) -> String {
        let Self { prefix, fanout_prefix, .. } = self;
        match routing_key {
            key if !key.is_empty() && self.fanout_patterns => format!("{prefix}{fanout_prefix}{exchange}/{key}"),
            _ => format!("{prefix}{fanout_prefix}{exchange}"),
        }
    }

    /// What a subscription hears, as a pattern of channels. Only the routing key may have stars in it.
    pub(super) fn heard(&self, exchange: &str, routing_key: &str) -> String {
        let channel = self.channel(exchange, "");
        let mut pattern = String::with_capacity(channel.len() + routing_key.len() + 1);
        for character in channel.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        if !routing_key.is_empty() && self.fanout_patterns {
            pattern.push('/');
            pattern.push_str(&routing_key.replace('#', "*"));
        }
        pattern
    }

    /// What a fanout queue subscribes to. One without a key hears everything, as on any other broker: Celery's
    /// clients publish with the key that they think the queue has (celery/app/amqp.py).
    pub(super) fn channel_patterns(&self, queue: &Queue) -> Vec<String> {
        let exchange = &queue.exchange.name;
        match queue.routing_key.replace('#', "*") {
            key if key.is_empty() && self.fanout_patterns => {
                vec![self.channel(exchange, ""), self.channel(exchange, "*")]
            }
            key => vec![self.channel(exchange, &key)],
        }
    }
}

/// What follows the envelope in `unacked` for messages that we took: `, exchange, routing key]`. They name
/// the queue itself, so that whoever restores one restores it there and nowhere else, also when bindings
/// were evicted and when one publication went to several queues.
pub(super) fn entry_tail(queue: &QueueName) -> String {
    format!(", \"\", {}]", Json::text(queue.as_str()).as_str())
}

/// A message in `unacked`.
pub(super) struct Entry {
    pub(super) envelope: Json,
    pub(super) exchange: String,
    pub(super) routing_key: String,
}

impl Entry {
    pub(super) fn parse(text: Vec<u8>) -> Result<Self, JsonError> {
        let entry = Json::parse(text)?;
        let mut parts = entry.elements();
        let envelope = parts.next().unwrap_or_else(Json::null);
        let mut text = || parts.next().and_then(|part| part.as_text().map(String::from)).unwrap_or_default();
        Ok(Self { envelope, exchange: text(), routing_key: text() })
    }

    /// The priority, as kombu reads it.
    pub(super) fn priority(&self) -> u8 {
        let priority = self.envelope.get("properties").and_then(|properties| properties.get("priority")?.as_i64());
        u8::try_from(priority.unwrap_or(0).clamp(0, 9)).unwrap_or(0)
    }

    /// The envelope, marked as kombu marks what it puts back, and counted.
    pub(super) fn marked(&self) -> Json {
        kombu::marked(&self.envelope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(options: &RedisOptions) -> Layout {
        Layout::new(options, 0)
    }

    #[test]
    fn lists_and_channels_are_called_as_in_kombu() {
        let plain = layout(&RedisOptions::default());
        assert_eq!(plain.lists("q"), ["q", "q\u{6}\u{16}3", "q\u{6}\u{16}6", "q\u{6}\u{16}9"]);
        let steps: Vec<_> = [0, 2, 3, 7, 9, 255].map(|priority| plain.list("q", priority)).into();
        assert_eq!(steps, ["q", "q", "q\u{6}\u{16}3", "q\u{6}\u{16}6", "q\u{6}\u{16}9", "q\u{6}\u{16}9"]);
        assert_eq!(plain.channel("celeryev", "task.sent"), "/0.celeryev/task.sent");
        assert_eq!(plain.channel("celery.pidbox", ""), "/0.celery.pidbox");
        let mut news = Queue::named(QueueName::parse("news").unwrap());
        news.routing_key = String::new();
        assert_eq!(plain.channel_patterns(&news), ["/0.news", "/0.news/*"]);
        assert_eq!(plain.heard("celery.pidbox", ""), "/0.celery.pidbox");
        assert_eq!(plain.heard("celery[1]", "task.#"), "/0.celery\\[1\\]/task.*");
        news.routing_key = "task.#".to_owned();
        assert_eq!(plain.channel_patterns(&news), ["/0.news/task.*"]);
        let prefixed = layout(&RedisOptions { global_keyprefix: "app:".into(), ..RedisOptions::default() });
        assert_eq!(prefixed.unacked, "app:unacked");
        assert_eq!(prefixed.bindings("x"), "app:_kombu.binding.x");
        assert_eq!(prefixed.channel("x", ""), "app:/0.x");
    }

    #[test]
    fn bindings_are_written_as_kombu_writes_them() {
        let layout = layout(&RedisOptions::default());
        let mut queue = Queue::named(QueueName::parse("q").unwrap());
        assert_eq!(layout.binding(&queue), "q\u{6}\u{16}\u{6}\u{16}q");
        queue.exchange.kind = ExchangeKind::Topic;
        queue.routing_key = "a-b.*.#".to_owned();
        // `TopicExchange().key_to_pattern("a-b.*.#")` of kombu 5.7.
        assert_eq!(layout.binding(&queue), "a-b.*.#\u{6}\u{16}^a\\-b\\.[^\\.]+\\..*?$\u{6}\u{16}q");
    }

    #[test]
    fn what_is_put_back_is_marked_counted_and_otherwise_as_it_was() {
        let mut entry = Entry::parse(
            br#"[{"body": "W10=", "x": 1.0, "headers": {"id": "a", "big": 123456789012345678901}, "properties": {"priority": 7, "delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": "q"}}}, "", "q"]"#.to_vec(),
        )
        .unwrap();
        assert_eq!((entry.exchange.as_str(), entry.routing_key.as_str(), entry.priority()), ("", "q", 7));
        for count in 1..3 {
            let marked = entry.marked();
            let expected = format!(
                r#"{{"body": "W10=", "x": 1.0, "headers": {{"id": "a", "big": 123456789012345678901, "redelivered": true, "x-delivery-count": {count}}}, "properties": {{"priority": 7, "delivery_tag": "t", "delivery_info": {{"exchange": "", "routing_key": "q", "redelivered": true}}}}}}"#
            );
            assert_eq!(marked.as_str(), expected);
            entry.envelope = marked;
        }
    }
}
