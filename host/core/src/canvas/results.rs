//! The results that applying a signature promises (celery/result.py), as far as their tuples go.
//!
//! Their parents are known late and change: they are kept in one place, and written down at the end.

use crate::protocol::content::{Json, ToJson};

/// How many parents of a result are written down: nobody reads what lies deeper.
const PARENTS_MAX: u32 = 200;

/// A result among [`Results`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Promise(usize);

#[derive(Debug, Default)]
pub(super) struct Results(Vec<Known>);

#[derive(Debug)]
struct Known {
    id: String,
    parent: Option<Promise>,
    /// Of a group.
    members: Option<Vec<Promise>>,
}

impl Results {
    pub(super) fn task(&mut self, id: String) -> Promise {
        self.0.push(Known { id, parent: None, members: None });
        Promise(self.0.len() - 1)
    }

    pub(super) fn group(&mut self, id: String, members: Vec<Promise>) -> Promise {
        self.0.push(Known { id, parent: None, members: Some(members) });
        Promise(self.0.len() - 1)
    }

    pub(super) fn id(&self, promise: Promise) -> &str {
        &self.0[promise.0].id
    }

    pub(super) fn members(&self, promise: Promise) -> Option<&[Promise]> {
        self.0[promise.0].members.as_deref()
    }

    pub(super) fn parent(&self, promise: Promise) -> Option<Promise> {
        self.0[promise.0].parent
    }

    pub(super) fn set_parent(&mut self, promise: Promise, parent: Option<Promise>) {
        self.0[promise.0].parent = parent;
    }

    /// The first of all parents; none if there is no first.
    pub(super) fn eldest(&self, promise: Promise) -> Option<Promise> {
        let mut eldest = promise;
        for _ in 0..=self.0.len() {
            match self.parent(eldest) {
                Some(parent) => eldest = parent,
                None => return Some(eldest),
            }
        }
        None
    }

    /// `as_tuple`.
    pub(super) fn tuple(&self, promise: Promise) -> Json {
        let mut out = String::new();
        self.write(promise, 0, &mut out);
        Json::of(&Text(out))
    }

    /// `[[id, parent], members]`.
    fn write(&self, promise: Promise, depth: u32, out: &mut String) {
        let known = &self.0[promise.0];
        out.push_str("[[");
        known.id.write_json(out);
        out.push_str(", ");
        match known.parent {
            Some(parent) if depth < PARENTS_MAX => self.write(parent, depth + 1, out),
            _ => out.push_str("null"),
        }
        out.push_str("], ");
        match &known.members {
            None => out.push_str("null"),
            Some(members) => {
                out.push('[');
                for (index, member) in members.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { ", " });
                    self.write(*member, depth + 1, out);
                }
                out.push(']');
            }
        }
        out.push(']');
    }
}

/// JSON that was written here.
struct Text(String);

impl ToJson for Text {
    fn write_json(&self, out: &mut String) {
        out.push_str(&self.0);
    }
}
