//! MySQL and MariaDB by mysql_async: statements with many rows, prepared for a few numbers of rows.
//!
//! Each statement is a transaction. Deadlocks are part of life there: what was undone is repeated.

mod values;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dial::mysql::{Lease, Pool, is_conflict, is_lost, is_transient, told};
use futures_util::future::join_all;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Params};
use taskhost_core::{RedactedUrl, Timestamp};
use tokio::sync::Mutex;
use tracing::{debug, info};

use self::values::{escape, parameter, told_as};
use super::{ATTEMPTS_MAX, Answer, Driver, PREPARE_ATTEMPTS_MAX, STATEMENTS_AT_ONCE_MAX, pause, statements};
use crate::cause::Cause;
use crate::sql::layout::Layout;
use crate::sql::statement::Dialect;
use crate::sql::table::{Column, Kind, Over, Table, Which};
use crate::sql::value::{Row, Value};

/// `ER_TABLE_EXISTS_ERROR`, `ER_DUP_FIELDNAME`: somebody made the same at the same time.
const MADE_MEANWHILE: [u16; 2] = [1050, 1060];
const NO_TABLE: u16 = 1146;
/// Since when MariaDB has sequences, and SQLAlchemy uses them.
const SEQUENCES: (u16, u16, u16) = (10, 3, 0);
/// `ER_DATA_TOO_LONG`.
const TOO_LONG: u16 = 1406;
/// `ER_TRUNCATED_WRONG_VALUE_FOR_FIELD`: the table's character set lacks a character.
const NO_SUCH_CHARACTER: u16 = 1366;
/// The numbers of rows that there are statements for. Each is prepared once on each connection; in between, a
/// row is sent again, which changes nothing.
const SIZES: [usize; 14] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128];

/// The tables in a database of a server.
pub(in crate::sql) struct MysqlDriver {
    url: RedactedUrl,
    pool: Pool,
    layout: Arc<dyn Layout>,
    /// Whose SQL it is, once the tables were there.
    prepared: Mutex<Option<Dialect>>,
}

/// A statement with its parameters. Whatever is sent here may be sent twice.
struct Exchange<'a> {
    text: &'a str,
    values: &'a [&'a Value],
    /// What is read of a row; nothing, if there is none to read.
    columns: &'a [Column],
}

impl Exchange<'_> {
    async fn run(&self, connection: &mut Conn) -> Result<Answer, Error> {
        let values = Params::Positional(self.values.iter().map(|value| parameter(value)).collect());
        if self.columns.is_empty() {
            connection.exec_drop(self.text, values).await?;
            return Ok(Answer { touched: connection.affected_rows(), row: None });
        }
        let row: Option<mysql_async::Row> = connection.exec_first(self.text, values).await?;
        let told = |(value, column): (mysql_async::Value, &Column)| told_as(value, column.kind);
        Ok(Answer { touched: 0, row: row.map(|row| row.unwrap().into_iter().zip(self.columns).map(told).collect()) })
    }
}

impl MysqlDriver {
    pub(in crate::sql) fn new(url: RedactedUrl, pool: Pool, layout: Arc<dyn Layout>) -> Self {
        Self { url, pool, layout, prepared: Mutex::new(None) }
    }

    /// Sends a statement, again if others were in the way or the connection had died before.
    async fn run(&self, exchange: Exchange<'_>) -> Result<Answer, Trouble> {
        let mut attempt = 0;
        loop {
            self.dialect().await.map_err(Trouble::of)?;
            let mut lease = self.lease().await.map_err(Trouble::of)?;
            let timeout = self.pool.answer_timeout();
            let Ok(answered) = tokio::time::timeout(timeout, exchange.run(lease.connection())).await else {
                lease.discard().await;
                return Err(Trouble::of(self.late()));
            };
            let error = match answered {
                Ok(answer) => {
                    lease.give_back();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let has_code = |code| matches!(&error, Error::Server(told) if told.code == code);
            let gives_up = self.pool.gives_up_read_committed(&error);
            if error.is_fatal() || is_lost(&error) || gives_up {
                lease.discard().await;
            } else {
                lease.give_back();
            }
            if has_code(NO_TABLE) {
                *self.prepared.lock().await = None;
            }
            attempt += 1;
            // The pool cannot tell that a connection has died before something is sent on it.
            let no_table = has_code(NO_TABLE) && self.layout.makes_tables();
            let lost_before = is_lost(&error) && attempt == 1;
            if !(is_conflict(&error) || lost_before || no_table || gives_up) || attempt >= ATTEMPTS_MAX {
                let (is_of_text, is_of_number) = (has_code(NO_SUCH_CHARACTER), is_number_taken(&error));
                return Err(Trouble { cause: cause(&error), is_of_text, is_of_number });
            }
            debug!("MySQL: again, after {}", told(&error));
            tokio::time::sleep(pause(attempt)).await;
        }
    }

    async fn lease(&self) -> Result<Lease, Cause> {
        self.pool.lease().await.map_err(|error| {
            // Its causes are in its text.
            Cause::new(format!("connect to {}: {error}", self.url), error.is_transient())
        })
    }

    /// Whose SQL the server speaks. Makes what is missing of the tables first.
    async fn dialect(&self) -> Result<Dialect, Cause> {
        let mut prepared = self.prepared.lock().await;
        if let Some(dialect) = *prepared {
            return Ok(dialect);
        }
        let mut lease = self.lease().await?;
        let preparing = tokio::time::timeout(self.pool.answer_timeout(), self.prepare(lease.connection())).await;
        let Ok(dialect) = preparing else {
            lease.discard().await;
            return Err(self.late());
        };
        let dialect = dialect?;
        lease.give_back();
        *prepared = Some(dialect);
        Ok(dialect)
    }

    /// A sign of life of a server whose tables are looked at later.
    async fn connects(&self) -> Result<(), Cause> {
        let mut lease = self.lease().await?;
        let asked = lease.connection().ping();
        let answered = tokio::time::timeout(self.pool.answer_timeout(), asked).await.map_err(|_| self.late())?;
        answered.map_err(|error| cause(&error))?;
        lease.give_back();
        Ok(())
    }

    fn late(&self) -> Cause {
        Cause::transient(format!("no answer after {:?} (read_timeout)", self.pool.answer_timeout()))
    }

    /// Makes what is missing of the tables. Others do the same at the same time.
    async fn prepare(&self, connection: &mut Conn) -> Result<Dialect, Cause> {
        let version: Option<String> =
            connection.query_first("SELECT VERSION()").await.map_err(|error| cause(&error))?;
        let is_mariadb = version.is_some_and(|version| version.contains("MariaDB"));
        let has_sequences = is_mariadb && connection.server_version() >= SEQUENCES;
        let dialect = if has_sequences { Dialect::Mariadb } else { Dialect::Mysql };
        if !self.layout.makes_tables() {
            return Ok(dialect);
        }
        for attempt in 1..=PREPARE_ATTEMPTS_MAX {
            let missing = self.missing(dialect, connection).await.map_err(|error| cause(&error))?;
            if missing.is_empty() {
                return Ok(dialect);
            }
            for statement in missing {
                match connection.query_drop(&statement).await {
                    Ok(()) => info!("MySQL: {statement}"),
                    Err(Error::Server(told)) if MADE_MEANWHILE.contains(&told.code) => {}
                    Err(error) if is_conflict(&error) => tokio::time::sleep(pause(attempt)).await,
                    Err(error) => {
                        let text = format!("{}; it was about: {statement}", told(&error));
                        return Err(Cause::new(text, is_transient(&error)));
                    }
                }
            }
        }
        Err(Cause::transient("others make and delete the tables all the time"))
    }

    async fn missing(&self, dialect: Dialect, connection: &mut Conn) -> Result<Vec<String>, Error> {
        const COLUMNS: &str = "SELECT COLUMN_NAME FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ?";
        let mut missing = Vec::new();
        for which in Which::ALL {
            let table = self.layout.table(which);
            let present: Vec<String> = connection.exec(COLUMNS, (&table.schema, &table.name)).await?;
            if present.is_empty() {
                missing.extend(dialect.create(table));
                continue;
            }
            let absent = table.columns.iter().filter(|column| !present.iter().any(|name| name == column.name));
            missing.extend(absent.map(|column| dialect.add_column(table, column)));
            let number = dialect.number(table);
            // A sequence is a table there.
            if !number.is_empty() {
                let found: Vec<String> =
                    connection.exec(COLUMNS, (&table.schema, table.sequence.unwrap_or_default())).await?;
                if found.is_empty() {
                    missing.extend(number);
                }
            }
        }
        Ok(missing)
    }

    async fn put_all(&self, which: Which, rows: &[Row]) -> Result<(), Trouble> {
        let width = rows.first().map_or(0, |row| row.values.len());
        let size = SIZES.into_iter().find(|size| *size >= rows.len()).unwrap_or(rows.len());
        let dialect = self.dialect().await.map_err(Trouble::of)?;
        let statement = dialect.put(self.layout.table(which), width, size);
        let smallest = rows.iter().min_by_key(|row| row.size()).into_iter().cycle();
        let sent: Vec<&Value> = rows.iter().chain(smallest).take(size).flat_map(|row| &row.values).collect();
        self.run(Exchange { text: &statement, values: &sent, columns: &[] }).await.map(drop)
    }

    /// The same where numbers may be behind the rows of a table: those that were made before MariaDB had sequences
    /// counted by themselves.
    async fn put_numbered(&self, which: Which, rows: &[Row]) -> Result<(), Trouble> {
        match self.put_all(which, rows).await {
            Err(trouble) if trouble.is_of_number => {
                let dialect = self.dialect().await.map_err(Trouble::of)?;
                let table = self.layout.table(which);
                if dialect != Dialect::Mariadb || table.sequence.is_none() {
                    return Err(trouble);
                }
                const NUMBER: &[Column] = &[Column { name: "id", kind: Kind::Int, over: Over::Written }];
                let next = dialect.next_number(table);
                let next = self.run(Exchange { text: &next, values: &[], columns: NUMBER }).await?;
                if let Some(Value::Int(number)) = next.row.and_then(|row| row.into_iter().next()) {
                    let go_on = dialect.go_on(table, number);
                    self.run(Exchange { text: &go_on, values: &[], columns: &[] }).await?;
                }
                self.put_all(which, rows).await
            }
            answer => answer,
        }
    }

    /// One statement, and if the server minds something about a row, one for each row.
    async fn put_statement(&self, which: Which, rows: Vec<Row>) -> Vec<Result<(), Cause>> {
        match self.put_numbered(which, &rows).await {
            Err(trouble) if !trouble.cause.transient && (rows.len() > 1 || trouble.is_of_text) => {
                let mut answers = Vec::with_capacity(rows.len());
                for row in rows {
                    answers.push(self.put_one(which, row).await);
                }
                answers
            }
            answer => vec![answer.map_err(|trouble| trouble.cause); rows.len()],
        }
    }

    /// A table that somebody made in another character set gets what it lacks as Python's `backslashreplace`
    /// would say it, in all but the key.
    async fn put_one(&self, which: Which, mut row: Row) -> Result<(), Cause> {
        match self.put_numbered(which, std::slice::from_ref(&row)).await {
            Err(trouble) if trouble.is_of_text => {
                row.values.iter_mut().skip(1).for_each(escape);
                self.put_numbered(which, &[row]).await.map_err(|trouble| trouble.cause)
            }
            answer => answer.map_err(|trouble| trouble.cause),
        }
    }

    async fn by_key(&self, text: &str, columns: &[Column], key: &str) -> Result<Answer, Cause> {
        let key = Value::Text(key.to_owned());
        self.run(Exchange { text, values: &[&key], columns }).await.map_err(|trouble| trouble.cause)
    }
}

/// Why something was not done.
struct Trouble {
    cause: Cause,
    /// True if the table's character set is at fault.
    is_of_text: bool,
    /// True if new rows would have the numbers of others.
    is_of_number: bool,
}

impl Trouble {
    fn of(cause: Cause) -> Self {
        Self { cause, is_of_text: false, is_of_number: false }
    }
}

#[async_trait]
impl Driver for MysqlDriver {
    async fn put(&self, which: Which, rows: Vec<Row>) -> Vec<Result<(), Cause>> {
        let mut answers = Vec::with_capacity(rows.len());
        let mut statements = statements(rows).into_iter().peekable();
        while statements.peek().is_some() {
            let writes = statements.by_ref().take(STATEMENTS_AT_ONCE_MAX).map(|rows| self.put_statement(which, rows));
            answers.extend(join_all(writes.collect::<Vec<_>>()).await.into_iter().flatten());
        }
        answers
    }

    async fn get(&self, table: &Table, key: &str) -> Result<Option<Vec<Value>>, Cause> {
        Ok(self.by_key(&Dialect::Mysql.get(table), table.columns, key).await?.row)
    }

    async fn state(&self, key: &str) -> Result<Option<String>, Cause> {
        let (table, state) = (self.layout.table(Which::Tasks), self.layout.state());
        let text = Dialect::Mysql.peek(table, state);
        Ok(self.by_key(&text, &table.columns[state..=state], key).await?.into_text())
    }

    async fn forget(&self, table: &Table, key: &str) -> Result<(), Cause> {
        self.by_key(&Dialect::Mysql.forget(table), &[], key).await.map(drop)
    }

    async fn change(&self, text: &str, values: &[Value]) -> Result<u64, Cause> {
        let values: Vec<&Value> = values.iter().collect();
        let changed = self.run(Exchange { text, values: &values, columns: &[] }).await;
        changed.map(|answer| answer.touched).map_err(|trouble| trouble.cause)
    }

    fn dialect(&self) -> Dialect {
        Dialect::Mysql
    }

    async fn delete_expired(&self, which: Which, before: Timestamp, limit: u32) -> Result<u64, Cause> {
        let text = Dialect::Mysql.delete_expired(self.layout.table(which));
        let (before, limit) = (Value::Time(before), Value::Int(limit.into()));
        let deleted = self.run(Exchange { text: &text, values: &[&before, &limit], columns: &[] }).await;
        deleted.map(|answer| answer.touched).map_err(|trouble| trouble.cause)
    }

    async fn ping(&self, makes_tables: bool) -> Result<(), Cause> {
        if !makes_tables {
            return self.connects().await;
        }
        let pinged = self.run(Exchange { text: "DO 0", values: &[], columns: &[] }).await;
        pinged.map(drop).map_err(|trouble| trouble.cause)
    }

    fn poll(&self) -> (Duration, Duration) {
        super::SERVER_POLL
    }
}

fn cause(error: &Error) -> Cause {
    let mut text = told(error);
    if is_number_taken(error) {
        text = "the number of a new row is another row's: what numbers the table has run out, or is behind".to_owned();
    } else if matches!(error, Error::Server(told) if told.code == TOO_LONG) {
        text.push_str(
            "; a BLOB, which is what Celery makes of it in MySQL, ends at 64 KiB: change the column to LONGBLOB to \
             keep larger results",
        );
    }
    Cause::new(text, is_transient(error))
}

/// Keys are measured before they are sent, so the one that is too long is what the statement makes of it itself.
fn is_number_taken(error: &Error) -> bool {
    let is_key = |told: &str| told.contains("'task_id'") || told.contains("'taskset_id'");
    matches!(error, Error::Server(told) if told.code == TOO_LONG && is_key(&told.message))
}
