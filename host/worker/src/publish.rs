//! Publishes: what settlements say, and what running tasks want to be published at once.
//!
//! Tries nothing again that may be the connection's fault: whoever asked for it decides about that.

use std::sync::Arc;

use broker::BrokerError;
use taskhost_core::protocol::auth::{self, Seal};
use taskhost_core::settle::Step;
use taskhost_core::{Publication, Queue, Route};

use crate::connection::Connection;

/// Messages that are published together and confirmed together.
const BATCH_MAX: usize = 128;

/// Where an [`Invoker`](crate::Invoker) publishes what running tasks do not want to wait for their end.
pub struct Publisher {
    connection: Arc<Connection>,
    seal: Option<Arc<dyn Seal>>,
}

impl Publisher {
    /// Publishes through this connection. What is to be signed is signed by `seal`.
    pub fn new(connection: Arc<Connection>, seal: Option<Arc<dyn Seal>>) -> Self {
        Self { connection, seal }
    }

    /// Publishes these, in order. Returns once the broker has confirmed all of them.
    pub async fn publish(&self, steps: &[Step]) -> Result<(), BrokerError> {
        carry_out(steps, &self.connection, self.seal.as_deref()).await
    }
}

/// Carries out these, in order.
pub(crate) async fn carry_out(
    steps: &[Step],
    connection: &Connection,
    seal: Option<&dyn Seal>,
) -> Result<(), BrokerError> {
    // A retry, which is what most publish, is not copied.
    if let [Step::Send(publication)] = steps
        && !auth::is_open(&publication.message)
    {
        return connection.publish(std::slice::from_ref(publication)).await;
    }
    for steps in steps.chunks(BATCH_MAX) {
        match publish(steps, connection, seal).await {
            // Somebody has deleted a queue that was there when we looked.
            Err(BrokerError::Unroutable { .. }) if connection.forget_declared() => {
                let mut steps = steps.to_vec();
                steps.iter_mut().for_each(Step::mark_as_repeated);
                publish(&steps, connection, seal).await?;
            }
            published => published?,
        }
    }
    Ok(())
}

async fn publish(steps: &[Step], connection: &Connection, seal: Option<&dyn Seal>) -> Result<(), BrokerError> {
    let mut batch = Vec::with_capacity(steps.len());
    for step in steps {
        let publication = match step {
            Step::Send(publication) => publication.clone(),
            Step::SendTo(queue, publication) => {
                connection.declare(queue).await?;
                publication.clone()
            }
            Step::Shelve { queue, message } => {
                let queue = Queue::named(queue.clone());
                connection.declare(&queue).await?;
                Publication { message: message.clone(), route: Route::queue(&queue.name) }
            }
        };
        batch.push(sealed(publication, seal)?);
    }
    connection.publish(&batch).await
}

/// Ready to leave: signed, if it says that it is and is not yet.
pub(crate) fn sealed(mut publication: Publication, seal: Option<&dyn Seal>) -> Result<Publication, BrokerError> {
    auth::seal(&mut publication.message, seal).map_err(|error| BrokerError::Publish {
        exchange: publication.route.exchange.clone(),
        routing_key: publication.route.routing_key.clone(),
        source: error.into(),
        transient: false,
    })?;
    Ok(publication)
}
