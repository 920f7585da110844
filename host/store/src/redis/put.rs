//! Writing a batch of results to Redis: one look, one transaction.
//!
//! The look and the transaction are two steps, as in Celery (celery/backends/base.py `_store_result`): of
//! two workers that finish the same task in the same moment, the second may overwrite a SUCCESS.

use std::collections::HashSet;

use bytes::Bytes;
use redis::{Cmd, Value};
use taskhost_core::protocol::document;
use taskhost_core::{ResultRecord, State};

use super::connection::{Exchange, Trouble};
use super::{RedisStore, is_success_document};
use crate::cause::Cause;
use crate::port::StoreError;

/// Redis refuses values of this size (celery/backends/redis.py `_MAX_STR_VALUE_SIZE`).
pub(super) const DOCUMENT_BYTES_MAX: usize = 512 * 1024 * 1024;
/// How much one transaction carries, so that it is answered in time and blocks the server for some
/// milliseconds at most. A single document may be larger.
pub(super) const TRANSACTION_BYTES_MAX: usize = 8 * 1024 * 1024;
pub(super) const TRANSACTION_RECORDS_MAX: usize = 500;

/// A record on its way.
struct Writing<'a> {
    record: &'a ResultRecord,
    key: String,
    document: Bytes,
}

impl RedisStore {
    pub(super) async fn put_all(&self, records: &[ResultRecord]) -> Vec<Result<(), StoreError>> {
        let mut answers = Vec::with_capacity(records.len());
        let mut chunk = Vec::with_capacity(records.len().min(TRANSACTION_RECORDS_MAX));
        let mut chunk_bytes = 0;
        for record in records {
            let document = document::encode_as(record, &self.format);
            if document.len() >= DOCUMENT_BYTES_MAX {
                self.put_chunk(&mut chunk, &mut answers).await;
                chunk_bytes = 0;
                let reason = format!("{} bytes are more than Redis takes in one value", document.len());
                answers.push(Err(Cause::permanent(reason).operation("store", &record.id)));
                continue;
            }
            if chunk.len() == TRANSACTION_RECORDS_MAX || chunk_bytes + document.len() > TRANSACTION_BYTES_MAX {
                self.put_chunk(&mut chunk, &mut answers).await;
                chunk_bytes = 0;
            }
            chunk_bytes += document.len();
            chunk.push(Writing { record, key: self.keys.of(&record.id), document });
        }
        self.put_chunk(&mut chunk, &mut answers).await;
        answers
    }

    /// Writes and empties the chunk, and answers for each of it: all of it is stored, or nothing.
    async fn put_chunk(&self, chunk: &mut Vec<Writing<'_>>, answers: &mut Vec<Result<(), StoreError>>) {
        if chunk.is_empty() {
            return;
        }
        let stored = self.look_and_write(chunk).await;
        let answer = |writing: &Writing<'_>| match &stored {
            Ok(()) => Ok(()),
            Err(trouble) => Err(self.error(trouble, "store", &writing.record.id)),
        };
        answers.extend(chunk.iter().map(answer));
        chunk.clear();
    }

    async fn look_and_write(&self, writings: &[Writing<'_>]) -> Result<(), Trouble> {
        let mut look = redis::cmd("MGET");
        for writing in writings {
            look.arg(&writing.key);
        }
        let stored = self.connection.run(Exchange::Command(&look)).await?;
        let transaction = self.transaction(writings, &stored);
        if !transaction.is_empty() {
            self.connection.run(Exchange::Transaction(&transaction)).await?;
        }
        Ok(())
    }

    /// What is to be written, given what is stored under each key.
    fn transaction(&self, writings: &[Writing<'_>], stored: &Value) -> redis::Pipeline {
        let stored = stored.as_sequence().unwrap_or_default();
        let mut transaction = redis::Pipeline::with_capacity(2 * writings.len());
        transaction.atomic();
        // A task may occur more than once; what follows its SUCCESS in this batch is left out as well.
        let mut succeeded = HashSet::new();
        for (n, Writing { record, key, document }) in writings.iter().enumerate() {
            let is_sticky = matches!(stored.get(n), Some(Value::BulkString(document)) if is_success_document(document, &self.format));
            if is_sticky || succeeded.contains(&record.id) {
                continue;
            }
            if record.state == State::Success {
                succeeded.insert(&record.id);
            }
            let mut store = command(key, document);
            match self.expiry.of(&record.state) {
                0 => store.arg("SET").arg(key),
                seconds => store.arg("SETEX").arg(key).arg(seconds),
            };
            store.arg(&document[..]);
            let mut publish = command(key, document);
            publish.arg("PUBLISH").arg(key).arg(&document[..]);
            transaction.add_command(store).ignore().add_command(publish).ignore();
        }
        transaction
    }
}

/// An empty command with room for key, document and what belongs to them: it does not grow step by step.
fn command(key: &str, document: &[u8]) -> Cmd {
    const REST_BYTES: usize = 32;
    Cmd::with_capacity(4, key.len() + document.len() + REST_BYTES)
}
