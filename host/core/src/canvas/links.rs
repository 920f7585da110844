//! What hangs on a signature: callbacks and errbacks, and where they go on each kind
//! (celery/canvas.py `link` and `link_error`).

use crate::protocol::content::{Json, Kind};
use crate::signature::SignatureError;

use super::node::{Node, Shape};
use super::{read, write};

/// A signature that hangs on another, as text.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) json: Json,
    /// See [`Node::cloned`].
    pub(super) cloned: bool,
}

impl PartialEq for Link {
    /// As Python compares maps: the order of their members does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.cloned == other.cloned && same(&self.json, &other.json)
    }
}

impl Link {
    /// As it came.
    pub(super) fn raw(json: Json) -> Self {
        Self { json, cloned: false }
    }

    pub(super) fn of(node: &Node) -> Self {
        Self { json: write::signature(node), cloned: node.cloned }
    }

    /// `maybe_signature`: what is composite is read, which drops what has no meaning.
    fn into_signature(self) -> Result<Self, SignatureError> {
        match self.json.get("subtask_type").is_some_and(|kind| !kind.is_null()) {
            true => self.changed(|_| {}),
            false => Ok(self),
        }
    }

    /// A clone, changed.
    pub(super) fn changed(&self, change: impl FnOnce(&mut Node)) -> Result<Self, SignatureError> {
        let mut node = read::lenient(&self.json)?.cloned();
        change(&mut node);
        Ok(Self::of(&node))
    }
}

impl Node {
    pub(super) fn link(&mut self, link: Link) -> Result<(), SignatureError> {
        match &mut self.shape {
            // Of a group the first member calls it, and has nothing to tell it about the others.
            Shape::Group(tasks) => match tasks.first_mut() {
                Some(first) => first.link(link.changed(|node| node.immutable = true)?)?,
                None => return Err(SignatureError::EmptyGroup),
            },
            Shape::Chord(chord) => match &mut chord.body {
                Some(body) => body.link(link)?,
                None => return Err(SignatureError::Bodyless),
            },
            _ => self.options.append_link("link", link),
        }
        Ok(())
    }

    /// `on_header` is Celery's setting `task_allow_error_cb_on_chord_header`.
    pub(super) fn link_error(&mut self, link: Link, on_header: bool) -> Result<(), SignatureError> {
        match &mut self.shape {
            Shape::Group(tasks) => {
                let link = link.into_signature()?;
                for task in tasks {
                    task.link_error(link.changed(|_| {})?, on_header)?;
                }
            }
            Shape::Chord(chord) => {
                let link = link.into_signature()?;
                let is_list = chord.header.group.is_none();
                for task in &mut chord.header.tasks {
                    if on_header {
                        // Celery sets an option of this name, and means the signature.
                        let mut on_member = link.changed(|node| {
                            node.options.set_json("immutable", Json::bool(true));
                            node.settle_options();
                        })?;
                        if !is_list {
                            // A group clones it once more.
                            on_member = on_member.changed(|_| {})?;
                        }
                        task.link_error(on_member, on_header)?;
                    }
                    // Chords in the header see to themselves, unless the header is a group by now.
                    if is_list && task.is_chord() {
                        task.link_error(link.clone(), on_header)?;
                    }
                }
                match &mut chord.body {
                    Some(body) => body.link_error(link, on_header)?,
                    None => return Err(SignatureError::Bodyless),
                }
            }
            _ => self.options.append_link("link_error", link),
        }
        Ok(())
    }

    /// An errback for the tasks of a group that is the body of a chord (`_link_error_to_body_tasks`). A group
    /// that runs as one and has errbacks of its own gets it there: when it runs, those replace its members'.
    pub(super) fn link_error_to_members(
        &mut self,
        link: &Link,
        runs_as_group: bool,
        on_header: bool,
    ) -> Result<(), SignatureError> {
        let own = self.options.get("link_error").is_some_and(|own| !own.is_null());
        match &mut self.shape {
            Shape::Group(_) if runs_as_group && own => self.options.append_link("link_error", link.changed(|_| {})?),
            Shape::Group(tasks) => {
                for task in tasks {
                    task.link_error_to_members(link, false, on_header)?;
                }
            }
            Shape::Chord(chord) => match &mut chord.body {
                Some(body) => body.link_error_to_members(link, true, on_header)?,
                None => return Err(SignatureError::Bodyless),
            },
            _ => self.link_error(link.changed(|_| {})?, on_header)?,
        }
        Ok(())
    }
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
