//! Reads Redis URLs as kombu does, with options of the transport behind the `?`.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use taskhost_core::RedactedUrl;

use super::RedisOptions;
use crate::port::BrokerError;

/// The schemes that are ours, those included that we refuse with a reason.
pub(crate) const SCHEMES: [&str; 4] = ["redis", "redis+socket", "rediss", "sentinel"];

/// Redis' own port.
const PORT: u16 = 6379;

/// A Redis server and how to log in.
#[derive(Clone, PartialEq)]
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) db: u32,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Address {
    Tcp(String, u16),
    Socket(PathBuf),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { address, db, username, password } = self;
        let password = password.as_ref().map(|_| "**");
        write!(f, "{address:?}, db {db}, user {username:?}, password {password:?}")
    }
}

/// Checks a URL of this transport.
pub(crate) fn check_redis_url(url: &str) -> Result<(), BrokerError> {
    parse(url, &mut RedisOptions::default()).map(drop)
}

/// Reads a URL; its options go over those that are given.
pub(super) fn parse(url: &str, options: &mut RedisOptions) -> Result<Target, BrokerError> {
    let refused = |reason: String| BrokerError::Url { url: RedactedUrl::new(url), reason };
    let (scheme, rest) = url.split_once("://").ok_or_else(|| refused("has no scheme".to_owned()))?;
    let target = match scheme {
        "redis" => tcp(rest, options),
        "redis+socket" => socket(rest, options),
        "rediss" => Err("TLS is not in this version".to_owned()),
        "sentinel" => Err("Redis Sentinel is not in this version".to_owned()),
        _ => Err(format!("`{scheme}` is not Redis")),
    };
    target.map_err(refused)
}

/// `[user:password@]host[:port][/db][?options]`.
fn tcp(rest: &str, options: &mut RedisOptions) -> Result<Target, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (username, password, host) = credentials(authority)?;
    let (host, port) = match host.rsplit_once(':') {
        // The last colon of a bare IPv6 address is inside its brackets.
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse().map_err(|_| format!("`{port}` is not a port"))?)
        }
        _ => (host, PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { "localhost" } else { host };
    let db = match query_options(query, options)? {
        Some(db) if path.trim_matches('/').is_empty() => db,
        _ => database(path)?,
    };
    Ok(Target { address: Address::Tcp(host.to_owned(), port), db, username, password })
}

/// `[user:password@]/path[?virtual_host=db&options]`.
fn socket(rest: &str, options: &mut RedisOptions) -> Result<Target, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (username, password, host) = credentials(authority)?;
    if path.is_empty() || !host.is_empty() {
        return Err("expected the path of a socket, such as redis+socket:///run/redis.sock".to_owned());
    }
    let path = PathBuf::from(format!("/{}", decoded(path)?.trim_start_matches('/')));
    let db = query_options(query, options)?.unwrap_or(0);
    Ok(Target { address: Address::Socket(path), db, username, password })
}

type Credentials<'a> = (Option<String>, Option<String>, &'a str);

/// User, password, and what follows the `@`.
fn credentials(authority: &str) -> Result<Credentials<'_>, String> {
    let Some((login, host)) = authority.rsplit_once('@') else { return Ok((None, None, authority)) };
    let (username, password) = login.split_once(':').unwrap_or((login, ""));
    let given = |text: &str| -> Result<Option<String>, String> {
        Ok(Some(decoded(text)?.into_owned()).filter(|text| !text.is_empty()))
    };
    Ok((given(username)?, given(password)?, host))
}

/// Sets options by their names in kombu (`broker_transport_options`).
pub(super) fn set_options(pairs: &[(String, String)], options: &mut RedisOptions) -> Result<(), String> {
    for (key, value) in pairs {
        if !set_option(key, value, options)? {
            return Err(format!("there is no option `{key}` of Redis; there are: {}", OPTIONS.join(", ")));
        }
    }
    Ok(())
}

/// The same options behind the `?` of a URL; and the database, if it is here.
fn query_options(query: &str, options: &mut RedisOptions) -> Result<Option<u32>, String> {
    let mut db = None;
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "virtual_host" | "db" => db = Some(database(&value)?),
            key if key.starts_with("ssl_") => return Err(format!("`{key}` needs TLS, which is not in this version")),
            // Settings of Python's connection pool, such as max_connections, say nothing about us.
            key => drop(set_option(key, &value, options)?),
        }
    }
    Ok(db)
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
        "socket_timeout" => {
            let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let seconds = seconds.filter(|timeout| !timeout.is_zero());
            options.socket_timeout =
                seconds.ok_or_else(|| format!("socket_timeout `{value}` is no number of seconds"))?;
        }
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

fn database(text: &str) -> Result<u32, String> {
    match text.trim_matches('/') {
        "" => Ok(0),
        number => number.parse().map_err(|_| format!("`{number}` is not the number of a database")),
    }
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Result<Cow<'_, str>, String> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let broken = || "broken percent-encoding".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let digits = after.get(..2).ok_or_else(broken)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| broken())?);
        rest = &after[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(Cow::Owned(String::from_utf8(bytes).map_err(|_| broken())?))
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
    fn urls_are_read_as_kombu_reads_them() {
        check("redis://", r#"Tcp("localhost", 6379), db 0, user None, password None"#);
        check("redis://box:7/3", r#"Tcp("box", 7), db 3, user None, password None"#);
        check("redis://[::1]:7//3", r#"Tcp("::1", 7), db 3, user None, password None"#);
        check("redis://:p%40ss@box?db=2", r#"Tcp("box", 6379), db 2, user None, password Some("**")"#);
        check("redis+socket:///run/r.sock?virtual_host=4", r#"Socket("/run/r.sock"), db 4, user None, password None"#);
        check("rediss://:s@b", "broker URL `rediss://:**@b`: TLS is not in this version");
        check("sentinel://b:26379", "broker URL `sentinel://b:26379`: Redis Sentinel is not in this version");
        check("redis://b/x", "broker URL `redis://b/x`: `x` is not the number of a database");
        check("redis://b:p", "broker URL `redis://b:p`: `p` is not a port");
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
             global_keyprefix, sep, priority_steps, fanout_prefix, fanout_patterns"
        );
        // Each that is named is known.
        for key in OPTIONS {
            assert!(
                set(key, "0").is_ok_and(|_| true) || !set(key, "0").unwrap_err().contains("there is no option"),
                "{key}"
            );
        }
    }
}
