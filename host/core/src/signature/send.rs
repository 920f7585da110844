//! From a task and its options to a message and its way, as a running task sends it (celery/app/base.py
//! `send_task`).
//!
//! Publishes nothing: the message is a step of a settlement, or goes out at once.

use crate::chord::ChordStyle;
use crate::message::{HeaderValue, Message, Publication};
use crate::name::{NodeName, TaskId, TaskName};
use crate::protocol::codec::Serializer;
use crate::protocol::content::Json;
use crate::protocol::v2::{self, Call, EMBED};
use crate::request::Request;
use crate::route::Router;
use crate::settle::Step;
use crate::timestamp::Timestamp;
use crate::trace;

use super::SignatureError;
use super::options::{Manner, Options, When};

/// How a worker sends.
#[derive(Debug, Clone, PartialEq)]
pub struct SendSettings {
    pub node: NodeName,
    pub router: Router,
    /// The worker signs what it publishes.
    pub signs: bool,
    /// Of the result store.
    pub chords: ChordStyle,
    /// Errbacks of a chord are called for members of its header as well (`task_allow_error_cb_on_chord_header`).
    pub error_cb_on_chord_header: bool,
    /// Without a priority of its own a task has that of the one that calls it (`task_inherit_parent_priority`).
    pub inherit_parent_priority: bool,
}

/// A running task that sends, and the worker that it runs in.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    pub request: &'a Request,
    pub settings: &'a SendSettings,
}

/// A plain signature that is ready to be sent, but for its options.
pub(crate) struct Plain {
    pub(crate) task: TaskName,
    pub(crate) id: TaskId,
    pub(crate) args: Json,
    pub(crate) kwargs: Json,
    /// It takes the place of the running task, and its id.
    pub(crate) replaces: bool,
}

impl Plain {
    pub(crate) fn options<'o>(
        pairs: impl Iterator<Item = (&'o str, Json)>,
        manner: Manner,
    ) -> Result<Options, SignatureError> {
        Options::read(pairs, manner)
    }
}

impl Sender<'_> {
    /// The message of a task with these options, and how many bytes its body has.
    pub(crate) fn message<'o>(
        &self,
        plain: Plain,
        options: impl Iterator<Item = (&'o str, Json)>,
        now: Timestamp,
    ) -> Result<(Step, usize), SignatureError> {
        let Plain { task, id, args, kwargs, replaces } = plain;
        let options = Options::read(options, Manner::Lenient)?;
        let is_child = options.root_id.is_none() || options.parent_id.is_none();
        let inherits_priority = is_child && self.settings.inherit_parent_priority;
        let own_parent = if replaces { self.request.parent_id.clone() } else { Some(self.request.id.to_string()) };
        let mut headers = options.headers;
        if !options.stamps.is_empty() {
            let names = options.stamps.iter().map(|(name, _)| HeaderValue::Text(name.clone())).collect();
            headers.push(("stamped_headers".to_owned(), HeaderValue::List(names)));
            headers.push(("stamps".to_owned(), HeaderValue::Map(options.stamps)));
        }
        let call = Call {
            args,
            kwargs,
            embed: embed([options.callbacks, options.errbacks, options.chain], options.chord),
            shadow: options.shadow,
            eta: options.eta.map(|eta: When| eta.at(now)),
            expires: options.expires.map(|expires| expires.at(now)),
            group_id: options.group_id,
            group_index: options.group_index,
            retries: options.retries,
            time_limit: options.time_limit,
            soft_time_limit: options.soft_time_limit,
            root_id: Some(options.root_id.unwrap_or_else(|| self.root_id())),
            parent_id: options.parent_id.or(own_parent),
            ignore_result: options.ignore_result,
            replaced_task_nesting: options.replaced_task_nesting,
            reply_to: options.reply_to,
            priority: options.priority.or(self.request.message.properties.priority.filter(|_| inherits_priority)),
            headers,
            ..Call::new(task, id, options.origin.unwrap_or_else(|| self.settings.node.to_string()))
        };
        let mut message = v2::message(&call, now);
        if let Some(mode) = options.delivery_mode {
            message.properties.delivery_mode = Some(mode);
        }
        if let Some(correlation_id) = self.request.message.properties.correlation_id.as_ref().filter(|_| replaces) {
            message.properties.correlation_id = Some(correlation_id.clone());
        }
        let body_bytes = message.body.len();
        Ok((self.step(message, &options.destination)?, body_bytes))
    }

    /// True if the execution may be one of several, of which others may have got as far as here.
    pub(crate) fn may_repeat(&self) -> bool {
        self.request.may_have_come_before()
    }

    fn root_id(&self) -> String {
        self.request.root_id.clone().unwrap_or_else(|| self.request.id.to_string())
    }

    fn step(&self, mut message: Message, destination: &crate::route::Destination) -> Result<Step, SignatureError> {
        if self.settings.signs {
            // It is signed when it leaves.
            let (content_type, content_encoding) = Serializer::Auth.content_type();
            message.properties.content_type = Some(content_type.to_owned());
            message.properties.content_encoding = Some(content_encoding.to_owned());
        }
        trace::inherit(&mut message.headers, &self.request.message.headers);
        let routed = self.settings.router.route(destination)?;
        let publication = Publication { message, route: routed.route };
        let mut step = match routed.queue {
            Some(queue) => Step::SendTo(Box::new(queue), publication),
            None => Step::Send(publication),
        };
        if self.may_repeat() {
            step.mark_as_repeated();
        }
        Ok(step)
    }
}

/// The third part of a body; null if there is nothing in it.
fn embed(attached: [Vec<Json>; 3], chord: Option<Json>) -> Json {
    if attached.iter().all(Vec::is_empty) && chord.is_none() {
        return Json::null();
    }
    let [callbacks, errbacks, chain] = attached.map(|list| match list.is_empty() {
        true => Json::null(),
        false => Json::array(&list),
    });
    Json::object(EMBED.into_iter().zip([callbacks, errbacks, chain, chord.unwrap_or(Json::null())]))
}
