//! Publishes: what settlements say, and what running tasks want to be published at once.
//!
//! Tries nothing again that may be the connection's fault: whoever asked for it decides about that.

use std::sync::Arc;

use broker::BrokerError;
use taskhost_core::protocol::auth::{self, Seal};
use taskhost_core::settle::Step;
use taskhost_core::{Publication, Queue, Route};

use crate::announce::Announcer;
use crate::connection::Connection;

/// Messages that are published together and confirmed together.
const BATCH_MAX: usize = 128;

/// Where an [`Invoker`](crate::Invoker) publishes what running tasks do not want to wait for their end.
pub struct Publisher {
    connection: Arc<Connection>,
    seal: Option<Arc<dyn Seal>>,
    announcer: Arc<Announcer>,
}

impl Publisher {
    /// Publishes through this connection. What is to be signed is signed by `seal`.
    pub fn new(connection: Arc<Connection>, seal: Option<Arc<dyn Seal>>, announcer: Arc<Announcer>) -> Self {
        Self { connection, seal, announcer }
    }

    /// Publishes these, in order. Returns once the broker has confirmed all of them.
    pub async fn publish(&self, steps: &[Step]) -> Result<(), BrokerError> {
        // A retry, which is what most publish, is not copied.
        if let [Step::Send(publication)] = steps
            && !auth::is_open(&publication.message)
        {
            self.connection.publish(std::slice::from_ref(publication)).await?;
            self.announce(steps);
            return Ok(());
        }
        for steps in steps.chunks(BATCH_MAX) {
            match self.publish_together(steps).await {
                // Somebody has deleted a queue that was there when we looked.
                Err(BrokerError::Unroutable { .. }) if self.connection.forget_declared() => {
                    let mut steps = steps.to_vec();
                    steps.iter_mut().for_each(Step::mark_as_repeated);
                    self.publish_together(&steps).await?;
                }
                published => published?,
            }
        }
        Ok(())
    }

    async fn publish_together(&self, steps: &[Step]) -> Result<(), BrokerError> {
        let mut batch = Vec::with_capacity(steps.len());
        for step in steps {
            let publication = match step {
                Step::Send(publication) => publication.clone(),
                Step::SendTo(queue, publication) => {
                    self.connection.declare(queue).await?;
                    publication.clone()
                }
                Step::Shelve { queue, message } => {
                    let queue = Queue::named(queue.clone());
                    self.connection.declare(&queue).await?;
                    Publication { message: message.clone(), route: Route::queue(&queue.name) }
                }
            };
            batch.push(sealed(publication, self.seal.as_deref())?);
        }
        self.connection.publish(&batch).await?;
        self.announce(steps);
        Ok(())
    }

    /// What is put aside is not sent to anybody.
    fn announce(&self, steps: &[Step]) {
        if !self.announcer.tells_what_is_sent() {
            return;
        }
        for step in steps {
            match step {
                Step::Send(publication) | Step::SendTo(_, publication) => self.announcer.sent(publication),
                Step::Shelve { .. } => {}
            }
        }
    }
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
