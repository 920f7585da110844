//! The receipts of all unsettled deliveries, each with the consumer that must be given it back.
//!
//! Shared by the driver, which gets them, and the committer, which spends them: a lock that is taken
//! once a batch.

use std::sync::{Arc, Mutex};

use broker::{Consumer, Receipt};
use rustc_hash::FxHashMap;
use taskhost_core::DeliveryId;

/// A receipt and where it is to be spent.
pub(crate) struct Held {
    pub(crate) receipt: Receipt,
    pub(crate) consumer: Arc<dyn Consumer>,
}

/// Receipts by delivery.
#[derive(Default)]
pub(crate) struct Receipts(Mutex<FxHashMap<DeliveryId, Held>>);

impl Receipts {
    fn map(&self) -> std::sync::MutexGuard<'_, FxHashMap<DeliveryId, Held>> {
        self.0.lock().expect("nobody panics while holding this lock")
    }

    pub(crate) fn insert(&self, received: impl Iterator<Item = (DeliveryId, Held)>) {
        self.map().extend(received);
    }

    /// The receipt of `redelivered` becomes that of `known`.
    pub(crate) fn adopt(&self, known: DeliveryId, redelivered: DeliveryId) {
        let mut map = self.map();
        if let Some(held) = map.remove(&redelivered) {
            map.insert(known, held);
        }
    }

    /// Takes these out. Those that are void or spent are left out of the answer.
    pub(crate) fn take<A>(&self, wanted: impl Iterator<Item = (DeliveryId, A)>) -> Vec<(Held, A)> {
        let mut map = self.map();
        wanted.filter_map(|(delivery, with)| map.remove(&delivery).map(|held| (held, with))).collect()
    }

    /// Forgets all: the connection that they came by is gone.
    pub(crate) fn void(&self) {
        self.map().clear();
    }
}
