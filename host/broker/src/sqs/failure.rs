//! What an error of SQS means for us: may it go away, and whose fault is it.
//!
//! There is no connection that could break: a server that does not answer is lost when that lasts.

use std::error::Error;
use std::fmt;

use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use dial::tls::{self, OptionNames};

use crate::port::{BoxError, BrokerError};

/// A request that failed, after the retries of the SDK.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    reason: String,
    pub(super) transient: bool,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody answered, or not in time.
    Unreachable,
    /// The queue does not exist.
    NoQueue,
    /// These credentials are good, and may not do this.
    Denied,
    /// A queue is purged once a minute.
    Purging,
    Other,
}

impl Failure {
    pub(super) fn lost(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), transient: true, kind: Kind::Unreachable }
    }

    pub(super) fn permanent(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), transient: false, kind: Kind::Other }
    }

    /// What SQS said of one entry of a batch.
    pub(super) fn entry(code: &str, message: Option<&str>, sender_fault: bool) -> Self {
        let (transient, kind) = by_code(code, message.unwrap_or_default());
        let reason = format!("{code}: {}", message.unwrap_or("SQS says no more"));
        Self { reason, transient: transient || !sender_fault, kind }
    }

    /// As an error of the port: `Lost`, or what `otherwise` makes of cause and transience.
    pub(super) fn into_error(self, otherwise: impl FnOnce(BoxError, bool) -> BrokerError) -> BrokerError {
        match self.kind {
            Kind::Unreachable => BrokerError::Lost { reason: self.reason },
            _ => {
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

impl Error for Failure {}

impl<E, R> From<SdkError<E, R>> for Failure
where
    E: ProvideErrorMetadata + Error + 'static,
    R: fmt::Debug + 'static,
{
    fn from(error: SdkError<E, R>) -> Self {
        match &error {
            SdkError::ServiceError(context) => {
                let code = context.err().code().unwrap_or("unknown error");
                let message = context.err().message().unwrap_or("SQS says no more");
                let (transient, kind) = by_code(code, message);
                Self { reason: format!("{code}: {message}{}", hint(code)), transient, kind }
            }
            SdkError::TimeoutError(_) => Self::lost("no answer in time"),
            SdkError::ConstructionFailure(_) => by_cause(&error, false),
            // Whatever else is between us and an answer that can be read.
            _ => by_cause(&error, true),
        }
    }
}

/// An error of ours, or of the way there, by what it says of itself.
fn by_cause<E, R>(error: &SdkError<E, R>, transient: bool) -> Failure
where
    E: Error + 'static,
    R: fmt::Debug + 'static,
{
    let detail = format!("{}", DisplayErrorContext(error));
    // The types of this are those of a crate that nothing else needs.
    if detail.contains("CredentialsNotLoaded") || detail.contains("no providers in chain") {
        return Failure::permanent(
            "there are no credentials: neither in the URL (sqs://KEY:SECRET@) nor in AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY, a profile, or a role of this machine",
        );
    }
    // A server with another certificate may be replaced by the right one.
    let reason = tls::trouble(error, OptionNames::AWS).unwrap_or_else(|| causes(error));
    match transient {
        true => Failure::lost(reason),
        false => Failure::permanent(reason),
    }
}

/// The causes in a row, each once.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}

/// (transient, kind) for a code, with and without the names of old protocols before it.
fn by_code(code: &str, message: &str) -> (bool, Kind) {
    let code = code.rsplit(['.', '#']).next().unwrap_or(code);
    match code {
        "QueueDoesNotExist" | "NonExistentQueue" => (false, Kind::NoQueue),
        "PurgeQueueInProgress" => (true, Kind::Purging),
        "AccessDenied" | "AccessDeniedException" | "KmsAccessDenied" => (false, Kind::Denied),
        "RequestThrottled"
        | "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "KmsThrottled"
        | "OverLimit"
        | "SlowDown" => (true, Kind::Other),
        "InternalError" | "InternalFailure" | "InternalServerError" | "ServiceUnavailable" => (true, Kind::Other),
        // A minute later the name is free.
        "QueueDeletedRecently" => (true, Kind::Other),
        // Those of a role or a profile are fetched anew.
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => (true, Kind::Other),
        // What a proxy says in between.
        _ if message.contains("503") || message.contains("502") => (true, Kind::Other),
        _ => (false, Kind::Other),
    }
}

/// What to do about it, where that is not obvious.
fn hint(code: &str) -> &'static str {
    match code.rsplit(['.', '#']).next().unwrap_or(code) {
        "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" => {
            " (AWS does not know this access key; is the region right?)"
        }
        "SignatureDoesNotMatch" | "InvalidSignatureException" => {
            " (the secret is wrong, or not percent-encoded in the URL: `/` is %2F and `+` is %2B)"
        }
        "ExpiredToken" | "ExpiredTokenException" => " (these credentials were for a limited time, which is over)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_passes() {
        let check = |code, expected| assert_eq!(by_code(code, ""), expected, "{code}");
        check("AWS.SimpleQueueService.NonExistentQueue", (false, Kind::NoQueue));
        check("com.amazonaws.sqs#QueueDoesNotExist", (false, Kind::NoQueue));
        check("AWS.SimpleQueueService.PurgeQueueInProgress", (true, Kind::Purging));
        check("AccessDenied", (false, Kind::Denied));
        for code in ["RequestThrottled", "OverLimit", "InternalError", "ServiceUnavailable", "ExpiredToken"] {
            check(code, (true, Kind::Other));
        }
        for code in ["InvalidClientTokenId", "SignatureDoesNotMatch", "InvalidParameterValue"] {
            check(code, (false, Kind::Other));
        }
    }

    #[test]
    fn an_entry_of_a_batch_fails_by_its_own_fault_or_not() {
        let failure = Failure::entry("InvalidMessageContents", Some("a character is not allowed"), true);
        assert_eq!(
            (failure.to_string().as_str(), failure.transient),
            ("InvalidMessageContents: a character is not allowed", false)
        );
        assert!(Failure::entry("Whatever", None, false).transient);
    }
}
