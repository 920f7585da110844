//! A consumer: hands out what was taken for it, and settles.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::failure::Failure;
use super::give_back::Manner;
use super::intake::Intake;
use super::link::{DELAYED, Link};
use super::script;
use crate::port::{Acknowledgement, BrokerError, Consumer, Delivery, PutBack, PutBackFailed, Receipts};

/// Most messages that are settled in one command.
const SETTLE_MAX: usize = 1000;

pub(super) struct RedisConsumer {
    pub(super) link: Arc<Link>,
    pub(super) intake: Arc<Intake>,
}

#[async_trait]
impl Consumer for RedisConsumer {
    async fn next(&self) -> Result<Option<Vec<Delivery>>, BrokerError> {
        self.intake.shelf.take().await
    }

    async fn settle(&self, receipts: Receipts) -> Result<(), BrokerError> {
        self.intake.shelf.usable()?;
        let is_requeue = |what: &Acknowledgement| *what == Acknowledgement::Requeue;
        let numbers = |requeue: bool| {
            let meant = receipts.iter().filter(|(_, what)| is_requeue(what) == requeue);
            self.intake.shelf.held(meant.filter_map(|(receipt, _)| receipt.number()))
        };
        let (done, requeued) = (numbers(false), numbers(true));
        self.remove(&done).await.map_err(|failure| self.settle_error(failure))?;
        self.requeue(&requeued).await.map_err(|failure| self.settle_error(failure))
    }

    /// The messages stay in `unacked` under a tag that belongs to nobody, scored so that any worker's
    /// sweep, ours or kombu's, brings them back to their queue when they are due.
    async fn put_back(&self, deliveries: Vec<PutBack>) -> Result<(), PutBackFailed> {
        if let Err(error) = self.intake.shelf.usable() {
            return Err(PutBackFailed { error, deliveries });
        }
        match self.delay(&deliveries).await {
            Ok(()) => Ok(()),
            Err(failure) => Err(PutBackFailed { error: self.settle_error(failure), deliveries }),
        }
    }

    async fn set_prefetch(&self, prefetch: u32) -> Result<(), BrokerError> {
        self.intake.shelf.usable()?;
        self.intake.shelf.set_prefetch(prefetch);
        Ok(())
    }

    async fn cancel(&self) -> Result<(), BrokerError> {
        self.intake.shelf.usable()?;
        for channels in self.intake.channels.iter().flatten() {
            let mut command = redis::cmd("PUNSUBSCRIBE");
            self.link.connection.run(command.arg(channels)).await.map_err(|failure| self.settle_error(failure))?;
        }
        self.intake.shelf.cancel().await
    }
}

impl RedisConsumer {
    /// Takes these from `unacked`.
    async fn remove(&self, numbers: &[u64]) -> Result<(), Failure> {
        let layout = &self.link.layout;
        for numbers in numbers.chunks(SETTLE_MAX) {
            // Kombu makes a transaction of it. An entry of the index without a message does no harm, and
            // this order leaves nothing else behind.
            let mut messages = redis::cmd("HDEL");
            let mut scores = redis::cmd("ZREM");
            messages.arg(&layout.unacked);
            scores.arg(&layout.index);
            for number in numbers {
                let tag = self.link.tag(*number);
                messages.arg(&tag);
                scores.arg(tag);
            }
            let mut commands = redis::Pipeline::with_capacity(2);
            commands.add_command(messages).ignore().add_command(scores).ignore();
            self.link.connection.run_all(&commands).await?;
            self.intake.shelf.release(numbers.iter().copied());
        }
        Ok(())
    }

    async fn requeue(&self, numbers: &[u64]) -> Result<(), Failure> {
        if numbers.is_empty() {
            return Ok(());
        }
        let tags: Vec<String> = numbers.iter().map(|number| self.link.tag(*number)).collect();
        self.link.give_back(&tags, Manner::Requeued, None).await?;
        self.intake.shelf.release(numbers.iter().copied());
        Ok(())
    }

    async fn delay(&self, deliveries: &[PutBack]) -> Result<(), Failure> {
        let Link { layout, options, .. } = &*self.link;
        let timeout_s = options.visibility_timeout.as_secs_f64();
        for deliveries in deliveries.chunks(SETTLE_MAX) {
            let mut call = script::call(&script::PUT_BACK, &[&layout.unacked, &layout.index]);
            let numbers = self.intake.shelf.held(deliveries.iter().filter_map(|it| it.receipt.number()));
            let mut held = numbers.iter().peekable();
            for PutBack { receipt, until, .. } in deliveries {
                // `numbers` has them in the same order, without those that are settled.
                let Some(number) = held.next_if(|held| Some(**held) == receipt.number()) else { continue };
                let score = until.as_micros() as f64 / 1e6 - timeout_s;
                call.arg(self.link.tag(*number)).arg(format!("{DELAYED}{}", Uuid::new_v4().simple()));
                call.arg(format!("{score:.6}"));
            }
            self.link.connection.call::<redis::Value>(&script::PUT_BACK, &call).await?;
            self.intake.shelf.release(numbers);
        }
        self.link.due.notify_one();
        Ok(())
    }

    fn settle_error(&self, failure: Failure) -> BrokerError {
        self.link.note(failure).into_error(|source, transient| BrokerError::Settle {
            queue: self.intake.queue.clone(),
            source,
            transient,
        })
    }
}

impl Drop for RedisConsumer {
    fn drop(&mut self) {
        // The taking task gives back what is held.
        self.intake.shelf.end();
    }
}
