//! `celery.chord_unlock`: brings a chord together where the result store does not. It looks at the results of the
//! header, again and again, until all are there.
//!
//! How the body is published, and what follows if it cannot run, is decided in [`crate::flow`].

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::chord;
use crate::exception::Exception;
use crate::flow::Broken;
use crate::name::TaskId;
use crate::outcome::{Outcome, RetryDelay, RetryRequest, Unlocked};
use crate::protocol::content::{Json, Kind, ListWriter};
use crate::record::{State, StoredResult};
use crate::request::Request;

use super::arguments::{Parameters, iterate, type_error, type_name};

/// How deep groups may lie within each other.
const NESTED_MAX: u32 = 64;

/// A chord that is to be looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Unlock {
    group: String,
    body: Json,
    /// Until the next look; none leaves it to the task.
    interval: Option<Duration>,
    /// Of looks after the first; none is no limit.
    max_retries: Option<u32>,
    /// The result tuples of the header's members.
    header: Vec<Json>,
}

/// What a look at the results of a header came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// One is not there, or not final.
    Unready,
    /// The store did not say.
    Failed(Exception),
    /// The store will never say.
    Impossible(Exception),
    /// All are final.
    Ready(FxHashMap<TaskId, StoredResult>),
}

impl Unlock {
    /// What the task was called with.
    pub fn read(request: &Request) -> Result<Self, Exception> {
        const UNLOCK: Parameters = Parameters::new("add_unlock_chord_task.<locals>.unlock_chord")
            .required(&["group_id", "callback"])
            .optional(&["interval", "max_retries", "result", "Result", "GroupResult", "result_from_tuple"])
            .bound()
            .with_others();
        let mut values = UNLOCK.bind(request)?.into_iter().map(|value| value.filter(|value| !value.is_null()));
        let mut next = || values.next().flatten();
        let (group, body, interval, max_retries, result) = (next(), next(), next(), next(), next());
        let result = result.unwrap_or(Json::null());
        let header = iterate(&result);
        let header = header.ok_or_else(|| type_error(&format!("'{}' object is not iterable", type_name(&result))))?;
        let not = |what: &str, value: &Json| type_error(&format!("{what} cannot be a '{}'", type_name(value)));
        let interval = match interval {
            None => None,
            Some(value) => match value.as_f64().map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0))) {
                Some(Ok(interval)) => Some(interval),
                _ => return Err(not("interval", &value)),
            },
        };
        let max_retries = match max_retries {
            None => None,
            Some(value) => match value.as_i64() {
                Some(count) => Some(u32::try_from(count.max(0)).unwrap_or(u32::MAX)),
                None => return Err(not("max_retries", &value)),
            },
        };
        let group = group.unwrap_or(Json::null());
        let group = group.text_lossy().ok_or_else(|| not("group_id", &group))?.into_owned();
        let body = body.unwrap_or(Json::null());
        if body.kind() != Kind::Map {
            return Err(not("callback", &body));
        }
        Ok(Self { group, body, interval, max_retries, header })
    }

    /// The id of the chord's header, and the signature of its body.
    pub fn into_chord(self) -> (String, Json) {
        (self.group, self.body)
    }

    /// The tasks whose results the body needs, in their order.
    pub fn members(&self) -> Result<Vec<TaskId>, Exception> {
        let mut members = Vec::with_capacity(self.header.len());
        for tuple in &self.header {
            collect(tuple, 0, &mut members)?;
        }
        Ok(members)
    }

    /// What the task comes to.
    pub fn end(self, request: &Request, look: Look) -> Outcome {
        let found = match look {
            Look::Ready(found) => found,
            Look::Unready => return self.retry(request, None),
            Look::Failed(exception) => return self.retry(request, Some(exception)),
            Look::Impossible(cause) => return self.fail(&cause.repr(), cause.clone(), Some(cause)),
        };
        let mut results = ListWriter::new();
        let mut joined = Ok(());
        for tuple in &self.header {
            match join(tuple, &found) {
                Ok(result) => drop(results.push(&result)),
                Err(broken) => {
                    joined = Err(broken);
                    break;
                }
            }
        }
        self.unlocked(joined.map(|()| results.finish()), None)
    }

    /// Once more, unless that was the last time: then nobody will look at this chord again, and its body fails.
    fn retry(self, request: &Request, asking: Option<Exception>) -> Outcome {
        if self.max_retries.is_some_and(|max| request.retries >= max) {
            let cause = asking.unwrap_or_else(|| Exception::max_retries_exceeded(request));
            let text = format!("chord_unlock could not be retried: {}", cause.repr());
            return self.fail(&text, cause.clone(), Some(cause));
        }
        Outcome::Retry(RetryRequest {
            cause: asking.map(|cause| (cause, None)),
            delay: self.interval.map_or(RetryDelay::Default, RetryDelay::Countdown),
            max_retries: self.max_retries,
            args: None,
            kwargs: None,
        })
    }

    fn fail(self, text: &str, cause: Exception, failure: Option<Exception>) -> Outcome {
        let error = Exception::new("celery.exceptions", "ChordError", [Json::text(text)]);
        self.unlocked(Err(Box::new(Broken { error, cause })), failure)
    }

    fn unlocked(self, joined: Result<Json, Box<Broken>>, failure: Option<Exception>) -> Outcome {
        Outcome::Unlocked(Box::new(Unlocked { group: self.group, body: self.body, joined, failure }))
    }
}

/// The ids in a result tuple.
fn collect(tuple: &Json, depth: u32, members: &mut Vec<TaskId>) -> Result<(), Exception> {
    let wrong = |what: &str| Err(Exception::new("builtins", "ValueError", [Json::text(what)]));
    if depth > NESTED_MAX {
        return wrong("the groups of the header lie too deep within each other");
    }
    match chord::members(tuple) {
        Some(inner) => inner.iter().try_for_each(|tuple| collect(tuple, depth + 1, members)),
        None => match chord::leaf(tuple) {
            Some(id) => {
                members.push(id);
                Ok(())
            }
            None => wrong("the header holds what is no result"),
        },
    }
}

/// The result of a member, or the list of those of a group; what breaks the chord, if one did not succeed
/// (celery/result.py `join`). Celery names the member only where its backend kept the failure in memory, which those
/// that need this task do not.
fn join(tuple: &Json, found: &FxHashMap<TaskId, StoredResult>) -> Result<Json, Box<Broken>> {
    if let Some(inner) = chord::members(tuple) {
        let mut results = ListWriter::new();
        for tuple in &inner {
            results.push(&join(tuple, found)?);
        }
        return Ok(results.finish());
    }
    let cause = match chord::leaf(tuple).and_then(|id| found.get(&id)) {
        Some(StoredResult { state: State::Success, result, .. }) => return Ok(result.clone()),
        Some(stored) => Exception::read(&stored.result),
        None => Exception::new("celery.exceptions", "TimeoutError", [Json::text("The operation timed out.")]),
    };
    let error = Exception::new("celery.exceptions", "ChordError", [Json::text(&cause.repr())]);
    Err(Box::new(Broken { error, cause }))
}
