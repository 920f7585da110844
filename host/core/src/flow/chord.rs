//! What becomes of the body of a chord: published with the results of the header, or failed with the first of them
//! that is a failure (celery/backends/redis.py `on_chord_part_return`, celery/backends/base.py
//! `chord_error_from_stack`).

use rustc_hash::FxHashMap;

use crate::canvas::{Canvas, Ids, PartialCall, Sender};
use crate::chord::{self, ClaimedChord, Part};
use crate::exception::Exception;
use crate::name::TaskId;
use crate::protocol::content::{Json, Kind, ListWriter, MapWriter};
use crate::record::{ResultRecord, ResultValue, State};
use crate::request::Request;
use crate::settle::Step;
use crate::timestamp::Timestamp;

use super::failure::{Failed, Whose, call_errbacks, errbacks_of, fail_chain, kind_of};
use super::{Aftermath, Means, list};

/// How deep chords and groups may be bodies and members of each other.
const NESTED_MAX: u32 = 64;

/// What becomes of a body.
#[derive(Debug, PartialEq)]
pub(crate) enum Body {
    /// Published by these.
    Runs(Vec<Step>),
    Fails(Aftermath),
}

/// Why a chord has no list of results.
#[derive(Debug, Clone, PartialEq)]
pub struct Broken {
    /// What the body fails with.
    pub error: Exception,
    /// What caused that: members of a body that is a group fail with it.
    pub cause: Exception,
}

impl Broken {
    /// A failure without another behind it.
    pub fn plain(text: &str) -> Box<Self> {
        let error = chord_error(text);
        Box::new(Self { cause: error.clone(), error })
    }

    /// A member of the header failed.
    pub fn by(member: &TaskId, cause: Exception) -> Box<Self> {
        Box::new(Self { error: chord_error(&format!("Dependency {member} raised {}", cause.repr())), cause })
    }
}

fn chord_error(text: &str) -> Exception {
    Exception::new("celery.exceptions", "ChordError", [Json::text(text)])
}

impl Body {
    /// Of a chord all of whose parts are there.
    pub(crate) fn of(means: Means<'_>, request: &Request, claimed: &ClaimedChord, body: &Json, now: Timestamp) -> Self {
        unlocked(means, request, &claimed.group, body, join(claimed), now)
    }
}

/// What becomes of a body, now that the results of its header are there, or are known to never come.
pub(crate) fn unlocked(
    means: Means<'_>,
    request: &Request,
    group: &str,
    body: &Json,
    joined: Result<Json, Box<Broken>>,
    now: Timestamp,
) -> Body {
    let published = joined.and_then(|results| {
        let sender = Sender { request, settings: means.settings };
        let call = PartialCall { args: &[results], ..PartialCall::default() };
        let applied = Canvas::read(body).and_then(|canvas| sender.apply(&canvas, call, &mut Ids::of_chord(group), now));
        applied.map_err(|error| unpublished(&error.to_string()))
    });
    match published {
        Ok(applied) => Body::Runs(applied.steps),
        Err(broken) => Body::Fails(fail(means, request, group, body, &broken, now)),
    }
}

/// Why a body is not published.
pub(crate) fn unpublished(reason: &str) -> Box<Broken> {
    let cause = Exception::unpublished(reason);
    Box::new(Broken { error: chord_error(&format!("Callback error: {}", cause.repr())), cause })
}

/// The results of the header, in the shape of the header.
fn join(claimed: &ClaimedChord) -> Result<Json, Box<Broken>> {
    if let Some(reason) = &claimed.broken {
        return Err(Broken::plain(reason));
    }
    match &claimed.structure {
        Some(structure) => {
            let parts = claimed.parts.iter().map(|part| (&part.task, part)).collect();
            join_shape(&parts, structure, 0)
        }
        None => {
            let mut results = ListWriter::new();
            for part in &claimed.parts {
                match part.state {
                    State::Failure | State::Revoked => {
                        return Err(Broken::by(&part.task, Exception::read(&part.result)));
                    }
                    _ => results.push(&part.result),
                };
            }
            Ok(results.finish())
        }
    }
}

fn join_shape(parts: &FxHashMap<&TaskId, &Part>, tuple: &Json, depth: u32) -> Result<Json, Box<Broken>> {
    if depth > NESTED_MAX {
        return Err(Broken::plain("Join error: the header is nested too deep"));
    }
    if let Some(members) = chord::members(tuple) {
        let mut results = ListWriter::new();
        for member in &members {
            results.push(&join_shape(parts, member, depth + 1)?);
        }
        return Ok(results.finish());
    }
    let id = chord::leaf(tuple);
    let part = id.and_then(|id| parts.get(&id).copied());
    match part {
        Some(Part { state: State::Failure | State::Revoked, result, .. }) => {
            let cause = Exception::read(result);
            Err(Box::new(Broken { error: chord_error(&format!("Join error: {}", cause.repr())), cause }))
        }
        Some(part) => Ok(part.result.clone()),
        None => Err(Broken::plain("Join error: TimeoutError('The operation timed out.')")),
    }
}

/// What follows a body that will never run.
pub(crate) fn fail(
    means: Means<'_>,
    request: &Request,
    group: &str,
    body: &Json,
    broken: &Broken,
    now: Timestamp,
) -> Aftermath {
    let mut aftermath = Aftermath::default();
    let failure = Failed { exception: &broken.error, traceback: None, stores: true };
    let options = body.get("options").unwrap_or(Json::empty_map());
    let id = options.get("task_id").and_then(|id| TaskId::parse(&id.as_text()?).ok());
    if kind_of(body).as_deref() == Some("group") {
        // Whoever waits for a member is to hear what went wrong, and not that something did.
        let cause = Failed { exception: &broken.cause, ..failure };
        let of_group = errbacks_of(body);
        for (member, mut errbacks) in members(body) {
            errbacks.extend(of_group.iter().cloned());
            let children = call(means, request, &member, None, &once(errbacks), &cause, now, &mut aftermath);
            aftermath.records.push(record(member, &broken.cause, children, now));
        }
        aftermath.records.extend(id.map(|id| record(id, &broken.cause, Vec::new(), now)));
    } else {
        let id = id.unwrap_or_else(|| Ids::of_chord(group).next_id());
        let children = call(means, request, &id, Some(body), &errbacks_of(body), &failure, now, &mut aftermath);
        aftermath.records.push(record(id, &broken.error, children, now));
        // Whoever waits for a chord waits for its body.
        if kind_of(body).as_deref() == Some("chord") {
            fail_chain(
                means,
                body.get("kwargs").and_then(|it| it.get("body")).into_iter().collect(),
                &failure,
                now,
                &mut aftermath,
            );
        }
    }
    let chain = options.get("chain").map_or_else(Vec::new, |chain| list(&chain));
    fail_chain(means, chain, &failure, now, &mut aftermath);
    aftermath
}

/// Nobody has made a request for what never ran: errbacks that want one get what is known
/// (`_create_fake_task_request`). Gives the result tuples of the errbacks.
#[expect(clippy::too_many_arguments, reason = "whose errbacks, and all that they are told")]
fn call(
    means: Means<'_>,
    request: &Request,
    id: &TaskId,
    signature: Option<&Json>,
    errbacks: &[Json],
    failure: &Failed<'_>,
    now: Timestamp,
    aftermath: &mut Aftermath,
) -> Vec<Json> {
    if errbacks.is_empty() {
        return Vec::new();
    }
    let mut facts = MapWriter::new();
    facts.put("id", id.as_str()).put("errbacks", &Json::array(errbacks.iter().cloned()));
    match signature {
        Some(signature) => {
            for key in ["task", "args", "kwargs"] {
                facts.put(key, &signature.get(key));
            }
        }
        None => drop(facts.put("task", "unknown")),
    }
    let whose = Whose { id: id.to_string(), root_id: None, facts: facts.finish() };
    call_errbacks(means, request, errbacks, &whose, failure, now, aftermath)
}

/// The errbacks count as children of what never ran (`current_task_children`).
fn record(id: TaskId, exception: &Exception, children: Vec<Json>, now: Timestamp) -> ResultRecord {
    ResultRecord {
        id,
        state: State::Failure,
        result: ResultValue::Exception(exception.clone()),
        traceback: None,
        date_done: Some(now),
        children: Json::array(children),
        group_id: None,
        parent_id: None,
        reply_to: None,
        correlation_id: None,
        call: None,
        usage: None,
    }
}

/// Those that somebody may wait for when a group is published, each with its errbacks (`_result_errbacks`).
fn members(group: &Json) -> Vec<(TaskId, Vec<Json>)> {
    let mut found = Vec::new();
    let tasks = |of: &Json| of.get("kwargs").and_then(|it| it.get("tasks")).map_or_else(Vec::new, |it| list(&it));
    let mut waiting: Vec<Json> = tasks(group);
    waiting.reverse();
    while let Some(mut signature) = waiting.pop() {
        if kind_of(&signature).as_deref() == Some("group") {
            waiting.extend(tasks(&signature).into_iter().rev());
            continue;
        }
        let mut errbacks = Vec::new();
        for _ in 0..NESTED_MAX {
            errbacks.extend(errbacks_of(&signature));
            match signature.get("kwargs").and_then(|it| it.get("body")).filter(|it| it.kind() == Kind::Map) {
                Some(body) if kind_of(&signature).as_deref() == Some("chord") => signature = body,
                _ => break,
            }
        }
        if kind_of(&signature).as_deref() == Some("group") {
            let inner = members(&signature);
            errbacks.extend(inner.iter().flat_map(|(_, errbacks)| errbacks.iter().cloned()));
        }
        let id = signature.get("options").and_then(|options| options.get("task_id"));
        found.extend(id.and_then(|id| TaskId::parse(&id.as_text()?).ok()).map(|id| (id, errbacks)));
    }
    found
}

/// Each errback once.
fn once(errbacks: Vec<Json>) -> Vec<Json> {
    let mut seen: Vec<Json> = Vec::new();
    for errback in errbacks {
        if !seen.contains(&errback) {
            seen.push(errback);
        }
    }
    seen
}
