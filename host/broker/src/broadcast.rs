//! The part of the port that reaches whoever listens at that moment: remote control and events.
//!
//! Nothing here is confirmed, kept or delivered twice. What must not be lost is published instead.

use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::Publication;

use crate::port::BrokerError;

/// How long commands and replies wait for whoever reads seldom (Celery's `control_queue_ttl`).
const CONTROL_TTL: Duration = Duration::from_secs(300);
/// How long their queues stay when nobody reads (`control_queue_expires`).
const CONTROL_EXPIRES: Duration = Duration::from_secs(10);
/// `event_queue_ttl` and `event_queue_expires`.
const EVENT_TTL: Duration = Duration::from_secs(5);
const EVENT_EXPIRES: Duration = Duration::from_secs(60);

/// What kind of listeners an exchange leads to. Each transport has its own kind of exchange for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The mailbox of every node: all get each message (kombu/pidbox.py `Mailbox.exchange`).
    Mailboxes,
    /// Whoever asked, by the routing key (`Mailbox.reply_exchange`).
    Replies,
    /// Monitors, by patterns of the routing key (celery/events/event.py).
    Events,
}

impl Topic {
    /// The exchange for a namespace: Celery's `control_exchange`, or `event_exchange` for events.
    pub fn exchange(self, namespace: &str) -> String {
        match self {
            Self::Mailboxes => format!("{namespace}.pidbox"),
            Self::Replies => format!("reply.{namespace}.pidbox"),
            Self::Events => namespace.to_owned(),
        }
    }
}

/// What to listen to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub topic: Topic,
    pub exchange: String,
    /// Which messages: a routing key or, for events, a pattern of it such as `task.#`. Mailboxes have none.
    pub routing_key: String,
    /// The queue in which messages wait, where the transport needs one. It belongs to this subscription.
    pub queue: String,
    /// How long a message waits there to be read.
    pub message_ttl: Option<Duration>,
    /// How long the queue stays if nobody reads it.
    pub expires: Option<Duration>,
}

impl Subscription {
    /// The commands for a node. `namespace` is Celery's `control_exchange`.
    pub fn mailbox(namespace: &str, node: &str) -> Self {
        Self {
            topic: Topic::Mailboxes,
            exchange: Topic::Mailboxes.exchange(namespace),
            routing_key: String::new(),
            queue: format!("{node}.{namespace}.pidbox"),
            message_ttl: Some(CONTROL_TTL),
            expires: Some(CONTROL_EXPIRES),
        }
    }

    /// The replies to whoever calls itself `oid`.
    pub fn replies(namespace: &str, oid: &str) -> Self {
        let exchange = Topic::Replies.exchange(namespace);
        Self {
            topic: Topic::Replies,
            queue: format!("{oid}.{exchange}"),
            exchange,
            routing_key: oid.to_owned(),
            message_ttl: Some(CONTROL_TTL),
            expires: Some(CONTROL_EXPIRES),
        }
    }

    /// The events whose routing key matches the pattern: `#` is all of them. `exchange` is Celery's
    /// `event_exchange`, `prefix` its `event_queue_prefix`, and `id` is this monitor's alone.
    pub fn events(exchange: &str, prefix: &str, id: &str, pattern: &str) -> Self {
        Self {
            topic: Topic::Events,
            exchange: exchange.to_owned(),
            routing_key: pattern.to_owned(),
            queue: format!("{prefix}.{id}"),
            message_ttl: Some(EVENT_TTL),
            expires: Some(EVENT_EXPIRES),
        }
    }
}

/// A running subscription. It ends when it is dropped, but only [`Inbox::close`] leaves nothing behind.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Waits for messages and returns those that are there, at least one and in order, with the route by which
    /// they were sent. Giving up the wait loses nothing. An error means that the connection is lost; `None`
    /// comes after [`Inbox::close`].
    async fn next(&self) -> Result<Option<Vec<Publication>>, BrokerError>;

    /// How many messages were dropped here since they were not taken in time. What the broker dropped itself
    /// is not known.
    fn dropped(&self) -> u64 {
        0
    }

    /// Listens no more, and removes what was made for it.
    async fn close(&self);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_and_queues_are_called_as_celery_calls_them() {
        let mailbox = Subscription::mailbox("celery", "taskhost@box");
        assert_eq!(
            (mailbox.exchange.as_str(), mailbox.queue.as_str()),
            ("celery.pidbox", "taskhost@box.celery.pidbox")
        );
        let replies = Subscription::replies("celery", "f00");
        assert_eq!((replies.exchange.as_str(), replies.routing_key.as_str()), ("reply.celery.pidbox", "f00"));
        assert_eq!(replies.queue, "f00.reply.celery.pidbox");
        assert_eq!(Subscription::events("celeryev", "celeryev", "f00", "#").queue, "celeryev.f00");
    }
}
