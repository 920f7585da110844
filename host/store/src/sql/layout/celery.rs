//! Celery's own tables, `celery_taskmeta` and `celery_tasksetmeta`
//! (celery/backends/database/models.py of 5.7).
//!
//! Older versions of Celery put a pickle into `result`, which is recognised and never opened.

use bytes::Bytes;
use taskhost_core::protocol::codec::{BodyError, Format};
use taskhost_core::record::{CALL_FIELDS, CallRecord};
use taskhost_core::{Json, ResultRecord, State, StoredResult, Timestamp};

use super::{Layout, said_of};
use crate::cause::Cause;
use crate::sql::table::{Column, Kind, Over, Table, Which};
use crate::sql::value::{Row, Value};

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, over: Over::Written }
}

/// Those after `children` are for `result_extended` alone. Stamps stay if a later state has none, as in Celery.
const TASK: &[Column] = &[
    column("task_id", Kind::Varchar(155)),
    column("status", Kind::Varchar(50)),
    column("result", Kind::Bytes),
    column("date_done", Kind::Time),
    column("traceback", Kind::Text),
    column("children", Kind::Bytes),
    column("name", Kind::Varchar(155)),
    column("args", Kind::Bytes),
    column("kwargs", Kind::Bytes),
    column("worker", Kind::Varchar(155)),
    column("retries", Kind::Int),
    column("queue", Kind::Varchar(155)),
    Column { name: "stamps", kind: Kind::Bytes, over: Over::KeptByNull },
];
const STATUS: usize = 1;

const GROUP: &[Column] =
    &[column("taskset_id", Kind::Varchar(155)), column("result", Kind::Bytes), column("date_done", Kind::Time)];

/// What operators may call them: `database_table_names` and `database_table_schemas`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableNames {
    pub task: Option<String>,
    pub group: Option<String>,
    pub task_schema: Option<String>,
    pub group_schema: Option<String>,
}

/// The layout.
pub(in crate::sql) struct CeleryTables {
    tasks: Table,
    groups: Table,
}

impl CeleryTables {
    pub(in crate::sql) fn new(names: &TableNames) -> Self {
        let TableNames { task, group, task_schema, group_schema } = names.clone();
        Self {
            tasks: Table {
                schema: task_schema,
                name: task.unwrap_or_else(|| "celery_taskmeta".to_owned()),
                sequence: Some("task_id_sequence"),
                columns: TASK,
                sticky: Some((STATUS, "SUCCESS")),
                done: "date_done",
            },
            groups: Table {
                schema: group_schema,
                name: group.unwrap_or_else(|| "celery_tasksetmeta".to_owned()),
                sequence: Some("taskset_id_sequence"),
                columns: GROUP,
                sticky: None,
                done: "date_done",
            },
        }
    }
}

impl Layout for CeleryTables {
    fn table(&self, which: Which) -> &Table {
        match which {
            Which::Tasks => &self.tasks,
            Which::Groups => &self.groups,
        }
    }

    fn state(&self) -> usize {
        STATUS
    }

    fn row(&self, record: &ResultRecord, format: &Format) -> Result<Row, BodyError> {
        let result = said_of(&record.result);
        let has_children = record.children.elements().next().is_some();
        let children = has_children.then(|| format.serialize(record.children.bytes())).transpose()?;
        let mut values = Vec::with_capacity(if record.call.is_some() { TASK.len() } else { 6 });
        values.extend([
            Value::Text(record.id.as_str().to_owned()),
            Value::Text(record.state.as_str().to_owned()),
            Value::Bytes(format.serialize(result)?),
            record.date_done.filter(|_| record.state.is_ready()).map_or(Value::Null, Value::Time),
            Value::text(record.traceback.clone()),
            Value::bytes(children),
        ]);
        if let Some(call) = &record.call {
            values.extend(call_values(call, format)?);
        }
        Ok(Row { values })
    }

    fn stored(&self, row: Vec<Value>, format: &Format) -> Result<StoredResult, Cause> {
        let mut values = row.into_iter();
        let mut next = || values.next().unwrap_or(Value::Null);
        let (_id, status, result, done, traceback, children) = (next(), next(), next(), next(), next(), next());
        let mut told = Vec::new();
        for name in CALL_FIELDS {
            match next() {
                Value::Text(text) => told.push((name, Json::text(&text))),
                Value::Int(number) => told.push((name, Json::int(number))),
                Value::Bytes(bytes) => told.push((name, parse(bytes, format)?)),
                Value::Null | Value::Time(_) => {}
            }
        }
        Ok(StoredResult {
            state: text(status).map_or(State::Pending, |status| State::parse(&status)),
            result: json(result, format)?.unwrap_or_else(Json::null),
            traceback: text(traceback),
            date_done: match done {
                Value::Time(at) => Some(at.isoformat()),
                done => text(done).map(|done| Timestamp::parse(&done).map(Timestamp::isoformat).unwrap_or(done)),
            },
            children: json(children, format)?.unwrap_or_else(Json::null),
            // There is no column for it.
            parent_id: None,
            call: told,
        })
    }

    fn group_row(&self, group: &str, result: Bytes, _: &Format, now: Timestamp) -> Row {
        Row { values: vec![Value::Text(group.to_owned()), Value::Bytes(result), Value::Time(now)] }
    }

    fn group(&self, row: Vec<Value>, format: &Format) -> Result<Option<Json>, Cause> {
        json(row.into_iter().nth(1).unwrap_or(Value::Null), format)
    }
}

fn call_values(call: &CallRecord, format: &Format) -> Result<[Value; 7], BodyError> {
    let serialized = |value: &Option<Json>| {
        let bytes = format.serialize(value.clone().unwrap_or_else(Json::null).bytes());
        bytes.map(Value::Bytes)
    };
    let stamps = match &call.stamps {
        None => Value::Null,
        Some((names, stamps)) => {
            let stamps = Json::object(stamps.iter().map(|(name, value)| (name, value)));
            let said = Json::object([("stamped_headers", names), ("stamps", &stamps)]);
            Value::Bytes(format.serialize(said.bytes())?)
        }
    };
    Ok([
        Value::text(call.name.clone()),
        serialized(&call.args)?,
        serialized(&call.kwargs)?,
        Value::text(call.worker.clone()),
        call.retries.map_or(Value::Null, |retries| Value::Int(retries.into())),
        Value::text(call.queue.clone()),
        stamps,
    ])
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// A value that was serialized. SQLite lets others put text where bytes belong.
fn json(value: Value, format: &Format) -> Result<Option<Json>, Cause> {
    match value {
        Value::Bytes(bytes) => parse(bytes, format).map(Some),
        Value::Text(text) => parse(text.into(), format).map(Some),
        _ => Ok(None),
    }
}

fn parse(result: Bytes, format: &Format) -> Result<Json, Cause> {
    // An empty map of msgpack begins so as well, and is nothing but that.
    if result.len() > 1 && result.first() == Some(&0x80) {
        return Err(Cause::permanent("the result is a pickle, which a worker before Celery 5.7 wrote"));
    }
    format.deserialize(&result).map_err(Cause::permanent)
}
