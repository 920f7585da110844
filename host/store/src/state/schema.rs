//! The tables of a state file, and how it is opened: by one process at a time, for its owner's eyes only.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::StateError;

/// A change of the tables is a new version.
const VERSION: i64 = 2;

/// How long a predecessor that is about to end may still hold the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// `seq` orders by the latest change, so that the oldest can go; it never comes again.
const TABLES: &str = "
CREATE TABLE revoked (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    header TEXT NOT NULL,
    value TEXT NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (header, value)
);
CREATE TABLE delivery_count (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    execution TEXT NOT NULL UNIQUE,
    count INTEGER NOT NULL,
    at INTEGER NOT NULL
);
CREATE TABLE served (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    task TEXT NOT NULL UNIQUE
);
CREATE TABLE journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    message BLOB NOT NULL,
    resumed INTEGER NOT NULL DEFAULT 0
);";

/// What each version added to the one before, beginning with the second.
const CHANGES: [&str; 1] = ["CREATE TABLE clock (id INTEGER PRIMARY KEY, clock INTEGER NOT NULL);"];

/// Opens the file and keeps everybody else out of it until the connection is closed. It is made, with its
/// tables, if it does not exist.
pub(super) fn open(path: &Path) -> Result<Connection, StateError> {
    let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StateError::InUse { path: path.to_owned() },
        Some(ErrorCode::NotADatabase) => {
            StateError::Foreign { path: path.to_owned(), reason: "it is not an SQLite file".to_owned() }
        }
        _ => StateError::Open { path: path.to_owned(), source: error.into() },
    };
    create(path).map_err(|error| StateError::Open { path: path.to_owned(), source: error.into() })?;
    let (connection, version, tables) = lock(path).map_err(failed)?;
    let foreign = |reason: String| Err(StateError::Foreign { path: path.to_owned(), reason });
    match (version, tables) {
        (0, 0) | (1..=VERSION, _) => prepare(connection, version).map_err(failed),
        (0, _) => foreign("it belongs to something else: it has tables that are not ours".to_owned()),
        _ => foreign(format!("it was made by another version of this program ({version} instead of {VERSION})")),
    }
}

/// Opens and locks it, and changes nothing: its version, and how many tables it has.
fn lock(path: &Path) -> rusqlite::Result<(Connection, i64, i64)> {
    // No URI: a path is a path, whatever it is called.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Before the first access: then there is no shared memory either, and the lock stays until we end.
    connection.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |row| row.get::<_, String>(0))?;
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok((connection, version, tables))
}

/// Makes it ours, if it is not yet.
fn prepare(mut connection: Connection, version: i64) -> rusqlite::Result<Connection> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if version != VERSION {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
        if version == 0 {
            transaction.execute_batch(TABLES)?;
        }
        for change in &CHANGES[usize::try_from(version - 1).unwrap_or(0)..] {
            transaction.execute_batch(change)?;
        }
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    Ok(connection)
}

/// Messages may be secret. SQLite gives its other files the mode of this one.
fn create(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
