//! What went wrong with an AMQP operation, and whether trying again may help.

use std::fmt;
use std::time::Duration;

use dial::tls::{self, OptionNames};
use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use crate::port::BrokerError;

/// How long the broker may take over anything but a publication.
pub(super) const OPERATION_DEADLINE: Duration = Duration::from_secs(30);

/// The cause of an error of this adapter.
#[derive(Debug)]
pub(super) enum Failure {
    Amqp(lapin::Error),
    TimedOut(Duration),
    /// By connection.blocked, for as long as we wait for a confirmation.
    Blocked {
        may_have_been_sent: bool,
    },
    Refused(String),
}

impl Failure {
    /// The queue or exchange does not exist.
    pub(super) fn is_missing(&self) -> bool {
        self.code() == Some(&AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
    }

    /// Somebody else declared it, with other arguments.
    pub(super) fn is_conflict(&self) -> bool {
        self.code() == Some(&AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED))
    }

    /// It belongs to another connection.
    pub(super) fn is_locked(&self) -> bool {
        self.code() == Some(&AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED))
    }

    /// We have no right to do that.
    pub(super) fn is_refused_access(&self) -> bool {
        self.code() == Some(&AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED))
    }

    /// The broker has closed a channel over it, and no more.
    pub(super) fn is_of_a_channel(&self) -> bool {
        matches!(self.code(), Some(AMQPErrorKind::Soft(_)))
    }

    /// The broker has closed the connection over it.
    pub(super) fn is_not_allowed(&self) -> bool {
        self.code() == Some(&AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED))
    }

    /// The broker does not speak of such things: not every one knows RabbitMQ's extensions.
    pub(super) fn is_unknown_method(&self) -> bool {
        let code = self.code();
        [AMQPHardError::COMMANDINVALID, AMQPHardError::NOTIMPLEMENTED, AMQPHardError::SYNTAXERROR]
            .into_iter()
            .any(|error| code == Some(&AMQPErrorKind::Hard(error)))
    }

    /// The connection has ended without a word of the broker.
    pub(super) fn is_silent_end(&self) -> bool {
        match self {
            Self::Amqp(error) => {
                matches!(error.kind(), ErrorKind::IOError(_) | ErrorKind::InvalidConnectionState(_))
            }
            Self::TimedOut(_) | Self::Blocked { .. } | Self::Refused(_) => false,
        }
    }

    /// The other end has closed its socket.
    pub(super) fn is_hang_up(&self) -> bool {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let Self::Amqp(error) = self else { return false };
        let ErrorKind::IOError(error) = error.kind() else { return false };
        matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
    }

    /// True if the same may work later. What the broker itself refuses will be refused again, unless it
    /// was in use, had no resources or was shutting down.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut(_) | Self::Blocked { .. } => true,
            Self::Refused(_) => false,
            Self::Amqp(_) => match self.code() {
                Some(AMQPErrorKind::Soft(error)) => matches!(error, AMQPSoftError::RESOURCELOCKED),
                Some(AMQPErrorKind::Hard(error)) => !matches!(
                    error,
                    AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH | AMQPHardError::NOTIMPLEMENTED
                ),
                None => true,
            },
        }
    }

    fn code(&self) -> Option<&AMQPErrorKind> {
        match self {
            Self::Amqp(error) => match error.kind() {
                ErrorKind::ProtocolError(error) => Some(error.kind()),
                _ => None,
            },
            Self::TimedOut(_) | Self::Blocked { .. } | Self::Refused(_) => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amqp(error) => f.write_str(&said(error)),
            Self::TimedOut(after) => write!(f, "no answer within {} s", after.as_secs()),
            Self::Blocked { may_have_been_sent } => {
                f.write_str("the broker is short of memory or disk and blocks whoever publishes")?;
                f.write_str(if *may_have_been_sent { "; it may take the message when it no longer does" } else { "" })
            }
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Failure {}

impl From<lapin::Error> for Failure {
    fn from(error: lapin::Error) -> Self {
        Self::Amqp(error)
    }
}

/// What lapin says, or what it means where the trouble is TLS.
fn said(error: &lapin::Error) -> String {
    let of_tls = match error.kind() {
        ErrorKind::IOError(error) => tls::trouble(&**error, OptionNames::CELERY),
        _ => None,
    };
    of_tls.unwrap_or_else(|| error.to_string())
}

/// Waits for an answer of the broker, but not for ever.
pub(super) async fn timely<T>(operation: impl Future<Output = lapin::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(OPERATION_DEADLINE, operation).await {
        Ok(result) => result.map_err(Failure::Amqp),
        Err(_) => Err(Failure::TimedOut(OPERATION_DEADLINE)),
    }
}

pub(super) fn lost(reason: impl fmt::Display) -> BrokerError {
    BrokerError::Lost { reason: reason.to_string() }
}
