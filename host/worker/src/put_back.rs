//! Gives deliveries back to the broker until their time has come.
//!
//! Which ones is decided by the dispatcher; how, by the broker's adapter.

use std::collections::HashMap;
use std::sync::Arc;

use broker::{Consumer, PutBack, PutBackFailed, Token};
use taskhost_core::dispatcher::Input;
use taskhost_core::protocol::auth::Seal;
use taskhost_core::{DeliveryId, Publication, Timestamp};
use tokio::sync::mpsc;
use tracing::warn;

use crate::commit::chain;
use crate::publish::sealed;
use crate::receipts::{Held, Receipts};

/// One delivery that is to wait at the broker.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) delivery: DeliveryId,
    pub(crate) publication: Publication,
    pub(crate) until: Timestamp,
}

/// Puts these back, and answers for each. One whose receipt is void needs no answer: the dispatcher has
/// heard that the broker is lost, and forgotten it.
pub(crate) async fn run(
    waits: Vec<Wait>,
    receipts: Arc<Receipts>,
    inputs: mpsc::Sender<Input>,
    seal: Option<Arc<dyn Seal>>,
) {
    let mut ready = Vec::with_capacity(waits.len());
    for Wait { delivery, publication, until } in waits {
        match sealed(publication, seal.as_deref()) {
            Ok(publication) => ready.push(Wait { delivery, publication, until }),
            Err(error) => {
                warn!("cannot give a task back until its time has come, holding it here: {}", chain(&error));
                let _ = inputs.send(Input::PutBack(delivery, false)).await;
            }
        }
    }
    let wanted = ready.into_iter().map(|wait| (wait.delivery, wait));
    let mut by_consumer: Vec<(Arc<dyn Consumer>, Vec<PutBack>)> = Vec::new();
    let mut deliveries: HashMap<Token, DeliveryId> = HashMap::new();
    for (held, Wait { delivery, publication, until }) in receipts.take(wanted) {
        deliveries.insert(held.receipt.token().clone(), delivery);
        let entry = PutBack { receipt: held.receipt, publication, until };
        match by_consumer.iter_mut().find(|(consumer, _)| Arc::ptr_eq(consumer, &held.consumer)) {
            Some((_, entries)) => entries.push(entry),
            None => by_consumer.push((held.consumer, vec![entry])),
        }
    }
    for (consumer, entries) in by_consumer {
        let ours: Vec<DeliveryId> =
            entries.iter().filter_map(|entry| deliveries.get(entry.receipt.token()).copied()).collect();
        let mut kept = Vec::new();
        if let Err(PutBackFailed { error, deliveries: returned }) = consumer.put_back(entries).await {
            warn!("cannot give tasks back until their time has come, holding them here: {}", chain(&error));
            for PutBack { receipt, .. } in returned {
                if let Some(&delivery) = deliveries.get(receipt.token()) {
                    kept.push((delivery, Held { receipt, consumer: consumer.clone() }));
                }
            }
        }
        let still: Vec<DeliveryId> = kept.iter().map(|(delivery, _)| *delivery).collect();
        receipts.insert(kept.into_iter());
        for delivery in ours {
            // The driver is gone only after it has no deliveries left.
            let _ = inputs.send(Input::PutBack(delivery, !still.contains(&delivery))).await;
        }
    }
}
