//! Values in an SQLite file, which several processes of one machine may share.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use taskhost_core::RedactedUrl;

use super::{Entry, KeyValue, KeyValueError, OPERATION, PAGE_MAX, Page, Swap};
use crate::cause::Cause;
use crate::port::StoreError;
use crate::sql::file;

const TABLE: &str = "
CREATE TABLE IF NOT EXISTS taskhost_keyvalue (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, space TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
    UNIQUE (space, key));
CREATE INDEX IF NOT EXISTS taskhost_keyvalue_pages ON taskhost_keyvalue (space, id);";

/// Keeps values in a file.
pub(super) struct SqliteValues(Arc<Mutex<Connection>>);

impl SqliteValues {
    pub(super) async fn open(url: RedactedUrl, path: PathBuf) -> Result<Self, StoreError> {
        let opened = tokio::task::spawn_blocking(move || -> rusqlite::Result<Connection> {
            let connection = file::open(&path)?;
            connection.execute_batch(TABLE)?;
            Ok(connection)
        });
        let opened = match opened.await {
            Ok(opened) => opened.map_err(file::cause),
            Err(panic) => Err(Cause::permanent(panic)),
        };
        opened.map(|connection| Self(Arc::new(Mutex::new(connection)))).map_err(|cause| StoreError::Connect {
            url,
            transient: cause.transient,
            source: Box::new(cause),
        })
    }

    async fn run<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, KeyValueError> {
        let connection = Arc::clone(&self.0);
        let done =
            tokio::task::spawn_blocking(move || act(&mut connection.lock().unwrap_or_else(PoisonError::into_inner)));
        let done = match done.await {
            Ok(done) => done.map_err(file::cause),
            Err(panic) => Err(Cause::permanent(panic)),
        };
        done.map_err(|cause| cause.store(OPERATION).into())
    }
}

/// What it takes to find a value on another thread.
fn owned(entry: Entry<'_>) -> (String, String) {
    (entry.space.to_owned(), entry.key.to_owned())
}

fn read(connection: &Connection, space: &str, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut select = connection.prepare_cached("SELECT value FROM taskhost_keyvalue WHERE space = ?1 AND key = ?2")?;
    select.query_row(params![space, key], |row| row.get(0)).optional()
}

fn write(connection: &Connection, space: &str, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO taskhost_keyvalue (space, key, value) VALUES (?1, ?2, ?3)
         ON CONFLICT (space, key) DO UPDATE SET value = excluded.value",
    )?;
    upsert.execute(params![space, key, value]).map(drop)
}

fn alone(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

#[async_trait]
impl KeyValue for SqliteValues {
    async fn get(&self, entry: Entry<'_>) -> Result<Option<Bytes>, KeyValueError> {
        let (space, key) = owned(entry);
        Ok(self.run(move |connection| read(connection, &space, &key)).await?.map(Bytes::from))
    }

    async fn set(&self, entry: Entry<'_>, value: Bytes) -> Result<(), KeyValueError> {
        let (space, key) = owned(entry);
        self.run(move |connection| write(connection, &space, &key, &value)).await
    }

    async fn delete(&self, entry: Entry<'_>) -> Result<(), KeyValueError> {
        let (space, key) = owned(entry);
        self.run(move |connection| {
            let mut delete =
                connection.prepare_cached("DELETE FROM taskhost_keyvalue WHERE space = ?1 AND key = ?2")?;
            delete.execute(params![space, key]).map(drop)
        })
        .await
    }

    async fn exists(&self, entry: Entry<'_>) -> Result<bool, KeyValueError> {
        let (space, key) = owned(entry);
        self.run(move |connection| {
            let mut select =
                connection.prepare_cached("SELECT 1 FROM taskhost_keyvalue WHERE space = ?1 AND key = ?2")?;
            select.exists(params![space, key])
        })
        .await
    }

    async fn list(&self, space: &str, cursor: Option<u64>) -> Result<Page, KeyValueError> {
        let space = space.to_owned();
        let after = i64::try_from(cursor.unwrap_or(0)).unwrap_or(i64::MAX);
        self.run(move |connection| {
            let mut select = connection.prepare_cached(
                "SELECT id, key FROM taskhost_keyvalue WHERE space = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
            )?;
            let rows = select.query_map(params![space, after, PAGE_MAX as i64], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            })?;
            let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            let last = rows.last().and_then(|(id, _)| u64::try_from(*id).ok());
            let cursor = last.filter(|_| rows.len() == PAGE_MAX);
            Ok(Page { keys: rows.into_iter().map(|(_, key)| key).collect(), cursor })
        })
        .await
    }

    async fn increment(&self, entry: Entry<'_>, delta: i64) -> Result<i64, KeyValueError> {
        let (space, key) = owned(entry);
        let sum = self
            .run(move |connection| {
                let transaction = alone(connection)?;
                let number = match read(&transaction, &space, &key)? {
                    None => Some(0),
                    Some(value) => std::str::from_utf8(&value).ok().and_then(|text| text.parse::<i64>().ok()),
                };
                let sum = number.and_then(|number| number.checked_add(delta));
                if let Some(sum) = sum {
                    write(&transaction, &space, &key, sum.to_string().as_bytes())?;
                }
                transaction.commit()?;
                Ok(sum)
            })
            .await?;
        sum.ok_or_else(|| KeyValueError::NoNumber(entry.key.to_owned()))
    }

    async fn swap(&self, entry: Entry<'_>, current: Option<Bytes>, value: Bytes) -> Result<Swap, KeyValueError> {
        let (space, key) = owned(entry);
        self.run(move |connection| {
            let transaction = alone(connection)?;
            let now = read(&transaction, &space, &key)?;
            let swap = match now.as_deref() == current.as_deref() {
                true => {
                    write(&transaction, &space, &key, &value)?;
                    Swap::Done
                }
                false => Swap::Changed(now.map(Bytes::from)),
            };
            transaction.commit()?;
            Ok(swap)
        })
        .await
    }
}
