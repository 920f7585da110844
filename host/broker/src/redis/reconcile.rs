//! Puts back in order what evictions and restarts leave behind: messages in `unacked` that nobody would ever
//! restore, since their entry in the index is gone, or their owner from the list of owners.
//!
//! Restores nothing itself: what is in order again is found by the sweep.

use tracing::warn;

use super::failure::Failure;
use super::link::{DELAYED, Link};
use super::script;

/// How many messages one step looks at.
const SCAN_COUNT: usize = 500;

/// Looks at all of `unacked`, step by step.
pub(super) async fn reconcile(link: &Link) -> Result<(), Failure> {
    let layout = &link.layout;
    let (mut cursor, mut unindexed, mut orphaned) = ("0".to_owned(), 0, 0);
    loop {
        let mut call = script::call(&script::RECONCILE, &[&layout.unacked, &layout.index, &layout.owners]);
        call.arg(&cursor).arg(SCAN_COUNT).arg(link.lease().as_secs_f64()).arg(DELAYED);
        let (next, without_score, without_owner): (String, u64, u64) =
            link.connection.call(&script::RECONCILE, &call).await?;
        unindexed += without_score;
        orphaned += without_owner;
        if next == "0" {
            break;
        }
        cursor = next;
    }
    if unindexed > 0 {
        warn!(
            unindexed,
            "{unindexed} messages were in `{}` and not in `{}`: were keys evicted?", layout.unacked, layout.index
        );
    }
    if orphaned > 0 {
        warn!(
            orphaned,
            "hosts that held messages were not among `{}`: were keys evicted? What they held is restored unless they answer",
            layout.owners
        );
    }
    Ok(())
}
