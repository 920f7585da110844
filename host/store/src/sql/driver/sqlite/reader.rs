//! Reading the file, beside the writer and never in its way.
//!
//! SQLite blocks, if only for microseconds, so reads happen on tokio's blocking threads.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use super::{POLL_INTERVAL, file};
use crate::cause::Cause;
use crate::sql::value::Value;

/// A connection for reading, and another that asks whether there is anything new to read.
pub(super) struct Reader {
    connection: Arc<Mutex<Connection>>,
    watch: Arc<Mutex<Watch>>,
}

/// `PRAGMA data_version` and when it was asked for, so that many waits cost as much as one.
struct Watch {
    connection: Connection,
    seen: Option<(Instant, i64)>,
}

impl Reader {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let open = || -> rusqlite::Result<Connection> {
            let connection = file::open(path)?;
            connection.pragma_update(None, "query_only", true)?;
            Ok(connection)
        };
        let watch = Watch { connection: open()?, seen: None };
        Ok(Self { connection: Arc::new(Mutex::new(open()?)), watch: Arc::new(Mutex::new(watch)) })
    }

    /// What a statement finds under a key.
    pub(super) async fn get(&self, text: String, key: &str) -> Result<Option<Vec<Value>>, Cause> {
        let connection = Arc::clone(&self.connection);
        let key = key.to_owned();
        let read = move || read(&connection.lock().unwrap_or_else(PoisonError::into_inner), &text, &key);
        match tokio::task::spawn_blocking(read).await {
            Ok(found) => found.map_err(file::cause),
            Err(panic) => Err(Cause::permanent(panic)),
        }
    }

    /// A number that changes when anyone, in this process or another, commits to the file; up to
    /// [`POLL_INTERVAL`] old. `None` if it cannot be had.
    pub(super) async fn version(&self) -> Option<i64> {
        let watch = Arc::clone(&self.watch);
        let ask = move || watch.lock().unwrap_or_else(PoisonError::into_inner).version();
        tokio::task::spawn_blocking(ask).await.ok().flatten()
    }
}

impl Watch {
    fn version(&mut self) -> Option<i64> {
        if let Some((at, version)) = self.seen
            && at.elapsed() < POLL_INTERVAL / 2
        {
            return Some(version);
        }
        let asked = self.connection.prepare_cached("PRAGMA data_version").and_then(|mut statement| {
            let at = Instant::now();
            Ok((at, statement.query_row([], |row| row.get(0))?))
        });
        self.seen = asked.ok();
        self.seen.map(|(_, version)| version)
    }
}

/// The row with a key, as it is in the table: others write what they like into SQLite's columns.
fn read(connection: &Connection, text: &str, key: &str) -> rusqlite::Result<Option<Vec<Value>>> {
    let mut statement = connection.prepare_cached(text)?;
    let columns = statement.column_count();
    let row = statement.query_row([key], |row| {
        (0..columns)
            .map(|index| {
                Ok(match row.get_ref(index)? {
                    ValueRef::Null | ValueRef::Real(_) => Value::Null,
                    ValueRef::Integer(number) => Value::Int(number),
                    ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
                    ValueRef::Blob(bytes) => Value::Bytes(Bytes::copy_from_slice(bytes)),
                })
            })
            .collect()
    });
    row.optional()
}
