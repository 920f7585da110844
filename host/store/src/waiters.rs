//! Who in this process waits for which result.
//!
//! Only for puts of this process; what others write is noticed by the adapter in its own way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taskhost_core::TaskId;
use tokio::sync::Notify;

/// The waiters of one store.
#[derive(Default)]
pub(crate) struct Waiters {
    waiting: Mutex<HashMap<TaskId, Waited>>,
}

#[derive(Default)]
struct Waited {
    notify: Arc<Notify>,
    waiters: usize,
}

impl Waiters {
    /// Waits for `id` from now on, until the guard is dropped.
    pub(crate) fn register(&self, id: &TaskId) -> Waiter<'_> {
        let mut waiting = self.lock();
        let waited = waiting.entry(id.clone()).or_default();
        waited.waiters += 1;
        Waiter { waiters: self, id: id.clone(), notify: Arc::clone(&waited.notify) }
    }

    /// The result of `id` became final.
    pub(crate) fn wake(&self, id: &TaskId) {
        if let Some(waited) = self.lock().get(id) {
            waited.notify.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Waited>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits.
pub(crate) struct Waiter<'a> {
    waiters: &'a Waiters,
    id: TaskId,
    pub(crate) notify: Arc<Notify>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        let Some(waited) = waiting.get_mut(&self.id) else { return };
        waited.waiters -= 1;
        if waited.waiters == 0 {
            waiting.remove(&self.id);
        }
    }
}
