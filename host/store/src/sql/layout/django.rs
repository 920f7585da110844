//! The tables of django-celery-results, which a Django application reads as its models `TaskResult` and `GroupResult`
//! and as `AsyncResult` with the backend `django-db` (django_celery_results/{models,backends/database}.py of 2.6).
//!
//! They are made by Django's migrations and never here. How its `ChordCounter` is used is told beside the store
//! (`sql::counter`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use taskhost_core::protocol::codec::{BodyError, Format};
use taskhost_core::protocol::repr::{ARGUMENTS_CHARS_MAX, repr, repr_args};
use taskhost_core::record::CallRecord;
use taskhost_core::{Json, ResultRecord, State, StoredResult, Timestamp};

use super::{Layout, said_of};
use crate::cause::Cause;
use crate::sql::now;
use crate::sql::table::{Column, Kind, Over, Table, Which};
use crate::sql::value::{Row, Value};

const WORKER_CHARS_MAX: usize = 100;

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, over: Over::Written }
}

/// Those after `date_started` are for `result_extended` alone. `periodic_task_name` is Python's and stays its own.
const TASK: &[Column] = &[
    column("task_id", Kind::Varchar(255)),
    column("status", Kind::Varchar(50)),
    column("content_type", Kind::Varchar(128)),
    column("content_encoding", Kind::Varchar(64)),
    column("result", Kind::Text),
    column("date_done", Kind::Zoned),
    column("traceback", Kind::Text),
    column("meta", Kind::Text),
    Column { name: "date_created", kind: Kind::Zoned, over: Over::Kept },
    Column { name: "date_started", kind: Kind::Zoned, over: Over::KeptByNull },
    column("task_name", Kind::Varchar(255)),
    column("task_args", Kind::Text),
    column("task_kwargs", Kind::Text),
    column("worker", Kind::Varchar(WORKER_CHARS_MAX)),
];
const STATUS: usize = 1;

const GROUP: &[Column] = &[
    column("group_id", Kind::Varchar(255)),
    column("result", Kind::Text),
    column("content_type", Kind::Varchar(128)),
    column("content_encoding", Kind::Varchar(64)),
    column("date_done", Kind::Zoned),
    Column { name: "date_created", kind: Kind::Zoned, over: Over::Kept },
];

const COUNTER: &[Column] = &[
    column("group_id", Kind::Varchar(255)),
    column("sub_tasks", Kind::Text),
    column("count", Kind::Int),
    column("id", Kind::Int),
];

/// The layout.
pub(in crate::sql) struct DjangoTables {
    tasks: Table,
    groups: Table,
    counters: Table,
}

impl DjangoTables {
    pub(in crate::sql) fn new() -> Self {
        let table = |name: &str, columns, sticky| Table {
            schema: None,
            name: name.to_owned(),
            sequence: None,
            columns,
            sticky,
            done: "date_done",
        };
        Self {
            tasks: table("django_celery_results_taskresult", TASK, Some((STATUS, "SUCCESS"))),
            groups: table("django_celery_results_groupresult", GROUP, None),
            // It has no time, and its rows do not expire.
            counters: Table { done: "id", ..table("django_celery_results_chordcounter", COUNTER, None) },
        }
    }
}

impl Layout for DjangoTables {
    fn table(&self, which: Which) -> &Table {
        match which {
            Which::Tasks => &self.tasks,
            Which::Groups => &self.groups,
        }
    }

    fn makes_tables(&self) -> bool {
        false
    }

    fn counters(&self) -> Option<&Table> {
        Some(&self.counters)
    }

    fn lacking(&self) -> &'static str {
        "make its tables with `manage.py migrate django_celery_results` (django-celery-results 2.5 or later)"
    }

    fn state(&self) -> usize {
        STATUS
    }

    fn row(&self, record: &ResultRecord, format: &Format) -> Result<Row, BodyError> {
        let result = said_of(&record.result);
        let (content_type, content_encoding) = format.content_type();
        let meta = Json::object([("children", &record.children)]);
        let now = now();
        let started = if record.state == State::Started { Value::Time(now) } else { Value::Null };
        let mut values = Vec::with_capacity(TASK.len());
        values.extend([
            Value::Text(record.id.as_str().to_owned()),
            Value::Text(record.state.as_str().to_owned()),
            Value::Text(content_type.to_owned()),
            Value::Text(content_encoding.to_owned()),
            said(result, format)?,
            Value::Time(record.date_done.unwrap_or(now)),
            Value::text(record.traceback.clone()),
            said(meta.bytes(), format)?,
            Value::Time(now),
            started,
        ]);
        if let Some(call) = &record.call {
            values.extend(call_values(call, format)?);
        }
        Ok(Row { values })
    }

    fn stored(&self, row: Vec<Value>, format: &Format) -> Result<StoredResult, Cause> {
        let mut values = row.into_iter();
        let mut next = || values.next().unwrap_or(Value::Null);
        let (_id, status, content_type, encoding, result, done) = (next(), next(), next(), next(), next(), next());
        let (traceback, meta, _created, _started) = (next(), next(), next(), next());
        if text(content_type).is_some_and(|name| name == "application/x-python-serialize") {
            return Err(Cause::permanent("the result is a pickle, which a Python worker wrote"));
        }
        let is_binary = text(encoding).is_some_and(|encoding| encoding == "binary");
        let read = |value: Value| read(value, is_binary, format);
        let meta = read(meta)?.unwrap_or_else(Json::empty_map);
        let mut told = Vec::new();
        for (name, is_said) in [("name", false), ("args", true), ("kwargs", true), ("worker", false)] {
            let value = next();
            if is_said {
                told.extend(read(value)?.map(|json| (name, json)));
            } else {
                told.extend(text(value).map(|text| (name, Json::text(&text))));
            }
        }
        let state = text(status).map_or(State::Pending, |status| State::parse(&status));
        let done = match done {
            Value::Time(at) => Some(at.isoformat()),
            done => text(done).map(|done| Timestamp::parse(&done).map(Timestamp::isoformat).unwrap_or(done)),
        };
        Ok(StoredResult {
            result: read(result)?.unwrap_or_else(Json::null),
            traceback: text(traceback),
            // The column says when the row was written last.
            date_done: done.filter(|_| state.is_ready()),
            state,
            children: meta.get("children").unwrap_or_else(Json::null),
            // There is no column for it.
            parent_id: None,
            call: told,
        })
    }

    fn group_row(&self, group: &str, result: Bytes, format: &Format, now: Timestamp) -> Row {
        let (content_type, content_encoding) = format.content_type();
        let values = vec![
            Value::Text(group.to_owned()),
            packed(result, format),
            Value::Text(content_type.to_owned()),
            Value::Text(content_encoding.to_owned()),
            Value::Time(now),
            Value::Time(now),
        ];
        Row { values }
    }

    fn group(&self, row: Vec<Value>, format: &Format) -> Result<Option<Json>, Cause> {
        let mut values = row.into_iter().skip(1);
        let result = values.next().unwrap_or(Value::Null);
        let is_binary = values.nth(1).and_then(text).is_some_and(|encoding| encoding == "binary");
        read(result, is_binary, format)
    }
}

/// Arguments as Python shows them, and that as a text of the serializer (`_get_extended_properties`).
fn call_values(call: &CallRecord, format: &Format) -> Result<[Value; 4], BodyError> {
    let shown = |shown: Option<String>| shown.map_or(Ok(Value::Null), |shown| said(Json::text(&shown).bytes(), format));
    let worker = call.worker.as_ref().map(|worker| worker.chars().take(WORKER_CHARS_MAX).collect());
    Ok([
        Value::text(call.name.clone()),
        shown(call.args.as_ref().map(|args| repr_args(args, ARGUMENTS_CHARS_MAX)))?,
        shown(call.kwargs.as_ref().map(|kwargs| repr(kwargs, ARGUMENTS_CHARS_MAX)))?,
        Value::text(worker),
    ])
}

/// JSON in the form of a serializer, as text.
fn said(json: Bytes, format: &Format) -> Result<Value, BodyError> {
    Ok(packed(format.serialize(json)?, format))
}

/// What is no text is packed (`encode_content`).
fn packed(serialized: Bytes, format: &Format) -> Value {
    Value::Text(match format.content_type() {
        (_, "binary") => STANDARD.encode(&serialized),
        _ => String::from_utf8_lossy(&serialized).into_owned(),
    })
}

fn read(value: Value, is_binary: bool, format: &Format) -> Result<Option<Json>, Cause> {
    let Some(text) = text(value).filter(|text| !text.is_empty()) else { return Ok(None) };
    let bytes = match is_binary {
        true => STANDARD.decode(text).map_err(Cause::permanent)?.into(),
        false => Bytes::from(text),
    };
    format.deserialize(&bytes).map(Some).map_err(Cause::permanent)
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text),
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    }
}
