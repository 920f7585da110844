//! Celery's database backend on SQLite: a row for each task, in a file that others use as well.
//!
//! The file may be the embedded broker's `host.db`, and Python clients read it as `db+sqlite:///host.db`
//! (Celery 5.7 or later, whose `result` column holds what the serializer wrote; older ones expect a
//! pickle). Servers are not meant: PostgreSQL and MySQL will share the statements, not this code.

mod reader;
pub(crate) mod schema;
pub(crate) mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use taskhost_core::chord::ChordStyle;
use taskhost_core::protocol::codec::{BodyError, Format};
use taskhost_core::protocol::content::ToJson;
use taskhost_core::protocol::document;
use taskhost_core::record::{CallRecord, ResultValue};
use taskhost_core::{Json, RedactedUrl, ResultRecord, StoredResult, TaskId, Timestamp};

use crate::cause::Cause;
use crate::port::{ResultStore, StoreError};
use crate::waiters::Waiters;
use reader::Reader;
use writer::{Answers, CallRow, Row, Work, Writer};

/// How much is one job of the writer, which checks the time between jobs only.
const JOB_ROWS_MAX: usize = 200;
const JOB_BYTES_MAX: usize = 1024 * 1024;
/// How many expired rows are deleted in one transaction.
const EXPIRED_ROWS_MAX: u32 = 500;
/// How often a wait asks whether another process, or the broker, wrote to the file.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Results in an SQLite file.
pub struct SqliteStore {
    reader: Reader,
    writer: Writer,
    format: Format,
    waiters: Arc<Waiters>,
}

impl SqliteStore {
    /// Opens the file, and makes it and its tables if they are missing.
    pub(crate) async fn open(url: RedactedUrl, path: PathBuf, format: Format) -> Result<Self, StoreError> {
        let opened = tokio::task::spawn_blocking(move || Self::open_blocking(&path, format)).await;
        opened.unwrap_or_else(|panic| Err(Cause::permanent(panic))).map_err(|cause| StoreError::Connect {
            url,
            transient: cause.transient,
            source: Box::new(cause),
        })
    }

    fn open_blocking(path: &Path, format: Format) -> Result<Self, Cause> {
        let mut connection = schema::open(path).map_err(writer::cause)?;
        schema::prepare(&mut connection).map_err(writer::cause)?;
        let reader = Reader::open(path, format.clone()).map_err(writer::cause)?;
        let waiters = Arc::new(Waiters::default());
        let writer = Writer::start(connection, Arc::clone(&waiters)).map_err(Cause::transient)?;
        Ok(Self { reader, writer, format, waiters })
    }

    /// Does work that is no put and adds up its answers.
    async fn work(&self, work: Work) -> Result<u64, Cause> {
        let answered = self.writer.submit(work).await?;
        answered.await.map_err(|_| writer::gone())?.into_iter().sum()
    }

    /// True if the stored state is final. Trouble counts as no: who waits will hear of it from `get`.
    async fn is_final(&self, id: &TaskId) -> bool {
        matches!(self.get(id).await, Ok(Some(stored)) if stored.state.is_ready())
    }

    async fn wait(&self, id: &TaskId) {
        let waiter = self.waiters.register(id);
        let mut woken = std::pin::pin!(waiter.notify.notified());
        woken.as_mut().enable();
        let mut seen = None;
        loop {
            // The version is taken before the look, so that what is written in between is looked at again.
            let version = self.reader.version().await;
            if version.is_none() || version != seen {
                seen = version;
                if self.is_final(id).await {
                    return;
                }
            }
            if tokio::time::timeout(POLL_INTERVAL, woken.as_mut()).await.is_ok() {
                return;
            }
        }
    }
}

#[async_trait]
impl ResultStore for SqliteStore {
    async fn put(&self, records: &[ResultRecord]) -> Vec<Result<(), StoreError>> {
        // All jobs are handed over before the first answer is awaited, and so share transactions.
        let mut jobs = Vec::new();
        let mut rest = records;
        while !rest.is_empty() {
            let (job, later) = rest.split_at(job_length(rest));
            jobs.push((
                job,
                self.writer.submit(Work::Put(job.iter().map(|record| row(record, &self.format)).collect())).await,
            ));
            rest = later;
        }
        let mut answers = Vec::with_capacity(records.len());
        for (job, submitted) in jobs {
            let answered = match submitted {
                Ok(answered) => answered.await.map_err(|_| writer::gone()),
                Err(cause) => Err(cause),
            };
            answers.extend(answers_for(job, answered));
        }
        answers
    }

    async fn get(&self, id: &TaskId) -> Result<Option<StoredResult>, StoreError> {
        self.reader.get(id).await.map_err(|cause| cause.operation("read", id))
    }

    async fn forget(&self, id: &TaskId) -> Result<(), StoreError> {
        let forgotten = self.work(Work::Forget(id.clone())).await;
        forgotten.map(drop).map_err(|cause| cause.operation("forget", id))
    }

    async fn changed(&self, id: &TaskId, within: Duration) {
        // An error means that the time is up, which is an answer like the other.
        let _ = tokio::time::timeout(within, self.wait(id)).await;
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.reader
            .version()
            .await
            .map(drop)
            .ok_or_else(|| Cause::transient("the file cannot be read").store("ask for"))
    }

    fn chords(&self) -> ChordStyle {
        ChordStyle::Unlock
    }

    async fn save_group(&self, group: &str, result: &Json) -> Result<(), StoreError> {
        let result = self.format.serialize(result.bytes());
        let result = result.map_err(|error| Cause::permanent(error).group("save", group))?;
        let work = Work::SaveGroup { group: group.to_owned(), result, date_done: date(now()) };
        self.work(work).await.map(drop).map_err(|cause| cause.group("save", group))
    }

    async fn group(&self, group: &str) -> Result<Option<Json>, StoreError> {
        self.reader.group(group).await.map_err(|cause| cause.group("read", group))
    }

    /// What `celery.backend_cleanup` does, in steps that lock nobody out.
    async fn delete_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let before = date(now() - older_than);
        let mut total = 0;
        loop {
            let work = Work::DeleteExpired { before: before.clone(), limit: EXPIRED_ROWS_MAX };
            let deleted = self.work(work).await.map_err(|cause| cause.store("delete expired"))?;
            total += deleted;
            if deleted == 0 {
                return Ok(total);
            }
        }
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn keeps_usage(&self) -> bool {
        false
    }
}

/// How many of these are one job: at least one.
fn job_length(records: &[ResultRecord]) -> usize {
    let mut bytes = 0;
    let fits = |record: &&ResultRecord| {
        bytes += match &record.result {
            ResultValue::Json(json) => json.as_str().len(),
            ResultValue::Exception(exception) => exception.arguments.as_str().len(),
        };
        bytes <= JOB_BYTES_MAX
    };
    records.iter().take(JOB_ROWS_MAX).take_while(fits).count().max(1)
}

fn answers_for(job: &[ResultRecord], answered: Result<Answers, Cause>) -> Vec<Result<(), StoreError>> {
    let error = |cause: Cause, record: &ResultRecord| cause.operation("store", &record.id);
    match answered {
        Ok(answers) => {
            job.iter().zip(answers).map(|(record, answer)| answer.map(drop).map_err(|c| error(c, record))).collect()
        }
        Err(cause) => job.iter().map(|record| Err(error(cause.clone(), record))).collect(),
    }
}

/// What cannot be said in the serializer becomes a failure, as in the other stores.
fn row(record: &ResultRecord, format: &Format) -> Row {
    row_in(record, format).unwrap_or_else(|error| {
        let failure = document::unsayable(record, format, &error);
        row_in(&failure, format).or_else(|_| row_in(&failure, &Format::default())).expect("JSON can be said in JSON")
    })
}

fn row_in(record: &ResultRecord, format: &Format) -> Result<Row, BodyError> {
    let result = match &record.result {
        ResultValue::Json(json) => json.bytes(),
        ResultValue::Exception(exception) => {
            let mut map = String::new();
            exception.write_json(&mut map);
            map.into()
        }
    };
    let result = format.serialize(result)?;
    let children = record.children.elements().next().map(|_| format.serialize(record.children.bytes())).transpose()?;
    Ok(Row {
        id: record.id.clone(),
        status: record.state.as_str().to_owned(),
        is_final: record.state.is_ready(),
        result,
        date_done: record.date_done.filter(|_| record.state.is_ready()).map(date),
        traceback: record.traceback.clone(),
        children,
        call: record.call.as_ref().map(|call| call_row(call, format)).transpose()?,
    })
}

fn call_row(call: &CallRecord, format: &Format) -> Result<CallRow, BodyError> {
    let serialized = |value: &Option<Json>| format.serialize(value.clone().unwrap_or_else(Json::null).bytes());
    let stamps = match &call.stamps {
        None => None,
        Some((names, stamps)) => {
            let stamps = Json::object(stamps.iter().map(|(name, value)| (name, value)));
            let said = Json::object([("stamped_headers", names), ("stamps", &stamps)]);
            Some(format.serialize(said.bytes())?)
        }
    };
    Ok(CallRow {
        name: call.name.clone(),
        args: serialized(&call.args)?,
        kwargs: serialized(&call.kwargs)?,
        worker: call.worker.clone(),
        retries: call.retries,
        queue: call.queue.clone(),
        stamps,
    })
}

fn now() -> Timestamp {
    Timestamp::from_micros(0) + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// SQLAlchemy's text for a time in SQLite: naive UTC, always with microseconds.
fn date(at: Timestamp) -> String {
    let mut text = at.isoformat_naive(' ');
    if !text.contains('.') {
        text.push_str(".000000");
    }
    text
}

#[cfg(test)]
mod tests;
