//! How many attempts of one plugin run at a time, where that has a limit: a plugin that never ends keeps some slots
//! and not all of them.
//!
//! Knows only plugins that have such a limit. Limits of single tasks are the gates' business ([`super::gates`]).

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::name::PluginName;
use crate::outcome::DeliveryId;

#[derive(Debug, Default)]
pub(super) struct Crowds(FxHashMap<PluginName, Crowd>);

#[derive(Debug, Default)]
struct Crowd {
    running: u32,
    /// Deliveries that had a slot before there was room, the first first.
    waiting: VecDeque<DeliveryId>,
}

impl Crowds {
    /// True if one more may run now; it counts as running then. Else it waits.
    pub(super) fn enter(&mut self, plugin: &PluginName, limit: u32, delivery: DeliveryId) -> bool {
        let crowd = self.0.entry(plugin.clone()).or_default();
        if crowd.running < limit {
            crowd.running += 1;
            return true;
        }
        crowd.waiting.push_back(delivery);
        false
    }

    /// One has ended. Whoever waits for that.
    pub(super) fn left(&mut self, plugin: &PluginName) -> Option<DeliveryId> {
        let crowd = self.0.get_mut(plugin)?;
        crowd.running -= 1;
        let next = crowd.waiting.pop_front();
        if crowd.running == 0 && crowd.waiting.is_empty() {
            self.0.remove(plugin);
        }
        next
    }

    /// It waits no more.
    pub(super) fn forget(&mut self, plugin: &PluginName, delivery: DeliveryId) {
        if let Some(crowd) = self.0.get_mut(plugin) {
            crowd.waiting.retain(|waiting| *waiting != delivery);
        }
    }

    /// Nothing waits any more. What did.
    pub(super) fn forget_waiting(&mut self) -> Vec<DeliveryId> {
        let waiting = self.0.values_mut().flat_map(|crowd| std::mem::take(&mut crowd.waiting)).collect();
        self.0.retain(|_, crowd| crowd.running > 0);
        waiting
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u32 {
        let waiting = self.0.values().map(|crowd| crowd.waiting.len()).sum::<usize>();
        u32::try_from(waiting).unwrap_or(u32::MAX)
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.0.is_empty()
    }
}
