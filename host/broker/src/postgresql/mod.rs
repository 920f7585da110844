//! kombu's SQLAlchemy transport on PostgreSQL: the tables of kombu, shared with Python clients and workers.
//!
//! Durable: an answer means that it is committed. A claimed row is leased, by the server's clock; the lease is renewed
//! while its receipt lives, and a worker that dies loses it. Rows of others are noticed by looking, since kombu tells
//! nobody. There are no exchanges but the default one and those that are named like their only queue.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dial::postgresql::{Lease, Pool};
use taskhost_core::{Publication, Queue, QueueName, RedactedUrl};
use tokio::task::AbortHandle;
use tokio::time::error::Elapsed;
use tracing::warn;
use uuid::Uuid;

pub(crate) use self::address::{Address, is_scheme};
use self::consumer::PostgresConsumer;
use self::failure::Failure;
use self::hold::{Hold, Holds};
use self::rows::Statements;
use crate::port::{Broker, BrokerError, Capabilities, Consumer};
use crate::sqlalchemy::{NewRow, new_row};

/// How long a worker may be silent until its messages are given to another. Renewed three times in that time.
const LEASE: Duration = Duration::from_secs(30);
/// Most messages, and about how many bytes, that are published in one statement.
const PUBLISH_ROWS_MAX: usize = 256;
const PUBLISH_BYTES_MAX: usize = 4 << 20;
/// How often something is tried again that others' transactions were in the way of.
const CONFLICTS_MAX: u32 = 8;
const CONFLICT_PAUSE: Duration = Duration::from_millis(20);

/// Does something that may be done twice: on a new connection if an old one turns out to be lost, and again if others
/// were in the way. A macro, since what is done borrows the connection.
macro_rules! on_connection {
    ($database:expr, $client:ident => $work:expr) => {{
        let database = &$database;
        let mut conflicts = 0;
        loop {
            let mut lease = match database.pool.lease().await {
                Ok(lease) => lease,
                Err(error) => break Err($crate::postgresql::Failure::from(error)),
            };
            let $client: &tokio_postgres::Client = lease.client();
            let done = tokio::time::timeout(database.pool.answer_timeout(), $work).await;
            match database.judge(done, lease, &mut conflicts).await {
                $crate::postgresql::Judged::Done(done) => break Ok(done),
                $crate::postgresql::Judged::Again => {}
                $crate::postgresql::Judged::Failed(failure) => break Err(failure),
            }
        }
    }};
}

mod address;
mod consumer;
mod failure;
mod hold;
mod rows;
mod schema;
#[cfg(test)]
mod tests;

/// A connection to the tables.
pub(crate) struct PostgresBroker {
    node: String,
    shared: Arc<Shared>,
    closed: AtomicBool,
}

/// What a connection and its consumers have in common.
struct Shared {
    pub(super) database: Arc<Database>,
    pub(super) holds: Arc<Holds>,
    keeper: AbortHandle,
}

/// What comes of an attempt.
enum Judged<T> {
    Done(T),
    Again,
    Failed(Failure),
}

/// The pool, and what is said on it.
struct Database {
    pool: Pool,
    pub(super) statements: Statements,
    /// Queues that were there when we looked.
    queues: Mutex<HashSet<String>>,
}

impl PostgresBroker {
    /// Connects, and makes the tables if they are missing.
    pub(crate) async fn connect(
        url: &str,
        address: Address,
        node: &str,
        timeout: Duration,
    ) -> Result<Self, BrokerError> {
        Self::with_lease(url, address, node, timeout, LEASE).await
    }

    async fn with_lease(
        url: &str,
        Address { target, pool, tables }: Address,
        node: &str,
        timeout: Duration,
        lease: Duration,
    ) -> Result<Self, BrokerError> {
        let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        let database = Arc::new(Database {
            pool: Pool::new(target.named(node), pool),
            statements: Statements::new(tables, lease_ms),
            queues: Mutex::default(),
        });
        let making = async { on_connection!(database, client => database.statements.tables().make(client)) };
        let late = |_| Err(Failure::lost(format!("no answer after {timeout:?}")));
        let made = tokio::time::timeout(timeout, making).await.unwrap_or_else(late);
        made.map_err(|failure| BrokerError::Connect {
            url: RedactedUrl::new(url),
            transient: failure.is_transient(),
            source: failure.into(),
        })?;
        let holds = Arc::<Holds>::default();
        let keeper = tokio::spawn(hold::keep(Arc::clone(&database), Arc::downgrade(&holds), lease)).abort_handle();
        let shared = Arc::new(Shared { database, holds, keeper });
        Ok(Self { node: node.to_owned(), shared, closed: AtomicBool::new(false) })
    }

    fn check_open(&self) -> Result<(), BrokerError> {
        match self.closed.load(Ordering::Relaxed) {
            true => Err(BrokerError::Lost { reason: "it was closed".to_owned() }),
            false => Ok(()),
        }
    }

    async fn ensure(&self, queue: &QueueName) -> Result<i32, BrokerError> {
        self.check_open()?;
        self.shared.database.ensure(queue.as_str()).await.map_err(|failure| {
            failure.into_error(|failure| BrokerError::Declare {
                queue: queue.clone(),
                transient: failure.is_transient(),
                source: failure.into(),
            })
        })
    }

    async fn insert(&self, rows: &[NewRow], last: &Publication) -> Result<(), BrokerError> {
        self.check_open()?;
        self.shared.database.insert(rows).await.map_err(|failure| {
            failure.into_error(|failure| BrokerError::Publish {
                exchange: last.route.exchange.clone(),
                routing_key: last.route.routing_key.clone(),
                transient: failure.is_transient(),
                source: failure.into(),
            })
        })?;
        self.shared.holds.wake(rows.iter().map(|row| row.queue.as_str()));
        Ok(())
    }
}

impl Database {
    /// What follows from what came of a statement, and of its connection.
    pub(super) async fn judge<T>(
        &self,
        done: Result<Result<T, tokio_postgres::Error>, Elapsed>,
        lease: Lease,
        conflicts: &mut u32,
    ) -> Judged<T> {
        let is_reused = lease.is_reused();
        let failure = match done {
            Ok(Ok(done)) => {
                lease.give_back();
                return Judged::Done(done);
            }
            Ok(Err(error)) => Failure::from(error),
            Err(_) => self.late(),
        };
        // Dropped, the lease closes its connection, and with it whatever transaction was open.
        drop(lease);
        if failure.lost && is_reused {
            self.pool.forget_idle();
            return Judged::Again;
        }
        if failure.conflict && *conflicts < CONFLICTS_MAX {
            *conflicts += 1;
            tokio::time::sleep(CONFLICT_PAUSE * *conflicts).await;
            return Judged::Again;
        }
        Judged::Failed(failure)
    }

    fn late(&self) -> Failure {
        Failure::lost(format!("no answer after {:?}", self.pool.answer_timeout()))
    }

    /// The id of a queue, which is made if it is missing.
    async fn ensure(&self, queue: &str) -> Result<i32, Failure> {
        let id = on_connection!(self, client => self.statements.ensure_queue(client, queue))?;
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).insert(queue.to_owned());
        Ok(id)
    }

    /// Once: whoever does not know whether it was done says so when it is done again.
    async fn insert(&self, rows: &[NewRow]) -> Result<(), Failure> {
        let names: HashSet<&str> = rows.iter().map(|row| row.queue.as_str()).collect();
        for name in names {
            if !self.queues.lock().unwrap_or_else(PoisonError::into_inner).contains(name) {
                self.ensure(name).await?;
            }
        }
        let mut lease = self.pool.lease().await?;
        let inserting = self.statements.insert(lease.client(), rows);
        let inserted = match tokio::time::timeout(self.pool.answer_timeout(), inserting).await {
            Ok(inserted) => inserted?,
            Err(_) => return Err(self.late()),
        };
        lease.give_back();
        if inserted != rows.len() as u64 {
            self.queues.lock().unwrap_or_else(PoisonError::into_inner).clear();
            return Err(Failure::lost("somebody has deleted a queue"));
        }
        Ok(())
    }
}

#[async_trait]
impl Broker for PostgresBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities { puts_back: true, times_out: false, clock_is_wrong: false, broadcasts: false }
    }

    /// A queue here is its name: there are no kinds, and every queue knows priorities.
    async fn consume(&self, queue: &Queue, prefetch: u32) -> Result<Box<dyn Consumer>, BrokerError> {
        if queue.broadcast {
            let queue = &queue.name;
            warn!(
                queue.name = %queue,
                "kombu's tables know no broadcast: each message of queue `{queue}` goes to one worker only"
            );
        }
        let id = self.ensure(&queue.name).await?;
        let owner = format!("{}/{}/{}", self.node, std::process::id(), Uuid::new_v4().simple());
        let hold = Arc::new(Hold::new(queue.name.clone(), id, owner, prefetch));
        self.shared.holds.add(&hold);
        Ok(Box::new(PostgresConsumer::start(Arc::clone(&self.shared), hold)))
    }

    /// As in kombu, publishing creates the queue if it is missing.
    async fn publish(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        for publication in publications {
            let row = new_row(publication)?;
            bytes += row.payload.len();
            rows.push(row);
            if rows.len() >= PUBLISH_ROWS_MAX || bytes >= PUBLISH_BYTES_MAX {
                self.insert(&std::mem::take(&mut rows), publication).await?;
                bytes = 0;
            }
        }
        match publications.last() {
            Some(last) if !rows.is_empty() => self.insert(&rows, last).await,
            _ => Ok(()),
        }
    }

    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.ensure(&queue.name).await.map(drop)
    }

    /// Counts messages whose ETA has not come, too: for a Python client they wait like all others.
    async fn depth(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        self.check_open()?;
        let database = &self.shared.database;
        let depth = on_connection!(database, client => database.statements.depth(client, queue.as_str()));
        depth.map_err(|failure| queue_error("count messages of", queue, failure))
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        self.check_open()?;
        let database = &self.shared.database;
        let purged = on_connection!(database, client => database.statements.purge(client, queue.as_str()));
        purged.map_err(|failure| queue_error("purge", queue, failure))
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        // If it fails, the leases expire.
        self.shared.holds.give_back_all(&self.shared.database, "the connection was closed").await;
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

fn queue_error(operation: &'static str, queue: &QueueName, failure: Failure) -> BrokerError {
    failure.into_error(|failure| BrokerError::Queue {
        operation,
        queue: queue.clone(),
        transient: failure.is_transient(),
        source: failure.into(),
    })
}
