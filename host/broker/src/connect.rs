//! Finds the adapter for a URL: the only place that knows all of them.

use std::sync::Arc;
use std::time::Duration;

use dial::tls::TlsOptions;
use taskhost_core::{QueueKind, RedactedUrl};

use crate::filesystem::{self, FilesystemBroker, FilesystemOptions};
use crate::memory::MemoryBroker;
use crate::port::{Broker, BrokerError};
use crate::postgresql::{self, PostgresBroker};
use crate::rabbitmq::{self, RabbitMq};
use crate::redis::{self, RedisBroker, RedisOptions};
use crate::sqlite::{self, SqliteBroker, SqliteOptions};
use crate::sqs::{self, SqsBroker, SqsOptions};

/// The schemes that [`connect`] knows, as an error message lists them.
const KNOWN: &str = "amqp, amqps, pyamqp, redis, rediss, sentinel, redis+socket, sqlite, sqla+sqlite, sqla+postgresql, filesystem, sqs, memory";

/// How to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The name of this node, which the broker shows to its operators.
    pub node: String,
    /// How long connecting may take.
    pub timeout: Duration,
    /// Which kind of queues messages wait in until their time comes, where a broker has kinds of queues
    /// (Celery's `broker_native_delayed_delivery_queue_type`).
    pub delayed_queue_type: QueueKind,
    /// Whether what was given to a broker that then blocks publishers is waited for as long as it does. A
    /// worker waits, since it would have to publish it again; a command gives up in time.
    pub waits_while_blocked: bool,
    /// Celery's `broker_transport_options`: names and values.
    pub transport_options: Vec<(String, String)>,
    /// TLS though the URL does not say so, and how (Celery's `broker_use_ssl`). What the URL says of it goes over
    /// these.
    pub tls: Option<TlsOptions>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            node: "taskhost".to_owned(),
            timeout: Duration::from_secs(10),
            delayed_queue_type: QueueKind::Quorum,
            waits_while_blocked: false,
            transport_options: Vec::new(),
            tls: None,
        }
    }
}

enum Scheme {
    RabbitMq,
    Redis,
    Sqlite,
    Filesystem,
    Sqs,
    Postgresql,
    Memory,
}

/// Connects to the one broker that the URL names; [`Endpoint`](crate::Endpoint) reads lists of them.
pub async fn connect(url: &str, options: &ConnectOptions) -> Result<Arc<dyn Broker>, BrokerError> {
    Ok(match scheme(url)? {
        Scheme::RabbitMq => Arc::new(RabbitMq::connect(url, options).await?),
        Scheme::Redis => Arc::new(RedisBroker::connect(url, &redis_options(url, options)?).await?),
        Scheme::Sqlite => {
            let options = SqliteOptions { node: options.node.clone(), ..SqliteOptions::default() };
            Arc::new(SqliteBroker::connect(url, &options).await?)
        }
        Scheme::Filesystem => {
            let mut folders = FilesystemOptions { node: options.node.clone(), ..FilesystemOptions::default() };
            folders.set(url, &options.transport_options)?;
            Arc::new(FilesystemBroker::connect(url, &folders).await?)
        }
        Scheme::Sqs => {
            let mut sqs = SqsOptions { timeout: options.timeout, ..SqsOptions::default() };
            sqs.set(url, &options.transport_options)?;
            Arc::new(SqsBroker::connect(url, &sqs).await?)
        }
        Scheme::Postgresql => {
            let address = postgresql::Address::parse(url, &options.transport_options, options.tls.as_ref())?;
            Arc::new(PostgresBroker::connect(url, address, &options.node, options.timeout).await?)
        }
        Scheme::Memory => MemoryBroker::named(rest(url)).connect()?,
    })
}

fn redis_options(url: &str, options: &ConnectOptions) -> Result<RedisOptions, BrokerError> {
    let (node, timeout) = (options.node.clone(), options.timeout);
    let mut redis = RedisOptions { node, timeout, ..RedisOptions::default() };
    redis.server.tls = options.tls.clone();
    redis.set(url, &options.transport_options)?;
    Ok(redis)
}

/// Whether a connection to this server has TLS, where the scheme does not say it alone: by an option of the URL or by
/// those beside it. For other transports kombu says no, too.
pub(crate) fn has_tls(url: &str, options: &ConnectOptions) -> bool {
    match scheme(url) {
        Ok(Scheme::RabbitMq) => rabbitmq::has_tls(url, options.tls.as_ref()),
        Ok(Scheme::Redis) => redis_options(url, options).is_ok_and(|options| redis::has_tls(url, options)),
        _ => false,
    }
}

/// Checks the URL of one server as far as that is possible without connecting.
pub(crate) fn check_url(url: &str) -> Result<(), BrokerError> {
    match scheme(url)? {
        Scheme::RabbitMq => rabbitmq::check_url(url),
        Scheme::Redis => redis::check_redis_url(url),
        Scheme::Sqlite => sqlite::sqlite_path(url).map(drop),
        Scheme::Filesystem => filesystem::check_filesystem_url(url),
        Scheme::Sqs => sqs::check_sqs_url(url),
        Scheme::Postgresql => postgresql::Address::parse(url, &[], None).map(drop),
        Scheme::Memory => Ok(()),
    }
}

/// Checks options of one server's transport as far as that is possible without connecting.
pub(crate) fn check_transport_options(url: &str, options: &[(String, String)]) -> Result<(), BrokerError> {
    match scheme(url)? {
        Scheme::Redis => redis::check_redis_options(url, options),
        Scheme::Filesystem => FilesystemOptions::default().set(url, options),
        Scheme::Postgresql => postgresql::Address::parse(url, options, None).map(drop),
        Scheme::Sqs => SqsOptions::default().set(url, options),
        _ if options.is_empty() => Ok(()),
        _ => Err(BrokerError::Url {
            url: RedactedUrl::new(url),
            reason: "only Redis, PostgreSQL, SQS and the file system have transport options".to_owned(),
        }),
    }
}

/// Checks that one server can have TLS as URL and options ask for it: reads the files that they name, and connects to
/// nothing.
pub(crate) fn check_tls(url: &str, tls: Option<&TlsOptions>) -> Result<(), BrokerError> {
    let refuse = |reason: &str| Err(BrokerError::Url { url: RedactedUrl::new(url), reason: reason.to_owned() });
    match scheme(url)? {
        Scheme::RabbitMq => rabbitmq::check_tls(url, tls),
        Scheme::Redis => redis::check_redis_tls(url, tls),
        Scheme::Postgresql => postgresql::Address::parse(url, &[], tls)?.check_tls(url),
        _ if tls.is_none() => Ok(()),
        Scheme::Sqlite | Scheme::Filesystem => refuse("there is no TLS to a file"),
        Scheme::Sqs => refuse(
            "to AWS there is always TLS; to another endpoint with the transport option is_secure, and certificates of \
             your own are named by AWS_CA_BUNDLE",
        ),
        Scheme::Memory => refuse("there is no TLS within a process"),
    }
}

fn scheme(url: &str) -> Result<Scheme, BrokerError> {
    let refuse = |reason: String| BrokerError::Url { url: RedactedUrl::new(url), reason };
    let Some((scheme, _)) = url.split_once("://") else {
        return Err(refuse(format!("has no scheme (known: {KNOWN})")));
    };
    match scheme {
        "memory" => Ok(Scheme::Memory),
        _ if rabbitmq::SCHEMES.contains(&scheme) => Ok(Scheme::RabbitMq),
        _ if redis::SCHEMES.contains(&scheme) => Ok(Scheme::Redis),
        _ if sqlite::SCHEMES.contains(&scheme) => Ok(Scheme::Sqlite),
        _ if sqs::SCHEMES.contains(&scheme) => Ok(Scheme::Sqs),
        _ if postgresql::is_scheme(scheme) => Ok(Scheme::Postgresql),
        filesystem::SCHEME => Ok(Scheme::Filesystem),
        _ => Err(refuse(format!("unknown scheme `{scheme}` (known: {KNOWN})"))),
    }
}

fn rest(url: &str) -> &str {
    url.split_once("://").map_or("", |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_without_connecting() {
        for url in [
            "amqp://box//",
            "pyamqp://me:x@box/v",
            "amqps://box",
            "redis://:x@box/0",
            "sqlite:///host.db",
            "sqla+sqlite:////tmp/host.db",
            "sqs://key:s%2Fx@",
            "sqs://key:secret@localhost:4566//",
            "filesystem://",
            "sqla+postgresql://me:x@box/d",
            "memory://",
        ] {
            assert!(check_url(url).is_ok(), "{url}");
        }
        let reason = |url| check_url(url).unwrap_err().to_string();
        assert!(reason("sqs://key@box").contains("an access key needs its secret"));
        for url in ["rediss://box?ssl_cert_reqs=none", "sentinel://a:1;sentinel://b/0", "unix:///run/r.sock"] {
            assert!(check_url(url).is_ok(), "{url}");
        }
        assert!(reason("rediss://box?ssl_ciphers=x").contains("`ssl_ciphers` is no option of TLS"));
        assert!(reason("kafka://box").contains("unknown scheme `kafka` (known: amqp,"));
        assert!(reason("host.db").contains("has no scheme"));
        assert!(reason("sqlite://").contains("a file is needed"));
        let options = [("global_keyprefix".to_owned(), "app:".to_owned())];
        assert!(check_transport_options("redis://box", &options).is_ok());
        assert!(check_transport_options("amqp://box", &[]).is_ok());
        let error = check_transport_options("sentinel://:secret@a;sentinel://b", &[]).unwrap_err().to_string();
        assert_eq!(
            error,
            "broker URL `sentinel://:**@a;sentinel://b`: Sentinels know servers by name: set the transport option \
             master_name"
        );
        let named = [("master_name".to_owned(), "m".to_owned())];
        assert!(check_transport_options("sentinel://a", &named).is_ok());
        assert!(check_transport_options("filesystem://", &options).unwrap_err().to_string().contains("data_folder_in"));
        let refused = check_transport_options("amqp://me:secret@box", &options).unwrap_err().to_string();
        let reason = "only Redis, PostgreSQL, SQS and the file system have transport options";
        assert_eq!(refused, format!("broker URL `amqp://me:**@box`: {reason}"));
    }

    #[test]
    fn tls_is_refused_where_there_is_none() {
        let reason = |url| check_tls(url, Some(&TlsOptions::default())).unwrap_err().to_string();
        assert_eq!(reason("sqlite:///host.db"), "broker URL `sqlite:///host.db`: there is no TLS to a file");
        assert!(reason("memory://x").ends_with("there is no TLS within a process"));
        assert!(check_tls("sqlite:///host.db", None).is_ok());
        let missing = "rediss://box?ssl_ca_certs=/no/ca.pem";
        let error = check_tls(missing, None).unwrap_err().to_string();
        assert!(error.contains("read certificates from /no/ca.pem: "), "{error}");
        assert!(check_tls("redis://box", None).is_ok());
    }

    #[tokio::test]
    async fn a_memory_url_names_a_broker_of_the_process() {
        let options = ConnectOptions::default();
        let queue = taskhost_core::QueueName::parse("q").unwrap();
        let broker = connect("memory://connect", &options).await.unwrap();
        broker.declare(&queue.clone().into()).await.unwrap();
        assert_eq!(connect("memory://connect", &options).await.unwrap().depth(&queue).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_a_transient_error_without_the_password() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let url = format!("amqp://me:secret@127.0.0.1:{port}//");
        let error = connect(&url, &ConnectOptions::default()).await.err().unwrap();
        assert!(error.is_transient());
        assert_eq!(error.to_string(), format!("connect to amqp://me:**@127.0.0.1:{port}//"));
    }
}
