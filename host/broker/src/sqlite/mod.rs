//! The embedded broker: one SQLite file in kombu's layout, shared by processes and Python clients.
//!
//! Durable: an answer means that it is on disk. A claimed row is leased; the lease is renewed while its
//! receipt lives, and a worker that dies loses it. Knows envelopes, but not what the messages mean.

mod address;
mod claimant;
mod clock;
mod commit;
mod consumer;
mod failure;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod thread;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::{Publication, Queue, QueueName, RedactedUrl, Route};
use tracing::warn;
use uuid::Uuid;

use self::consumer::SqliteConsumer;
use self::failure::Failure;
use self::writer::{NewConsumer, Work, Writer};
use crate::port::{Broker, BrokerError, Capabilities, Consumer};
use crate::sqlalchemy::{Inbox, NewRow, new_row};

pub(crate) use self::address::SCHEMES;
pub use self::address::sqlite_path;

/// Most messages, and about how many bytes, that are published in one transaction.
const PUBLISH_ROWS_MAX: usize = 256;
const PUBLISH_BYTES_MAX: usize = 4 << 20;

/// How to use the file.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The name of this node, which is written beside what it claims.
    pub node: String,
    /// How long a worker may be silent until its messages are given to another. Renewed three times in
    /// that time. The first connection of a process to a file decides.
    pub lease: Duration,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { node: "taskhost".to_owned(), lease: Duration::from_secs(12) }
    }
}

/// A connection to the embedded broker. All connections of a process to one file share its writer.
pub struct SqliteBroker {
    id: u64,
    node: String,
    writer: Arc<Writer>,
    closed: AtomicBool,
}

impl SqliteBroker {
    /// Opens the file of a URL; makes it, or its tables, if they are missing.
    pub async fn connect(url: &str, options: &SqliteOptions) -> Result<Self, BrokerError> {
        let path = sqlite_path(url)?;
        let (lease, node) = (options.lease, options.node.clone());
        let open = move || Writer::shared(&path, lease);
        let writer = match tokio::task::spawn_blocking(open).await {
            Ok(writer) => writer,
            Err(panic) => Err(Failure::new(failure::Kind::Lost, panic.to_string())),
        };
        let writer = writer.map_err(|failure| {
            let transient = failure.kind != failure::Kind::ReadOnly;
            BrokerError::Connect { url: RedactedUrl::new(url), source: failure.into(), transient }
        })?;
        Ok(Self::new(writer, node))
    }

    /// As another process would open it.
    #[cfg(test)]
    fn alone(path: &std::path::Path, options: &SqliteOptions) -> Self {
        Self::new(Arc::new(Writer::start(path, options.lease).expect("open")), options.node.clone())
    }

    fn new(writer: Arc<Writer>, node: String) -> Self {
        Self { id: writer.next_id(), node, writer, closed: AtomicBool::new(false) }
    }

    async fn ask(&self, work: Work) -> Result<u64, Failure> {
        if self.closed.load(Ordering::Relaxed) && !matches!(work, Work::Close { .. }) {
            return Err(Failure::closed());
        }
        self.writer.ask(work).await
    }
}

#[async_trait]
impl Broker for SqliteBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities { puts_back: true, times_out: false, clock_is_wrong: false, broadcasts: false }
    }

    /// A queue here is its name: there are no kinds, and every queue knows priorities.
    async fn consume(&self, queue: &Queue, prefetch: u32) -> Result<Box<dyn Consumer>, BrokerError> {
        if queue.broadcast {
            let queue = &queue.name;
            warn!(
                queue.name = %queue,
                "the embedded file knows no broadcast: each message of queue `{queue}` goes to one worker only"
            );
        }
        let queue = &queue.name;
        let id = self.writer.next_id();
        let owner: Arc<str> = format!("{}/{}/{}", self.node, std::process::id(), Uuid::new_v4().simple()).into();
        let inbox = Arc::<Inbox>::default();
        let new = NewConsumer {
            id,
            connection: self.id,
            queue: queue.clone(),
            owner: Arc::clone(&owner),
            prefetch,
            inbox: Arc::downgrade(&inbox),
        };
        self.ask(Work::Consume(new)).await.map_err(|failure| {
            failure.into_error(|failure| {
                let transient = failure.is_transient();
                BrokerError::Consume { queue: queue.clone(), source: failure.into(), transient }
            })
        })?;
        let unbounded = AtomicBool::new(prefetch == 0);
        let writer = Arc::clone(&self.writer);
        Ok(Box::new(SqliteConsumer { id, queue: queue.clone(), owner, inbox, writer, unbounded }))
    }

    /// As in kombu, publishing creates the queue if it is missing. There are no exchanges but the default
    /// one and those that are named like their only queue.
    async fn publish(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        for publication in publications {
            let row = new_row(publication)?;
            bytes += row.payload.len();
            rows.push(row);
            if rows.len() >= PUBLISH_ROWS_MAX || bytes >= PUBLISH_BYTES_MAX {
                self.insert(std::mem::take(&mut rows), &publication.route).await?;
                bytes = 0;
            }
        }
        match publications.last() {
            Some(last) if !rows.is_empty() => self.insert(rows, &last.route).await,
            _ => Ok(()),
        }
    }

    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        let queue = &queue.name;
        self.ask(Work::Declare(queue.clone())).await.map(drop).map_err(|failure| {
            failure.into_error(|failure| {
                let transient = failure.is_transient();
                BrokerError::Declare { queue: queue.clone(), source: failure.into(), transient }
            })
        })
    }

    /// Counts messages whose ETA has not come, too: for a Python client they wait like all others.
    async fn depth(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        let depth = self.ask(Work::Depth(queue.clone())).await;
        depth.map_err(|failure| queue_error("count messages of", queue, failure))
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        let purged = self.ask(Work::Purge(queue.clone())).await;
        purged.map_err(|failure| queue_error("purge", queue, failure))
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        // If it fails, the leases expire.
        let _ = self.ask(Work::Close { connection: self.id }).await;
    }
}

impl SqliteBroker {
    async fn insert(&self, rows: Vec<NewRow>, route: &Route) -> Result<(), BrokerError> {
        self.ask(Work::Publish(rows)).await.map(drop).map_err(|failure| {
            failure.into_error(|failure| {
                let Route { exchange, routing_key } = route.clone();
                let transient = failure.is_transient();
                BrokerError::Publish { exchange, routing_key, source: failure.into(), transient }
            })
        })
    }
}

fn queue_error(operation: &'static str, queue: &QueueName, failure: Failure) -> BrokerError {
    failure.into_error(|failure| {
        let transient = failure.is_transient();
        BrokerError::Queue { operation, queue: queue.clone(), source: failure.into(), transient }
    })
}
