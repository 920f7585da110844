//! Publishes: what settlements say, and what running tasks want to be published at once; tells the store what it has
//! to know before.
//!
//! Tries nothing again that may be the connection's fault: whoever asked for it decides about that.

use std::sync::Arc;

use broker::BrokerError;
use store::{ResultStore, StoreError};
use taskhost_core::protocol::auth::{self, Seal};
use taskhost_core::settle::Step;
use taskhost_core::{Publication, Queue, Route};

use crate::announce::Announcer;
use crate::connection::{Connection, Side};

/// Messages that are published together and confirmed together.
const BATCH_MAX: usize = 128;

/// Where an [`Invoker`](crate::Invoker) publishes what running tasks do not want to wait for their end.
pub struct Publisher {
    connection: Arc<Connection>,
    store: Arc<dyn ResultStore>,
    seal: Option<Arc<dyn Seal>>,
    announcer: Arc<Announcer>,
}

/// Why something is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// What the store has to know before.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PublishError {
    /// True if the same thing may work later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Broker(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
        }
    }
}

impl Publisher {
    /// Publishes through this connection. What is to be signed is signed by `seal`; what is to be known about
    /// chords goes to the store.
    pub fn new(
        connection: Arc<Connection>,
        store: Arc<dyn ResultStore>,
        seal: Option<Arc<dyn Seal>>,
        announcer: Arc<Announcer>,
    ) -> Self {
        Self { connection, store, seal, announcer }
    }

    /// Publishes these, in order. Returns once the broker has confirmed all of them.
    pub async fn publish(&self, steps: &[Step]) -> Result<(), PublishError> {
        // A retry, which is what most publish, is not copied.
        if let [Step::Send(publication)] = steps
            && !auth::is_open(&publication.message)
        {
            self.connection.publish(std::slice::from_ref(publication), Side::Out).await?;
            self.announce(steps);
            return Ok(());
        }
        for steps in steps.chunk_by(|one, next| is_told(one) == is_told(next)) {
            if steps.first().is_some_and(is_told) {
                for step in steps {
                    self.tell(step).await?;
                }
                continue;
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
        }
        Ok(())
    }

    /// Tells the store what it has to know before members of a chord are done.
    async fn tell(&self, step: &Step) -> Result<(), StoreError> {
        match step {
            Step::SetChordSize { group, size, again, header: None } => {
                self.store.set_chord_size(group, *size, *again).await
            }
            Step::SetChordSize { group, size, again, header: Some(header) } => {
                self.store.begin_chord(group, *size, header, *again).await
            }
            Step::ExtendChord { group, member } => self.store.extend_chord(group, member).await,
            Step::SaveGroup { group, result } => self.store.save_group(group, result).await,
            Step::Send(_) | Step::SendTo(..) | Step::Shelve { .. } => Ok(()),
        }
    }

    async fn publish_together(&self, steps: &[Step]) -> Result<(), BrokerError> {
        let (mut batch, mut aside) = (Vec::with_capacity(steps.len()), Vec::new());
        for step in steps {
            let (publication, to) = match step {
                Step::Send(publication) => (publication.clone(), &mut batch),
                Step::SendTo(queue, publication) => {
                    self.connection.declare(queue, Side::Out).await?;
                    (publication.clone(), &mut batch)
                }
                Step::Shelve { queue, message } => {
                    let queue = Queue::named(queue.clone());
                    self.connection.declare(&queue, Side::Source).await?;
                    (Publication { message: message.clone(), route: Route::queue(&queue.name) }, &mut aside)
                }
                Step::SetChordSize { .. } | Step::ExtendChord { .. } | Step::SaveGroup { .. } => continue,
            };
            to.push(sealed(publication, self.seal.as_deref())?);
        }
        for (publications, side) in [(aside, Side::Source), (batch, Side::Out)] {
            if !publications.is_empty() {
                self.connection.publish(&publications, side).await?;
            }
        }
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
                Step::Shelve { .. } | Step::SetChordSize { .. } | Step::ExtendChord { .. } | Step::SaveGroup { .. } => {
                }
            }
        }
    }
}

/// True for what the store is told, and no broker.
fn is_told(step: &Step) -> bool {
    match step {
        Step::SetChordSize { .. } | Step::ExtendChord { .. } | Step::SaveGroup { .. } => true,
        Step::Send(_) | Step::SendTo(..) | Step::Shelve { .. } => false,
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
