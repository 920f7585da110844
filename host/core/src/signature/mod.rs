//! A task call that somebody wants to be published: Celery's map of a signature, read and checked
//! (celery/canvas.py `Signature`).
//!
//! Plain signatures only: chains, groups and chords are refused by their kind. Who may publish what is not
//! known here.

mod options;
mod send;
#[cfg(test)]
mod tests;

use crate::name::{NameError, TaskName};
use crate::protocol::content::{Json, JsonError, Kind};
use crate::route::{Destination, QueueNotFound};

use options::Options;
pub use send::{Sender, was_sent_before};

/// A plain signature.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    pub task: TaskName,
    args: Json,
    kwargs: Json,
    options: Options,
}

/// How deep signatures may lie within each other, each as a callback of the next.
const NESTING_MAX: u32 = 16;

/// Tasks that are another form of a canvas; whoever runs them publishes what is in their arguments.
const CANVAS_TASKS: [(&str, &str); 6] = [
    ("celery.chain", "chain"),
    ("celery.group", "group"),
    ("celery.chord", "chord"),
    ("celery.chunks", "chunks"),
    ("celery.map", "xmap"),
    ("celery.starmap", "xstarmap"),
];

/// Why a text is no signature that can be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the signature is not JSON: {0}")]
    Json(#[from] JsonError),
    #[error("the signature is a {kind}: only plain signatures are supported yet")]
    Canvas { kind: String },
    #[error("the signature holds signatures that hold others, deeper than {NESTING_MAX}")]
    Nested,
    #[error("{what} of the signature is not {expected}")]
    Shape { what: &'static str, expected: &'static str },
    #[error("the signature: {0}")]
    Name(#[from] NameError),
    #[error("option `{option}` of the signature is not {expected}")]
    Option { option: &'static str, expected: &'static str },
    #[error("the signature has an option `{0}`, which nobody knows")]
    UnknownOption(String),
    #[error(transparent)]
    Queue(#[from] QueueNotFound),
    #[error("header `{0}` of the signature cannot be set: its value follows from other things")]
    Header(String),
}

impl Signature {
    /// Reads a text.
    pub fn parse(text: String) -> Result<Self, SignatureError> {
        Self::read(&Json::parse(text)?)
    }

    /// Reads a map.
    pub fn read(signature: &Json) -> Result<Self, SignatureError> {
        Self::read_nested(signature, 0)
    }

    fn read_nested(signature: &Json, depth: u32) -> Result<Self, SignatureError> {
        if depth > NESTING_MAX {
            return Err(SignatureError::Nested);
        }
        if signature.kind() != Kind::Map {
            return Err(SignatureError::Shape { what: "all", expected: "a JSON object" });
        }
        let get = |key: &str| signature.get(key).filter(|value| !value.is_null());
        if let Some(kind) = get("subtask_type") {
            let kind = kind.text_lossy().map_or_else(|| kind.to_string(), |kind| kind.into_owned());
            return Err(SignatureError::Canvas { kind });
        }
        let shape = |what, expected| SignatureError::Shape { what, expected };
        let task = get("task").ok_or(shape("`task`", "there"))?;
        let task = TaskName::parse(&task.as_text().ok_or(shape("`task`", "a text"))?)?;
        if let Some((_, kind)) = CANVAS_TASKS.iter().find(|(name, _)| *name == task.as_str()) {
            return Err(SignatureError::Canvas { kind: (*kind).to_owned() });
        }
        let args = get("args").unwrap_or(Json::empty_list());
        let kwargs = get("kwargs").unwrap_or(Json::empty_map());
        let options = get("options").unwrap_or(Json::empty_map());
        match (args.kind(), kwargs.kind(), options.kind()) {
            (Kind::List, Kind::Map, Kind::Map) => {
                let options = Options::read(&options, depth)?;
                Ok(Self { task, args, kwargs, options })
            }
            (Kind::List, Kind::Map, _) => Err(shape("`options`", "a JSON object")),
            (Kind::List, _, _) => Err(shape("`kwargs`", "a JSON object")),
            _ => Err(shape("`args`", "a JSON array")),
        }
    }

    /// What it says about where it goes.
    pub fn destination(&self) -> &Destination {
        &self.options.destination
    }

    /// True if it says where its result goes.
    pub fn has_reply_to(&self) -> bool {
        self.options.reply_to.is_some()
    }

    /// Itself, and all that are published because of it: its callbacks, its errbacks, the rest of its chain,
    /// and theirs.
    pub fn all(&self) -> Vec<&Self> {
        let mut found = vec![self];
        let mut next = 0;
        while let Some(signature) = found.get(next).copied() {
            let Options { callbacks, errbacks, chain, .. } = &signature.options;
            found.extend([callbacks, errbacks, chain].into_iter().flat_map(|attached| &attached.signatures));
            next += 1;
        }
        found
    }
}
