//! Where the waiting ones are: deliveries ordered by the time at which they are due.
//!
//! Entries are not taken out when a delivery goes away; whoever takes a due entry looks whether it is
//! still wanted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::outcome::DeliveryId;
use crate::timestamp::Timestamp;

/// A queue by time; entries due at the same time keep their order.
#[derive(Debug, Default)]
pub struct Timetable {
    entries: BinaryHeap<Reverse<(Timestamp, u64, DeliveryId)>>,
    inserted: u64,
}

impl Timetable {
    /// Puts a delivery down for a time.
    pub fn insert(&mut self, at: Timestamp, delivery: DeliveryId) {
        self.inserted += 1;
        self.entries.push(Reverse((at, self.inserted, delivery)));
    }

    /// Takes the next delivery that is due.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<DeliveryId> {
        match self.entries.peek() {
            Some(Reverse((at, ..))) if *at <= now => self.entries.pop().map(|Reverse((.., delivery))| delivery),
            _ => None,
        }
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.entries.peek().map(|Reverse((at, ..))| *at)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_out_in_order_and_never_early() {
        let at = Timestamp::from_micros;
        let mut timetable = Timetable::default();
        timetable.insert(at(20), DeliveryId(1));
        timetable.insert(at(10), DeliveryId(2));
        timetable.insert(at(20), DeliveryId(3));
        assert_eq!(timetable.next(), Some(at(10)));
        assert_eq!(timetable.pop_due(at(9)), None);
        assert_eq!(timetable.pop_due(at(10)), Some(DeliveryId(2)));
        assert_eq!(timetable.pop_due(at(10)), None);
        assert_eq!(timetable.pop_due(at(30)), Some(DeliveryId(1)));
        assert_eq!(timetable.pop_due(at(30)), Some(DeliveryId(3)));
        assert_eq!(timetable.next(), None);
    }
}
