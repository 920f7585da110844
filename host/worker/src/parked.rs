//! Brings parked messages home once a plugin has their task.
//!
//! Which messages are parked is decided in `core`. They lie in queues of their own, and a broker has no
//! way to look at messages without taking them: each is taken once, and goes to its home or back to the
//! end of the line.

use std::sync::Arc;
use std::time::Duration;

use broker::{Acknowledgement, Broker, BrokerError, Delivery};
use rustc_hash::FxHashSet;
use taskhost_core::message::PUT_BACK_HEADER;
use taskhost_core::{HeaderValue, Publication, Queue, QueueName, Route, TaskName, dead};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::commit::chain;

/// How many are in our hands at a time.
const BATCH: u32 = 100;

/// How long the next one may take to come: fewer may be there than were counted, if another worker does
/// the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which messages may go home.
#[derive(Debug, Clone)]
pub(crate) struct Homecoming {
    /// Those of these tasks.
    pub(crate) tasks: FxHashSet<TaskName>,
    /// No more than so many.
    pub(crate) at_most: u64,
}

/// Looks through the parked messages of these queues, once.
pub(crate) async fn bring_home(broker: Arc<dyn Broker>, queues: Vec<QueueName>, homecoming: Homecoming) {
    // They were set aside where they had been taken from, and their home is there.
    let broker = broker.source().unwrap_or(broker);
    let Homecoming { tasks, at_most: mut left } = homecoming;
    for queue in queues {
        let Some(parked) = dead::parked_queue(&queue) else { continue };
        match look_through(&*broker, &parked, &tasks, left).await {
            Ok(0) => {}
            Ok(count) => {
                info!("{count} parked messages of `{queue}` go back to it: a plugin has their tasks");
                left = left.saturating_sub(count);
            }
            Err(error) => {
                warn!("cannot look through `{parked}`, its messages stay where they are: {}", chain(&error));
            }
        }
    }
}

async fn look_through(
    broker: &dyn Broker,
    parked: &QueueName,
    tasks: &FxHashSet<TaskName>,
    at_most: u64,
) -> Result<u64, BrokerError> {
    if tasks.is_empty() || at_most == 0 {
        return Ok(0);
    }
    let mut left = broker.depth(parked).await?;
    if left == 0 {
        return Ok(0);
    }
    let consumer = broker.consume(&Queue::named(parked.clone()), BATCH).await?;
    let mut home = 0;
    while left > 0 && home < at_most {
        let Ok(batch) = timeout(PATIENCE, consumer.next()).await else { break };
        let Some(mut batch) = batch? else { break };
        // What came after the count may be what we put there ourselves.
        let beyond = batch.split_off(usize::try_from(left).unwrap_or(usize::MAX).min(batch.len()));
        left -= batch.len() as u64;
        let mut publications = Vec::with_capacity(batch.len());
        let mut receipts = Vec::with_capacity(batch.len());
        for Delivery { message, receipt, .. } in batch {
            let task = match message.headers.get("task") {
                Some(HeaderValue::Text(task)) => TaskName::parse(task).ok(),
                _ => None,
            };
            let revived = task
                .filter(|task| home < at_most && tasks.contains(task))
                .and_then(|_| dead::revive(message.clone(), parked));
            match revived {
                Some(mut publication) => {
                    // A crash before the acknowledgement leaves two of one execution: the mark tells.
                    publication.message.headers.set(PUT_BACK_HEADER, HeaderValue::Bool(true));
                    publications.push(publication);
                    home += 1;
                }
                None => publications.push(Publication { message, route: Route::queue(parked) }),
            }
            receipts.push((receipt, Acknowledgement::Ack));
        }
        broker.publish(&publications).await?;
        receipts.extend(beyond.into_iter().map(|delivery| (delivery.receipt, Acknowledgement::Requeue)));
        consumer.settle(receipts).await?;
    }
    consumer.cancel().await?;
    Ok(home)
}
