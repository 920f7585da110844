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
pub(crate) struct Receipts(Mutex<Maps>);

#[derive(Default)]
struct Maps {
    /// Of the broker.
    broker: FxHashMap<DeliveryId, Held>,
    /// Of the journal: they are good whatever becomes of the connection.
    journal: FxHashMap<DeliveryId, Held>,
}

impl Receipts {
    fn maps(&self) -> std::sync::MutexGuard<'_, Maps> {
        self.0.lock().expect("nobody panics while holding this lock")
    }

    pub(crate) fn insert(&self, received: impl Iterator<Item = (DeliveryId, Held)>) {
        self.maps().broker.extend(received);
    }

    /// The journal has this message now. Gives back the broker's receipt, if that is not void or spent.
    pub(crate) fn journal(&self, delivery: DeliveryId, held: Held) -> Option<Held> {
        let mut maps = self.maps();
        maps.journal.insert(delivery, held);
        maps.broker.remove(&delivery)
    }

    /// The receipt of `redelivered` becomes that of `known`. False if `known` needs none, since it is in the
    /// journal meanwhile.
    pub(crate) fn adopt(&self, known: DeliveryId, redelivered: DeliveryId) -> bool {
        let mut maps = self.maps();
        if maps.journal.contains_key(&known) {
            return false;
        }
        if let Some(held) = maps.broker.remove(&redelivered) {
            maps.broker.insert(known, held);
        }
        true
    }

    /// Takes these out. Those that are void or spent are left out of the answer.
    pub(crate) fn take<A>(&self, wanted: impl Iterator<Item = (DeliveryId, A)>) -> Vec<(Held, A)> {
        let Maps { broker, journal } = &mut *self.maps();
        let mut held = |delivery| broker.remove(&delivery).or_else(|| journal.remove(&delivery));
        wanted.filter_map(|(delivery, with)| held(delivery).map(|held| (held, with))).collect()
    }

    /// Forgets those of the broker: the connection that they came by is gone.
    pub(crate) fn void(&self) {
        self.maps().broker.clear();
    }
}
