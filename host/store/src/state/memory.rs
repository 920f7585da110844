//! A state that ends with its process: for workers that have no file, and for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use taskhost_core::revoke::{IDS_MAX, Revocation, STAMPS_MAX};
use taskhost_core::{TaskName, Timestamp};

use super::{COUNTS_MAX, JournalEntry, JournalId, NodeState, SERVED_MAX, StateError};

/// Keeps everything while this process lives.
#[derive(Default)]
pub struct StateMemory(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    revocations: Vec<(Revocation, Timestamp)>,
    /// By execution, with the number of the latest count.
    counts: BTreeMap<String, (u32, u64)>,
    counted: u64,
    clock: u64,
    served: Vec<TaskName>,
    journal: BTreeMap<JournalId, JournalEntry>,
    written: u64,
}

impl StateMemory {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl NodeState for StateMemory {
    fn is_durable(&self) -> bool {
        false
    }

    async fn revocations(&self) -> Result<Vec<(Revocation, Timestamp)>, StateError> {
        Ok(self.kept().revocations.clone())
    }

    async fn revoke(&self, revocations: Vec<(Revocation, Timestamp)>) -> Result<(), StateError> {
        let mut kept = self.kept();
        for (revocation, at) in revocations {
            kept.revocations.retain(|(other, _)| *other != revocation);
            kept.revocations.push((revocation, at));
        }
        let surplus = kept.revocations.len().saturating_sub(IDS_MAX + STAMPS_MAX);
        kept.revocations.drain(..surplus);
        Ok(())
    }

    async fn unrevoke(&self, revocations: Vec<Revocation>) -> Result<(), StateError> {
        self.kept().revocations.retain(|(known, _)| !revocations.contains(known));
        Ok(())
    }

    async fn clock(&self) -> Result<u64, StateError> {
        Ok(self.kept().clock)
    }

    async fn keep_clock(&self, clock: u64) -> Result<(), StateError> {
        self.kept().clock = clock;
        Ok(())
    }

    async fn count(&self, execution: String, _now: Timestamp) -> Result<u32, StateError> {
        let mut kept = self.kept();
        kept.counted += 1;
        let latest = kept.counted;
        let (count, at) = kept.counts.entry(execution).or_default();
        (*count, *at) = (*count + 1, latest);
        let count = *count;
        let oldest = latest.saturating_sub(COUNTS_MAX.into());
        if kept.counts.len() > COUNTS_MAX as usize {
            kept.counts.retain(|_, (_, at)| *at > oldest);
        }
        Ok(count)
    }

    async fn forget_counts(&self, executions: Vec<String>) -> Result<(), StateError> {
        let mut kept = self.kept();
        executions.iter().for_each(|execution| {
            kept.counts.remove(execution);
        });
        Ok(())
    }

    async fn served(&self) -> Result<Vec<TaskName>, StateError> {
        Ok(self.kept().served.clone())
    }

    async fn serve(&self, names: Vec<TaskName>) -> Result<(), StateError> {
        let served = &mut self.kept().served;
        served.retain(|name| !names.contains(name));
        served.extend(names);
        let surplus = served.len().saturating_sub(SERVED_MAX as usize);
        served.drain(..surplus);
        Ok(())
    }

    async fn write_journal(&self, entries: Vec<JournalEntry>) -> Result<Vec<JournalId>, StateError> {
        let mut kept = self.kept();
        let first = kept.written + 1;
        kept.written += entries.len() as u64;
        let ids: Vec<JournalId> = (first..).map(JournalId).take(entries.len()).collect();
        kept.journal.extend(ids.iter().copied().zip(entries));
        Ok(ids)
    }

    async fn resume_journal(&self) -> Result<Vec<(JournalId, JournalEntry)>, StateError> {
        let journal = &mut self.kept().journal;
        journal.values_mut().for_each(|entry| entry.resumed += 1);
        Ok(journal.iter().map(|(id, entry)| (*id, entry.clone())).collect())
    }

    async fn read_journal(&self, id: JournalId) -> Result<Option<JournalEntry>, StateError> {
        Ok(self.kept().journal.get(&id).cloned())
    }

    async fn delete_journal(&self, ids: Vec<JournalId>) -> Result<(), StateError> {
        let journal = &mut self.kept().journal;
        ids.iter().for_each(|id| drop(journal.remove(id)));
        Ok(())
    }
}
