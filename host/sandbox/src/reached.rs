//! How often limits were reached, by plugin, since the worker started.
//!
//! Only counts, for metrics; what happens to whoever reaches a limit is the business of whoever holds it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use taskhost_core::{Outcome, PluginName};

/// A lock is good enough: a limit is not reached often, or the plugin comes into quarantine.
#[derive(Debug, Default)]
pub(crate) struct Reached(Mutex<BTreeMap<(PluginName, String), u64>>);

impl Reached {
    /// Counts once more. The limit is named by its key in `[limits]`.
    pub(crate) fn count(&self, plugin: &PluginName, limit: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&(plugin.clone(), limit.to_owned())) {
            Some(count) => *count += 1,
            None => drop(counts.insert((plugin.clone(), limit.to_owned()), 1)),
        }
    }

    /// The limit that ended an attempt, if one did.
    pub(crate) fn count_outcome(&self, plugin: &PluginName, outcome: &Outcome) {
        if let Some(limit) = outcome.limit() {
            self.count(plugin, limit);
        }
    }

    /// The limit that a text for people names at its end.
    pub(crate) fn count_text(&self, plugin: &PluginName, text: &str) {
        if let Some((_, limit)) = text.rsplit_once("; raise limits.") {
            self.count(plugin, limit);
        }
    }

    /// All counts.
    pub(crate) fn read(&self) -> Vec<(PluginName, String, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((plugin, limit), count)| (plugin.clone(), limit.clone(), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use taskhost_core::{Json, Trap};

    use super::*;

    #[test]
    fn a_limit_is_counted_by_its_key_wherever_it_was_reached() {
        let (reached, demo) = (Reached::default(), PluginName::parse("demo").expect("a name"));
        reached.count_outcome(&demo, &Outcome::Trapped(Trap::MemoryLimit { limit_bytes: 1 }));
        reached.count_outcome(&demo, &Outcome::Trapped(Trap::MemoryLimit { limit_bytes: 1 }));
        reached.count_outcome(&demo, &Outcome::Success(Json::null()));
        reached.count_text(&demo, "more than 16 at once; raise limits.http_requests");
        reached.count_text(&demo, "http `https://x` is denied");
        let counts: Vec<_> = reached.read().into_iter().map(|(_, limit, count)| (limit, count)).collect();
        assert_eq!(counts, [("http_requests".to_owned(), 1), ("memory".to_owned(), 2)]);
    }
}
