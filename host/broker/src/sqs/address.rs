//! Reads SQS URLs as kombu does: credentials before the `@`, an endpoint behind it if it is not AWS.

use dial::percent::decoded;
use taskhost_core::RedactedUrl;

use super::options::SqsOptions;
use crate::port::BrokerError;

/// The scheme that is ours.
pub(crate) const SCHEMES: [&str; 1] = ["sqs"];

/// Where SQS is, and with what to sign.
#[derive(Clone, PartialEq, Default)]
pub(super) struct Target {
    /// Without them AWS' own chain is asked: environment, profile, web identity, container, instance.
    pub(super) credentials: Option<(String, String)>,
    /// `host[:port]` of what is not AWS.
    pub(super) host: Option<String>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.credentials.as_ref().map(|(key, _)| key);
        write!(f, "host {:?}, access key {key:?}", self.host)
    }
}

/// Checks a URL of this transport.
pub(crate) fn check_sqs_url(url: &str) -> Result<(), BrokerError> {
    parse(url, &mut SqsOptions::default()).map(drop)
}

/// Reads a URL; its options go over those that are given.
pub(super) fn parse(url: &str, options: &mut SqsOptions) -> Result<Target, BrokerError> {
    let refused = |reason: String| BrokerError::Url { url: RedactedUrl::new(url), reason };
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    target(rest, options).map_err(refused)
}

/// `[key:secret@][host[:port]][/][?options]`.
fn target(rest: &str, options: &mut SqsOptions) -> Result<Target, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains('@') {
        return Err("a `/` in the secret must be written %2F, and a `+` %2B".to_owned());
    }
    let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (key, secret) = login.split_once(':').unwrap_or((login, ""));
    let (key, secret) = (decoded(key)?, decoded(secret)?);
    let credentials = match (key.is_empty(), secret.is_empty()) {
        (true, true) => None,
        (false, false) => Some((key.into_owned(), secret.into_owned())),
        _ => return Err("an access key needs its secret: sqs://KEY:SECRET@".to_owned()),
    };
    if let Some((_, port)) = host.rsplit_once(':')
        && !port.contains(']')
        && port.parse::<u16>().is_err()
    {
        return Err(format!("`{port}` is not a port"));
    }
    let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    options.set_all(&pairs)?;
    Ok(Target { credentials, host: Some(host.to_owned()).filter(|host| !host.is_empty()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let shown = match parse(url, &mut SqsOptions::default()) {
            Ok(target) => format!("{target:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{url}");
    }

    #[test]
    fn urls_are_read_as_kombu_reads_them() {
        check("sqs://", "host None, access key None");
        check("sqs://AKIA:s%2Fe%2Bc@", r#"host None, access key Some("AKIA")"#);
        check("sqs://AKIA:x@127.0.0.1:4566//", r#"host Some("127.0.0.1:4566"), access key Some("AKIA")"#);
        check("sqs://localhost:9324", r#"host Some("localhost:9324"), access key None"#);
        check("sqs://k:s@b:p", "broker URL `sqs://k:**@b:p`: `p` is not a port");
        check("sqs://k@", "broker URL `sqs://k@`: an access key needs its secret: sqs://KEY:SECRET@");
        let target = parse("sqs://AKIA:s%2Fe%2Bc@", &mut SqsOptions::default()).unwrap();
        assert_eq!(target.credentials, Some(("AKIA".to_owned(), "s/e+c".to_owned())));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let error = parse("sqs://AKIA:abc/def@", &mut SqsOptions::default()).unwrap_err().to_string();
        assert!(error.contains("must be written %2F"), "{error}");
        let error = parse("sqs://AKIA:se%zzcret@", &mut SqsOptions::default()).unwrap_err().to_string();
        assert_eq!(error, "broker URL `sqs://AKIA:**@`: broken percent-encoding");
    }

    #[test]
    fn options_may_stand_behind_the_question_mark() {
        let mut options = SqsOptions::default();
        parse("sqs://?region=eu-west-1&queue_name_prefix=prod-", &mut options).unwrap();
        assert_eq!((options.region.as_deref(), options.queue_name_prefix.as_str()), (Some("eu-west-1"), "prod-"));
        check(
            "sqs://?regoin=x",
            "broker URL `sqs://?regoin=x`: there is no option `regoin` of SQS; there are: region, is_secure, \
             endpoint_url, queue_name_prefix, visibility_timeout, wait_time_seconds, polling_interval, \
             sqs_base64_encoding, sqs-creation-attributes, queue_tags, predefined_queues, sts_role_arn, \
             sts_token_timeout, sts_token_buffer_time",
        );
    }
}
