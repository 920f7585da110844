//! How a server is reached that is named by a URL alone: as the broker or the result backend is, if it is one of them.
//!
//! Where rate limits are counted and plugins keep values has no settings of TLS and Sentinels of its own.

use dial::tls::TlsOptions;
use store::StoreOptions;
use taskhost_core::NodeName;

use crate::config::{Config, SecretUrl};

/// What is known of the servers that have settings.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    node: NodeName,
    known: [(SecretUrl, Option<TlsOptions>, dial::redis::Options); 2],
}

impl Reach {
    pub(crate) fn new(config: &Config) -> Self {
        let (broker, result) = (&config.broker, &config.result);
        let known = [
            (result.backend.clone(), result.tls.clone(), result.options.redis.clone()),
            (broker.url.clone(), broker.tls.clone(), of_redis(&broker.transport_options)),
        ];
        Self { node: config.worker.hostname.clone(), known }
    }

    /// For the server of this URL.
    pub(crate) fn options(&self, url: &str) -> StoreOptions {
        let found = self.known.iter().find(|(known, ..)| known.expose() == url);
        let (tls, redis) = found.map(|(_, tls, redis)| (tls.clone(), redis.clone())).unwrap_or_default();
        StoreOptions { node: Some(self.node.clone()), tls, redis, ..StoreOptions::default() }
    }
}

/// Those of a broker's options that say where Redis is. They were checked when they were read.
pub(crate) fn of_redis(transport_options: &[(String, String)]) -> dial::redis::Options {
    let mut options = dial::redis::Options::default();
    for (name, value) in transport_options {
        let _ = options.set(name, value);
    }
    options
}
