//! Where everything that happens to tasks is told: one funnel for the driver and the committer.
//!
//! Best effort: nothing waits for whoever listens.

use taskhost_core::Event;

use crate::log;

/// Tells whoever wants to know.
#[derive(Debug, Default)]
pub(crate) struct Announcer;

impl Announcer {
    /// Something happened. Returns at once, whoever listens.
    pub(crate) fn event(&self, event: &Event) {
        log::event(event);
    }
}
