//! What a failure leads to: the failure of the rest of the chain, parts in chords, errbacks
//! (celery/backends/base.py `mark_as_failure`, `_fail_chain`, `_call_task_errbacks`).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::canvas::{Canvas, Ids, PartialCall, Sender};
use crate::chord::ChordPart;
use crate::exception::Exception;
use crate::name::{TaskId, TaskName};
use crate::protocol::content::{Json, Kind};
use crate::record::{CallRecord, ResultRecord, ResultValue, State};
use crate::request::Request;
use crate::settle::ChordStep;
use crate::timestamp::Timestamp;

use super::{Aftermath, Embedded, Means, list, part};

/// How many steps of a chain, chords in it included, are followed.
const FOLLOWED_MAX: usize = 100_000;

/// A failure, and what is told about it.
pub(crate) struct Failed<'a> {
    pub(crate) exception: &'a Exception,
    pub(crate) traceback: Option<&'a str>,
    /// Failures are stored, and not only passed on.
    pub(crate) stores: bool,
}

/// What the failure of this request leads to, its own record aside.
pub(crate) fn failed(means: Means<'_>, request: &Request, failure: &Failed<'_>, now: Timestamp) -> Aftermath {
    let mut aftermath = Aftermath::default();
    if request.embed.is_null() {
        return aftermath;
    }
    let Embedded { errbacks, chain, chord, .. } = Embedded::of(&request.embed);
    let result = ResultValue::Exception(failure.exception.clone());
    aftermath.chord.extend(part(request, chord, State::Failure, result));
    fail_chain(means, chain, failure, now, &mut aftermath);
    if !errbacks.is_empty() {
        let whose = Whose {
            id: request.id.to_string(),
            root_id: request.root_id.clone(),
            facts: request.facts(&means.settings.node, request.time_limit, request.soft_time_limit),
        };
        call_errbacks(means, request, &errbacks, &whose, failure, now, &mut aftermath);
    }
    aftermath
}

/// Whoever waits for the rest of a chain hears of the failure, and a chord that it belongs to.
pub(super) fn fail_chain(
    means: Means<'_>,
    chain: Vec<Json>,
    failure: &Failed<'_>,
    now: Timestamp,
    aftermath: &mut Aftermath,
) {
    let mut elements = VecDeque::from(chain);
    for _ in 0..FOLLOWED_MAX {
        let Some(element) = elements.pop_front() else { return };
        let options = element.get("options").unwrap_or(Json::empty_map());
        let option = |key: &str| options.get(key).filter(|value| !value.is_null());
        let text = |key: &str| option(key).and_then(|value| value.as_text().map(|text| text.into_owned()));
        if let Some(id) = text("task_id").and_then(|id| TaskId::parse(&id).ok()) {
            let group_id = text("group_id");
            let result = ResultValue::Exception(failure.exception.clone());
            if failure.stores {
                aftermath.records.push(ResultRecord {
                    id: id.clone(),
                    state: State::Failure,
                    result: result.clone(),
                    traceback: failure.traceback.map(str::to_owned),
                    date_done: Some(now),
                    children: Json::empty_list(),
                    group_id: group_id.clone(),
                    parent_id: text("parent_id"),
                    reply_to: text("reply_to"),
                    correlation_id: None,
                    call: means.tells_calls.then(|| Arc::new(call_of(&element, &options))),
                    usage: None,
                });
            }
            // A part that has been counted before is not counted again.
            if let (Some(body), Some(group)) = (option("chord"), group_id) {
                let index = option("group_index").and_then(|index| index.as_i64());
                let part = ChordPart { group, task: id, index, state: State::Failure, result, is_new: false, body };
                aftermath.chord.push(ChordStep::Count(part));
            }
        }
        // A chord is done when its body is.
        if kind_of(&element).as_deref() == Some("chord")
            && let Some(body) = element.get("kwargs").and_then(|kwargs| kwargs.get("body"))
            && body.kind() == Kind::Map
        {
            elements.push_back(body);
        }
    }
}

/// The shape of a signature that is more than a task.
pub(super) fn kind_of(signature: &Json) -> Option<String> {
    signature.get("subtask_type")?.as_text().map(|kind| kind.into_owned())
}

fn call_of(element: &Json, options: &Json) -> CallRecord {
    let of = |key: &str| element.get(key).filter(|value| !value.is_null());
    let retries = options.get("retries").and_then(|retries| retries.as_i64());
    CallRecord {
        name: of("task").and_then(|task| task.as_text().map(|task| task.into_owned())),
        args: of("args"),
        kwargs: of("kwargs"),
        retries: Some(retries.and_then(|retries| u32::try_from(retries).ok()).unwrap_or(0)),
        ..CallRecord::default()
    }
}

/// Whose failure it is that errbacks are told of.
pub(super) struct Whose {
    pub(super) id: String,
    pub(super) root_id: Option<String>,
    /// The request, for errbacks that want it.
    pub(super) facts: Json,
}

/// Publishes errbacks, and gives their result tuples.
///
/// Those of our tasks that take it get the request, the exception and its traceback; all others the id of the task
/// that failed. In Celery the former are called on the spot; here they are tasks like any other.
pub(super) fn call_errbacks(
    means: Means<'_>,
    request: &Request,
    errbacks: &[Json],
    whose: &Whose,
    failure: &Failed<'_>,
    now: Timestamp,
    aftermath: &mut Aftermath,
) -> Vec<Json> {
    let sender = Sender { request, settings: means.settings };
    let mut ids = Ids::of_errbacks(&whose.id);
    let root_id = Some(whose.root_id.clone().unwrap_or_else(|| whose.id.clone()));
    let (told, by_id): (Vec<Json>, Vec<Json>) = errbacks.iter().cloned().partition(|it| takes_more(means, it));
    let exception = Json::of(failure.exception);
    let traceback = failure.traceback.map_or(Json::null(), Json::text);
    let (all, id) = ([whose.facts.clone(), exception, traceback], [Json::text(&whose.id)]);
    let call = |args| PartialCall {
        args,
        parent_id: Some(whose.id.clone()),
        root_id: root_id.clone(),
        ..PartialCall::default()
    };
    let mut children = Vec::new();
    let mut add = |applied: Result<crate::canvas::Applied, crate::signature::SignatureError>| match applied {
        Ok(applied) => {
            aftermath.after.extend(applied.steps);
            children.extend(applied.children);
        }
        Err(error) => aftermath.remarks.push(format!("an errback of task {} is not published: {error}", whose.id)),
    };
    for errback in &told {
        add(Canvas::read(errback).and_then(|it| sender.apply(&it, call(&all), &mut ids, now)));
    }
    if !by_id.is_empty() {
        match sender.apply_group(&by_id, call(&id), &mut ids, now) {
            // One of them cannot be published; the others are.
            Err(_) if by_id.len() > 1 => {
                for errback in &by_id {
                    add(Canvas::read(errback).and_then(|it| sender.apply(&it, call(&id), &mut ids, now)));
                }
            }
            applied => add(applied),
        }
    }
    children
}

/// True for one of our tasks that takes more than one argument, those aside that the signature brings.
fn takes_more(means: Means<'_>, errback: &Json) -> bool {
    let name = errback.get("task").and_then(|task| TaskName::parse(&task.as_text()?).ok());
    let Some(takes) = name.and_then(|name| means.catalog.get(&name)?.takes.as_ref()) else { return false };
    let immutable = errback.get("immutable").and_then(|it| it.as_bool()).unwrap_or(false);
    let own = |key: &str, kind: Kind, none: Json| match errback.get(key) {
        Some(value) if value.kind() == kind && !immutable => value,
        _ => none,
    };
    let args = own("args", Kind::List, Json::empty_list());
    let kwargs = own("kwargs", Kind::Map, Json::empty_map());
    takes.takes_more_than(1, &args, &kwargs)
}

/// The errbacks of a signature.
pub(super) fn errbacks_of(signature: &Json) -> Vec<Json> {
    signature.get("options").and_then(|options| options.get("link_error")).map_or_else(Vec::new, |it| list(&it))
}
