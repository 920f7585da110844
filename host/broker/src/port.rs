//! The port: what the host asks of any broker, in plain data.
//!
//! Deliberately absent: leases (an adapter renews them while a receipt lives), reconnecting (the worker
//! connects anew) and codecs (`core`). Everything is in batches, since a round trip for each message is
//! what makes a worker slow.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
pub use taskhost_core::Acknowledgement;
use taskhost_core::{DeliveryInfo, Message, Publication, Queue, QueueName, RedactedUrl, Timestamp};

use crate::broadcast::{Inbox, Subscription, Topic};

/// The cause of an error of an adapter.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A message that was handed to us, with the duty to settle it.
#[derive(Debug)]
pub struct Delivery {
    pub message: Message,
    pub info: DeliveryInfo,
    pub receipt: Receipt,
}

/// The right and duty to settle one delivery. Spent by [`Consumer::settle`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a receipt that is dropped leaves its message unsettled until the broker gives up on us"]
pub struct Receipt {
    token: Token,
}

/// The header under which an adapter tells how often a message was handed out before without success:
/// what RabbitMQ writes for quorum queues, and what the adapters that count themselves write too.
/// Absent on the first delivery.
pub const DELIVERY_COUNT_HEADER: &str = "x-delivery-count";

/// How an adapter recognises its own receipts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Token {
    Number(u64),
    Text(Box<str>),
}

impl Receipt {
    /// For adapters: a receipt for what they call `token`.
    pub fn new(token: Token) -> Self {
        Self { token }
    }

    /// For adapters: what to settle.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// For adapters that call what is to be settled by numbers.
    pub(crate) fn number(&self) -> Option<u64> {
        match self.token {
            Token::Number(number) => Some(number),
            Token::Text(_) => None,
        }
    }
}

/// Receipts to be settled together, each with what is to happen.
pub type Receipts = Vec<(Receipt, Acknowledgement)>;

/// A delivery whose time has not come, on its way back to the broker.
#[derive(Debug)]
pub struct PutBack {
    pub receipt: Receipt,
    /// The message as it came, and the route that it came by ([`DeliveryInfo`]).
    pub publication: Publication,
    /// When to deliver it again.
    pub until: Timestamp,
}

/// Deliveries could not be put back.
#[derive(Debug, thiserror::Error)]
#[error("put deliveries back")]
pub struct PutBackFailed {
    #[source]
    pub error: BrokerError,
    /// Those that are still ours to settle.
    pub deliveries: Vec<PutBack>,
}

/// What a connected broker can do beyond what all of them can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// [`Consumer::put_back`] works.
    pub puts_back: bool,
    /// A delivery that stays unsettled for long, whatever we do, is taken back with all others.
    pub times_out: bool,
    /// Our clock and that of the server differ by so much that nobody can say what has expired.
    pub clock_is_wrong: bool,
    /// [`Broker::subscribe`] and [`Broker::broadcast`] work: there are remote control and events.
    pub broadcasts: bool,
}

/// A connected broker.
#[async_trait]
pub trait Broker: Send + Sync {
    /// What this broker can do.
    fn capabilities(&self) -> Capabilities;

    /// Starts to take messages from a queue, which is created as it is described here, with its exchange
    /// and binding, if it does not exist; if it does, it stays as it is. At most `prefetch` deliveries are
    /// unsettled at a time; zero is no bound.
    async fn consume(&self, queue: &Queue, prefetch: u32) -> Result<Box<dyn Consumer>, BrokerError>;

    /// Where [`Broker::consume`] takes from, if that is another broker than the one that is published to. What goes back
    /// to where it was taken, or is set aside to be found there, is for it; it is lost and closed with this one.
    fn source(&self) -> Option<Arc<dyn Broker>> {
        None
    }

    /// Makes what clients take for granted who publish here to a queue that is consumed elsewhere. Trouble is only
    /// logged: most of them do without.
    async fn offer(&self, queue: &Queue) {
        let _ = queue;
    }

    /// Publishes all of these. Returns once the broker has confirmed every one: they survive whatever
    /// the queue survives. A message that no queue took is an error. On an error some of them may have
    /// been published.
    async fn publish(&self, publications: &[Publication]) -> Result<(), BrokerError>;

    /// Publishes without waiting for anything: for replies and announcements whose receiver may be gone,
    /// or gives up waiting. Messages that no queue takes vanish; an error says that the connection is of
    /// no use.
    async fn send_unconfirmed(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        for publication in publications {
            match self.publish(std::slice::from_ref(publication)).await {
                Ok(()) | Err(BrokerError::Unroutable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Publishes each of these straight to a queue of its own, for the one reader who knows its name. A queue that is
    /// missing is made; it is gone when its reader has come and gone, or after `expires` without one (zero is never).
    /// Returns, in the same order, what became of each; what is there is confirmed.
    async fn leave(&self, publications: &[Publication], expires: Duration) -> Vec<Result<(), BrokerError>> {
        let _ = expires;
        publications.iter().map(|_| Err(BrokerError::CannotLeave)).collect()
    }

    /// Creates a queue as [`Broker::consume`] does, without consuming it.
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError>;

    /// Makes a queue for answers to this connection, which is gone when the connection is, and consumes
    /// it. `None` where the transport knows no such thing.
    async fn replies(&self) -> Result<Option<(QueueName, Box<dyn Consumer>)>, BrokerError> {
        Ok(None)
    }

    /// Listens to what is broadcast from now on, until the inbox is closed or this connection is. Where the
    /// queue of a subscription can belong to one connection only, and belongs to another, the error
    /// [is that](BrokerError::is_taken).
    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Inbox>, BrokerError> {
        let _ = subscription;
        Err(BrokerError::CannotBroadcast)
    }

    /// Sends to whoever listens, and makes the exchanges if they are missing. Waits for no reader and for no
    /// confirmation: what nobody listens to vanishes. An error says that nothing was sent, or is known, of
    /// these; when it is transient, later ones may be sent again.
    async fn broadcast(&self, topic: Topic, publications: Vec<Publication>) -> Result<(), BrokerError> {
        let _ = (topic, publications);
        Err(BrokerError::CannotBroadcast)
    }

    /// How many messages wait in a queue. Zero for one that does not exist.
    async fn depth(&self, queue: &QueueName) -> Result<u64, BrokerError>;

    /// Deletes all waiting messages of a queue and says how many there were.
    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError>;

    /// Closes the connection in good order. What is unsettled goes back to its queues.
    async fn close(&self);
}

/// A running consumer of one queue. All methods may be called at the same time.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// Waits for deliveries and returns those that are there, at least one and in order. An error
    /// means that this consumer is of no more use and that its receipts are void. `None` after
    /// [`Consumer::cancel`].
    async fn next(&self) -> Result<Option<Vec<Delivery>>, BrokerError>;

    /// Settles these. Returns when it is on its way (AMQP) or done (SQLite: on disk). Settling a receipt
    /// whose message is already gone is no error.
    async fn settle(&self, receipts: Receipts) -> Result<(), BrokerError>;

    /// Gives these back to the broker, to be delivered again when their time has come: unchanged, by the
    /// queue that they came by, and to whoever consumes it then. A little early is as good; the worker
    /// looks at the eta again. Returns once that is durable and the originals are settled. Works only
    /// where [`Capabilities::puts_back`] says so.
    async fn put_back(&self, deliveries: Vec<PutBack>) -> Result<(), PutBackFailed>;

    /// Changes how many unsettled deliveries are wanted. How and how soon is the adapter's affair.
    async fn set_prefetch(&self, prefetch: u32) -> Result<(), BrokerError>;

    /// Takes no more messages. Those that were delivered may still be settled; those that `next` has
    /// not returned yet go back.
    async fn cancel(&self) -> Result<(), BrokerError>;
}

/// Trouble with a broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The URL names no broker that we have. Permanent.
    #[error("broker URL `{url}`: {reason}")]
    Url { url: RedactedUrl, reason: String },
    #[error("connect to {url}")]
    Connect { url: RedactedUrl, source: BoxError, transient: bool },
    /// None of several servers can be used; each with what it said.
    #[error("connect to any broker: {}", listed(failures))]
    NoServer { failures: Vec<(RedactedUrl, String)>, transient: bool },
    #[error("declare queue `{queue}`")]
    Declare { queue: QueueName, source: BoxError, transient: bool },
    #[error("consume queue `{queue}`")]
    Consume { queue: QueueName, source: BoxError, transient: bool },
    #[error("publish to exchange `{exchange}` with routing key `{routing_key}`")]
    Publish { exchange: String, routing_key: String, source: BoxError, transient: bool },
    /// No queue took the message. Permanent.
    #[error("no queue takes messages for exchange `{exchange}` with routing key `{routing_key}`")]
    Unroutable { exchange: String, routing_key: String },
    #[error("settle deliveries of queue `{queue}`")]
    Settle { queue: QueueName, source: BoxError, transient: bool },
    #[error("{operation} queue `{queue}`")]
    Queue { operation: &'static str, queue: QueueName, source: BoxError, transient: bool },
    #[error("listen to exchange `{exchange}`")]
    Subscribe { exchange: String, source: BoxError, transient: bool },
    /// Somebody else listens by that name: most likely a node that is called as we are, or our own last
    /// connection, of whose end the broker has not heard. Transient.
    #[error("listen by queue `{queue}`: it belongs to another connection")]
    Taken { queue: String },
    /// This transport reaches only queues. Permanent.
    #[error("broadcast: this broker has neither remote control nor events")]
    CannotBroadcast,
    /// A queue of its own for each message is more than this transport has. Permanent.
    #[error("this broker has no queues that last for one message")]
    CannotLeave,
    /// The connection is gone. Transient.
    #[error("connection to the broker is lost: {reason}")]
    Lost { reason: String },
}

impl BrokerError {
    /// True if the same thing may work later, on a new connection.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Url { .. } | Self::Unroutable { .. } | Self::CannotBroadcast | Self::CannotLeave => false,
            Self::Lost { .. } | Self::Taken { .. } => true,
            Self::Connect { transient, .. }
            | Self::NoServer { transient, .. }
            | Self::Declare { transient, .. }
            | Self::Consume { transient, .. }
            | Self::Publish { transient, .. }
            | Self::Settle { transient, .. }
            | Self::Subscribe { transient, .. }
            | Self::Queue { transient, .. } => *transient,
        }
    }

    /// True if a subscription is not to be had as long as somebody else has it.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Taken { .. })
    }
}

fn listed(failures: &[(RedactedUrl, String)]) -> String {
    failures.iter().map(|(url, said)| format!("{url}: {said}")).collect::<Vec<_>>().join("; ")
}
