//! Results in this process's memory: for tests and for running a plugin without servers.
//!
//! Nothing expires by time; the oldest results make room for new ones.

mod chords;

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::chord::{ChordPart, ChordStyle, Progress};
use taskhost_core::protocol::document;
use taskhost_core::{Json, ResultRecord, State, StoredResult, TaskId};

use crate::cause::Cause;
use crate::port::{ResultStore, StoreError};
use crate::waiters::Waiters;
use chords::Chords;

/// How many results are kept. A process that keeps results for itself alone has few of them.
const RESULTS_MAX: usize = 100_000;

/// Keeps results until the process ends.
#[derive(Default)]
pub struct MemoryStore {
    results: Mutex<Results>,
    chords: Mutex<Chords>,
    waiters: Waiters,
}

#[derive(Default)]
struct Results {
    by_id: HashMap<TaskId, StoredResult>,
    /// The ids in the order in which they were first seen; those of forgotten results stay in it.
    order: VecDeque<TaskId>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_chords(&self) -> MutexGuard<'_, Chords> {
        self.chords.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As if nobody had done anything since the claim.
    #[cfg(test)]
    pub(crate) fn let_claim_run_out(&self, group: &str) {
        self.lock_chords().let_claim_run_out(group);
    }

    fn is_final(&self, id: &TaskId) -> bool {
        self.lock().by_id.get(id).is_some_and(|stored| stored.state.is_ready())
    }

    fn put_one(&self, record: &ResultRecord) -> Result<(), StoreError> {
        // Through the document, so that what is read is what a client of a real store would read.
        let stored = document::decode(document::encode(record).as_bytes())
            .map_err(|error| Cause::permanent(error).operation("store", &record.id))?;
        self.lock().put(&record.id, stored);
        if record.state.is_ready() {
            self.waiters.wake(&record.id);
        }
        Ok(())
    }
}

impl Results {
    fn put(&mut self, id: &TaskId, stored: StoredResult) {
        match self.by_id.get_mut(id) {
            Some(old) if old.state == State::Success => {}
            Some(old) => *old = stored,
            None => {
                self.by_id.insert(id.clone(), stored);
                self.order.push_back(id.clone());
            }
        }
        if self.order.len() > RESULTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }
}

#[async_trait]
impl ResultStore for MemoryStore {
    async fn put(&self, records: &[ResultRecord]) -> Vec<Result<(), StoreError>> {
        records.iter().map(|record| self.put_one(record)).collect()
    }

    async fn get(&self, id: &TaskId) -> Result<Option<StoredResult>, StoreError> {
        Ok(self.lock().by_id.get(id).cloned())
    }

    async fn forget(&self, id: &TaskId) -> Result<(), StoreError> {
        self.lock().by_id.remove(id);
        Ok(())
    }

    async fn changed(&self, id: &TaskId, within: Duration) {
        let waiter = self.waiters.register(id);
        let mut woken = std::pin::pin!(waiter.notify.notified());
        woken.as_mut().enable();
        if self.is_final(id) {
            return;
        }
        // An error means that the time is up, which is an answer like the other.
        let _ = tokio::time::timeout(within, woken).await;
    }

    fn chords(&self) -> ChordStyle {
        ChordStyle::Native
    }

    async fn set_chord_size(&self, group: &str, size: u64, again: bool) -> Result<(), StoreError> {
        self.lock_chords().set_size(group, size, again);
        Ok(())
    }

    async fn extend_chord(&self, group: &str, member: &TaskId) -> Result<(), StoreError> {
        self.lock_chords().extend(group, member);
        Ok(())
    }

    async fn count_chord_parts(&self, parts: &[ChordPart]) -> Vec<Result<Progress, StoreError>> {
        let mut chords = self.lock_chords();
        parts.iter().map(|part| Ok(chords.count(part))).collect()
    }

    async fn extend_claim(&self, group: &str, token: &str) -> Result<bool, StoreError> {
        Ok(self.lock_chords().extend_claim(group, token))
    }

    async fn finish_chord(&self, group: &str, token: &str) -> Result<bool, StoreError> {
        Ok(self.lock_chords().finish(group, token))
    }

    async fn fail_chord(&self, group: &str) -> Result<(), StoreError> {
        self.lock_chords().fail(group);
        Ok(())
    }

    async fn save_group(&self, group: &str, result: &Json) -> Result<(), StoreError> {
        self.lock_chords().save(group, result);
        Ok(())
    }

    async fn group(&self, group: &str) -> Result<Option<Json>, StoreError> {
        Ok(self.lock_chords().result(group))
    }

    fn is_durable(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn the_memory_store_conforms() {
        conformance::run(Arc::new(MemoryStore::new())).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_runs_out_is_free() {
        use crate::conformance::chords::{claimed, count, part, size};
        let (store, group) = (MemoryStore::new(), "g");
        size(&store, group, 2).await;
        let parts = ["a", "b"].map(|id| part(group, &conformance::fresh(id), 0, "1"));
        count(&store, &parts[0]).await;
        let first = claimed(count(&store, &parts[1]).await);
        let Progress::Held(left) = count(&store, &parts[0]).await else { panic!("nobody holds the claim") };
        tokio::time::advance(left).await;
        let second = claimed(count(&store, &parts[0]).await);
        assert_eq!(second.parts, first.parts);
        assert!(!store.finish_chord(group, &first.token).await.unwrap());
        assert!(store.finish_chord(group, &second.token).await.unwrap());
    }
}
