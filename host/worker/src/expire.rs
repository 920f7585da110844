//! Deletes results that have expired, from stores that do not do it by themselves.
//!
//! Celery does it by a periodic task, `celery.backend_cleanup`, at four in the morning.

use std::sync::Arc;
use std::time::Duration;

use store::ResultStore;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::commit::chain;

/// How often the store is looked through.
const EVERY: Duration = Duration::from_secs(3600);

/// Looks now and then until it is stopped.
pub(crate) async fn run(store: Arc<dyn ResultStore>, older_than: Duration) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match store.delete_expired(older_than).await {
            Ok(0) => {}
            Ok(deleted) => info!(deleted, "deleted {deleted} expired results"),
            Err(error) => warn!("cannot delete expired results: {}", chain(&error)),
        }
    }
}
