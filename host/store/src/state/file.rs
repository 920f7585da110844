//! The state of one worker in an SQLite file of its own.
//!
//! One thread writes: what comes together is committed, and synced, together. Nothing is read but at the
//! start, so reading has no way of its own.

use std::path::PathBuf;
use std::thread::JoinHandle;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use taskhost_core::revoke::{IDS_MAX, Revocation, STAMPS_MAX};
use taskhost_core::{TaskId, TaskName, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::{COUNTS_MAX, JournalEntry, JournalId, NodeState, SERVED_MAX, StateError, packed, schema};

/// How many jobs may wait for the thread, and are committed together at most.
const JOBS_MAX: usize = 64;

/// The open file. Others cannot open it until this is dropped.
pub struct StateFile {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// Work in a transaction that others share. What it returns is called when that has come to its end.
type Job = Box<dyn FnOnce(&Transaction<'_>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), String>) + Send>;

impl StateFile {
    /// Opens the file, and makes it if it is missing.
    pub async fn open(path: PathBuf) -> Result<Self, StateError> {
        let failed = |source| StateError::Open { path: path.clone(), source };
        let at = path.clone();
        let opened = tokio::task::spawn_blocking(move || schema::open(&at)).await;
        let connection = opened.map_err(|panic| failed(panic.into()))??;
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let thread = std::thread::Builder::new().name("state-file".to_owned()).spawn(move || run(connection, queue));
        Ok(Self { jobs: Some(jobs), thread: Some(thread.map_err(|error| failed(error.into()))?) })
    }

    /// Does this on the thread; returns once it is on disk.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StateError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let done = work(transaction);
            Box::new(move |ended| {
                let result = match (done, ended) {
                    (Ok(value), Ok(())) => Ok(value),
                    (Err(error), _) => Err(error.into()),
                    (_, Err(reason)) => Err(reason.into()),
                };
                // Who asked may have been cancelled.
                let _ = answer.send(result.map_err(|source| StateError::Operation { operation, source }));
            })
        });
        let ended = || StateError::Operation { operation, source: "the thread that writes to it has ended".into() };
        let jobs = self.jobs.as_ref().expect("taken when this is dropped and not before");
        jobs.send(job).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn run(connection: Connection, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::with_capacity(JOBS_MAX);
    while queue.blocking_recv_many(&mut jobs, JOBS_MAX) > 0 {
        commit(&connection, &mut jobs);
    }
}

/// Does these in one transaction. A statement that fails undoes itself and no more.
fn commit(connection: &Connection, jobs: &mut Vec<Job>) {
    let mut answers = Vec::with_capacity(jobs.len());
    let done = Transaction::new_unchecked(connection, TransactionBehavior::Immediate).and_then(|transaction| {
        answers.extend(jobs.drain(..).map(|job| job(&transaction)));
        transaction.commit()
    });
    // Without a transaction there are no answers, and whoever waits sees that nobody answers.
    jobs.clear();
    let ended = done.map_err(|error| error.to_string());
    if let Err(reason) = &ended {
        error!("cannot write the state file: {reason}");
    }
    answers.into_iter().for_each(|answer| answer(ended.clone()));
}

/// An id is the value of no header.
fn row_of(revocation: &Revocation) -> (&str, &str) {
    match revocation {
        Revocation::Id(id) => ("", id.as_str()),
        Revocation::Stamp { header, value } => (header, value),
    }
}

#[async_trait]
impl NodeState for StateFile {
    fn is_durable(&self) -> bool {
        true
    }

    async fn revocations(&self) -> Result<Vec<(Revocation, Timestamp)>, StateError> {
        self.work("read revoked tasks", |file| {
            let mut rows = file.prepare("SELECT header, value, at FROM revoked ORDER BY seq")?;
            let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let mut revocations = Vec::new();
            for row in rows {
                let (header, value, at): (String, String, i64) = row?;
                let revocation = match header.is_empty() {
                    false => Revocation::Stamp { header, value },
                    true => match TaskId::parse(&value) {
                        Ok(id) => Revocation::Id(id),
                        Err(_) => continue,
                    },
                };
                revocations.push((revocation, Timestamp::from_micros(at)));
            }
            Ok(revocations)
        })
        .await
    }

    async fn revoke(&self, revocations: Vec<(Revocation, Timestamp)>) -> Result<(), StateError> {
        self.work("keep revoked tasks", move |file| {
            let mut put =
                file.prepare_cached("INSERT OR REPLACE INTO revoked (header, value, at) VALUES (?1, ?2, ?3)")?;
            for (revocation, at) in &revocations {
                let (header, value) = row_of(revocation);
                put.execute(params![header, value, at.as_micros()])?;
            }
            // The numbers of the newest differ by one at least, so that no more than so many remain.
            let max = i64::try_from(IDS_MAX + STAMPS_MAX).unwrap_or(i64::MAX);
            file.prepare_cached("DELETE FROM revoked WHERE seq <= (SELECT max(seq) FROM revoked) - ?1")?
                .execute([max])?;
            Ok(())
        })
        .await
    }

    async fn unrevoke(&self, revocations: Vec<Revocation>) -> Result<(), StateError> {
        self.work("forget revoked tasks", move |file| {
            let mut delete = file.prepare_cached("DELETE FROM revoked WHERE header = ?1 AND value = ?2")?;
            revocations.iter().try_for_each(|revocation| delete.execute(row_of(revocation)).map(drop))
        })
        .await
    }

    async fn clock(&self) -> Result<u64, StateError> {
        self.work("read the logical clock", |file| {
            let clock: Option<i64> = file.query_row("SELECT clock FROM clock", [], |row| row.get(0)).optional()?;
            Ok(clock.map_or(0, i64::unsigned_abs))
        })
        .await
    }

    async fn keep_clock(&self, clock: u64) -> Result<(), StateError> {
        let clock = i64::try_from(clock).unwrap_or(i64::MAX);
        self.work("keep the logical clock", move |file| {
            let put = "INSERT OR REPLACE INTO clock (id, clock) VALUES (0, ?1)";
            file.prepare_cached(put)?.execute([clock]).map(drop)
        })
        .await
    }

    async fn count(&self, execution: String, now: Timestamp) -> Result<u32, StateError> {
        self.work("count a delivery", move |file| {
            let read = "SELECT count FROM delivery_count WHERE execution = ?1";
            let before: Option<u32> =
                file.prepare_cached(read)?.query_row([&execution], |row| row.get(0)).optional()?;
            let count = before.unwrap_or(0).saturating_add(1);
            file.prepare_cached("INSERT OR REPLACE INTO delivery_count (execution, count, at) VALUES (?1, ?2, ?3)")?
                .execute(params![execution, count, now.as_micros()])?;
            file.prepare_cached("DELETE FROM delivery_count WHERE seq <= (SELECT max(seq) FROM delivery_count) - ?1")?
                .execute([COUNTS_MAX])?;
            Ok(count)
        })
        .await
    }

    async fn forget_counts(&self, executions: Vec<String>) -> Result<(), StateError> {
        self.work("forget counts of deliveries", move |file| {
            let mut delete = file.prepare_cached("DELETE FROM delivery_count WHERE execution = ?1")?;
            executions.iter().try_for_each(|execution| delete.execute([execution]).map(drop))
        })
        .await
    }

    async fn served(&self) -> Result<Vec<TaskName>, StateError> {
        self.work("read the names of tasks", |file| {
            let mut rows = file.prepare("SELECT task FROM served ORDER BY seq")?;
            let names = rows.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(names.iter().filter_map(|name| TaskName::parse(name).ok()).collect())
        })
        .await
    }

    async fn serve(&self, names: Vec<TaskName>) -> Result<(), StateError> {
        self.work("keep the names of tasks", move |file| {
            let mut put = file.prepare_cached("INSERT OR REPLACE INTO served (task) VALUES (?1)")?;
            names.iter().try_for_each(|name| put.execute([name.as_str()]).map(drop))?;
            // Each start gives all names new numbers, hence no look at the numbers here.
            file.prepare_cached(
                "DELETE FROM served WHERE seq NOT IN (SELECT seq FROM served ORDER BY seq DESC LIMIT ?1)",
            )?
            .execute([SERVED_MAX])?;
            Ok(())
        })
        .await
    }

    async fn write_journal(&self, entries: Vec<JournalEntry>) -> Result<Vec<JournalId>, StateError> {
        self.work("keep messages", move |file| {
            let mut put = file.prepare_cached("INSERT INTO journal (queue, message, resumed) VALUES (?1, ?2, ?3)")?;
            let mut ids = Vec::with_capacity(entries.len());
            for JournalEntry { message, info, resumed } in &entries {
                let id = put.insert(params![info.queue.as_str(), packed::pack(message, info), resumed])?;
                ids.push(JournalId(id.unsigned_abs()));
            }
            Ok(ids)
        })
        .await
    }

    async fn resume_journal(&self) -> Result<Vec<(JournalId, JournalEntry)>, StateError> {
        self.work("read kept messages", |file| {
            file.execute("UPDATE journal SET resumed = resumed + 1", [])?;
            let mut rows = file.prepare("SELECT id, message, resumed FROM journal ORDER BY id")?;
            let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let mut entries = Vec::new();
            for row in rows {
                let (id, message, resumed): (i64, Vec<u8>, u32) = row?;
                match packed::unpack(&message) {
                    Some((message, info)) => {
                        entries.push((JournalId(id.unsigned_abs()), JournalEntry { message, info, resumed }));
                    }
                    None => error!("entry {id} of the journal in the state file cannot be read and is left there"),
                }
            }
            Ok(entries)
        })
        .await
    }

    async fn read_journal(&self, JournalId(id): JournalId) -> Result<Option<JournalEntry>, StateError> {
        self.work("read a kept message", move |file| {
            let mut read = file.prepare_cached("SELECT message, resumed FROM journal WHERE id = ?1")?;
            let row = read.query_row([id.cast_signed()], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?)));
            let entry = row.optional()?.and_then(|(message, resumed)| {
                let (message, info) = packed::unpack(&message)?;
                Some(JournalEntry { message, info, resumed })
            });
            Ok(entry)
        })
        .await
    }

    async fn delete_journal(&self, ids: Vec<JournalId>) -> Result<(), StateError> {
        self.work("take out kept messages", move |file| {
            let mut delete = file.prepare_cached("DELETE FROM journal WHERE id = ?1")?;
            ids.iter().try_for_each(|JournalId(id)| delete.execute([id.cast_signed()]).map(drop))
        })
        .await
    }
}
