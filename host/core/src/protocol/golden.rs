//! What Celery and kombu wrote (`testdata`, made by tests/fixtures/capture_golden.py) is read, and what
//! we write is the same.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::exception::Exception;
use crate::message::{DeliveryInfo, HeaderValue, Headers, Message, Properties, Route};
use crate::name::{QueueName, TaskId};
use crate::protocol::codec::{Codec, Compression, CompressionError, Format, Serializer};
use crate::protocol::content::{Json, MapWriter, header_value};
use crate::protocol::v2::Call;
use crate::protocol::{document, envelope, v2};
use crate::record::{CallRecord, ResultRecord, ResultValue, State};
use crate::request::Request;
use crate::timestamp::Timestamp;

const MESSAGES: &str = include_str!("../../testdata/messages.json");
const PROTOCOL_1: &str = include_str!("../../testdata/protocol1.json");
const RETRIES: &str = include_str!("../../testdata/retries.json");
const DOCUMENTS: &str = include_str!("../../testdata/documents.json");
const SERIALIZED_DOCUMENTS: &str = include_str!("../../testdata/serialized_documents.json");
const SERIALIZED: &str = include_str!("../../testdata/serialized.json");
const COMPRESSIONS: &str = include_str!("../../testdata/compressions.json");
const COMPRESSED_DOCUMENTS: &str = include_str!("../../testdata/compressed_documents.json");

/// Celery's own `saferepr` shows these arguments in its own way.
const SHOWN_DIFFERENTLY: [&str; 4] = ["unicode", "lone surrogates", "typed values", "nesting of 300"];

fn cases(file: &'static str) -> Vec<Json> {
    let file = Json::parse_wrapped(Bytes::from_static(file.as_bytes())).expect("a golden file is JSON");
    file.get("cases").expect("a golden file has cases").elements().collect()
}

fn text(case: &Json, key: &str) -> String {
    optional_text(case, key).unwrap_or_else(|| panic!("`{key}` in {case}"))
}

fn optional_text(case: &Json, key: &str) -> Option<String> {
    Some(case.get(key)?.as_text()?.into_owned())
}

/// The message as AMQP carries it.
fn message(case: &Json) -> Message {
    let properties = case.get("properties").expect("properties");
    let small = |key| properties.get(key).and_then(|value| value.as_i64()).and_then(|value| u8::try_from(value).ok());
    let headers = case.get("headers").expect("headers");
    Message {
        properties: Properties {
            content_type: optional_text(&properties, "content_type"),
            content_encoding: optional_text(&properties, "content_encoding"),
            correlation_id: optional_text(&properties, "correlation_id"),
            reply_to: optional_text(&properties, "reply_to"),
            delivery_mode: small("delivery_mode"),
            priority: small("priority"),
            expiration: optional_text(&properties, "expiration"),
            app_id: optional_text(&properties, "app_id"),
        },
        headers: Headers(headers.members().map(|(name, value)| (name.into(), header_value(value.raw()))).collect()),
        body: optional_text(case, "body").map_or_else(|| unpacked(case, "body_base64"), Bytes::from),
    }
}

fn unpacked(case: &Json, key: &str) -> Bytes {
    STANDARD.decode(text(case, key)).expect("base64").into()
}

fn delivery() -> DeliveryInfo {
    DeliveryInfo {
        queue: QueueName::parse("celery").expect("a name"),
        exchange: String::new(),
        routing_key: "celery".to_owned(),
        redelivered: false,
    }
}

/// Reads whatever Celery writes.
fn codec() -> Codec {
    Codec { accept: vec![Serializer::Json, Serializer::Yaml, Serializer::Msgpack], ..Codec::default() }
}

fn now() -> Timestamp {
    Timestamp::parse("2026-11-22T10:32:08.348566+00:00").expect("a time")
}

/// The call that should make this message.
fn call(request: &Request) -> Call {
    let headers = &request.message.headers;
    let text = |key| match headers.get(key) {
        Some(HeaderValue::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let group_index = match headers.get("group_index") {
        Some(HeaderValue::Int(index)) => u32::try_from(*index).ok(),
        _ => None,
    };
    let properties = &request.message.properties;
    Call {
        args: request.args.clone(),
        kwargs: request.kwargs.clone(),
        embed: request.embed.clone(),
        shadow: text("shadow"),
        eta: request.eta,
        expires: request.expires,
        group_id: request.group_id.clone(),
        group_index,
        retries: request.retries,
        time_limit: request.time_limit,
        soft_time_limit: request.soft_time_limit,
        root_id: request.root_id.clone(),
        parent_id: request.parent_id.clone(),
        ignore_result: request.ignore_result,
        replaced_task_nesting: request.replaced_task_nesting,
        reply_to: properties.reply_to.clone(),
        priority: properties.priority,
        headers: headers.0.iter().filter(|(name, _)| !v2::HEADERS.contains(&name.as_str())).cloned().collect(),
        ..Call::new(request.task.clone(), request.id.clone(), text("origin").expect("an origin"))
    }
}

#[test]
fn messages_of_celery_are_read() {
    for case in cases(MESSAGES) {
        let name = text(&case, "name");
        let message = message(&case);
        let request =
            Request::decode(message.clone(), delivery(), &codec()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let parts = [&request.args, &request.kwargs, &request.embed].map(Json::as_str).join(", ");
        assert_eq!(format!("[{parts}]").as_bytes(), message.body, "{name}");
        let mut read = MapWriter::new();
        read.put("id", request.id.as_str())
            .put("task", request.task.as_str())
            .put("retries", &request.retries)
            .put("root_id", &request.root_id)
            .put("parent_id", &request.parent_id)
            .put("group", &request.group_id)
            .put("timelimit", &limits(&request))
            .put("ignore_result", &request.ignore_result)
            .put("replaced_task_nesting", &request.replaced_task_nesting);
        for (key, value) in read.finish().members() {
            assert_eq!(Some(&header_value(value.raw())), message.headers.get(&key), "{name}: {key}");
        }
    }
}

#[test]
fn we_write_messages_as_celery_does() {
    for case in cases(MESSAGES) {
        let name = text(&case, "name");
        let mut expected = message(&case);
        // Stamps are nothing that we send, times we write in UTC, and arguments we always show as a tuple.
        if matches!(name.as_str(), "stamps" | "eta in another zone" | "sent by name") {
            continue;
        }
        let request = Request::decode(expected.clone(), delivery(), &codec()).expect("a request");
        let written = v2::message(&call(&request), now());
        if SHOWN_DIFFERENTLY.contains(&name.as_str()) {
            for key in ["argsrepr", "kwargsrepr"] {
                expected.headers.set(key, written.headers.get(key).expect("it is always written").clone());
            }
        }
        assert_eq!(written, expected, "{name}");
    }
}

#[test]
fn envelopes_of_kombu_are_read_and_written() {
    for case in cases(MESSAGES).into_iter().chain(cases(PROTOCOL_1)) {
        let name = text(&case, "name");
        let captured = text(&case, "envelope");
        let read = envelope::decode(captured.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read.message, message(&case), "{name}");
        assert_eq!(read.route, Route { exchange: String::new(), routing_key: "celery".into() }, "{name}");
        let tag = read.delivery_tag.expect("kombu writes a tag");
        assert_eq!(envelope::encode(&read.message, &read.route, &tag), captured, "{name}");
    }
}

#[test]
fn retries_are_the_messages_that_celery_sends() {
    for case in cases(RETRIES) {
        let name = text(&case, "name");
        let [original, again] = ["original", "retry"].map(|key| message(&case.get(key).expect("both are there")));
        let request = Request::decode(original, delivery(), &codec()).expect("a request");
        let expected = Request::decode(again, delivery(), &codec()).expect("a request");
        let is_new = name == "new arguments";
        let [args, kwargs] = [&expected.args, &expected.kwargs].map(|part| is_new.then_some(part));
        assert_eq!(v2::retry(&request, expected.eta, args, kwargs, now()), expected.message, "{name}");
    }
}

#[test]
fn messages_of_protocol_1_are_read() {
    for case in cases(PROTOCOL_1) {
        let name = text(&case, "name");
        let message = message(&case);
        let body = Json::parse(message.body.clone()).expect("JSON");
        let request = Request::decode(message, delivery(), &codec()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let member = |key: &str| body.get(key).expect("Celery writes every member");
        assert_eq!(request.id.as_str(), text(&body, "id"), "{name}");
        assert_eq!([&request.args, &request.kwargs], [&member("args"), &member("kwargs")], "{name}");
        assert_eq!(request.group_id, optional_text(&body, "taskset"), "{name}");
        assert_eq!(request.eta, optional_text(&body, "eta").map(|eta| Timestamp::parse(&eta).expect("a time")));
        assert_eq!(header_value(member("timelimit").raw()), limits(&request), "{name}");
        for key in ["callbacks", "errbacks", "chord"] {
            assert_eq!(request.embed.get(key), Some(member(key)), "{name}: {key}");
        }
        let again = Request::decode(request.message.clone(), delivery(), &codec()).expect("a message of protocol 2");
        assert_eq!(again, request, "{name}");
    }
}

fn limits(request: &Request) -> HeaderValue {
    HeaderValue::List([request.time_limit, request.soft_time_limit].map(v2::seconds).to_vec())
}

#[test]
fn we_write_result_documents_as_celery_does() {
    for case in cases(DOCUMENTS) {
        let name = text(&case, "name");
        let captured = text(&case, "document");
        let stored = document::decode(captured.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(stored.state, State::parse(&text(&case, "state")), "{name}");
        let record = ResultRecord {
            id: TaskId::parse(&text(&case, "id")).expect("an id"),
            state: stored.state.clone(),
            result: match (stored.result.get("exc_type"), stored.result.get("exc_message")) {
                (Some(kind), Some(arguments)) => ResultValue::Exception(Exception {
                    kind: kind.as_text().expect("a text").into_owned(),
                    module: optional_text(&stored.result, "exc_module"),
                    arguments,
                }),
                _ => ResultValue::Json(stored.result.clone()),
            },
            traceback: stored.traceback.clone(),
            date_done: stored.date_done.as_deref().map(|at| Timestamp::parse(at).expect("a time")),
            children: Json::empty_list(),
            group_id: optional_text(&case, "group"),
            parent_id: optional_text(&case, "parent_id"),
            reply_to: None,
            correlation_id: None,
            call: called(&case),
            usage: None,
        };
        assert_eq!(document::encode(&record), captured, "{name}");
    }
}

/// What `result_extended` stores of the call of this case.
fn called(case: &Json) -> Option<Arc<CallRecord>> {
    let document = Json::parse(text(case, "document")).expect("JSON");
    document.get("worker")?;
    let call = case.get("call").filter(|call| !call.is_null());
    let Some(call) = call else { return Some(Arc::default()) };
    let stamps = call.get("stamps").map(|stamps| {
        let names = call.get("stamped_headers").expect("they come together");
        let is_named = |name: &str| names.elements().any(|it| it.as_text().as_deref() == Some(name));
        let said = |name: &str| document.get(name).expect("every named stamp is there");
        let named =
            stamps.members().filter(|(name, _)| is_named(name)).map(|(name, _)| (name.to_string(), said(&name)));
        (said("stamped_headers"), named.collect())
    });
    Some(Arc::new(CallRecord {
        name: optional_text(&call, "task"),
        // The case is printed over several lines, and the document is not.
        args: document.get("args"),
        kwargs: document.get("kwargs"),
        worker: optional_text(&call, "hostname"),
        retries: call.get("retries").and_then(|retries| u32::try_from(retries.as_i64()?).ok()),
        queue: call.get("delivery_info").and_then(|info| optional_text(&info, "routing_key")),
        stamps,
    }))
}

#[test]
fn result_documents_in_other_forms_are_read_and_msgpack_is_written_the_same() {
    for case in cases(SERIALIZED_DOCUMENTS) {
        let name = text(&case, "name");
        let captured = unpacked(&case, "document");
        let said = text(&case, "said");
        let read = document::decode(&captured).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(Ok(read), document::decode(said.as_bytes()), "{name}");
        let format = Format { serializer: Serializer::parse(&name).expect("a serializer"), seal: None };
        let written = format.serialize(said.into()).expect("it can be said");
        assert!(name != "msgpack" || written == captured, "{name}");
    }
}

#[test]
fn messages_in_other_forms_are_read_as_the_json_that_says_the_same() {
    for case in cases(SERIALIZED) {
        let name = text(&case, "name");
        let message = message(&case);
        let request =
            Request::decode(message.clone(), delivery(), &codec()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(request.args.as_str(), text(&case, "args"), "{name}");
        assert_eq!(request.kwargs.as_str(), text(&case, "kwargs"), "{name}");
        assert_eq!(request.embed.get("chord"), Some(Json::null()), "{name}");

        let unchanged = v2::retry(&request, None, None, None, now());
        assert_eq!(unchanged.body, message.body, "{name}");
        assert_eq!(unchanged.properties.content_type, message.properties.content_type, "{name}");
        let changed = v2::retry(&request, None, Some(&Json::array([1])), None, now());
        let again = Request::decode(changed, delivery(), &Codec::default()).expect("JSON that is not compressed");
        assert_eq!((again.args.as_str(), &again.kwargs), ("[1]", &request.kwargs), "{name}");
        assert_eq!(again.embed, request.embed, "{name}");
    }
}

#[test]
fn compressed_bodies_are_read_up_to_the_limit() {
    for case in cases(COMPRESSIONS) {
        let name = text(&case, "name");
        let compression = Compression::parse(&text(&case, "compression")).expect("kombu's name of it");
        let length = case.get("bytes").and_then(|bytes| bytes.as_i64()).and_then(|bytes| usize::try_from(bytes).ok());
        let (body, length) = (unpacked(&case, "body"), length.expect("a length"));
        let read = compression.decompress(&body, length).unwrap_or_else(|error| panic!("{name}: {error}"));
        let digest: String = Sha256::digest(&read).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((read.len(), digest), (length, text(&case, "sha256")), "{name}");
        if length == 0 {
            continue;
        }
        let bytes_max = length - 1;
        assert_eq!(compression.decompress(&body, bytes_max), Err(CompressionError::TooLarge { bytes_max }), "{name}");
        for end in [0, 1, body.len() / 2, body.len() - 1] {
            // Of two streams the first may be all there is.
            let cut = compression.decompress(&body[..end], length);
            assert!(cut.is_err() || name.contains("two streams"), "{name} cut off at {end}");
        }
    }
}

#[test]
fn compressed_result_documents_are_read() {
    let expected = Json::array(0..100);
    for case in cases(COMPRESSED_DOCUMENTS) {
        let stored = unpacked(&case, "document");
        assert!(stored.starts_with(b"\0celery-compressed\0"));
        let read = document::decode(&stored).unwrap_or_else(|error| panic!("{}: {error}", text(&case, "name")));
        assert_eq!((read.state, read.result), (State::Success, expected.clone()));
        assert!(document::decode(&stored[..stored.len() - 9]).is_err());
    }
    let error =
        document::decode(b"\0celery-compressed\0application/x-snappy\0...").map(|_| ()).map_err(|it| it.to_string());
    assert_eq!(
        error,
        Err("compressed with application/x-snappy: `application/x-snappy` is not a compression that this host reads"
            .into())
    );
}

/// Steps of Knuth's MMIX generator.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

/// The bytes with some of them changed, and perhaps not all of them.
fn spoilt(bytes: &[u8], state: &mut u64) -> Vec<u8> {
    let mut spoilt = bytes.to_vec();
    for _ in 0..=random(state) % 4 {
        if spoilt.is_empty() {
            break;
        }
        let at = random(state) % spoilt.len();
        match random(state) % 4 {
            0 => spoilt.truncate(at),
            1 => spoilt.insert(at, random(state) as u8),
            _ => spoilt[at] = random(state) as u8,
        }
    }
    spoilt
}

#[test]
fn spoilt_bodies_are_read_or_refused_and_nothing_else() {
    const ROUNDS: usize = 40;
    const BYTES_MAX: usize = 1 << 17;
    let codec = Codec { body_bytes_max: BYTES_MAX, ..codec() };
    let mut state = 1;
    for case in cases(SERIALIZED) {
        let message = message(&case);
        for _ in 0..ROUNDS {
            let body = spoilt(&message.body, &mut state).into();
            if let Ok(request) = Request::decode(Message { body, ..message.clone() }, delivery(), &codec) {
                assert!(request.args.byte_len() <= BYTES_MAX);
            }
        }
    }
    for case in cases(COMPRESSIONS) {
        let compression = Compression::parse(&text(&case, "compression")).expect("kombu's name of it");
        let body = unpacked(&case, "body");
        for _ in 0..ROUNDS {
            let read = compression.decompress(&spoilt(&body, &mut state), BYTES_MAX);
            assert!(read.is_err() || read.is_ok_and(|read| read.len() <= BYTES_MAX));
        }
    }
    let compressions = [None, Some("gzip"), Some("bzip2"), Some("brotli"), Some("xz"), Some("zstd")];
    for round in 0..ROUNDS * 20 {
        let length = random(&mut state) % 64;
        let body: Vec<u8> = (0..length).map(|_| random(&mut state) as u8).collect();
        let mut message = Message { body: body.into(), ..Message::default() };
        message.headers.set("task", HeaderValue::Text("t".into()));
        message.headers.set("id", HeaderValue::Text("1".into()));
        if let Some(name) = compressions[round % compressions.len()] {
            message.headers.set("compression", HeaderValue::Text(name.into()));
        }
        for content_type in ["json", "yaml", "msgpack", "pickle", "application/data"] {
            message.properties.content_type = Some(content_type.into());
            assert!(Request::decode(message.clone(), delivery(), &codec).is_err(), "{:?}", message.body);
        }
    }
}
