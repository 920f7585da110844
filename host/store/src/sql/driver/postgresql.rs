//! PostgreSQL by tokio-postgres: each statement carries all its rows as arrays, and is a transaction.
//!
//! No statement is prepared under a name, so connections may be shared by the transaction (pgbouncer) and
//! there is nothing to remember about them.

mod values;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dial::postgresql::{Lease, Pool, is_conflict, is_lost, is_transient, told};
use futures_util::future::join_all;
use taskhost_core::{RedactedUrl, Timestamp};
use tokio::sync::Mutex;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use tracing::{debug, info};

use self::values::{Array, Element, Time, clean, value};
use super::{ATTEMPTS_MAX, Answer, Driver, PREPARE_ATTEMPTS_MAX, STATEMENTS_AT_ONCE_MAX, pause, statements};
use crate::cause::Cause;
use crate::sql::layout::Layout;
use crate::sql::statement::Dialect;
use crate::sql::table::{Column, Table, Which};
use crate::sql::value::{Row, Value};

const DIALECT: Dialect = Dialect::Postgresql;
/// `duplicate_table`, `duplicate_object`, `unique_violation`: somebody made the same at the same time, in spite of
/// `IF NOT EXISTS`.
const MADE_MEANWHILE: [&str; 4] = ["42P07", "42710", "23505", "42P06"];
/// `undefined_table`.
const NO_TABLE: &str = "42P01";
/// Taken while tables are made, so that hosts that start together wait for each other. Any number that others are
/// unlikely to use.
const LOCK: i64 = 0x7461_736b_686f_7374;

/// The tables in a database of a server.
pub(in crate::sql) struct PostgresqlDriver {
    url: RedactedUrl,
    pool: Pool,
    layout: Arc<dyn Layout>,
    /// True if the tables were there when we last looked.
    is_prepared: Mutex<bool>,
}

/// A statement with its parameters. Whatever is sent here may be sent twice.
struct Exchange<'a> {
    text: &'a str,
    parameters: &'a [(&'a (dyn ToSql + Sync), Type)],
    /// What is read of a row; nothing, if there is none to read.
    columns: &'a [Column],
}

impl Exchange<'_> {
    async fn run(&self, client: &Client) -> Result<Answer, tokio_postgres::Error> {
        if self.columns.is_empty() {
            let touched = client.execute_typed(self.text, self.parameters).await?;
            return Ok(Answer { touched, row: None });
        }
        let Some(row) = client.query_typed_opt(self.text, self.parameters).await? else { return Ok(Answer::default()) };
        let values = self.columns.iter().enumerate().map(|(at, column)| value(&row, at, column.kind));
        Ok(Answer { touched: 0, row: Some(values.collect::<Result<_, _>>()?) })
    }
}

/// What to do about an error.
struct Trouble {
    error: tokio_postgres::Error,
    /// The statement may be repeated: it was undone, or never reached the server.
    is_repeatable: bool,
}

impl PostgresqlDriver {
    pub(in crate::sql) fn new(url: RedactedUrl, pool: Pool, layout: Arc<dyn Layout>) -> Self {
        Self { url, pool, layout, is_prepared: Mutex::new(false) }
    }

    /// Sends a statement, again if others were in the way or the connection had died before.
    async fn run(&self, exchange: Exchange<'_>) -> Result<Answer, Cause> {
        let mut attempt = 0;
        loop {
            let mut lease = self.lease().await?;
            let trouble = match self.answer(&mut lease, &exchange).await? {
                Ok(answer) => {
                    lease.give_back();
                    return Ok(answer);
                }
                Err(trouble) => trouble,
            };
            let Trouble { error, is_repeatable } = trouble;
            if is_lost(&error) {
                // The others died with it.
                self.pool.forget_idle();
            } else {
                lease.give_back();
            }
            if error.code().is_some_and(|code| code.code() == NO_TABLE) {
                *self.is_prepared.lock().await = false;
            }
            attempt += 1;
            if !is_repeatable || attempt >= ATTEMPTS_MAX {
                return Err(cause(&error));
            }
            debug!("PostgreSQL: again, after {}", told(&error));
            tokio::time::sleep(pause(attempt)).await;
        }
    }

    /// A connection to a database that has the tables.
    async fn lease(&self) -> Result<Lease, Cause> {
        let mut lease = self.pool.lease().await.map_err(|error| {
            // Its causes are in its text.
            Cause::new(format!("connect to {}: {error}", self.url), error.is_transient())
        })?;
        let mut is_prepared = self.is_prepared.lock().await;
        if !*is_prepared {
            let preparing = tokio::time::timeout(self.pool.answer_timeout(), self.prepare(lease.client())).await;
            preparing.map_err(|_| self.late())??;
            *is_prepared = true;
        }
        Ok(lease)
    }

    /// A sign of life of a server whose tables are looked at later.
    async fn connects(&self) -> Result<(), Cause> {
        let mut lease = self.pool.lease().await.map_err(|error| {
            // Its causes are in its text.
            Cause::new(format!("connect to {}: {error}", self.url), error.is_transient())
        })?;
        let asked = lease.client().simple_query("SELECT 1");
        let answered = tokio::time::timeout(self.pool.answer_timeout(), asked).await.map_err(|_| self.late())?;
        answered.map_err(|error| cause(&error))?;
        lease.give_back();
        Ok(())
    }

    fn late(&self) -> Cause {
        Cause::transient(format!("no answer after {:?} (command_timeout)", self.pool.answer_timeout()))
    }

    async fn answer(&self, lease: &mut Lease, exchange: &Exchange<'_>) -> Result<Result<Answer, Trouble>, Cause> {
        let was_used = lease.is_reused();
        let answered = tokio::time::timeout(self.pool.answer_timeout(), exchange.run(lease.client())).await;
        let answered = answered.map_err(|_| self.late())?;
        Ok(answered.map_err(|error| {
            let no_table = error.code().is_some_and(|code| code.code() == NO_TABLE) && self.layout.makes_tables();
            let is_repeatable = is_conflict(&error) || (was_used && is_lost(&error)) || no_table;
            Trouble { error, is_repeatable }
        }))
    }

    /// Makes what is missing of the tables. Others do the same at the same time.
    async fn prepare(&self, client: &Client) -> Result<(), Cause> {
        if !self.layout.makes_tables() {
            return Ok(());
        }
        for attempt in 1.. {
            let missing = self.missing(client).await.map_err(|error| cause(&error))?;
            if missing.is_empty() {
                break;
            }
            // Sent in one go it is one transaction, and the lock ends with it.
            let statements = format!("SELECT pg_advisory_xact_lock({LOCK}); {}", missing.join("; "));
            match client.batch_execute(&statements).await {
                Ok(()) => info!("PostgreSQL: made what was missing of the tables for results"),
                Err(error)
                    if attempt < PREPARE_ATTEMPTS_MAX
                        && (is_conflict(&error)
                            || error.code().is_some_and(|code| MADE_MEANWHILE.contains(&code.code()))) =>
                {
                    tokio::time::sleep(pause(attempt)).await;
                }
                Err(error) => {
                    let text = format!("{}; it was about: {}", told(&error), missing.join("; "));
                    return Err(Cause::new(text, is_transient(&error)));
                }
            }
        }
        Ok(())
    }

    async fn missing(&self, client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
        const COLUMNS: &str = "SELECT attname::text FROM pg_catalog.pg_attribute \
             WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
        const NUMBER: &str = "SELECT to_regclass($1) IS NULL";
        let mut missing = Vec::new();
        for which in Which::ALL {
            let table = self.layout.table(which);
            let name = DIALECT.table(table);
            let rows = client.query_typed(COLUMNS, &[(&name, Type::TEXT)]).await?;
            let present: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            if present.is_empty() {
                missing.extend(DIALECT.create(table));
            } else {
                let absent = table.columns.iter().filter(|column| !present.iter().any(|name| name == column.name));
                missing.extend(absent.map(|column| DIALECT.add_column(table, column)));
                let Some(sequence) = table.sequence else { continue };
                let sequence = DIALECT.in_schema(table, sequence);
                let found = client.query_typed(NUMBER, &[(&sequence, Type::TEXT)]).await?;
                if found.iter().any(|row| row.get(0)) {
                    missing.extend(DIALECT.number(table));
                }
            }
        }
        Ok(missing)
    }

    async fn put_all(&self, which: Which, rows: &[Row]) -> Result<(), Cause> {
        let table = self.layout.table(which);
        let width = rows.first().map_or(0, |row| row.values.len());
        let statement = DIALECT.put(table, width, rows.len());
        let arrays: Vec<Array<'_>> =
            (0..width).map(|index| Array { rows, index, column: table.columns[index] }).collect();
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            arrays.iter().map(|array| (array as &(dyn ToSql + Sync), array.kind())).collect();
        self.run(Exchange { text: &statement, parameters: &parameters, columns: &[] }).await.map(drop)
    }

    /// One statement, and if the server minds something about a row, one for each row.
    async fn put_statement(&self, which: Which, rows: Vec<Row>) -> Vec<Result<(), Cause>> {
        match self.put_all(which, &rows).await {
            Err(cause) if !cause.transient && rows.len() > 1 => {
                let mut answers = Vec::with_capacity(rows.len());
                for row in &rows {
                    answers.push(self.put_all(which, std::slice::from_ref(row)).await);
                }
                answers
            }
            answer => vec![answer; rows.len()],
        }
    }

    async fn by_key(&self, text: &str, columns: &[Column], key: &str) -> Result<Answer, Cause> {
        self.run(Exchange { text, parameters: &[(&clean(key), Type::TEXT)], columns }).await
    }
}

#[async_trait]
impl Driver for PostgresqlDriver {
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
        Ok(self.by_key(&DIALECT.get(table), table.columns, key).await?.row)
    }

    async fn state(&self, key: &str) -> Result<Option<String>, Cause> {
        let (table, state) = (self.layout.table(Which::Tasks), self.layout.state());
        let text = DIALECT.peek(table, state);
        Ok(self.by_key(&text, &table.columns[state..=state], key).await?.into_text())
    }

    async fn forget(&self, table: &Table, key: &str) -> Result<(), Cause> {
        self.by_key(&DIALECT.forget(table), &[], key).await.map(drop)
    }

    async fn change(&self, text: &str, values: &[Value]) -> Result<u64, Cause> {
        let elements: Vec<Element<'_>> = values.iter().map(Element).collect();
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            elements.iter().map(|element| (element as &(dyn ToSql + Sync), element.kind())).collect();
        Ok(self.run(Exchange { text, parameters: &parameters, columns: &[] }).await?.touched)
    }

    fn dialect(&self) -> Dialect {
        DIALECT
    }

    async fn delete_expired(&self, which: Which, before: Timestamp, limit: u32) -> Result<u64, Cause> {
        let text = DIALECT.delete_expired(self.layout.table(which));
        let (before, limit) = (Time(before), i64::from(limit));
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&before, Type::TIMESTAMP), (&limit, Type::INT8)];
        let answer = self.run(Exchange { text: &text, parameters: &parameters, columns: &[] }).await?;
        Ok(answer.touched)
    }

    async fn ping(&self, makes_tables: bool) -> Result<(), Cause> {
        if !makes_tables {
            return self.connects().await;
        }
        self.run(Exchange { text: "SELECT 1", parameters: &[], columns: &[] }).await.map(drop)
    }

    fn poll(&self) -> (Duration, Duration) {
        super::SERVER_POLL
    }
}

fn cause(error: &tokio_postgres::Error) -> Cause {
    Cause::new(told(error), is_transient(error))
}
