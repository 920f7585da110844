//! A signature as a tree: what `Signature` and its subclasses are in celery/canvas.py, with the operations that
//! change one without sending it.
//!
//! Arguments stay texts. Signatures that hang on others (callbacks, errbacks, the body in a member's options) stay
//! texts as well until somebody applies or changes them.

use std::collections::VecDeque;

use crate::protocol::content::{Json, ListWriter, MapWriter, ToJson};
use crate::signature::SignatureError;

use super::links::Terms;
use super::options::Options;

/// Options that a chain takes for itself, and does not pass on to its first step (`_CHAIN_RUN_OPTIONS`).
const OF_CHAINS: [&str; 8] =
    ["chord", "group_id", "group_index", "link", "link_error", "parent_id", "root_id", "task_id"];

/// One signature and those that it is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) task: String,
    /// A JSON array.
    pub(super) args: Json,
    pub(super) options: Options,
    pub(super) immutable: bool,
    pub(super) shape: Shape,
    /// Members that nobody knows, as they came. A clone has none, as in Celery.
    pub(super) extra: Vec<(String, Json)>,
    /// It went through Python's `clone`, which makes a tuple of its arguments: it is not equal to one that did not.
    pub(super) cloned: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    /// A message, with these keyword arguments.
    Task {
        kwargs: Json,
    },
    Chain(Vec<Node>),
    Group(Vec<Node>),
    Chord(Box<Chord>),
    /// A group of `celery.starmap`, over slices.
    Chunks {
        kwargs: Json,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chord {
    pub(super) header: Header,
    pub(super) body: Option<Node>,
    /// Keyword arguments for the members of the header.
    pub(super) kwargs: Json,
}

/// The header of a chord: a list at first, and a group with options once it is frozen.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Header {
    pub(super) group: Option<Options>,
    pub(super) tasks: Vec<Node>,
}

impl Node {
    /// A call of a task.
    pub(super) fn task(task: &str, args: Json, kwargs: Json) -> Self {
        let shape = Shape::Task { kwargs };
        Self {
            task: task.to_owned(),
            args,
            options: Options::default(),
            immutable: false,
            shape,
            extra: Vec::new(),
            cloned: true,
        }
    }

    pub(super) fn chain(tasks: Vec<Self>) -> Self {
        Self { shape: Shape::Chain(tasks), ..Self::task("celery.chain", Json::empty_list(), Json::empty_map()) }
    }

    pub(super) fn group(tasks: Vec<Self>) -> Self {
        Self { shape: Shape::Group(tasks), ..Self::task("celery.group", Json::empty_list(), Json::empty_map()) }
    }

    /// `chord(header, body)`; of a group only its members matter.
    pub(super) fn chord(header: Vec<Self>, body: Self) -> Self {
        let header = Header { group: None, tasks: header };
        let shape = Shape::Chord(Box::new(Chord { header, body: Some(body), kwargs: Json::empty_map() }));
        Self { shape, ..Self::task("celery.chord", Json::empty_list(), Json::empty_map()) }
    }

    pub(super) fn is_chain(&self) -> bool {
        matches!(self.shape, Shape::Chain(_))
    }

    pub(super) fn is_group(&self) -> bool {
        matches!(self.shape, Shape::Group(_))
    }

    pub(super) fn is_chord(&self) -> bool {
        matches!(self.shape, Shape::Chord(_))
    }

    pub(super) fn is_empty_group(&self) -> bool {
        matches!(&self.shape, Shape::Group(tasks) if tasks.is_empty())
    }

    pub(super) fn is_empty_chain(&self) -> bool {
        matches!(&self.shape, Shape::Chain(tasks) if tasks.is_empty())
    }

    pub(super) fn as_chord(&self) -> Option<&Chord> {
        match &self.shape {
            Shape::Chord(chord) => Some(chord),
            _ => None,
        }
    }

    pub(super) fn as_chord_mut(&mut self) -> Option<&mut Chord> {
        match &mut self.shape {
            Shape::Chord(chord) => Some(chord),
            _ => None,
        }
    }

    /// A group of one is its member (`maybe_unroll_group`).
    pub(super) fn unrolled(self) -> Self {
        match self.shape {
            Shape::Group(mut tasks) if tasks.len() == 1 => tasks.remove(0),
            shape => Self { shape, ..self },
        }
    }

    /// What `Signature.clone` makes of it, in Python's words a copy.
    pub(super) fn renew(&mut self) {
        match &mut self.shape {
            Shape::Task { .. } | Shape::Chunks { .. } => self.extra.clear(),
            Shape::Chain(tasks) => {
                tasks.iter_mut().for_each(Self::renew);
                self.forget_arguments();
            }
            Shape::Group(_) => self.forget_arguments(),
            Shape::Chord(chord) => {
                // The options of the header's group are lost: it is a list again.
                if chord.header.group.take().is_none() {
                    chord.header.tasks.iter_mut().for_each(Self::renew);
                }
                chord.body.iter_mut().for_each(Self::renew);
            }
        }
        self.cloned = true;
    }

    /// The same with arguments put before its own, and options put over them.
    pub(super) fn renew_with(&mut self, args: &[Json], kwargs: Option<&Json>, options: &Options) {
        if !options.is_empty() {
            self.options = self.options.merged(options);
        }
        if !self.immutable {
            self.args = prepended(args, &self.args);
            if let Shape::Task { kwargs: own } | Shape::Chunks { kwargs: own } = &mut self.shape {
                *own = overlaid(own, kwargs);
            }
        }
        self.renew();
    }

    /// Of a group its members are, of a chord the members of its header.
    pub(super) fn set_immutable(&mut self) {
        match &mut self.shape {
            Shape::Group(tasks) => tasks.iter_mut().for_each(Self::set_immutable),
            Shape::Chord(chord) => chord.header.tasks.iter_mut().for_each(Self::set_immutable),
            Shape::Task { .. } | Shape::Chain(_) | Shape::Chunks { .. } => self.immutable = true,
        }
    }

    /// Python's constructor of chains and groups takes an option of the name of an argument for that.
    pub(super) fn settle_options(&mut self) {
        if self.is_chain() || self.is_group() {
            self.forget_arguments();
        }
    }

    /// Chains and groups are made of their steps and options alone.
    pub(super) fn forget_arguments(&mut self) {
        self.args = Json::empty_list();
        let immutable = self.options.take_json("immutable").and_then(|value| value.as_bool());
        self.immutable = immutable.unwrap_or(false);
        self.extra.clear();
    }

    /// The steps of a chain, with what hangs on the chain hung on them (`unchain_tasks`).
    pub(super) fn unchained(self, terms: &Terms) -> Result<Vec<Self>, SignatureError> {
        let Shape::Chain(mut tasks) = self.shape else { return Ok(Vec::new()) };
        tasks.iter_mut().for_each(Self::renew);
        if let Some(last) = tasks.last_mut() {
            for link in self.options.links("link") {
                last.link(link, terms)?;
            }
        }
        for link in self.options.links("link_error") {
            for task in &mut tasks {
                task.link_error(link.clone(), terms)?;
            }
        }
        Ok(tasks)
    }

    /// The chord followed by the rest of its body, which is a chain led by a task: else every member of the
    /// header would carry all of it (`_unroll_body`).
    pub(super) fn body_unrolled(mut self, terms: &Terms) -> Result<Vec<Self>, SignatureError> {
        self.renew();
        let Some(body) = self.as_chord_mut().and_then(|chord| chord.body.take()) else { return Ok(vec![self]) };
        let passed_on = body.options.filtered(|key, _| !OF_CHAINS.contains(&key));
        let mut steps = body.unchained(terms)?;
        if let (Some(first), Some(chord)) = (steps.first_mut(), self.as_chord_mut()) {
            first.renew_with(&[], None, &passed_on);
            chord.body = Some(std::mem::replace(first, Self::chain(Vec::new())));
        }
        match steps.first_mut() {
            Some(first) => *first = self,
            None => steps.push(self),
        }
        Ok(steps)
    }

    /// True for a chord whose body is a chain that starts with a task. A group there runs once per member of
    /// the chain's rest, and the chain has to stay whole.
    pub(super) fn has_body_to_unroll(&self) -> bool {
        let body = self.as_chord().and_then(|chord| chord.body.as_ref());
        matches!(body.map(|body| &body.shape), Some(Shape::Chain(tasks)) if tasks.first().is_some_and(|first| !first.is_group()))
    }

    /// Splits the bodies of chords in a chain (`_unroll_chords`).
    pub(super) fn unroll_chords(&mut self, terms: &Terms) -> Result<(), SignatureError> {
        let Shape::Chain(tasks) = &mut self.shape else { return Ok(()) };
        let mut pending: VecDeque<Self> = std::mem::take(tasks).into();
        let mut unrolled = Vec::with_capacity(pending.len());
        while let Some(mut task) = pending.pop_front() {
            if task.is_chain() {
                task.renew();
                task.unroll_chords(terms)?;
            }
            if task.has_body_to_unroll() {
                for piece in task.body_unrolled(terms)?.into_iter().rev() {
                    pending.push_front(piece);
                }
            } else {
                unrolled.push(task);
            }
        }
        *tasks = unrolled;
        Ok(())
    }

    /// A chord carries its body; copies of it in its header's members are put there when the header is sent
    /// (`_strip_chord_header_links`).
    pub(super) fn strip(&mut self) {
        match &mut self.shape {
            Shape::Chord(chord) => {
                if let Some(options) = &mut chord.header.group {
                    options.take("chord");
                }
                for task in &mut chord.header.tasks {
                    task.clear_chord();
                    task.strip();
                }
                if let Some(body) = &mut chord.body {
                    body.strip();
                }
            }
            Shape::Group(tasks) | Shape::Chain(tasks) => tasks.iter_mut().for_each(Self::strip),
            Shape::Task { .. } | Shape::Chunks { .. } => {}
        }
    }

    fn clear_chord(&mut self) {
        self.options.take("chord");
        match &mut self.shape {
            Shape::Group(tasks) => tasks.iter_mut().for_each(Self::clear_chord),
            Shape::Chain(tasks) => tasks.iter_mut().rev().take(1).for_each(Self::clear_chord),
            Shape::Chord(chord) => chord.body.iter_mut().for_each(Self::clear_chord),
            Shape::Task { .. } | Shape::Chunks { .. } => {}
        }
    }

    /// How many members of a chord it counts for (`_descend`).
    pub(super) fn size(&self) -> u64 {
        match &self.shape {
            Shape::Task { .. } | Shape::Chunks { .. } => 1,
            Shape::Group(tasks) => tasks.iter().map(Self::size).sum(),
            Shape::Chain(tasks) => tasks.iter().rev().map(Self::size).find(|size| *size > 0).unwrap_or(0),
            Shape::Chord(chord) => chord.body.as_ref().map_or(0, Self::size),
        }
    }
}

/// A JSON array with these in front.
pub(super) fn prepended(first: &[Json], list: &Json) -> Json {
    if first.is_empty() {
        return list.clone();
    }
    let mut writer = ListWriter::new();
    for value in first {
        writer.push(value);
    }
    // The text of the others as it is, without looking into it.
    let rest = list.as_str();
    let rest = rest[1..rest.len() - 1].trim_matches([' ', '\t', '\n', '\r']);
    if !rest.is_empty() {
        writer.push(&Text(rest));
    }
    writer.finish()
}

/// Pieces of JSON text that come from checked text.
struct Text<'a>(&'a str);

impl ToJson for Text<'_> {
    fn write_json(&self, out: &mut String) {
        out.push_str(self.0);
    }
}

/// A JSON object with the members of another over its own.
pub(super) fn overlaid(own: &Json, given: Option<&Json>) -> Json {
    let Some(given) = given.filter(|given| given.members().next().is_some()) else { return own.clone() };
    let mut writer = MapWriter::new();
    for (key, value) in own.members().filter(|(key, _)| given.get(key).is_none()) {
        writer.put(&key, &value);
    }
    for (key, value) in given.members() {
        writer.put(&key, &value);
    }
    writer.finish()
}
