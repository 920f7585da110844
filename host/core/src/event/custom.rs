//! What a task tells monitors by itself (celery/app/task.py `send_event`).
//!
//! Whether anybody listens is unknown here, and to the task.

use crate::name::TaskId;
use crate::protocol::content::{Json, Kind};

/// Longest type of an event, in bytes: it becomes a routing key.
pub const KIND_BYTES_MAX: usize = 128;

/// What is said about tasks by the worker, and by nobody else.
const WORKERS: [&str; 10] = [
    "task-sent",
    "task-received",
    "task-started",
    "task-succeeded",
    "task-failed",
    "task-rejected",
    "task-revoked",
    "task-retried",
    "task-cancelled",
    "task-multi",
];

/// Fields that every event has.
const COMMON: [&str; 7] = ["type", "hostname", "pid", "clock", "timestamp", "utcoffset", "uuid"];

/// An event of a task's own.
#[derive(Debug, Clone, PartialEq)]
pub struct CustomEvent {
    id: TaskId,
    kind: Box<str>,
    fields: Json,
}

/// Why something is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CustomEventError {
    #[error(
        "`{kind}` is no type of an event: it is like task-indexed, of letters, digits, _ and - ({} at most)",
        KIND_BYTES_MAX
    )]
    Kind { kind: String },
    #[error("the worker itself says `{kind}`; a task's events have types of their own, such as task-indexed")]
    Taken { kind: String },
    #[error("the fields are no JSON object")]
    Fields,
    #[error("the field `{field}` is one that every event has")]
    Common { field: &'static str },
}

impl CustomEvent {
    /// Celery takes any type. Here it has a group and a name, since it is routed by them; what monitors believe
    /// about workers, and about the life of a task, is not for tasks to say.
    pub fn new(id: TaskId, kind: &str, fields: Json) -> Result<Self, CustomEventError> {
        let part = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        let is_kind =
            kind.len() <= KIND_BYTES_MAX && kind.split_once('-').is_some_and(|(group, name)| part(group) && part(name));
        if !is_kind {
            return Err(CustomEventError::Kind { kind: kind.chars().take(KIND_BYTES_MAX).collect() });
        }
        let folded = kind.to_ascii_lowercase();
        if folded.starts_with("worker-") || WORKERS.contains(&folded.as_str()) {
            return Err(CustomEventError::Taken { kind: kind.to_owned() });
        }
        if fields.kind() != Kind::Map {
            return Err(CustomEventError::Fields);
        }
        for field in COMMON {
            if fields.get(field).is_some() {
                return Err(CustomEventError::Common { field });
            }
        }
        Ok(Self { id, kind: kind.into(), fields })
    }

    /// The task that says it.
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    /// Its type.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What it says: a JSON object.
    pub fn fields(&self) -> &Json {
        &self.fields
    }

    /// True if it may travel among the events of tasks; others travel alone, by a key of their own.
    pub fn is_of_task(&self) -> bool {
        self.kind.starts_with("task-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, fields: &str) -> Result<CustomEvent, CustomEventError> {
        let id = TaskId::parse("t-1").expect("an id");
        CustomEvent::new(id, kind, Json::parse(fields.to_owned()).expect("JSON"))
    }

    #[test]
    fn a_task_says_what_it_likes_under_types_of_its_own() {
        assert!(event("task-indexed", r#"{"pages": 3}"#).is_ok_and(|event| event.is_of_task()));
        assert!(event("image-half-done", "{}").is_ok_and(|event| !event.is_of_task()));
    }

    #[test]
    fn what_workers_say_is_not_for_tasks_to_say() {
        for kind in ["task-failed", "task-sent", "worker-offline", "worker-x", "Task-Failed", "WORKER-online"] {
            assert_eq!(event(kind, "{}"), Err(CustomEventError::Taken { kind: kind.to_owned() }));
        }
    }

    #[test]
    fn a_type_that_cannot_be_routed_is_refused() {
        for kind in ["", "task", "task-", "-x", "task-a.b", "task-#", "t ask-x", "task-ü"] {
            assert_eq!(event(kind, "{}"), Err(CustomEventError::Kind { kind: kind.to_owned() }), "{kind}");
        }
        assert!(matches!(
            event(&format!("task-{}", "x".repeat(KIND_BYTES_MAX)), "{}"),
            Err(CustomEventError::Kind { .. })
        ));
    }

    #[test]
    fn fields_are_an_object_without_those_that_all_have() {
        assert_eq!(event("task-x", "[1]"), Err(CustomEventError::Fields));
        assert_eq!(event("task-x", r#"{"uu\u0069d": 1}"#), Err(CustomEventError::Common { field: "uuid" }));
    }
}
