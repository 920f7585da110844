//! A signature as a tree: what `Signature` and its subclasses are in celery/canvas.py, with the operations that
//! change one without sending it.
//!
//! Arguments stay texts. Signatures that hang on others (callbacks, errbacks, the body in a member's options) stay
//! texts as well until somebody applies or changes them.

use std::collections::VecDeque;

use crate::protocol::content::{Json, Kind, ListWriter, MapWriter, ToJson};
use crate::signature::SignatureError;

use super::links::Link;

/// Options that a signature keeps against whatever is given: others wait for what they lead to
/// (`Signature._IMMUTABLE_OPTIONS`).
const KEPT: [&str; 2] = ["group_id", "stamped_headers"];

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

/// Options in order: few, so looked through.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Options(Vec<(String, Value)>);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Json(Json),
    /// Signatures that hang on this one.
    Links(Vec<Link>),
}

impl Options {
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The value as JSON, if there is one and it is not null.
    pub(super) fn json(&self, key: &str) -> Option<Json> {
        self.get(key).map(Value::to_json).filter(|value| !value.is_null())
    }

    /// The value, if it is a text with something in it.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        match self.get(key)? {
            Value::Json(json) => json.as_text().filter(|text| !text.is_empty()).map(|text| text.into_owned()),
            Value::Links(_) => None,
        }
    }

    pub(super) fn set(&mut self, key: &str, value: Value) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    pub(super) fn set_json(&mut self, key: &str, value: Json) {
        self.set(key, Value::Json(value));
    }

    pub(super) fn set_text(&mut self, key: &str, text: &str) {
        self.set_json(key, Json::text(text));
    }

    pub(super) fn set_default(&mut self, key: &str, value: Option<&str>) {
        if !self.has(key) {
            self.set_json(key, value.map_or(Json::null(), Json::text));
        }
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1)
    }

    /// Takes a value away; null counts as none.
    pub(super) fn take_json(&mut self, key: &str) -> Option<Json> {
        self.take(key).map(|value| value.to_json()).filter(|value| !value.is_null())
    }

    pub(super) fn take_text(&mut self, key: &str) -> Option<String> {
        self.take_json(key)?.as_text().filter(|text| !text.is_empty()).map(|text| text.into_owned())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// All of the others, over ours (`dict.update`).
    pub(super) fn update(&mut self, others: &Self) {
        for (key, value) in &others.0 {
            self.set(key, value.clone());
        }
    }

    /// Without those for which it says no.
    pub(super) fn filtered(&self, keep: impl Fn(&str, &Value) -> bool) -> Self {
        Self(self.0.iter().filter(|(key, value)| keep(key, value)).cloned().collect())
    }

    /// What `apply_async` drops of what it is given.
    pub(super) fn without_nulls(&self) -> Self {
        self.filtered(|_, value| !value.is_null())
    }

    /// Ours, and of the others what does not change an option that is kept (`Signature._merge`).
    pub(super) fn merged(&self, given: &Self) -> Self {
        let stamps = self.json("stamped_headers");
        let is_stamp = |key: &str| {
            stamps.iter().flat_map(|names| names.elements()).any(|name| name.as_text().is_some_and(|name| name == key))
        };
        self.merged_but(given, |key| KEPT.contains(&key) || is_stamp(key))
    }

    /// The same for a group, which knows of no stamps (`group._freeze_gid`).
    pub(super) fn merged_in_group(&self, given: &Self) -> Self {
        self.merged_but(given, |key| KEPT.contains(&key))
    }

    fn merged_but(&self, given: &Self, kept: impl Fn(&str) -> bool) -> Self {
        let mut merged = self.clone();
        for (key, value) in &given.0 {
            if !(self.has(key) && kept(key)) {
                merged.set(key, value.clone());
            }
        }
        merged
    }

    /// The signatures under `key`: one, or several.
    pub(super) fn links(&self, key: &str) -> Vec<Link> {
        self.get(key).map_or_else(Vec::new, Value::links)
    }

    /// `append_to_list_option`: what is there already is not added once more.
    pub(super) fn append_link(&mut self, key: &str, link: Link) {
        let mut links = self.links(key);
        if !links.contains(&link) {
            links.push(link);
        }
        self.set(key, Value::Links(links));
    }

    /// `extend_list_option`.
    pub(super) fn extend_links(&mut self, key: &str, more: Vec<Link>) {
        let mut links = self.links(key);
        links.extend(more);
        self.set(key, Value::Links(links));
    }

    pub(super) fn to_json(&self) -> Json {
        Json::object(self.iter().map(|(key, value)| (key, value.to_json())))
    }
}

impl FromIterator<(String, Value)> for Options {
    /// Of equal keys the last counts, as in Python.
    fn from_iter<T: IntoIterator<Item = (String, Value)>>(all: T) -> Self {
        let mut options = Self::default();
        for (key, value) in all {
            options.set(&key, value);
        }
        options
    }
}

impl Value {
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Json(json) if json.is_null())
    }

    pub(super) fn to_json(&self) -> Json {
        match self {
            Self::Json(json) => json.clone(),
            Self::Links(links) => Json::array(links.iter().map(|link| &link.json)),
        }
    }

    pub(super) fn links(&self) -> Vec<Link> {
        match self {
            Self::Links(links) => links.clone(),
            Self::Json(json) => match json.kind() {
                Kind::List => json.elements().map(Link::raw).collect(),
                Kind::Null => Vec::new(),
                _ => vec![Link::raw(json.clone())],
            },
        }
    }
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

    /// `Signature.clone` without arguments.
    pub(super) fn cloned(&self) -> Self {
        self.clone().into_clone()
    }

    /// `Signature.clone`: with arguments put before its own, and options put over them.
    pub(super) fn cloned_with(&self, args: &[Json], kwargs: Option<&Json>, options: &Options) -> Self {
        let mut clone = self.clone();
        if !options.is_empty() {
            clone.options = self.options.merged(options);
        }
        if !self.immutable {
            clone.args = prepended(args, &self.args);
            if let Shape::Task { kwargs: own } | Shape::Chunks { kwargs: own } = &mut clone.shape {
                *own = overlaid(own, kwargs);
            }
        }
        clone.into_clone()
    }

    /// What Python's `from_dict` makes of a copy, which it builds anew.
    fn into_clone(mut self) -> Self {
        match &mut self.shape {
            Shape::Task { .. } | Shape::Chunks { .. } => self.extra.clear(),
            Shape::Chain(tasks) => {
                *tasks = std::mem::take(tasks).into_iter().map(Self::into_clone).collect();
                self.forget_arguments();
            }
            Shape::Group(_) => self.forget_arguments(),
            Shape::Chord(chord) => {
                // The options of the header's group are lost: it is a list again.
                let Header { group, tasks } = std::mem::take(&mut chord.header);
                let tasks = match group {
                    Some(_) => tasks,
                    None => tasks.into_iter().map(Self::into_clone).collect(),
                };
                chord.header = Header { group: None, tasks };
                chord.body = chord.body.take().map(Self::into_clone);
            }
        }
        self.cloned = true;
        self
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
    pub(super) fn unchained(&self, on_header: bool) -> Result<Vec<Self>, SignatureError> {
        let Shape::Chain(tasks) = &self.shape else { return Ok(Vec::new()) };
        let mut tasks: Vec<Self> = tasks.iter().map(Self::cloned).collect();
        if let Some(last) = tasks.last_mut() {
            for link in self.options.links("link") {
                last.link(link)?;
            }
        }
        for link in self.options.links("link_error") {
            for task in &mut tasks {
                task.link_error(link.clone(), on_header)?;
            }
        }
        Ok(tasks)
    }

    /// The chord followed by the rest of its body, which is a chain led by a task: else every member of the
    /// header would carry all of it (`_unroll_body`).
    pub(super) fn body_unrolled(&self, on_header: bool) -> Result<Vec<Self>, SignatureError> {
        let mut all = vec![self.cloned()];
        if let Some(chord) = all[0].as_chord_mut()
            && let Some(body) = chord.body.take()
        {
            let mut rest = body.unchained(on_header)?.into_iter();
            let first = rest.next();
            let passed_on = body.options.filtered(|key, _| !OF_CHAINS.contains(&key));
            chord.body = first.map(|first| first.cloned_with(&[], None, &passed_on));
            all.extend(rest);
        }
        Ok(all)
    }

    /// True for a chord whose body is a chain that starts with a task. A group there runs once per member of
    /// the chain's rest, and the chain has to stay whole.
    pub(super) fn has_body_to_unroll(&self) -> bool {
        let body = self.as_chord().and_then(|chord| chord.body.as_ref());
        matches!(body.map(|body| &body.shape), Some(Shape::Chain(tasks)) if tasks.first().is_some_and(|first| !first.is_group()))
    }

    /// Splits the bodies of chords in a chain (`_unroll_chords`).
    pub(super) fn unroll_chords(&mut self, on_header: bool) -> Result<(), SignatureError> {
        let Shape::Chain(tasks) = &mut self.shape else { return Ok(()) };
        let mut pending: VecDeque<Self> = std::mem::take(tasks).into();
        let mut unrolled = Vec::with_capacity(pending.len());
        while let Some(mut task) = pending.pop_front() {
            if task.is_chain() {
                task = task.into_clone();
                task.unroll_chords(on_header)?;
            }
            if task.has_body_to_unroll() {
                for piece in task.body_unrolled(on_header)?.into_iter().rev() {
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
