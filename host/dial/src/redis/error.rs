//! Why a connection could not be opened.

use std::io;

use redis::RedisError;

use crate::tls::{self, TlsError};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The server, or the way to it: whoever knows its answers judges them.
    #[error("{0}")]
    Redis(RedisError),
    /// Anything else, and whether it may pass.
    #[error("{reason}")]
    Other { reason: String, transient: bool },
}

impl OpenError {
    pub(super) fn transient(reason: impl Into<String>) -> Self {
        Self::Other { reason: reason.into(), transient: true }
    }

    pub(super) fn permanent(reason: impl Into<String>) -> Self {
        Self::Other { reason: reason.into(), transient: false }
    }
}

impl From<RedisError> for OpenError {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        match tls::refusal(&error) {
            Some(reason) => Self::permanent(reason),
            None => Self::Redis(error.into()),
        }
    }
}

impl From<TlsError> for OpenError {
    fn from(error: TlsError) -> Self {
        use std::error::Error as _;
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason += &format!(": {cause}");
            source = cause.source();
        }
        Self::permanent(reason)
    }
}
