//! What an error of Redis means for us: may it go away, and is the connection of any more use.
//!
//! Redis says most of it in the first word of its answer.

use dial::redis::OpenError;
use redis::{ErrorKind, RedisError};

use crate::cause::Cause;

/// A failed exchange with the server.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    /// True if the connection must not be used again: it is broken, silent, or leads to a server that is
    /// no longer the right one. The next connection resolves the name anew.
    pub(crate) lost: bool,
    /// True if the connection was closed, and the same may succeed at once on a new one.
    pub(crate) dropped: bool,
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Redis(error) => Self::new(error, Phase::Connecting),
            OpenError::Other { transient, .. } => {
                Self { cause: Cause::new(error, transient), lost: true, dropped: false }
            }
        }
    }
}

/// When the exchange took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Operating,
}

impl Failure {
    /// Judges an error of the client library.
    pub(crate) fn new(error: RedisError, phase: Phase) -> Self {
        let dropped = error.is_connection_dropped() && !error.is_timeout();
        let (transient, lost) = match error.kind() {
            ErrorKind::Io => (true, true),
            // Not Redis at all when it happens first; a stream out of step when it happens later.
            ErrorKind::Parse => (phase == Phase::Operating, true),
            ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => (false, true),
            _ => match code(&error) {
                Some(code) => {
                    let text = error.to_string();
                    by_code(code_in_script(&text).unwrap_or(&code), &text)
                }
                None => (false, true),
            },
        };
        Self { cause: Cause::new(error, transient), lost, dropped }
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

/// The code of the command that failed in a script: before Redis 7 it stands in the text alone, as in
/// `ERR Error running script (call to f_..): @user_script:3: @user_script: 3: -OOM command not allowed ..`.
fn code_in_script(text: &str) -> Option<&str> {
    let (_, place) = text.split_once("@user_script")?;
    let (_, error) = place.split_once(": -")?;
    let end = error.find(|character: char| !character.is_ascii_uppercase()).unwrap_or(error.len());
    (end > 0).then(|| &error[..end])
}

/// (transient, lost) for a code.
fn by_code(code: &str, text: &str) -> (bool, bool) {
    match code {
        // A replica, or a master that was demoted: another server, or the same later, is the right one.
        "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" | "UNBLOCKED" => (true, true),
        "LOADING" => (true, true),
        // Busy, full, or unable to save: the operator, or time, will help; the connection is good.
        "BUSY" | "OOM" | "MISCONF" | "NOREPLICAS" | "EXECABORT" => (true, false),
        "NOAUTH" | "WRONGPASS" => (false, true),
        "ERR" if text.contains("max number of clients") => (true, true),
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
        let failure = Failure::new(error, Phase::Operating);
        assert_eq!((failure.cause.transient, failure.lost), (transient, lost), "{}", failure.cause);
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
    fn trouble_inside_of_a_script_is_that_of_its_command() {
        let old = |text: &str| {
            let detail = format!("Error running script (call to f_0a): @user_script:1: @user_script: 1: {text}");
            make_extension_error("ERR".into(), Some(detail))
        };
        check(old("-OOM command not allowed when used memory > 'maxmemory'."), true, false);
        check(old("-READONLY You can't write against a read only replica."), true, true);
        check(old("-WRONGTYPE Operation against a key"), false, false);
        check(old("attempt to compare nil with number"), false, false);
    }

    #[test]
    fn trouble_that_stays_is_permanent() {
        check(make_extension_error("WRONGPASS".into(), None), false, true);
        check(make_extension_error("NOAUTH".into(), None), false, true);
        check(make_extension_error("NOPERM".into(), None), false, false);
        check(make_extension_error("WRONGTYPE".into(), None), false, false);
    }
}
