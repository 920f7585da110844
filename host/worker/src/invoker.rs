//! The port to whatever executes tasks.

use async_trait::async_trait;
use taskhost_core::{Attempt, Finished};
use tokio::sync::oneshot;

/// Executes attempts. Cannot fail: trouble is an outcome.
#[async_trait]
pub trait Invoker: Send + Sync {
    /// Runs one attempt to its end, or until `cancel` asks to stop, which makes it
    /// [`Outcome::Interrupted`](taskhost_core::Outcome::Interrupted). Time limits are the invoker's duty.
    async fn invoke(&self, attempt: Attempt, cancel: Cancel) -> Finished;
}

/// Resolves when an attempt is to stop at once.
#[derive(Debug)]
pub struct Cancel(pub(crate) oneshot::Receiver<()>);

impl Cancel {
    /// Waits for the wish to stop; for ever, if it never comes.
    pub async fn requested(self) {
        if self.0.await.is_err() {
            // The worker let go of the attempt without wanting it to stop.
            std::future::pending::<()>().await;
        }
    }
}
