//! Signatures from JSON (celery/canvas.py `from_dict`): everything that Celery's own clients and workers write.
//!
//! What hangs on a signature is not read here; see [`super::gate`] for those that nobody may trust.

use crate::protocol::content::{Json, Kind};
use crate::signature::SignatureError;

use super::node::{Chord, Header, Node, Shape};
use super::options::Value;

/// Most signatures that one is made of.
pub(super) const MEMBERS_MAX: u32 = 100_000;

/// How deep signatures may lie within each other. Python's own stack ends at about as many.
pub(super) const DEPTH_MAX: u32 = 100;

/// A signature of any shape.
pub(super) fn lenient(json: &Json) -> Result<Node, SignatureError> {
    Reader { left: MEMBERS_MAX, depth: 0 }.node(json)
}

struct Reader {
    /// How many more there may be.
    left: u32,
    /// How many there are around this one.
    depth: u32,
}

impl Reader {
    fn node(&mut self, json: &Json) -> Result<Node, SignatureError> {
        self.left = self.left.checked_sub(1).ok_or(SignatureError::Members)?;
        if self.depth == DEPTH_MAX {
            return Err(SignatureError::Nested);
        }
        self.depth += 1;
        let node = self.nested(json);
        self.depth -= 1;
        node
    }

    fn nested(&mut self, json: &Json) -> Result<Node, SignatureError> {
        if json.kind() != Kind::Map {
            return Err(SignatureError::Shape { what: "all", expected: "a JSON object" });
        }
        let mut parts = Parts::default();
        for (key, value) in json.members() {
            match &*key {
                "task" => parts.task = value,
                "args" => parts.args = value,
                "kwargs" => parts.kwargs = value,
                "options" => parts.options = value,
                "subtask_type" => parts.kind = value,
                "immutable" => parts.immutable = value,
                _ => parts.extra.push((key.into_owned(), value)),
            }
        }
        let shape = |what, expected| SignatureError::Shape { what, expected };
        let args = checked(parts.args, Kind::List).ok_or(shape("`args`", "a JSON array"))?;
        let kwargs = checked(parts.kwargs, Kind::Map).ok_or(shape("`kwargs`", "a JSON object"))?;
        let options = checked(parts.options, Kind::Map).ok_or(shape("`options`", "a JSON object"))?;
        let options = options.members().map(|(key, value)| (key.into_owned(), Value::Json(value))).collect();
        let immutable = parts.immutable.as_bool().unwrap_or(false);
        let kind = match parts.kind.kind() {
            Kind::Null => None,
            _ => Some(parts.kind.text_lossy().map_or_else(|| parts.kind.to_string(), |kind| kind.into_owned())),
        };
        let of = |task: &str, shape| Node {
            options,
            immutable,
            ..Node { shape, ..Node::task(task, args.clone(), Json::null()) }
        };
        Ok(match kind.as_deref() {
            None | Some("") => {
                let task = match parts.task.kind() {
                    Kind::Null => return Err(shape("`task`", "there")),
                    Kind::Text => parts.task.text_lossy().unwrap_or_default().into_owned(),
                    _ => return Err(shape("`task`", "a text")),
                };
                Node { extra: parts.extra, cloned: false, ..of(&task, Shape::Task { kwargs }) }
            }
            Some("chain") => composite(of("celery.chain", Shape::Chain(self.list(&kwargs, "kwargs.tasks")?))),
            Some("group") => composite(of("celery.group", Shape::Group(self.list(&kwargs, "kwargs.tasks")?))),
            Some("chord") => {
                let chord = self.chord(&kwargs)?;
                let mut node = of("celery.chord", Shape::Chord(Box::new(chord)));
                // Python's constructor takes them for options.
                for (key, value) in parts.extra {
                    node.options.set_json(&key, value);
                }
                node
            }
            Some("xmap") => mapped(of("celery.map", Shape::Task { kwargs: only(&kwargs, &["task", "it"])? })),
            Some("xstarmap") => mapped(of("celery.starmap", Shape::Task { kwargs: only(&kwargs, &["task", "it"])? })),
            Some("chunks") => {
                mapped(of("celery.chunks", Shape::Chunks { kwargs: only(&kwargs, &["task", "it", "n"])? }))
            }
            Some(other) => return Err(SignatureError::Kind(other.to_owned())),
        })
    }

    fn list(&mut self, kwargs: &Json, path: &str) -> Result<Vec<Node>, SignatureError> {
        let key = path.trim_start_matches("kwargs.");
        let tasks = kwargs.get(key).filter(|tasks| tasks.kind() == Kind::List);
        let tasks = tasks.ok_or(SignatureError::Shape { what: "`kwargs.tasks`", expected: "a JSON array" })?;
        self.nodes(&tasks, path)
    }

    fn nodes(&mut self, tasks: &Json, path: &str) -> Result<Vec<Node>, SignatureError> {
        let mut nodes = Vec::new();
        for (index, task) in tasks.elements().enumerate() {
            nodes.push(self.node(&task).map_err(|error| error.within(&format!("{path}[{index}]")))?);
        }
        Ok(nodes)
    }

    fn chord(&mut self, kwargs: &Json) -> Result<Chord, SignatureError> {
        let header = kwargs.get("header").unwrap_or(Json::null());
        let header = match header.kind() {
            Kind::List => self.nodes(&header, "kwargs.header")?,
            // One signature; of a group or a chain those that it is made of.
            Kind::Map => match self.node(&header).map_err(|error| error.within("kwargs.header"))? {
                Node { shape: Shape::Group(tasks) | Shape::Chain(tasks), .. } => tasks,
                one => vec![one],
            },
            _ => return Err(SignatureError::Shape { what: "`kwargs.header`", expected: "a JSON array" }),
        };
        let body = match kwargs.get("body").filter(|body| !body.is_null()) {
            None => None,
            Some(body) => Some(self.node(&body).map_err(|error| error.within("kwargs.body"))?),
        };
        let kwargs = kwargs.get("kwargs").filter(|kwargs| kwargs.kind() == Kind::Map).unwrap_or(Json::empty_map());
        Ok(Chord { header: Header { group: None, tasks: header }, body, kwargs })
    }
}

/// The members of a signature's map.
struct Parts {
    task: Json,
    args: Json,
    kwargs: Json,
    options: Json,
    kind: Json,
    immutable: Json,
    extra: Vec<(String, Json)>,
}

impl Default for Parts {
    fn default() -> Self {
        let null = Json::null;
        Self {
            task: null(),
            args: null(),
            kwargs: null(),
            options: null(),
            kind: null(),
            immutable: null(),
            extra: Vec::new(),
        }
    }
}

/// The value, if it is of the kind; an empty one if it is not there.
fn checked(value: Json, kind: Kind) -> Option<Json> {
    match value.kind() {
        Kind::Null if kind == Kind::List => Some(Json::empty_list()),
        Kind::Null => Some(Json::empty_map()),
        own => (own == kind).then_some(value),
    }
}

/// Made of its steps and options alone.
fn composite(mut node: Node) -> Node {
    node.forget_arguments();
    node
}

/// Takes no further arguments, whatever its map says.
fn mapped(node: Node) -> Node {
    Node { args: Json::empty_list(), immutable: true, ..node }
}

fn only(kwargs: &Json, keys: &[&'static str]) -> Result<Json, SignatureError> {
    let mut members = Vec::new();
    for key in keys {
        let value = kwargs.get(key).ok_or(SignatureError::Shape { what: "`kwargs`", expected: "complete" })?;
        members.push((*key, value));
    }
    Ok(Json::object(members))
}
