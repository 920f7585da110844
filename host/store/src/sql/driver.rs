//! The port of the databases: what the store asks of each, in rows and values.
//!
//! A driver connects, makes what tables are missing, repeats what only others made fail, and knows which
//! troubles pass. What rows mean is not its business.

mod mysql;
mod postgresql;
pub(super) mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::Timestamp;

pub(super) use mysql::MysqlDriver;
pub(super) use postgresql::PostgresqlDriver;
pub(super) use sqlite::SqliteDriver;

use super::statement::Dialect;
use super::table::{Table, Which};
use super::value::{Row, Value};
use crate::cause::Cause;

/// A database with the tables of a layout.
#[async_trait]
pub(super) trait Driver: Send + Sync {
    /// Writes these, each key once, over what is there unless that is sticky. The answers stand in the same
    /// order.
    async fn put(&self, which: Which, rows: Vec<Row>) -> Vec<Result<(), Cause>>;

    /// The whole row with this key.
    async fn get(&self, table: &Table, key: &str) -> Result<Option<Vec<Value>>, Cause>;

    /// The state of the task with this key, if there is a row.
    async fn state(&self, key: &str) -> Result<Option<String>, Cause>;

    async fn forget(&self, table: &Table, key: &str) -> Result<(), Cause>;

    /// A statement that is harmless if it is sent twice, with its values; how many rows it changed.
    async fn change(&self, text: &str, values: &[Value]) -> Result<u64, Cause>;

    /// Whose SQL that is to be.
    fn dialect(&self) -> Dialect;

    /// Deletes at most `limit` of those that were done before this time, and says how many.
    async fn delete_expired(&self, which: Which, before: Timestamp, limit: u32) -> Result<u64, Cause>;

    /// A sign of life; with what is missing of the tables made, if that is wanted now.
    async fn ping(&self, makes_tables: bool) -> Result<(), Cause>;

    /// How often a wait looks, at first and at last.
    fn poll(&self) -> (Duration, Duration);

    /// A number that changes whenever anyone has written anything, much cheaper than looking; none if there is
    /// no such thing, and then each look is a look.
    async fn version(&self) -> Option<i64> {
        None
    }
}

/// How often a statement is repeated that others are in the way of, or whose connection had been lost before.
const ATTEMPTS_MAX: u32 = 12;
/// How long to wait between two attempts, at most: twice as long each time, and by chance anything up to that.
const PAUSE_FIRST: Duration = Duration::from_millis(4);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// The pause before another attempt; two that were in each other's way do not meet again.
pub(super) fn pause(attempt: u32) -> Duration {
    let most = PAUSE_FIRST.saturating_mul(1 << attempt.min(16)).min(PAUSE_MAX);
    most.mul_f64(fastrand::f64())
}

/// How often a wait looks at a server: soon at first, and then as often as Celery's clients do
/// (`subpolling_interval` of celery/backends/database).
const SERVER_POLL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// How many statements of one put are under way together, each on a connection of its own.
const STATEMENTS_AT_ONCE_MAX: usize = 4;
/// How often making tables is tried while others make them too (`PREPARE_MODELS_MAX_RETRIES`).
const PREPARE_ATTEMPTS_MAX: u32 = 10;
/// How much of a put is one statement.
const STATEMENT_ROWS_MAX: usize = 128;
const STATEMENT_BYTES_MAX: usize = 1024 * 1024;

/// What came of a statement.
#[derive(Debug, Default)]
struct Answer {
    /// How many rows it touched.
    touched: u64,
    /// The row that it found.
    row: Option<Vec<Value>>,
}

impl Answer {
    /// The text in a row that has no other column.
    fn into_text(self) -> Option<String> {
        self.row.map(|row| match row.into_iter().next() {
            Some(Value::Text(text)) => text,
            _ => String::new(),
        })
    }
}

/// Cuts rows into what one statement takes: one at least, all of the same width.
fn statements(rows: Vec<Row>) -> Vec<Vec<Row>> {
    let mut cut: Vec<Vec<Row>> = Vec::new();
    let mut bytes = 0;
    for row in rows {
        let size = row.size();
        match cut.last_mut() {
            Some(last)
                if last.len() < STATEMENT_ROWS_MAX
                    && bytes + size <= STATEMENT_BYTES_MAX
                    && last[0].values.len() == row.values.len() =>
            {
                bytes += size;
                last.push(row);
            }
            _ => {
                bytes = size;
                cut.push(vec![row]);
            }
        }
    }
    cut
}
