//! What the host has to say about what a guest did not get: a text for the guest, and the same text once in the log
//! of its task, so that its author reads it in whatever language he writes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use taskhost_core::PluginName;

use super::{Capabilities, denied};
use crate::grant::{Range, network_entry};
use crate::logs::{self, Speaker};
use crate::sandbox::Surroundings;

/// Different remarks that one attempt can cause.
const REMARKS_MAX: usize = 20;
/// Longest of them.
const REMARK_BYTES_MAX: usize = 1 << 10;

pub(crate) struct Remarks {
    speaker: Speaker,
    granted: Option<Arc<Capabilities>>,
    surroundings: Arc<Surroundings>,
    made: Mutex<BTreeSet<String>>,
}

impl Remarks {
    pub(crate) fn new(speaker: Speaker, granted: Option<Arc<Capabilities>>, surroundings: Arc<Surroundings>) -> Self {
        Self { speaker, granted, surroundings, made: Mutex::default() }
    }

    /// What the guest may use now.
    pub(crate) fn capabilities(&self) -> Option<&Capabilities> {
        self.speaker.task().and_then(|task| self.granted.as_deref().filter(|granted| granted.covers(task)))
    }

    pub(crate) fn plugin(&self) -> &PluginName {
        self.speaker.plugin()
    }

    /// Says that the guest may not use this.
    pub(crate) fn deny(&self, option: &str, name: &str) -> String {
        self.make(denied(&self.speaker, self.granted.as_deref(), option, name))
    }

    /// Says that a name leads to where this plugin may not go. The address is for the log alone: with a star in its
    /// grant a guest could draw a map of the private network.
    pub(crate) fn deny_network(&self, option: &str, name: &str, address: IpAddr, range: Range) -> String {
        let plugin = self.speaker.plugin();
        let text = |which: &str, entry: &str| {
            format!(
                "{option} `{name}` is denied: its address {which}is {range}; add `networks = [\"{entry}\"]` to \
                 [grants.\"{plugin}\"] of host.toml"
            )
        };
        self.make(text(&format!("{address} "), &network_entry(address, range)));
        text("", range.word().unwrap_or("ADDRESS"))
    }

    /// Writes the text into the log, unless that was done before, and gives it back. A limit that it names is
    /// counted.
    pub(crate) fn make(&self, mut text: String) -> String {
        self.surroundings.reached.count_text(self.plugin(), &text);
        logs::truncate(&mut text, REMARK_BYTES_MAX);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() < REMARKS_MAX && made.insert(text.clone()) {
            let masked = match &self.granted {
                Some(granted) => granted.mask(text.clone()),
                None => text.clone(),
            };
            logs::warn(&self.speaker, &masked);
        }
        text
    }
}
