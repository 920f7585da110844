//! Reading the file, beside the writer and never in its way.
//!
//! SQLite blocks, if only for microseconds, so reads happen on tokio's blocking threads.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension};
use taskhost_core::protocol::codec::Format;
use taskhost_core::record::CALL_FIELDS;
use taskhost_core::{Json, State, StoredResult, TaskId, Timestamp};

use super::{POLL_INTERVAL, schema, writer};
use crate::cause::Cause;

const GET: &str = "\
    SELECT status, result, date_done, traceback, children, name, args, kwargs, worker, retries, queue \
    FROM celery_taskmeta WHERE task_id = ?1";
const GET_GROUP: &str = "SELECT result FROM celery_tasksetmeta WHERE taskset_id = ?1";

/// A connection for reading, and another that asks whether there is anything new to read.
pub(super) struct Reader {
    format: Format,
    connection: Arc<Mutex<Connection>>,
    watch: Arc<Mutex<Watch>>,
}

/// `PRAGMA data_version` and when it was asked for, so that many waits cost as much as one.
struct Watch {
    connection: Connection,
    seen: Option<(Instant, i64)>,
}

impl Reader {
    pub(super) fn open(path: &Path, format: Format) -> rusqlite::Result<Self> {
        let open = || -> rusqlite::Result<Connection> {
            let connection = schema::open(path)?;
            connection.pragma_update(None, "query_only", true)?;
            Ok(connection)
        };
        let watch = Watch { connection: open()?, seen: None };
        Ok(Self { format, connection: Arc::new(Mutex::new(open()?)), watch: Arc::new(Mutex::new(watch)) })
    }

    pub(super) async fn get(&self, id: &TaskId) -> Result<Option<StoredResult>, Cause> {
        let connection = Arc::clone(&self.connection);
        let (id, format) = (id.clone(), self.format.clone());
        let read = move || read(&connection.lock().unwrap_or_else(PoisonError::into_inner), &id, &format);
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|panic| Err(Cause::permanent(panic)))
    }

    /// The result of a group.
    pub(super) async fn group(&self, group: &str) -> Result<Option<Json>, Cause> {
        let connection = Arc::clone(&self.connection);
        let (group, format) = (group.to_owned(), self.format.clone());
        let read = move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let mut statement = connection.prepare_cached(GET_GROUP).map_err(writer::cause)?;
            let result = statement.query_row([&group], |row| row.get::<_, Option<Vec<u8>>>(0)).optional();
            result.map_err(writer::cause)?.flatten().map(|result| parse(result, &format)).transpose()
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|panic| Err(Cause::permanent(panic)))
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

/// A row as it is in the table.
struct Columns {
    status: Option<String>,
    result: Option<Vec<u8>>,
    date_done: Option<String>,
    traceback: Option<String>,
    children: Option<Vec<u8>>,
    /// Of [`CALL_FIELDS`].
    call: [Value; CALL_FIELDS.len()],
}

fn read(connection: &Connection, id: &TaskId, format: &Format) -> Result<Option<StoredResult>, Cause> {
    let mut statement = connection.prepare_cached(GET).map_err(writer::cause)?;
    let row = statement
        .query_row([id.as_str()], |row| {
            Ok(Columns {
                status: row.get(0)?,
                result: row.get(1)?,
                date_done: row.get(2)?,
                traceback: row.get(3)?,
                children: row.get(4)?,
                call: [row.get(5)?, row.get(6)?, row.get(7)?, row.get(8)?, row.get(9)?, row.get(10)?],
            })
        })
        .optional()
        .map_err(writer::cause)?;
    let Some(Columns { status, result, date_done, traceback, children, call }) = row else { return Ok(None) };
    let mut told = Vec::new();
    for (name, value) in CALL_FIELDS.into_iter().zip(call) {
        match value {
            Value::Text(text) => told.push((name, Json::text(&text))),
            Value::Integer(number) => told.push((name, Json::int(number))),
            Value::Blob(bytes) => told.push((name, parse(bytes, format)?)),
            Value::Null | Value::Real(_) => {}
        }
    }
    Ok(Some(StoredResult {
        state: status.as_deref().map_or(State::Pending, State::parse),
        result: result.map_or(Ok(Json::null()), |bytes| parse(bytes, format))?,
        traceback,
        date_done: date_done.map(|text| Timestamp::parse(&text).map(Timestamp::isoformat).unwrap_or(text)),
        children: children.map_or(Ok(Json::null()), |bytes| parse(bytes, format))?,
        // Celery's tables have no column for it.
        parent_id: None,
        call: told,
    }))
}

fn parse(result: Vec<u8>, format: &Format) -> Result<Json, Cause> {
    // An empty map of msgpack begins so as well, and is nothing but that.
    if result.len() > 1 && result.first() == Some(&0x80) {
        return Err(Cause::permanent("the result is a pickle, which a worker before Celery 5.7 wrote"));
    }
    format.deserialize(&result.into()).map_err(Cause::permanent)
}
