//! What a signature may lead to, for whoever decides whether its author may publish it.
//!
//! Strict where [`super::read`] is lenient: an option that nobody knows is refused, since somebody may know it
//! elsewhere. Nothing is decided here.

use crate::name::TaskName;
use crate::protocol::content::{Json, Kind};
use crate::route::Destination;
use crate::signature::{Manner, Plain, Signature, SignatureError};

use super::node::{Node, Shape};
use super::read::{self, DEPTH_MAX, MEMBERS_MAX};

/// Tasks that call what is in their arguments, in Python or here. The second is true for those that find it
/// under `task`.
const BUILTINS: [(&str, bool); 7] = [
    ("celery.map", true),
    ("celery.starmap", true),
    ("celery.chunks", true),
    ("celery.chain", false),
    ("celery.group", false),
    ("celery.chord", false),
    ("celery.chord_unlock", false),
];

/// Options that hold signatures.
const LINKS: [&str; 4] = ["link", "link_error", "chain", "chord"];

/// All tasks, and the ways they may go.
pub(super) fn signatures(node: &Node) -> Result<Vec<Signature>, SignatureError> {
    let mut gate = Gate { found: Vec::new(), around: Vec::new(), depth: 0 };
    gate.node(node)?;
    Ok(gate.found)
}

struct Gate {
    found: Vec<Signature>,
    /// What the signatures around this one say about the way of all that is in them.
    around: Vec<(Destination, bool)>,
    depth: u32,
}

impl Gate {
    fn node(&mut self, node: &Node) -> Result<(), SignatureError> {
        if self.depth == DEPTH_MAX {
            return Err(SignatureError::Nested);
        }
        self.depth += 1;
        self.nested(node)?;
        self.depth -= 1;
        Ok(())
    }

    fn nested(&mut self, node: &Node) -> Result<(), SignatureError> {
        let pairs = node.options.iter().map(|(key, value)| (key, value.to_json()));
        let options = Plain::options(pairs, Manner::Strict)?;
        let way = (options.destination.clone(), options.reply_to.is_some());
        match &node.shape {
            Shape::Task { kwargs } => {
                let task = TaskName::parse(&node.task)?;
                let around = self.around.iter().filter(|(destination, replies)| !destination.is_default() || *replies);
                for (destination, replies) in std::iter::once(&way).chain(around) {
                    let (destination, replies) = (destination.clone(), *replies);
                    if self.found.len() >= MEMBERS_MAX as usize {
                        return Err(SignatureError::Members);
                    }
                    self.found.push(Signature::new(task.clone(), destination, replies));
                }
                if let Some((name, finds_it)) = BUILTINS.iter().find(|(name, _)| *name == node.task) {
                    let is_closed = *finds_it && node.immutable && node.args.elements().next().is_none();
                    let inner = kwargs.get("task").filter(|inner| is_closed && inner.kind() == Kind::Map);
                    let inner = inner.ok_or(SignatureError::Builtin(name))?;
                    self.inner(&inner, "kwargs.task")?;
                }
            }
            // A group of `celery.starmap`; in a chain, Celery sends it by its own name.
            Shape::Chunks { kwargs } => {
                for name in ["celery.chunks", "celery.starmap"] {
                    let task = TaskName::parse(name)?;
                    self.found.push(Signature::new(task, way.0.clone(), way.1));
                }
                self.around.push(way);
                self.inner(&kwargs.get("task").unwrap_or(Json::null()), "kwargs.task")?;
                self.around.pop();
            }
            Shape::Chain(tasks) => self.all(tasks, "kwargs.tasks", way)?,
            Shape::Group(tasks) => self.all(tasks, "kwargs.tasks", way)?,
            Shape::Chord(chord) => {
                self.all(&chord.header.tasks, "kwargs.header", way.clone())?;
                self.around.push(way);
                let body = chord.body.as_ref().ok_or(SignatureError::Bodyless)?;
                self.node(body).map_err(|error| error.within("kwargs.body"))?;
                self.around.pop();
            }
        }
        // These go their own ways.
        let around = std::mem::take(&mut self.around);
        for key in LINKS {
            let Some(value) = node.options.json(key) else { continue };
            match value.kind() {
                Kind::List => {
                    for (index, link) in value.elements().enumerate() {
                        self.inner(&link, &format!("options.{key}[{index}]"))?;
                    }
                }
                _ => self.inner(&value, &format!("options.{key}"))?,
            }
        }
        self.around = around;
        Ok(())
    }

    fn all(&mut self, tasks: &[Node], path: &str, way: (Destination, bool)) -> Result<(), SignatureError> {
        self.around.push(way);
        for (index, task) in tasks.iter().enumerate() {
            self.node(task).map_err(|error| error.within(&format!("{path}[{index}]")))?;
        }
        self.around.pop();
        Ok(())
    }

    fn inner(&mut self, json: &Json, path: &str) -> Result<(), SignatureError> {
        read::lenient(json).and_then(|node| self.node(&node)).map_err(|error| error.within(path))
    }
}
