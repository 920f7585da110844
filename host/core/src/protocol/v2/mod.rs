//! Task message protocol 2: headers and a body of `[args, kwargs, embed]`
//! (celery/app/amqp.py `as_task_v2`).

mod read;
mod write;

use std::time::Duration;

use crate::message::HeaderValue;

pub use read::decode;
pub(crate) use read::{decode_body, is_absent};
pub use write::{Call, message, retry};
pub(crate) use write::{body, is_brokers, replace_body};

/// What the third part of a body holds: other tasks that hang on this one.
pub(crate) const EMBED: [&str; 4] = ["callbacks", "errbacks", "chain", "chord"];

/// Celery's own headers, in the order in which it writes them, and those that it may add. All others
/// are the client's.
pub(crate) const HEADERS: [&str; 21] = [
    "lang",
    "task",
    "id",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "timelimit",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
    "compression",
    "meth",
];

/// A time limit as it travels: whole seconds as an integer.
pub(crate) fn seconds(limit: Option<Duration>) -> HeaderValue {
    match limit {
        None => HeaderValue::Null,
        Some(limit) if limit.subsec_nanos() == 0 => {
            HeaderValue::Int(i64::try_from(limit.as_secs()).unwrap_or(i64::MAX))
        }
        Some(limit) => HeaderValue::Double(limit.as_secs_f64()),
    }
}
