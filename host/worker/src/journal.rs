//! The worker's journal in the place of a broker: messages whose broker was told that they are done with,
//! before they were.
//!
//! Which ones is decided by the dispatcher; where they lie, by the worker's state. An entry is settled like
//! any delivery, by its receipt.

use std::sync::Arc;

use async_trait::async_trait;
use broker::{Acknowledgement, BrokerError, Consumer, Delivery, PutBack, PutBackFailed, Receipt, Token};
use store::state::{JournalEntry, JournalId, NodeState};
use taskhost_core::dispatcher::{Input, Kept};
use taskhost_core::message::DELIVERY_COUNT_HEADER;
use taskhost_core::protocol::auth::{self, Seal};
use taskhost_core::{Codec, DecodeError, DeliveryId, HeaderValue, Publication, Request, Route};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::commit::chain;
use crate::connection::{Connection, Side};
use crate::receipts::{Held, Receipts};

/// Settles entries of the journal.
pub(crate) struct Journal {
    state: Arc<dyn NodeState>,
    connection: Arc<Connection>,
}

/// A message of an earlier process, with the receipt for it.
pub(crate) type Resumed = (Result<Box<Request>, DecodeError>, Receipt);

impl Journal {
    pub(crate) fn new(state: Arc<dyn NodeState>, connection: Arc<Connection>) -> Self {
        Self { state, connection }
    }

    /// What an earlier process of this worker left there, as deliveries that come again.
    pub(crate) async fn resume(&self, codec: &Codec) -> Result<Vec<Resumed>, store::state::StateError> {
        let entries = self.state.resume_journal().await?;
        if !entries.is_empty() {
            info!("resuming {} task(s) that ran when this worker ended", entries.len());
        }
        let resumed = entries.into_iter().map(|(JournalId(id), entry)| {
            let JournalEntry { mut message, mut info, resumed } = entry;
            info.redelivered = true;
            let deliveries = message.headers.delivery_count().saturating_add(resumed);
            message.headers.set(DELIVERY_COUNT_HEADER, HeaderValue::Int(deliveries.into()));
            (Request::decode(message, info, codec).map(Box::new), Receipt::new(Token::Number(id)))
        });
        Ok(resumed.collect())
    }

    /// Back to its queue, one delivery older.
    async fn give_back(&self, id: u64) -> Result<(), String> {
        let read = self.state.read_journal(JournalId(id)).await.map_err(|error| chain(&error))?;
        let Some(JournalEntry { mut message, info, resumed }) = read else { return Ok(()) };
        let deliveries = message.headers.delivery_count().saturating_add(resumed).saturating_add(1);
        message.headers.set(DELIVERY_COUNT_HEADER, HeaderValue::Int(deliveries.into()));
        let publication = Publication { message, route: Route::queue(&info.queue) };
        self.connection.publish(&[publication], Side::Source).await.map_err(|error| chain(&error))
    }
}

/// Writes these into the journal, then acknowledges them at the broker, and answers for each.
pub(crate) async fn write(
    entries: Vec<(DeliveryId, Kept)>,
    journal: Arc<Journal>,
    receipts: Arc<Receipts>,
    inputs: mpsc::Sender<Input>,
    seal: Option<Arc<dyn Seal>>,
) {
    let mut sealed = Vec::with_capacity(entries.len());
    for (delivery, Kept { mut message, info }) in entries {
        // What is read from the journal is believed as little as what the broker brings.
        match auth::seal(&mut message, seal.as_deref()) {
            Ok(()) => sealed.push((delivery, Kept { message, info })),
            Err(error) => {
                warn!("cannot keep a long task out of the broker's sight: {}", chain(&error));
                let _ = inputs.send(Input::Journaled(delivery, false)).await;
            }
        }
    }
    let entries = sealed;
    let names: Vec<String> = entries.iter().map(|(_, kept)| name(kept)).collect();
    let (deliveries, entries): (Vec<DeliveryId>, Vec<JournalEntry>) = entries
        .into_iter()
        .map(|(delivery, Kept { message, info })| (delivery, JournalEntry { message, info, resumed: 0 }))
        .unzip();
    let ids = match journal.state.write_journal(entries).await {
        Ok(ids) => ids,
        Err(error) => {
            warn!("cannot keep long tasks out of the broker's sight: cannot {}", chain(&error));
            for delivery in deliveries {
                // The driver is gone only after it has heard this.
                let _ = inputs.send(Input::Journaled(delivery, false)).await;
            }
            return;
        }
    };
    let consumer: Arc<dyn Consumer> = journal;
    for ((delivery, name), JournalId(id)) in deliveries.into_iter().zip(names).zip(ids) {
        let held = Held { receipt: Receipt::new(Token::Number(id)), consumer: consumer.clone() };
        if let Some(Held { receipt, consumer }) = receipts.journal(delivery, held)
            && let Err(error) = consumer.settle(vec![(receipt, Acknowledgement::Ack)]).await
        {
            // The broker delivers it again, and that is recognised.
            warn!("cannot acknowledge a long task: {}", chain(&error));
        }
        info!("a task that runs for longer than the broker waits is kept in the state file until it ends: {name}");
        let _ = inputs.send(Input::Journaled(delivery, true)).await;
    }
}

/// The task and its id, as they are shown.
fn name(kept: &Kept) -> String {
    let text = |key| match kept.message.headers.get(key) {
        Some(HeaderValue::Text(text)) => text.as_str(),
        _ => "?",
    };
    format!("{}[{}]", text("task"), text("id"))
}

#[async_trait]
impl Consumer for Journal {
    /// Nothing comes but what [`Journal::resume`] found.
    async fn next(&self) -> Result<Option<Vec<Delivery>>, BrokerError> {
        Ok(None)
    }

    async fn settle(&self, receipts: broker::Receipts) -> Result<(), BrokerError> {
        let mut done = Vec::with_capacity(receipts.len());
        for (receipt, acknowledgement) in &receipts {
            let Token::Number(id) = *receipt.token() else { continue };
            if *acknowledgement == Acknowledgement::Requeue
                && let Err(reason) = self.give_back(id).await
            {
                warn!("cannot give a task back, this worker resumes it when it starts again: cannot {reason}");
                continue;
            }
            done.push(JournalId(id));
        }
        if let Err(error) = self.state.delete_journal(done).await {
            warn!("this worker will resume tasks that are done when it starts again: cannot {}", chain(&error));
        }
        Ok(())
    }

    /// The broker has nothing that could be put back: it was acknowledged there.
    async fn put_back(&self, deliveries: Vec<PutBack>) -> Result<(), PutBackFailed> {
        let error = BrokerError::Lost { reason: "the message is in the journal of this worker".to_owned() };
        Err(PutBackFailed { error, deliveries })
    }

    async fn set_prefetch(&self, _prefetch: u32) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn cancel(&self) -> Result<(), BrokerError> {
        Ok(())
    }
}
