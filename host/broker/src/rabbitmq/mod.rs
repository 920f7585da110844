//! RabbitMQ, and whatever else speaks AMQP 0-9-1.
//!
//! One connection consumes and declares, another publishes. Does not reconnect: a lost connection is an
//! error, and the whole adapter is thrown away.

mod address;
mod consumer;
mod convert;
mod failure;
mod publisher;
#[cfg(test)]
mod tests;
mod unsettled;

use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use taskhost_core::{Publication, QueueName, RedactedUrl};
use tracing::info;
use uuid::Uuid;

use self::consumer::RabbitConsumer;
use self::failure::{Failure, timely};
use self::publisher::Publisher;
use crate::connect::ConnectOptions;
use crate::port::{Broker, BrokerError, Consumer};

pub(crate) use self::address::{SCHEMES, parse as parse_url};

/// AMQP's code and text for "nothing is wrong".
const REPLY_SUCCESS: u16 = 200;

/// Answers that may be on their way to whoever waits for one.
const REPLIES_PREFETCH: u32 = 100;

/// How long closing in good order may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// A connection to RabbitMQ.
pub struct RabbitMq {
    connection: Connection,
    publisher: Publisher,
}

/// Opens connections to one broker.
#[derive(Clone)]
struct Connector {
    url: RedactedUrl,
    uri: AMQPUri,
    options: ConnectOptions,
}

/// What a connection is for.
#[derive(Clone, Copy)]
enum Role {
    Consume,
    Publish,
}

impl RabbitMq {
    /// Connects.
    pub async fn connect(url: &str, options: &ConnectOptions) -> Result<Self, BrokerError> {
        let connector = Connector { url: RedactedUrl::new(url), uri: parse_url(url)?, options: options.clone() };
        let connection = connector.connect(Role::Consume).await?;
        Ok(Self { connection, publisher: Publisher::new(connector) })
    }

    /// A channel that may be lost: the broker closes the channel of any operation that it refuses.
    async fn channel(&self) -> Result<lapin::Channel, Failure> {
        timely(self.connection.create_channel()).await
    }

    /// Declares a queue passively, and creates it only if it is missing: arguments of an existing one
    /// are never fought.
    async fn ensure(&self, queue: &QueueName) -> Result<(), Failure> {
        match self.count(queue).await {
            Err(failure) if failure.is_missing() => {}
            known => return known.map(drop),
        }
        match self.create(queue).await {
            // Somebody else created it just now, with arguments of their own.
            Err(failure) if failure.is_conflict() => self.count(queue).await.map(drop),
            created => created,
        }
    }

    /// How many messages wait in an existing queue.
    async fn count(&self, queue: &QueueName) -> Result<u32, Failure> {
        let channel = self.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = timely(channel.queue_declare(short(queue)?, options, FieldTable::default())).await?;
        Ok(found.message_count())
    }

    /// Creates a durable queue, a direct durable exchange of the same name and the binding between them,
    /// as Celery does.
    async fn create(&self, queue: &QueueName) -> Result<(), Failure> {
        let name = short(queue)?;
        let channel = self.channel().await?;
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let declare = channel.exchange_declare(name.clone(), ExchangeKind::Direct, options, FieldTable::default());
        match timely(declare).await {
            Err(failure) if failure.is_missing() => {
                let channel = self.channel().await?;
                let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
                let kind = ExchangeKind::Direct;
                timely(channel.exchange_declare(name.clone(), kind, options, FieldTable::default())).await?;
            }
            known => known?,
        }
        let channel = self.channel().await?;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        timely(channel.queue_declare(name.clone(), options, FieldTable::default())).await?;
        let options = QueueBindOptions::default();
        timely(channel.queue_bind(name.clone(), name.clone(), name, options, FieldTable::default())).await?;
        info!(queue.name = %queue, "queue `{queue}` was missing and has been created");
        Ok(())
    }
}

#[async_trait]
impl Broker for RabbitMq {
    async fn consume(&self, queue: &QueueName, prefetch: u32) -> Result<Box<dyn Consumer>, BrokerError> {
        self.declare(queue).await?;
        let consume = async { RabbitConsumer::start(queue, self.channel().await?, prefetch).await };
        match consume.await {
            Ok(consumer) => Ok(Box::new(consumer)),
            Err(failure) => {
                let transient = failure.is_transient();
                Err(BrokerError::Consume { queue: queue.clone(), source: failure.into(), transient })
            }
        }
    }

    async fn publish(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        self.publisher.publish(publications).await
    }

    async fn send_unconfirmed(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        self.publisher.send_unconfirmed(publications).await
    }

    async fn declare(&self, queue: &QueueName) -> Result<(), BrokerError> {
        self.ensure(queue).await.map_err(|failure| {
            let transient = failure.is_transient();
            BrokerError::Declare { queue: queue.clone(), source: failure.into(), transient }
        })
    }

    async fn replies(&self) -> Result<Option<(QueueName, Box<dyn Consumer>)>, BrokerError> {
        let name = Uuid::new_v4().to_string();
        let queue = QueueName::parse(&name).expect("a UUID is a name");
        let consume = async {
            let channel = self.channel().await?;
            let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
            timely(channel.queue_declare(short(&queue)?, options, FieldTable::default())).await?;
            RabbitConsumer::start(&queue, channel, REPLIES_PREFETCH).await
        };
        match consume.await {
            Ok(consumer) => Ok(Some((queue, Box::new(consumer)))),
            Err(failure) => {
                let transient = failure.is_transient();
                Err(BrokerError::Consume { queue, source: failure.into(), transient })
            }
        }
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        match self.count(queue).await {
            Ok(count) => Ok(count.into()),
            Err(failure) if failure.is_missing() => Ok(0),
            Err(failure) => Err(queue_error("count messages of", queue, failure)),
        }
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        let purge = async {
            let channel = self.channel().await?;
            timely(channel.queue_purge(short(queue)?, QueuePurgeOptions::default())).await
        };
        match purge.await {
            Ok(count) => Ok(count.into()),
            Err(failure) if failure.is_missing() => Ok(0),
            Err(failure) => Err(queue_error("purge", queue, failure)),
        }
    }

    async fn close(&self) {
        self.publisher.close().await;
        close(&self.connection).await;
    }
}

impl Connector {
    async fn connect(&self, role: Role) -> Result<Connection, BrokerError> {
        let what = match role {
            Role::Consume => "consume",
            Role::Publish => "publish",
        };
        let name = format!("{} ({what})", self.options.node);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let fail = |failure: Failure| {
            let transient = failure.is_transient();
            BrokerError::Connect { url: self.url.clone(), source: failure.into(), transient }
        };
        let deadline = self.uri.query.connection_timeout.map_or(self.options.timeout, Duration::from_millis);
        match tokio::time::timeout(deadline, Connection::connect_uri(self.uri.clone(), properties)).await {
            Ok(connection) => connection.map_err(|error| fail(Failure::Amqp(error))),
            Err(_) => Err(fail(Failure::TimedOut(deadline))),
        }
    }
}

async fn close(connection: &Connection) {
    if connection.status().connected() {
        // An error means that it is gone, which is what we want.
        let _ = tokio::time::timeout(CLOSE_DEADLINE, connection.close(REPLY_SUCCESS, "OK".into())).await;
    }
}

fn short(queue: &QueueName) -> Result<ShortString, Failure> {
    ShortString::try_new(queue.as_str()).map_err(|error| Failure::Refused(error.to_string()))
}

fn queue_error(operation: &'static str, queue: &QueueName, failure: Failure) -> BrokerError {
    let transient = failure.is_transient();
    BrokerError::Queue { operation, queue: queue.clone(), source: failure.into(), transient }
}
