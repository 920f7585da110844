//! Opens the file and makes its tables: kombu's, with columns and indexes of our own.
//!
//! A Python client may have made the tables, or may use them at the same time: what kombu 5.7 and
//! SQLAlchemy write stays as it is, and everything of ours may be absent from a row.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tracing::warn;

use super::failure::{Failure, Kind};

/// How long to wait for the lock of another process. Also what Python's clients wait.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Prepared statements that a connection keeps: more than we have.
const STATEMENTS_MAX: usize = 64;

/// Where the write-ahead log is cut after a burst.
const WAL_BYTES_KEPT: u32 = 64 << 20;

/// What SQLAlchemy emits for kombu's models.
const KOMBU: &str = r#"
CREATE TABLE IF NOT EXISTS kombu_queue (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name VARCHAR(200),
    UNIQUE (name)
);
CREATE TABLE IF NOT EXISTS kombu_message (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    visible BOOLEAN,
    timestamp DATETIME,
    payload TEXT NOT NULL,
    version SMALLINT NOT NULL,
    queue_id INTEGER,
    CONSTRAINT "FK_kombu_message_queue" FOREIGN KEY(queue_id) REFERENCES kombu_queue (id)
);
CREATE INDEX IF NOT EXISTS ix_kombu_message_visible ON kombu_message (visible);
CREATE INDEX IF NOT EXISTS ix_kombu_message_timestamp_id ON kombu_message (timestamp, id);
CREATE INDEX IF NOT EXISTS ix_kombu_message_timestamp ON kombu_message (timestamp);
"#;

/// Columns of ours: name and type. Times are milliseconds since the epoch.
const COLUMNS: [(&str, &str); 6] = [
    // Larger is more urgent; null until somebody has read the payload of a client's row.
    ("priority", "INTEGER"),
    // Not to be delivered before; null once due, or if there is none.
    ("eta", "INTEGER"),
    // Until when the owner may be silent; null if nobody of ours holds the row.
    ("lease_until", "INTEGER"),
    ("owner", "TEXT"),
    ("redelivered", "INTEGER NOT NULL DEFAULT 0"),
    ("delivery_count", "INTEGER NOT NULL DEFAULT 0"),
];

const INDEXES: &str = "
CREATE INDEX IF NOT EXISTS ix_taskhost_ready ON kombu_message (queue_id, priority DESC, id)
    WHERE visible = 1 AND eta IS NULL;
CREATE INDEX IF NOT EXISTS ix_taskhost_eta ON kombu_message (queue_id, eta) WHERE eta IS NOT NULL;
CREATE INDEX IF NOT EXISTS ix_taskhost_lease ON kombu_message (lease_until) WHERE lease_until IS NOT NULL;
";

/// Opens the file, which is made if it is missing.
pub(super) fn open(path: &Path) -> Result<Connection, Failure> {
    create_private(path).map_err(|error| Failure::new(Kind::Lost, error.to_string()))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        warn!(path = %path.display(), mode, "SQLite cannot use a write-ahead log here: everything will be slow");
    }
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;

    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(KOMBU)?;
    for (name, kind) in COLUMNS {
        let known = "SELECT 1 FROM pragma_table_info('kombu_message') WHERE name = ?1";
        if !transaction.prepare(known)?.exists([name])? {
            transaction.execute_batch(&format!("ALTER TABLE kombu_message ADD COLUMN {name} {kind}"))?;
        }
    }
    transaction.execute_batch(INDEXES)?;
    transaction.commit()?;
    Ok(db)
}

/// Messages are nobody else's business. SQLite gives its other files the mode of this one.
fn create_private(path: &Path) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
