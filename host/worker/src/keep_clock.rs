//! Carries the logical clock from one process of this worker to the next.
//!
//! What its values mean is the business of [`Lamport`].

use std::sync::Arc;
use std::time::Duration;

use store::state::NodeState;
use tokio::time::sleep;
use tracing::warn;

use crate::announce::Announcer;
use crate::commit::chain;

/// How often the clock is kept while the worker runs, so that one that is killed goes on near to where it was.
const INTERVAL: Duration = Duration::from_secs(60);

/// Goes on from what was kept.
pub(crate) async fn resume(announcer: &Announcer, state: &dyn NodeState) {
    match state.clock().await {
        Ok(0) => {}
        Ok(clock) => {
            announcer.lamport().adjust(clock);
        }
        Err(error) => warn!("the logical clock begins anew: cannot {}", chain(&error)),
    }
}

/// Keeps it now and then.
pub(crate) async fn run(announcer: Arc<Announcer>, state: Arc<dyn NodeState>) {
    let mut kept = announcer.lamport().now();
    loop {
        sleep(INTERVAL).await;
        let now = announcer.lamport().now();
        if now != kept {
            keep(&announcer, &*state).await;
            kept = now;
        }
    }
}

/// Keeps it.
pub(crate) async fn keep(announcer: &Announcer, state: &dyn NodeState) {
    if let Err(error) = state.keep_clock(announcer.lamport().now()).await {
        warn!("the logical clock will begin anew: cannot {}", chain(&error));
    }
}
