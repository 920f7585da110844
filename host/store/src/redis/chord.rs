//! Chords in Redis, together with Python workers on the same keys (celery/backends/redis.py of Celery 5.7).
//!
//! A part costs the same whatever the size of its chord; whoever counts the last one reads them all. What is
//! done with a chord that was claimed is decided elsewhere.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use taskhost_core::chord::{ChordPart, ClaimedChord, Part, Progress};
use taskhost_core::protocol::codec::{BodyError, Format};
use taskhost_core::protocol::content::{ListWriter, ToJson};
use taskhost_core::protocol::document;
use taskhost_core::record::ResultValue;
use taskhost_core::{Exception, Json, State, TaskId};

use super::RedisStore;
use super::connection::{Exchange, Trouble};
use super::failure::Failure;
use super::put::{DOCUMENT_BYTES_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_RECORDS_MAX};
use super::script::{Call, Script};
use crate::cause::Cause;
use crate::port::StoreError;

static COUNT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("chord/count.lua")));
static SIZE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("chord/size.lua")));
static EXTEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("chord/extend.lua")));
static HOLD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("chord/hold.lua")));
static FINISH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("chord/finish.lua")));

/// How many parts are read in one step, which takes the server about a millisecond.
const PARTS_READ_MAX: usize = 1_000;

/// Celery's names of what is kept about a chord, after the key of its group. The last is ours.
const PARTS: &str = ".j";
const EXTRA: &str = ".t";
const SIZE_KEY: &str = ".s";
const COUNTED: &str = ".d";
const CLAIM: &str = ".c";
const MEMBERS: &str = ".x";

/// A part on its way.
struct Counting<'a> {
    part: &'a ChordPart,
    token: String,
    call: Call<'static>,
}

impl RedisStore {
    pub(super) async fn count_all(&self, parts: &[ChordPart]) -> Vec<Result<Progress, StoreError>> {
        let mut answers = Vec::with_capacity(parts.len());
        let mut chunk = Vec::with_capacity(parts.len().min(TRANSACTION_RECORDS_MAX));
        let mut chunk_bytes = 0;
        for part in parts {
            let document = encode(part, &self.format);
            if document.len() >= DOCUMENT_BYTES_MAX {
                self.count_chunk(&mut chunk, &mut answers).await;
                chunk_bytes = 0;
                let reason = format!("{} bytes are more than Redis takes in one value", document.len());
                answers.push(Err(Cause::permanent(reason).operation("count", &part.task)));
                continue;
            }
            if chunk.len() == TRANSACTION_RECORDS_MAX || chunk_bytes + document.len() > TRANSACTION_BYTES_MAX {
                self.count_chunk(&mut chunk, &mut answers).await;
                chunk_bytes = 0;
            }
            chunk_bytes += document.len();
            chunk.push(self.counting(part, document));
        }
        self.count_chunk(&mut chunk, &mut answers).await;
        answers
    }

    fn counting<'a>(&self, part: &'a ChordPart, document: Bytes) -> Counting<'a> {
        let terms = &self.chords;
        let index = part.index.map_or("+inf".to_owned(), |index| index.to_string());
        // A header may have the same task twice, and then it has two results.
        let member = format!("{}:{index}", part.task);
        let token = format!("{}:{member}", terms.owner);
        let keys = [PARTS, EXTRA, SIZE_KEY, COUNTED, "", CLAIM];
        let arguments = vec![
            member.into(),
            document,
            if self.is_ordered { index.into() } else { Bytes::new() },
            number(terms.expires_s),
            number(terms.results_expire_s),
            token.clone().into(),
            number(terms.claim_s),
            number(PARTS_READ_MAX as u64),
            number(part.is_new.into()),
        ];
        let keys = keys.iter().map(|suffix| self.keys.of_group(&part.group, suffix)).collect();
        Counting { part, token, call: Call { script: &COUNT, keys, arguments } }
    }

    /// Counts and empties the chunk, and answers for each of it.
    async fn count_chunk(&self, chunk: &mut Vec<Counting<'_>>, answers: &mut Vec<Result<Progress, StoreError>>) {
        if chunk.is_empty() {
            return;
        }
        let (countings, calls): (Vec<_>, Vec<_>) =
            chunk.drain(..).map(|counting| ((counting.part, counting.token), counting.call)).unzip();
        match self.connection.call(&calls).await {
            Ok(counted) => {
                for ((part, token), counted) in countings.into_iter().zip(counted) {
                    answers.push(match counted {
                        Ok(answer) => self.progress(part, token, answer).await,
                        Err(failure) => {
                            Err(self.group_error(&Trouble::Operation(failure), "count part of", &part.group))
                        }
                    });
                }
            }
            Err(trouble) => {
                let error = |group: &str| self.group_error(&trouble, "count part of", group);
                answers.extend(countings.iter().map(|(part, _)| Err(error(&part.group))));
            }
        }
    }

    async fn progress(&self, part: &ChordPart, token: String, answer: Value) -> Result<Progress, StoreError> {
        let strange = |answer: &dyn std::fmt::Debug| {
            Cause::permanent(format!("Redis answered {answer:?}")).group("count part of", &part.group)
        };
        let Value::Array(answer) = answer else { return Err(strange(&answer)) };
        let mut items = answer.into_iter();
        let Some(Value::BulkString(word)) = items.next() else { return Err(strange(&"no word")) };
        match (&word[..], items.next(), items.next(), items.next(), items.next()) {
            (b"over", ..) => Ok(Progress::Over),
            (b"waiting", ..) => Ok(Progress::Waiting),
            (b"held", Some(Value::Int(left_ms)), ..) => {
                // A claim without an end is none of Celery's; it is looked at again as if it were new.
                let left_ms = u64::try_from(left_ms).unwrap_or(self.chords.claim_s * 1_000);
                Ok(Progress::Held(Duration::from_millis(left_ms)))
            }
            (
                b"claimed",
                Some(Value::Int(again)),
                Some(Value::Int(there)),
                Some(Value::Array(first)),
                Some(structure),
            ) => {
                let there = usize::try_from(there).unwrap_or_default();
                let (parts, structure) =
                    self.understood(part, self.read_parts(&part.group, there, first).await?, structure);
                let group = part.group.clone();
                Ok(Progress::Claimed(ClaimedChord { group, token, again: again == 1, parts, structure, broken: None }))
            }
            _ => Err(strange(&String::from_utf8_lossy(&word))),
        }
    }

    /// The parts that follow the first ones. Nothing is added to a chord that is complete.
    async fn read_parts(&self, group: &str, there: usize, first: Vec<Value>) -> Result<Vec<Value>, StoreError> {
        let mut parts = first;
        while parts.len() < there {
            let mut range = redis::cmd(if self.is_ordered { "ZRANGE" } else { "LRANGE" });
            range.arg(self.keys.of_group(group, PARTS)).arg(parts.len()).arg(parts.len() + PARTS_READ_MAX - 1);
            let more = self.connection.run(Exchange::Command(&range)).await;
            match more.map_err(|trouble| self.group_error(&trouble, "read parts of", group))? {
                Value::Array(more) if !more.is_empty() => parts.extend(more),
                // Deleted meanwhile: our claim ran out, and another was faster.
                _ => return Err(Cause::transient("its parts are gone").group("read parts of", group)),
            }
        }
        Ok(parts)
    }

    /// The parts, and the shape of the header if it has one.
    fn understood(&self, part: &ChordPart, parts: Vec<Value>, structure: Value) -> (Vec<Part>, Option<Json>) {
        let parts = parts.into_iter().map(|stored| read_part(&stored, &self.format));
        let structure = match &structure {
            Value::BulkString(stored) => Some(read_group(stored, &self.format)),
            _ => None,
        };
        let read = parts.collect::<Result<Vec<_>, _>>().and_then(|parts| Ok((parts, structure.transpose()?)));
        // Nobody can read what one wrote with a serializer that we refuse: a failure that is said, rather than a
        // chord that waits for ever.
        read.unwrap_or_else(|error| (vec![unreadable(&part.task, &error)], None))
    }

    pub(super) async fn chord_size(&self, group: &str, size: u64, again: bool) -> Result<(), StoreError> {
        let arguments = [number(size), number(self.chords.expires_s), number(again.into())];
        self.chord_step(&SIZE, "set size of", group, &[SIZE_KEY, CLAIM, COUNTED], arguments).await.map(drop)
    }

    pub(super) async fn chord_extended(&self, group: &str, member: &TaskId) -> Result<(), StoreError> {
        let (expires_s, kept_s) = (self.chords.expires_s, self.chords.marks_s());
        let arguments = [Bytes::copy_from_slice(member.as_str().as_bytes()), number(expires_s), number(kept_s)];
        self.chord_step(&EXTEND, "extend", group, &[EXTRA, MEMBERS, CLAIM], arguments).await.map(drop)
    }

    pub(super) async fn claim_extended(&self, group: &str, token: &str) -> Result<bool, StoreError> {
        let arguments = [Bytes::copy_from_slice(token.as_bytes()), number(self.chords.publishing_s())];
        self.chord_step(&HOLD, "hold", group, &[CLAIM, SIZE_KEY], arguments).await
    }

    pub(super) async fn chord_finished(&self, group: &str, token: &str) -> Result<bool, StoreError> {
        let arguments = [Bytes::copy_from_slice(token.as_bytes()), number(self.chords.done_s)];
        let keys = [CLAIM, PARTS, EXTRA, SIZE_KEY, COUNTED, MEMBERS];
        self.chord_step(&FINISH, "finish", group, &keys, arguments).await
    }

    pub(super) async fn chord_failed(&self, group: &str) -> Result<(), StoreError> {
        let mut command = redis::cmd("DEL");
        command.arg(self.keys.of_group(group, SIZE_KEY));
        let reply = self.connection.run(Exchange::Command(&command)).await;
        reply.map(drop).map_err(|trouble| self.group_error(&trouble, "fail", group))
    }

    /// Runs a script that says whether it did something.
    async fn chord_step(
        &self,
        script: &Script,
        operation: &'static str,
        group: &str,
        keys: &[&str],
        arguments: impl Into<Vec<Bytes>>,
    ) -> Result<bool, StoreError> {
        let keys = keys.iter().map(|suffix| self.keys.of_group(group, suffix)).collect();
        let answers = self.connection.call(&[Call { script, keys, arguments: arguments.into() }]).await;
        let answers = answers.map_err(|trouble| self.group_error(&trouble, operation, group))?;
        match answers.into_iter().next() {
            Some(Ok(Value::Int(done))) => Ok(done == 1),
            Some(Err(failure)) => Err(self.group_error(&Trouble::Operation(failure), operation, group)),
            other => Err(Cause::permanent(format!("Redis answered {other:?}")).group(operation, group)),
        }
    }

    /// As `_save_group` of celery/backends/base.py.
    pub(super) async fn put_group(&self, group: &str, result: &Json) -> Result<(), StoreError> {
        const OPERATION: &str = "save";
        let document = Json::object([("result", result)]).bytes();
        let document =
            self.format.serialize(document).map_err(|error| Cause::permanent(error).group(OPERATION, group))?;
        if document.len() >= DOCUMENT_BYTES_MAX {
            let reason = format!("{} bytes are more than Redis takes in one value", document.len());
            return Err(Cause::permanent(reason).group(OPERATION, group));
        }
        let key = self.keys.of_group(group, "");
        let mut transaction = redis::pipe();
        transaction.atomic();
        match self.chords.results_expire_s {
            0 => transaction.cmd("SET").arg(&key),
            seconds => transaction.cmd("SETEX").arg(&key).arg(seconds),
        };
        transaction.arg(&document[..]).cmd("PUBLISH").arg(&key).arg(&document[..]);
        let reply = self.connection.run(Exchange::Transaction(&transaction)).await;
        reply.map(drop).map_err(|trouble| self.group_error(&trouble, OPERATION, group))
    }

    pub(super) async fn get_group(&self, group: &str) -> Result<Option<Json>, StoreError> {
        let mut command = redis::cmd("GET");
        command.arg(self.keys.of_group(group, ""));
        let reply = self.connection.run(Exchange::Command(&command)).await;
        match reply.map_err(|trouble| self.group_error(&trouble, "read", group))? {
            Value::BulkString(stored) => {
                let read = read_group(&stored, &self.format);
                read.map(Some).map_err(|error| Cause::permanent(error).group("understand", group))
            }
            _ => Ok(None),
        }
    }

    fn group_error(&self, trouble: &Trouble, operation: &'static str, group: &str) -> StoreError {
        match trouble {
            Trouble::Connect(failure) => self.connection.connect_error(failure),
            Trouble::Operation(Failure { cause, .. }) => cause.clone().group(operation, group),
        }
    }
}

/// Numbers reach Redis as text.
fn number(number: u64) -> Bytes {
    number.to_string().into()
}

/// `[1, id, state, result]`, as `on_chord_part_return` writes it.
fn encode(part: &ChordPart, format: &Format) -> Bytes {
    let document = |state: &State, result: &ResultValue| {
        let mut list = ListWriter::new();
        list.push(&1_u8).push(part.task.as_str()).push(state.as_str()).push(result);
        list.finish().bytes()
    };
    format.serialize(document(&part.state, &part.result)).unwrap_or_else(|error| {
        // As for the result itself; what every serializer can say, or else JSON.
        let exception = document::unsayable_exception(format, &error);
        let failure = document(&State::Failure, &ResultValue::Exception(exception));
        format.serialize(failure.clone()).unwrap_or(failure)
    })
}

fn read_part(stored: &Value, format: &Format) -> Result<Part, Unreadable> {
    let Value::BulkString(stored) = stored else { return Err(Unreadable::Form) };
    let document = document::decode_value(stored, format)?;
    let mut elements = document.elements().skip(1);
    let (Some(task), Some(state), Some(result)) = (elements.next(), elements.next(), elements.next()) else {
        return Err(Unreadable::Form);
    };
    let task = task.text_lossy().and_then(|id| TaskId::parse(&id).ok()).ok_or(Unreadable::Form)?;
    let state = state.text_lossy().map(|name| State::parse(&name)).ok_or(Unreadable::Form)?;
    Ok(Part { task, state, result })
}

fn read_group(stored: &[u8], format: &Format) -> Result<Json, Unreadable> {
    document::decode_value(stored, format)?.get("result").ok_or(Unreadable::Form)
}

/// A part that says why there are no others.
fn unreadable(counted: &TaskId, error: &Unreadable) -> Part {
    let exception = Exception::new("kombu.exceptions", "DecodeError", [Json::text(&error.to_string())]);
    let mut result = String::new();
    exception.write_json(&mut result);
    let result = Json::parse(result).expect("an exception is written as JSON");
    Part { task: counted.clone(), state: State::Failure, result }
}

/// Why something that a backend wrote cannot be read.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("it has another form than Celery's")]
    Form,
    #[error(transparent)]
    Body(#[from] BodyError),
}

#[cfg(test)]
mod tests;
