//! What is broadcast inside the process, as RabbitMQ would.

use std::sync::Arc;

use async_trait::async_trait;
use taskhost_core::{Publication, Route};

use super::lost;
use crate::broadcast::{Inbox, Subscription, Topic};
use crate::letters::Letters;
use crate::port::BrokerError;

/// Everybody who listens.
#[derive(Default)]
pub(super) struct Topics {
    subscribers: Vec<Subscriber>,
}

struct Subscriber {
    connection: u64,
    subscription: Subscription,
    letters: Arc<Letters>,
}

pub(super) struct MemoryInbox {
    pub(super) letters: Arc<Letters>,
}

impl Topics {
    pub(super) fn subscribe(
        &mut self,
        connection: u64,
        subscription: &Subscription,
    ) -> Result<Arc<Letters>, BrokerError> {
        self.subscribers.retain(|subscriber| !subscriber.letters.ended());
        if self.subscribers.iter().any(|subscriber| subscriber.subscription.queue == subscription.queue) {
            return Err(BrokerError::Taken { queue: subscription.queue.clone() });
        }
        let letters = Arc::<Letters>::default();
        let subscription = subscription.clone();
        self.subscribers.push(Subscriber { connection, subscription, letters: Arc::clone(&letters) });
        Ok(letters)
    }

    pub(super) fn send(&mut self, topic: Topic, publications: &[Publication]) {
        for publication in publications {
            for Subscriber { subscription, letters, .. } in &self.subscribers {
                if subscription.topic == topic && is_meant(subscription, &publication.route) {
                    letters.put(publication.clone());
                }
            }
        }
    }

    /// A connection is gone.
    pub(super) fn lose(&mut self, connection: u64) {
        self.subscribers.retain(|subscriber| {
            let is_lost = subscriber.connection == connection;
            if is_lost && let BrokerError::Lost { reason } = lost() {
                subscriber.letters.lose(&reason);
            }
            !is_lost
        });
    }
}

#[async_trait]
impl Inbox for MemoryInbox {
    async fn next(&self) -> Result<Option<Vec<Publication>>, BrokerError> {
        self.letters.take().await
    }

    fn dropped(&self) -> u64 {
        self.letters.dropped()
    }

    async fn close(&self) {
        self.letters.close();
    }
}

impl Drop for MemoryInbox {
    fn drop(&mut self) {
        self.letters.close();
    }
}

fn is_meant(subscription: &Subscription, route: &Route) -> bool {
    let Subscription { topic, exchange, routing_key, .. } = subscription;
    *exchange == route.exchange
        && match topic {
            Topic::Mailboxes => true,
            Topic::Replies => *routing_key == route.routing_key,
            Topic::Events => {
                let words = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
                matches(&words(routing_key), &words(&route.routing_key))
            }
        }
}

/// AMQP's topics: `*` is one word, `#` any number of them.
fn matches(pattern: &[String], key: &[String]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, rest) => rest.is_none(),
        (Some((word, rest)), _) if word == "#" => (0..=key.len()).any(|taken| matches(rest, &key[taken..])),
        (Some((word, rest)), Some((found, others))) => (word == "*" || word == found) && matches(rest, others),
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_amqp() {
        for (pattern, key, expected) in [
            ("#", "task.sent", true),
            ("#", "", true),
            ("task.#", "task", true),
            ("task.#", "task.a.b", true),
            ("task.*", "task.a.b", false),
            ("*.sent", "task.sent", true),
            ("task.sent", "task.sent", true),
            ("task", "task.sent", false),
            ("#.b", "a.b", true),
        ] {
            let words = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(matches(&words(pattern), &words(key)), expected, "{pattern} {key}");
        }
    }
}
