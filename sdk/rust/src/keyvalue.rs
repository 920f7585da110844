//! Values that a plugin keeps from one task to the next, in buckets (`wasi:keyvalue`).
//!
//! What a bucket is called is declared under `keyvalue` in `[needs]` of `plugin.toml`; where it is, is the operator's
//! business. Nobody but the plugin sees what is in it.

use std::fmt;

#[cfg(target_family = "wasm")]
use crate::bindings::keyvalue::wasi::keyvalue::{atomics, store};

/// An open bucket.
///
/// ```
/// # use taskhost::{Bucket, TaskError};
/// fn visits(page: &str) -> Result<i64, TaskError> {
///     Ok(Bucket::open("visits")?.increment(page, 1)?)
/// }
/// # visits("x").unwrap_err();
/// ```
pub struct Bucket {
    #[cfg(target_family = "wasm")]
    bucket: store::Bucket,
}

/// Why a bucket cannot be had, or did not answer. The text says what is missing, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketError(String);

impl fmt::Display for BucketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BucketError {}

#[cfg(target_family = "wasm")]
impl From<store::Error> for BucketError {
    fn from(error: store::Error) -> Self {
        Self(match error {
            store::Error::NoSuchStore => "there is no such bucket".to_owned(),
            store::Error::AccessDenied => "the bucket is denied".to_owned(),
            store::Error::Other(why) => why,
        })
    }
}

#[cfg(target_family = "wasm")]
impl Bucket {
    /// The bucket of that name.
    pub fn open(name: &str) -> Result<Self, BucketError> {
        Ok(Self { bucket: store::open(name)? })
    }

    /// The value under a key, if there is one.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, BucketError> {
        Ok(self.bucket.get(key)?)
    }

    /// Puts a value under a key, whatever was there.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), BucketError> {
        Ok(self.bucket.set(key, value)?)
    }

    /// Takes a value away, if it is there.
    pub fn delete(&self, key: &str) -> Result<(), BucketError> {
        Ok(self.bucket.delete(key)?)
    }

    /// True if there is a value under the key.
    pub fn exists(&self, key: &str) -> Result<bool, BucketError> {
        Ok(self.bucket.exists(key)?)
    }

    /// All keys, in no order. Those that come and go meanwhile may be missed.
    pub fn keys(&self) -> Result<Vec<String>, BucketError> {
        let mut page = self.bucket.list_keys(None)?;
        let mut keys = page.keys;
        while let Some(cursor) = page.cursor {
            page = self.bucket.list_keys(Some(&cursor))?;
            keys.append(&mut page.keys);
        }
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    /// Adds to the number under a key, which is zero if there is none, and gives the sum. In one step.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, BucketError> {
        Ok(atomics::increment(&self.bucket, key, delta)?)
    }

    /// Puts what `change` makes of a value in its place. If somebody else was faster, it is asked again with what he
    /// left; with none it gives up, and false is returned.
    pub fn update(
        &self,
        key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Option<Vec<u8>>,
    ) -> Result<bool, BucketError> {
        let mut cas = atomics::Cas::new(&self.bucket, key)?;
        loop {
            let Some(value) = change(cas.current()?) else { return Ok(false) };
            match atomics::swap(cas, &value) {
                Ok(()) => return Ok(true),
                Err(atomics::CasError::CasFailed(changed)) => cas = changed,
                Err(atomics::CasError::StoreError(error)) => return Err(error.into()),
            }
        }
    }
}

// Outside of a host there is none to open, so none of the rest happens.
#[cfg(not(target_family = "wasm"))]
impl Bucket {
    /// The bucket of that name.
    pub fn open(name: &str) -> Result<Self, BucketError> {
        Err(BucketError(format!("bucket `{name}` is kept by a host, and this is none")))
    }

    /// The value under a key, if there is one.
    pub fn get(&self, _key: &str) -> Result<Option<Vec<u8>>, BucketError> {
        Ok(None)
    }

    /// Puts a value under a key, whatever was there.
    pub fn set(&self, _key: &str, _value: &[u8]) -> Result<(), BucketError> {
        Ok(())
    }

    /// Takes a value away, if it is there.
    pub fn delete(&self, _key: &str) -> Result<(), BucketError> {
        Ok(())
    }

    /// True if there is a value under the key.
    pub fn exists(&self, _key: &str) -> Result<bool, BucketError> {
        Ok(false)
    }

    /// All keys.
    pub fn keys(&self) -> Result<Vec<String>, BucketError> {
        Ok(Vec::new())
    }

    /// Adds to the number under a key.
    pub fn increment(&self, _key: &str, delta: i64) -> Result<i64, BucketError> {
        Ok(delta)
    }

    /// Puts what `change` makes of a value in its place.
    pub fn update(
        &self,
        _key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Option<Vec<u8>>,
    ) -> Result<bool, BucketError> {
        Ok(change(None).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_a_host_there_are_no_buckets() {
        let error = Bucket::open("cache").err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("bucket `cache` is kept by a host, and this is none"));
    }
}
