//! Celery's cache backend on memcached (celery/backends/cache.py): a key for each task, and a counter for each chord.
//!
//! Speaks the text protocol itself: no crate was found that sends many commands in one go with numbers to replace by
//! (`cas`) and flags. Connects at first use. What memcached forgets, by expiry, for want of room or in a restart, is
//! forgotten; nobody is told of results, so whoever waits asks again and again.

mod address;
mod chord;
mod link;
mod protocol;
mod put;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use taskhost_core::chord::{ChordPart, ChordStyle, Progress};
use taskhost_core::protocol::codec::Format;
use taskhost_core::protocol::document;
use taskhost_core::{Json, RedactedUrl, ResultRecord, State, StoredResult, TaskId};

pub(crate) use address::{Cache, Servers};
use link::{Cluster, Trouble};
use protocol::{Exchange, KEY_BYTES_MAX, Reply};

use crate::cause::Cause;
use crate::connect::StoreOptions;
use crate::keys::Keys;
use crate::port::{ResultStore, StoreError};
use crate::terms::{ChordTerms, whole_seconds};
use crate::waiters::Waiters;

/// How often a wait looks at first, and how often in the end. Celery's clients look twice a second.
const POLL_INTERVAL_MIN: Duration = Duration::from_millis(20);
const POLL_INTERVAL_MAX: Duration = Duration::from_millis(250);
/// From here on memcached takes an expiry for a date (celery/backends/cache.py `MAX_RELATIVE_EXPIRES`).
const RELATIVE_S_MAX: u64 = 30 * 24 * 60 * 60;

/// Results in memcached.
pub struct MemcachedStore {
    cluster: Cluster,
    keys: Keys,
    expires_s: u64,
    chords: ChordTerms,
    format: Format,
    waiters: Waiters,
}

impl MemcachedStore {
    /// A store that will connect when it is first used.
    pub(crate) fn new(url: RedactedUrl, servers: Servers, options: &StoreOptions) -> Self {
        Self {
            cluster: Cluster::new(url, servers),
            keys: Keys::new(options.key_prefix.as_deref()),
            expires_s: whole_seconds(options.expires),
            chords: ChordTerms::new(options),
            format: options.format.clone(),
            waiters: Waiters::default(),
        }
    }

    fn error(&self, trouble: &Trouble, operation: &'static str, id: &TaskId) -> StoreError {
        match trouble.connecting {
            true => self.cluster.connect_error(&trouble.cause),
            false => trouble.cause.clone().operation(operation, id),
        }
    }

    /// When a result that is stored now expires, as memcached wants to hear it.
    fn expires(&self) -> u64 {
        expiry(self.expires_s)
    }

    /// One command to the server that has this key.
    async fn ask(&self, key: &str, command: impl FnOnce(&mut Exchange)) -> Result<Reply, Trouble> {
        self.ask_server(self.cluster.servers.of(key), command).await
    }

    async fn ask_server(&self, server: usize, command: impl FnOnce(&mut Exchange)) -> Result<Reply, Trouble> {
        let mut batch = self.cluster.batch();
        batch.ask(server, command);
        let answer = self.cluster.run(&batch).await.pop();
        match answer.unwrap_or_else(|| Err(Trouble::refused("the server was not asked", true)))? {
            Reply::Refused(text) => Err(put::refused(&text, 0)),
            reply => Ok(reply),
        }
    }

    /// True if the stored state is final. Trouble counts as no: who waits will hear of it from `get`.
    async fn is_final(&self, id: &TaskId) -> bool {
        matches!(self.get(id).await, Ok(Some(stored)) if stored.state.is_ready())
    }

    async fn wait(&self, id: &TaskId) {
        let waiter = self.waiters.register(id);
        let mut interval = POLL_INTERVAL_MIN;
        loop {
            let mut woken = std::pin::pin!(waiter.notify.notified());
            woken.as_mut().enable();
            if self.is_final(id).await {
                return;
            }
            // Whether this process has stored it or the time has come, it is looked at.
            let _ = tokio::time::timeout(interval, woken).await;
            interval = (interval * 2).min(POLL_INTERVAL_MAX);
        }
    }
}

#[async_trait]
impl ResultStore for MemcachedStore {
    async fn put(&self, records: &[ResultRecord]) -> Vec<Result<(), StoreError>> {
        let answers = self.put_all(records).await;
        records.iter().filter(|record| record.state.is_ready()).for_each(|record| self.waiters.wake(&record.id));
        answers
    }

    async fn get(&self, id: &TaskId) -> Result<Option<StoredResult>, StoreError> {
        let key = checked(self.keys.of(id)).map_err(|trouble| self.error(&trouble, "read", id))?;
        let found = self.read(std::slice::from_ref(&key)).await.map_err(|trouble| self.error(&trouble, "read", id))?;
        let Some(item) = found.into_values().next() else { return Ok(None) };
        let stored = document::decode_as(&item.value, &self.format)
            .map_err(|error| Cause::permanent(error).operation("understand stored", id))?;
        Ok(Some(stored))
    }

    async fn forget(&self, id: &TaskId) -> Result<(), StoreError> {
        let forgotten = match checked(self.keys.of(id)) {
            Ok(key) => self.ask(&key, |it| it.delete(&key)).await,
            Err(trouble) => Err(trouble),
        };
        forgotten.map(drop).map_err(|trouble| self.error(&trouble, "forget", id))
    }

    async fn changed(&self, id: &TaskId, within: Duration) {
        // An error means that the time is up, which is an answer like the other.
        let _ = tokio::time::timeout(within, self.wait(id)).await;
    }

    async fn ping(&self) -> Result<(), StoreError> {
        for server in 0..self.cluster.len() {
            self.ask_server(server, Exchange::version).await.map_err(|trouble| match trouble.connecting {
                true => self.cluster.connect_error(&trouble.cause),
                false => trouble.cause.store("ask for"),
            })?;
        }
        Ok(())
    }

    fn chords(&self) -> ChordStyle {
        ChordStyle::Counter
    }

    async fn set_chord_size(&self, group: &str, _size: u64, again: bool) -> Result<(), StoreError> {
        self.chord_began(group, again).await
    }

    async fn count_chord_parts(&self, parts: &[ChordPart]) -> Vec<Result<Progress, StoreError>> {
        self.count_all(parts).await
    }

    async fn extend_claim(&self, group: &str, token: &str) -> Result<bool, StoreError> {
        self.claim_extended(group, token).await
    }

    async fn finish_chord(&self, group: &str, token: &str) -> Result<bool, StoreError> {
        self.chord_finished(group, token).await
    }

    async fn fail_chord(&self, group: &str) -> Result<(), StoreError> {
        self.chord_failed(group).await
    }

    async fn save_group(&self, group: &str, result: &Json) -> Result<(), StoreError> {
        self.put_group(group, result).await
    }

    async fn group(&self, group: &str) -> Result<Option<Json>, StoreError> {
        self.get_group(group).await
    }

    fn is_durable(&self) -> bool {
        true
    }
}

/// The key, if the server can have it. Celery's client refuses the same (pymemcache `check_key_helper`).
fn checked(key: String) -> Result<String, Trouble> {
    if key.len() > KEY_BYTES_MAX {
        let reason = format!("its key has {} bytes, and memcached takes {KEY_BYTES_MAX}", key.len());
        return Err(Trouble::refused(&reason, false));
    }
    if key.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(Trouble::refused("a key of memcached is ASCII, without spaces and control characters", false));
    }
    Ok(key)
}

/// An expiry as memcached wants to hear it: zero for never, else seconds, and a date if there are too many of them.
fn expiry(seconds: u64) -> u64 {
    if seconds <= RELATIVE_S_MAX {
        return seconds;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // What is further away than memcached counts is never.
    now.checked_add(seconds).filter(|at| *at <= u64::from(u32::MAX >> 1)).unwrap_or(0)
}

fn is_success(stored: &[u8], format: &Format) -> bool {
    document::decode_as(stored, format).is_ok_and(|stored| stored.state == State::Success)
}

#[cfg(test)]
mod tests;
