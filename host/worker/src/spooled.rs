//! What the log says of outcomes that wait for the result store.
//!
//! Once when it begins, once when there is room for no more, and once when it is over.

use taskhost_core::dispatcher::SpoolEvent;
use tracing::{error, info, warn};

/// Writes one event.
pub(crate) fn log(event: &SpoolEvent) {
    match event {
        SpoolEvent::Began { reason } => {
            warn!("results wait here, since the result store does not take them; tasks run on: {reason}");
        }
        SpoolEvent::Full { outcomes, bytes } => error!(
            outcomes,
            bytes,
            "{outcomes} results wait for the result store: NO TASK STARTS until it takes some of them \
             (result.spool_limit, result.spool_bytes)"
        ),
        SpoolEvent::Over { most } => info!("the result store took all results that waited; there were up to {most}"),
        SpoolEvent::GivenUp { id, acknowledged } => {
            let name = id.as_ref().map_or("?", |id| id.as_str());
            match acknowledged {
                true => error!(
                    task.id = name,
                    "the result of task {name} is lost: it could not be stored, and its message was \
                               acknowledged when it started"
                ),
                false => warn!(
                    task.id = name,
                    "task {name} goes back to its queue and will run again: its result could not be stored"
                ),
            }
        }
    }
}
