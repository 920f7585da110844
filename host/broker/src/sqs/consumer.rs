//! A consumer: hands out what was taken for it, and settles.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tracing::warn;

use super::batch::{self, Outgoing, Sent};
use super::failure::Failure;
use super::intake::{Held, Intake};
use super::link::Link;
use super::queues::QueueAt;
use super::{delay, text};
use crate::port::{Acknowledgement, BrokerError, Consumer, Delivery, PutBack, PutBackFailed, Receipts};

pub(super) struct SqsConsumer {
    pub(super) link: Arc<Link>,
    pub(super) intake: Arc<Intake>,
    pub(super) queue: Arc<QueueAt>,
}

#[async_trait]
impl Consumer for SqsConsumer {
    async fn next(&self) -> Result<Option<Vec<Delivery>>, BrokerError> {
        self.intake.shelf.take().await
    }

    async fn settle(&self, receipts: Receipts) -> Result<(), BrokerError> {
        self.intake.shelf.usable()?;
        let held = |wanted: Acknowledgement| {
            let meant = receipts.iter().filter(|(_, what)| *what == wanted);
            self.intake.shelf.held(meant.filter_map(|(receipt, _)| receipt.number()))
        };
        let (done, requeued) = (held(Acknowledgement::Ack), held(Acknowledgement::Requeue));
        let (again, refused): (Vec<_>, Vec<_>) =
            held(Acknowledgement::Reject).into_iter().partition(|held| held.again.is_some());
        self.delete(&done).await.map_err(|failure| self.settle_error(failure))?;
        self.refuse(&refused).await.map_err(|failure| self.settle_error(failure))?;
        let later = self.show(&again, |held| held.again.unwrap_or_default()).await;
        later.map_err(|failure| self.settle_error(failure))?;
        self.show(&requeued, |_| Duration::ZERO).await.map_err(|failure| self.settle_error(failure))
    }

    /// As copies with a delay, each sent before its original is deleted. A FIFO queue knows no such delay: there the
    /// original is hidden, with all that stands behind it in its group, as is the way of such queues.
    async fn put_back(&self, deliveries: Vec<PutBack>) -> Result<(), PutBackFailed> {
        if let Err(error) = self.intake.shelf.usable() {
            return Err(PutBackFailed { error, deliveries });
        }
        match self.queue.is_fifo {
            true => self.hide(deliveries).await,
            false => self.delay(deliveries).await,
        }
    }

    async fn set_prefetch(&self, prefetch: u32) -> Result<(), BrokerError> {
        self.intake.shelf.usable()?;
        self.intake.shelf.set_prefetch(prefetch);
        Ok(())
    }

    /// A poll that waits at SQS waits on; what it brings goes back.
    async fn cancel(&self) -> Result<(), BrokerError> {
        self.intake.shelf.usable()?;
        self.intake.shelf.cancel().await
    }
}

impl SqsConsumer {
    async fn delete(&self, held: &[Held]) -> Result<(), Failure> {
        let handles: Vec<&str> = held.iter().map(|held| held.handle.as_str()).collect();
        batch::delete(&self.queue, &handles).await?;
        self.intake.shelf.release(held.iter().map(|held| held.number));
        Ok(())
    }

    /// What is refused goes where the queue's redrive policy says, or nowhere (kombu leaves it in a queue with such a
    /// policy, to be run again until it was received too often, and then comes out in the same place).
    async fn refuse(&self, held: &[Held]) -> Result<(), Failure> {
        if held.is_empty() {
            return Ok(());
        }
        let Some(dead) = self.link.queues.dead_letters(&self.queue).await else { return self.delete(held).await };
        let moved = match self.link.queues.of(&dead, &self.queue).await {
            Ok(target) => batch::send(&target, &held.iter().filter_map(letter).collect::<Vec<_>>()).await,
            Err(failure) => vec![Err(failure)],
        };
        let is_whole = held.iter().all(|held| held.body.is_some());
        match moved.into_iter().collect::<Result<(), Failure>>() {
            Ok(()) if is_whole => self.delete(held).await,
            // SQS moves it itself, when it was received too often.
            moved => {
                if let Err(failure) = moved {
                    warn!(
                        queue.name = %self.intake.queue, error = %failure,
                        "cannot move refused messages to the dead-letter queue, they are left to SQS: {failure}"
                    );
                }
                self.show(held, |_| Duration::ZERO).await
            }
        }
    }

    /// Makes these visible again, each after such a time.
    async fn show(&self, held: &[Held], after: fn(&Held) -> Duration) -> Result<(), Failure> {
        let handles: Vec<_> =
            held.iter().map(|held| (held.handle.as_str(), batch::whole_seconds(after(held)))).collect();
        batch::hide(&self.queue, &handles).await?;
        self.intake.shelf.release(held.iter().map(|held| held.number));
        Ok(())
    }

    async fn delay(&self, deliveries: Vec<PutBack>) -> Result<(), PutBackFailed> {
        let in_base64 = self.link.queues.options().sqs_base64_encoding;
        let mut outgoing = Vec::with_capacity(deliveries.len());
        for PutBack { publication, until, .. } in &deliveries {
            let body = text::encode(&publication.message, &publication.route, in_base64);
            let (delay, due) = delay::until(*until);
            outgoing.push(Outgoing { body, delay, due, group: None });
        }
        let sent = batch::send(&self.queue, &outgoing).await;
        self.after(deliveries, sent, true).await
    }

    async fn hide(&self, deliveries: Vec<PutBack>) -> Result<(), PutBackFailed> {
        let numbers = deliveries.iter().filter_map(|it| it.receipt.number());
        let held = self.intake.shelf.held(numbers);
        let mut handles = Vec::with_capacity(held.len());
        for held in &held {
            let until = deliveries.iter().find(|it| it.receipt.number() == Some(held.number)).map(|it| it.until);
            let left = until.map(delay::left).unwrap_or_default();
            let bound = super::options::VISIBILITY_MAX.saturating_sub(held.since.elapsed());
            handles
                .push((held.handle.as_str(), batch::whole_seconds(left).min(batch::whole_seconds(bound) - 1).max(0)));
        }
        let sent = match batch::hide(&self.queue, &handles).await {
            Ok(_) => deliveries.iter().map(|_| Ok(())).collect(),
            Err(failure) => deliveries.iter().map(|_| Err(failure.clone())).collect(),
        };
        self.after(deliveries, sent, false).await
    }

    /// Lets go of those that are safe, or deletes them, and hands back the others.
    async fn after(&self, deliveries: Vec<PutBack>, sent: Sent, deletes: bool) -> Result<(), PutBackFailed> {
        let (mut safe, mut kept, mut failed) = (Vec::new(), Vec::new(), None);
        for (delivery, sent) in deliveries.into_iter().zip(sent) {
            match sent {
                Ok(()) => safe.extend(delivery.receipt.number()),
                Err(failure) => {
                    kept.push(delivery);
                    failed = Some(failure);
                }
            }
        }
        // Those whose copy is safe are not to be kept, even if the original cannot be deleted: it will come again
        // when its lease is over, and the copy says that there may be two of them.
        let held = self.intake.shelf.held(safe);
        let settled = if deletes { self.delete(&held).await } else { Ok(()) };
        self.intake.shelf.release(held.iter().map(|held| held.number));
        match failed.or(settled.err()) {
            Some(failure) => Err(PutBackFailed { error: self.settle_error(failure), deliveries: kept }),
            None => Ok(()),
        }
    }

    fn settle_error(&self, failure: Failure) -> BrokerError {
        // A receipt is spent by trying. Without an answer nobody knows what we still hold.
        if failure.transient {
            self.link.lose(&failure.to_string());
            return BrokerError::Lost { reason: failure.to_string() };
        }
        failure.into_error(|source, transient| BrokerError::Settle {
            queue: self.intake.queue.clone(),
            source,
            transient,
        })
    }
}

/// A refused message, for its dead-letter queue.
fn letter(held: &Held) -> Option<Outgoing> {
    let body = held.body.clone()?;
    Some(Outgoing { body, delay: Duration::ZERO, due: None, group: held.group.clone() })
}

impl Drop for SqsConsumer {
    fn drop(&mut self) {
        // The taking task gives back what is held.
        self.intake.shelf.end();
    }
}
