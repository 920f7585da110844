//! What SQLite can refuse, and whether trying again may help.

use std::fmt;

use rusqlite::ErrorCode;

use crate::port::BrokerError;

/// The cause of an error of this adapter. Cheap to copy: one failed transaction fails many calls.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Another process holds the lock, for longer than is right.
    Busy,
    /// The disk is full: works again when it is not.
    Full,
    /// This statement is at fault, others may work.
    Statement,
    /// The file cannot be written at all.
    ReadOnly,
    /// The file or the disk is broken, or the writer has ended.
    Lost,
}

impl Failure {
    pub(super) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }

    pub(super) fn closed() -> Self {
        Self::new(Kind::Lost, "it was closed")
    }

    pub(super) fn is_transient(&self) -> bool {
        matches!(self.kind, Kind::Busy | Kind::Full | Kind::Lost)
    }

    /// As an error of the port: `Lost`, or what `otherwise` makes of it.
    pub(super) fn into_error(self, otherwise: impl FnOnce(Self) -> BrokerError) -> BrokerError {
        if self.kind == Kind::Lost { BrokerError::Lost { reason: self.reason } } else { otherwise(self) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let (kind, reason) = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                (Kind::Busy, "another process keeps the database locked".to_owned())
            }
            Some(ErrorCode::DiskFull) => (Kind::Full, "the disk is full".to_owned()),
            Some(ErrorCode::ReadOnly) => (Kind::ReadOnly, "the database file is read-only".to_owned()),
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::NotADatabase
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory,
            ) => (Kind::Lost, error.to_string()),
            _ => (Kind::Statement, error.to_string()),
        };
        Self { kind, reason }
    }
}
