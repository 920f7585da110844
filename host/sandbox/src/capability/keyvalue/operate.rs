//! What each function of the interface does, whichever draft asks: bounds, deadline, and the question to the
//! store.

use std::future::Future;

use super::{Bucket, Cas, Trouble};
use crate::clock::{Cut, Patience};
use crate::limits::{KEY_BYTES_MAX, KEYVALUE_WAIT};

/// The question, as long as the guest has time for it.
pub(super) async fn timely<T>(
    waiting: &Patience,
    question: impl Future<Output = Result<T, String>>,
) -> Result<T, Trouble> {
    match waiting.wait(KEYVALUE_WAIT, question).await {
        Ok(answer) => answer.map_err(Trouble::Other),
        Err(Cut::Time(waited)) => {
            Err(Trouble::Other(format!("the store of values did not answer within {} s", waited.as_secs_f64())))
        }
        Err(Cut::Told) => Err(Trouble::other("the task is to end")),
    }
}

/// A bucket with the bounds of one attempt.
pub(super) struct Operation {
    pub(super) bucket: Bucket,
    pub(super) waiting: Patience,
    pub(super) value_bytes_max: usize,
}

impl Operation {
    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Trouble> {
        check_key(key)?;
        let value = timely(&self.waiting, self.bucket.values.get(&self.bucket.space, key)).await?;
        value.map(|value| self.bounded(value)).transpose()
    }

    pub(super) async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), Trouble> {
        check_key(key)?;
        let value = self.bounded(value)?;
        timely(&self.waiting, self.bucket.values.set(&self.bucket.space, key, value)).await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), Trouble> {
        check_key(key)?;
        timely(&self.waiting, self.bucket.values.delete(&self.bucket.space, key)).await
    }

    pub(super) async fn exists(&self, key: &str) -> Result<bool, Trouble> {
        check_key(key)?;
        timely(&self.waiting, self.bucket.values.exists(&self.bucket.space, key)).await
    }

    pub(super) async fn list(&self, cursor: Option<u64>) -> Result<(Vec<String>, Option<u64>), Trouble> {
        timely(&self.waiting, self.bucket.values.list(&self.bucket.space, cursor)).await
    }

    pub(super) async fn increment(&self, key: &str, delta: i64) -> Result<i64, Trouble> {
        check_key(key)?;
        timely(&self.waiting, self.bucket.values.increment(&self.bucket.space, key, delta)).await
    }

    /// What is under a key, for another value to take its place.
    pub(super) async fn look(self, key: String) -> Result<Cas, Trouble> {
        let current = self.get(&key).await?;
        Ok(Cas { bucket: self.bucket, key, current })
    }

    /// Puts the value there, or says what is there now.
    pub(super) async fn swap(self, cas: Cas, value: Vec<u8>) -> Result<Result<(), Cas>, Trouble> {
        let value = self.bounded(value)?;
        let Cas { bucket, key, current } = cas;
        let swapped = timely(&self.waiting, bucket.values.swap(&bucket.space, &key, current, value)).await?;
        match swapped {
            Ok(()) => Ok(Ok(())),
            Err(current) => {
                let current = current.map(|value| self.bounded(value)).transpose()?;
                Ok(Err(Cas { bucket, key, current }))
            }
        }
    }

    fn bounded(&self, value: Vec<u8>) -> Result<Vec<u8>, Trouble> {
        let (bytes, max) = (value.len(), self.value_bytes_max);
        match bytes <= max {
            true => Ok(value),
            false => Err(Trouble::Other(format!("the value has {bytes} bytes; limits.keyvalue_value is {max} bytes"))),
        }
    }
}

fn check_key(key: &str) -> Result<(), Trouble> {
    match key.len() {
        0 => Err(Trouble::other("the key is empty")),
        1..=KEY_BYTES_MAX => Ok(()),
        bytes => Err(Trouble::Other(format!("the key has {bytes} bytes, more than {KEY_BYTES_MAX}"))),
    }
}
