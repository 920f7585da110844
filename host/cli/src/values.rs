//! Joins what plugins keep (`wasi:keyvalue`) with the stores that keep it.
//!
//! Decides nothing: the grants say which bucket is where, and the setting where all others are.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::anyhow;
use async_trait::async_trait;
use sandbox::{Values, ValuesSource};
use store::{Entry, KeyValue, KeyValueError, StoreError, Swap};
use tokio::sync::Mutex;
use tracing::warn;

use crate::config::SecretUrl;
use crate::reach::Reach;

/// All stores that plugins have asked for; as many as grants and the setting name.
pub(crate) struct ValueStores {
    usual: SecretUrl,
    reach: Reach,
    opened: Mutex<HashMap<String, Arc<dyn Values>>>,
}

impl ValueStores {
    /// None is open so far. Buckets without a URL of their own are in `usual`.
    pub(crate) fn new(usual: SecretUrl, reach: Reach) -> Self {
        Self { usual, reach, opened: Mutex::default() }
    }
}

#[async_trait]
impl ValuesSource for ValueStores {
    async fn open(&self, url: Option<&str>) -> Result<Arc<dyn Values>, String> {
        let url = url.unwrap_or(self.usual.expose());
        let mut opened = self.opened.lock().await;
        if let Some(values) = opened.get(url) {
            return Ok(values.clone());
        }
        let values = store::keep_values(url, &self.reach.options(url)).await.map_err(|error| told(error.into()))?;
        let values: Arc<dyn Values> = Arc::new(Stored(values));
        opened.insert(url.to_owned(), values.clone());
        Ok(values)
    }
}

/// A store, as the sandbox sees it.
struct Stored(Box<dyn KeyValue>);

#[async_trait]
impl Values for Stored {
    async fn get(&self, space: &str, key: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.get(Entry { space, key }).await.map_err(told)?.map(Vec::from))
    }

    async fn set(&self, space: &str, key: &str, value: Vec<u8>) -> Result<(), String> {
        self.0.set(Entry { space, key }, value.into()).await.map_err(told)
    }

    async fn delete(&self, space: &str, key: &str) -> Result<(), String> {
        self.0.delete(Entry { space, key }).await.map_err(told)
    }

    async fn exists(&self, space: &str, key: &str) -> Result<bool, String> {
        self.0.exists(Entry { space, key }).await.map_err(told)
    }

    async fn list(&self, space: &str, cursor: Option<u64>) -> Result<(Vec<String>, Option<u64>), String> {
        let page = self.0.list(space, cursor).await.map_err(told)?;
        Ok((page.keys, page.cursor))
    }

    async fn increment(&self, space: &str, key: &str, delta: i64) -> Result<i64, String> {
        self.0.increment(Entry { space, key }, delta).await.map_err(told)
    }

    async fn swap(
        &self,
        space: &str,
        key: &str,
        current: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Result<Result<(), Option<Vec<u8>>>, String> {
        let swap = self.0.swap(Entry { space, key }, current.map(Into::into), value.into()).await.map_err(told)?;
        Ok(match swap {
            Swap::Done => Ok(()),
            Swap::Changed(now) => Err(now.map(Vec::from)),
        })
    }
}

/// What a guest is told: not where the store is, which is the operator's affair and goes into his log.
fn told(error: KeyValueError) -> String {
    match error {
        KeyValueError::NoNumber(_) => error.to_string(),
        KeyValueError::Store(error) => {
            let what = match error {
                StoreError::Connect { .. } => "the store of values cannot be reached",
                _ => "the store of values refused",
            };
            warn!("plugins cannot keep values: cannot {:#}", anyhow!(error));
            what.to_owned()
        }
    }
}
