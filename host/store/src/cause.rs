//! A cause that several answers share: one lost connection fails every record of a batch.
//!
//! Adds no text of its own.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use taskhost_core::TaskId;

use crate::port::{BoxError, StoreError};

/// The cause of the failure of an operation, and whether it may go away.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    error: Arc<dyn Error + Send + Sync>,
    pub(crate) transient: bool,
}

impl Cause {
    pub(crate) fn new(error: impl Into<BoxError>, transient: bool) -> Self {
        Self { error: Arc::from(error.into()), transient }
    }

    pub(crate) fn permanent(error: impl Into<BoxError>) -> Self {
        Self::new(error, false)
    }

    pub(crate) fn transient(error: impl Into<BoxError>) -> Self {
        Self::new(error, true)
    }

    /// The error of one task's result.
    pub(crate) fn operation(self, operation: &'static str, id: &TaskId) -> StoreError {
        StoreError::Operation { operation, id: id.clone(), transient: self.transient, source: Box::new(self) }
    }

    /// The error of one group, or of its chord.
    pub(crate) fn group(self, operation: &'static str, group: &str) -> StoreError {
        StoreError::Group { operation, group: group.to_owned(), transient: self.transient, source: Box::new(self) }
    }

    /// The error of the whole store.
    pub(crate) fn store(self, operation: &'static str) -> StoreError {
        StoreError::Store { operation, transient: self.transient, source: Box::new(self) }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
