//! Counts what is in one scratch folder: bytes by the length of files, and entries by number.
//!
//! Touches no file. It sees everything that happens to the folder, which belongs to one attempt alone, so it
//! never has to look. A file that was deleted and is still open takes its place until nobody has it open:
//! a name is cheap, and room is not given back with it.

use std::collections::HashMap;
use std::sync::Weak;

/// Which file: the same under all its names and in all who have it open.
pub(super) type Key = u64;

/// One who writes beside the guest.
pub(super) type Writer = u32;

/// There is no room for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    Bytes,
    Entries,
}

/// `T` is what an open file is to those who have it open.
#[derive(Debug)]
pub(super) struct Ledger<T> {
    bytes_max: u64,
    entries_max: usize,
    bytes: u64,
    entries: usize,
    files: HashMap<Key, Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    /// Its length, or what that will be when all have written.
    bytes: u64,
    /// Its names.
    links: u32,
    opens: Vec<Weak<T>>,
    /// Up to where those will have written who are not done.
    pending: Vec<(Writer, u64)>,
}

impl<T> Entry<T> {
    fn is_gone(&self) -> bool {
        self.links == 0 && self.opens.iter().all(|open| open.strong_count() == 0)
    }

    fn pending_end(&self) -> u64 {
        self.pending.iter().map(|(_, end)| *end).max().unwrap_or(0)
    }
}

impl<T> Ledger<T> {
    pub(super) fn new(bytes_max: u64, entries_max: usize) -> Self {
        Self { bytes_max, entries_max, bytes: 0, entries: 0, files: HashMap::new() }
    }

    /// True if nothing is in the folder.
    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Whether one more name may come.
    pub(super) fn room_for_entry(&self) -> Result<(), Full> {
        if self.entries < self.entries_max { Ok(()) } else { Err(Full::Entries) }
    }

    /// A folder or a link came.
    pub(super) fn entered(&mut self) {
        self.entries += 1;
    }

    /// A folder or a link went.
    pub(super) fn left(&mut self) {
        self.entries = self.entries.saturating_sub(1);
    }

    /// Somebody opened a file. One that is not known came with that.
    pub(super) fn opened(&mut self, key: Key, open: Weak<T>) {
        // A file system gives the number of a file that is gone to another one.
        if self.files.get(&key).is_some_and(|file| file.links == 0) {
            self.forget(key);
        }
        let file = self.files.entry(key).or_insert_with(|| {
            self.entries += 1;
            Entry { bytes: 0, links: 1, opens: Vec::new(), pending: Vec::new() }
        });
        file.opens.retain(|open| open.strong_count() > 0);
        file.opens.push(open);
    }

    /// A file has one more name.
    pub(super) fn linked(&mut self, key: Key) {
        self.entries += 1;
        if let Some(file) = self.files.get_mut(&key) {
            file.links += 1;
        }
    }

    /// A file has one name less.
    pub(super) fn unlinked(&mut self, key: Key) {
        self.left();
        let Some(file) = self.files.get_mut(&key) else { return };
        file.links = file.links.saturating_sub(1);
        if file.is_gone() {
            self.forget(key);
        }
    }

    /// A file is to reach up to `end`.
    pub(super) fn reserve(&mut self, key: Key, end: u64) -> Result<(), Full> {
        let Some(file) = self.files.get(&key) else { return Err(Full::Bytes) };
        let growth = end.saturating_sub(file.bytes);
        if self.bytes.saturating_add(growth) > self.bytes_max {
            self.sweep();
            if self.bytes.saturating_add(growth) > self.bytes_max {
                return Err(Full::Bytes);
            }
        }
        self.bytes += growth;
        if let Some(file) = self.files.get_mut(&key) {
            file.bytes += growth;
        }
        Ok(())
    }

    /// The same for somebody who is not done when this returns, and is to be told of with [`Ledger::written`].
    pub(super) fn reserve_for(&mut self, key: Key, writer: Writer, end: u64) -> Result<(), Full> {
        self.reserve(key, end)?;
        if let Some(file) = self.files.get_mut(&key) {
            file.pending.push((writer, end));
        }
        Ok(())
    }

    /// Where a file ends, or will end.
    pub(super) fn end(&self, key: Key) -> u64 {
        self.files.get(&key).map_or(0, |file| file.bytes)
    }

    /// Whoever wrote is done, and this is how long the file is now. It counts once nobody else writes.
    pub(super) fn written(&mut self, key: Key, writer: Writer, bytes: u64) {
        if let Some(file) = self.files.get_mut(&key) {
            file.pending.retain(|(other, _)| *other != writer);
        }
        self.measured(key, bytes);
    }

    /// This is how long the file is. Who still writes may make it longer.
    pub(super) fn measured(&mut self, key: Key, bytes: u64) {
        let Some(file) = self.files.get_mut(&key) else { return };
        let bytes = bytes.max(file.pending_end());
        self.bytes = self.bytes - file.bytes + bytes;
        file.bytes = bytes;
    }

    /// Gives back the room of files that nobody can reach any more.
    fn sweep(&mut self) {
        let gone: Vec<Key> = self.files.iter().filter(|(_, file)| file.is_gone()).map(|(key, _)| *key).collect();
        gone.into_iter().for_each(|key| self.forget(key));
    }

    fn forget(&mut self, key: Key) {
        if let Some(file) = self.files.remove(&key) {
            self.bytes -= file.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn ledger() -> Ledger<()> {
        Ledger::new(100, 3)
    }

    #[test]
    fn files_count_by_their_length_wherever_it_comes_from() {
        let (mut ledger, open) = (ledger(), Arc::new(()));
        ledger.opened(1, Arc::downgrade(&open));
        assert_eq!(ledger.reserve(1, 60), Ok(()));
        // Over what is there already.
        assert_eq!(ledger.reserve(1, 30), Ok(()));
        ledger.opened(2, Arc::downgrade(&open));
        assert_eq!(ledger.reserve(2, 41), Err(Full::Bytes));
        assert_eq!(ledger.reserve(2, 40), Ok(()));
        assert_eq!(ledger.reserve(1, 61), Err(Full::Bytes));
        assert_eq!(ledger.reserve(1, u64::MAX), Err(Full::Bytes));
        ledger.measured(1, 10);
        assert_eq!(ledger.reserve(2, 90), Ok(()));
    }

    #[test]
    fn a_deleted_file_takes_its_room_until_nobody_has_it_open() {
        let mut ledger = ledger();
        let (first, second) = (Arc::new(()), Arc::new(()));
        ledger.opened(1, Arc::downgrade(&first));
        ledger.opened(1, Arc::downgrade(&second));
        assert_eq!(ledger.reserve(1, 80), Ok(()));
        ledger.unlinked(1);
        assert!(ledger.is_empty());
        ledger.opened(2, Arc::downgrade(&Arc::new(())));
        assert_eq!(ledger.reserve(2, 30), Err(Full::Bytes));
        drop(first);
        assert_eq!(ledger.reserve(2, 30), Err(Full::Bytes));
        assert_eq!(ledger.reserve(1, 70), Ok(()));
        drop(second);
        assert_eq!(ledger.reserve(2, 100), Ok(()));
    }

    #[test]
    fn a_file_with_two_names_counts_once_and_goes_with_the_last() {
        let (mut ledger, open) = (ledger(), Arc::new(()));
        ledger.opened(1, Arc::downgrade(&open));
        ledger.linked(1);
        assert_eq!(ledger.reserve(1, 80), Ok(()));
        drop(open);
        ledger.unlinked(1);
        ledger.opened(2, Weak::new());
        assert_eq!(ledger.reserve(2, 30), Err(Full::Bytes));
        ledger.unlinked(1);
        assert_eq!(ledger.reserve(2, 100), Ok(()));
    }

    #[test]
    fn names_are_counted_whatever_they_name() {
        let mut ledger = ledger();
        ledger.entered();
        ledger.opened(1, Weak::new());
        ledger.linked(1);
        assert_eq!(ledger.room_for_entry(), Err(Full::Entries));
        ledger.unlinked(1);
        assert_eq!(ledger.room_for_entry(), Ok(()));
        ledger.unlinked(1);
        ledger.left();
        assert!(ledger.is_empty());
    }

    #[test]
    fn cutting_a_file_gives_nothing_back_that_somebody_is_writing() {
        let (mut ledger, open) = (ledger(), Arc::new(()));
        ledger.opened(1, Arc::downgrade(&open));
        assert_eq!(ledger.reserve_for(1, 7, 90), Ok(()));
        ledger.measured(1, 0);
        ledger.opened(2, Weak::new());
        assert_eq!(ledger.reserve(2, 20), Err(Full::Bytes));
        ledger.written(1, 7, 90);
        assert_eq!(ledger.end(1), 90);
        ledger.measured(1, 5);
        assert_eq!(ledger.reserve(2, 95), Ok(()));
    }

    #[test]
    fn the_number_of_a_file_that_is_gone_is_another_file() {
        let (mut ledger, open) = (ledger(), Arc::new(()));
        ledger.opened(1, Arc::downgrade(&open));
        assert_eq!(ledger.reserve(1, 80), Ok(()));
        ledger.unlinked(1);
        drop(open);
        ledger.opened(1, Weak::new());
        assert_eq!(ledger.end(1), 0);
        assert_eq!(ledger.reserve(1, 100), Ok(()));
    }
}
