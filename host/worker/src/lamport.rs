//! The logical clock by which monitors order what many nodes say (kombu/clocks.py `LamportClock`).
//!
//! Knows nothing of time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what this node says, and never falls behind what it has heard.
#[derive(Debug, Default)]
pub struct Lamport(AtomicU64);

impl Lamport {
    /// Goes on from a value that an earlier process had reached.
    pub fn starting_at(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    /// The value now.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The value for the next thing that this node says.
    pub fn forward(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Something with this value was heard: what follows is later than that.
    pub fn adjust(&self, heard: u64) -> u64 {
        let later = |own: u64| own.max(heard).saturating_add(1);
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |own| Some(later(own)));
        later(before.unwrap_or_else(|own| own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_is_later_than_what_was_said_and_heard() {
        let clock = Lamport::starting_at(7);
        assert_eq!((clock.now(), clock.forward(), clock.forward()), (7, 8, 9));
        assert_eq!(clock.adjust(20), 21);
        assert_eq!(clock.adjust(3), 22);
        assert_eq!(clock.now(), 22);
    }
}
