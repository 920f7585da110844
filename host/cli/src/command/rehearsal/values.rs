//! What plugins keep (`wasi:keyvalue`) while a task runs in this process: in its memory, unless the operator says
//! where.
//!
//! Nothing survives the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sandbox::{Values, ValuesSource};

use crate::config::{Config, Origin};
use crate::reach::Reach;
use crate::values::ValueStores;

/// Keys that one look at a bucket gives.
const PAGE: usize = 1000;

/// Buckets in memory, and those that a grant puts elsewhere.
pub(super) struct LocalValues {
    elsewhere: ValueStores,
    /// The operator names a store for all buckets.
    is_configured: bool,
    memory: Arc<Memory>,
}

#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, BTreeMap<String, Vec<u8>>>>);

impl LocalValues {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            elsewhere: ValueStores::new(config.keyvalue.clone(), Reach::new(config)),
            is_configured: *config.origin("keyvalue.url") != Origin::Default,
            memory: Arc::default(),
        }
    }

    /// Empties what is in memory.
    pub(super) fn forget(&self) {
        self.memory.lock().clear();
    }
}

#[async_trait]
impl ValuesSource for LocalValues {
    async fn open(&self, url: Option<&str>) -> Result<Arc<dyn Values>, String> {
        match url {
            None if !self.is_configured => Ok(self.memory.clone()),
            url => self.elsewhere.open(url).await,
        }
    }
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, Vec<u8>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Values for Memory {
    async fn get(&self, space: &str, key: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.lock().get(space).and_then(|bucket| bucket.get(key)).cloned())
    }

    async fn set(&self, space: &str, key: &str, value: Vec<u8>) -> Result<(), String> {
        self.lock().entry(space.to_owned()).or_default().insert(key.to_owned(), value);
        Ok(())
    }

    async fn delete(&self, space: &str, key: &str) -> Result<(), String> {
        if let Some(bucket) = self.lock().get_mut(space) {
            bucket.remove(key);
        }
        Ok(())
    }

    async fn exists(&self, space: &str, key: &str) -> Result<bool, String> {
        Ok(self.lock().get(space).is_some_and(|bucket| bucket.contains_key(key)))
    }

    async fn list(&self, space: &str, cursor: Option<u64>) -> Result<(Vec<String>, Option<u64>), String> {
        let start = usize::try_from(cursor.unwrap_or(0)).unwrap_or(usize::MAX);
        let spaces = self.lock();
        let Some(bucket) = spaces.get(space) else { return Ok((Vec::new(), None)) };
        let keys: Vec<String> = bucket.keys().skip(start).take(PAGE).cloned().collect();
        let end = start.saturating_add(keys.len());
        Ok((keys, (end < bucket.len()).then_some(end as u64)))
    }

    async fn increment(&self, space: &str, key: &str, delta: i64) -> Result<i64, String> {
        let mut spaces = self.lock();
        let bucket = spaces.entry(space.to_owned()).or_default();
        let now = match bucket.get(key) {
            None => 0,
            Some(value) => {
                let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
                number.ok_or_else(|| format!("the value of `{key}` is no whole number of 64 bits"))?
            }
        };
        let sum = now.checked_add(delta).ok_or_else(|| format!("the value of `{key}` would leave 64 bits"))?;
        bucket.insert(key.to_owned(), sum.to_string().into_bytes());
        Ok(sum)
    }

    async fn swap(
        &self,
        space: &str,
        key: &str,
        current: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Result<Result<(), Option<Vec<u8>>>, String> {
        let mut spaces = self.lock();
        let bucket = spaces.entry(space.to_owned()).or_default();
        let found = bucket.get(key).cloned();
        if found != current {
            return Ok(Err(found));
        }
        bucket.insert(key.to_owned(), value);
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn values_are_kept_by_bucket_and_counted_and_swapped_in_one_step() {
        let values = Memory::default();
        values.set("a", "k", b"1".to_vec()).await.unwrap();
        assert_eq!(values.get("b", "k").await, Ok(None), "buckets do not see each other");
        assert_eq!(values.increment("a", "k", 2).await, Ok(3));
        assert_eq!(values.increment("a", "new", -1).await, Ok(-1));
        assert!(values.increment("a", "k", i64::MAX).await.is_err_and(|why| why.contains("64 bits")));
        values.set("a", "text", b"x".to_vec()).await.unwrap();
        assert!(values.increment("a", "text", 1).await.is_err_and(|why| why.contains("no whole number")));
        let swap = |current: Option<&[u8]>| values.swap("a", "k", current.map(<[u8]>::to_vec), b"new".to_vec());
        assert_eq!(swap(Some(b"1")).await, Ok(Err(Some(b"3".to_vec()))));
        assert_eq!(swap(Some(b"3")).await, Ok(Ok(())));
        assert_eq!(values.get("a", "k").await, Ok(Some(b"new".to_vec())));
        values.delete("a", "k").await.unwrap();
        assert_eq!(values.exists("a", "k").await, Ok(false));
        assert_eq!(swap(None).await, Ok(Ok(())));
    }

    #[tokio::test]
    async fn a_long_list_comes_in_pages() {
        let values = Memory::default();
        for number in 0..PAGE + 1 {
            values.set("a", &format!("{number:05}"), Vec::new()).await.unwrap();
        }
        let (first, cursor) = values.list("a", None).await.unwrap();
        let (rest, end) = values.list("a", cursor).await.unwrap();
        assert_eq!((first.len(), cursor, rest, end), (PAGE, Some(PAGE as u64), vec![format!("{PAGE:05}")], None));
        assert_eq!(values.list("b", None).await, Ok((Vec::new(), None)));
    }
}
