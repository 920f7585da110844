//! Celery's filesystem backend (celery/backends/filesystem.py): a folder with a file for each task and group.
//!
//! What is final is on disk when it is answered. A file is replaced as a whole, so that nobody reads a part of one of
//! ours. As with Celery, looking at what is there and replacing it are two steps.

mod files;
mod watch;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::chord::ChordStyle;
use taskhost_core::protocol::codec::Format;
use taskhost_core::protocol::document;
use taskhost_core::{Json, RedactedUrl, ResultRecord, State, StoredResult, TaskId};

use crate::cause::Cause;
use crate::connect::StoreOptions;
use crate::keys::Keys;
use crate::port::{ResultStore, StoreError};
use crate::waiters::Waiters;
use files::{Draft, Folder};
use watch::Watch;

/// How often a wait looks if the file system tells of nothing, and if it does: on a network file system it tells only of
/// what this machine writes.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often, and after how long, a document is read again that somebody may be writing: Celery writes in place.
const READ_AGAIN_MAX: u32 = 5;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Results in a folder.
pub struct FilesystemStore {
    folder: Arc<Folder>,
    keys: Keys,
    format: Format,
    waiters: Arc<Waiters>,
    watch: Watch,
}

/// What a look at a file gave.
enum Found {
    Nothing,
    /// Celery has opened it and writes next; or the machine was lost before it did.
    Empty,
    Result(Box<StoredResult>),
    /// What is there is no document, or not yet.
    Broken(Cause),
}

impl FilesystemStore {
    /// Looks whether the folder can be used, as Celery does (`_do_directory_test`).
    pub(crate) async fn open(url: RedactedUrl, path: PathBuf, options: &StoreOptions) -> Result<Self, StoreError> {
        let keys = Keys::new(options.key_prefix.as_deref());
        let opened = blocking(move || {
            let folder = Folder::open(&path)?;
            folder.check()?;
            Ok(folder)
        });
        let folder = match opened.await {
            Ok(folder) => Arc::new(folder),
            Err(cause) => {
                return Err(StoreError::Connect { url, transient: cause.transient, source: Box::new(cause) });
            }
        };
        let waiters = Arc::<Waiters>::default();
        let watch = Watch::new(folder.path().to_owned(), keys.task.clone(), Arc::clone(&waiters));
        Ok(Self { folder, keys, format: options.format.clone(), waiters, watch })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, Cause> + Send + 'static,
    ) -> Result<T, Cause> {
        let folder = Arc::clone(&self.folder);
        blocking(move || work(&folder)).await
    }

    async fn look(&self, id: &TaskId) -> Result<Found, Cause> {
        let (key, format) = (self.keys.of(id), self.format.clone());
        self.run(move |folder| Ok(understood(folder.read(&key)?, &format))).await
    }

    /// True if the stored state is final. Trouble counts as no: who waits will hear of it from `get`.
    async fn is_final(&self, id: &TaskId) -> bool {
        matches!(self.look(id).await, Ok(Found::Result(stored)) if stored.state.is_ready())
    }

    async fn wait(&self, id: &TaskId) {
        let waiter = self.waiters.register(id);
        let watching = self.watch.begin();
        let pause = if watching.is_some() { RECHECK_INTERVAL } else { POLL_INTERVAL };
        loop {
            let mut woken = std::pin::pin!(waiter.notify.notified());
            woken.as_mut().enable();
            if self.is_final(id).await {
                return;
            }
            // An error means that it is time to look.
            let _ = tokio::time::timeout(pause, woken).await;
        }
    }

    fn write_all(folder: &Folder, keys: &Keys, format: &Format, records: &[ResultRecord]) -> Vec<Result<(), Cause>> {
        let mut last: HashMap<&TaskId, usize> = HashMap::new();
        let mut succeeded = HashSet::new();
        let mut outcomes: HashMap<&TaskId, Result<(), Cause>> = HashMap::new();
        for (n, record) in records.iter().enumerate() {
            // Each file is looked at once; what follows a SUCCESS is left out.
            let is_new = outcomes.insert(&record.id, Ok(())).is_none();
            if is_new && is_success(folder.read(&keys.of(&record.id)), format) {
                succeeded.insert(&record.id);
            }
            if succeeded.contains(&record.id) {
                continue;
            }
            if record.state == State::Success {
                succeeded.insert(&record.id);
            }
            last.insert(&record.id, n);
        }
        let mut order: Vec<usize> = last.into_values().collect();
        order.sort_unstable();
        let drafts = order.iter().map(|n| {
            let record = &records[*n];
            Draft {
                key: keys.of(&record.id),
                text: document::encode_as(record, format),
                is_durable: record.state.is_ready(),
            }
        });
        let written = folder.write_all(drafts.collect());
        outcomes.extend(order.iter().map(|n| &records[*n].id).zip(written));
        records.iter().map(|record| outcomes.get(&record.id).cloned().unwrap_or(Ok(()))).collect()
    }
}

#[async_trait]
impl ResultStore for FilesystemStore {
    async fn put(&self, records: &[ResultRecord]) -> Vec<Result<(), StoreError>> {
        let (keys, format, batch) = (self.keys.clone(), self.format.clone(), records.to_vec());
        let written = self.run(move |folder| Ok(Self::write_all(folder, &keys, &format, &batch))).await;
        let answers = written.unwrap_or_else(|cause| vec![Err(cause); records.len()]);
        for (record, _) in
            records.iter().zip(&answers).filter(|(record, answer)| record.state.is_ready() && answer.is_ok())
        {
            self.waiters.wake(&record.id);
        }
        let answer = |(record, answer): (&ResultRecord, Result<(), Cause>)| {
            answer.map_err(|cause| cause.operation("store", &record.id))
        };
        records.iter().zip(answers).map(answer).collect()
    }

    async fn get(&self, id: &TaskId) -> Result<Option<StoredResult>, StoreError> {
        let mut again = 0;
        loop {
            match self.look(id).await.map_err(|cause| cause.operation("read", id))? {
                Found::Nothing => return Ok(None),
                Found::Result(stored) => return Ok(Some(*stored)),
                Found::Broken(cause) if again == READ_AGAIN_MAX => {
                    return Err(cause.operation("understand stored", id));
                }
                Found::Empty if again == READ_AGAIN_MAX => return Ok(None),
                Found::Empty | Found::Broken(_) => {
                    again += 1;
                    tokio::time::sleep(READ_AGAIN_AFTER).await;
                }
            }
        }
    }

    async fn forget(&self, id: &TaskId) -> Result<(), StoreError> {
        let key = self.keys.of(id);
        self.run(move |folder| folder.delete(&key)).await.map_err(|cause| cause.operation("forget", id))
    }

    async fn changed(&self, id: &TaskId, within: Duration) {
        // An error means that the time is up, which is an answer like the other.
        let _ = tokio::time::timeout(within, self.wait(id)).await;
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.run(Folder::check).await.map_err(|cause| cause.store("ask for"))
    }

    /// As Celery does, by the age of files (`FilesystemBackend.cleanup`).
    async fn delete_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        // Celery counts chords in other stores; it cleans them up here as well.
        let Keys { task, group, chord } = self.keys.clone();
        let deleted = self.run(move |folder| folder.delete_older(&[task, group, chord], older_than)).await;
        deleted.map_err(|cause| cause.store("delete expired"))
    }

    fn chords(&self) -> ChordStyle {
        ChordStyle::Unlock
    }

    async fn save_group(&self, group: &str, result: &Json) -> Result<(), StoreError> {
        const OPERATION: &str = "save";
        let document = Json::object([("result", result)]).bytes();
        let text = self.format.serialize(document).map_err(|error| Cause::permanent(error).group(OPERATION, group))?;
        let draft = Draft { key: self.keys.of_group(group, ""), text, is_durable: true };
        let written = self.run(move |folder| folder.write_all(vec![draft]).pop().unwrap_or(Ok(()))).await;
        written.map_err(|cause| cause.group(OPERATION, group))
    }

    async fn group(&self, group: &str) -> Result<Option<Json>, StoreError> {
        let key = self.keys.of_group(group, "");
        let read = self.run(move |folder| folder.read(&key)).await.map_err(|cause| cause.group("read", group))?;
        let Some(text) = read.filter(|text| !text.is_empty()) else { return Ok(None) };
        match document::decode_value(&text, &self.format) {
            Ok(document) => Ok(document.get("result")),
            Err(error) => Err(Cause::permanent(error).group("understand", group)),
        }
    }

    fn is_durable(&self) -> bool {
        true
    }
}

fn understood(text: Option<Vec<u8>>, format: &Format) -> Found {
    match text {
        None => Found::Nothing,
        Some(text) if text.is_empty() => Found::Empty,
        Some(text) => match document::decode_as(&text, format) {
            Ok(stored) => Found::Result(Box::new(stored)),
            Err(error) => Found::Broken(Cause::permanent(error)),
        },
    }
}

/// What is no document at all may be overwritten.
fn is_success(text: Result<Option<Vec<u8>>, Cause>, format: &Format) -> bool {
    let Ok(text) = text else { return false };
    matches!(understood(text, format), Found::Result(stored) if stored.state == State::Success)
}

/// Does what waits for a disk on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Cause> + Send + 'static) -> Result<T, Cause> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(Cause::transient(panic)))
}

#[cfg(test)]
mod tests;
