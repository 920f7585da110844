//! What one attempt sends: kept until it ends, or handed over at once to whoever serves the sandbox.
//!
//! Does not publish, and does not ask whether the plugin may: [`crate::capability`] did.

use std::collections::HashMap;
use std::sync::Arc;

use taskhost_core::canvas::SendSettings;
use taskhost_core::settle::Step;
use taskhost_core::{Child, TaskId};

/// Publishes for running tasks.
#[wasmtime_wasi::async_trait]
pub trait PublishSink: Send + Sync {
    /// Publishes these, in order, and answers when the broker has all of them. Whoever asked may give up waiting.
    async fn publish(&self, steps: Vec<Step>) -> Result<(), String>;
}

/// How running tasks reach a broker.
pub struct Outlet {
    pub sink: Arc<dyn PublishSink>,
    /// How what they send is made.
    pub settings: Arc<SendSettings>,
}

/// Everything that an attempt has sent so far.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// What waits for the end of the attempt.
    pub(crate) effects: Vec<Step>,
    /// The results of all that was sent, and is or will be published.
    pub(crate) children: Vec<Child>,
    /// How many messages there were, whichever way they went. Those of a failed one count: their ids may have been
    /// used.
    pub(crate) count: u32,
    /// How many calls of the guest they came from.
    pub(crate) calls: u32,
    /// All of their texts together.
    pub(crate) bytes: usize,
    /// The ids that were made for them, and whether those wait.
    ids: HashMap<TaskId, Fate>,
}

/// Where something is that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It waits for the end of the attempt.
    Waits,
    /// The broker has it, or may have.
    Left,
}

impl Sent {
    /// Remembers ids that were made for what was sent.
    pub(crate) fn remember(&mut self, ids: impl IntoIterator<Item = TaskId>, fate: Fate) {
        self.ids.extend(ids.into_iter().map(|id| (id, fate)));
    }

    /// What became of the task of this id, if this attempt sent it.
    pub(crate) fn fate(&self, id: &TaskId) -> Option<Fate> {
        self.ids.get(id).copied()
    }
}
