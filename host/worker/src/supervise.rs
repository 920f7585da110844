//! Keeps the worker connected: connect, consume, and when anything is lost, the same again.
//!
//! A cold start and a reconnect are the same path. What a loss means for the tasks is decided by the
//! dispatcher.

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, BrokerError, Capabilities, Consumer, Receipt};
use taskhost_core::{Codec, DecodeError, Queue, QueueName, Request};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use crate::commit::chain;
use crate::connection::{Connection, Connector, Retry};

/// Wait between two tries to connect: grows by the first up to the second, as Celery's does
/// (kombu/connection.py `_ensure_connection`).
const RECONNECT_STEP: Duration = Duration::from_secs(1);
const RECONNECT_MAX: Duration = Duration::from_secs(8);

/// How much of an unreadable body is shown in the log, in bytes.
const BODY_SHOWN_BYTES: usize = 256;

/// What the supervisor tells the driver.
pub(crate) enum Link {
    /// Connected; deliveries of this epoch may follow.
    Up(Capabilities),
    /// Every receipt of this epoch is void. The answer is awaited before anything of the next epoch is
    /// sent, so that old and new cannot be mixed up.
    Lost(oneshot::Sender<()>),
    /// Connecting failed for good.
    Failed(BrokerError),
    /// A queue that was added can never be consumed; the others are.
    Refused(QueueName),
}

/// Deliveries of one consumer.
pub(crate) struct Received {
    pub(crate) consumer: Arc<dyn Consumer>,
    pub(crate) batch: Vec<(Result<Box<Request>, DecodeError>, Receipt)>,
}

/// What the driver wants of the supervisor.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    /// Take messages from these, and from no others.
    pub(crate) queues: Vec<Queue>,
    /// How many unsettled ones.
    pub(crate) prefetch: u32,
    pub(crate) phase: Phase,
}

/// How far the worker is with its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Consume,
    /// Take no more messages, but stay connected.
    Drain,
    /// Disconnect and end.
    End,
}

/// Owns the connection.
pub(crate) struct Supervisor {
    pub(crate) node: String,
    pub(crate) codec: Arc<Codec>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) retry: Retry,
    pub(crate) connection: Arc<Connection>,
    pub(crate) links: mpsc::Sender<Link>,
    pub(crate) deliveries: mpsc::Sender<Received>,
    pub(crate) wants: watch::Receiver<Want>,
}

/// Why a time of being connected ended.
enum Ended {
    Lost(BrokerError),
    Wanted,
}

impl Supervisor {
    pub(crate) async fn run(mut self) {
        let mut first = true;
        let mut wait = Duration::ZERO;
        loop {
            let Some(broker) = self.connect(first).await else { return };
            let connected_at = Instant::now();
            let mut receiving = JoinSet::new();
            let ended = self.serve(&broker, first, &mut receiving).await;
            // Nothing of this connection may be delivered after its loss is announced.
            receiving.shutdown().await;
            self.connection.set(None);
            let error = match ended {
                Ended::Wanted => return broker.close().await,
                Ended::Lost(error) => error,
            };
            // One that lets us in and throws us out again, as a Redis that has become a replica does, is not
            // asked as fast as it answers.
            let lasted = connected_at.elapsed() >= RECONNECT_MAX;
            wait = if lasted { Duration::ZERO } else { (wait + RECONNECT_STEP).min(RECONNECT_MAX) };
            if !lasted {
                self.connector.leave();
            }
            if !self.retry.allows(false, 0) {
                let _ = self.links.send(Link::Failed(error)).await;
                return;
            }
            warn!(
                "consumer: Connection to broker lost. Trying to re-establish the connection{}... ({})",
                if lasted { String::new() } else { format!(" in {:.2} seconds", wait.as_secs_f64()) },
                chain(&error)
            );
            let (heard, hearing) = oneshot::channel();
            if self.links.send(Link::Lost(heard)).await.is_err() || hearing.await.is_err() {
                return;
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = ending(self.wants.clone()) => return,
            }
            first = false;
        }
    }

    /// Connects, however long it takes. `None` if it cannot ever work or is not wanted any more.
    async fn connect(&mut self, first: bool) -> Option<Arc<dyn Broker>> {
        let (mut wait, mut retries) = (RECONNECT_STEP, 0);
        loop {
            let connecting = self.connector.connect();
            let error = tokio::select! {
                connected = connecting => match connected {
                    Ok(broker) => return Some(broker),
                    Err(error) => error,
                },
                () = ending(self.wants.clone()) => return None,
            };
            // After a first success the broker may refuse us for a while, and come to its senses.
            if (first && !error.is_transient()) || !self.retry.allows(first, retries) {
                let _ = self.links.send(Link::Failed(error)).await;
                return None;
            }
            retries += 1;
            let of = self.retry.most.map(|most| format!(" ({retries}/{most})")).unwrap_or_default();
            error!("consumer: Cannot {}. Trying again in {:.2} seconds...{of}", chain(&error), wait.as_secs_f64());
            tokio::select! {
                () = sleep(wait) => {}
                () = ending(self.wants.clone()) => return None,
            }
            wait = (wait + RECONNECT_STEP).min(RECONNECT_MAX);
        }
    }

    /// Consumes what is wanted until something is lost or nothing is wanted any more.
    async fn serve(
        &mut self,
        broker: &Arc<dyn Broker>,
        first: bool,
        receiving: &mut JoinSet<Result<(), BrokerError>>,
    ) -> Ended {
        let wanted = self.wants.borrow_and_update().clone();
        let mut consuming = Consuming::default();
        if wanted.phase == Phase::Consume {
            for queue in &wanted.queues {
                match consuming.begin(broker, queue, wanted.prefetch).await {
                    Ok(_) => {}
                    Err(error) if first && !error.is_transient() => {
                        let _ = self.links.send(Link::Failed(error)).await;
                        return Ended::Wanted;
                    }
                    Err(error) => return Ended::Lost(error),
                }
            }
        }
        self.connection.set(Some(broker.clone()));
        if self.links.send(Link::Up(broker.capabilities())).await.is_err() {
            return Ended::Wanted;
        }
        if first {
            info!("{} ready.", self.node);
        } else {
            info!("consumer: Connected again. Resuming normal operations following a restart.");
        }
        for (_, consumer) in &consuming.consumers {
            receiving.spawn(receive(consumer.clone(), self.codec.clone(), self.deliveries.clone()));
        }
        loop {
            tokio::select! {
                Some(ended) = receiving.join_next() => match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Ended::Lost(error),
                    Err(panic) => return Ended::Lost(BrokerError::Lost { reason: panic.to_string() }),
                },
                changed = self.wants.changed() => {
                    let want = self.wants.borrow_and_update().clone();
                    if changed.is_err() || want.phase == Phase::End {
                        return Ended::Wanted;
                    }
                    if let Err(error) = self.change(broker, &mut consuming, &want, receiving).await {
                        return Ended::Lost(error);
                    }
                }
            }
        }
    }

    /// Brings what is consumed to what is wanted.
    async fn change(
        &mut self,
        broker: &Arc<dyn Broker>,
        consuming: &mut Consuming,
        want: &Want,
        receiving: &mut JoinSet<Result<(), BrokerError>>,
    ) -> Result<(), BrokerError> {
        let wanted = if want.phase == Phase::Consume { want.queues.as_slice() } else { &[] };
        consuming.end_all_but(wanted).await?;
        consuming.set_prefetch(want.prefetch).await?;
        for queue in wanted {
            match consuming.begin(broker, queue, want.prefetch).await {
                Ok(None) => {}
                Ok(Some(consumer)) => {
                    info!(queue = %queue.name, "consumer: taking messages from `{}`", queue.name);
                    receiving.spawn(receive(consumer, self.codec.clone(), self.deliveries.clone()));
                }
                Err(error) if error.is_transient() => return Err(error),
                // Somebody asked for a queue that cannot be; the others are not to suffer for it.
                Err(error) => {
                    error!(queue = %queue.name, "consumer: cannot {}; it is left alone", chain(&error));
                    let _ = self.links.send(Link::Refused(queue.name.clone())).await;
                }
            }
        }
        Ok(())
    }
}

/// The consumers of one connection.
#[derive(Default)]
struct Consuming {
    consumers: Vec<(QueueName, Arc<dyn Consumer>)>,
    prefetch: u32,
}

impl Consuming {
    /// The new consumer; none if the queue is consumed already.
    async fn begin(
        &mut self,
        broker: &Arc<dyn Broker>,
        queue: &Queue,
        prefetch: u32,
    ) -> Result<Option<Arc<dyn Consumer>>, BrokerError> {
        self.prefetch = prefetch;
        if self.consumers.iter().any(|(name, _)| *name == queue.name) {
            return Ok(None);
        }
        let consumer: Arc<dyn Consumer> = Arc::from(broker.consume(queue, prefetch).await?);
        self.consumers.push((queue.name.clone(), consumer.clone()));
        Ok(Some(consumer))
    }

    /// What a cancelled consumer delivered is settled by it all the same.
    async fn end_all_but(&mut self, queues: &[Queue]) -> Result<(), BrokerError> {
        let (stay, go) = std::mem::take(&mut self.consumers)
            .into_iter()
            .partition(|(name, _)| queues.iter().any(|queue| queue.name == *name));
        self.consumers = stay;
        let go: Vec<(QueueName, Arc<dyn Consumer>)> = go;
        for (name, consumer) in go {
            debug!(queue = %name, "consumer: taking no more messages from `{name}`");
            consumer.cancel().await?;
        }
        Ok(())
    }

    async fn set_prefetch(&mut self, prefetch: u32) -> Result<(), BrokerError> {
        if std::mem::replace(&mut self.prefetch, prefetch) == prefetch {
            return Ok(());
        }
        for (_, consumer) in &self.consumers {
            consumer.set_prefetch(prefetch).await?;
        }
        Ok(())
    }
}

/// Returns when the driver does not want to be connected any more, or is gone.
async fn ending(mut wants: watch::Receiver<Want>) {
    let _ = wants.wait_for(|want| want.phase == Phase::End).await;
}

/// Reads what a consumer delivers. Decoding is done here, beside the driver and not in it.
async fn receive(
    consumer: Arc<dyn Consumer>,
    codec: Arc<Codec>,
    deliveries: mpsc::Sender<Received>,
) -> Result<(), BrokerError> {
    while let Some(batch) = consumer.next().await? {
        let batch = batch.into_iter().map(|delivery| {
            let body = delivery.message.body.clone();
            let queue = delivery.info.queue.clone();
            let request = Request::decode(delivery.message, delivery.info, &codec).map(Box::new);
            if let Err(error) = &request {
                let shown = String::from_utf8_lossy(&body[..body.len().min(BODY_SHOWN_BYTES)]).into_owned();
                error!(queue = %queue, "Received and deleted unreadable message from `{queue}`: {}; body ({} bytes): {shown:?}", chain(error), body.len());
            }
            (request, delivery.receipt)
        });
        let received = Received { consumer: consumer.clone(), batch: batch.collect() };
        if deliveries.send(received).await.is_err() {
            break;
        }
    }
    Ok(())
}
