//! What PostgreSQL can refuse, and whether trying again may help.

use std::fmt;

use dial::postgresql::{self, PoolError};

use crate::port::BrokerError;

/// The cause of an error of this adapter.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    reason: String,
    /// The connection is of no use any more.
    pub(super) lost: bool,
    /// Others wanted the same rows at the same time.
    pub(super) conflict: bool,
    transient: bool,
}

impl Failure {
    pub(super) fn lost(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), lost: true, conflict: false, transient: true }
    }

    pub(super) fn is_transient(&self) -> bool {
        self.transient
    }

    /// As an error of the port: `Lost`, or what `otherwise` makes of it.
    pub(super) fn into_error(self, otherwise: impl FnOnce(Self) -> BrokerError) -> BrokerError {
        if self.lost { BrokerError::Lost { reason: self.reason } } else { otherwise(self) }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self {
            reason: postgresql::told(&error),
            lost: postgresql::is_lost(&error),
            conflict: postgresql::is_conflict(&error),
            transient: postgresql::is_transient(&error),
        }
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        let transient = error.is_transient();
        let lost = matches!(error, PoolError::Connect(_)) && transient;
        Self { reason: error.to_string(), lost, conflict: false, transient }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}
