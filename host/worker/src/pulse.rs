//! Whether the worker lives and works, for those who ask from outside: load balancers, Prometheus, people.
//!
//! The driver writes it down once a round of its loop; nobody who reads it makes the driver wait.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use taskhost_core::dispatcher::Census;

/// How often the driver's loop turns at least, if nothing happens.
pub(crate) const BEAT: Duration = Duration::from_secs(5);

/// A loop that has not turned for this long hangs.
pub const BEAT_MAX: Duration = Duration::from_secs(30);

/// What the driver last wrote.
#[derive(Debug)]
pub struct Pulse {
    begun: Instant,
    /// Milliseconds since then, at the last turn of the loop.
    beaten: AtomicU64,
    connected: AtomicBool,
    listening: AtomicBool,
    /// It was told to end.
    stopping: AtomicBool,
    census: [AtomicU64; FACTS],
}

const FACTS: usize = 13;

impl Default for Pulse {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            beaten: AtomicU64::new(0),
            connected: AtomicBool::new(false),
            listening: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            census: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// Why a worker takes no tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unready {
    Hangs,
    Stopping,
    NotConnected,
    Quiet,
    /// All its queues are paused, or it has none.
    NoQueue,
    /// The result store takes nothing, and so many outcomes wait for it that no more tasks start.
    ResultsWait,
}

impl Unready {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hangs => "the worker's loop hangs",
            Self::Stopping => "it is stopping",
            Self::NotConnected => "it is not connected to the broker",
            Self::Quiet => "it is quiet",
            Self::NoQueue => "no queue is consumed",
            Self::ResultsWait => "as many results as may be wait for the result store",
        }
    }
}

impl Pulse {
    /// The loop turned.
    pub(crate) fn beat(&self, census: &Census) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beaten.store(millis, Relaxed);
        self.stopping.store(census.stopping, Relaxed);
        let facts = [
            census.running as u64,
            census.ready as u64,
            census.waiting as u64,
            census.held as u64,
            census.committing as u64,
            census.slots as u64,
            census.prefetch.into(),
            census.queues as u64,
            census.paused as u64,
            census.quiet.into(),
            census.spooled as u64,
            census.spooled_bytes as u64,
            census.spool_full.into(),
        ];
        for (place, fact) in self.census.iter().zip(facts) {
            place.store(fact, Relaxed);
        }
    }

    pub(crate) fn connected(&self, connected: bool) {
        self.connected.store(connected, Relaxed);
    }

    pub(crate) fn listens(&self, listens: bool) {
        self.listening.store(listens, Relaxed);
    }

    /// True while remote control reaches this node.
    pub fn is_listening(&self) -> bool {
        self.listening.load(Relaxed)
    }

    /// What the driver last wrote.
    pub fn census(&self) -> Census {
        let facts: [u64; FACTS] = std::array::from_fn(|at| self.census[at].load(Relaxed));
        let [running, ready, waiting, held, committing, slots, prefetch, queues, paused, quiet, spool @ ..] = facts;
        let [spooled, spooled_bytes, spool_full] = spool;
        let size = |fact: u64| usize::try_from(fact).unwrap_or(usize::MAX);
        Census {
            running: size(running),
            ready: size(ready),
            waiting: size(waiting),
            held: size(held),
            committing: size(committing),
            spooled: size(spooled),
            spooled_bytes: size(spooled_bytes),
            spool_full: spool_full > 0,
            slots: size(slots),
            prefetch: u32::try_from(prefetch).unwrap_or(u32::MAX),
            queues: size(queues),
            paused: size(paused),
            quiet: quiet > 0,
            stopping: self.stopping.load(Relaxed),
        }
    }

    /// True while there is a connection to the broker.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    /// How long ago the loop last turned.
    pub fn since_beat(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.beaten.load(Relaxed)))
    }

    /// True while the loop turns.
    pub fn is_alive(&self) -> bool {
        self.since_beat() < BEAT_MAX
    }

    /// Why it takes no tasks now; none if it does.
    pub fn unready(&self) -> Option<Unready> {
        let census = self.census();
        let reasons = [
            (!self.is_alive(), Unready::Hangs),
            (census.stopping, Unready::Stopping),
            (!self.is_connected(), Unready::NotConnected),
            (census.quiet, Unready::Quiet),
            (census.queues == 0, Unready::NoQueue),
            (census.spool_full, Unready::ResultsWait),
        ];
        reasons.into_iter().find(|(holds, _)| *holds).map(|(_, reason)| reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_ready_while_it_takes_tasks() {
        let pulse = Pulse::default();
        let census = Census { slots: 4, prefetch: 16, queues: 1, ..Census::default() };
        pulse.beat(&census);
        assert_eq!(pulse.census(), census);
        assert_eq!(pulse.unready(), Some(Unready::NotConnected));
        pulse.connected(true);
        assert_eq!(pulse.unready(), None);
        pulse.beat(&Census { quiet: true, ..census });
        assert_eq!(pulse.unready(), Some(Unready::Quiet));
        pulse.beat(&Census { queues: 0, ..census });
        assert_eq!(pulse.unready(), Some(Unready::NoQueue));
        pulse.beat(&Census { spooled: 7, spooled_bytes: 8, spool_full: true, ..census });
        assert_eq!(pulse.unready(), Some(Unready::ResultsWait));
        pulse.beat(&Census { stopping: true, quiet: true, ..census });
        assert_eq!(pulse.unready(), Some(Unready::Stopping));
    }

    #[test]
    fn a_loop_that_does_not_turn_is_noticed() {
        let mut pulse = Pulse::default();
        pulse.connected(true);
        pulse.beat(&Census { queues: 1, ..Census::default() });
        assert!(pulse.is_alive());
        let Some(long_ago) = Instant::now().checked_sub(BEAT_MAX + BEAT) else { return };
        pulse.begun = long_ago;
        assert_eq!((pulse.is_alive(), pulse.unready()), (false, Some(Unready::Hangs)));
    }
}
