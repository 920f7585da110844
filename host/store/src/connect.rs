//! From a URL to a store.
//!
//! The one place that knows every adapter.

use std::sync::Arc;
use std::time::Duration;

use dial::tls::TlsOptions;
use taskhost_core::protocol::codec::Format;
use taskhost_core::{NodeName, RedactedUrl};

use crate::amqp::AmqpStore;
use crate::disabled::DisabledStore;
use crate::filesystem::FilesystemStore;
use crate::memcached::MemcachedStore;
use crate::memory::MemoryStore;
use crate::port::{ReplySender, ResultStore, StoreError};
use crate::redis::RedisStore;
use crate::rpc::RpcStore;
use crate::sql::{DatabaseOptions, SqlStore};
use crate::target::{Target, of_django};
use crate::terms::ChordTerms;

/// How results are kept. Stores leave out what they have no use for.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// `result_expires`; zero keeps results for ever.
    pub expires: Duration,
    /// `result_failure_expires`: the same for failures, if they differ. Redis only, as in Celery.
    pub failure_expires: Option<Duration>,
    /// `global_keyprefix` of `result_backend_transport_options`, for key/value stores.
    pub key_prefix: Option<String>,
    /// `result_chord_expires`: how long a chord waits for its parts, if not as long as results are kept. Key/value
    /// stores only, as in Celery.
    pub chord_expires: Option<Duration>,
    /// `result_chord_join_timeout`, by which Celery says how long a chord is claimed; `None` is no time-out.
    pub chord_join_timeout: Option<Duration>,
    /// `result_chord_ordered` of `result_backend_transport_options`: parts in the order of the header, or in
    /// that in which they came.
    pub chord_ordered: bool,
    /// `result_serializer`.
    pub format: Format,
    /// For databases alone.
    pub database: DatabaseOptions,
    /// The name that servers show for our connections.
    pub node: Option<NodeName>,
    /// TLS though the URL does not say so, and how (Celery's `redis_backend_use_ssl`). What the URL says of it goes
    /// over these.
    pub tls: Option<TlsOptions>,
    /// How Redis is found: what Sentinels need to be told. Its TLS is `tls`.
    pub redis: dial::redis::Options,
}

impl StoreOptions {
    /// All that is known of a Redis server beside its URL.
    pub(crate) fn redis_server(&self) -> dial::redis::Options {
        dial::redis::Options { tls: self.tls.clone(), ..self.redis.clone() }
    }
}

impl Default for StoreOptions {
    /// Celery's defaults.
    fn default() -> Self {
        Self {
            expires: Duration::from_secs(86_400),
            failure_expires: None,
            key_prefix: None,
            chord_expires: None,
            chord_join_timeout: Some(Duration::from_secs(3)),
            chord_ordered: true,
            format: Format::default(),
            database: DatabaseOptions::default(),
            node: None,
            tls: None,
            redis: dial::redis::Options::default(),
        }
    }
}

/// Checks a URL without connecting to what it names.
pub fn check_url(url: &str) -> Result<(), StoreError> {
    Target::parse(url).map(|_| ())
}

/// Checks that TLS can be had as URL and options ask for it: reads the files that they name, and connects to nothing.
pub fn check_tls(url: &str, tls: Option<&TlsOptions>) -> Result<(), StoreError> {
    let refuse = |reason: &str| Err(StoreError::Url { url: RedactedUrl::new(url), reason: reason.to_owned() });
    let redis = dial::redis::Options { tls: tls.cloned(), ..dial::redis::Options::default() };
    match Target::parse_with(url, &redis)? {
        Target::Redis(target) => target.check_tls().or_else(|error| refuse(&error.to_string())),
        _ if tls.is_none() => Ok(()),
        Target::Postgresql(target) => match tls {
            Some(tls) => checked(url, target.secured(tls).check_tls()),
            None => Ok(()),
        },
        Target::Mysql(target) => match tls {
            Some(tls) => checked(url, target.secured(tls).and_then(|target| target.check_tls())),
            None => Ok(()),
        },
        Target::Memcached(_) => refuse("neither Celery nor this version speaks TLS to memcached"),
        Target::Sqlite(_) | Target::Folder(_) => refuse("there is no TLS to a file"),
        Target::Rpc | Target::Amqp => {
            refuse("results go by the broker's own connection, which has settings of its own")
        }
        Target::Memory | Target::Disabled => refuse("there is no TLS where there is no server"),
    }
}

fn checked(url: &str, checked: Result<(), String>) -> Result<(), StoreError> {
    checked.map_err(|reason| StoreError::Url { url: RedactedUrl::new(url), reason })
}

/// Checks what is said of a Redis server beside its URL; any other has no such options.
pub fn check_redis_options(url: &str, options: &dial::redis::Options) -> Result<(), StoreError> {
    let refuse = |reason: String| StoreError::Url { url: RedactedUrl::new(url), reason };
    match Target::parse_with(url, options)? {
        Target::Redis(target) => target.check().map_err(refuse),
        _ if *options == dial::redis::Options::default() => Ok(()),
        _ => {
            let known = dial::redis::OPTIONS.join(", ");
            Err(refuse(format!("only Redis has these transport options: {known}")))
        }
    }
}

/// The store that `url` names.
///
/// Servers are connected to at first use, so that one that is down is a transient error of the
/// operation ([`ResultStore::ping`] asks at once); an SQLite file is opened, and its tables made, here.
/// `replies` is needed by `rpc://` and `amqp://` alone.
pub async fn connect(
    url: &str,
    options: &StoreOptions,
    replies: Option<Arc<dyn ReplySender>>,
) -> Result<Arc<dyn ResultStore>, StoreError> {
    let url_shown = RedactedUrl::new(url);
    let mut options = options.clone();
    options.database.is_django |= of_django(url).is_some();
    let options = &options;
    Ok(match Target::parse_with(url, &options.redis_server())? {
        Target::Memory => Arc::new(MemoryStore::new()),
        Target::Disabled => Arc::new(DisabledStore),
        Target::Memcached(servers) => Arc::new(MemcachedStore::new(url_shown, servers, options)),
        Target::Redis(target) => Arc::new(RedisStore::new(url_shown, &target, options)?),
        Target::Sqlite(path) => {
            let store = SqlStore::sqlite(url_shown, path, &options.database, options.format.clone()).await?;
            Arc::new(store.counting(ChordTerms::new(options)))
        }
        Target::Postgresql(target) => {
            let target = options.tls.iter().fold(*target, |target, tls| target.secured(tls));
            let target = options.node.iter().fold(target, |target, node| target.named(node.as_str()));
            let store = SqlStore::postgresql(url_shown, target, &options.database, options.format.clone());
            Arc::new(store.counting(ChordTerms::new(options)))
        }
        Target::Mysql(target) => {
            let target = match &options.tls {
                Some(tls) => {
                    target.secured(tls).map_err(|reason| StoreError::Url { url: url_shown.clone(), reason })?
                }
                None => *target,
            };
            let store = SqlStore::mysql(url_shown, target, &options.database, options.format.clone())?;
            Arc::new(store.counting(ChordTerms::new(options)))
        }
        Target::Folder(path) => Arc::new(FilesystemStore::open(url_shown, path, options).await?),
        target @ (Target::Rpc | Target::Amqp) => match replies {
            Some(replies) if target == Target::Rpc => Arc::new(RpcStore::new(replies, options.format.clone())),
            Some(replies) => Arc::new(AmqpStore::new(replies, options.format.clone(), options.expires)),
            None => {
                let reason = "the broker in use cannot send replies to clients".to_owned();
                return Err(StoreError::Url { url: url_shown, reason });
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_refused_where_there_is_none() {
        let reason = |url| check_tls(url, Some(&TlsOptions::default())).unwrap_err().to_string();
        assert_eq!(reason("sqlite:///r.db"), "result backend URL `sqlite:///r.db`: there is no TLS to a file");
        assert!(reason("rpc://").ends_with("results go by the broker's own connection, which has settings of its own"));
        assert!(reason("disabled://").ends_with("there is no TLS where there is no server"));
        assert!(check_tls("rpc://", None).is_ok());
        assert!(check_tls("redis://box", None).is_ok());
        let missing = check_tls("rediss://box?ssl_ca_certs=/no/ca.pem", None).unwrap_err().to_string();
        assert!(missing.contains("read certificates from /no/ca.pem: "), "{missing}");
    }

    #[test]
    fn sentinels_are_told_which_server_is_meant() {
        let named = dial::redis::Options { master_name: Some("m".into()), ..dial::redis::Options::default() };
        let check = |url: &str, options: &dial::redis::Options| {
            check_redis_options(url, options).map_err(|error| error.to_string())
        };
        assert_eq!(check("sentinel://a;sentinel://b", &named), Ok(()));
        assert_eq!(check("rpc://", &dial::redis::Options::default()), Ok(()));
        assert_eq!(
            check("sentinel://a", &dial::redis::Options::default()).unwrap_err(),
            "result backend URL `sentinel://a`: Sentinels know servers by name: set the transport option master_name"
        );
        assert_eq!(
            check("rpc://", &named).unwrap_err(),
            "result backend URL `rpc://`: only Redis has these transport options: master_name, min_other_sentinels, \
             sentinel_kwargs"
        );
    }
}
