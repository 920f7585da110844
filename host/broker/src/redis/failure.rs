//! What an error of Redis means for us: may it go away, and is the connection of any more use.
//!
//! Redis says most of it in the first word of its answer.

use std::fmt;
use std::time::Duration;

use dial::redis::OpenError;
use redis::{ErrorKind, RedisError};

use crate::port::{BoxError, BrokerError};

/// A failed exchange with the server. Cheap to copy: one lost connection fails many calls.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    reason: String,
    pub(super) transient: bool,
    /// True if the connection must not be used again: it is broken, silent, or leads to a server that is
    /// no longer the right one. The next connection resolves the name anew.
    pub(super) lost: bool,
    /// The server does not know the script: nothing was done, and it has to be loaded.
    pub(super) unknown_script: bool,
}

impl Failure {
    pub(super) fn lost(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), transient: true, lost: true, unknown_script: false }
    }

    pub(super) fn permanent(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), transient: false, lost: false, unknown_script: false }
    }

    /// No answer yet; the connection itself has more patience.
    pub(super) fn slow(after: Duration) -> Self {
        let reason = format!("no answer within {} s", after.as_secs());
        Self { reason, transient: true, lost: false, unknown_script: false }
    }

    /// An answer that is not what the command answers.
    pub(super) fn strange(command: &str) -> Self {
        Self::lost(format!("the answer to {command} is not understood"))
    }

    /// As an error of the port: `Lost`, or what `otherwise` makes of cause and transience.
    pub(super) fn into_error(self, otherwise: impl FnOnce(BoxError, bool) -> BrokerError) -> BrokerError {
        match self.lost {
            true => BrokerError::Lost { reason: self.reason },
            false => {
                let transient = self.transient;
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

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Redis(error) => error.into(),
            OpenError::Other { reason, transient } => Self { transient, ..Self::lost(reason) },
        }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        let reason = error.to_string();
        let code = code(&error);
        let (transient, lost) = match (error.kind(), &code) {
            // What is no Redis at all gives Parse, too: but that is seen when connecting, by `HELLO`.
            (ErrorKind::Io | ErrorKind::Parse, _) => (true, true),
            (_, Some(code)) => by_code(code, &reason),
            (ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig, None) => (false, true),
            _ => (false, true),
        };
        let unknown_script = code.as_deref() == Some("NOSCRIPT");
        Self { reason, transient, lost, unknown_script }
    }
}

/// The code of the first thing that went wrong; for a transaction that was aborted, the reason why.
fn code(error: &RedisError) -> Option<String> {
    if let Some(errors) = error.clone().into_server_errors()
        && let Some((_, first)) = errors.first()
    {
        return Some(first.code().to_owned());
    }
    error.code().map(str::to_owned)
}

/// (transient, lost) for a code.
fn by_code(code: &str, text: &str) -> (bool, bool) {
    match code {
        // A replica, or a master that was demoted: another server, or the same later, is the right one.
        "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" | "UNBLOCKED" | "LOADING" => {
            (true, true)
        }
        // Busy, full, or unable to save: the operator, or time, will help; the connection is good.
        "BUSY" | "OOM" | "MISCONF" | "NOREPLICAS" | "EXECABORT" | "NOSCRIPT" => (true, false),
        "NOAUTH" | "WRONGPASS" => (false, true),
        "ERR" if text.contains("max number of clients") => (true, true),
        // Redis 6 wraps what a command in a script says.
        "ERR" if text.contains("-READONLY ") => (true, true),
        "ERR" if text.contains("-OOM ") || text.contains("-MISCONF ") => (true, false),
        _ => (false, false),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::make_extension_error;

    use super::*;

    #[track_caller]
    fn check(error: RedisError, transient: bool, lost: bool) {
        let failure = Failure::from(error);
        assert_eq!((failure.transient, failure.lost), (transient, lost), "{failure}");
    }

    #[test]
    fn trouble_that_passes_is_transient() {
        for code in ["MASTERDOWN", "UNBLOCKED", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "READONLY", "LOADING"] {
            check(make_extension_error(code.into(), None), true, true);
        }
        for code in ["OOM", "BUSY", "MISCONF", "NOREPLICAS"] {
            check(make_extension_error(code.into(), None), true, false);
        }
        for kind in [io::ErrorKind::ConnectionReset, io::ErrorKind::TimedOut, io::ErrorKind::BrokenPipe] {
            check(io::Error::from(kind).into(), true, true);
        }
    }

    #[test]
    fn trouble_that_stays_is_permanent() {
        check(make_extension_error("WRONGPASS".into(), None), false, true);
        check(make_extension_error("NOAUTH".into(), None), false, true);
        check(make_extension_error("NOPERM".into(), None), false, false);
        check(make_extension_error("WRONGTYPE".into(), None), false, false);
    }
}
