//! Finds or makes queues, exchanges and bindings.
//!
//! Everything is looked for before it is made: the arguments of what exists are never fought, and whoever
//! may only read needs no right to configure.

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection};
use taskhost_core::{ExchangeKind, Queue, QueueKind};
use tracing::{info, warn};
use uuid::Uuid;

use super::channel;
use super::failure::{Failure, timely};
use super::peer::Peer;
use crate::broadcast::Topic;

/// Declares over one connection. Its channel is replaced when the broker closes it, as it does after
/// everything that it refuses.
pub(super) struct Declarer<'a> {
    connection: &'a Connection,
    peer: Peer,
    channel: Option<Channel>,
}

/// A queue, as the broker is told to make it.
#[derive(Default)]
pub(super) struct QueueOptions {
    pub(super) exclusive: bool,
    pub(super) arguments: FieldTable,
}

impl<'a> Declarer<'a> {
    pub(super) fn new(connection: &'a Connection, peer: Peer) -> Self {
        Self { connection, peer, channel: None }
    }

    /// Finds a queue, or makes it with its exchange and the binding between them. Returns its name at the
    /// broker.
    pub(super) async fn ensure(&mut self, queue: &Queue) -> Result<ShortString, Failure> {
        if queue.broadcast {
            return self.create_broadcast(queue).await;
        }
        let name = short(queue.name.as_str())?;
        if self.count(&name).await?.is_some() {
            self.compare(&name, queue).await?;
            // A queue that somebody else made may know nothing of our exchange.
            if !has_usual_route(queue) || !self.peer.default_exchange_finds_queues {
                self.route(&name, queue).await?;
            }
            return Ok(name);
        }
        let options = QueueOptions { arguments: arguments(queue), ..QueueOptions::default() };
        match self.create_queue(&name, options).await {
            // Somebody else created it just now, with arguments of their own. If nobody did, it is that
            // such a queue cannot be.
            Err(failure) if failure.is_conflict() && self.count(&name).await?.is_some() => drop(failure),
            created => created?,
        }
        self.route(&name, queue).await?;
        info!(queue.name = %queue.name, "queue `{name}` was missing and has been created");
        Ok(name)
    }

    /// Finds a queue or makes it; for one that every worker has for itself, only what leads to it.
    pub(super) async fn prepare(&mut self, queue: &Queue) -> Result<(), Failure> {
        if queue.broadcast {
            return self.ensure_exchange(&queue.exchange.name, queue.exchange.kind).await;
        }
        self.ensure(queue).await.map(drop)
    }

    /// How many messages wait in a queue, if it exists.
    pub(super) async fn count(&mut self, name: &ShortString) -> Result<Option<u32>, Failure> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let channel = self.channel().await?;
        match timely(channel.queue_declare(name.clone(), options, FieldTable::default())).await {
            Ok(found) => Ok(Some(found.message_count())),
            Err(failure) if failure.is_missing() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Deletes what waits in a queue, if it exists.
    pub(super) async fn purge(&mut self, name: &ShortString) -> Result<Option<u32>, Failure> {
        let channel = self.channel().await?;
        match timely(channel.queue_purge(name.clone(), QueuePurgeOptions::default())).await {
            Ok(count) => Ok(Some(count)),
            Err(failure) if failure.is_missing() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Makes a durable queue, or an exclusive one. RabbitMQ 4 has no others.
    pub(super) async fn create_queue(&mut self, name: &ShortString, options: QueueOptions) -> Result<(), Failure> {
        let QueueOptions { exclusive, arguments } = options;
        let options = QueueDeclareOptions { durable: !exclusive, exclusive, ..QueueDeclareOptions::default() };
        let channel = self.channel().await?;
        timely(channel.queue_declare(name.clone(), options, arguments)).await.map(drop)
    }

    /// Finds an exchange, or makes it.
    pub(super) async fn ensure_exchange(&mut self, name: &str, kind: ExchangeKind) -> Result<(), Failure> {
        let kind = match kind {
            ExchangeKind::Direct => lapin::ExchangeKind::Direct,
            ExchangeKind::Topic => lapin::ExchangeKind::Topic,
            ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
            ExchangeKind::Headers => lapin::ExchangeKind::Headers,
        };
        self.find_or_make_exchange(name, kind, true).await
    }

    /// Finds the exchange of a topic, or makes it as Celery does.
    pub(super) async fn ensure_topic(&mut self, name: &str, topic: Topic) -> Result<(), Failure> {
        let (kind, durable) = match topic {
            Topic::Mailboxes => (lapin::ExchangeKind::Fanout, false),
            Topic::Replies => (lapin::ExchangeKind::Direct, false),
            Topic::Events => (lapin::ExchangeKind::Topic, true),
        };
        self.find_or_make_exchange(name, kind, durable).await
    }

    async fn find_or_make_exchange(
        &mut self,
        name: &str,
        kind: lapin::ExchangeKind,
        durable: bool,
    ) -> Result<(), Failure> {
        if name.is_empty() {
            return Ok(());
        }
        let name = short(name)?;
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let channel = self.channel().await?;
        let found = channel.exchange_declare(name.clone(), kind.clone(), options, FieldTable::default());
        match timely(found).await {
            Err(failure) if failure.is_missing() => {}
            found => return found,
        }
        let options = ExchangeDeclareOptions { durable, ..ExchangeDeclareOptions::default() };
        let channel = self.channel().await?;
        timely(channel.exchange_declare(name, kind, options, FieldTable::default())).await
    }

    pub(super) async fn bind_queue(
        &mut self,
        queue: &ShortString,
        exchange: &str,
        key: &str,
        arguments: FieldTable,
    ) -> Result<(), Failure> {
        let (exchange, key) = (short(exchange)?, short(key)?);
        let channel = self.channel().await?;
        timely(channel.queue_bind(queue.clone(), exchange, key, QueueBindOptions::default(), arguments)).await
    }

    pub(super) async fn bind_exchange(&mut self, destination: &str, source: &str, key: &str) -> Result<(), Failure> {
        let (destination, source, key) = (short(destination)?, short(source)?, short(key)?);
        let channel = self.channel().await?;
        let options = ExchangeBindOptions::default();
        timely(channel.exchange_bind(destination, source, key, options, FieldTable::default())).await
    }

    /// kombu/common.py `Broadcast`, but exclusive: it goes with the connection, and RabbitMQ 4 knows no
    /// other queue that is not durable.
    async fn create_broadcast(&mut self, queue: &Queue) -> Result<ShortString, Failure> {
        let name = short(&format!("bcast.{}", Uuid::new_v4()))?;
        self.create_queue(&name, QueueOptions { exclusive: true, arguments: arguments(queue) }).await?;
        self.route(&name, queue).await?;
        Ok(name)
    }

    /// Makes the exchange and the binding.
    async fn route(&mut self, name: &ShortString, queue: &Queue) -> Result<(), Failure> {
        let exchange = &queue.exchange;
        // Every queue is bound to the default exchange, and nothing may be declared about it.
        if exchange.name.is_empty() {
            return Ok(());
        }
        self.ensure_exchange(&exchange.name, exchange.kind).await?;
        let mut arguments = FieldTable::default();
        for (key, value) in &queue.binding_arguments {
            arguments.insert(short(key)?, AMQPValue::LongString(value.as_str().into()));
        }
        self.bind_queue(name, &exchange.name, &queue.routing_key, arguments).await?;
        let shadowed = exchange.name == name.as_str() && !self.peer.default_exchange_finds_queues;
        if shadowed && exchange.kind != ExchangeKind::Headers {
            self.bind_queue(name, &exchange.name, "", FieldTable::default()).await?;
        }
        Ok(())
    }

    /// Says so if an existing queue is not as we would have made it. AMQP only tells when asked to declare
    /// it, which changes nothing.
    async fn compare(&mut self, name: &ShortString, queue: &Queue) -> Result<(), Failure> {
        let arguments = arguments(queue);
        if arguments.inner().is_empty() {
            return Ok(());
        }
        match self.create_queue(name, QueueOptions { arguments, ..QueueOptions::default() }).await {
            Err(failure) if failure.is_conflict() => {
                warn!(
                    queue.name = %queue.name, error = %failure,
                    "queue `{name}` exists and is not as it is configured here; it stays as it is ({failure})"
                );
                Ok(())
            }
            // Without the right to configure there is no telling.
            Err(failure) if failure.is_refused_access() => Ok(()),
            compared => compared,
        }
    }

    async fn channel(&mut self) -> Result<Channel, Failure> {
        if let Some(channel) = self.channel.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let channel = channel::open(self.connection).await?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }
}

pub(super) fn short(text: &str) -> Result<ShortString, Failure> {
    ShortString::try_new(text).map_err(|error| Failure::Refused(error.to_string()))
}

pub(super) fn kind_name(kind: QueueKind) -> AMQPValue {
    let name = match kind {
        QueueKind::Classic => "classic",
        QueueKind::Quorum => "quorum",
    };
    AMQPValue::LongString(name.into())
}

/// The arguments of a queue. A classic one does not say so: neither do Celery's clients, which declare it,
/// too.
fn arguments(queue: &Queue) -> FieldTable {
    let mut arguments = FieldTable::default();
    if queue.kind == QueueKind::Quorum {
        arguments.insert("x-queue-type".into(), kind_name(queue.kind));
    }
    if let Some(max) = queue.max_priority {
        arguments.insert("x-max-priority".into(), AMQPValue::LongInt(max.into()));
    }
    arguments
}

/// Messages come by an exchange named like the queue, as from any client that only knows its name.
fn has_usual_route(queue: &Queue) -> bool {
    let usual = Queue::named(queue.name.clone());
    (&queue.exchange, &queue.routing_key) == (&usual.exchange, &usual.routing_key)
}
