//! RabbitMQ, and whatever else speaks AMQP 0-9-1.
//!
//! One connection consumes and declares, another publishes, and two more send replies and events when there
//! are any; where no tasks are consumed the first one does that. Does not reconnect: a lost connection is an
//! error, and the whole adapter is thrown away.

mod address;
mod announcer;
mod channel;
mod consumer;
mod convert;
mod declare;
mod delayed;
mod failure;
mod inbox;
mod left;
mod peer;
mod publisher;
mod put_back;
mod socket;
#[cfg(test)]
mod tests;
mod unsettled;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dial::tls::{Tls, TlsOptions};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use taskhost_core::{Publication, Queue, QueueName, RedactedUrl};
use tracing::warn;
use uuid::Uuid;

use self::address::Address;
use self::announcer::Announcer;
use self::consumer::RabbitConsumer;
use self::declare::{Declarer, short};
use self::failure::{Failure, timely};
use self::inbox::RabbitInbox;
use self::peer::Peer;
use self::publisher::Publisher;
use self::put_back::Delays;
use crate::broadcast::{Inbox, Subscription, Topic};
use crate::connect::ConnectOptions;
use crate::port::{Broker, BrokerError, Capabilities, Consumer};

pub(crate) use self::address::SCHEMES;

/// AMQP's code and text for "nothing is wrong".
const REPLY_SUCCESS: u16 = 200;

/// Answers that may be on their way to whoever waits for one.
const REPLIES_PREFETCH: u32 = 100;

/// How long closing in good order may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// A connection to RabbitMQ.
pub struct RabbitMq {
    session: Arc<Session>,
    /// Commands and their replies, which must not wait behind events.
    control: Announcer,
    events: Announcer,
}

/// What consumers need as well. They do not keep it alive.
struct Session {
    /// Consumes and declares.
    connection: Arc<Connection>,
    /// Tasks come by it, so nothing may be sent by it that the broker could stop reading for.
    takes_tasks: AtomicBool,
    publisher: Publisher,
    delays: Delays,
}

/// Opens connections to one broker.
#[derive(Clone)]
struct Connector {
    url: RedactedUrl,
    address: Address,
    tls: Option<Tls>,
    peer: Peer,
    options: ConnectOptions,
}

/// Checks a URL without reading what it names.
pub(crate) fn check_url(url: &str) -> Result<(), BrokerError> {
    Address::parse(url, None).map(drop)
}

/// Whether a connection has TLS.
pub(crate) fn has_tls(url: &str, tls: Option<&TlsOptions>) -> bool {
    Address::parse(url, tls).is_ok_and(|address| address.tls.is_some())
}

/// Checks a URL and, if it or the options ask for TLS, reads the files that this needs.
pub(crate) fn check_tls(url: &str, tls: Option<&TlsOptions>) -> Result<(), BrokerError> {
    load(url, &Address::parse(url, tls)?).map(drop)
}

/// Files that are wrong may be about to be replaced, so that connecting may work later.
fn load(url: &str, address: &Address) -> Result<Option<Tls>, BrokerError> {
    let loaded = address.tls.as_ref().map(TlsOptions::load).transpose();
    loaded.map_err(|error| BrokerError::Connect { url: RedactedUrl::new(url), source: error.into(), transient: true })
}

/// What a connection is for.
#[derive(Clone, Copy)]
enum Role {
    Consume,
    Publish,
    Control,
    Events,
    /// To declare what a broker may answer by closing the connection.
    Declare,
}

impl RabbitMq {
    /// Connects.
    pub async fn connect(url: &str, options: &ConnectOptions) -> Result<Self, BrokerError> {
        let address = Address::parse(url, options.tls.as_ref())?;
        let tls = load(url, &address)?;
        let (url, options) = (RedactedUrl::new(url), options.clone());
        let mut connector = Connector { url, address, tls, peer: Peer::RABBITMQ, options };
        let connection = Arc::new(connector.connect(Role::Consume).await?);
        let deadline = connector.deadline();
        let found = tokio::time::timeout(deadline, Peer::find(&connection)).await;
        let found = found.unwrap_or(Err(Failure::TimedOut(deadline)));
        connector.peer = found.map_err(|failure| connector.failed(failure))?;
        let takes_tasks = AtomicBool::new(false);
        let (publisher, delays) = (Publisher::new(connector.clone()), Delays::new(connector.clone()));
        if connector.peer != Peer::RABBITMQ {
            delays.ask().await?;
        }
        Ok(Self {
            session: Arc::new(Session { connection, takes_tasks, publisher, delays }),
            control: Announcer::new(connector.clone(), Role::Control),
            events: Announcer::new(connector, Role::Events),
        })
    }

    /// Finds or makes the chain of delays and what leads from it to a queue.
    async fn make_delays(&self, queue: &Queue) -> Result<(), BrokerError> {
        let session = &self.session;
        session.delays.ensure(&queue.name).await?;
        let bound = delayed::bind_exchange(&mut session.declarer(), queue).await;
        bound.map_err(|failure| queue_error("delay messages to", &queue.name, failure))
    }
}

impl Session {
    /// A channel that may be lost: the broker closes the channel of any operation that it refuses.
    async fn channel(&self) -> Result<lapin::Channel, Failure> {
        channel::open(&self.connection).await
    }

    fn declarer(&self) -> Declarer<'_> {
        Declarer::new(&self.connection, self.delays.peer())
    }
}

#[async_trait]
impl Broker for RabbitMq {
    fn capabilities(&self) -> Capabilities {
        // AMQP does not tell the time.
        let puts_back = self.session.delays.may_work();
        Capabilities { puts_back, times_out: true, clock_is_wrong: false, broadcasts: true }
    }

    async fn consume(&self, queue: &Queue, prefetch: u32) -> Result<Box<dyn Consumer>, BrokerError> {
        let session = &self.session;
        session.takes_tasks.store(true, Ordering::SeqCst);
        let at = session.declarer().ensure(queue).await.map_err(|failure| declare_error(&queue.name, failure))?;
        if delayed::is_expected(queue) {
            cannot_delay(queue, self.make_delays(queue).await);
        }
        let consume = async {
            let channel = session.channel().await?;
            RabbitConsumer::start(queue.clone(), at, channel, prefetch, Arc::downgrade(session)).await
        };
        match consume.await {
            Ok(consumer) => Ok(Box::new(consumer)),
            Err(failure) => {
                let transient = failure.is_transient();
                Err(BrokerError::Consume { queue: queue.name.clone(), source: failure.into(), transient })
            }
        }
    }

    async fn offer(&self, queue: &Queue) {
        if !delayed::is_expected(queue) {
            return;
        }
        let made = match self.declare(queue).await {
            Ok(()) => self.make_delays(queue).await,
            failed => failed,
        };
        cannot_delay(queue, made);
    }

    async fn publish(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        self.session.publisher.publish(publications).await
    }

    async fn send_unconfirmed(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        self.session.publisher.send_unconfirmed(publications).await
    }

    async fn leave(&self, publications: &[Publication], expires: Duration) -> Vec<Result<(), BrokerError>> {
        left::leave(&self.session, publications, expires).await
    }

    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.session.declarer().prepare(queue).await.map_err(|failure| declare_error(&queue.name, failure))
    }

    async fn replies(&self) -> Result<Option<(QueueName, Box<dyn Consumer>)>, BrokerError> {
        let name = Uuid::new_v4().to_string();
        let queue = QueueName::parse(&name).expect("a UUID is a name");
        let consume = async {
            let channel = self.session.channel().await?;
            let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
            let at = short(&name)?;
            timely(channel.queue_declare(at.clone(), options, FieldTable::default())).await?;
            let session = Arc::downgrade(&self.session);
            RabbitConsumer::start(Queue::named(queue.clone()), at, channel, REPLIES_PREFETCH, session).await
        };
        match consume.await {
            Ok(consumer) => Ok(Some((queue, Box::new(consumer)))),
            Err(failure) => {
                let transient = failure.is_transient();
                Err(BrokerError::Consume { queue, source: failure.into(), transient })
            }
        }
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Inbox>, BrokerError> {
        match RabbitInbox::open(&self.session, subscription).await {
            Ok(inbox) => Ok(Box::new(inbox)),
            // A queue of that name that is nobody's own is refused as another kind of queue. Qpid does not allow another
            // one's queue, and closes the connection.
            Err(failure) if failure.is_locked() || failure.is_conflict() || failure.is_not_allowed() => {
                Err(BrokerError::Taken { queue: subscription.queue.clone() })
            }
            Err(failure) => {
                let transient = failure.is_transient();
                Err(BrokerError::Subscribe {
                    exchange: subscription.exchange.clone(),
                    source: failure.into(),
                    transient,
                })
            }
        }
    }

    async fn broadcast(&self, topic: Topic, publications: Vec<Publication>) -> Result<(), BrokerError> {
        match topic {
            Topic::Mailboxes | Topic::Replies => self.control.send(&self.session, topic, publications).await,
            Topic::Events => self.events.send(&self.session, topic, publications).await,
        }
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        let count = async { self.session.declarer().count(&short(queue.as_str())?).await };
        match count.await {
            Ok(count) => Ok(count.unwrap_or(0).into()),
            Err(failure) => Err(queue_error("count messages of", queue, failure)),
        }
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        let purge = async { self.session.declarer().purge(&short(queue.as_str())?).await };
        match purge.await {
            Ok(count) => Ok(count.unwrap_or(0).into()),
            Err(failure) => Err(queue_error("purge", queue, failure)),
        }
    }

    async fn close(&self) {
        // At once: a broker that blocks publishers answers none of them.
        tokio::join!(self.session.publisher.close(), self.control.close(), self.events.close());
        close(&self.session.connection).await;
    }
}

/// Says what clients have to do without.
fn cannot_delay(queue: &Queue, made: Result<(), BrokerError>) {
    if let Err(error) = made {
        let queue = &queue.name;
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        warn!(queue.name = %queue, %error, "clients cannot delay messages to queue `{queue}`: cannot {error}{cause}");
    }
}

impl Connector {
    async fn connect(&self, role: Role) -> Result<Connection, BrokerError> {
        let what = match role {
            Role::Consume => "consume",
            Role::Publish => "publish",
            Role::Control => "control",
            Role::Events => "events",
            Role::Declare => "declare",
        };
        let name = format!("{} ({what})", self.options.node);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let opened = socket::connect(self.address.uri.clone(), self.tls.clone(), properties, self.deadline()).await;
        opened.map_err(|failure| match self.address.tls.as_ref().is_some_and(|tls| tls.certfile.is_none()) {
            // What a server says of a certificate that is missing may be lost when it hangs up.
            true if failure.is_hang_up() => {
                let source =
                    format!("{failure}; if it wants to see a certificate, ssl_certfile and ssl_keyfile name it");
                BrokerError::Connect { url: self.url.clone(), source: source.into(), transient: true }
            }
            _ => self.failed(failure),
        })
    }

    /// How long connecting may take.
    fn deadline(&self) -> Duration {
        self.address.timeout.unwrap_or(self.options.timeout)
    }

    fn failed(&self, failure: Failure) -> BrokerError {
        let transient = failure.is_transient();
        BrokerError::Connect { url: self.url.clone(), source: failure.into(), transient }
    }
}

async fn close(connection: &Connection) {
    if connection.status().connected() {
        // An error means that it is gone, which is what we want.
        let _ = tokio::time::timeout(CLOSE_DEADLINE, connection.close(REPLY_SUCCESS, "OK".into())).await;
    }
}

fn declare_error(queue: &QueueName, failure: Failure) -> BrokerError {
    let transient = failure.is_transient();
    BrokerError::Declare { queue: queue.clone(), source: failure.into(), transient }
}

fn queue_error(operation: &'static str, queue: &QueueName, failure: Failure) -> BrokerError {
    let transient = failure.is_transient();
    BrokerError::Queue { operation, queue: queue.clone(), source: failure.into(), transient }
}
