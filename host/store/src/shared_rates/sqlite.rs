//! The count in the embedded file: a row for each task, on the machine's clock, which its processes share.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use taskhost_core::{RedactedUrl, TaskName};

use super::{SLACK, SharedRates, micros};
use crate::cause::Cause;
use crate::port::StoreError;
use crate::sql::file;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS taskhost_rate (
    task TEXT NOT NULL PRIMARY KEY, interval_us INTEGER NOT NULL, next_us INTEGER NOT NULL)";

/// Counts in an SQLite file.
pub(super) struct SqliteRates(Arc<Mutex<Connection>>);

impl SqliteRates {
    pub(super) async fn open(url: RedactedUrl, path: PathBuf) -> Result<Self, StoreError> {
        let opened = tokio::task::spawn_blocking(move || -> rusqlite::Result<Connection> {
            let connection = file::open(&path)?;
            // After a crash of the machine a start may be counted twice, which is no reason to wait for
            // the disk each time.
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.execute(TABLE, [])?;
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
}

#[async_trait]
impl SharedRates for SqliteRates {
    async fn next_start(&self, task: &TaskName, interval: Duration) -> Result<Duration, StoreError> {
        let (connection, task) = (Arc::clone(&self.0), task.clone());
        let counted = tokio::task::spawn_blocking(move || {
            count(&mut connection.lock().unwrap_or_else(PoisonError::into_inner), &task, interval)
        });
        let counted = match counted.await {
            Ok(counted) => counted.map_err(file::cause),
            Err(panic) => Err(Cause::permanent(panic)),
        };
        counted.map_err(|cause| cause.store("count starts with the"))
    }
}

fn count(connection: &mut Connection, task: &TaskName, interval: Duration) -> rusqlite::Result<Duration> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    let interval_us = micros(interval);
    let next: Option<i64> = transaction
        .prepare_cached("SELECT next_us FROM taskhost_rate WHERE task = ?1 AND interval_us = ?2")?
        .query_row(params![task.as_str(), interval_us], |row| row.get(0))
        .optional()?;
    let earliest = now - micros(SLACK.min(interval));
    let start = next.map_or(earliest, |next| next.max(earliest));
    transaction
        .prepare_cached("INSERT OR REPLACE INTO taskhost_rate (task, interval_us, next_us) VALUES (?1, ?2, ?3)")?
        .execute(params![task.as_str(), interval_us, start.saturating_add(interval_us)])?;
    transaction.commit()?;
    Ok(Duration::from_micros(u64::try_from(start - now).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn workers_share_starts_through_the_embedded_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("host.db");
        let rates = || SqliteRates::open(RedactedUrl::new("sqlite:///host.db"), path.clone());
        let (one, other) = (rates().await.expect("it opens"), rates().await.expect("it opens"));
        super::super::tests::check(&one, &other, "tasks.add").await;
    }
}
