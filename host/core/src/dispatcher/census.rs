//! How much of what is there now, for whoever watches.

use super::Dispatcher;
use super::queues::QueueState;

/// Numbers of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Attempts that run.
    pub running: usize,
    /// Deliveries that wait for a slot and nothing else.
    pub ready: usize,
    /// Those that wait for a rate limit or a concurrency limit.
    pub waiting: usize,
    /// Those that wait for their ETA.
    pub held: usize,
    /// Those that are settled and not committed yet.
    pub committing: usize,
    /// Those of them whose results the store does not take now, and how many bytes these have.
    pub spooled: usize,
    pub spooled_bytes: usize,
    /// There is room for no more of them.
    pub spool_full: bool,
    pub slots: usize,
    pub prefetch: u32,
    /// Queues that messages are taken from now.
    pub queues: usize,
    pub paused: usize,
    pub quiet: bool,
    pub stopping: bool,
}

impl Dispatcher {
    /// Counts everything; costs as much as looking at some lengths.
    pub fn census(&self) -> Census {
        let count = |wanted: QueueState| self.queues().filter(|(_, state)| *state == wanted).count();
        let quiet = self.is_quiet();
        Census {
            running: self.attempts.len(),
            ready: self.ready.len(),
            waiting: (self.gates.waiting() + self.crowds.waiting()) as usize,
            held: self.held as usize,
            committing: self.committing,
            spooled: self.spool.len(),
            spooled_bytes: self.spool.bytes(),
            spool_full: self.spool.is_full(),
            slots: self.limits.concurrency,
            prefetch: self.prefetch,
            queues: if quiet { 0 } else { count(QueueState::Consuming) },
            paused: count(QueueState::Paused),
            quiet,
            stopping: self.stopping,
        }
    }
}
