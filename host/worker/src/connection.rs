//! The broker that is connected now, for everybody who publishes.
//!
//! Connecting and noticing loss is the supervisor's business.

use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use broker::{Broker, BrokerError};
use store::ReplySender;
use taskhost_core::Publication;

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
}

impl Connection {
    /// The connection, or the error that there is none.
    pub(crate) fn broker(&self) -> Result<Arc<dyn Broker>, BrokerError> {
        let current = self.current.read().expect("nobody panics while holding this lock");
        current.clone().ok_or_else(|| BrokerError::Lost { reason: "not connected".to_owned() })
    }

    pub(crate) fn set(&self, broker: Option<Arc<dyn Broker>>) {
        *self.current.write().expect("nobody panics while holding this lock") = broker;
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
