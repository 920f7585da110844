//! Connections that are kept: a few, for a while, and never one that was left in the middle of something.
//!
//! Does not retry: what may be repeated is known to whoever asks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::Client;

use super::{ConnectError, Connection, Target};
use crate::database::PoolOptions;

/// Connections to one database.
pub struct Pool {
    target: Target,
    options: PoolOptions,
    free: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Idle>>>,
}

struct Idle {
    connection: Connection,
    opened: Instant,
}

/// Why a pool gives no connection.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    #[error("all {connections} connections were in use for {waited:?} (pool_size, max_overflow, pool_timeout)")]
    Exhausted { connections: usize, waited: Duration },
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl PoolError {
    /// True if the same may work later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Exhausted { .. } => true,
            Self::Connect(error) => error.is_transient(),
        }
    }
}

impl Pool {
    /// Connects to nothing yet.
    pub fn new(target: Target, options: PoolOptions) -> Self {
        let free = Arc::new(Semaphore::new(options.most()));
        Self { target, options, free, idle: Arc::default() }
    }

    /// How long a statement may take.
    pub fn answer_timeout(&self) -> Duration {
        self.target.answer_timeout
    }

    /// A connection, for as long as the lease is held: one that is idle, or a new one.
    pub async fn lease(&self) -> Result<Lease, PoolError> {
        let waiting = Arc::clone(&self.free).acquire_owned();
        let permit = tokio::time::timeout(self.options.timeout, waiting)
            .await
            .map_err(|_| PoolError::Exhausted { connections: self.options.most(), waited: self.options.timeout })?;
        let permit = permit.expect("the semaphore is never closed");
        let (idle, is_reused) = match self.take() {
            Some(idle) => (idle, true),
            None => (Idle { connection: self.target.connect().await?, opened: Instant::now() }, false),
        };
        let home = Arc::clone(&self.idle);
        Ok(Lease { idle: Some(idle), is_reused, home, kept_max: self.options.kept(), _permit: permit })
    }

    /// The one that was used last, since the others are closed first when they are too many.
    fn take(&self) -> Option<Idle> {
        let mut idle = lock(&self.idle);
        while let Some(last) = idle.pop() {
            let is_old = self.options.recycle.is_some_and(|most| last.opened.elapsed() >= most);
            if !is_old && !last.connection.client.is_closed() {
                return Some(last);
            }
        }
        None
    }

    /// Closes what is idle: a server that has gone took all connections with it.
    pub fn forget_idle(&self) {
        lock(&self.idle).clear();
    }

    /// How many connections are kept at this moment.
    pub fn idle(&self) -> usize {
        lock(&self.idle).len()
    }
}

fn lock(idle: &Mutex<Vec<Idle>>) -> MutexGuard<'_, Vec<Idle>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that is in use. One that is not given back is closed: who was cancelled may have left a
/// statement, or a transaction, on it.
pub struct Lease {
    idle: Option<Idle>,
    is_reused: bool,
    home: Arc<Mutex<Vec<Idle>>>,
    kept_max: usize,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// The connection.
    pub fn client(&mut self) -> &mut Client {
        &mut self.idle.as_mut().expect("there is a connection until the end").connection.client
    }

    /// True if it was not made for this lease, and so may have been lost before.
    pub fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// The connection is in order, and nothing is under way on it.
    pub fn give_back(mut self) {
        let Some(idle) = self.idle.take() else { return };
        let mut home = lock(&self.home);
        if home.len() < self.kept_max && !idle.connection.client.is_closed() {
            home.push(idle);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(idle) = self.idle.take() {
            idle.connection.discard();
        }
    }
}
