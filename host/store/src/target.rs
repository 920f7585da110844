//! What a result backend URL names.
//!
//! Reads Celery's forms of URLs; never connects and never touches a file.

use std::path::PathBuf;
use std::time::Duration;

use taskhost_core::RedactedUrl;

use crate::memcached::{Cache, Servers};
use crate::port::StoreError;

/// What is said about a URL whose scheme we do not know.
const KNOWN: &str = "known are redis://, rediss://, sentinel://, redis+socket:///, db+postgresql://, db+mysql://, \
     db+sqlite:///, sqlite:///, file:///, rpc://, amqp://, cache+memcached://, memory:// and disabled://";

/// Where results are kept, as the URL says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Target {
    Memory,
    Disabled,
    Rpc,
    /// Queues at the broker, by the connection that the worker has to it.
    Amqp,
    Redis(Box<dial::redis::Target>),
    Sqlite(PathBuf),
    Postgresql(Box<dial::postgresql::Target>),
    Mysql(Box<dial::mysql::Target>),
    Memcached(Servers),
    /// A folder with files.
    Folder(PathBuf),
}

impl Target {
    /// Reads a URL.
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        Self::parse_with(url, &dial::redis::Options::default())
    }

    /// Reads a URL, whose options go over those that are given.
    pub(crate) fn parse_with(url: &str, redis: &dial::redis::Options) -> Result<Self, StoreError> {
        let refused = |reason: String| StoreError::Url { url: RedactedUrl::new(url), reason };
        if let Some(database) = of_django(url) {
            return Self::parse(database);
        }
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
            "django-db" | "django-cache" => Err(refused(
                "what Django's settings name is known to Django alone; name the database, such as \
                 django-db+postgresql://user:password@host/name"
                    .to_owned(),
            )),
            "rpc" => Ok(Self::Rpc),
            "amqp" | "amqps" | "pyamqp" => Ok(Self::Amqp),
            _ if dial::redis::SCHEMES.contains(&scheme) => {
                let target = dial::redis::Target::parse(url, redis).and_then(|target| {
                    socket_timeout(&target)?;
                    Ok(target)
                });
                target.map(|target| Self::Redis(Box::new(target))).map_err(refused)
            }
            "file" => folder(rest).map(Self::Folder).map_err(refused),
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

/// Celery's way to name the database, where the tables are those of Django's.
const DJANGO: &str = "django-";

/// The URL of the database, if its tables are those of django-celery-results.
pub(crate) fn of_django(url: &str) -> Option<&str> {
    url.strip_prefix(DJANGO).filter(|rest| rest.starts_with("db+"))
}

/// What a URL names that is a result backend's or a broker's.
pub(crate) fn of_any(url: &str, redis: &dial::redis::Options) -> Result<Target, StoreError> {
    match url.strip_prefix("sqla+").or_else(|| url.strip_prefix("sqlalchemy+")) {
        Some(rest) => Target::parse(&format!("db+{rest}")),
        None => Target::parse_with(url, redis),
    }
}

/// How long an answer may take until the connection is given up, if the URL says it. What else it says about Python's
/// connection pool, such as max_connections, says nothing about us.
pub(crate) fn socket_timeout(target: &dial::redis::Target) -> Result<Option<Duration>, String> {
    let given = target.rest.iter().rev().find(|(key, _)| key == "socket_timeout");
    given.map(|(key, value)| dial::redis::seconds(key, value)).transpose()
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

/// The rest of `file://`, as celery/backends/filesystem.py `_find_path` reads it: nothing is decoded.
fn folder(rest: &str) -> Result<PathBuf, String> {
    let path = match rest.strip_prefix("localhost/") {
        Some(_) => &rest["localhost".len()..],
        None => rest,
    };
    match path {
        "" => Err("names no folder; one is needed, as in file:///srv/results".to_owned()),
        path => Ok(PathBuf::from(path)),
    }
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
        check("redis://:s@box:7/1", r#"Redis(Tcp("box", 7), db 1, user None, password Some("**"))"#);
        check("unix:///r.sock", r#"Redis(Socket("/r.sock"), db 0, user None, password None)"#);
        check(
            "sentinel://a;sentinel://b",
            r#"Redis(Sentinels([("a", 26379), ("b", 26379)]), db 0, user None, password None)"#,
        );
        check("redis://:s@b/x", "result backend URL `redis://:**@b/x`: `x` is not the number of a database");
    }

    #[test]
    fn the_time_for_an_answer_is_an_option() {
        let Ok(Target::Redis(target)) = Target::parse("redis://box?socket_timeout=2.5&max_connections=3") else {
            panic!()
        };
        assert_eq!(socket_timeout(&target).unwrap(), Some(Duration::from_millis(2500)));
        let reason = "result backend URL `redis://b?socket_timeout=0`: socket_timeout `0` is no number of seconds";
        check("redis://b?socket_timeout=0", reason);
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
    fn folders_are_read_as_celery_reads_them() {
        check("file:///srv/results", r#"Folder("/srv/results")"#);
        check("file://localhost/srv/a%20b", r#"Folder("/srv/a%20b")"#);
        check("file://results", r#"Folder("results")"#);
        let missing = "names no folder; one is needed, as in file:///srv/results";
        check("file://", &format!("result backend URL `file://`: {missing}"));
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
        check("amqp://box//", "Amqp");
        check("django-db+sqlite:////srv/db.sqlite3", r#"Sqlite("/srv/db.sqlite3")"#);
        check(
            "django-db",
            "result backend URL `django-db`: what Django's settings name is known to Django alone; name the database, \
             such as django-db+postgresql://user:password@host/name",
        );
        check("disabled://", "Disabled");
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
             rediss://, sentinel://, redis+socket:///, db+postgresql://, db+mysql://, db+sqlite:///, sqlite:///, file:///, rpc://, amqp://, \
             cache+memcached://, memory:// and disabled://",
        );
    }
}
