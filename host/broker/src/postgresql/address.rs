//! Reads URLs of kombu's SQLAlchemy transport that name a PostgreSQL, and its transport options.

use dial::database::PoolOptions;
use dial::postgresql::{self, Target};
use dial::tls::TlsOptions;
use taskhost_core::RedactedUrl;

use super::schema::{Tables, is_table_name};
use crate::port::BrokerError;

/// kombu's ways to say SQLAlchemy. Without one of them Celery knows no such broker.
const PREFIXES: [&str; 2] = ["sqla+", "sqlalchemy+"];

/// True if a scheme means this adapter.
pub(crate) fn is_scheme(scheme: &str) -> bool {
    PREFIXES.iter().filter_map(|prefix| scheme.strip_prefix(prefix)).any(postgresql::is_dialect)
}

/// What a URL and its options name.
#[derive(Clone)]
pub(crate) struct Address {
    pub(super) target: Target,
    pub(super) pool: PoolOptions,
    pub(super) tables: Tables,
}

impl Address {
    /// Reads a URL, options of the transport and those of TLS; connects to nothing.
    pub(crate) fn parse(
        url: &str,
        options: &[(String, String)],
        tls: Option<&TlsOptions>,
    ) -> Result<Self, BrokerError> {
        let refuse = |reason: String| BrokerError::Url { url: RedactedUrl::new(url), reason };
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let mut target = Target::parse(rest).map_err(refuse)?;
        if let Some(tls) = tls {
            target = target.secured(tls);
        }
        let mut address = Self { target, pool: PoolOptions::default(), tables: Tables::default() };
        for (key, value) in options {
            address.set(key, value).map_err(refuse)?;
        }
        Ok(address)
    }

    /// Reads the files that TLS needs.
    pub(crate) fn check_tls(&self, url: &str) -> Result<(), BrokerError> {
        let refuse = |reason: String| BrokerError::Url { url: RedactedUrl::new(url), reason };
        self.target.check_tls().map_err(refuse)
    }

    /// An option of kombu's, or of SQLAlchemy's `create_engine`, to which kombu gives them.
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "queue_tablename" | "message_tablename" if !is_table_name(value) => {
                Err(format!("{key} `{value}` is no plain name of a table: letters, digits and `_`, 40 at most"))
            }
            "queue_tablename" => {
                self.tables.queue = value.to_owned();
                Ok(())
            }
            "message_tablename" => {
                self.tables.message = value.to_owned();
                Ok(())
            }
            // They say how SQLAlchemy works, and nothing about us.
            "echo" | "echo_pool" | "pool_pre_ping" | "future" => Ok(()),
            _ if self.pool.set(key, value)? => Ok(()),
            _ => Err(format!("kombu's SQLAlchemy transport has no option `{key}` that is known here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_kombus() {
        for scheme in ["sqla+postgresql", "sqlalchemy+postgresql+psycopg2", "sqla+postgresql+psycopg"] {
            assert!(is_scheme(scheme), "{scheme}");
        }
        for scheme in ["postgresql", "sqla+mysql", "sqla+sqlite", "db+postgresql"] {
            assert!(!is_scheme(scheme), "{scheme}");
        }
    }

    #[test]
    fn options_are_kombus_and_sqlalchemys() {
        let parse = |key: &str, value: &str| {
            Address::parse("sqla+postgresql://me:secret@box/d", &[(key.to_owned(), value.to_owned())], None)
        };
        assert_eq!(parse("queue_tablename", "q").unwrap().tables.queue, "q");
        assert_eq!(parse("pool_size", "2").unwrap().pool.size, 2);
        assert!(parse("echo", "true").is_ok());
        let reason = |key: &str, value: &str| parse(key, value).err().unwrap().to_string();
        assert_eq!(
            reason("colour", "red"),
            "broker URL `sqla+postgresql://me:**@box/d`: kombu's SQLAlchemy transport has no option `colour` that is \
             known here"
        );
        assert!(reason("message_tablename", "a\"b").contains("no plain name"));
    }
}
