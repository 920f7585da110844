//! Celery's result document (celery/backends/base.py `_get_result_meta`): written and read.
//!
//! Knows no keys and no tables: where a document is put is an adapter's affair.

use std::sync::Arc;

use bytes::Bytes;

use crate::exception::Exception;
use crate::protocol::codec::{self, BodyError, Codec, Format, Serializer};
use crate::protocol::content::{Json, JsonError, Kind, MapWriter, ToJson};
use crate::record::{CALL_FIELDS, CallRecord, ResultRecord, ResultValue, State, StoredResult, USAGE_FIELD};
use crate::timestamp::Timestamp;

/// The document in the form of a serializer (`result_serializer`). What cannot be said in it becomes a
/// failure, as in Celery (celery/app/trace.py, at `except EncodeError`).
pub fn encode_as(record: &ResultRecord, format: &Format) -> Bytes {
    let text = Bytes::from(encode(record));
    format.serialize(text).unwrap_or_else(|error| {
        let failure = unsayable(record, format, &error);
        // Names and ids alone are left, which every serializer can say; if not, JSON can.
        let text = Bytes::from(encode(&failure));
        format.serialize(text.clone()).unwrap_or(text)
    })
}

/// The failure in place of a result that its serializer cannot say.
pub fn unsayable(record: &ResultRecord, format: &Format, error: &BodyError) -> ResultRecord {
    let exception = unsayable_exception(format, error);
    let call =
        record.call.as_ref().map(|call| CallRecord { args: None, kwargs: None, stamps: None, ..(**call).clone() });
    ResultRecord {
        state: State::Failure,
        result: ResultValue::Exception(exception),
        traceback: None,
        call: call.map(Arc::new),
        ..record.clone()
    }
}

/// What is said in place of a value that its serializer cannot say.
pub fn unsayable_exception(format: &Format, error: &BodyError) -> Exception {
    let text = format!("{error}: the result of the task cannot be written as {}", format.serializer.as_str());
    Exception::new("kombu.exceptions", "EncodeError", [Json::text(&text)])
}

/// The document as Celery writes it.
pub fn encode(record: &ResultRecord) -> String {
    let mut document = MapWriter::new();
    document
        .put("status", record.state.as_str())
        .put("result", &record.result)
        .put("traceback", &record.traceback)
        .put("children", &record.children)
        .put("date_done", &record.date_done.map(Timestamp::isoformat))
        .put_some("group_id", record.group_id.as_ref())
        .put_some("parent_id", record.parent_id.as_ref());
    document.put_some(USAGE_FIELD, record.usage.map(|usage| usage.to_json()).as_ref());
    if let Some(call) = &record.call {
        put_call(&mut document, call);
    }
    document.put("task_id", record.id.as_str());
    document.finish_text()
}

fn put_call(document: &mut MapWriter, call: &CallRecord) {
    document
        .put("name", &call.name)
        .put("args", &call.args)
        .put("kwargs", &call.kwargs)
        .put("worker", &call.worker)
        .put("retries", &call.retries)
        .put("queue", &call.queue);
    if let Some((names, stamps)) = &call.stamps {
        document.put("stamped_headers", names);
        for (name, value) in stamps {
            document.put(name, value);
        }
    }
}

/// Before a document that Celery compressed (`result_compression`); then the mime type and a zero follow.
const COMPRESSED: &[u8] = b"\0celery-compressed\0";

/// Reads a document that we, or a Python worker, wrote in any serializer but `auth`. What is not there is
/// as for a task that nobody knows.
pub fn decode(stored: &[u8]) -> Result<StoredResult, BodyError> {
    decode_as(stored, &Format::default())
}

/// As [`decode`]. Where this host itself signs, nothing else is believed.
pub fn decode_as(stored: &[u8], format: &Format) -> Result<StoredResult, BodyError> {
    let bytes = uncompressed(stored)?;
    let serializer = match format.serializer {
        Serializer::Auth => Serializer::Auth,
        _ => serializer(&bytes),
    };
    let document = codec::deserialize(serializer, bytes, Codec::BODY_BYTES_MAX, format.seal.as_deref())?;
    if document.kind() != Kind::Map {
        return Err(JsonError::Syntax { what: "not an object", at: 0 }.into());
    }
    let mut stored = StoredResult {
        state: State::Pending,
        result: Json::null(),
        traceback: None,
        date_done: None,
        children: Json::null(),
        parent_id: None,
        call: Vec::new(),
    };
    for (key, value) in document.members() {
        let text = || value.text_lossy().map(|text| text.into_owned());
        match &*key {
            "status" => stored.state = value.text_lossy().map_or(State::Pending, |name| State::parse(&name)),
            "result" => stored.result = value,
            "traceback" => stored.traceback = text(),
            "date_done" => stored.date_done = text(),
            "children" => stored.children = value,
            "parent_id" => stored.parent_id = text(),
            key => {
                let mut known = CALL_FIELDS.iter().chain([&USAGE_FIELD]);
                if let Some(field) = known.find(|field| **field == key) {
                    stored.call.push((field, value));
                }
            }
        }
    }
    stored
        .call
        .sort_by_key(|(field, _)| CALL_FIELDS.iter().position(|known| known == field).unwrap_or(CALL_FIELDS.len()));
    Ok(stored)
}

/// Reads what a backend wrote beside result documents, in the same form: a part of a chord, a group.
pub fn decode_value(stored: &[u8], format: &Format) -> Result<Json, BodyError> {
    format.deserialize(&uncompressed(stored)?)
}

/// What a document was written with: a map begins differently in each.
fn serializer(document: &[u8]) -> Serializer {
    match document.first() {
        Some(0x80..=0x8f | 0xde | 0xdf) => Serializer::Msgpack,
        // YAML in flow style begins so as well, and cannot be told from JSON by its first byte; ours ends with
        // a new line, and nobody's JSON does.
        Some(b'{') if document.ends_with(b"\n") => Serializer::Yaml,
        Some(b'{') => Serializer::Json,
        // Every map in YAML has a colon, and base64 has none.
        Some(first) if first.is_ascii_alphabetic() && document.contains(&b':') => Serializer::Yaml,
        Some(first) if first.is_ascii_alphanumeric() => Serializer::Auth,
        _ => Serializer::Json,
    }
}

fn uncompressed(stored: &[u8]) -> Result<Bytes, BodyError> {
    let Some(compressed) = stored.strip_prefix(COMPRESSED) else { return Ok(Bytes::copy_from_slice(stored)) };
    let end = compressed.iter().position(|byte| *byte == 0).unwrap_or(compressed.len());
    let (name, payload) = compressed.split_at(end);
    let payload = payload.get(1..).unwrap_or_default();
    codec::decompress(&String::from_utf8_lossy(name), payload, Codec::BODY_BYTES_MAX).map(Bytes::from)
}

impl ToJson for ResultValue {
    fn write_json(&self, out: &mut String) {
        match self {
            Self::Json(value) => value.write_json(out),
            Self::Exception(exception) => exception.write_json(out),
        }
    }
}

impl ToJson for Exception {
    fn write_json(&self, out: &mut String) {
        let mut map = MapWriter::new();
        map.put("exc_type", &self.kind).put("exc_message", &self.arguments).put("exc_module", &self.module);
        out.push_str(&map.finish_text());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::name::TaskId;
    use crate::usage::Usage;

    fn record(state: State, result: ResultValue) -> ResultRecord {
        ResultRecord {
            id: TaskId::parse("t-1").expect("an id"),
            state,
            result,
            traceback: None,
            date_done: None,
            children: Json::empty_list(),
            group_id: None,
            parent_id: None,
            reply_to: None,
            correlation_id: None,
            call: None,
            usage: None,
        }
    }

    #[test]
    fn a_result_passes_through_untouched() {
        let result = Json::parse("[1e400,NaN,\"\\ud800\"]").expect("JSON");
        let written = encode(&ResultRecord {
            date_done: Some(Timestamp::from_micros(1_795_343_528_348_566)),
            children: Json::parse("[[[\"c\", null], null]]").expect("JSON"),
            group_id: Some("g".into()),
            parent_id: Some("p".into()),
            ..record(State::Success, ResultValue::Json(result.clone()))
        });
        assert_eq!(
            written,
            "{\"status\": \"SUCCESS\", \"result\": [1e400,NaN,\"\\ud800\"], \"traceback\": null, \
             \"children\": [[[\"c\", null], null]], \"date_done\": \"2026-11-22T10:32:08.348566+00:00\", \"group_id\": \"g\", \"parent_id\": \"p\", \
             \"task_id\": \"t-1\"}"
        );
        let stored = decode(written.as_bytes()).expect("a document");
        assert_eq!(stored.state, State::Success);
        assert_eq!(stored.result, result);
        assert_eq!(stored.children.as_str(), "[[[\"c\", null], null]]");
        assert_eq!(stored.date_done.as_deref(), Some("2026-11-22T10:32:08.348566+00:00"));
    }

    #[test]
    fn an_exception_is_a_map_of_three() {
        let exception = Exception::new("builtins", "KeyError", [Json::text("k")]);
        let written = encode(&ResultRecord {
            traceback: Some("Traceback\n".into()),
            ..record(State::Failure, ResultValue::Exception(exception))
        });
        assert_eq!(
            written,
            r#"{"status": "FAILURE", "result": {"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"}, "traceback": "Traceback\n", "children": [], "date_done": null, "task_id": "t-1"}"#
        );
        assert_eq!(decode(written.as_bytes()).expect("a document").traceback.as_deref(), Some("Traceback\n"));
    }

    #[test]
    fn what_an_attempt_used_is_one_more_member() {
        let usage = Usage {
            wall: Duration::from_millis(1500),
            cpu: Duration::from_millis(250),
            memory_bytes_peak: 1 << 20,
            host_calls: 7,
            bytes_in: 6,
            bytes_out: 1,
        };
        let call = Some(Arc::new(CallRecord::default()));
        let done = record(State::Success, ResultValue::Json(Json::int(4)));
        let written = encode(&ResultRecord { usage: Some(usage), call, ..done });
        let told = r#""usage": {"runtime": 1.5, "cpu": 0.25, "memory": 1048576, "host_calls": 7, "bytes_in": 6, "bytes_out": 1}"#;
        assert!(written.contains(told), "{written}");
        let stored = decode(written.as_bytes()).expect("a document");
        assert_eq!(stored.call.last(), Some(&("usage", usage.to_json())));
        assert_eq!(stored.call.first().map(|(name, _)| *name), Some("name"));
    }

    #[test]
    fn a_document_in_any_serializer_is_read() {
        let call =
            CallRecord { name: Some("tasks.add".into()), args: Some(Json::array([2, 2])), ..CallRecord::default() };
        let record =
            ResultRecord { call: Some(Arc::new(call)), ..record(State::Success, ResultValue::Json(Json::int(4))) };
        let expected = decode(encode(&record).as_bytes()).expect("a document");
        assert_eq!(expected.call[..2], [("name", Json::text("tasks.add")), ("args", Json::array([2, 2]))]);
        for serializer in [Serializer::Json, Serializer::Yaml, Serializer::Msgpack] {
            let written = encode_as(&record, &Format { serializer, seal: None });
            assert_eq!(decode(&written), Ok(expected.clone()), "{serializer:?}: {written:?}");
        }
    }

    #[test]
    fn a_result_that_its_serializer_cannot_say_is_a_failure() {
        let huge = Json::parse("9".repeat(30)).expect("a number");
        let record = record(State::Success, ResultValue::Json(huge));
        let stored =
            decode(&encode_as(&record, &Format { serializer: Serializer::Msgpack, seal: None })).expect("a document");
        assert_eq!(stored.state, State::Failure);
        let text = stored.result.to_string();
        assert!(text.contains("EncodeError") && text.contains("cannot be written as msgpack"), "{text}");
        let stored =
            decode(&encode_as(&record, &Format { serializer: Serializer::Yaml, seal: None })).expect("a document");
        assert_eq!((stored.state, stored.result), (State::Success, Json::parse("9".repeat(30)).expect("a number")));
    }

    #[test]
    fn what_a_document_lacks_is_unknown() {
        let stored = decode(b"{}").expect("a document");
        assert_eq!((stored.state, stored.result.is_null()), (State::Pending, true));
        let stored = decode(br#"{"status": "MINE", "extra": 1}"#).expect("a document");
        assert_eq!(stored.state, State::Custom("MINE".into()));
        assert!(decode(b"[]").is_err());
        assert!(decode(b"\x80\x04").is_err());
    }
}
