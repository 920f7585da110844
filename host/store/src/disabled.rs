//! No result store: what is put is gone.
//!
//! Celery's `disabled://` (celery/backends/base.py `DisabledBackend`).

use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::chord::ChordStyle;
use taskhost_core::{ResultRecord, StoredResult, TaskId};

use crate::port::{ResultStore, StoreError};

/// Keeps nothing.
#[derive(Default)]
pub struct DisabledStore;

#[async_trait]
impl ResultStore for DisabledStore {
    async fn put(&self, records: &[ResultRecord]) -> Vec<Result<(), StoreError>> {
        records.iter().map(|_| Ok(())).collect()
    }

    async fn get(&self, _id: &TaskId) -> Result<Option<StoredResult>, StoreError> {
        Err(StoreError::Unsupported { store: "disabled", operation: "read: no result backend is configured" })
    }

    async fn forget(&self, _id: &TaskId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn changed(&self, _id: &TaskId, within: Duration) {
        tokio::time::sleep(within).await;
    }

    fn chords(&self) -> ChordStyle {
        ChordStyle::Refused("disabled")
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn keeps_usage(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::conformance::chords;

    #[tokio::test]
    async fn without_results_there_are_no_chords() {
        let store: Arc<dyn ResultStore> = Arc::new(DisabledStore);
        chords::run(&store).await;
        let error = store.fail_chord("g").await.unwrap_err();
        assert_eq!(error.to_string(), "the disabled result store does not count chords");
    }
}
