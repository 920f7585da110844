//! The broker that is connected now, for everybody who publishes.
//!
//! Connecting and noticing loss is the supervisor's business.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use async_trait::async_trait;
use broker::{Broker, BrokerError};
use rustc_hash::FxHashSet;
use store::ReplySender;
use taskhost_core::{Publication, Queue, QueueName};

/// Queues that are remembered to be there. A task that calls others by more queues looks again.
const DECLARED_MAX: usize = 1_000;

/// Makes connections to one broker.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Connects anew.
    async fn connect(&self) -> Result<Arc<dyn Broker>, BrokerError>;
}

/// A place that holds the current connection, if there is one.
#[derive(Default)]
pub struct Connection {
    current: RwLock<Option<Arc<dyn Broker>>>,
    /// Queues that were found, or made, through it.
    declared: Mutex<FxHashSet<QueueName>>,
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
    pub(crate) async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        if self.declared().contains(&queue.name) {
            return Ok(());
        }
        self.broker()?.declare(queue).await?;
        let mut declared = self.declared();
        if declared.len() >= DECLARED_MAX {
            declared.clear();
        }
        declared.insert(queue.name.clone());
        Ok(())
    }

    /// Looks again from now on; true if anything had been found.
    pub(crate) fn forget_declared(&self) -> bool {
        let mut declared = self.declared();
        let known = !declared.is_empty();
        declared.clear();
        known
    }

    fn declared(&self) -> std::sync::MutexGuard<'_, FxHashSet<QueueName>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn publish(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        self.broker()?.publish(publications).await
    }
}

#[async_trait]
impl ReplySender for Connection {
    async fn send(&self, replies: Vec<Publication>) -> Result<(), store::BoxError> {
        Ok(self.broker()?.send_unconfirmed(&replies).await?)
    }
}
