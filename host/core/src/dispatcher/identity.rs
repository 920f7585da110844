//! What makes two deliveries the same execution, and the memory of those that were committed.
//!
//! A retry and a replacement carry the id of the task they follow, so the id alone is not enough.

use std::fmt;
use std::num::NonZeroUsize;

use lru::LruCache;
use rustc_hash::FxBuildHasher;

use crate::message::Acknowledgement;
use crate::name::{TaskId, TaskName};
use crate::request::Request;

/// Identifies an execution: a retry is another one, a redelivery is not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    id: TaskId,
    retries: u32,
    replaced_task_nesting: u32,
    task: TaskName,
}

impl Identity {
    pub(super) fn id(&self) -> &TaskId {
        &self.id
    }

    pub(super) fn of(request: &Request) -> Self {
        Self {
            id: request.id.clone(),
            retries: request.retries,
            replaced_task_nesting: request.replaced_task_nesting,
            task: request.task.clone(),
        }
    }
}

impl fmt::Display for Identity {
    /// One text for one execution, to be found again by.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, retries, replaced_task_nesting, task } = self;
        // The numbers first: ids and names may hold anything but control characters.
        write!(f, "{retries} {replaced_task_nesting} {task}\n{id}")
    }
}

/// The latest committed executions, up to a bound.
#[derive(Debug)]
pub(super) struct Remembered(LruCache<Identity, Acknowledgement, FxBuildHasher>);

impl Remembered {
    pub(super) fn new(max: NonZeroUsize) -> Self {
        Self(LruCache::with_hasher(max, FxBuildHasher))
    }

    pub(super) fn insert(&mut self, identity: Identity, told: Acknowledgement) {
        self.0.put(identity, told);
    }

    /// What the broker was told about it, and may not have heard.
    pub(super) fn told(&self, identity: &Identity) -> Option<Acknowledgement> {
        self.0.peek(identity).copied()
    }
}
