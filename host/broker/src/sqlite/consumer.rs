//! A consumer: takes rows from its inbox and makes messages of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use taskhost_core::QueueName;

use super::writer::{Work, Writer};
use crate::port::{BrokerError, Consumer, Delivery, PutBack, PutBackFailed, Receipt, Receipts, Token};
use crate::sqlalchemy::{Claimed, End, Inbox, ceil_ms, row, set_aside};

pub(super) struct SqliteConsumer {
    pub(super) id: u64,
    pub(super) queue: QueueName,
    pub(super) owner: Arc<str>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) writer: Arc<Writer>,
    pub(super) unbounded: AtomicBool,
}

#[async_trait]
impl Consumer for SqliteConsumer {
    async fn next(&self) -> Result<Option<Vec<Delivery>>, BrokerError> {
        loop {
            let rows = match self.inbox.take().await {
                Ok(rows) => rows,
                Err(End::Cancelled) => return Ok(None),
                Err(End::Lost(reason)) => return Err(BrokerError::Lost { reason }),
            };
            if self.unbounded.load(Ordering::Relaxed) {
                self.writer.post(Work::LookAgain);
            }
            let deliveries: Vec<_> = rows.into_iter().filter_map(|row| self.deliver(row)).collect();
            if !deliveries.is_empty() {
                return Ok(Some(deliveries));
            }
        }
    }

    async fn settle(&self, receipts: Receipts) -> Result<(), BrokerError> {
        if let Some(End::Lost(reason)) = self.inbox.ended() {
            return Err(BrokerError::Lost { reason });
        }
        let receipts: Vec<_> = receipts.iter().filter_map(|(receipt, what)| Some((row(receipt)?, *what))).collect();
        if receipts.is_empty() {
            return Ok(());
        }
        self.ask(Work::Settle { consumer: self.id, owner: Arc::clone(&self.owner), receipts }).await
    }

    /// In place: the row waits where it is, and keeps what it knows of earlier deliveries.
    async fn put_back(&self, deliveries: Vec<PutBack>) -> Result<(), PutBackFailed> {
        if let Some(End::Lost(reason)) = self.inbox.ended() {
            return Err(PutBackFailed { error: BrokerError::Lost { reason }, deliveries });
        }
        let rows = deliveries.iter().filter_map(|it| Some((row(&it.receipt)?, ceil_ms(it.until)))).collect();
        match self.ask(Work::PutBack { consumer: self.id, owner: Arc::clone(&self.owner), rows }).await {
            Ok(()) => Ok(()),
            Err(error) => Err(PutBackFailed { error, deliveries }),
        }
    }

    async fn set_prefetch(&self, prefetch: u32) -> Result<(), BrokerError> {
        self.unbounded.store(prefetch == 0, Ordering::Relaxed);
        self.ask(Work::SetPrefetch { consumer: self.id, prefetch }).await
    }

    async fn cancel(&self) -> Result<(), BrokerError> {
        self.ask(Work::Cancel { consumer: self.id }).await
    }
}

impl SqliteConsumer {
    async fn ask(&self, work: Work) -> Result<(), BrokerError> {
        self.writer.ask(work).await.map(drop).map_err(|failure| {
            failure.into_error(|failure| {
                let transient = failure.is_transient();
                BrokerError::Settle { queue: self.queue.clone(), source: failure.into(), transient }
            })
        })
    }

    /// A payload that is no message can be neither run nor rejected with a reason: it stays in its table,
    /// out of everybody's way.
    fn deliver(&self, row: Claimed) -> Option<Delivery> {
        let id = row.id;
        match row.read(&self.queue) {
            Ok((message, info)) => {
                // Row ids are positive.
                Some(Delivery { message, info, receipt: Receipt::new(Token::Number(id as u64)) })
            }
            Err(reason) => {
                set_aside(&self.queue, id, &reason);
                self.writer.post(Work::SetAside { consumer: self.id, row: id });
                None
            }
        }
    }
}

impl Drop for SqliteConsumer {
    fn drop(&mut self) {
        // The writer sees that the inbox is gone and gives back what was held.
        self.inbox = Arc::default();
        self.writer.post(Work::LookAgain);
    }
}
