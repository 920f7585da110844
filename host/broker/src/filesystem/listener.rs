//! One subscription: a queue of its own, of which files are read and deleted as they come.

use std::sync::Arc;

use async_trait::async_trait;
use taskhost_core::Publication;
use tracing::debug;

use super::shared::Shared;
use super::{blocking, owner};
use crate::broadcast::Inbox;
use crate::letters::Letters;
use crate::port::BrokerError;

pub(super) struct FilesystemInbox {
    pub(super) id: u64,
    pub(super) letters: Arc<Letters>,
    pub(super) shared: Arc<Shared>,
}

#[async_trait]
impl Inbox for FilesystemInbox {
    async fn next(&self) -> Result<Option<Vec<Publication>>, BrokerError> {
        self.letters.take().await
    }

    fn dropped(&self) -> u64 {
        self.letters.dropped()
    }

    async fn close(&self) {
        self.letters.close();
        let Some((exchange, binding)) = self.shared.remove(self.id) else { return };
        let shared = Arc::clone(&self.shared);
        let removed = blocking(move || {
            owner::drop_queue(&shared.folders, &exchange, &binding)?;
            owner::record(&shared)
        });
        if let Err(failure) = removed.await {
            debug!(error = %failure, "cannot remove a subscription: {failure}");
        }
    }
}

impl Drop for FilesystemInbox {
    fn drop(&mut self) {
        self.letters.close();
        // The keeper removes what was made for it.
        self.shared.leave(self.id);
    }
}
