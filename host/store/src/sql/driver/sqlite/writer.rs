//! The one thread that writes to the file: what comes together is committed together.
//!
//! An fsync costs more than a thousand rows, so a transaction takes what waits, but never for long. SQLite
//! has no queue for its lock: a Python client asks some sixty times within five seconds and then gives up,
//! so transactions are short and after each there is a pause in which others find the lock free.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, Transaction, TransactionBehavior, params, params_from_iter};
use taskhost_core::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::file::{self, cause};
use crate::cause::Cause;
use crate::sql::layout::Layout;
use crate::sql::statement::Dialect;
use crate::sql::table::Which;
use crate::sql::value::{Row, Value};

/// How many jobs may wait for the writer; more make `put` wait.
const JOBS_MAX: usize = 64;
/// How many jobs one transaction takes, and how long it may go on taking them. With the last job and the
/// fsync this stays below the 100 ms that the design allows.
const GROUP_JOBS_MAX: usize = 64;
const GROUP_TIME_MAX: Duration = Duration::from_millis(40);
/// The pause between two transactions, at least: this part of what the first took. Who looks for the lock
/// at any moment finds it free with a chance of one in `PAUSE_DIVISOR + 1`.
const PAUSE_DIVISOR: u32 = 4;
const PAUSE_MIN: Duration = Duration::from_micros(500);

/// Something to be written, small enough for one transaction.
pub(super) enum Work {
    /// Answers for each row, in order.
    Put(Which, Vec<Row>),
    /// A statement with its values.
    Change(String, Vec<Value>),
    /// At most so many that were done before this time.
    DeleteExpired(Which, Timestamp, u32),
}

/// For each row of a put what became of it; for the rest one answer, the number of rows it touched.
pub(super) type Answers = Vec<Result<u64, Cause>>;

struct Job {
    work: Work,
    answers: oneshot::Sender<Answers>,
}

/// The thread, and the way to it. Ends, with everything written, when it is dropped.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(connection: Connection, layout: Arc<dyn Layout>) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let desk = Desk { connection, layout, puts: Vec::new() };
        let thread = std::thread::Builder::new().name("store-sqlite".to_owned()).spawn(move || desk.run(queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Hands work to the thread. The answers come when it is on disk.
    pub(super) async fn submit(&self, work: Work) -> Result<oneshot::Receiver<Answers>, Cause> {
        let (answers, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().expect("taken when the writer is dropped and not before");
        jobs.send(Job { work, answers }).await.map_err(|_| gone())?;
        Ok(answered)
    }
}

/// The error for work whose thread is no more.
pub(super) fn gone() -> Cause {
    Cause::permanent("the thread that writes to the file has ended")
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
struct Desk {
    connection: Connection,
    layout: Arc<dyn Layout>,
    /// The statements that put rows, which are few: one for each table and width.
    puts: Vec<(Which, usize, Arc<str>)>,
}

impl Desk {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut waiting = VecDeque::with_capacity(GROUP_JOBS_MAX);
        let mut pause_ends = Instant::now();
        loop {
            if waiting.is_empty() {
                match queue.blocking_recv() {
                    Some(job) => waiting.push_back(job),
                    None => return,
                }
            }
            std::thread::sleep(pause_ends.saturating_duration_since(Instant::now()));
            while waiting.len() < GROUP_JOBS_MAX
                && let Ok(job) = queue.try_recv()
            {
                waiting.push_back(job);
            }
            let locked = self.commit_group(&mut waiting);
            pause_ends = Instant::now() + (locked / PAUSE_DIVISOR).max(PAUSE_MIN);
        }
    }

    /// Carries out the first jobs, as many as fit into one transaction, and answers them. Says how long
    /// others were locked out.
    fn commit_group(&mut self, waiting: &mut VecDeque<Job>) -> Duration {
        let Self { connection, layout, puts } = self;
        let connection: &Connection = connection;
        let begun = file::retry_locked(|| Transaction::new_unchecked(connection, TransactionBehavior::Immediate));
        let transaction = match begun {
            Ok(transaction) => transaction,
            Err(error) => {
                let cause = cause(error);
                waiting.drain(..).for_each(|job| job.fail(&cause));
                return Duration::ZERO;
            }
        };
        let begun = Instant::now();
        let mut done = Vec::with_capacity(waiting.len());
        let mut broken = None;
        while broken.is_none()
            && begun.elapsed() < GROUP_TIME_MAX
            && let Some(job) = waiting.pop_front()
        {
            let answers = carry_out(&transaction, &**layout, puts, &job.work).unwrap_or_else(|error| {
                broken = Some(error);
                Vec::new()
            });
            done.push((job, answers));
        }
        let ended = match broken {
            None => transaction.commit(),
            Some(error) => transaction.rollback().and(Err(error)),
        };
        let locked = begun.elapsed();
        match ended.map_err(cause) {
            // Who asked may have been cancelled.
            Ok(()) => done.into_iter().for_each(|(job, answers)| drop(job.answers.send(answers))),
            Err(cause) => done.into_iter().for_each(|(job, _)| job.fail(&cause)),
        }
        locked
    }
}

/// An error ends the whole transaction; what concerns one row alone is among the answers.
fn carry_out(
    transaction: &Transaction<'_>,
    layout: &dyn Layout,
    puts: &mut Vec<(Which, usize, Arc<str>)>,
    work: &Work,
) -> rusqlite::Result<Answers> {
    match work {
        Work::Put(which, rows) => {
            let mut answers = Vec::with_capacity(rows.len());
            for row in rows {
                let text = put_text(puts, layout, *which, row.values.len());
                let written = transaction.prepare_cached(&text)?.execute(params_from_iter(&row.values));
                answers.push(answer(transaction, written)?);
            }
            Ok(answers)
        }
        Work::Change(text, values) => {
            let changed = transaction.prepare_cached(text)?.execute(params_from_iter(values));
            Ok(vec![answer(transaction, changed)?])
        }
        Work::DeleteExpired(which, before, limit) => {
            let text = Dialect::Sqlite.delete_expired(layout.table(*which));
            let deleted = transaction.prepare_cached(&text)?.execute(params![Value::Time(*before), limit])?;
            Ok(vec![Ok(deleted as u64)])
        }
    }
}

fn put_text(puts: &mut Vec<(Which, usize, Arc<str>)>, layout: &dyn Layout, which: Which, width: usize) -> Arc<str> {
    if let Some((.., text)) = puts.iter().find(|(of, wide, _)| (*of, *wide) == (which, width)) {
        return Arc::clone(text);
    }
    let text: Arc<str> = Dialect::Sqlite.put(layout.table(which), width, 1).into();
    puts.push((which, width, Arc::clone(&text)));
    text
}

fn answer(transaction: &Transaction<'_>, written: rusqlite::Result<usize>) -> rusqlite::Result<Result<u64, Cause>> {
    match written {
        Ok(written) => Ok(Ok(written as u64)),
        // The statement alone was undone, and the same would happen again: a value that is too large, say.
        Err(error) if !file::is_transient(&error) && !transaction.is_autocommit() => Ok(Err(cause(error))),
        Err(error) => Err(error),
    }
}

impl Job {
    fn fail(self, cause: &Cause) {
        let answers = match &self.work {
            Work::Put(_, rows) => rows.len(),
            Work::Change(..) | Work::DeleteExpired(..) => 1,
        };
        let _ = self.answers.send(vec![Err(cause.clone()); answers]);
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Self::Int(number) => ToSqlOutput::Borrowed(ValueRef::Integer(*number)),
            Self::Time(at) => ToSqlOutput::from(date(*at)),
        })
    }
}

/// SQLAlchemy's text for a time in SQLite: naive UTC, always with microseconds.
fn date(at: Timestamp) -> String {
    let mut text = at.isoformat_naive(' ');
    if !text.contains('.') {
        text.push_str(".000000");
    }
    text
}
