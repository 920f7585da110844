//! Puts deliveries back into RabbitMQ's chain of delays, which is made when it is first needed.
//!
//! The layout of the chain is in `delayed`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use lapin::types::{FieldTable, ShortString};
use taskhost_core::{QueueName, Timestamp};
use tokio::sync::Mutex;
use tracing::info;

use super::declare::Declarer;
use super::failure::Failure;
use super::peer::Peer;
use super::publisher::PIPELINE_MAX;
use super::{Connector, Role, Session, delayed, queue_error};
use crate::port::{Acknowledgement, BrokerError, PutBack, Receipts};

/// The chain of delays, as far as we know of it.
pub(super) struct Delays {
    connector: Connector,
    state: Mutex<State>,
    /// The broker has refused it for good.
    refused: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Ready,
}

/// What became of deliveries that were to be put back.
pub(super) struct Outcome {
    /// They are safe, and their originals are to be settled.
    pub(super) done: Receipts,
    pub(super) kept: Vec<PutBack>,
    pub(super) error: Option<BrokerError>,
}

impl Delays {
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, state: Mutex::new(State::Unknown), refused: AtomicBool::new(false) }
    }

    pub(super) fn peer(&self) -> Peer {
        self.connector.peer
    }

    /// False once the broker has shown that it knows nothing of the kind: not every AMQP broker does.
    pub(super) fn may_work(&self) -> bool {
        !self.refused.load(Ordering::Relaxed)
    }

    /// Asks a broker of which that is not known whether there can be a chain.
    pub(super) async fn ask(&self) -> Result<(), BrokerError> {
        let connection = self.connector.connect(Role::Declare).await?;
        let probed = delayed::probe(&mut Declarer::new(&connection, self.peer())).await;
        super::close(&connection).await;
        if let Err(failure) = probed {
            // Qpid ends the connection of whoever speaks of what it does not know, and says nothing.
            let unknown = failure.is_unknown_method() || failure.is_silent_end();
            self.refused.fetch_or(unknown || !failure.is_transient(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Finds the chain, or makes it. Over a connection of its own: a broker that is not RabbitMQ may answer
    /// by closing it.
    pub(super) async fn ensure(&self, queue: &QueueName) -> Result<(), BrokerError> {
        let mut state = self.state.lock().await;
        if *state == State::Ready {
            return Ok(());
        }
        let connection = self.connector.connect(Role::Declare).await?;
        let mut declarer = Declarer::new(&connection, self.peer());
        let made = delayed::ensure(&mut declarer, self.connector.options.delayed_queue_type).await;
        super::close(&connection).await;
        match made {
            Ok(()) => {
                *state = State::Ready;
                Ok(())
            }
            Err(failure) => {
                if !failure.is_transient() || failure.is_unknown_method() {
                    self.refused.store(true, Ordering::Relaxed);
                }
                Err(error(queue, failure))
            }
        }
    }

    /// Something of the chain is missing: the next one looks again.
    async fn forget(&self) {
        *self.state.lock().await = State::Unknown;
    }
}

impl Session {
    /// Puts back deliveries of one queue, which has that name at the broker. `bound` says whether the chain
    /// leads there already.
    pub(super) async fn put_back(
        &self,
        queue: &QueueName,
        at: &ShortString,
        bound: &Mutex<bool>,
        deliveries: Vec<PutBack>,
    ) -> Outcome {
        let mut outcome = Outcome { done: Vec::new(), kept: Vec::new(), error: None };
        if let Err(error) = self.lead_back(queue, at, bound).await {
            return Outcome { kept: deliveries, error: Some(error), ..outcome };
        }
        let mut deliveries = deliveries.into_iter();
        while outcome.error.is_none() {
            let part: Vec<_> = deliveries.by_ref().take(PIPELINE_MAX).collect();
            if part.is_empty() {
                break;
            }
            self.put_back_part(at, part, &mut outcome).await;
        }
        outcome.kept.extend(deliveries);
        if matches!(outcome.error, Some(BrokerError::Unroutable { .. })) {
            self.delays.forget().await;
            *bound.lock().await = false;
        }
        outcome
    }

    async fn put_back_part(&self, at: &ShortString, part: Vec<PutBack>, outcome: &mut Outcome) {
        let now = now();
        let publications: Vec<_> =
            part.iter().map(|it| delayed::publication(&it.publication, at.as_str(), it.until, now)).collect();
        let results = match self.publisher.publish_each(&publications).await {
            Ok(results) => results,
            Err(error) => {
                outcome.kept.extend(part);
                outcome.error = Some(error);
                return;
            }
        };
        // A message that was returned may be another one than the one that was said to be.
        let unsure = results.iter().any(|result| matches!(result, Err(BrokerError::Unroutable { .. })));
        for (delivery, result) in part.into_iter().zip(results) {
            match result {
                Ok(()) if !unsure => outcome.done.push((delivery.receipt, Acknowledgement::Ack)),
                result => {
                    outcome.kept.push(delivery);
                    outcome.error = outcome.error.take().or(result.err());
                }
            }
        }
    }

    /// Makes sure that what is put back comes back to this queue.
    async fn lead_back(&self, queue: &QueueName, at: &ShortString, bound: &Mutex<bool>) -> Result<(), BrokerError> {
        let mut bound = bound.lock().await;
        if *bound {
            return Ok(());
        }
        self.delays.ensure(queue).await?;
        let key = delayed::binding_key(at.as_str());
        let binding = self.declarer().bind_queue(at, delayed::EXIT, &key, FieldTable::default()).await;
        binding.map_err(|failure| error(queue, failure))?;
        info!(queue.name = %queue, "tasks of queue `{queue}` with a late start wait at the broker");
        *bound = true;
        Ok(())
    }
}

fn now() -> Timestamp {
    Timestamp::from_micros(0) + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn error(queue: &QueueName, failure: Failure) -> BrokerError {
    queue_error("delay messages to", queue, failure)
}
