//! The addresses of databases, as SQLAlchemy writes them, and how many connections there may be.
//!
//! Knows no database: which options there are, and what they mean, is said beside each.

use std::time::Duration;

use crate::percent::decoded;

/// `[user[:password]@][host][:port][/database][?option=value&...]`, undone from percent-encoding
/// (sqlalchemy/engine/url.py `_parse_url`).
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Address {
    pub username: Option<String>,
    pub password: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub database: Option<String>,
    pub query: Vec<(String, String)>,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { username, password, host, port, database, query } = self;
        let password = password.as_ref().map(|_| "**");
        write!(f, "Address({username:?}, {password:?}, {host:?}, {port:?}, {database:?}, {query:?})")
    }
}

impl Address {
    /// Reads what follows the `://` of a URL. The error says what is wrong and shows no password.
    pub fn parse(rest: &str) -> Result<Self, String> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold a slash, and an `@`, that nobody encoded: the last `@` ends it.
        let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let (host, database) = rest.split_once('/').map_or((rest, None), |(host, name)| (host, Some(name)));
        let (username, password) = match login {
            None => (None, None),
            Some(login) => {
                let (username, password) = login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)));
                (given(Some(username))?, given(password)?)
            }
        };
        let (host, port) = match host.rsplit_once(':') {
            // The last colon of a bare IPv6 address is inside its brackets.
            Some((host, port)) if !port.contains(']') => {
                (host, Some(port.parse().map_err(|_| format!("`{port}` is not a port"))?))
            }
            _ => (host, None),
        };
        let host = given(Some(host.trim_start_matches('[').trim_end_matches(']')))?;
        let mut options = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` has no value"))?;
            options.push((decoded(key)?.into_owned(), decoded(&value.replace('+', " "))?.into_owned()));
        }
        Ok(Self { username, password, host, port, database: given(database)?, query: options })
    }
}

fn given(text: Option<&str>) -> Result<Option<String>, String> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => Ok(Some(decoded(text)?.into_owned())),
    }
}

/// A whole number of seconds, or with a fraction, that is not zero.
pub(crate) fn seconds(key: &str, value: &str) -> Result<Duration, String> {
    let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|seconds| !seconds.is_zero()).ok_or_else(|| format!("{key} `{value}` is no number of seconds"))
}

/// Python's and the servers' words for yes and no.
pub(crate) fn truth(key: &str, value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("{key} `{value}` is neither true nor false")),
    }
}

/// How many connections there are and for how long, by the names of SQLAlchemy's `create_engine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolOptions {
    /// `pool_size`: how many connections are kept.
    pub size: usize,
    /// `max_overflow`: how many more there may be while all of those are used.
    pub overflow: usize,
    /// `pool_timeout`: how long to wait for one if all are used.
    pub timeout: Duration,
    /// `pool_recycle`: how old a connection may be; none: as old as it gets.
    pub recycle: Option<Duration>,
    /// Celery's `database_short_lived_sessions`: no connection is kept between two uses.
    pub short_lived: bool,
}

impl Default for PoolOptions {
    /// SQLAlchemy's `QueuePool`, and Celery's `pool_recycle` (celery/app/defaults.py).
    fn default() -> Self {
        Self {
            size: 5,
            overflow: 10,
            timeout: Duration::from_secs(30),
            recycle: Some(Duration::from_secs(3600)),
            short_lived: false,
        }
    }
}

/// Most connections that one process may be told to hold.
const CONNECTIONS_MAX: usize = 1_000;

impl PoolOptions {
    /// How many connections are kept while nobody uses them.
    pub fn kept(&self) -> usize {
        if self.short_lived { 0 } else { self.size }
    }

    /// How many there are at most.
    pub fn most(&self) -> usize {
        self.size + self.overflow
    }

    /// Takes an option of `create_engine`. False if it is none of the pool.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, String> {
        let count = |least: usize| {
            let count = value.parse().ok().filter(|count| (least..=CONNECTIONS_MAX).contains(count));
            count.ok_or_else(|| format!("{key} `{value}` is no number from {least} to {CONNECTIONS_MAX}"))
        };
        match key {
            "pool_size" => self.size = count(1)?,
            "max_overflow" => self.overflow = count(0)?,
            "pool_timeout" => self.timeout = seconds(key, value)?,
            "pool_recycle" if value == "-1" => self.recycle = None,
            "pool_recycle" => self.recycle = Some(seconds(key, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Address {
        Address::parse(rest).unwrap()
    }

    #[test]
    fn addresses_are_read_as_sqlalchemy_reads_them() {
        let text = |text: &str| Some(text.to_owned());
        let full = parse("me:p%40ss%2Fw%C3%B6rd:x@box:7/name?sslmode=require&options=-c%20x%3D1");
        assert_eq!((full.username, full.password), (text("me"), text("p@ss/wörd:x")));
        assert_eq!((full.host, full.port, full.database), (text("box"), Some(7), text("name")));
        let query = [("sslmode", "require"), ("options", "-c x=1")].map(|(key, value)| (key.into(), value.into()));
        assert_eq!(full.query, query);
        assert_eq!(parse("me:a/b@c@[::1]:5/d").password, text("a/b@c"));
        assert_eq!((parse("[::1]/d").host, parse("[::1]/d").port), (text("::1"), None));
        assert_eq!(parse(""), Address::default());
        assert_eq!(parse("/d").database, text("d"));
        assert_eq!(parse("box/").database, None);
    }

    #[test]
    fn what_is_no_address_says_why_and_shows_no_password() {
        for (rest, reason) in [
            ("me:secret@box:x/d", "`x` is not a port"),
            ("me:%zz@box", "broken percent-encoding"),
            ("box?charset", "`charset` has no value"),
        ] {
            assert_eq!(Address::parse(rest).unwrap_err(), reason);
        }
        assert!(!format!("{:?}", parse("me:secret@box")).contains("secret"));
    }

    #[test]
    fn a_pool_has_bounds() {
        let mut options = PoolOptions::default();
        for (key, value) in [("pool_size", "2"), ("max_overflow", "0"), ("pool_timeout", "0.5"), ("pool_recycle", "-1")]
        {
            assert_eq!(options.set(key, value), Ok(true));
        }
        let timeout = Duration::from_millis(500);
        assert_eq!(options, PoolOptions { size: 2, overflow: 0, timeout, recycle: None, short_lived: false });
        assert_eq!(options.set("echo", "true"), Ok(false));
        assert_eq!(options.set("pool_size", "0").unwrap_err(), "pool_size `0` is no number from 1 to 1000");
        assert_eq!(options.set("pool_timeout", "soon").unwrap_err(), "pool_timeout `soon` is no number of seconds");
    }
}
