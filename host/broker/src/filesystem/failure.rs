//! What a file system can refuse, and whether trying again may help.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::port::{BoxError, BrokerError};

/// The cause of an error of this adapter: what could not be done, with which file, and why.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    reason: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// No room: works again when there is some. The folders are as good as before.
    Full,
    /// We may not, or it cannot be: stays as it is until somebody changes it.
    Refused,
    /// The folder or the disk is not there, or is broken: all that is held counts as lost.
    Lost,
}

impl Failure {
    /// The operation is what follows "cannot", such as `open`.
    pub(super) fn io(operation: &str, path: &Path, error: &io::Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Kind::Full,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::InvalidFilename => Kind::Refused,
            _ => Kind::Lost,
        };
        Self { reason: format!("cannot {operation} {}: {error}", path.display()), kind }
    }

    pub(super) fn lost(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind: Kind::Lost }
    }

    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind: Kind::Refused }
    }

    pub(super) fn is_transient(&self) -> bool {
        self.kind != Kind::Refused
    }

    pub(super) fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }

    /// As an error of the port: `Lost`, or what `otherwise` makes of cause and transience.
    pub(super) fn into_error(self, otherwise: impl FnOnce(BoxError, bool) -> BrokerError) -> BrokerError {
        match self.kind {
            Kind::Lost => BrokerError::Lost { reason: self.reason },
            Kind::Full | Kind::Refused => {
                let transient = self.is_transient();
                otherwise(self.into(), transient)
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}
