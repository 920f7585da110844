//! One application of a signature: what has been decided so far, and the sending of single tasks.

use std::rc::Rc;

use crate::chord::ChordStyle;
use crate::name::{TaskId, TaskName};
use crate::protocol::content::Json;
use crate::queue::ExchangeKind;
use crate::settle::Step;
use crate::signature::{Ids, Plain, Sender, SignatureError};
use crate::timestamp::Timestamp;

use super::Applied;
use super::links::Terms;
use super::node::{Node, overlaid, prepended};
use super::options::{Options, Value};
use super::results::{Promise, Results};

/// Most bytes in the bodies of what one signature publishes: every member of a header carries the chord's body.
pub(super) const BODIES_BYTES_MAX: usize = if cfg!(test) { 16 } else { 256 } * 1024 * 1024;

/// About what a message needs beside its body.
const HEADERS_BYTES: usize = 2048;

/// How long Celery waits before it looks at a chord for the first time, in seconds.
const UNLOCK_COUNTDOWN: i64 = 1;

pub(super) struct Run<'a> {
    pub(super) sender: Sender<'a>,
    ids: &'a mut Ids,
    now: Timestamp,
    pub(super) results: Results,
    pub(super) steps: Vec<Step>,
    pub(super) children: Vec<Promise>,
    bodies_bytes: usize,
    /// What is applied takes the place of the running task.
    pub(super) replaces: bool,
    pub(super) terms: Rc<Terms>,
}

impl<'a> Run<'a> {
    pub(super) fn new(sender: Sender<'a>, ids: &'a mut Ids, now: Timestamp) -> Self {
        Self {
            sender,
            ids,
            now,
            results: Results::default(),
            steps: Vec::new(),
            children: Vec::new(),
            bodies_bytes: 0,
            replaces: false,
            terms: Rc::new(Terms::new(sender.settings.error_cb_on_chord_header)),
        }
    }

    pub(super) fn finish(self, result: Option<Promise>) -> Applied {
        let tuple = |promise| self.results.tuple(promise);
        let children = self.children.iter().map(|child| tuple(*child)).collect();
        Applied { result: result.map_or(Json::null(), tuple), children, steps: self.steps }
    }

    pub(super) fn next_id(&mut self) -> String {
        self.ids.next_id().to_string()
    }

    /// `ensure_chords_allowed` of Celery's result backends.
    pub(super) fn ensure_chords(&self) -> Result<(), SignatureError> {
        match self.sender.settings.chords {
            ChordStyle::Native | ChordStyle::Counter | ChordStyle::Unlock => Ok(()),
            ChordStyle::Refused(store) => Err(SignatureError::Chords(store)),
        }
    }

    /// A message (`Signature.apply_async`, `send_task`).
    pub(super) fn send(
        &mut self,
        node: &Node,
        kwargs: &Json,
        args: &[Json],
        partial_kwargs: Option<&Json>,
        given: &Options,
    ) -> Result<Promise, SignatureError> {
        let options = node.options.merged(&given.without_nulls());
        let (args, kwargs) = match node.immutable {
            true => (node.args.clone(), kwargs.clone()),
            false => (prepended(args, &node.args), overlaid(kwargs, partial_kwargs)),
        };
        let id = match options.text("task_id") {
            Some(id) => id,
            None => self.next_id(),
        };
        let pairs = options.iter().map(|(key, value)| (key, value.to_json()));
        let plain = Plain {
            task: TaskName::parse(&node.task)?,
            id: TaskId::parse(&id)?,
            args,
            kwargs,
            replaces: self.replaces && id == self.sender.request.id.as_str(),
        };
        let (step, body_bytes) = self.sender.message(plain, pairs, self.now)?;
        self.bodies_bytes += body_bytes + HEADERS_BYTES;
        if self.bodies_bytes > BODIES_BYTES_MAX {
            return Err(SignatureError::Bodies);
        }
        self.steps.push(step);
        let result = self.results.task(id);
        if options.json("add_to_parent").is_none_or(|value| value.as_bool() != Some(false)) {
            self.children.push(result);
        }
        Ok(result)
    }

    /// Tells the store about a header before its members are published (`apply_chord` of Celery's backends).
    pub(super) fn announce_chord(
        &mut self,
        group: &str,
        header: Promise,
        size: u64,
        body: &Node,
        options: &Options,
    ) -> Result<(), SignatureError> {
        match self.sender.settings.chords {
            ChordStyle::Refused(store) => Err(SignatureError::Chords(store)),
            ChordStyle::Unlock => self.send_unlock(group, header, body, options),
            ChordStyle::Counter => {
                let again = self.sender.may_repeat();
                let header = Some(self.results.tuple(header));
                self.steps.push(Step::SetChordSize { group: group.to_owned(), size, again, header });
                Ok(())
            }
            ChordStyle::Native => {
                let members = self.results.members(header).unwrap_or_default();
                // The store keeps single results; their shape it has to be told.
                if members.iter().any(|member| self.results.members(*member).is_some()) {
                    let result = self.results.tuple(header);
                    self.steps.push(Step::SaveGroup { group: group.to_owned(), result });
                }
                Ok(())
            }
        }
    }

    /// `set_chord_size`.
    pub(super) fn set_chord_size(&mut self, group: &str, size: u64) {
        if self.sender.settings.chords == ChordStyle::Native {
            let again = self.sender.may_repeat();
            self.steps.push(Step::SetChordSize { group: group.to_owned(), size, again, header: None });
        }
    }

    /// The task that looks whether a chord is complete (`fallback_chord_unlock`): it goes the way of the body.
    fn send_unlock(
        &mut self,
        group: &str,
        header: Promise,
        body: &Node,
        options: &Options,
    ) -> Result<(), SignatureError> {
        let router = &self.sender.settings.router;
        let queue = body.options.text("queue").unwrap_or_else(|| router.default_queue.to_string());
        let mut given = Options::default();
        let stamps = body.options.json("stamped_headers");
        let is_stamp = |key: &str| {
            stamps.iter().flat_map(Json::elements).any(|name| name.as_text().is_some_and(|name| name == key))
        };
        for key in ["exchange", "exchange_type", "routing_key", "headers"] {
            if let Some(value) = body.options.json(key).filter(|_| !is_stamp(key)) {
                given.set_json(key, value);
            }
        }
        if !given.has("exchange_type")
            && let Ok(name) = crate::name::QueueName::parse(&queue)
        {
            let kind = match router.queues.get(&name).exchange.kind {
                ExchangeKind::Direct => "direct",
                ExchangeKind::Topic => "topic",
                ExchangeKind::Fanout => "fanout",
                ExchangeKind::Headers => "headers",
            };
            given.set_text("exchange_type", kind);
        }
        let members = self.results.members(header).unwrap_or_default();
        let members = Json::array(members.iter().map(|member| self.results.tuple(*member)));
        let option = |key| options.json(key).unwrap_or(Json::null());
        let mut kwargs = vec![("interval", option("interval")), ("max_retries", option("max_retries"))];
        kwargs.push(("result", members));
        if let Some(kind) = given.json("exchange_type") {
            kwargs.push(("_chord_unlock_exchange_type", kind));
        }
        given.set_json("countdown", Json::int(UNLOCK_COUNTDOWN));
        given.set_text("queue", &queue);
        given.set("priority", body.options.get("priority").cloned().unwrap_or(Value::Json(Json::null())));
        given.set_json("ignore_result", Json::bool(true));
        let args = Json::array([Json::text(group), super::write::signature(body)]);
        let kwargs = Json::object(kwargs);
        let unlock = Node::task("celery.chord_unlock", args, kwargs.clone());
        self.send(&unlock, &kwargs, &[], None, &given)?;
        Ok(())
    }
}
