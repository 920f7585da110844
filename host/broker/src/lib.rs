//! Carries messages: the [`Broker`] port and one adapter a file.
//!
//! Knows AMQP, kombu's layouts and SQL, but not what a message means: decoding, deciding and
//! reconnecting belong to others. An adapter that loses its server says so and is thrown away.

mod broadcast;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod connect;
mod failover;
mod filesystem;
mod kombu;
mod letters;
mod memory;
mod port;
mod postgresql;
mod rabbitmq;
mod redis;
mod servers;
mod shelf;
mod split;
mod sqlalchemy;
mod sqlite;
mod sqs;
mod stock;

pub use broadcast::{Inbox, Subscription, Topic};
pub use connect::{ConnectOptions, connect};
pub use failover::FailoverStrategy;
pub use filesystem::{FilesystemBroker, FilesystemOptions, client_folders};
pub use memory::{MemoryBroker, MemoryConnection};
pub use port::{
    Acknowledgement, BoxError, Broker, BrokerError, Capabilities, Consumer, DELIVERY_COUNT_HEADER, Delivery, PutBack,
    PutBackFailed, Receipt, Receipts, Token,
};
pub use rabbitmq::RabbitMq;
pub use redis::{RedisBroker, RedisOptions};
pub use servers::{Endpoint, check_tls, check_transport_options, check_url, server_urls};
pub use sqlite::{SqliteBroker, SqliteOptions, sqlite_path};
pub use sqs::{PredefinedQueue, SqsBroker, SqsOptions, Sts};
