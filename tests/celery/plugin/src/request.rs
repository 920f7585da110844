//! Tasks that tell what they know about their call.

use serde_json::{Value, json};
use taskhost::{Context, Json, task};

/// Returns the ids of root and parent beside its argument.
#[task(name = "t.integration.tasks.ids")]
pub(crate) fn ids(context: &Context, i: Json) -> (Value, Value, Json) {
    (fact(context, "root_id"), fact(context, "parent_id"), i)
}

/// Adds its own ids to those of the tasks before it.
#[task(name = "t.integration.tasks.collect_ids")]
pub(crate) fn collect_ids(context: &Context, res: Json, i: Json) -> (Json, (Value, Value, Json)) {
    (res, ids(context, i))
}

/// Returns the priority of its message, in words.
#[task(name = "t.integration.tasks.return_priority")]
pub(crate) fn return_priority(context: &Context, #[args] _ignored: Vec<Json>) -> String {
    match &context.request()["delivery_info"]["priority"] {
        Value::Null => "Priority: None".to_owned(),
        priority => format!("Priority: {priority}"),
    }
}

/// Returns when it was to run.
#[task(name = "t.integration.tasks.return_request_eta")]
pub(crate) fn return_request_eta(context: &Context) -> Value {
    fact(context, "eta")
}

/// Returns the properties of its message.
#[task(name = "t.integration.tasks.return_properties")]
pub(crate) fn return_properties(context: &Context) -> Value {
    fact(context, "properties")
}

/// Returns how long it may run.
#[task(name = "t.integration.tasks.return_request_time_limits")]
pub(crate) fn return_request_time_limits(context: &Context) -> Value {
    json!({
        "time_limit": fact(context, "time_limit"),
        "soft_time_limit": fact(context, "soft_time_limit"),
    })
}

/// The same, where the task has said it.
#[task(name = "t.integration.tasks.task_with_declared_time_limits", time_limit = 60, soft_time_limit = 45)]
pub(crate) fn task_with_declared_time_limits(context: &Context) -> Value {
    return_request_time_limits(context)
}

pub(crate) fn fact(context: &Context, name: &str) -> Value {
    context.request()[name].clone()
}
