//! A consumer: makes messages of the files that were taken for it, and settles them.

use std::sync::Arc;

use async_trait::async_trait;
use taskhost_core::protocol::envelope;
use taskhost_core::{DeliveryInfo, QueueName, Route, Timestamp};
use tracing::error;

use super::failure::Failure;
use super::inbox::{End, Inbox, Taken};
use super::shared::Shared;
use super::{blocking, file, folders, name};
use crate::port::{Acknowledgement, BrokerError, Consumer, Delivery, PutBack, PutBackFailed, Receipt, Receipts, Token};

pub(super) struct FilesystemConsumer {
    pub(super) id: u64,
    pub(super) queue: QueueName,
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Arc<Inbox>,
}

#[async_trait]
impl Consumer for FilesystemConsumer {
    async fn next(&self) -> Result<Option<Vec<Delivery>>, BrokerError> {
        loop {
            let taken = match self.inbox.take().await {
                Ok(taken) => taken,
                Err(End::Cancelled) => return Ok(None),
                Err(End::Lost(reason)) => return Err(BrokerError::Lost { reason }),
            };
            // Without a prefetch there is room again.
            self.shared.wake();
            let mut deliveries = Vec::with_capacity(taken.len());
            for Taken { token, text } in taken {
                match envelope::decode(&text) {
                    Ok(envelope) => deliveries.push(self.delivery(token, envelope)),
                    Err(reason) => self.set_aside(token, &reason.to_string()),
                }
            }
            if !deliveries.is_empty() {
                return Ok(Some(deliveries));
            }
        }
    }

    async fn settle(&self, receipts: Receipts) -> Result<(), BrokerError> {
        self.usable()?;
        if receipts.is_empty() {
            return Ok(());
        }
        let (shared, id) = (Arc::clone(&self.shared), self.id);
        let queue = self.queue.to_string();
        let settled = blocking(move || settle(&shared, id, &queue, &receipts)).await;
        self.shared.wake();
        settled.map_err(|failure| self.settle_error(failure))
    }

    /// The files wait in a folder of ours, in which kombu does not look.
    async fn put_back(&self, mut deliveries: Vec<PutBack>) -> Result<(), PutBackFailed> {
        if let Err(error) = self.usable() {
            return Err(PutBackFailed { error, deliveries });
        }
        let (shared, id) = (Arc::clone(&self.shared), self.id);
        let waiting: Vec<_> = deliveries.iter().map(|it| (number(&it.receipt), due_ms(it.until))).collect();
        let moved = blocking(move || Ok(put_back(&shared, id, &waiting))).await;
        self.shared.wake();
        let (done, failure) = match moved {
            Ok((_, Ok(()))) => return Ok(()),
            Ok((done, Err(failure))) => (done, failure),
            Err(failure) => (0, failure),
        };
        let deliveries = deliveries.split_off(done);
        Err(PutBackFailed { error: self.settle_error(failure), deliveries })
    }

    async fn set_prefetch(&self, prefetch: u32) -> Result<(), BrokerError> {
        self.usable()?;
        self.shared.set_prefetch(self.id, prefetch);
        Ok(())
    }

    async fn cancel(&self) -> Result<(), BrokerError> {
        self.usable()?;
        let (shared, id) = (Arc::clone(&self.shared), self.id);
        let unseen = shared.cancel(id);
        let returned = blocking(move || {
            for (token, name) in unseen {
                let Shared { folders, owner, .. } = &*shared;
                folders::rename(&folders.owned(owner).join(&name), &folders.inward.join(&name))?;
                shared.release(id, token);
            }
            Ok(())
        });
        returned.await.map_err(|failure| self.settle_error(failure))
    }
}

impl FilesystemConsumer {
    fn usable(&self) -> Result<(), BrokerError> {
        self.inbox.lost().map_or(Ok(()), |reason| Err(BrokerError::Lost { reason }))
    }

    fn delivery(&self, token: u64, envelope: envelope::Envelope) -> Delivery {
        let envelope::Envelope { message, route: Route { exchange, routing_key }, redelivered, .. } = envelope;
        let routing_key = match exchange.is_empty() && routing_key.is_empty() {
            // Of a client that says nothing about it.
            true => self.queue.to_string(),
            false => routing_key,
        };
        let info = DeliveryInfo { queue: self.queue.clone(), exchange, routing_key, redelivered };
        Delivery { message, info, receipt: Receipt::new(Token::Number(token)) }
    }

    /// What is no message can be neither run nor rejected with a reason: it is kept where it is in nobody's way.
    fn set_aside(&self, token: u64, reason: &str) {
        let Some(name) = self.shared.held(self.id, token) else { return };
        let Shared { folders, owner, .. } = &*self.shared;
        aside(folders, &folders.owned(owner).join(&name), &name, reason);
        self.shared.release(self.id, token);
        self.shared.wake();
    }

    fn settle_error(&self, failure: Failure) -> BrokerError {
        failure.into_error(|source, transient| BrokerError::Settle { queue: self.queue.clone(), source, transient })
    }
}

impl Drop for FilesystemConsumer {
    fn drop(&mut self) {
        // The keeper gives back what is held.
        self.shared.leave(self.id);
    }
}

/// Keeps a file that is no message, and says so.
pub(super) fn aside(folders: &folders::Folders, from: &std::path::Path, name: &str, reason: &str) {
    let to = folders.unreadable.join(name);
    match folders::rename(from, &to) {
        Ok(_) => error!("{name} in {} is no message ({reason}): now {}", folders.inward.display(), to.display()),
        Err(failure) => error!(error = %failure, "{name} is no message ({reason}), and stays: {failure}"),
    }
}

fn settle(shared: &Shared, id: u64, queue: &str, receipts: &Receipts) -> Result<(), Failure> {
    let Shared { folders, owner, .. } = shared;
    let folder = folders.owned(owner);
    let mut requeued = false;
    for (receipt, what) in receipts {
        let token = number(receipt);
        // One that is not held any more is settled.
        let Some(name) = shared.held(id, token) else { continue };
        let taken = folder.join(&name);
        match what {
            Acknowledgement::Ack | Acknowledgement::Reject => file::dispose(folders, &taken, &name)?,
            Acknowledgement::Requeue => {
                // At the end of the line, as in kombu; under the queue that it was taken from.
                let queue = name::queue(&name).unwrap_or(queue);
                requeued |= file::put_marked(folders, &taken, &name::new(queue))?;
            }
        }
        shared.release(id, token);
    }
    if requeued {
        shared.look_again();
        folders::sync(&folders.inward)?;
    }
    // Others took us for dead, and our folder with it.
    if folder.exists() { folders::sync(&folder) } else { Ok(()) }
}

/// Says how many were moved, and what stopped it.
fn put_back(shared: &Shared, id: u64, waiting: &[(u64, u64)]) -> (usize, Result<(), Failure>) {
    let Shared { folders, owner, .. } = shared;
    let folder = folders.owned(owner);
    for (done, (token, due_ms)) in waiting.iter().enumerate() {
        let Some(name) = shared.held(id, *token) else { continue };
        if let Err(failure) = folders::rename(&folder.join(&name), &folders.later.join(name::waiting(*due_ms, &name))) {
            return (done, Err(failure));
        }
        shared.release(id, *token);
        shared.note_due(*due_ms);
    }
    (waiting.len(), folders::sync(&folders.later))
}

/// What a receipt is for: all of ours are numbers.
fn number(receipt: &Receipt) -> u64 {
    receipt.number().unwrap_or(0)
}

/// Milliseconds since the epoch, rounded up: never early.
fn due_ms(until: Timestamp) -> u64 {
    u64::try_from(until.as_micros()).unwrap_or(0).div_ceil(1000)
}
