//! What can be said of a canvas as a whole: callbacks, immutability, stamps, partial arguments. Each kind passes it
//! on to its parts as Celery's classes do.

use serde::Serialize;

use crate::elements;
use crate::json::Json;
use crate::lenient;

use super::{Shape, Signature};

impl Signature {
    /// Another task, or canvas, to be called with the result of this one. Of a chain that is the result of its last
    /// step, of a chord that of its body. A group has no result of its own: as in Celery it calls the other without
    /// one, when its first task has succeeded; [`crate::chord`] is what calls it with all of them.
    pub fn link(mut self, callback: &Signature) -> Self {
        self.add_link(callback);
        self
    }

    /// Another task, or canvas, to be called with the id of this one if it fails; of a group, with that of each task
    /// that fails. Of a chord it is called if its body fails or is not called since a task of the header has failed.
    pub fn link_error(mut self, errback: &Signature) -> Self {
        self.add_errback(errback);
        self
    }

    /// What it is called with is no argument of it: Celery's `si`. Of a group that concerns its members, of a chord
    /// those of its header, and of a chain its first step.
    pub fn immutable(mut self) -> Self {
        self.make_immutable();
        self
    }

    /// Positional arguments before those that it has, unless it is immutable: Celery's `clone(args)`.
    pub fn partial(mut self, args: impl Serialize) -> Self {
        if self.immutable {
            return self;
        }
        let Some(first) = self.json(&args) else { return self };
        let mut all = Vec::new();
        let lists = [&first, &self.args].map(|list| elements::of_array(list.as_str(), |element| all.push(element)));
        match lists.iter().all(Result::is_ok) {
            true => self.args = Json::from_text(format!("[{}]", all.join(", "))),
            false => self.break_by("the positional arguments are no list"),
        }
        self
    }

    /// Marks every task in it and all that hang on them with a value under a name, by which clients can revoke them:
    /// Celery's `stamp`. A stamp of that name that is there already is replaced.
    pub fn stamp(mut self, name: &str, value: impl Serialize) -> Self {
        if let Some(value) = self.json(&value) {
            self.add_stamp(name, &value);
        }
        self
    }

    pub(super) fn add_link(&mut self, callback: &Signature) {
        match &mut self.shape {
            Shape::Group(members) => match members.first_mut() {
                Some(first) => first.add_link(&callback.clone().immutable()),
                None => self.break_by("an empty group has no task that a callback could follow"),
            },
            Shape::Chord { body: Some(body), .. } => body.add_link(callback),
            Shape::Chord { body: None, .. } => self.break_by("a chord without a body has nothing to follow"),
            _ => attach(&mut self.links, callback),
        }
    }

    pub(super) fn add_errback(&mut self, errback: &Signature) {
        match &mut self.shape {
            Shape::Group(members) => {
                for member in members {
                    member.add_errback(errback);
                }
            }
            Shape::Chord { header, body, .. } => {
                for task in header.iter_mut().filter(|task| matches!(task.shape, Shape::Chord { .. })) {
                    task.add_errback(errback);
                }
                if let Some(body) = body {
                    body.add_errback(errback);
                }
            }
            _ => attach(&mut self.errbacks, errback),
        }
    }

    fn make_immutable(&mut self) {
        match &mut self.shape {
            Shape::Group(tasks) | Shape::Chord { header: tasks, .. } => {
                for task in tasks {
                    task.make_immutable();
                }
            }
            // Celery marks the chain, and forgets that when it sends it.
            Shape::Chain(tasks) => {
                if let Some(first) = tasks.first_mut() {
                    first.make_immutable();
                }
            }
            Shape::Task { .. } | Shape::Chunks { .. } | Shape::Map { .. } | Shape::Starmap { .. } => {
                self.immutable = true;
            }
        }
    }

    fn add_stamp(&mut self, name: &str, value: &Json) {
        for attached in self.links.iter_mut().chain(&mut self.errbacks) {
            attached.add_stamp(name, value);
        }
        match &mut self.shape {
            Shape::Chain(tasks) | Shape::Group(tasks) => {
                for task in tasks {
                    task.add_stamp(name, value);
                }
            }
            Shape::Chord { header, body, .. } => {
                for task in header.iter_mut().chain(body.as_deref_mut()) {
                    task.add_stamp(name, value);
                }
            }
            Shape::Task { .. } | Shape::Chunks { .. } | Shape::Map { .. } | Shape::Starmap { .. } => {
                let names = self.option_json(STAMPED).map_or("[]", Json::as_str);
                let mut names: Vec<String> = lenient::parse(names).unwrap_or_default();
                if !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
                if let Some(names) = self.json(&names) {
                    self.set(STAMPED, names);
                }
                self.set(name, value.clone());
            }
        }
    }
}

/// The option that names those which are stamps.
const STAMPED: &str = "stamped_headers";

/// As in Celery, one that is there already is not called twice.
fn attach(list: &mut Vec<Signature>, other: &Signature) {
    if !list.contains(other) {
        list.push(other.clone());
    }
}
