//! The file: how it is opened, locked and given its tables.
//!
//! Tables that a Python client made are used as they are; columns that its version did not know are
//! added, as `_migrate_missing_columns` of celery/backends/database/session.py does.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::cause::Cause;
use crate::sql::layout::Layout;
use crate::sql::statement::Dialect;
use crate::sql::table::Which;

/// How long we wait for a lock that another process holds, as Python's sqlite3 does.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often we try to get it. SQLite's own steps grow to 100 ms, which is long for a busy file.
const BUSY_STEP: Duration = Duration::from_millis(1);
/// How long a start, or a transaction, may be put off by locks before it is given up.
pub(super) const LOCKED_MAX: Duration = Duration::from_secs(15);

/// Opens the file for one thread, with the settings that all who share it agree on. The file is made,
/// readable by its owner alone, if it does not exist.
pub(crate) fn open(path: &Path) -> rusqlite::Result<Connection> {
    create(path)?;
    // No URI: a path is a path, whatever it is called.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    let mut since = Instant::now();
    connection.busy_handler(Some(move |tried: i32| {
        if tried == 0 {
            since = Instant::now();
        }
        std::thread::sleep(BUSY_STEP);
        since.elapsed() < BUSY_TIMEOUT
    }))?;
    // The change to WAL is refused at once while another process makes it, whatever the busy handler says.
    retry_locked(|| {
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?;
        Ok(())
    })?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// Makes the tables of a layout, or what is missing of them.
pub(super) fn prepare(connection: &mut Connection, layout: &dyn Layout) -> rusqlite::Result<()> {
    // Looks without locking: several workers start at the same time, and one at most has work to do.
    if !layout.makes_tables() || missing(connection, layout)?.is_empty() {
        return Ok(());
    }
    retry_locked(|| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for statement in missing(&transaction, layout)? {
            transaction.execute_batch(&statement)?;
        }
        transaction.commit()
    })
}

fn missing(connection: &Connection, layout: &dyn Layout) -> rusqlite::Result<Vec<String>> {
    let mut missing = Vec::new();
    for table in Which::ALL.map(|which| layout.table(which)) {
        let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
        let present = statement.query_map([&table.name], |row| row.get::<_, String>(0))?;
        let present = present.collect::<rusqlite::Result<Vec<_>>>()?;
        if present.is_empty() {
            missing.extend(Dialect::Sqlite.create(table));
        } else {
            let absent = table.columns.iter().filter(|column| !present.iter().any(|name| name == column.name));
            missing.extend(absent.map(|column| Dialect::Sqlite.add_column(table, column)));
        }
    }
    Ok(missing)
}

#[cfg(unix)]
fn create(path: &Path) -> rusqlite::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    // Results may be secret. SQLite gives its -wal and -shm files the mode of the file.
    let created = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match created {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
        }
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn create(_path: &Path) -> rusqlite::Result<()> {
    Ok(())
}

/// Repeats `attempt` while a lock is in its way, for [`LOCKED_MAX`] at most.
pub(super) fn retry_locked<T>(mut attempt: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let since = Instant::now();
    loop {
        match attempt() {
            Err(error) if is_locked(&error) && since.elapsed() < LOCKED_MAX => std::thread::sleep(BUSY_STEP),
            result => return result,
        }
    }
}

pub(super) fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// True if the same may work later: locks go away, disks get room again.
pub(super) fn is_transient(error: &rusqlite::Error) -> bool {
    let passing = [
        ErrorCode::DatabaseBusy,
        ErrorCode::DatabaseLocked,
        ErrorCode::DiskFull,
        ErrorCode::SystemIoFailure,
        ErrorCode::OutOfMemory,
        ErrorCode::OperationInterrupted,
        ErrorCode::SchemaChanged,
    ];
    error.sqlite_error_code().is_some_and(|code| passing.contains(&code))
}

/// The error as the port has it.
pub(crate) fn cause(error: rusqlite::Error) -> Cause {
    let transient = is_transient(&error);
    Cause::new(error, transient)
}
