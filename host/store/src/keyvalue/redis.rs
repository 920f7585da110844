//! Values in Redis: a key each, `taskhost:kv:` with its space before.

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, Value, cmd};
use taskhost_core::{NodeName, RedactedUrl};

use super::{Entry, KeyValue, KeyValueError, OPERATION, PAGE_MAX, Page, Swap, strange};
use crate::port::StoreError;
use crate::redis::connection::{Connection, Exchange, Trouble};

/// Before the space.
const KEY_PREFIX: &str = "taskhost:kv:";
/// How often a page is asked for until it has keys: a database full of other things has many empty ones.
const SCANS_MAX: usize = 20;

/// Answers 1 if the value was put there, and else what is there.
const SWAP: &str = r"
local now = redis.call('GET', KEYS[1])
if (ARGV[1] == '0' and not now) or (ARGV[1] == '1' and now == ARGV[2]) then
    redis.call('SET', KEYS[1], ARGV[3])
    return 1
end
return now
";

/// Keeps values in Redis.
pub(super) struct RedisValues(Connection);

impl RedisValues {
    pub(super) fn new(
        url: RedactedUrl,
        target: &dial::redis::Target,
        node: Option<NodeName>,
    ) -> Result<Self, StoreError> {
        Connection::new(url, target, node).map(Self)
    }

    /// A command that may as well be given twice.
    async fn run(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.exchange(Exchange::Command(command)).await
    }

    /// A command that is given once: when the connection is lost over it, nobody knows whether it was heard.
    async fn run_once(&self, command: &Cmd) -> Result<Value, StoreError> {
        // One that the server has closed meanwhile shows here, and is replaced.
        self.run(&cmd("PING")).await?;
        self.exchange(Exchange::Once(command)).await
    }

    async fn exchange(&self, exchange: Exchange<'_>) -> Result<Value, StoreError> {
        match self.0.run(exchange).await {
            Ok(answer) => Ok(answer),
            Err(Trouble::Connect(failure)) => Err(self.0.connect_error(&failure)),
            Err(Trouble::Operation(failure)) => Err(failure.cause.store(OPERATION)),
        }
    }
}

fn key(entry: Entry<'_>) -> String {
    format!("{KEY_PREFIX}{}{}", entry.space, entry.key)
}

fn bytes(answer: Value) -> Result<Option<Bytes>, KeyValueError> {
    match answer {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        other => Err(strange(format!("Redis answered {other:?}"))),
    }
}

#[async_trait]
impl KeyValue for RedisValues {
    async fn get(&self, entry: Entry<'_>) -> Result<Option<Bytes>, KeyValueError> {
        bytes(self.run(cmd("GET").arg(key(entry))).await?)
    }

    async fn set(&self, entry: Entry<'_>, value: Bytes) -> Result<(), KeyValueError> {
        self.run(cmd("SET").arg(key(entry)).arg(&value[..])).await?;
        Ok(())
    }

    async fn delete(&self, entry: Entry<'_>) -> Result<(), KeyValueError> {
        self.run(cmd("DEL").arg(key(entry))).await?;
        Ok(())
    }

    async fn exists(&self, entry: Entry<'_>) -> Result<bool, KeyValueError> {
        match self.run(cmd("EXISTS").arg(key(entry))).await? {
            Value::Int(count) => Ok(count > 0),
            other => Err(strange(format!("Redis answered {other:?}"))),
        }
    }

    async fn list(&self, space: &str, cursor: Option<u64>) -> Result<Page, KeyValueError> {
        let prefix = format!("{KEY_PREFIX}{space}");
        let pattern = format!("{}*", literal(&prefix));
        let mut cursor = cursor.unwrap_or(0);
        let mut keys = Vec::new();
        for _ in 0..SCANS_MAX {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(PAGE_MAX);
            let answer = self.run(&scan).await?;
            let (next, found): (u64, Vec<String>) = redis::from_redis_value(answer).map_err(strange)?;
            keys.extend(found.into_iter().filter_map(|key| key.strip_prefix(&prefix).map(str::to_owned)));
            if next == 0 {
                return Ok(Page { keys, cursor: None });
            }
            cursor = next;
            if !keys.is_empty() {
                break;
            }
        }
        Ok(Page { keys, cursor: Some(cursor) })
    }

    async fn increment(&self, entry: Entry<'_>, delta: i64) -> Result<i64, KeyValueError> {
        let answer = self.run_once(cmd("INCRBY").arg(key(entry)).arg(delta)).await;
        match answer {
            Ok(Value::Int(sum)) => Ok(sum),
            Ok(other) => Err(strange(format!("Redis answered {other:?}"))),
            // It says so as text alone.
            Err(error) if says(&error, "not an integer") || says(&error, "overflow") => {
                Err(KeyValueError::NoNumber(entry.key.to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn swap(&self, entry: Entry<'_>, current: Option<Bytes>, value: Bytes) -> Result<Swap, KeyValueError> {
        let mut command = cmd("EVAL");
        command.arg(SWAP).arg(1).arg(key(entry));
        command.arg(u8::from(current.is_some())).arg(current.as_deref().unwrap_or_default()).arg(&value[..]);
        match self.run_once(&command).await? {
            Value::Int(1) => Ok(Swap::Done),
            other => bytes(other).map(Swap::Changed),
        }
    }
}

fn says(error: &StoreError, text: &str) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.to_string().contains(text))
}

/// The text as a pattern that fits it alone.
fn literal(text: &str) -> String {
    let special = |character| matches!(character, '*' | '?' | '[' | ']' | '\\' | '^');
    text.chars().flat_map(|character| special(character).then_some('\\').into_iter().chain([character])).collect()
}
