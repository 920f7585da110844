//! A message as it travels: properties, headers and body, and where it goes to or came from.
//!
//! Knows nothing of Celery: what the headers and the body mean is the business of [`crate::protocol`].

use bytes::Bytes;

use crate::name::QueueName;

/// The header in which a broker says how often it delivered a message before: RabbitMQ writes it for
/// quorum queues, the adapters of other brokers as far as they count.
pub const DELIVERY_COUNT_HEADER: &str = "x-delivery-count";

/// Marks a message that may be one of two of one execution. It was given back to the broker to wait for its
/// ETA, which on RabbitMQ is a publication and an acknowledgement, with room for a crash between them; or it
/// was published again, since nobody knows whether the first time it arrived.
pub const PUT_BACK_HEADER: &str = "x-put-back";

/// Names the version of its plugin on which a retry is to run (`pin_retries`).
pub const VERSION_HEADER: &str = "x-plugin-version";

/// One message of AMQP, or of kombu's envelope.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Message {
    pub properties: Properties,
    pub headers: Headers,
    pub body: Bytes,
}

/// AMQP's basic properties, those that Celery uses.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Properties {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub correlation_id: Option<String>,
    pub reply_to: Option<String>,
    /// 2 is persistent, 1 is not.
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    /// Milliseconds, as decimal text.
    pub expiration: Option<String>,
    /// Whatever a client calls itself.
    pub app_id: Option<String>,
}

/// The header table, in the order in which it came.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Headers(pub Vec<(String, HeaderValue)>);

/// A value in the header table: what AMQP's field table and JSON have in common, and the rest of both.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderValue {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// AMQP's `T`: seconds since the epoch.
    Timestamp(u64),
    List(Vec<HeaderValue>),
    Map(Vec<(String, HeaderValue)>),
    /// JSON that has no other form here, such as a number of 300 digits: kept as it was written.
    Json(String),
}

impl Headers {
    /// The value under `key`, if there is one.
    pub fn get(&self, key: &str) -> Option<&HeaderValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Replaces the value under `key`, or adds it.
    pub fn set(&mut self, key: &str, value: HeaderValue) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// How often the broker says it delivered this message before.
    pub fn delivery_count(&self) -> u32 {
        match self.get(DELIVERY_COUNT_HEADER) {
            Some(HeaderValue::Int(count)) => u32::try_from(*count).unwrap_or(0),
            _ => 0,
        }
    }

    /// Takes away everything for which `unwanted` says so.
    pub fn remove(&mut self, unwanted: impl Fn(&str) -> bool) {
        self.0.retain(|(name, _)| !unwanted(name));
    }
}

/// Where a message is published to. An empty exchange is AMQP's default exchange: the routing key
/// is the name of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub exchange: String,
    pub routing_key: String,
}

impl Route {
    /// Straight to a queue.
    pub fn queue(name: &QueueName) -> Self {
        Self { exchange: String::new(), routing_key: name.to_string() }
    }
}

/// A message and its destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    pub message: Message,
    pub route: Route,
}

/// How a message reached us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryInfo {
    /// The queue that we consumed it from.
    pub queue: QueueName,
    /// The exchange and routing key that it was published with.
    pub exchange: String,
    pub routing_key: String,
    /// The broker says that it handed this message out before.
    pub redelivered: bool,
}

impl DeliveryInfo {
    /// For transports where a message only says by which route it came.
    ///
    /// Clients that put it into the queue's list themselves say what they like: gocelery always `celery`, rusty-celery
    /// nothing. What is published again by that route (a retry) would end in another queue, or in none. So where the route
    /// is that of another queue, as far as its name tells, the message came straight to the one that it was found in.
    pub fn found(queue: QueueName, route: Route, redelivered: bool) -> Self {
        let Route { exchange, routing_key } = &route;
        let is_of_a_queue = exchange.is_empty() || exchange == routing_key;
        let route = match is_of_a_queue && routing_key != queue.as_str() {
            true => Route::queue(&queue),
            false => route,
        };
        Self { queue, exchange: route.exchange, routing_key: route.routing_key, redelivered }
    }
}

/// What is to become of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acknowledgement {
    /// It is done with.
    Ack,
    /// It is refused, and not to be delivered again (dead-lettered where the queue says so).
    Reject,
    /// It is given back, to be delivered again.
    Requeue,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_into_a_queue_came_by_its_route() {
        for (exchange, routing_key, expected) in [
            // As kombu writes it, and as other clients do.
            ("", "images", ("", "images")),
            ("images", "images", ("images", "images")),
            ("", "", ("", "images")),
            ("", "celery", ("", "images")),
            ("celery", "celery", ("", "images")),
            // Nobody knows better than the client.
            ("topics", "images.large", ("topics", "images.large")),
            ("topics", "", ("topics", "")),
        ] {
            let queue = QueueName::parse("images").expect("a name");
            let route = Route { exchange: exchange.to_owned(), routing_key: routing_key.to_owned() };
            let info = DeliveryInfo::found(queue, route, false);
            assert_eq!((info.exchange.as_str(), info.routing_key.as_str()), expected, "{exchange} {routing_key}");
        }
    }
}
