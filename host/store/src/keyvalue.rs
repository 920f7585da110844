//! Values by key that plugins keep between their tasks, in spaces that do not see each other.
//!
//! Whose a space is, and what may be in it, is decided elsewhere. Values are bytes; only an increment reads
//! one, as decimal text.

mod redis;
mod sqlite;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use bytes::Bytes;
use taskhost_core::RedactedUrl;

use self::redis::RedisValues;
use self::sqlite::SqliteValues;
use crate::connect::StoreOptions;
use crate::port::{BoxError, StoreError};
use crate::target::{self, Target};

/// Where values are kept.
#[async_trait]
pub trait KeyValue: Send + Sync {
    /// The value under a key, if there is one.
    async fn get(&self, entry: Entry<'_>) -> Result<Option<Bytes>, KeyValueError>;

    /// Puts a value under a key, whatever was there.
    async fn set(&self, entry: Entry<'_>, value: Bytes) -> Result<(), KeyValueError>;

    /// Takes a value away; one that is not there is no error.
    async fn delete(&self, entry: Entry<'_>) -> Result<(), KeyValueError>;

    /// True if there is a value under the key.
    async fn exists(&self, entry: Entry<'_>) -> Result<bool, KeyValueError>;

    /// Some keys of a space, and where to go on; a page may be empty although there are more. Keys that come
    /// and go meanwhile may be missed, and a key may come twice.
    async fn list(&self, space: &str, cursor: Option<u64>) -> Result<Page, KeyValueError>;

    /// Adds to the number under a key, which is zero if there is none, and gives the sum. In one step.
    async fn increment(&self, entry: Entry<'_>, delta: i64) -> Result<i64, KeyValueError>;

    /// Puts a value under a key if what is there is still `current`, in one step; else says what is there.
    async fn swap(&self, entry: Entry<'_>, current: Option<Bytes>, value: Bytes) -> Result<Swap, KeyValueError>;
}

/// A place for one value.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub space: &'a str,
    pub key: &'a str,
}

/// Some keys of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub keys: Vec<String>,
    /// None after the last one.
    pub cursor: Option<u64>,
}

/// What came of a swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    Done,
    /// Somebody was faster, and left this.
    Changed(Option<Bytes>),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum KeyValueError {
    #[error("the value under `{0}` is no whole number, or the sum would be none of 64 bits")]
    NoNumber(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// True if values can be kept in what this URL names.
pub fn can_keep_values(url: &str) -> bool {
    matches!(target::of_any(url, &dial::redis::Options::default()), Ok(Target::Redis(_) | Target::Sqlite(_)))
}

/// The values at this URL: Redis, or an SQLite file. Redis is connected to at first use. Of the options only those
/// that say how a server is reached are of use.
pub async fn keep_values(url: &str, options: &StoreOptions) -> Result<Box<dyn KeyValue>, StoreError> {
    let shown = RedactedUrl::new(url);
    match target::of_any(url, &options.redis_server())? {
        Target::Redis(target) => Ok(Box::new(RedisValues::new(shown, &target, options.node.clone())?)),
        Target::Sqlite(path) => Ok(Box::new(SqliteValues::open(shown, path).await?)),
        _ => {
            let reason = "values are kept in Redis or in an SQLite file only".to_owned();
            Err(StoreError::Url { url: shown, reason })
        }
    }
}

/// Keys of a page.
const PAGE_MAX: usize = 1_000;

fn strange(what: impl Into<BoxError>) -> KeyValueError {
    crate::cause::Cause::permanent(what).store(OPERATION).into()
}

const OPERATION: &str = "ask the key-value";
