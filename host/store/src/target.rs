//! What a result backend URL names.
//!
//! Reads Celery's forms of URLs; never connects and never touches a file.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use taskhost_core::RedactedUrl;

use crate::memcached::{Cache, Servers};
use crate::port::StoreError;

/// What is said about a URL whose scheme we do not know.
const KNOWN: &str = "known are redis://, redis+socket:///, db+postgresql://, db+mysql://, db+sqlite:///, sqlite:///, rpc://, \
     cache+memcached://, memory:// and disabled://";

/// Redis' own port.
const REDIS_PORT: u16 = 6379;

/// Where results are kept, as the URL says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Target {
    Memory,
    Disabled,
    Rpc,
    Redis(RedisTarget),
    Sqlite(PathBuf),
    Postgresql(Box<dial::postgresql::Target>),
    Mysql(Box<dial::mysql::Target>),
    Memcached(Servers),
}

/// A Redis server and how to log in.
#[derive(Clone, PartialEq)]
pub(crate) struct RedisTarget {
    pub(crate) address: RedisAddress,
    pub(crate) db: u32,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    /// How long an answer may take until the connection is given up.
    pub(crate) socket_timeout: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RedisAddress {
    Tcp(String, u16),
    Socket(PathBuf),
}

impl std::fmt::Debug for RedisTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { address, db, username, password, .. } = self;
        let password = password.as_ref().map(|_| "**");
        write!(f, "RedisTarget({address:?}, db {db}, user {username:?}, password {password:?})")
    }
}

impl Target {
    /// Reads a URL.
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        let refused = |reason: String| StoreError::Url { url: RedactedUrl::new(url), reason };
        // Celery takes the bare name of a backend for those that need no address.
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        match scheme {
            "memory" => Ok(Self::Memory),
            "disabled" => Ok(Self::Disabled),
            "cache" => Err(refused("say which cache, as cache+memcached://host:11211/".to_owned())),
            _ if let Some(cache) = scheme.strip_prefix("cache+") => match Cache::parse(cache, rest) {
                Ok(Cache::Servers(servers)) => Ok(Self::Memcached(servers)),
                Ok(Cache::Memory) => Ok(Self::Memory),
                Err(reason) => Err(refused(reason)),
            },
            "rpc" => Ok(Self::Rpc),
            "redis" => redis_tcp(rest).map(Self::Redis).map_err(refused),
            "redis+socket" | "unix" => redis_socket(rest).map(Self::Redis).map_err(refused),
            "rediss" => Err(refused("TLS is not supported by this version".to_owned())),
            "sentinel" => Err(refused("Redis Sentinel is not supported by this version".to_owned())),
            "sqlite" | "sqlite+pysqlite" => sqlite(rest).map(Self::Sqlite).map_err(refused),
            _ => match scheme.strip_prefix("db+").or_else(|| scheme.strip_prefix("database+")) {
                Some("sqlite" | "sqlite+pysqlite") => sqlite(rest).map(Self::Sqlite).map_err(refused),
                Some(dialect) if dial::postgresql::is_dialect(dialect) => {
                    let target = dial::postgresql::Target::parse(rest).map_err(refused)?;
                    Ok(Self::Postgresql(Box::new(target)))
                }
                Some(dialect) if dial::mysql::is_dialect(dialect) => {
                    let target = dial::mysql::Target::parse(rest).map_err(refused)?;
                    Ok(Self::Mysql(Box::new(target)))
                }
                Some(dialect) => Err(refused(format!(
                    "there is no database `{dialect}`; known are db+postgresql, db+mysql, db+mariadb and db+sqlite, \
                     each with a driver of Python's after a plus sign or without one"
                ))),
                None => Err(refused(format!("there is no result backend `{scheme}`; {KNOWN}"))),
            },
        }
    }
}

/// What a URL names that is a result backend's or a broker's.
pub(crate) fn of_any(url: &str) -> Result<Target, StoreError> {
    match url.strip_prefix("sqla+").or_else(|| url.strip_prefix("sqlalchemy+")) {
        Some(rest) => Target::parse(&format!("db+{rest}")),
        None => Target::parse(url),
    }
}

/// `[user:password@]host[:port][/db][?query]`, as celery/backends/redis.py `_params_from_url` reads it.
fn redis_tcp(rest: &str) -> Result<RedisTarget, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (username, password, host) = credentials(authority)?;
    let (host, port) = match host.rsplit_once(':') {
        // The last colon of a bare IPv6 address is inside its brackets.
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse().map_err(|_| format!("`{port}` is not a port"))?)
        }
        _ => (host, REDIS_PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { "localhost" } else { host };
    let options = query_options(query)?;
    let db = match options.db {
        Some(db) if path.trim_matches('/').is_empty() => db,
        _ => database(path)?,
    };
    let address = RedisAddress::Tcp(host.to_owned(), port);
    Ok(RedisTarget { address, db, username, password, socket_timeout: options.socket_timeout })
}

/// `[user:password@]/path[?virtual_host=db]`.
fn redis_socket(rest: &str) -> Result<RedisTarget, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (username, password, host) = credentials(authority)?;
    if path.is_empty() || !host.is_empty() {
        return Err("expected the path of a socket, such as redis+socket:///run/redis.sock".to_owned());
    }
    let path = decoded(path)?;
    let options = query_options(query)?;
    let address = RedisAddress::Socket(PathBuf::from(format!("/{}", path.trim_start_matches('/'))));
    let db = options.db.unwrap_or(0);
    Ok(RedisTarget { address, db, username, password, socket_timeout: options.socket_timeout })
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

fn query_options(query: &str) -> Result<QueryOptions, String> {
    let mut options = QueryOptions::default();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "virtual_host" | "db" => options.db = Some(database(&value)?),
            "socket_timeout" => {
                let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                let seconds = seconds.filter(|timeout| !timeout.is_zero());
                let refused = || format!("socket_timeout `{value}` is no number of seconds");
                options.socket_timeout = Some(seconds.ok_or_else(refused)?);
            }
            key if key.starts_with("ssl_") => {
                return Err(format!("`{key}` needs TLS, which is not supported by this version"));
            }
            // Settings of Python's connection pool, such as max_connections, say nothing about us.
            _ => {}
        }
    }
    Ok(options)
}

#[derive(Default)]
struct QueryOptions {
    db: Option<u32>,
    socket_timeout: Option<Duration>,
}

fn database(text: &str) -> Result<u32, String> {
    match text.trim_matches('/') {
        "" => Ok(0),
        number => number.parse().map_err(|_| format!("`{number}` is not the number of a database")),
    }
}

/// `/rel.db` or `//abs.db`, as SQLAlchemy reads it: everything after the first slash is the path, as it is.
fn sqlite(rest: &str) -> Result<PathBuf, String> {
    let path = rest.split_once('?').map_or(rest, |(path, _)| path);
    if matches!(path, "" | "/" | "/:memory:") {
        return Err("a database in memory cannot be shared; use memory:// or name a file".to_owned());
    }
    match path.strip_prefix('/') {
        Some(path) if path.starts_with("file:") => Err("file: URIs are not supported; name the path".to_owned()),
        Some(path) => Ok(PathBuf::from(path)),
        None => Err("expected three slashes and a path, such as db+sqlite:///results.db".to_owned()),
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
        let shown = match Target::parse(url) {
            Ok(target) => format!("{target:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{url}");
    }

    #[test]
    fn redis_urls_are_read_as_celery_reads_them() {
        let localhost = r#"Redis(RedisTarget(Tcp("localhost", 6379), db 0, user None, password None))"#;
        check("redis://", localhost);
        check("redis://localhost", localhost);
        check("redis:///", localhost);
        check("redis://box:7/3", r#"Redis(RedisTarget(Tcp("box", 7), db 3, user None, password None))"#);
        check("redis://[::1]:7/3", r#"Redis(RedisTarget(Tcp("::1", 7), db 3, user None, password None))"#);
        check("redis://[::1]", r#"Redis(RedisTarget(Tcp("::1", 6379), db 0, user None, password None))"#);
        check("redis://:s@box/1", r#"Redis(RedisTarget(Tcp("box", 6379), db 1, user None, password Some("**")))"#);
        check(
            "redis://me:s@box?db=2",
            r#"Redis(RedisTarget(Tcp("box", 6379), db 2, user Some("me"), password Some("**")))"#,
        );
        check(
            "redis+socket:///run/r.sock?virtual_host=4",
            r#"Redis(RedisTarget(Socket("/run/r.sock"), db 4, user None, password None))"#,
        );
        check(
            "unix://:s@/run/r.sock",
            r#"Redis(RedisTarget(Socket("/run/r.sock"), db 0, user None, password Some("**")))"#,
        );
    }

    #[test]
    fn the_time_for_an_answer_is_an_option() {
        let Ok(Target::Redis(target)) = Target::parse("redis://box?socket_timeout=2.5&max_connections=3") else {
            panic!()
        };
        assert_eq!(target.socket_timeout, Some(Duration::from_millis(2500)));
        let reason = "result backend URL `redis://b?socket_timeout=0`: socket_timeout `0` is no number of seconds";
        check("redis://b?socket_timeout=0", reason);
    }

    #[test]
    fn a_password_may_hold_any_character() {
        let Ok(Target::Redis(target)) = Target::parse("redis://:p%40ss%2Fw%C3%B6rd:x@box") else { panic!() };
        assert_eq!(target.password.as_deref(), Some("p@ss/wörd:x"));
    }

    #[test]
    fn sqlite_urls_are_read_as_sqlalchemy_reads_them() {
        check("sqlite:///rel.db", r#"Sqlite("rel.db")"#);
        check("db+sqlite:///a/b%20.db?timeout=5", r#"Sqlite("a/b%20.db")"#);
        check("db+sqlite:////abs.db", r#"Sqlite("/abs.db")"#);
        let memory = "a database in memory cannot be shared; use memory:// or name a file";
        for url in ["sqlite://", "sqlite:///", "db+sqlite:///:memory:"] {
            check(url, &format!("result backend URL `{url}`: {memory}"));
        }
        check(
            "sqlite://results.db",
            "result backend URL `sqlite://results.db`: expected three slashes and a path, such as db+sqlite:///results.db",
        );
    }

    #[test]
    fn databases_are_named_as_sqlalchemy_names_them() {
        for dialect in ["postgresql", "postgresql+psycopg2", "postgresql+psycopg", "postgresql+asyncpg"] {
            let target = Target::parse(&format!("db+{dialect}://me:s@box/d"));
            assert!(matches!(target, Ok(Target::Postgresql(_))), "{dialect}: {target:?}");
        }
        for dialect in ["mysql", "mysql+pymysql", "mysql+mysqldb", "mariadb", "mariadb+pymysql"] {
            let target = Target::parse(&format!("db+{dialect}://me:s@box/d?charset=utf8mb4"));
            assert!(matches!(target, Ok(Target::Mysql(_))), "{dialect}: {target:?}");
        }
    }

    #[test]
    fn caches_are_celerys() {
        check("cache+memory://", "Memory");
        let Ok(Target::Memcached(servers)) = Target::parse("cache+pymemcache://box;other:7/") else { panic!() };
        let Ok(Target::Memcached(same)) = Target::parse("cache+memcached://box:11211;other:7") else { panic!() };
        assert_eq!(servers, same);
        check("cache", "result backend URL `cache`: say which cache, as cache+memcached://host:11211/");
        check(
            "cache+redis://box",
            "result backend URL `cache+redis://box`: Celery has no cache `redis`; known are cache+memcached:// and \
             cache+memory://",
        );
    }

    #[test]
    fn a_url_that_is_not_ours_is_refused_with_a_reason() {
        check("rpc://", "Rpc");
        check("rpc", "Rpc");
        check("disabled://", "Disabled");
        check("rediss://:s@b", "result backend URL `rediss://:**@b`: TLS is not supported by this version");
        check("redis://b/x", "result backend URL `redis://b/x`: `x` is not the number of a database");
        check("redis://b:p/1", "result backend URL `redis://b:p/1`: `p` is not a port");
        check("redis://:%zz@b", "result backend URL `redis://:**@b`: broken percent-encoding");
        check(
            "db+oracle://me:pw@db/x",
            "result backend URL `db+oracle://me:**@db/x`: there is no database `oracle`; known are db+postgresql, db+mysql, \
             db+mariadb and db+sqlite, each with a driver of Python's after a plus sign or without one",
        );
        check(
            "db+postgresql://me:pw@db/x?colour=red",
            "result backend URL `db+postgresql://me:**@db/x?colour=red`: PostgreSQL has no option `colour` that is known \
             here",
        );
        check(
            "mongodb://b",
            "result backend URL `mongodb://b`: there is no result backend `mongodb`; known are redis://, \
             redis+socket:///, db+postgresql://, db+mysql://, db+sqlite:///, sqlite:///, rpc://, cache+memcached://, memory:// and disabled://",
        );
    }
}
