//! Where the waiting ones are: entries ordered by the time at which they are due.
//!
//! Entries are not taken out when what they stand for goes away; whoever takes a due entry looks whether
//! it is still wanted.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::timestamp::Timestamp;

/// A queue by time; entries due at the same time keep their order.
#[derive(Debug)]
pub struct Timetable<T> {
    entries: BinaryHeap<Entry<T>>,
    inserted: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Timestamp,
    inserted: u64,
    what: T,
}

impl<T> Default for Timetable<T> {
    fn default() -> Self {
        Self { entries: BinaryHeap::new(), inserted: 0 }
    }
}

impl<T> Timetable<T> {
    /// Puts something down for a time.
    pub fn insert(&mut self, at: Timestamp, what: T) {
        self.inserted += 1;
        self.entries.push(Entry { at, inserted: self.inserted, what });
    }

    /// Takes the next entry that is due.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<T> {
        match self.entries.peek() {
            Some(entry) if entry.at <= now => self.entries.pop().map(|entry| entry.what),
            _ => None,
        }
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.entries.peek().map(|entry| entry.at)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

// The heap gives the largest first, which is to be the earliest.
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.inserted).cmp(&(self.at, self.inserted))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_out_in_order_and_never_early() {
        let at = Timestamp::from_micros;
        let mut timetable = Timetable::default();
        timetable.insert(at(20), "first at 20");
        timetable.insert(at(10), "at 10");
        timetable.insert(at(20), "second at 20");
        assert_eq!(timetable.next(), Some(at(10)));
        assert_eq!(timetable.pop_due(at(9)), None);
        assert_eq!(timetable.pop_due(at(10)), Some("at 10"));
        assert_eq!(timetable.pop_due(at(10)), None);
        assert_eq!(timetable.pop_due(at(30)), Some("first at 20"));
        assert_eq!(timetable.pop_due(at(30)), Some("second at 20"));
        assert_eq!(timetable.next(), None);
    }
}
