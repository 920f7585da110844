//! What hangs on a signature: callbacks and errbacks, and where they go on each kind
//! (celery/canvas.py `link` and `link_error`).

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

use rustc_hash::FxHasher;

use crate::protocol::content::{Json, Kind};
use crate::signature::SignatureError;

use super::node::{Node, Shape};
use super::run::BODIES_BYTES_MAX;
use super::{read, write};

/// Most signatures that are hung on one.
const ON_ONE_MAX: usize = 1000;

/// Most that are hung on all that one signature is made of: an errback of a chain is hung on each of its steps.
const HUNG_MAX: u32 = 100_000;

/// How signatures are hung on others, and what it has cost so far.
#[derive(Debug)]
pub(super) struct Terms {
    /// An errback of a chord is hung on the members of its header as well (`task_allow_error_cb_on_chord_header`).
    on_header: bool,
    hung: Cell<u32>,
    bytes: Cell<usize>,
}

impl Terms {
    pub(super) fn new(on_header: bool) -> Self {
        Self { on_header, hung: Cell::new(0), bytes: Cell::new(0) }
    }

    /// Counts one that is hung on a signature that so many hang on already.
    pub(super) fn charge(&self, on_one: usize, link: &Link) -> Result<(), SignatureError> {
        self.charge_bytes(link.json.byte_len())?;
        self.hung.set(self.hung.get() + 1);
        match on_one < ON_ONE_MAX && self.hung.get() <= HUNG_MAX {
            true => Ok(()),
            false => Err(SignatureError::Hung),
        }
    }

    /// Counts text that is copied.
    pub(super) fn charge_bytes(&self, bytes: usize) -> Result<(), SignatureError> {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
        match self.bytes.get() <= BODIES_BYTES_MAX {
            true => Ok(()),
            false => Err(SignatureError::Bodies),
        }
    }
}

/// A signature that hangs on another, as text.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) json: Json,
    /// See [`Node::cloned`].
    cloned: bool,
    /// Of equal ones it is the same: every errback of a chain is compared with all that hang on each step.
    print: OnceLock<u64>,
}

impl PartialEq for Link {
    /// As Python compares maps: the order of their members does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.cloned == other.cloned && self.print() == other.print() && same(&self.json, &other.json)
    }
}

impl Link {
    /// As it came.
    pub(super) fn raw(json: Json) -> Self {
        Self { json, cloned: false, print: OnceLock::new() }
    }

    fn print(&self) -> u64 {
        *self.print.get_or_init(|| print(&self.json))
    }

    pub(super) fn of(node: &Node) -> Self {
        Self { json: write::signature(node), cloned: node.cloned, print: OnceLock::new() }
    }

    /// `maybe_signature`: what came as a map and is composite is read, which drops what has no meaning.
    fn into_signature(self) -> Result<Self, SignatureError> {
        match !self.cloned && self.json.get("subtask_type").is_some_and(|kind| !kind.is_null()) {
            true => self.changed(|_| {}),
            false => Ok(self),
        }
    }

    /// A clone, changed.
    pub(super) fn changed(&self, change: impl FnOnce(&mut Node)) -> Result<Self, SignatureError> {
        let mut node = read::lenient(&self.json)?;
        node.renew();
        change(&mut node);
        Ok(Self::of(&node))
    }
}

impl Node {
    pub(super) fn link(&mut self, link: Link, terms: &Terms) -> Result<(), SignatureError> {
        match &mut self.shape {
            // Of a group the first member calls it, and has nothing to tell it about the others.
            Shape::Group(tasks) => match tasks.first_mut() {
                Some(first) => first.link(link.changed(Node::set_immutable)?, terms)?,
                None => return Err(SignatureError::EmptyGroup),
            },
            Shape::Chord(chord) => match &mut chord.body {
                Some(body) => body.link(link, terms)?,
                None => return Err(SignatureError::Bodyless),
            },
            _ => self.options.append_link("link", link, terms)?,
        }
        Ok(())
    }

    pub(super) fn link_error(&mut self, link: Link, terms: &Terms) -> Result<(), SignatureError> {
        match &mut self.shape {
            Shape::Group(tasks) => {
                let link = link.into_signature()?;
                for task in tasks {
                    task.link_error(link.changed(|_| {})?, terms)?;
                }
            }
            Shape::Chord(chord) => {
                let link = link.into_signature()?;
                let is_list = chord.header.group.is_none();
                for task in &mut chord.header.tasks {
                    if terms.on_header {
                        // Celery sets an option of this name, and means the signature.
                        let mut on_member = link.changed(|node| {
                            node.options.set_json("immutable", Json::bool(true));
                            node.settle_options();
                        })?;
                        if !is_list {
                            // A group clones it once more.
                            on_member = on_member.changed(|_| {})?;
                        }
                        task.link_error(on_member, terms)?;
                    }
                    // Chords in the header see to themselves, unless the header is a group by now.
                    if is_list && task.is_chord() {
                        task.link_error(link.clone(), terms)?;
                    }
                }
                match &mut chord.body {
                    Some(body) => body.link_error(link, terms)?,
                    None => return Err(SignatureError::Bodyless),
                }
            }
            _ => self.options.append_link("link_error", link, terms)?,
        }
        Ok(())
    }

    /// An errback for the tasks of a group that is the body of a chord (`_link_error_to_body_tasks`). A group
    /// that runs as one and has errbacks of its own gets it there: when it runs, those replace its members'.
    pub(super) fn link_error_to_members(
        &mut self,
        link: &Link,
        runs_as_group: bool,
        terms: &Terms,
    ) -> Result<(), SignatureError> {
        let own = self.options.get("link_error").is_some_and(|own| !own.is_null());
        match &mut self.shape {
            Shape::Group(_) if runs_as_group && own => {
                self.options.append_link("link_error", link.changed(|_| {})?, terms)?;
            }
            Shape::Group(tasks) => {
                for task in tasks {
                    task.link_error_to_members(link, false, terms)?;
                }
            }
            Shape::Chord(chord) => match &mut chord.body {
                Some(body) => body.link_error_to_members(link, true, terms)?,
                None => return Err(SignatureError::Bodyless),
            },
            _ => self.link_error(link.changed(|_| {})?, terms)?,
        }
        Ok(())
    }
}

/// A number that is the same for values that are equal.
fn print(json: &Json) -> u64 {
    let mut hasher = FxHasher::default();
    match json.kind() {
        Kind::Map => {
            let members = json.members().map(|(key, value)| {
                let mut hasher = FxHasher::default();
                (key, print(&value)).hash(&mut hasher);
                hasher.finish()
            });
            members.fold(0, u64::wrapping_add).hash(&mut hasher);
        }
        Kind::List => json.elements().for_each(|value| print(&value).hash(&mut hasher)),
        Kind::Text => json.text_lossy().hash(&mut hasher),
        Kind::Number => json.as_f64().map(f64::to_bits).hash(&mut hasher),
        Kind::Bool | Kind::Null => json.as_bool().hash(&mut hasher),
    }
    hasher.finish()
}

/// Equal as Python's maps and lists are.
fn same(one: &Json, other: &Json) -> bool {
    if one.bytes() == other.bytes() {
        return true;
    }
    match (one.kind(), other.kind()) {
        (Kind::Map, Kind::Map) => {
            let mut count = 0;
            let all = one.members().all(|(key, value)| {
                count += 1;
                other.get(&key).is_some_and(|other| same(&value, &other))
            });
            all && other.members().count() == count
        }
        (Kind::List, Kind::List) => {
            let mut others = other.elements();
            one.elements().all(|value| others.next().is_some_and(|other| same(&value, &other)))
                && others.next().is_none()
        }
        (Kind::Text, Kind::Text) => {
            one.as_text().is_some_and(|text| other.as_text().is_some_and(|other| text == other))
        }
        (Kind::Number, Kind::Number) => one.as_f64().is_some_and(|number| other.as_f64() == Some(number)),
        _ => false,
    }
}
