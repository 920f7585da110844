//! SQLite: one thread that writes and commits what comes together, and readers that are never in its way.
//!
//! The file may be the embedded broker's `host.db`; whoever shares it must not be locked out for long, which is
//! why this driver has a writer of its own and no pool.

pub(crate) mod file;
mod reader;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::Timestamp;

use self::reader::Reader;
use self::writer::{Answers, Work, Writer};
use super::{Answer, Driver, statements};
use crate::cause::Cause;
use crate::sql::layout::Layout;
use crate::sql::statement::Dialect;
use crate::sql::table::{Table, Which};
use crate::sql::value::{Row, Value};

/// How often a wait asks whether another process, or the broker, wrote to the file.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The tables in a file.
pub(in crate::sql) struct SqliteDriver {
    reader: Reader,
    writer: Writer,
    layout: Arc<dyn Layout>,
}

impl SqliteDriver {
    /// Opens the file, and makes it and its tables if they are missing. Blocks.
    pub(in crate::sql) fn open(path: &Path, layout: Arc<dyn Layout>) -> Result<Self, Cause> {
        let mut connection = file::open(path).map_err(file::cause)?;
        file::prepare(&mut connection, &*layout).map_err(file::cause)?;
        let reader = Reader::open(path).map_err(file::cause)?;
        let writer = Writer::start(connection, Arc::clone(&layout)).map_err(Cause::transient)?;
        Ok(Self { reader, writer, layout })
    }

    /// Does work that is no put and adds up its answers.
    async fn work(&self, work: Work) -> Result<u64, Cause> {
        let answered = self.writer.submit(work).await?;
        answered.await.map_err(|_| writer::gone())?.into_iter().sum()
    }
}

#[async_trait]
impl Driver for SqliteDriver {
    async fn put(&self, which: Which, rows: Vec<Row>) -> Vec<Result<(), Cause>> {
        // All jobs are handed over before the first answer is awaited, and so share transactions.
        let mut jobs = Vec::new();
        for rows in statements(rows) {
            jobs.push((rows.len(), self.writer.submit(Work::Put(which, rows)).await));
        }
        let mut answers = Vec::new();
        for (rows, submitted) in jobs {
            let answered: Result<Answers, Cause> = match submitted {
                Ok(answered) => answered.await.map_err(|_| writer::gone()),
                Err(cause) => Err(cause),
            };
            match answered {
                Ok(written) => answers.extend(written.into_iter().map(|answer| answer.map(drop))),
                Err(cause) => answers.extend(std::iter::repeat_n(Err(cause), rows)),
            }
        }
        answers
    }

    async fn get(&self, table: &Table, key: &str) -> Result<Option<Vec<Value>>, Cause> {
        self.reader.get(Dialect::Sqlite.get(table), key).await
    }

    async fn state(&self, key: &str) -> Result<Option<String>, Cause> {
        let text = Dialect::Sqlite.peek(self.layout.table(Which::Tasks), self.layout.state());
        Ok(Answer { touched: 0, row: self.reader.get(text, key).await? }.into_text())
    }

    async fn forget(&self, table: &Table, key: &str) -> Result<(), Cause> {
        let key = Value::Text(key.to_owned());
        self.change(&Dialect::Sqlite.forget(table), &[key]).await.map(drop)
    }

    async fn change(&self, text: &str, values: &[Value]) -> Result<u64, Cause> {
        self.work(Work::Change(text.to_owned(), values.to_vec())).await
    }

    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    async fn delete_expired(&self, which: Which, before: Timestamp, limit: u32) -> Result<u64, Cause> {
        self.work(Work::DeleteExpired(which, before, limit)).await
    }

    async fn ping(&self, _makes_tables: bool) -> Result<(), Cause> {
        self.reader.version().await.map(drop).ok_or_else(|| Cause::transient("the file cannot be read"))
    }

    fn poll(&self) -> (Duration, Duration) {
        (POLL_INTERVAL, POLL_INTERVAL)
    }

    async fn version(&self) -> Option<i64> {
        self.reader.version().await
    }
}
