//! Events that nobody has written down yet.
//!
//! Never waits: when it is full the oldest go, since a monitor that was away wants to know how things are now.

use std::collections::VecDeque;

use taskhost_core::event::Stamp;
use taskhost_core::{Event, Happening};

/// Events that wait to be sent: some seconds of a busy worker.
const EVENTS_MAX: usize = 50_000;

/// What they hold on to, as arguments, results and tracebacks, in bytes.
const BYTES_MAX: usize = 64 << 20;

/// From so many on, or so many bytes, they are sent at once.
const SEND_AT_EVENTS: usize = 1_000;
const SEND_AT_BYTES: usize = 1 << 20;

/// Something that was said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) stamp: Stamp,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// Written down later, by somebody who has time.
    Happened(Event),
    /// Written down; `alone` is its type if it does not travel among the events of tasks.
    Written { text: String, alone: Option<Box<str>> },
}

impl Said {
    fn bytes(&self) -> usize {
        match &self.what {
            What::Written { text, .. } => text.len(),
            What::Happened(event) => match &event.what {
                Happening::Received { request, .. } => request.message.body.len(),
                Happening::Succeeded { result, .. } => result.byte_len(),
                Happening::Failed { exception, traceback, .. } => {
                    exception.arguments.byte_len() + traceback.as_ref().map_or(0, String::len)
                }
                Happening::Retried { cause, traceback, .. } => {
                    let cause = cause.as_ref().map_or(0, |cause| cause.arguments.byte_len());
                    cause + traceback.as_ref().map_or(0, String::len)
                }
                _ => 0,
            },
        }
    }
}

/// What came of adding one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pushed {
    /// How many had to go for it.
    pub(super) dropped: u64,
    /// Whoever sends them should look.
    pub(super) wakes: bool,
}

/// The events, oldest first.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    events: VecDeque<Said>,
    bytes: usize,
}

impl Buffer {
    pub(super) fn push(&mut self, said: Said) -> Pushed {
        let (was_empty, was_ready) = (self.events.is_empty(), self.is_ready());
        self.bytes += said.bytes();
        self.events.push_back(said);
        let mut dropped = 0;
        while self.events.len() > EVENTS_MAX || (self.bytes > BYTES_MAX && self.events.len() > 1) {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.bytes();
            dropped += 1;
        }
        Pushed { dropped, wakes: was_empty || (self.is_ready() && !was_ready) }
    }

    /// There are so many that it is worth it to send them.
    pub(super) fn is_ready(&self) -> bool {
        self.events.len() >= SEND_AT_EVENTS || self.bytes >= SEND_AT_BYTES
    }

    /// Hands over all that are there, and keeps the room of `into`, which is empty.
    pub(super) fn take(&mut self, into: &mut VecDeque<Said>) {
        self.bytes = 0;
        std::mem::swap(&mut self.events, into);
    }
}

#[cfg(test)]
mod tests {
    use taskhost_core::Timestamp;

    use super::*;

    fn said(clock: u64, bytes: usize) -> Said {
        let stamp = Stamp { clock, at: Timestamp::from_micros(0) };
        Said { stamp, what: What::Written { text: "x".repeat(bytes), alone: None } }
    }

    #[test]
    fn the_first_wakes_and_then_the_one_that_makes_it_worth_it() {
        let mut buffer = Buffer::default();
        let wakes: Vec<u64> = (1..=2_000).filter(|clock| buffer.push(said(*clock, 1)).wakes).collect();
        assert_eq!(wakes, [1, SEND_AT_EVENTS as u64]);
        buffer.take(&mut VecDeque::new());
        assert_eq!(buffer.push(said(1, SEND_AT_BYTES)), Pushed { dropped: 0, wakes: true });
        assert!(buffer.is_ready());
    }

    #[test]
    fn when_there_are_too_many_the_oldest_go() {
        let mut buffer = Buffer::default();
        let dropped: u64 = (1..=EVENTS_MAX as u64 + 3).map(|clock| buffer.push(said(clock, 1)).dropped).sum();
        let mut taken = VecDeque::new();
        buffer.take(&mut taken);
        assert_eq!((dropped, taken.len(), taken[0].stamp.clock), (3, EVENTS_MAX, 4));
    }

    #[test]
    fn large_ones_count_by_their_size_and_the_last_one_stays() {
        let mut buffer = Buffer::default();
        assert_eq!(buffer.push(said(1, BYTES_MAX)).dropped, 0);
        assert_eq!(buffer.push(said(2, BYTES_MAX + 1)).dropped, 1);
        assert_eq!(buffer.push(said(3, 1)).dropped, 1);
        let mut taken = VecDeque::new();
        buffer.take(&mut taken);
        assert_eq!(taken.iter().map(|said| said.stamp.clock).collect::<Vec<_>>(), [3]);
    }
}
