//! `celery.map` and `celery.starmap`: calls of one task, one after the other, within the attempt that asks for them.
//!
//! As in Celery they are calls of a function: no message, no retry and no event. What is sent within one is sent by
//! an execution with an id of its own, derived from that of the whole and its place in it: otherwise two of them would
//! send tasks of the same id.

use std::time::Duration;

use uuid::Uuid;

use crate::exception::Exception;
use crate::name::{TaskId, TaskName};
use crate::outcome::{Limit, Outcome};
use crate::protocol::content::{Json, Kind};
use crate::request::Request;

use super::Builtin;
use super::arguments::{Parameters, iterate, type_error, type_name};

/// The space of the ids of these calls; drawn once.
const CALLS: Uuid = Uuid::from_u128(0x1d0f_52c7_3b8e_4f6a_8a91_c06e_75d4_2b38);

/// Headers that say something about the whole, and nothing about one call.
const OF_THE_WHOLE: [&str; 5] = ["shadow", "argsrepr", "kwargsrepr", "group", "group_index"];

/// Calls that are to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    pub task: TaskName,
    items: Vec<Json>,
    /// Each element is a list of arguments, and not one.
    spreads: bool,
}

impl Mapping {
    /// What a `celery.map`, or a `celery.starmap`, asks for.
    pub fn read(builtin: Builtin, request: &Request) -> Result<Self, Exception> {
        const NAMES: &[&str] = &["task", "it"];
        const MAP: Parameters = Parameters::new("add_map_task.<locals>.xmap").required(NAMES);
        const STARMAP: Parameters = Parameters::new("add_starmap_task.<locals>.xstarmap").required(NAMES);
        let spreads = builtin == Builtin::Starmap;
        let mut values = if spreads { STARMAP.bind(request)? } else { MAP.bind(request)? }.into_iter().flatten();
        let (task, it) = (values.next().unwrap_or(Json::null()), values.next().unwrap_or(Json::null()));
        let task = task_of(&task)?;
        let items = iterate(&it);
        let items = items.ok_or_else(|| type_error(&format!("'{}' object is not iterable", type_name(&it))))?;
        Ok(Self { task, items, spreads })
    }

    /// How many calls there are.
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// A call of them, as a request that is part of `whole`.
    pub fn call(&self, whole: &Request, index: usize) -> Result<Request, Exception> {
        let args = match (&self.items[index], self.spreads) {
            (item, false) => Json::array([item]),
            (item, true) if item.kind() == Kind::List => item.clone(),
            (item, true) => {
                let (task, kind) = (&self.task, type_name(item));
                let text = format!("{task}() argument after * must be an iterable, not {kind}");
                Json::array(iterate(item).ok_or_else(|| type_error(&text))?)
            }
        };
        let name = format!("{} {index}\n{}", whole.replaced_task_nesting, whole.id);
        let id = Uuid::new_v5(&CALLS, name.as_bytes()).to_string();
        let mut call = whole.clone();
        call.message.headers.remove(|name| OF_THE_WHOLE.contains(&name));
        Ok(Request {
            id: TaskId::parse(&id).expect("a UUID is an id"),
            task: self.task.clone(),
            args,
            kwargs: Json::empty_map(),
            embed: Json::null(),
            retries: 0,
            eta: None,
            root_id: Some(whole.root_id.clone().unwrap_or_else(|| whole.id.to_string())),
            parent_id: Some(whole.id.to_string()),
            group_id: None,
            ignore_result: None,
            ..call
        })
    }

    /// What a call came to that did not succeed, as what the whole comes to: within a function there is nobody who
    /// could call it once more or put another in its place (celery/app/task.py `retry` with `called_directly`).
    pub fn end(&self, outcome: Outcome, time_limit: Duration, soft_time_limit: Option<Duration>) -> Outcome {
        match outcome {
            Outcome::Retry(wish) => match wish.cause {
                Some((cause, traceback)) => Outcome::Failure(cause, traceback),
                None => Outcome::Failure(
                    Exception::new("celery.exceptions", "Retry", [Json::text("Task can be retried")]),
                    None,
                ),
            },
            Outcome::Replaced(_) => {
                let text = format!("`{}` cannot be replaced: it runs within celery.map or celery.starmap", self.task);
                Outcome::Failure(Exception::new("builtins", "RuntimeError", [Json::text(&text)]), None)
            }
            Outcome::Unlocked(_) => {
                let text = format!("`{}` does not run within celery.map or celery.starmap", self.task);
                Outcome::Failure(Exception::new("builtins", "RuntimeError", [Json::text(&text)]), None)
            }
            // It had what was left of the time of the whole.
            Outcome::TimedOut(Limit::Hard(_)) => Outcome::TimedOut(Limit::Hard(time_limit)),
            Outcome::TimedOut(Limit::Soft(left)) => Outcome::TimedOut(Limit::Soft(soft_time_limit.unwrap_or(left))),
            other => other,
        }
    }
}

/// The task that a `celery.map` or `celery.starmap` calls; none of any other, or if it names none.
pub fn mapped_task(request: &Request) -> Option<TaskName> {
    let task = request.args.elements().next().or_else(|| request.kwargs.get("task"))?;
    task_of(&task).ok()
}

/// The task of a signature, which may be a name alone.
fn task_of(signature: &Json) -> Result<TaskName, Exception> {
    let name = match signature.kind() {
        Kind::Map => {
            signature.get("task").ok_or_else(|| Exception::new("builtins", "KeyError", [Json::text("task")]))?
        }
        _ => signature.clone(),
    };
    let parsed = name.as_text().and_then(|text| TaskName::parse(&text).ok());
    parsed.ok_or_else(|| Exception::new("celery.exceptions", "NotRegistered", [name]))
}
