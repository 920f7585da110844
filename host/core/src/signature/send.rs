//! What a running task sends: from a signature to a message and its way, as `apply_async` and `replace`
//! make them inside of a task (celery/app/base.py `send_task`, celery/app/task.py `replace`).
//!
//! Publishes nothing: the message is a step of a settlement, or goes out at once.

use uuid::Uuid;

use crate::message::{HeaderValue, Message, PUT_BACK_HEADER, Publication};
use crate::name::{NodeName, TaskId};
use crate::protocol::codec::Serializer;
use crate::protocol::content::{Json, Kind, ListWriter, MapWriter};
use crate::protocol::v2::{self, Call, EMBED};
use crate::request::Request;
use crate::route::Router;
use crate::settle::Step;
use crate::timestamp::Timestamp;
use crate::trace;

use super::options::When;
use super::{Signature, SignatureError};

/// The space of ids that are derived from other ids; drawn once.
const DERIVED: Uuid = Uuid::from_u128(0x6f1c_83d2_94e5_4b0a_9c37_2d5e_8a41_f0b6);

/// The version of UUIDs that are derived.
const DERIVED_VERSION: usize = 5;

/// How many earlier executions of a task are thought of.
const EARLIER_MAX: usize = 16;

/// A running task that sends, and the worker that it runs in.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    pub request: &'a Request,
    pub node: &'a NodeName,
    pub router: &'a Router,
    /// The worker signs what it publishes.
    pub signs: bool,
}

impl Sender<'_> {
    /// The id of what an execution sends as its number `index`: the same however often it is executed, so
    /// that a repeat after a crash sends the same tasks again and not others.
    pub fn derived_id(&self, index: u32) -> TaskId {
        TaskId::parse(&derived(self.request, self.request.retries, index).to_string()).expect("a UUID is an id")
    }

    /// A task that this one calls.
    pub fn send(&self, signature: &Signature, index: u32, now: Timestamp) -> Result<(TaskId, Step), SignatureError> {
        let Signature { options, .. } = signature;
        let id = options.id.clone().unwrap_or_else(|| self.derived_id(index));
        let attached = [&options.callbacks, &options.errbacks, &options.chain].map(|attached| attached.texts.clone());
        let call = Call {
            embed: embed(attached, Json::null()),
            group_id: options.group_id.clone(),
            group_index: options.group_index,
            replaced_task_nesting: options.replaced_task_nesting,
            root_id: Some(options.root_id.clone().unwrap_or_else(|| self.root_id())),
            parent_id: Some(options.parent_id.clone().unwrap_or_else(|| self.request.id.to_string())),
            reply_to: options.reply_to.clone(),
            ..self.call(signature, id.clone(), &[], now)
        };
        Ok((id, self.step(signature, v2::message(&call, now))?))
    }

    /// A task that takes the place of this one, with everything that hangs on it. Celery makes the replaced
    /// task the parent of its replacement, which has the same id; here the parent stays who it was.
    pub fn replace(&self, signature: &Signature, now: Timestamp) -> Result<Step, SignatureError> {
        let (request, options) = (self.request, &signature.options);
        let nesting = request.replaced_task_nesting.saturating_add(1);
        let ours = |key: &str| request.embed.get(key).map_or_else(Vec::new, |of| of.elements().collect::<Vec<_>>());
        let and_ours = |own: &[Json], key| {
            let mut all = own.to_vec();
            all.extend(ours(key).into_iter().filter(|it| !own.contains(it)));
            all
        };
        // The rest of a chain is written backwards: what comes first is last.
        let mut chain: Vec<Json> = ours("chain").iter().map(|step| nested(step, nesting)).collect();
        chain.extend_from_slice(&options.chain.texts);
        let attached =
            [and_ours(&options.callbacks.texts, "callbacks"), and_ours(&options.errbacks.texts, "errbacks"), chain];
        let index = match request.message.headers.get("group_index") {
            Some(HeaderValue::Int(index)) => u32::try_from(*index).ok(),
            _ => None,
        };
        let call = Call {
            embed: embed(attached, request.embed.get("chord").unwrap_or(Json::null())),
            group_id: request.group_id.clone(),
            group_index: index,
            replaced_task_nesting: nesting,
            root_id: Some(self.root_id()),
            parent_id: request.parent_id.clone(),
            reply_to: request.message.properties.reply_to.clone(),
            ..self.call(signature, request.id.clone(), self.stamps(), now)
        };
        let mut message = v2::message(&call, now);
        if let Some(correlation_id) = &request.message.properties.correlation_id {
            message.properties.correlation_id = Some(correlation_id.clone());
        }
        self.step(signature, message)
    }

    fn root_id(&self) -> String {
        self.request.root_id.clone().unwrap_or_else(|| self.request.id.to_string())
    }

    /// What a call has of its signature alone.
    fn call(&self, signature: &Signature, id: TaskId, stamps: &[(String, HeaderValue)], now: Timestamp) -> Call {
        let options = &signature.options;
        let origin = options.origin.clone().unwrap_or_else(|| self.node.to_string());
        let mut headers = options.headers.clone();
        let mut all = stamps.to_vec();
        all.retain(|(name, _)| !options.stamps.iter().any(|(own, _)| own == name));
        all.extend_from_slice(&options.stamps);
        if !all.is_empty() {
            let names = all.iter().map(|(name, _)| HeaderValue::Text(name.clone())).collect();
            headers.push(("stamped_headers".to_owned(), HeaderValue::List(names)));
            headers.push(("stamps".to_owned(), HeaderValue::Map(all)));
        }
        Call {
            args: signature.args.clone(),
            kwargs: signature.kwargs.clone(),
            shadow: options.shadow.clone(),
            eta: options.eta.map(|eta: When| eta.at(now)),
            expires: options.expires.map(|expires| expires.at(now)),
            retries: options.retries,
            time_limit: options.time_limit,
            soft_time_limit: options.soft_time_limit,
            ignore_result: options.ignore_result,
            priority: options.priority,
            headers,
            ..Call::new(signature.task.clone(), id, origin)
        }
    }

    /// The stamps of the running task.
    fn stamps(&self) -> &[(String, HeaderValue)] {
        match self.request.message.headers.get("stamps") {
            Some(HeaderValue::Map(stamps)) => stamps,
            _ => &[],
        }
    }

    fn step(&self, signature: &Signature, mut message: Message) -> Result<Step, SignatureError> {
        if let Some(mode) = signature.options.delivery_mode {
            message.properties.delivery_mode = Some(mode);
        }
        if self.signs {
            // It is signed when it leaves.
            let (content_type, content_encoding) = Serializer::Auth.content_type();
            message.properties.content_type = Some(content_type.to_owned());
            message.properties.content_encoding = Some(content_encoding.to_owned());
        }
        trace::inherit(&mut message.headers, &self.request.message.headers);
        let routed = self.router.route(&signature.options.destination)?;
        let publication = Publication { message, route: routed.route };
        let mut step = match routed.queue {
            Some(queue) => Step::SendTo(Box::new(queue), publication),
            None => Step::Send(publication),
        };
        // This execution may have got as far as here before.
        let request = self.request;
        if request.delivery.redelivered
            || request.message.headers.delivery_count() > 0
            || request.message.headers.get(PUT_BACK_HEADER).is_some()
        {
            step.mark_as_repeated();
        }
        Ok(step)
    }
}

/// True if an earlier execution of the task derived this id for one of its first `calls` calls.
pub fn was_sent_before(request: &Request, id: &TaskId, calls: u32) -> bool {
    // Almost all ids of other tasks are random, and of another version.
    let Ok(id) = Uuid::parse_str(id.as_str()) else { return false };
    if id.get_version_num() != DERIVED_VERSION {
        return false;
    }
    let earlier = (0..request.retries).rev().take(EARLIER_MAX);
    let mut derived = earlier.flat_map(|retries| (0..calls).map(move |index| derived(request, retries, index)));
    derived.any(|derived| derived == id)
}

fn derived(request: &Request, retries: u32, index: u32) -> Uuid {
    let Request { id, replaced_task_nesting, .. } = request;
    // The numbers first: ids may hold anything but control characters.
    let name = format!("{retries} {replaced_task_nesting} {index}\n{id}");
    Uuid::new_v5(&DERIVED, name.as_bytes())
}

/// The third part of a body; null if there is nothing in it.
fn embed(attached: [Vec<Json>; 3], chord: Json) -> Json {
    if attached.iter().all(Vec::is_empty) && chord.is_null() {
        return Json::null();
    }
    let [callbacks, errbacks, chain] = attached.map(|list| match list.is_empty() {
        true => Json::null(),
        false => {
            let mut writer = ListWriter::new();
            for it in &list {
                writer.push(it);
            }
            writer.finish()
        }
    });
    Json::object(EMBED.into_iter().zip([callbacks, errbacks, chain, chord]))
}

/// A step of a chain that a task was replaced in.
fn nested(step: &Json, nesting: u32) -> Json {
    if step.kind() != Kind::Map {
        return step.clone();
    }
    const KEY: &str = "replaced_task_nesting";
    let mut options = MapWriter::new();
    for (key, value) in step.get("options").iter().flat_map(Json::members).filter(|(key, _)| key != KEY) {
        options.put(&key, &value);
    }
    options.put(KEY, &nesting);
    let mut map = MapWriter::new();
    for (key, value) in step.members().filter(|(key, _)| key != "options") {
        map.put(&key, &value);
    }
    map.put("options", &options.finish());
    map.finish()
}
