//! Messages for monitors that are being written, and those that wait to be sent.
//!
//! Never waits: when there is too much the oldest go, since a monitor that was away wants to know how things are now.
//! Events are written down at once. To keep them as they are costs more: each holds its request, or its result, on to
//! a time when nobody has them in a cache any more.

use std::collections::VecDeque;

/// Events that wait to be sent: some seconds of a busy worker, and what their texts may have in bytes.
const EVENTS_MAX: u64 = 50_000;
const BYTES_MAX: usize = 32 << 20;

/// One message holds so many events at most, and is closed once it has so many bytes. What makes a message full is
/// sent at once.
const MESSAGE_EVENTS_MAX: u64 = 1_000;
const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// An event that is longer than this is dropped: a client made up ids of megabytes.
const EVENT_BYTES_MAX: usize = 128 << 10;

/// One message.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// An array of events; one without its brackets, if it travels alone.
    pub(super) body: String,
    pub(super) events: u64,
    /// The type of an event that does not travel among the events of tasks.
    pub(super) alone: Option<Box<str>>,
}

/// What came of adding an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Added {
    /// How many had to go.
    pub(super) dropped: u64,
    /// Whoever sends them should look.
    pub(super) wakes: bool,
}

/// The messages, oldest first.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    closed: VecDeque<Batch>,
    open: Batch,
    events: u64,
    bytes: usize,
}

impl Buffer {
    /// Adds what `write` appends, if it says that it did.
    pub(super) fn add(&mut self, alone: Option<&str>, write: impl FnOnce(&mut String) -> bool) -> Added {
        let (was_empty, was_ready) = (self.events == 0, self.is_ready());
        let mut own = Batch { alone: alone.map(Box::from), ..Batch::default() };
        let batch = if alone.is_some() { &mut own } else { &mut self.open };
        let before = batch.body.len();
        if alone.is_none() {
            batch.body.push_str(if before == 0 { "[" } else { ", " });
        }
        let begin = batch.body.len();
        let said = write(&mut batch.body);
        if !said || batch.body.len() - begin > EVENT_BYTES_MAX {
            batch.body.truncate(before);
            return Added { dropped: u64::from(said), wakes: false };
        }
        batch.events += 1;
        self.events += 1;
        self.bytes += batch.body.len() - before;
        if alone.is_some() {
            self.closed.push_back(own);
        } else if batch.events >= MESSAGE_EVENTS_MAX || batch.body.len() >= MESSAGE_BYTES_MAX {
            self.close();
        }
        let mut dropped = 0;
        while self.events > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.closed.pop_front() else { break };
            self.events -= oldest.events;
            self.bytes = self.bytes.saturating_sub(oldest.body.len());
            dropped += oldest.events;
        }
        Added { dropped, wakes: was_empty || (self.is_ready() && !was_ready) }
    }

    /// There is so much that it is worth it to send it.
    pub(super) fn is_ready(&self) -> bool {
        self.events >= MESSAGE_EVENTS_MAX || self.bytes >= MESSAGE_BYTES_MAX
    }

    /// Hands over all that is there.
    pub(super) fn take(&mut self) -> VecDeque<Batch> {
        if self.open.events > 0 {
            self.close();
        }
        (self.events, self.bytes) = (0, 0);
        std::mem::take(&mut self.closed)
    }

    fn close(&mut self) {
        // The next one will be about as long.
        let next = Batch { body: String::with_capacity(self.open.body.len()), ..Batch::default() };
        let mut batch = std::mem::replace(&mut self.open, next);
        batch.body.push(']');
        self.closed.push_back(batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(buffer: &mut Buffer, bytes: usize) -> Added {
        buffer.add(None, |out| {
            out.push_str(&"1".repeat(bytes));
            true
        })
    }

    #[test]
    fn the_first_wakes_and_then_the_one_that_makes_it_worth_it() {
        let mut buffer = Buffer::default();
        let wakes: Vec<u64> = (1..=2_000).filter(|_| add(&mut buffer, 1).wakes).collect();
        assert_eq!(wakes, [1, MESSAGE_EVENTS_MAX]);
        assert_eq!(buffer.take().len(), 2);
        assert_eq!(add(&mut buffer, 3), Added { dropped: 0, wakes: true });
        for _ in 0..3 {
            add(&mut buffer, EVENT_BYTES_MAX);
        }
        assert!(buffer.is_ready());
    }

    #[test]
    fn events_travel_together_and_some_alone() {
        let mut buffer = Buffer::default();
        add(&mut buffer, 1);
        buffer.add(Some("image-done"), |out| {
            out.push_str("{}");
            true
        });
        assert_eq!(buffer.add(None, |_| false), Added { dropped: 0, wakes: false });
        add(&mut buffer, 2);
        let bodies: Vec<String> = buffer.take().into_iter().map(|batch| batch.body).collect();
        assert_eq!(bodies, ["{}", "[1, 11]"]);
        assert!(buffer.take().is_empty());
    }

    #[test]
    fn when_there_are_too_many_the_oldest_go() {
        let mut buffer = Buffer::default();
        let dropped: u64 = (0..EVENTS_MAX + 3).map(|_| add(&mut buffer, 1).dropped).sum();
        let kept: u64 = buffer.take().iter().map(|batch| batch.events).sum();
        assert_eq!((dropped, kept), (MESSAGE_EVENTS_MAX, EVENTS_MAX + 3 - MESSAGE_EVENTS_MAX));
    }

    #[test]
    fn long_ones_count_by_their_length_and_too_long_ones_not_at_all() {
        let mut buffer = Buffer::default();
        let dropped: u64 =
            (0..BYTES_MAX / EVENT_BYTES_MAX + 8).map(|_| add(&mut buffer, EVENT_BYTES_MAX).dropped).sum();
        assert!((2..=20).contains(&dropped), "{dropped}");
        buffer.take();
        assert_eq!(add(&mut buffer, EVENT_BYTES_MAX + 1), Added { dropped: 1, wakes: false });
        assert!(buffer.take().is_empty());
    }
}
