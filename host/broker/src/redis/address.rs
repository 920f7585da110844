//! What stands in a Redis URL for this transport: kombu's options behind the `?`. The rest is read in `dial`.

use std::time::Duration;

use dial::redis::{Target, seconds};
use dial::tls::TlsOptions;
use taskhost_core::RedactedUrl;

use super::RedisOptions;
use crate::port::BrokerError;

pub(crate) use dial::redis::SCHEMES;

/// Checks a URL of this transport.
pub(crate) fn check_redis_url(url: &str) -> Result<(), BrokerError> {
    parse(url, &mut RedisOptions::default()).map(drop)
}

/// Checks a URL together with options that are by its side, except for those of TLS.
pub(crate) fn check_redis_options(url: &str, pairs: &[(String, String)]) -> Result<(), BrokerError> {
    let mut options = RedisOptions::default();
    options.set(url, pairs)?;
    parse(url, &mut options)?.check().map_err(|reason| refused(url, reason))
}

/// Checks that TLS can be had as it is asked for.
pub(crate) fn check_redis_tls(url: &str, tls: Option<&TlsOptions>) -> Result<(), BrokerError> {
    let mut options = RedisOptions::default();
    options.server.tls = tls.cloned();
    parse(url, &mut options)?.check_tls().map_err(|error| refused(url, error.to_string()))
}

/// Whether a connection has TLS.
pub(crate) fn has_tls(url: &str, mut options: RedisOptions) -> bool {
    parse(url, &mut options).is_ok_and(|target| target.options.tls.is_some())
}

/// Reads a URL; its options go over those that are given.
pub(super) fn parse(url: &str, options: &mut RedisOptions) -> Result<Target, BrokerError> {
    let target = Target::parse(url, &options.server).map_err(|reason| refused(url, reason))?;
    for (key, value) in &target.rest {
        // Settings of Python's connection pool, such as max_connections, say nothing about us.
        set_option(key, value, options).map_err(|reason| refused(url, reason))?;
    }
    Ok(target)
}

fn refused(url: &str, reason: String) -> BrokerError {
    BrokerError::Url { url: RedactedUrl::new(url), reason }
}

/// Sets options by their names in kombu (`broker_transport_options`).
pub(super) fn set_options(pairs: &[(String, String)], options: &mut RedisOptions) -> Result<(), String> {
    for (key, value) in pairs {
        if !set_option(key, value, options)? && !options.server.set(key, value)? {
            let known = [&OPTIONS[..], &dial::redis::OPTIONS[..]].concat().join(", ");
            return Err(format!("there is no option `{key}` of Redis; there are: {known}"));
        }
    }
    Ok(())
}

/// What [`set_option`] knows.
const OPTIONS: [&str; 7] = [
    "visibility_timeout",
    "socket_timeout",
    "global_keyprefix",
    "sep",
    "priority_steps",
    "fanout_prefix",
    "fanout_patterns",
];

/// False if there is no such option.
fn set_option(key: &str, value: &str, options: &mut RedisOptions) -> Result<bool, String> {
    match key {
        "visibility_timeout" => {
            let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
            let seconds = seconds.ok_or_else(|| format!("visibility_timeout `{value}` is no number of seconds"))?;
            options.visibility_timeout = Duration::from_secs(seconds);
        }
        "socket_timeout" => options.socket_timeout = seconds(key, value)?,
        "global_keyprefix" => options.global_keyprefix = value.to_owned(),
        "sep" => options.separator = value.to_owned(),
        "priority_steps" => options.priority_steps = steps(value)?,
        "fanout_prefix" => options.fanout_prefix = fanout_prefix(value),
        "fanout_patterns" => options.fanout_patterns = is_true(value),
        _ => return Ok(false),
    }
    Ok(true)
}

/// `0,3,6,9`: rising, and from zero on, since what is below the first step has no list.
fn steps(text: &str) -> Result<Vec<u8>, String> {
    let steps: Result<Vec<u8>, _> = text.split(',').map(|step| step.trim().parse()).collect();
    match steps {
        Ok(steps) if steps.first() == Some(&0) && steps.is_sorted_by(|a, b| a < b) => Ok(steps),
        _ => Err(format!("priority_steps `{text}` are not rising numbers that begin with 0")),
    }
}

/// True is kombu's own prefix, false is none, and everything else is the prefix.
fn fanout_prefix(text: &str) -> Option<String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => None,
        "false" | "0" | "" => Some(String::new()),
        _ => Some(text.to_owned()),
    }
}

fn is_true(text: &str) -> bool {
    !matches!(text.to_ascii_lowercase().as_str(), "false" | "0" | "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let shown = match parse(url, &mut RedisOptions::default()) {
            Ok(target) => format!("{target:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{url}");
    }

    #[test]
    fn options_of_the_transport_are_behind_the_question_mark() {
        let mut options = RedisOptions::default();
        let url = "redis://b/1?visibility_timeout=60&global_keyprefix=app:&priority_steps=0,5&socket_timeout=2.5&max_connections=3\
                   &fanout_prefix=false&sep=:";
        parse(url, &mut options).unwrap();
        assert_eq!(options.visibility_timeout, Duration::from_secs(60));
        assert_eq!(options.socket_timeout, Duration::from_millis(2500));
        assert_eq!((options.global_keyprefix.as_str(), options.separator.as_str()), ("app:", ":"));
        assert_eq!((options.priority_steps, options.fanout_prefix), (vec![0, 5], Some(String::new())));
        check(
            "redis://b?priority_steps=3,0",
            "broker URL `redis://b?priority_steps=3,0`: priority_steps `3,0` are not rising numbers that begin with 0",
        );
        check(
            "redis://b?visibility_timeout=0",
            "broker URL `redis://b?visibility_timeout=0`: visibility_timeout `0` is no number of seconds",
        );
    }

    #[test]
    fn options_are_set_by_their_names() {
        let set = |key: &str, value: &str| {
            let mut options = RedisOptions::default();
            set_options(&[(key.to_owned(), value.to_owned())], &mut options).map(|()| options)
        };
        assert_eq!(set("global_keyprefix", "app:").unwrap().global_keyprefix, "app:");
        assert_eq!(set("visibility_timeout", "60").unwrap().visibility_timeout, Duration::from_secs(60));
        assert_eq!(
            set("visibilty_timeout", "60").unwrap_err(),
            "there is no option `visibilty_timeout` of Redis; there are: visibility_timeout, socket_timeout, \
             global_keyprefix, sep, priority_steps, fanout_prefix, fanout_patterns, master_name, min_other_sentinels, \
             sentinel_kwargs"
        );
        assert_eq!(set("master_name", "m").unwrap().server.master_name.as_deref(), Some("m"));
        // Each that is named is known.
        for key in OPTIONS {
            assert!(
                set(key, "0").is_ok_and(|_| true) || !set(key, "0").unwrap_err().contains("there is no option"),
                "{key}"
            );
        }
    }
}
