//! Celery's database backend: a row for each task, in tables that Python clients read as well
//! (celery/backends/database/__init__.py of 5.7 or later; older ones expect a pickle in `result`).
//!
//! One store over the port of the [`driver`]s: SQLite, PostgreSQL, MySQL. What stands in the tables is a
//! [`layout`]'s business; what is said to databases, and where they differ, is in [`statement`].

mod counter;
mod driver;
mod layout;
mod statement;
mod table;
mod value;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use dial::database::PoolOptions;
use taskhost_core::chord::{ChordPart, ChordStyle, Progress};
use taskhost_core::protocol::codec::Format;
use taskhost_core::protocol::document;
use taskhost_core::{Json, RedactedUrl, ResultRecord, State, StoredResult, TaskId, Timestamp};

use self::counter::Counters;
pub(crate) use self::driver::sqlite::file;
use self::driver::{Driver, MysqlDriver, PostgresqlDriver, SqliteDriver};
pub use self::layout::TableNames;
use self::layout::{CeleryTables, DjangoTables, Layout};
use self::table::{Table, Which};
use self::value::Row;
use crate::cause::Cause;
use crate::connect::StoreOptions;
use crate::port::{ResultStore, StoreError};
use crate::terms::ChordTerms;
use crate::waiters::Waiters;

/// How many expired rows are deleted in one transaction.
const EXPIRED_ROWS_MAX: u32 = 500;

/// How results are kept in a database: what Celery's settings `database_*` say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseOptions {
    /// `table_names` and `table_schemas`.
    pub names: TableNames,
    /// `engine_options`, and `short_lived_sessions`.
    pub pool: PoolOptions,
    /// Whose tables: Celery's own, or those of django-celery-results, which Django makes.
    pub is_django: bool,
    /// `create_tables_at_setup`: when the first sign of life is asked for, or not before they are needed.
    pub create_at_setup: bool,
}

impl Default for DatabaseOptions {
    /// Celery's defaults.
    fn default() -> Self {
        Self { names: TableNames::default(), pool: PoolOptions::default(), is_django: false, create_at_setup: true }
    }
}

/// Results in a database.
pub struct SqlStore {
    driver: Box<dyn Driver>,
    layout: Arc<dyn Layout>,
    format: Format,
    waiters: Waiters,
    /// True if texts that are too long for their columns are refused, which SQLite does not mind.
    has_lengths: bool,
    create_at_setup: bool,
    counters: Counters,
}

impl SqlStore {
    /// Opens an SQLite file, and makes it and its tables if they are missing.
    pub(crate) async fn sqlite(
        url: RedactedUrl,
        path: PathBuf,
        options: &DatabaseOptions,
        format: Format,
    ) -> Result<Self, StoreError> {
        if options.names.task_schema.is_some() || options.names.group_schema.is_some() {
            let reason = "SQLite has no schemas (database_table_schemas)".to_owned();
            return Err(StoreError::Url { url, reason });
        }
        let layout = layout(options);
        let tables = Arc::clone(&layout);
        let opened = tokio::task::spawn_blocking(move || SqliteDriver::open(&path, tables)).await;
        let opened = opened.unwrap_or_else(|panic| Err(Cause::permanent(panic)));
        let driver = opened.map_err(|cause| unreachable(url, cause))?;
        Ok(Self::new(Box::new(driver), layout, format, options))
    }

    /// Connects at first use.
    pub(crate) fn postgresql(
        url: RedactedUrl,
        target: dial::postgresql::Target,
        options: &DatabaseOptions,
        format: Format,
    ) -> Self {
        let layout = layout(options);
        let pool = dial::postgresql::Pool::new(target, options.pool.clone());
        let driver = PostgresqlDriver::new(url, pool, Arc::clone(&layout));
        Self { has_lengths: true, ..Self::new(Box::new(driver), layout, format, options) }
    }

    /// Connects at first use, but reads the files that TLS needs.
    pub(crate) fn mysql(
        url: RedactedUrl,
        target: dial::mysql::Target,
        options: &DatabaseOptions,
        format: Format,
    ) -> Result<Self, StoreError> {
        let layout = layout(options);
        let pool = dial::mysql::Pool::new(target, options.pool.clone());
        let pool = pool.map_err(|error| unreachable(url.clone(), Cause::permanent(error)))?;
        let driver = MysqlDriver::new(url, pool, Arc::clone(&layout));
        Ok(Self { has_lengths: true, ..Self::new(Box::new(driver), layout, format, options) })
    }

    fn new(driver: Box<dyn Driver>, layout: Arc<dyn Layout>, format: Format, options: &DatabaseOptions) -> Self {
        let (waiters, create_at_setup) = (Waiters::default(), options.create_at_setup);
        let counters = Counters::new(ChordTerms::new(&StoreOptions::default()));
        Self { driver, layout, format, waiters, has_lengths: false, create_at_setup, counters }
    }

    /// With these terms where chords are counted.
    pub(crate) fn counting(self, terms: ChordTerms) -> Self {
        Self { counters: Counters::new(terms), ..self }
    }

    /// The table in which chords are counted, if this layout has one.
    fn chord_table(&self) -> Result<&Table, StoreError> {
        self.layout.counters().ok_or_else(|| self.without("count chords"))
    }

    /// What cannot be said in the serializer becomes a failure, as in the other stores.
    fn row(&self, record: &ResultRecord) -> Row {
        self.layout.row(record, &self.format).unwrap_or_else(|error| {
            let failure = document::unsayable(record, &self.format, &error);
            let said = self.layout.row(&failure, &self.format);
            said.or_else(|_| self.layout.row(&failure, &Format::default())).expect("JSON can be said in JSON")
        })
    }

    /// True if the stored state is final. Trouble counts as no: who waits will hear of it from `get`.
    async fn is_final(&self, id: &TaskId) -> bool {
        matches!(self.driver.state(id.as_str()).await, Ok(Some(state)) if State::parse(&state).is_ready())
    }

    async fn wait(&self, id: &TaskId) {
        let waiter = self.waiters.register(id);
        let mut woken = std::pin::pin!(waiter.notify.notified());
        woken.as_mut().enable();
        let mut seen = None;
        let (mut interval, longest) = self.driver.poll();
        loop {
            // The version is taken before the look, so that what is written in between is looked at again.
            let version = self.driver.version().await;
            if version.is_none() || version != seen {
                seen = version;
                if self.is_final(id).await {
                    return;
                }
            }
            if tokio::time::timeout(interval, woken.as_mut()).await.is_ok() {
                return;
            }
            interval = (interval * 3 / 2).min(longest);
        }
    }

    /// What is wrong, with what to do about tables that somebody else makes.
    fn explained(&self, cause: Cause) -> Cause {
        let text = cause.to_string();
        let tables = Which::ALL.iter().map(|which| self.layout.table(*which)).chain(self.layout.counters());
        let is_about_tables = tables.into_iter().any(|table| text.contains(&table.name));
        match !self.layout.makes_tables() && is_about_tables {
            true => Cause::new(format!("{text}: {}", self.layout.lacking()), cause.transient),
            false => cause,
        }
    }

    /// Writes rows of which a key may come several times, and answers for each.
    async fn put_rows(&self, which: Which, rows: Vec<Row>) -> Vec<Result<(), Cause>> {
        let table = self.layout.table(which);
        let (rows, became) = table.collapse(rows);
        let mut answers: Vec<Option<Result<(), Cause>>> = Vec::with_capacity(rows.len());
        let mut fit = Vec::with_capacity(rows.len());
        for row in rows {
            let unfit = if self.has_lengths { table.unfit(&row) } else { None };
            match unfit {
                Some(reason) => answers.push(Some(Err(Cause::permanent(reason)))),
                None => {
                    answers.push(None);
                    fit.push(row);
                }
            }
        }
        let mut written = self.driver.put(which, fit).await.into_iter();
        let answers: Vec<Result<(), Cause>> =
            answers.into_iter().map(|known| known.or_else(|| written.next()).unwrap_or(Ok(()))).collect();
        became.into_iter().map(|place| answers[place].clone()).collect()
    }
}

fn layout(options: &DatabaseOptions) -> Arc<dyn Layout> {
    match options.is_django {
        true => Arc::new(DjangoTables::new()),
        false => Arc::new(CeleryTables::new(&options.names)),
    }
}

fn unreachable(url: RedactedUrl, cause: Cause) -> StoreError {
    StoreError::Connect { url, transient: cause.transient, source: Box::new(cause) }
}

#[async_trait]
impl ResultStore for SqlStore {
    async fn put(&self, records: &[ResultRecord]) -> Vec<Result<(), StoreError>> {
        let rows = records.iter().map(|record| self.row(record)).collect();
        let answers = self.put_rows(Which::Tasks, rows).await;
        records
            .iter()
            .zip(answers)
            .map(|(record, answer)| match answer {
                Ok(()) => {
                    if record.state.is_ready() {
                        self.waiters.wake(&record.id);
                    }
                    Ok(())
                }
                Err(cause) => Err(self.explained(cause).operation("store", &record.id)),
            })
            .collect()
    }

    async fn get(&self, id: &TaskId) -> Result<Option<StoredResult>, StoreError> {
        let row = self.driver.get(self.layout.table(Which::Tasks), id.as_str()).await;
        let stored = row.and_then(|row| row.map(|row| self.layout.stored(row, &self.format)).transpose());
        stored.map_err(|cause| self.explained(cause).operation("read", id))
    }

    async fn forget(&self, id: &TaskId) -> Result<(), StoreError> {
        let table = self.layout.table(Which::Tasks);
        self.driver.forget(table, id.as_str()).await.map_err(|cause| cause.operation("forget", id))
    }

    async fn changed(&self, id: &TaskId, within: Duration) {
        // An error means that the time is up, which is an answer like the other.
        let _ = tokio::time::timeout(within, self.wait(id)).await;
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let answered = self.driver.ping(self.create_at_setup).await;
        let answered = match answered {
            // Nothing has looked at tables that are not made here.
            Ok(()) if !self.layout.makes_tables() => self.driver.state("").await.map(drop),
            answered => answered,
        };
        answered.map_err(|cause| self.explained(cause).store("ask for"))
    }

    fn chords(&self) -> ChordStyle {
        if self.layout.counters().is_some() { ChordStyle::Counter } else { ChordStyle::Unlock }
    }

    async fn begin_chord(&self, group: &str, size: u64, header: &Json, again: bool) -> Result<(), StoreError> {
        let began = self.chord_began(self.chord_table()?, group, size, header, again).await;
        began.map_err(|cause| self.explained(cause).group("begin chord of", group))
    }

    async fn count_chord_parts(&self, parts: &[ChordPart]) -> Vec<Result<Progress, StoreError>> {
        match self.layout.counters() {
            Some(table) => self.count_all(table, parts).await,
            None => parts.iter().map(|_| Err(self.without("count chords"))).collect(),
        }
    }

    async fn extend_claim(&self, group: &str, token: &str) -> Result<bool, StoreError> {
        let held = self.claim_extended(self.chord_table()?, group, token).await;
        held.map_err(|cause| self.explained(cause).group("hold", group))
    }

    async fn finish_chord(&self, group: &str, token: &str) -> Result<bool, StoreError> {
        let finished = self.chord_finished(self.chord_table()?, group, token).await;
        finished.map_err(|cause| self.explained(cause).group("finish", group))
    }

    async fn fail_chord(&self, group: &str) -> Result<(), StoreError> {
        let failed = self.chord_forgotten(self.chord_table()?, group).await;
        failed.map_err(|cause| self.explained(cause).group("fail", group))
    }

    async fn save_group(&self, group: &str, result: &Json) -> Result<(), StoreError> {
        let result = self.format.serialize(result.bytes());
        let result = result.map_err(|error| Cause::permanent(error).group("save", group))?;
        let row = self.layout.group_row(group, result, &self.format, now());
        // It is saved again, with the same result, by who does not know whether it was.
        let saved = self.put_rows(Which::Groups, vec![row]).await.into_iter().collect::<Result<(), Cause>>();
        saved.map_err(|cause| cause.group("save", group))
    }

    async fn group(&self, group: &str) -> Result<Option<Json>, StoreError> {
        let row = self.driver.get(self.layout.table(Which::Groups), group).await;
        let tuple = row.and_then(|row| row.map_or(Ok(None), |row| self.layout.group(row, &self.format)));
        tuple.map_err(|cause| cause.group("read", group))
    }

    /// What `celery.backend_cleanup` does, in steps that lock nobody out.
    async fn delete_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let before = now() - older_than;
        let mut total = 0;
        for which in Which::ALL {
            loop {
                let deleted = self.driver.delete_expired(which, before, EXPIRED_ROWS_MAX).await;
                let deleted = deleted.map_err(|cause| cause.store("delete expired"))?;
                total += deleted;
                if deleted < u64::from(EXPIRED_ROWS_MAX) {
                    break;
                }
            }
        }
        Ok(total)
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn keeps_usage(&self) -> bool {
        false
    }
}

fn now() -> Timestamp {
    Timestamp::from_micros(0) + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;
