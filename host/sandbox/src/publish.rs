//! What one attempt sends: kept until it ends, or handed over at once to whoever serves the sandbox.
//!
//! Does not publish, and does not ask whether the plugin may: [`crate::capability`] did.

use std::collections::HashMap;
use std::sync::Arc;

use taskhost_core::settle::Step;
use taskhost_core::{SendSettings, TaskId};

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
    /// How many there were, whichever way they went. A failed one counts: its id may have been used.
    pub(crate) count: u32,
    /// All of their texts together.
    pub(crate) bytes: usize,
    /// The ids that were derived for them, and whether those wait. Ids that a task chose itself are not here:
    /// it could choose those of other people's tasks.
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
    /// Remembers an id that was made for what was sent.
    pub(crate) fn remember(&mut self, id: TaskId, fate: Fate) {
        self.ids.insert(id, fate);
    }

    /// What became of the task of this id, if this attempt sent it.
    pub(crate) fn fate(&self, id: &TaskId) -> Option<Fate> {
        self.ids.get(id).copied()
    }
}
