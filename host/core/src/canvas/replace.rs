//! A signature in the place of the running task, and one that joins its chord (celery/app/task.py `replace` and
//! `add_to_chord`).

use std::rc::Rc;

use crate::chord::ChordStyle;
use crate::message::HeaderValue;
use crate::protocol::content::{Json, Kind};
use crate::settle::Step;
use crate::signature::{Ids, Sender, SignatureError};
use crate::timestamp::Timestamp;

use super::freeze::Frame;
use super::join::{chord_of, join};
use super::links::{Link, Terms};
use super::node::{Node, Shape};
use super::options::Options;
use super::results::Promise;
use super::run::Run;
use super::{Applied, Canvas, read};

impl Sender<'_> {
    /// A signature that takes the place of the running task, with everything that hangs on it: its result has the
    /// task's id. Celery makes the replaced task the parent of a task that replaces it and has the same id; here
    /// the parent stays who it was.
    pub fn replace(&self, canvas: Canvas, now: Timestamp) -> Result<Applied, SignatureError> {
        let request = self.request;
        let mut ids = Ids::of_replacement(request);
        let mut run = Run::new(*self, &mut ids, now);
        run.replaces = true;
        let terms = Rc::clone(&run.terms);
        let hung = |key: &str| -> Vec<Json> {
            let of = request.embed.get(key);
            of.map_or_else(Vec::new, |of| if of.kind() == Kind::Map { vec![of] } else { of.elements().collect() })
        };
        let Canvas(mut node) = canvas;
        if node.options.has("chord") {
            return Err(SignatureError::Improper("A signature replacing a task must not be part of a chord"));
        }
        if node.is_empty_chain() {
            return Err(SignatureError::Improper("Cannot replace with an empty chain"));
        }
        // Groups become chords, so that there is a task for callbacks to hang on.
        if node.is_group() {
            node = chord_of(node, accumulate());
        }
        if let Shape::Chain(tasks) = &mut node.shape
            && let Some(last) = tasks.pop_if(|last| last.is_group())
        {
            tasks.push(chord_of(last, accumulate()));
        }
        for callback in hung("callbacks") {
            node.link(Link::raw(callback), &terms)?;
        }
        for errback in hung("errbacks") {
            node.link_error(Link::raw(errback), &terms)?;
        }
        // Further steps may follow: the callbacks of a chain belong to its last one.
        if node.is_chain()
            && let Some(links) = node.options.take("link")
            && let Shape::Chain(tasks) = &mut node.shape
            && let Some(last) = tasks.last_mut()
        {
            last.options.extend_links("link", links.links());
        }
        forget_id(&mut node);
        run.freeze(&mut node, &Frame { id: Some(request.id.as_str()), ..Frame::default() })?;
        if let Some(reply_to) = request.message.properties.reply_to.as_ref().filter(|queue| !queue.is_empty()) {
            reply(&mut node, reply_to);
        }
        stamp(&mut node, &self.stamps(), &terms)?;
        let nesting = Json::of(&request.replaced_task_nesting.saturating_add(1));
        self.join_chord(&mut node.options);
        node.options.set_json("replaced_task_nesting", nesting.clone());
        if let Shape::Chain(tasks) = &mut node.shape {
            tasks.iter_mut().for_each(|task| task.options.set_json("replaced_task_nesting", nesting.clone()));
        }
        // What a task itself is followed by comes before the rest of the chain that it stands in; Celery drops it.
        let own = match &node.shape {
            Shape::Task { .. } => node.options.take_json("chain"),
            _ => None,
        };
        for step in own.iter().flat_map(Json::elements).collect::<Vec<_>>().iter().rev() {
            node = join(node, read::lenient(step)?, &terms)?;
        }
        for step in hung("chain").iter().rev() {
            let mut step = read::lenient(step)?;
            step.options.set_json("replaced_task_nesting", nesting.clone());
            node = join(node, step, &terms)?;
        }
        let result = run.apply(node, &[], None, &Options::default())?;
        Ok(run.finish(result))
    }

    /// A signature that becomes one more member of the chord that the running task is a member of.
    pub fn add_to_chord(&self, canvas: Canvas, ids: &mut Ids, now: Timestamp) -> Result<Applied, SignatureError> {
        let Canvas(mut node) = canvas;
        let request = self.request;
        let chord = request.embed.get("chord").filter(|chord| !chord.is_null()).ok_or(SignatureError::NotInChord)?;
        let group = request.group_id.clone().ok_or(SignatureError::NotInChord)?;
        // Of the others only Redis can, in Celery as here: `celery.chord_unlock` was told the members before.
        if self.settings.chords != ChordStyle::Native {
            return Err(SignatureError::Inextensible);
        }
        self.join_chord(&mut node.options);
        let mut run = Run::new(*self, ids, now);
        // Celery gives the members of a group no chord, and they would complete one of their own.
        let frame = match node.is_group() {
            true => Frame { group_id: Some(&group), chord: Some(&chord), ..Frame::default() },
            false => Frame::default(),
        };
        let result = run.freeze(&mut node, &frame)?;
        let mut members = Vec::new();
        run.leaves(result, &mut members);
        for member in members {
            let member = crate::name::TaskId::parse(&member)?;
            run.steps.push(Step::ExtendChord { group: group.clone(), member });
        }
        let applied = run.apply(node, &[], None, &Options::default())?;
        Ok(run.finish(applied))
    }

    /// Options of a signature that stands where the running task stands.
    fn join_chord(&self, options: &mut Options) {
        let request = self.request;
        let text = |text: &Option<String>| text.as_deref().map_or(Json::null(), Json::text);
        options.set_json("chord", request.embed.get("chord").unwrap_or(Json::null()));
        options.set_json("group_id", text(&request.group_id));
        options.set_json("group_index", Json::of(&request.message.headers.get("group_index")));
        options.set_json("root_id", text(&request.root_id));
    }

    /// The stamps of the running task.
    fn stamps(&self) -> Vec<(String, Json)> {
        match self.request.message.headers.get("stamps") {
            Some(HeaderValue::Map(stamps)) => {
                stamps.iter().map(|(name, value)| (name.clone(), Json::from(value))).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl Run<'_> {
    /// The ids of the tasks that bring a result to a chord.
    fn leaves(&self, result: Promise, leaves: &mut Vec<String>) {
        match self.results.members(result) {
            Some(members) => members.iter().for_each(|member| self.leaves(*member, leaves)),
            None => leaves.push(self.results.id(result).to_owned()),
        }
    }
}

/// The results of a group as the result of a task.
fn accumulate() -> Node {
    Node::task("celery.accumulate", Json::empty_list(), Json::object([("index", 0)]))
}

/// Whoever ends what takes the place of a task gets the task's id.
fn forget_id(node: &mut Node) {
    node.options.take("task_id");
    match &mut node.shape {
        Shape::Chain(tasks) => tasks.iter_mut().rev().take(1).for_each(forget_id),
        Shape::Chord(chord) => chord.body.iter_mut().for_each(forget_id),
        Shape::Group(_) | Shape::Task { .. } | Shape::Chunks { .. } => {}
    }
}

/// The client waits for the result where it waited for that of the replaced task.
fn reply(node: &mut Node, reply_to: &str) {
    match &mut node.shape {
        Shape::Chain(tasks) => tasks.iter_mut().rev().take(1).for_each(|last| reply(last, reply_to)),
        Shape::Chord(chord) => chord.body.iter_mut().for_each(|body| reply(body, reply_to)),
        Shape::Group(_) => {}
        Shape::Task { .. } | Shape::Chunks { .. } => node.options.set_text("reply_to", reply_to),
    }
}

/// Puts stamps on every task; those that it has itself count more.
fn stamp(node: &mut Node, stamps: &[(String, Json)], terms: &Terms) -> Result<(), SignatureError> {
    if stamps.is_empty() {
        return Ok(());
    }
    match &mut node.shape {
        Shape::Task { .. } | Shape::Chunks { .. } => {
            terms.charge_bytes(stamps.iter().map(|(name, value)| name.len() + value.byte_len()).sum())?;
            let own: Vec<Json> = node.options.json("stamped_headers").iter().flat_map(Json::elements).collect();
            let is_own = |name: &str| own.iter().any(|own| own.as_text().is_some_and(|own| own == name));
            let new: Vec<&(String, Json)> = stamps.iter().filter(|(name, _)| !is_own(name)).collect();
            let names = Json::array(new.iter().map(|(name, _)| Json::text(name)).chain(own.iter().cloned()));
            for (name, value) in new {
                node.options.set_json(name, value.clone());
            }
            node.options.set_json("stamped_headers", names);
            Ok(())
        }
        Shape::Chain(tasks) | Shape::Group(tasks) => tasks.iter_mut().try_for_each(|task| stamp(task, stamps, terms)),
        Shape::Chord(chord) => {
            let mut all = chord.header.tasks.iter_mut().chain(&mut chord.body);
            all.try_for_each(|task| stamp(task, stamps, terms))
        }
    }
}
