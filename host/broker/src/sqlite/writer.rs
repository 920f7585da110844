//! The door to the writer: one thread a process and file does all the reading and writing.
//!
//! Calls wait here for room and for their answer. What the thread does is in `thread`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use taskhost_core::QueueName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::failure::{Failure, Kind};
use super::schema;
use super::thread::Thread;
use crate::port::Acknowledgement;
use crate::sqlalchemy::{Inbox, NewRow};

/// Most calls that wait for the writer: a few commits' worth. More wait for room.
const COMMANDS_MAX: usize = 1024;

/// Something for the writer to do. All of it answers with a number, which most of it does not need.
pub(super) enum Work {
    Declare(QueueName),
    Publish(Vec<NewRow>),
    Depth(QueueName),
    Purge(QueueName),
    Consume(NewConsumer),
    Settle {
        consumer: u64,
        owner: Arc<str>,
        receipts: Vec<(i64, Acknowledgement)>,
    },
    /// Rows, and when they are due.
    PutBack {
        consumer: u64,
        owner: Arc<str>,
        rows: Vec<(i64, i64)>,
    },
    SetPrefetch {
        consumer: u64,
        prefetch: u32,
    },
    Cancel {
        consumer: u64,
    },
    SetAside {
        consumer: u64,
        row: i64,
    },
    /// A consumer has taken what lay in its inbox, or is gone.
    LookAgain,
    Close {
        connection: u64,
    },
}

pub(super) struct NewConsumer {
    pub(super) id: u64,
    pub(super) connection: u64,
    pub(super) queue: QueueName,
    pub(super) owner: Arc<str>,
    pub(super) prefetch: u32,
    pub(super) inbox: Weak<Inbox>,
}

pub(super) struct Command {
    pub(super) work: Work,
    reply: Option<oneshot::Sender<Result<u64, Failure>>>,
    /// Held until the command is done with, so that what waits is bounded.
    _room: OwnedSemaphorePermit,
}

impl Command {
    /// Answers; nobody may be waiting any more.
    pub(super) fn answer(self, result: Result<u64, Failure>) {
        if let Some(reply) = self.reply {
            let _ = reply.send(result);
        }
    }
}

/// Owns the writer's thread. Dropping it waits until everything that was asked for is done.
pub(super) struct Writer {
    commands: Option<SyncSender<Command>>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
    last_id: AtomicU64,
}

impl Writer {
    /// The writer of this file in this process. Blocks while the file is being opened.
    pub(super) fn shared(path: &Path, lease: Duration) -> Result<Arc<Self>, Failure> {
        static WRITERS: LazyLock<Mutex<HashMap<PathBuf, Weak<Writer>>>> = LazyLock::new(Mutex::default);
        let key = absolute(path)?;
        let mut writers = WRITERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = writers.get(&key).and_then(Weak::upgrade).filter(|writer| writer.is_alive()) {
            return Ok(writer);
        }
        let writer = Arc::new(Self::start(path, lease)?);
        writers.retain(|_, writer| writer.strong_count() > 0);
        writers.insert(key, Arc::downgrade(&writer));
        Ok(writer)
    }

    /// Opens the file and starts a thread for it.
    pub(super) fn start(path: &Path, lease: Duration) -> Result<Self, Failure> {
        let db = schema::open(path)?;
        let (commands, received) = mpsc::sync_channel(COMMANDS_MAX);
        let thread = Thread::new(db, received, lease);
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| Failure::new(Kind::Lost, error.to_string()))?;
        let room = Arc::new(Semaphore::new(COMMANDS_MAX));
        Ok(Self { commands: Some(commands), room, thread: Some(thread), last_id: AtomicU64::new(0) })
    }

    /// A number that no other connection or consumer of this writer has.
    pub(super) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Has something done and waits until it is on disk.
    pub(super) async fn ask(&self, work: Work) -> Result<u64, Failure> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| Failure::closed())?;
        let (reply, answer) = oneshot::channel();
        self.send(Command { work, reply: Some(reply), _room: room })?;
        answer.await.unwrap_or_else(|_| Err(Failure::closed()))
    }

    /// Has something done some time, unless the writer is too busy: it then looks for itself.
    pub(super) fn post(&self, work: Work) {
        if let Ok(room) = Arc::clone(&self.room).try_acquire_owned() {
            // An error is the end of the thread, which everybody learns who waits for it.
            let _ = self.send(Command { work, reply: None, _room: room });
        }
    }

    /// Never blocks: whoever sends has room.
    fn send(&self, command: Command) -> Result<(), Failure> {
        let commands = self.commands.as_ref().ok_or_else(Failure::closed)?;
        commands.send(command).map_err(|_| Failure::closed())
    }

    fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// The same for every way of naming a file. The file itself may not exist yet.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let lost = |error: std::io::Error| Failure::new(Kind::Lost, format!("{}: {error}", path.display()));
    if let Ok(path) = path.canonicalize() {
        return Ok(path);
    }
    let name = path.file_name().ok_or_else(|| Failure::new(Kind::Lost, "the path names no file"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(folder.canonicalize().map_err(lost)?.join(name))
}
