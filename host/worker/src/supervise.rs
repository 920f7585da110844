//! Keeps the worker connected: connect, consume, and when anything is lost, the same again.
//!
//! A cold start and a reconnect are the same path. What a loss means for the tasks is decided by the
//! dispatcher.

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, BrokerError, Capabilities, Consumer, Receipt};
use taskhost_core::{Codec, DecodeError, Queue, Request};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use crate::commit::chain;
use crate::connection::{Connection, Connector};

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
}

/// Deliveries of one consumer.
pub(crate) struct Received {
    pub(crate) consumer: Arc<dyn Consumer>,
    pub(crate) batch: Vec<(Result<Box<Request>, DecodeError>, Receipt)>,
}

/// What the driver wants of the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Consume {
        prefetch: u32,
    },
    /// Take no more messages, but stay connected.
    Drain,
    /// Disconnect and end.
    End,
}

/// Owns the connection.
pub(crate) struct Supervisor {
    pub(crate) node: String,
    pub(crate) queues: Vec<Queue>,
    pub(crate) codec: Arc<Codec>,
    pub(crate) connector: Arc<dyn Connector>,
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
        let mut wait = RECONNECT_STEP;
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
            if first && !error.is_transient() {
                let _ = self.links.send(Link::Failed(error)).await;
                return None;
            }
            error!("consumer: Cannot {}. Trying again in {:.2} seconds...", chain(&error), wait.as_secs_f64());
            tokio::select! {
                () = sleep(wait) => {}
                () = ending(self.wants.clone()) => return None,
            }
            wait = (wait + RECONNECT_STEP).min(RECONNECT_MAX);
        }
    }

    /// Consumes all queues until something is lost or nothing is wanted any more.
    async fn serve(
        &mut self,
        broker: &Arc<dyn Broker>,
        first: bool,
        receiving: &mut JoinSet<Result<(), BrokerError>>,
    ) -> Ended {
        let mut wanted = *self.wants.borrow_and_update();
        let mut consumers: Vec<Arc<dyn Consumer>> = Vec::new();
        if let Want::Consume { prefetch } = wanted {
            for queue in &self.queues {
                match broker.consume(queue, prefetch).await {
                    Ok(consumer) => consumers.push(Arc::from(consumer)),
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
        for consumer in &consumers {
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
                    let want = *self.wants.borrow_and_update();
                    match want {
                        _ if changed.is_err() => return Ended::Wanted,
                        Want::End => return Ended::Wanted,
                        Want::Consume { prefetch } => {
                            for consumer in &consumers {
                                if let Err(error) = consumer.set_prefetch(prefetch).await {
                                    return Ended::Lost(error);
                                }
                            }
                        }
                        Want::Drain if wanted != Want::Drain => {
                            for consumer in &consumers {
                                if let Err(error) = consumer.cancel().await {
                                    return Ended::Lost(error);
                                }
                            }
                        }
                        Want::Drain => {}
                    }
                    wanted = want;
                }
            }
        }
    }
}

/// Returns when the driver does not want to be connected any more, or is gone.
async fn ending(mut wants: watch::Receiver<Want>) {
    let _ = wants.wait_for(|want| *want == Want::End).await;
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
