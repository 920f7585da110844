//! A consumer: takes rows from its inbox and makes messages of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::Shared;
use super::failure::Failure;
use super::hold::Hold;
use crate::port::{BrokerError, Consumer, Delivery, PutBack, PutBackFailed, Receipt, Receipts, Token};
use crate::sqlalchemy::{Claimed, End, ceil_ms, row, set_aside};

pub(super) struct PostgresConsumer {
    shared: Arc<Shared>,
    hold: Arc<Hold>,
    /// None once it was waited for.
    pump: Mutex<Option<JoinHandle<()>>>,
}

impl PostgresConsumer {
    pub(super) fn start(shared: Arc<Shared>, hold: Arc<Hold>) -> Self {
        let pump = {
            let (database, hold) = (Arc::clone(&shared.database), Arc::clone(&hold));
            tokio::spawn(async move { hold.pump(&database).await })
        };
        Self { shared, hold, pump: Mutex::new(Some(pump)) }
    }

    fn check(&self) -> Result<(), BrokerError> {
        match self.hold.inbox.ended() {
            Some(End::Lost(reason)) => Err(BrokerError::Lost { reason }),
            _ => Ok(()),
        }
    }

    fn error(&self, failure: Failure) -> BrokerError {
        failure.into_error(|failure| BrokerError::Settle {
            queue: self.hold.queue.clone(),
            transient: failure.is_transient(),
            source: failure.into(),
        })
    }

    /// A payload that is no message can be neither run nor rejected with a reason: it stays in its table, out of
    /// everybody's way.
    async fn deliver(&self, claimed: Claimed) -> Option<Delivery> {
        let id = claimed.id;
        match claimed.read(&self.hold.queue) {
            // Row ids are positive.
            Ok((message, info)) => {
                Some(Delivery { message, info, receipt: Receipt::new(Token::Number(id.cast_unsigned())) })
            }
            Err(reason) => {
                set_aside(&self.hold.queue, id, &reason);
                let (id, database) = (i32::try_from(id).ok()?, &self.shared.database);
                // If it fails, its lease expires, and it is found again.
                let _ = on_connection!(database, client => database.statements.set_aside(client, id));
                self.hold.let_go(std::iter::once(id));
                None
            }
        }
    }
}

fn id(receipt: &Receipt) -> Option<i32> {
    row(receipt).and_then(|id| i32::try_from(id).ok())
}

#[async_trait]
impl Consumer for PostgresConsumer {
    async fn next(&self) -> Result<Option<Vec<Delivery>>, BrokerError> {
        loop {
            let rows = match self.hold.inbox.take().await {
                Ok(rows) => rows,
                Err(End::Cancelled) => return Ok(None),
                Err(End::Lost(reason)) => return Err(BrokerError::Lost { reason }),
            };
            // Without a prefetch there is room now.
            self.hold.wake();
            let mut deliveries = Vec::with_capacity(rows.len());
            for row in rows {
                deliveries.extend(self.deliver(row).await);
            }
            if !deliveries.is_empty() {
                return Ok(Some(deliveries));
            }
        }
    }

    async fn settle(&self, receipts: Receipts) -> Result<(), BrokerError> {
        self.check()?;
        let receipts: Vec<_> = receipts.iter().filter_map(|(receipt, what)| Some((id(receipt)?, *what))).collect();
        if receipts.is_empty() {
            return Ok(());
        }
        let database = &self.shared.database;
        let settled =
            on_connection!(database, client => database.statements.settle(client, &self.hold.owner, &receipts));
        if let Err(failure) = settled {
            // The receipts are spent. With this consumer ends what it holds, and is delivered again.
            self.hold.end(&failure);
            return Err(self.error(failure));
        }
        self.hold.let_go(receipts.into_iter().map(|(id, _)| id));
        Ok(())
    }

    /// In place: the row waits where it is, and keeps what it knows of earlier deliveries.
    async fn put_back(&self, deliveries: Vec<PutBack>) -> Result<(), PutBackFailed> {
        if let Err(error) = self.check() {
            return Err(PutBackFailed { error, deliveries });
        }
        let rows: Vec<_> = deliveries.iter().filter_map(|it| Some((id(&it.receipt)?, ceil_ms(it.until)))).collect();
        let database = &self.shared.database;
        let put = on_connection!(database, client => database.statements.put_back(client, &self.hold.owner, &rows));
        if let Err(failure) = put {
            return Err(PutBackFailed { error: self.error(failure), deliveries });
        }
        self.hold.let_go(rows.into_iter().map(|(id, _)| id));
        Ok(())
    }

    async fn set_prefetch(&self, prefetch: u32) -> Result<(), BrokerError> {
        self.check()?;
        self.hold.set_prefetch(prefetch);
        Ok(())
    }

    async fn cancel(&self) -> Result<(), BrokerError> {
        self.check()?;
        self.hold.cancelled.store(true, Ordering::Relaxed);
        self.hold.wake();
        // What it holds of a claim that is under way goes back as well. Its waits have deadlines.
        if let Some(pump) = self.pump.lock().await.take() {
            let _ = pump.await;
        }
        Ok(())
    }
}

impl Drop for PostgresConsumer {
    fn drop(&mut self) {
        self.hold.cancelled.store(true, Ordering::Relaxed);
        self.hold.wake();
        let pump = self.pump.get_mut().take();
        let (shared, hold) = (Arc::clone(&self.shared), Arc::clone(&self.hold));
        // Outside of a runtime nobody is left who could; then the leases expire.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Some(pump) = pump {
                    let _ = pump.await;
                }
                hold.give_back(&shared.database).await;
            });
        }
    }
}
