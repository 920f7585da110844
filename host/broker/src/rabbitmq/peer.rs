//! What is at the other end, where AMQP 0-9-1 brokers differ in what the same words mean.
//!
//! What one of them does not know at all, such as to lead one exchange to another, is found when it is needed.

use lapin::Connection;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;

use super::REPLY_SUCCESS;
use super::channel;
use super::declare::short;
use super::failure::{Failure, timely};

/// How the broker understands us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    /// The default exchange leads to the queue of the name that it is given, as AMQP has it. Qpid takes an exchange of that
    /// name first, if there is one, with an empty key: where Celery's clients declare an exchange for each queue, and publish
    /// by the default one, nothing would arrive.
    pub(super) default_exchange_finds_queues: bool,
    /// A message's `expiration` is how long it has to live. To Qpid it is the time of its end, in milliseconds since 1970,
    /// which has long been.
    pub(super) expiration_is_a_span: bool,
    /// What is rejected and not requeued is gone, or goes where the queue sends such. Qpid delivers it at once again.
    pub(super) rejected_is_gone: bool,
    /// A table among the headers may be empty. Qpid, once it has run for a while, confirms such a message and loses it (and one
    /// with a number beyond 32 bits, of which Celery has none).
    pub(super) keeps_empty_tables: bool,
}

/// An exchange that RabbitMQ makes in every virtual host, and nobody else.
const RABBITMQS_OWN: &str = "amq.rabbitmq.trace";

impl Peer {
    pub(super) const RABBITMQ: Peer = Peer {
        default_exchange_finds_queues: true,
        expiration_is_a_span: true,
        rejected_is_gone: true,
        keeps_empty_tables: true,
    };

    /// Another one. On brokers that understand these as RabbitMQ does nothing is lost: a queue has one more binding, that a
    /// task expires is in its headers as well, what is rejected is acknowledged, and no header is as good as an empty table.
    const OTHER: Peer = Peer {
        default_exchange_finds_queues: false,
        expiration_is_a_span: false,
        rejected_is_gone: false,
        keeps_empty_tables: false,
    };

    /// Finds out by what there is whether it is RabbitMQ, since lapin does not tell what it has said of itself.
    pub(super) async fn find(connection: &Connection) -> Result<Self, Failure> {
        let channel = channel::open(connection).await?;
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let kind = lapin::ExchangeKind::Topic;
        let found = channel.exchange_declare(short(RABBITMQS_OWN)?, kind, options, FieldTable::default());
        match timely(found).await {
            // The broker has closed the channel.
            Err(failure) if failure.is_missing() => Ok(Self::OTHER),
            Err(failure) => Err(failure),
            Ok(()) => timely(channel.close(REPLY_SUCCESS, "OK".into())).await.map(|()| Self::RABBITMQ),
        }
    }
}
