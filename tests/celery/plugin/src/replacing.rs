//! Tasks that have others run in their place.

use serde_json::Value;
use taskhost::{Context, Json, Signature, TaskError, chain, group, task};

use crate::request::fact;

/// A call of one of the tests' tasks.
pub(crate) fn sig(task: &str) -> Signature {
    Signature::new(format!("t.integration.tasks.{task}"))
}

/// Has `add` run in its place.
#[task(name = "t.integration.tasks.add_replaced")]
pub(crate) fn add_replaced(x: Json, y: Json) -> Result<(), TaskError> {
    Err(TaskError::replace(&sig("add").args((x, y))))
}

/// Has a task that fails run in its place.
#[task(name = "t.integration.tasks.fail_replaced")]
pub(crate) fn fail_replaced(#[args] args: Vec<Json>) -> Result<(), TaskError> {
    Err(TaskError::replace(&sig("fail").args(args).immutable()))
}

/// Has itself run in its place so many times, and returns how deep each of them was.
#[task(name = "t.integration.tasks.record_replaced_task_nesting")]
pub(crate) fn record_replaced_task_nesting(
    context: &Context,
    replacements: u32,
    nesting: Option<Vec<Value>>,
) -> Result<Vec<Value>, TaskError> {
    let mut nesting = nesting.unwrap_or_default();
    nesting.push(fact(context, "replaced_task_nesting"));
    let Some(left) = replacements.checked_sub(1) else { return Ok(nesting) };
    let itself = sig("record_replaced_task_nesting").args((left, nesting));
    // With results by `rpc://` the one in its place answers the same client.
    Err(TaskError::replace(&itself.option("reply_to", fact(context, "reply_to"))))
}

/// Has `add` and then `identity` run in its place.
#[task(name = "t.integration.tasks.add_replaced_with_chain")]
pub(crate) fn add_replaced_with_chain(x: Json, y: Json) -> Result<(), TaskError> {
    Err(TaskError::replace(&chain([sig("add").args((x, y)), sig("identity")])))
}

/// Has a chain run in its place that passes its arguments on and in the end tells Redis.
#[task(name = "t.integration.tasks.replace_with_chain")]
pub(crate) fn replace_with_chain(#[args] args: Vec<Json>, link_msg: Option<Json>) -> Result<(), TaskError> {
    let chain = chain([sig("identity").args(args), sig("identity")]);
    Err(TaskError::replace(&chain.link(&echo(link_msg))))
}

/// Has a chain run in its place that fails and then tells Redis.
#[task(name = "t.integration.tasks.replace_with_chain_which_raises")]
pub(crate) fn replace_with_chain_which_raises(
    #[args] args: Vec<Json>,
    link_msg: Option<Json>,
) -> Result<(), TaskError> {
    let chain = chain([sig("identity").args(args), sig("raise_error")]);
    Err(TaskError::replace(&chain.link_error(&echo(link_msg))))
}

/// Tells Redis what it is told, or what it is called with.
fn echo(message: Option<Json>) -> Signature {
    match message {
        Some(message) => sig("redis_echo").args((message,)).immutable(),
        None => sig("redis_echo"),
    }
}

/// Would have nothing run in its place.
#[task(name = "t.integration.tasks.replace_with_empty_chain")]
pub(crate) fn replace_with_empty_chain(#[args] _ignored: Vec<Json>) -> Result<(), TaskError> {
    Err(TaskError::replace(&chain([])))
}

/// Has a chain run in its place that ends in a group.
#[task(name = "t.integration.tasks.replace_with_chain_which_contains_a_group")]
pub(crate) fn replace_with_chain_which_contains_a_group() -> Result<(), TaskError> {
    let add = |x| sig("add").args((x,));
    Err(TaskError::replace(&chain([sig("add").args((1, 2)), group([add(1), add(1)])])))
}

/// Has a group run in its place that adds a value to each of some.
#[task(name = "t.integration.tasks.add_to_all")]
pub(crate) fn add_to_all(nums: Vec<Json>, val: Json) -> Result<(), TaskError> {
    Err(TaskError::replace(&group(nums.iter().map(|num| sig("add").args((num, &val))))))
}

/// Has itself run once more after two others.
#[task(name = "t.integration.tasks.second_order_replace1")]
pub(crate) fn second_order_replace1(#[default = false] state: bool) -> Result<(), TaskError> {
    second_order("A", state, || chain([sig("second_order_replace2"), again("second_order_replace1")]))
}

/// Has itself run once more after another.
#[task(name = "t.integration.tasks.second_order_replace2")]
pub(crate) fn second_order_replace2(#[default = false] state: bool) -> Result<(), TaskError> {
    second_order("B", state, || chain([sig("redis_echo").args(("In/Out C",)), again("second_order_replace2")]))
}

fn second_order(name: &str, is_again: bool, others: impl Fn() -> Signature) -> Result<(), TaskError> {
    let way = if is_again { "Out" } else { "In" };
    crate::redis::push("redis-echo", &Json::from_value(&format!("{way} {name}"))?)?;
    if is_again { Ok(()) } else { Err(TaskError::replace(&others())) }
}

fn again(task: &str) -> Signature {
    sig(task).kwargs(serde_json::json!({"state": true})).immutable()
}

/// Has what it is given run in its place, with a stamp on it.
#[task(name = "t.integration.tasks.replace_with_stamped_task")]
pub(crate) fn replace_with_stamped_task(replace_with: Option<Signature>) -> Result<(), TaskError> {
    let other = replace_with.unwrap_or_else(|| sig("replaced_with_me"));
    Err(TaskError::replace(&other.stamp("StampOnReplace", "This is the replaced task")))
}
