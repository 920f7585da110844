//! `celery.chunks`, `celery.group` and `celery.chord`: tasks that publish what is in their arguments. Clients send
//! canvases that are taken apart already; these are what old ones sent, and what somebody asks for by name.

use crate::canvas::{Applied, Canvas, Ids, PartialCall, Sender};
use crate::exception::Exception;
use crate::protocol::content::{Json, Kind, MapWriter};
use crate::timestamp::Timestamp;

use super::Builtin;
use super::arguments::{Parameters, iterate, type_error, type_name};

/// What one of them publishes. Others publish nothing.
pub fn publish(builtin: Builtin, sender: &Sender<'_>, now: Timestamp) -> Result<Applied, Exception> {
    match builtin {
        Builtin::Chunks => chunks(sender, now),
        Builtin::Group => group(sender, now),
        Builtin::Chord => chord(sender, now),
        _ => Ok(Applied { steps: Vec::new(), result: Json::null(), children: Vec::new() }),
    }
}

fn chunks(sender: &Sender<'_>, now: Timestamp) -> Result<Applied, Exception> {
    const CHUNKS: Parameters = Parameters::new("add_chunk_task.<locals>.chunks").required(&["task", "it", "n"]);
    let [task, it, n] = values(CHUNKS.bind(sender.request)?);
    let items = looped(&it)?;
    if type_name(&n) != "int" {
        return Err(type_error(&format!("unsupported operand type(s) for -: '{}' and 'int'", type_name(&n))));
    }
    if n.as_i64().is_none_or(|n| n < 1) {
        let text = "Stop argument for islice() must be None or an integer: 0 <= x <= sys.maxsize.";
        return Err(Exception::new("builtins", "ValueError", [Json::text(text)]));
    }
    let kwargs = Json::object([("task", task), ("it", Json::array(items)), ("n", n)]);
    apply(sender, &composite("celery.chunks", "chunks", kwargs, Json::empty_map()), &[], 0, now)
}

/// The ids of the members and of the whole are known to whoever asks.
fn group(sender: &Sender<'_>, now: Timestamp) -> Result<Applied, Exception> {
    const GROUP: Parameters = Parameters::new("add_group_task.<locals>.group")
        .required(&["tasks", "result", "group_id", "partial_args"])
        .optional(&["add_to_parent"])
        .bound();
    let [tasks, result, group_id, partial_args, add_to_parent] = values(GROUP.bind(sender.request)?);
    let partial_args = looped(&partial_args)?;
    let mut steps = Vec::new();
    for (index, task) in looped(&tasks)?.iter().enumerate() {
        let member = with_options(task, &[("group_id", &group_id), ("add_to_parent", &Json::bool(false))]);
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        steps.extend(apply(sender, &member, &partial_args, index, now)?.steps);
    }
    let children = if add_to_parent.as_bool() == Some(false) { Vec::new() } else { vec![result.clone()] };
    Ok(Applied { steps, result, children })
}

fn chord(sender: &Sender<'_>, now: Timestamp) -> Result<Applied, Exception> {
    const CHORD: Parameters = Parameters::new("add_chord_task.<locals>.chord")
        .required(&["header", "body"])
        .optional(&["partial_args", "interval", "countdown", "max_retries", "eager"])
        .bound()
        .with_others();
    let [header, body, partial_args, interval, _countdown, max_retries, _eager] = values(CHORD.bind(sender.request)?);
    let partial_args = if partial_args.is_null() { Vec::new() } else { looped(&partial_args)? };
    // A group is a header as well.
    let header = header.get("kwargs").and_then(|kwargs| kwargs.get("tasks")).unwrap_or(header);
    let kwargs = Json::object([("header", Json::array(looped(&header)?)), ("body", body)]);
    let options = Json::object([("interval", interval), ("max_retries", max_retries)]);
    apply(sender, &composite("celery.chord", "chord", kwargs, options), &partial_args, 0, now)
}

fn apply(
    sender: &Sender<'_>,
    signature: &Json,
    partial_args: &[Json],
    index: u32,
    now: Timestamp,
) -> Result<Applied, Exception> {
    let call = PartialCall { args: partial_args, ..PartialCall::default() };
    let applied = Canvas::read(signature)
        .and_then(|canvas| sender.apply(&canvas, call, &mut Ids::of_call(sender.request, index), now));
    applied.map_err(|error| error.exception())
}

/// In the order of the parameters; null where none was given.
fn values<const COUNT: usize>(bound: Vec<Option<Json>>) -> [Json; COUNT] {
    let mut bound = bound.into_iter();
    std::array::from_fn(|_| bound.next().flatten().unwrap_or(Json::null()))
}

fn looped(value: &Json) -> Result<Vec<Json>, Exception> {
    iterate(value).ok_or_else(|| type_error(&format!("'{}' object is not iterable", type_name(value))))
}

fn composite(task: &str, kind: &str, kwargs: Json, options: Json) -> Json {
    let mut signature = MapWriter::new();
    signature
        .put("task", task)
        .put("args", &Json::empty_list())
        .put("kwargs", &kwargs)
        .put("options", &options)
        .put("subtask_type", kind)
        .put("immutable", &(kind == "chunks"));
    signature.finish()
}

/// The signature with these options in place of its own.
fn with_options(signature: &Json, given: &[(&str, &Json)]) -> Json {
    if signature.kind() != Kind::Map {
        return signature.clone();
    }
    let mut options = MapWriter::new();
    let own = signature.get("options").unwrap_or(Json::empty_map());
    for (key, value) in own.members().filter(|(key, _)| !given.iter().any(|(name, _)| name == key)) {
        options.put(&key, &value);
    }
    for (key, value) in given {
        options.put(key, *value);
    }
    let mut map = MapWriter::new();
    for (key, value) in signature.members().filter(|(key, _)| key != "options") {
        map.put(&key, &value);
    }
    map.put("options", &options.finish());
    map.finish()
}
