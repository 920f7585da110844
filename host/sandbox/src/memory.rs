//! Counts the memory of one instance, all its memories and tables together.
//!
//! wasmtime's own limits are per memory: with those, forty memories of just under the limit pass.

use wasmtime::ResourceLimiter;

use crate::limits::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENT_BYTES, TABLE_ELEMENTS_MAX, TABLES_MAX};

/// What an instance may have, has, and had at most.
#[derive(Debug)]
pub(crate) struct MemoryMeter {
    limit_bytes: usize,
    used_bytes: usize,
    peak_bytes: usize,
    /// Last growth that was allowed; taken back if it fails all the same.
    last_bytes: usize,
    denied: Option<Denied>,
}

/// What an instance wanted too much of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Denied {
    Memory,
    /// Elements of one table.
    Table,
}

impl MemoryMeter {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, used_bytes: 0, peak_bytes: 0, last_bytes: 0, denied: None }
    }

    /// The same instance as the next attempt finds it: what it has, and nothing of how it came to that.
    pub(crate) fn for_next(&self) -> Self {
        Self { peak_bytes: self.used_bytes, last_bytes: 0, denied: None, ..*self }
    }

    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// The most that the instance had at once.
    pub(crate) fn peak_bytes(&self) -> usize {
        self.peak_bytes
    }

    /// What the instance wanted more of than its limit, the last time. A guest only sees that growing failed,
    /// and normally runs into `unreachable` next.
    pub(crate) fn denied(&self) -> Option<Denied> {
        self.denied
    }

    /// Counts growth from `current` to `desired`, each in units of `unit_bytes`.
    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>, unit_bytes: usize) -> bool {
        let by_bytes = desired.saturating_sub(current).saturating_mul(unit_bytes);
        let wanted = self.used_bytes.saturating_add(by_bytes);
        if wanted > self.limit_bytes {
            self.denied = Some(Denied::Memory);
            return false;
        }
        // Beyond the maximum that the guest gave itself it fails without our doing.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return false;
        }
        self.used_bytes = wanted;
        self.peak_bytes = self.peak_bytes.max(wanted);
        self.last_bytes = by_bytes;
        true
    }

    fn take_back(&mut self) {
        self.used_bytes -= std::mem::take(&mut self.last_bytes);
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, maximum, 1))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            self.denied = Some(Denied::Table);
            return Ok(false);
        }
        Ok(self.grow(current, desired, maximum, TABLE_ELEMENT_BYTES))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_limit_and_a_refusal_is_remembered() {
        let mut meter = MemoryMeter::new(1000);
        assert!(meter.memory_growing(0, 600, None).expect("never fails"));
        assert!(meter.table_growing(0, 50, None).expect("never fails"));
        assert_eq!(meter.denied(), None);
        assert!(!meter.memory_growing(0, 1, None).expect("never fails"));
        assert_eq!(meter.denied(), Some(Denied::Memory));
        assert_eq!(meter.peak_bytes(), 1000);
    }

    #[test]
    fn what_one_attempt_leaves_counts_for_the_next() {
        let mut meter = MemoryMeter::new(1000);
        assert!(meter.memory_growing(0, 600, None).expect("never fails"));
        assert!(!meter.memory_growing(600, 1001, None).expect("never fails"));
        let mut meter = meter.for_next();
        assert_eq!((meter.denied(), meter.peak_bytes()), (None, 600));
        assert!(meter.memory_growing(600, 1000, None).expect("never fails"));
        assert!(!meter.memory_growing(1000, 1001, None).expect("never fails"));
        assert_eq!(meter.denied(), Some(Denied::Memory));
    }

    #[test]
    fn a_table_has_a_limit_of_its_own() {
        let mut meter = MemoryMeter::new(usize::MAX);
        assert!(meter.table_growing(0, TABLE_ELEMENTS_MAX, None).expect("never fails"));
        assert!(!meter.table_growing(0, TABLE_ELEMENTS_MAX + 1, None).expect("never fails"));
        assert_eq!(meter.denied(), Some(Denied::Table));
    }

    #[test]
    fn growth_that_fails_elsewhere_does_not_count() {
        let mut meter = MemoryMeter::new(1000);
        assert!(meter.memory_growing(0, 900, None).expect("never fails"));
        meter.memory_grow_failed(wasmtime::Error::msg("no memory")).expect("never fails");
        assert!(!meter.memory_growing(0, 200, Some(100)).expect("never fails"));
        assert_eq!(meter.denied(), None);
        assert!(meter.memory_growing(0, 900, None).expect("never fails"));
    }
}
