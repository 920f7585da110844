//! Celery's Redis backend (celery/backends/redis.py): a key for each task, and a message to who waits.
//!
//! Connects at first use and reconnects by itself; it never retries what a server refused. One server
//! is meant, or the master that Sentinels name; not Cluster.

mod chord;
pub(crate) mod connection;
pub(crate) mod failure;
mod put;
mod script;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use redis::aio::PubSub;
use taskhost_core::chord::{ChordPart, ChordStyle, Progress};
use taskhost_core::protocol::codec::Format;
use taskhost_core::protocol::document;
use taskhost_core::{Json, RedactedUrl, ResultRecord, State, StoredResult, TaskId};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::cause::Cause;
use crate::connect::StoreOptions;
use crate::keys::Keys;
use crate::port::{ResultStore, StoreError};
use crate::terms::{ChordTerms, whole_seconds};
use connection::{Connection, Exchange, Trouble};

/// How many waits may have a subscription, each on a connection of its own; the others poll.
const SUBSCRIPTIONS_MAX: usize = 32;
/// How often a wait without subscription looks.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How often a wait with a subscription looks as well: Redis forgets messages, and connections go silent.
const RECHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Results in Redis.
pub struct RedisStore {
    connection: Connection,
    keys: Keys,
    expiry: Expiry,
    chords: ChordTerms,
    /// Results of a chord come in the order of its members.
    is_ordered: bool,
    format: Format,
    subscriptions: Semaphore,
}

/// How long results are kept.
#[derive(Debug, Clone, Copy)]
struct Expiry {
    others_s: u64,
    failure_s: u64,
}

impl RedisStore {
    /// A store that will connect when it is first used.
    pub(crate) fn new(
        url: RedactedUrl,
        target: &dial::redis::Target,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            connection: Connection::new(url, target, options.node.clone())?,
            keys: Keys::new(options.key_prefix.as_deref()),
            expiry: Expiry::new(options),
            chords: ChordTerms::new(options),
            is_ordered: options.chord_ordered,
            format: options.format.clone(),
            subscriptions: Semaphore::new(SUBSCRIPTIONS_MAX),
        })
    }

    fn error(&self, trouble: &Trouble, operation: &'static str, id: &TaskId) -> StoreError {
        match trouble {
            Trouble::Connect(failure) => self.connection.connect_error(failure),
            Trouble::Operation(failure) => failure.cause.clone().operation(operation, id),
        }
    }

    /// True if the stored state is final. Trouble counts as no: who waits will hear of it from `get`.
    async fn is_final(&self, id: &TaskId) -> bool {
        matches!(self.get(id).await, Ok(Some(stored)) if stored.state.is_ready())
    }

    async fn wait(&self, id: &TaskId) {
        let subscription = match self.subscriptions.try_acquire() {
            Ok(permit) => self.subscribe(id).await.map(|subscriber| (subscriber, permit)),
            Err(_) => None,
        };
        let Some((mut subscriber, _permit)) = subscription else {
            while !self.is_final(id).await {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            return;
        };
        // The subscription stands: what became final before it is found by looking, the rest is heard.
        let mut messages = Box::pin(subscriber.on_message());
        while !self.is_final(id).await {
            let recheck = Instant::now() + RECHECK_INTERVAL;
            loop {
                match tokio::time::timeout_at(recheck, messages.next()).await {
                    Ok(Some(message)) if is_final_document(message.get_payload_bytes(), &self.format) => return,
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        tokio::time::sleep_until(recheck.min(Instant::now() + POLL_INTERVAL)).await;
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
    }

    async fn subscribe(&self, id: &TaskId) -> Option<PubSub> {
        let mut subscriber = self.connection.subscriber().await.ok()?;
        let subscribing = subscriber.subscribe(self.keys.of(id));
        tokio::time::timeout(connection::RESPONSE_TIMEOUT, subscribing).await.ok()?.ok()?;
        Some(subscriber)
    }
}

#[async_trait]
impl ResultStore for RedisStore {
    async fn put(&self, records: &[ResultRecord]) -> Vec<Result<(), StoreError>> {
        self.put_all(records).await
    }

    async fn get(&self, id: &TaskId) -> Result<Option<StoredResult>, StoreError> {
        let mut command = redis::cmd("GET");
        command.arg(self.keys.of(id));
        let reply = self.connection.run(Exchange::Command(&command)).await;
        let reply = reply.map_err(|trouble| self.error(&trouble, "read", id))?;
        let document: Option<Vec<u8>> =
            redis::from_redis_value(reply).map_err(|error| Cause::permanent(error).operation("read", id))?;
        let Some(document) = document else { return Ok(None) };
        let stored = document::decode_as(&document, &self.format)
            .map_err(|error| Cause::permanent(error).operation("understand stored", id))?;
        Ok(Some(stored))
    }

    async fn forget(&self, id: &TaskId) -> Result<(), StoreError> {
        let mut command = redis::cmd("DEL");
        command.arg(self.keys.of(id));
        let reply = self.connection.run(Exchange::Command(&command)).await;
        reply.map(drop).map_err(|trouble| self.error(&trouble, "forget", id))
    }

    async fn changed(&self, id: &TaskId, within: Duration) {
        // An error means that the time is up, which is an answer like the other.
        let _ = tokio::time::timeout(within, self.wait(id)).await;
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let reply = self.connection.run(Exchange::Command(&redis::cmd("PING"))).await;
        reply.map(drop).map_err(|trouble| match trouble {
            Trouble::Connect(failure) => self.connection.connect_error(&failure),
            Trouble::Operation(failure) => failure.cause.store("ask for"),
        })
    }

    fn chords(&self) -> ChordStyle {
        ChordStyle::Native
    }

    async fn set_chord_size(&self, group: &str, size: u64, again: bool) -> Result<(), StoreError> {
        self.chord_size(group, size, again).await
    }

    async fn extend_chord(&self, group: &str, member: &TaskId) -> Result<(), StoreError> {
        self.chord_extended(group, member).await
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

impl Expiry {
    fn new(options: &StoreOptions) -> Self {
        let failure = options.failure_expires.unwrap_or(options.expires);
        Self { others_s: whole_seconds(options.expires), failure_s: whole_seconds(failure) }
    }

    /// Seconds; zero is for ever.
    fn of(self, state: &State) -> u64 {
        if *state == State::Failure { self.failure_s } else { self.others_s }
    }
}

/// True if the document says SUCCESS. Celery, and we, write the state first; for any other order the
/// document is read. What is no document at all may be overwritten.
fn is_success_document(document: &[u8], format: &Format) -> bool {
    match leading_status(document) {
        Some(status) => status == b"SUCCESS",
        None => document::decode_as(document, format).is_ok_and(|stored| stored.state == State::Success),
    }
}

fn is_final_document(document: &[u8], format: &Format) -> bool {
    match leading_status(document) {
        Some(status) => matches!(status, b"SUCCESS" | b"FAILURE" | b"REVOKED"),
        None => document::decode_as(document, format).is_ok_and(|stored| stored.state.is_ready()),
    }
}

/// The state, if the document begins with it and it has no escapes.
fn leading_status(document: &[u8]) -> Option<&[u8]> {
    let status = document.strip_prefix(b"{\"status\": \"").or_else(|| document.strip_prefix(b"{\"status\":\""))?;
    let end = status.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    (status[end] == b'"').then(|| &status[..end])
}

#[cfg(test)]
mod tests;
