//! Ids for signatures before they are sent, so that each can be told of the others (`freeze` of celery/canvas.py),
//! and the steps of chains (`prepare_steps`).
//!
//! Unlike Celery nobody is given a queue of the worker's own for its result: none reads one.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::protocol::content::Json;
use crate::signature::SignatureError;

use super::links::Link;
use super::node::{Chord, Header, Node, Shape};
use super::options::Options;
use super::results::Promise;
use super::run::Run;

/// What a signature is frozen with.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Frame<'f> {
    pub(super) id: Option<&'f str>,
    pub(super) group_id: Option<&'f str>,
    pub(super) chord: Option<&'f Json>,
    pub(super) root_id: Option<&'f str>,
    pub(super) parent_id: Option<&'f str>,
    pub(super) group_index: Option<usize>,
}

/// A step of a chain: one of its own, or one of a chain that is only frozen, where it stands.
pub(super) enum Piece<'n> {
    Own(Box<Node>),
    Of(&'n mut Node),
}

impl Run<'_> {
    /// Gives ids to a signature and all that it is made of; those that have one keep it.
    pub(super) fn freeze(&mut self, node: &mut Node, frame: &Frame<'_>) -> Result<Promise, SignatureError> {
        match &mut node.shape {
            Shape::Task { .. } | Shape::Chunks { .. } => Ok(self.freeze_task(&mut node.options, frame)),
            Shape::Group(tasks) => self.freeze_group(&mut node.options, tasks, frame),
            Shape::Chain(tasks) => {
                let steps = tasks.iter_mut().map(Piece::Of).collect();
                let (_, results) = self.prepare(&[], None, steps, frame, &[], false)?;
                let last = *results.first().ok_or(SignatureError::EmptyChain)?;
                node.options.set_text("task_id", self.results.id(last));
                Ok(last)
            }
            Shape::Chord(chord) => self.freeze_chord(&mut node.options, chord, frame),
        }
    }

    fn freeze_task(&mut self, options: &mut Options, frame: &Frame<'_>) -> Promise {
        let id = match options.text("task_id") {
            Some(id) => id,
            None => frame.id.map_or_else(|| self.next_id(), str::to_owned),
        };
        options.set_text("task_id", &id);
        if let Some(root_id) = frame.root_id {
            options.set_text("root_id", root_id);
        }
        if let Some(parent_id) = frame.parent_id {
            options.set_text("parent_id", parent_id);
        }
        if let Some(group_id) = frame.group_id
            && !options.has("group_id")
        {
            options.set_text("group_id", group_id);
        }
        if let Some(chord) = frame.chord {
            options.set_json("chord", chord.clone());
        }
        if let Some(index) = frame.group_index {
            options.set_json("group_index", Json::of(&index));
        }
        self.results.task(id)
    }

    /// `_freeze_group_tasks`: groups in a group become part of it.
    pub(super) fn freeze_group(
        &mut self,
        options: &mut Options,
        tasks: &mut Vec<Node>,
        frame: &Frame<'_>,
    ) -> Result<Promise, SignatureError> {
        let id = match options.text("task_id") {
            Some(id) => id,
            None => self.next_id(),
        };
        options.set_text("task_id", &id);
        if let Some(group_id) = frame.group_id {
            options.set_text("group_id", group_id);
        }
        if let Some(chord) = frame.chord {
            options.set_json("chord", chord.clone());
        }
        if let Some(index) = frame.group_index {
            options.set_json("group_index", Json::of(&index));
        }
        options.set_default("root_id", frame.root_id);
        options.set_default("parent_id", frame.parent_id);
        let (root_id, parent_id) = (options.text("root_id"), options.text("parent_id"));
        let mut stack: VecDeque<Node> = std::mem::take(tasks).into();
        let mut results = Vec::with_capacity(stack.len());
        while let Some(mut task) = stack.pop_front() {
            task.renew();
            match task.shape {
                // In reverse, as Python's `extendleft` has it.
                Shape::Group(members) => members.into_iter().for_each(|member| stack.push_front(member)),
                _ if task.is_empty_chain() => {}
                _ => {
                    let frame = Frame {
                        id: None,
                        root_id: root_id.as_deref(),
                        parent_id: parent_id.as_deref(),
                        group_index: Some(results.len()),
                        ..*frame
                    };
                    results.push(self.freeze(&mut task, &frame)?);
                    tasks.push(task);
                }
            }
        }
        Ok(self.results.group(id, results))
    }

    /// The members of the header get the body when they are sent. Until then Celery strips them of it.
    fn freeze_chord(
        &mut self,
        options: &mut Options,
        chord: &mut Chord,
        frame: &Frame<'_>,
    ) -> Result<Promise, SignatureError> {
        let of_body = Frame { parent_id: None, ..*frame };
        let body = chord.body.as_mut().ok_or(SignatureError::Bodyless)?;
        let body = self.freeze(body, &of_body)?;
        let Header { group, tasks } = &mut chord.header;
        let group = group.get_or_insert_default();
        let of_header = Frame { root_id: frame.root_id, parent_id: frame.parent_id, ..Frame::default() };
        let header = self.freeze_group(group, tasks, &of_header)?;
        options.set_text("task_id", self.results.id(header));
        // The body may be a chain: the first of its steps follows the header.
        let eldest = self.results.eldest(body).ok_or(SignatureError::Recursive)?;
        self.results.set_parent(eldest, Some(header));
        Ok(body)
    }

    /// The steps of a chain, the last one first, and their results (`prepare_steps`). Chains within it become part
    /// of it, groups followed by a step become chords. With `clone` they are to be sent; else they are given ids.
    pub(super) fn prepare<'n>(
        &mut self,
        args: &[Json],
        kwargs: Option<&Json>,
        mut steps: VecDeque<Piece<'n>>,
        frame: &Frame<'_>,
        errbacks: &[Link],
        clone: bool,
    ) -> Result<(Vec<Piece<'n>>, Vec<Promise>), SignatureError> {
        let terms = Rc::clone(&self.terms);
        trim_head(&mut steps, clone);
        let mut tasks: Vec<Piece<'n>> = Vec::new();
        let mut results: Vec<Promise> = Vec::new();
        // The step that follows, and the result that the one before it is the parent of.
        let mut has_next = false;
        let mut next_result: Option<Promise> = None;
        let mut is_last = true;
        while let Some(mut task) = steps.pop_back() {
            if task.is_group() {
                task = task.unrolled();
                if task.is_empty_group() && (!steps.is_empty() || has_next) {
                    continue;
                }
            }
            if clone && task.has_body_to_unroll() {
                steps.extend(task.into_node().body_unrolled(&terms)?.into_iter().map(Piece::own));
                continue;
            }
            if clone {
                match steps.is_empty() {
                    true => task.renew_with(args, kwargs, &Options::default()),
                    false => task.renew(),
                }
            }
            if task.is_chain() {
                steps.extend(task.into_steps());
                continue;
            }
            let mut joined = None;
            if task.is_group() && has_next {
                let (body, body_result) = tasks.pop().zip(results.pop()).expect("a step follows, with its result");
                let (body, origin) = body.take();
                let mut chord = Node::chord(task.into_members(), body);
                if let Some(id) = next_result.filter(|it| self.results.members(*it).is_none()) {
                    chord.options.set_text("task_id", self.results.id(id));
                }
                chord.options.set_default("root_id", frame.root_id);
                has_next = !tasks.is_empty();
                // What comes after follows the body's result; it is to follow that of the chord.
                let mut follower = results.last().copied();
                while let Some(it) = follower
                    && self.results.parent(it) != Some(body_result)
                {
                    follower = self.results.parent(it);
                }
                if let Some(follower) = follower {
                    self.results.set_parent(follower, None);
                    next_result = Some(follower);
                }
                task = Piece::own(chord);
                joined = origin;
            }
            let result = match is_last {
                true => self.freeze(&mut task, &Frame { parent_id: None, ..*frame })?,
                false => self.freeze(&mut task, &Frame { root_id: frame.root_id, ..Frame::default() })?,
            };
            if let (Some(origin), Some(body)) = (joined, task.as_chord().and_then(|chord| chord.body.as_ref())) {
                *origin = body.clone();
            }
            is_last = false;
            if let Some(next) = next_result.filter(|_| has_next)
                && self.results.parent(next).is_none()
            {
                self.results.set_parent(next, Some(result));
            }
            for errback in errbacks {
                task.link_error(errback.clone(), &terms)?;
                // Whoever fails a chord looks for them there.
                if let Some(body) = task.as_chord_mut().and_then(|chord| chord.body.as_mut()) {
                    body.link_error(errback.clone(), &terms)?;
                }
            }
            next_result = Some(result);
            if task.is_chord() {
                self.ensure_chords()?;
                next_result = Some(self.results.eldest(result).ok_or(SignatureError::Recursive)?);
            }
            has_next = !task.is_empty_group();
            tasks.push(task);
            results.push(result);
        }
        if clone {
            tasks.iter_mut().for_each(|task| task.strip());
        }
        Ok((tasks, results))
    }
}

/// Partial arguments go to the first task: chains in front of it become part of this one, and empty groups go.
fn trim_head(steps: &mut VecDeque<Piece<'_>>, clone: bool) {
    let mut empty = None;
    while let Some(mut head) = steps.pop_front() {
        if head.is_chain() {
            if clone {
                head.renew();
            }
            head.into_steps().into_iter().rev().for_each(|step| steps.push_front(step));
            continue;
        }
        let head = head.unrolled();
        if head.is_empty_group() && !steps.is_empty() {
            empty = Some(head);
            continue;
        }
        steps.push_front(head);
        break;
    }
    // Of nothing but empty groups one stays.
    if steps.is_empty() {
        steps.extend(empty);
    }
}

impl<'n> Piece<'n> {
    pub(super) fn own(node: Node) -> Self {
        Self::Own(Box::new(node))
    }

    pub(super) fn into_node(self) -> Node {
        match self {
            Self::Own(node) => *node,
            Self::Of(node) => node.clone(),
        }
    }

    /// The node, and where it stands.
    fn take(self) -> (Node, Option<&'n mut Node>) {
        match self {
            Self::Own(node) => (*node, None),
            Self::Of(node) => (node.clone(), Some(node)),
        }
    }

    fn unrolled(self) -> Self {
        match self {
            Self::Own(node) => Self::own(node.unrolled()),
            Self::Of(node) if matches!(&node.shape, Shape::Group(tasks) if tasks.len() == 1) => match &mut node.shape {
                Shape::Group(tasks) => Self::Of(&mut tasks[0]),
                _ => unreachable!("it is a group"),
            },
            Self::Of(node) => Self::Of(node),
        }
    }

    /// The steps of a chain.
    fn into_steps(self) -> Vec<Self> {
        match self {
            Self::Own(node) => match node.shape {
                Shape::Chain(tasks) => tasks.into_iter().map(Self::own).collect(),
                _ => Vec::new(),
            },
            Self::Of(node) => match &mut node.shape {
                Shape::Chain(tasks) => tasks.iter_mut().map(Self::Of).collect(),
                _ => Vec::new(),
            },
        }
    }

    /// The members of a group.
    fn into_members(self) -> Vec<Node> {
        match self.into_node().shape {
            Shape::Group(tasks) => tasks,
            _ => Vec::new(),
        }
    }
}

impl Deref for Piece<'_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        match self {
            Self::Own(node) => node,
            Self::Of(node) => node,
        }
    }
}

impl DerefMut for Piece<'_> {
    fn deref_mut(&mut self) -> &mut Node {
        match self {
            Self::Own(node) => node,
            Self::Of(node) => node,
        }
    }
}
