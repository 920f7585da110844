//! The one thread that writes to the file: what comes together is committed together.
//!
//! An fsync costs more than a thousand rows, so a transaction takes what waits, but never for long. SQLite
//! has no queue for its lock: a Python client asks some sixty times within five seconds and then gives up,
//! so transactions are short and after each there is a pause in which others find the lock free.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use taskhost_core::TaskId;
use tokio::sync::{mpsc, oneshot};

use super::schema;
use crate::cause::Cause;
use crate::waiters::Waiters;

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

/// PostgreSQL understands this as well. A stored SUCCESS stays.
const PUT: &str = "\
    INSERT INTO celery_taskmeta (task_id, status, result, date_done, traceback, children) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
    ON CONFLICT (task_id) DO UPDATE SET \
        status = excluded.status, result = excluded.result, date_done = excluded.date_done, \
        traceback = excluded.traceback, children = excluded.children \
    WHERE celery_taskmeta.status IS DISTINCT FROM 'SUCCESS'";
/// The same with what `result_extended` adds. Stamps stay, as in Celery, if a later state has none.
const PUT_WITH_CALL: &str = "\
    INSERT INTO celery_taskmeta (task_id, status, result, date_done, traceback, children, \
        name, args, kwargs, worker, retries, queue, stamps) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) \
    ON CONFLICT (task_id) DO UPDATE SET \
        status = excluded.status, result = excluded.result, date_done = excluded.date_done, \
        traceback = excluded.traceback, children = excluded.children, \
        name = excluded.name, args = excluded.args, kwargs = excluded.kwargs, worker = excluded.worker, \
        retries = excluded.retries, queue = excluded.queue, stamps = COALESCE(excluded.stamps, celery_taskmeta.stamps) \
    WHERE celery_taskmeta.status IS DISTINCT FROM 'SUCCESS'";
/// A group is saved again, with the same result, by who does not know whether it was.
const SAVE_GROUP: &str = "\
    INSERT INTO celery_tasksetmeta (taskset_id, result, date_done) VALUES (?1, ?2, ?3) \
    ON CONFLICT (taskset_id) DO UPDATE SET result = excluded.result, date_done = excluded.date_done";
const FORGET: &str = "DELETE FROM celery_taskmeta WHERE task_id = ?1";
const DELETE_EXPIRED_TASKS: &str = "\
    DELETE FROM celery_taskmeta \
    WHERE id IN (SELECT id FROM celery_taskmeta WHERE date_done < ?1 LIMIT ?2)";
const DELETE_EXPIRED_GROUPS: &str = "\
    DELETE FROM celery_tasksetmeta \
    WHERE id IN (SELECT id FROM celery_tasksetmeta WHERE date_done < ?1 LIMIT ?2)";

/// A result as the table holds it.
pub(super) struct Row {
    pub(super) id: TaskId,
    pub(super) status: String,
    pub(super) is_final: bool,
    pub(super) result: Bytes,
    pub(super) date_done: Option<String>,
    pub(super) traceback: Option<String>,
    /// None if there are no children.
    pub(super) children: Option<Bytes>,
    pub(super) call: Option<CallRow>,
}

/// What `result_extended` adds to a row.
pub(super) struct CallRow {
    pub(super) name: Option<String>,
    pub(super) args: Bytes,
    pub(super) kwargs: Bytes,
    pub(super) worker: Option<String>,
    pub(super) retries: Option<u32>,
    pub(super) queue: Option<String>,
    pub(super) stamps: Option<Bytes>,
}

/// Something to be written, small enough for one transaction.
pub(super) enum Work {
    /// Answers for each row, in order.
    Put(Vec<Row>),
    Forget(TaskId),
    SaveGroup {
        group: String,
        result: Bytes,
        date_done: String,
    },
    /// At most `limit` tasks and as many groups that were done before this time.
    DeleteExpired {
        before: String,
        limit: u32,
    },
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
    pub(super) fn start(connection: Connection, waiters: Arc<Waiters>) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let thread = std::thread::Builder::new()
            .name("store-sqlite".to_owned())
            .spawn(move || run(connection, queue, &waiters))?;
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

fn run(connection: Connection, mut queue: mpsc::Receiver<Job>, waiters: &Waiters) {
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
        let locked = commit_group(&connection, &mut waiting, waiters);
        pause_ends = Instant::now() + (locked / PAUSE_DIVISOR).max(PAUSE_MIN);
    }
}

/// Carries out the first jobs, as many as fit into one transaction, and answers them. Says how long
/// others were locked out.
fn commit_group(connection: &Connection, waiting: &mut VecDeque<Job>, waiters: &Waiters) -> Duration {
    let begun = schema::retry_locked(|| Transaction::new_unchecked(connection, TransactionBehavior::Immediate));
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
        let answers = carry_out(&transaction, &job.work).unwrap_or_else(|error| {
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
        Ok(()) => done.into_iter().for_each(|(job, answers)| job.answer(answers, waiters)),
        Err(cause) => done.into_iter().for_each(|(job, _)| job.fail(&cause)),
    }
    locked
}

/// An error ends the whole transaction; what concerns one row alone is among the answers.
fn carry_out(transaction: &Transaction<'_>, work: &Work) -> rusqlite::Result<Answers> {
    match work {
        Work::Put(rows) => rows.iter().map(|row| put(transaction, row)).collect(),
        Work::Forget(id) => {
            let deleted = transaction.prepare_cached(FORGET)?.execute([id.as_str()])?;
            Ok(vec![Ok(deleted as u64)])
        }
        Work::SaveGroup { group, result, date_done } => {
            let saved = transaction.prepare_cached(SAVE_GROUP)?.execute(params![group, &result[..], date_done]);
            Ok(vec![answer(transaction, saved)?])
        }
        Work::DeleteExpired { before, limit } => {
            let tasks = transaction.prepare_cached(DELETE_EXPIRED_TASKS)?.execute(params![before, limit])?;
            let groups = transaction.prepare_cached(DELETE_EXPIRED_GROUPS)?.execute(params![before, limit])?;
            Ok(vec![Ok(tasks as u64), Ok(groups as u64)])
        }
    }
}

fn put(transaction: &Transaction<'_>, row: &Row) -> rusqlite::Result<Result<u64, Cause>> {
    let Row { id, status, result, date_done, traceback, children, .. } = row;
    let (id, result, children) = (id.as_str(), &result[..], children.as_deref());
    let written = match &row.call {
        None => transaction.prepare_cached(PUT)?.execute(params![id, status, result, date_done, traceback, children]),
        Some(CallRow { name, args, kwargs, worker, retries, queue, stamps }) => {
            let (args, kwargs, stamps) = (&args[..], &kwargs[..], stamps.as_deref());
            let values = params![
                id, status, result, date_done, traceback, children, name, args, kwargs, worker, retries, queue, stamps
            ];
            transaction.prepare_cached(PUT_WITH_CALL)?.execute(values)
        }
    };
    answer(transaction, written)
}

fn answer(transaction: &Transaction<'_>, written: rusqlite::Result<usize>) -> rusqlite::Result<Result<u64, Cause>> {
    match written {
        Ok(written) => Ok(Ok(written as u64)),
        // The statement alone was undone, and the same would happen again: a value that is too large, say.
        Err(error) if !schema::is_transient(&error) && !transaction.is_autocommit() => Ok(Err(cause(error))),
        Err(error) => Err(error),
    }
}

pub(crate) fn cause(error: rusqlite::Error) -> Cause {
    let transient = schema::is_transient(&error);
    Cause::new(error, transient)
}

impl Job {
    fn answer(self, answers: Answers, waiters: &Waiters) {
        if let Work::Put(rows) = &self.work {
            let finals = rows.iter().zip(&answers).filter(|(row, answer)| row.is_final && answer.is_ok());
            finals.for_each(|(row, _)| waiters.wake(&row.id));
        }
        // Who asked may have been cancelled.
        let _ = self.answers.send(answers);
    }

    fn fail(self, cause: &Cause) {
        let answers = match &self.work {
            Work::Put(rows) => rows.len(),
            Work::Forget(_) | Work::SaveGroup { .. } | Work::DeleteExpired { .. } => 1,
        };
        let _ = self.answers.send(vec![Err(cause.clone()); answers]);
    }
}
