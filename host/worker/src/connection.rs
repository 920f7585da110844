//! The broker that is connected now, for everybody who publishes.
//!
//! Connecting and noticing loss is the supervisor's business: it leads where there are several servers, and
//! mailbox and events follow.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use broker::{Broker, BrokerError};
use rustc_hash::FxHashSet;
use store::{LeaveError, ReplySender};
use taskhost_core::{Publication, Queue, QueueName};
use tokio::sync::watch;

/// Queues that are remembered to be there. A task that calls others by more queues looks again.
const DECLARED_MAX: usize = 1_000;

/// Makes connections to one broker, or to whichever of several servers is in use.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Connects anew, to the server in use or to the next one that works. For whoever takes tasks: others
    /// [follow](Connector::follow).
    async fn connect(&self) -> Result<Arc<dyn Broker>, BrokerError>;

    /// Connects to the server in use, and to no other.
    async fn follow(&self) -> Result<Arc<dyn Broker>, BrokerError> {
        self.connect().await
    }

    /// The server in use lets us in and is of no use: another one is tried first.
    fn leave(&self) {}

    /// Tells from now on when another server is in use.
    fn moves(&self) -> Moves {
        Moves::default()
    }
}

/// Whether what was connected to is still the server in use.
#[derive(Default)]
pub struct Moves(Option<watch::Receiver<u64>>);

impl Moves {
    /// `changes` whenever another server is used.
    pub fn new(changes: watch::Receiver<u64>) -> Self {
        Self(Some(changes))
    }

    /// Returns when another server is in use.
    pub(crate) async fn moved(&mut self) {
        if let Some(changes) = &mut self.0
            && changes.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

/// How long a lost or missing broker is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Celery's `broker_connection_retry_on_startup`.
    pub on_startup: bool,
    /// `broker_connection_retry`: once there was a connection.
    pub afterwards: bool,
    /// `broker_connection_max_retries`; for ever, without it.
    pub most: Option<u32>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { on_startup: true, afterwards: true, most: None }
    }
}

impl Retry {
    /// Whether to try again after so many retries without success.
    pub(crate) fn allows(self, first: bool, retries: u32) -> bool {
        let wanted = if first { self.on_startup } else { self.afterwards };
        wanted && self.most.is_none_or(|most| retries < most)
    }
}

/// A place that holds the current connection, if there is one.
#[derive(Default)]
pub struct Connection {
    current: RwLock<Option<Arc<dyn Broker>>>,
    declared: Mutex<Declared>,
}

/// Queues that were found, or made, through a connection.
#[derive(Default)]
struct Declared {
    /// Where is published.
    queues: FxHashSet<QueueName>,
    /// Where messages are set aside.
    aside: FxHashSet<QueueName>,
}

/// To which side of a connection something goes, if it has two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Where is published.
    Out,
    /// Where messages are taken from, for what is set aside: whoever looks for it looks there.
    Source,
}

impl Connection {
    /// The connection, or the error that there is none.
    pub(crate) fn broker(&self) -> Result<Arc<dyn Broker>, BrokerError> {
        let current = self.current.read().expect("nobody panics while holding this lock");
        current.clone().ok_or_else(|| BrokerError::Lost { reason: "not connected".to_owned() })
    }

    pub(crate) fn set(&self, broker: Option<Arc<dyn Broker>>) {
        *self.current.write().expect("nobody panics while holding this lock") = broker;
        self.forget_declared();
    }

    /// Finds a queue, or makes it, if that has not been done through this connection. Ten thousand calls of a
    /// task ask the broker once.
    pub(crate) async fn declare(&self, queue: &Queue, side: Side) -> Result<(), BrokerError> {
        if self.declared().of(side).contains(&queue.name) {
            return Ok(());
        }
        self.side(side)?.declare(queue).await?;
        let mut declared = self.declared();
        let declared = declared.of(side);
        if declared.len() >= DECLARED_MAX {
            declared.clear();
        }
        declared.insert(queue.name.clone());
        Ok(())
    }

    fn side(&self, side: Side) -> Result<Arc<dyn Broker>, BrokerError> {
        let broker = self.broker()?;
        Ok(match side {
            Side::Out => broker,
            Side::Source => broker.source().unwrap_or(broker),
        })
    }

    /// Looks again from now on; true if anything had been found.
    pub(crate) fn forget_declared(&self) -> bool {
        let Declared { queues, aside } = std::mem::take(&mut *self.declared());
        !queues.is_empty() || !aside.is_empty()
    }

    fn declared(&self) -> std::sync::MutexGuard<'_, Declared> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn publish(&self, publications: &[Publication], side: Side) -> Result<(), BrokerError> {
        self.side(side)?.publish(publications).await
    }
}

impl Declared {
    fn of(&mut self, side: Side) -> &mut FxHashSet<QueueName> {
        match side {
            Side::Out => &mut self.queues,
            Side::Source => &mut self.aside,
        }
    }
}

#[async_trait]
impl ReplySender for Connection {
    async fn send(&self, replies: Vec<Publication>) -> Result<(), store::BoxError> {
        Ok(self.broker()?.send_unconfirmed(&replies).await?)
    }

    async fn leave(&self, results: Vec<Publication>, expires: Duration) -> Vec<Result<(), LeaveError>> {
        let failed = |error: BrokerError| LeaveError { transient: error.is_transient(), source: error.into() };
        match self.broker() {
            Ok(broker) => {
                let left = broker.leave(&results, expires).await;
                left.into_iter().map(|left| left.map_err(failed)).collect()
            }
            Err(error) => {
                let reason = error.to_string();
                results.iter().map(|_| Err(failed(BrokerError::Lost { reason: reason.clone() }))).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use broker::{ConnectOptions, Endpoint, FailoverStrategy};
    use taskhost_core::{Message, Route};

    use super::*;

    #[tokio::test]
    async fn what_is_set_aside_goes_to_where_messages_are_taken_from() {
        let (read, write) = ("memory://apart-in", "memory://apart-out");
        let options = ConnectOptions::default();
        let broker =
            Endpoint::new(read, Some(write), FailoverStrategy::RoundRobin, &options, 0).connect().await.unwrap();
        let connection = Connection::default();
        connection.set(Some(broker));
        let queue = Queue::named(QueueName::parse("q").unwrap());
        let publication = Publication { message: Message::default(), route: Route::queue(&queue.name) };
        for (side, count) in [(Side::Source, 1), (Side::Out, 2)] {
            // A queue that is there on the one side is still to be made on the other.
            connection.declare(&queue, side).await.unwrap();
            connection.publish(&vec![publication.clone(); count], side).await.unwrap();
        }
        for (url, count) in [(read, 1), (write, 2)] {
            let side = broker::connect(url, &options).await.unwrap();
            assert_eq!(side.depth(&queue.name).await.unwrap(), count, "{url}");
        }
        assert!(connection.forget_declared() && !connection.forget_declared());
    }

    #[test]
    fn retries_end_where_the_operator_says() {
        let endless = Retry::default();
        assert!(endless.allows(true, u32::MAX) && endless.allows(false, u32::MAX));
        let three = Retry { most: Some(3), ..Retry::default() };
        assert!(three.allows(false, 2) && !three.allows(false, 3));
        let once = Retry { on_startup: false, ..Retry::default() };
        assert!(!once.allows(true, 0) && once.allows(false, 0));
        let fragile = Retry { afterwards: false, ..Retry::default() };
        assert!(fragile.allows(true, 0) && !fragile.allows(false, 0));
    }
}
