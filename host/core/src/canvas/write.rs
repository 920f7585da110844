//! Signatures as JSON, as Celery writes them.

use crate::protocol::content::{Json, MapWriter};

use super::node::{Chord, Node, Shape};

/// The map of a signature.
pub(super) fn signature(node: &Node) -> Json {
    let (kwargs, kind) = match &node.shape {
        Shape::Task { kwargs } => (kwargs.clone(), None),
        Shape::Chunks { kwargs } => (kwargs.clone(), Some("chunks")),
        Shape::Chain(tasks) => (tasks_map(tasks), Some("chain")),
        Shape::Group(tasks) => (tasks_map(tasks), Some("group")),
        Shape::Chord(chord) => (chord_map(chord), Some("chord")),
    };
    let mut map = MapWriter::new();
    map.put("task", &node.task)
        .put("args", &node.args)
        .put("kwargs", &kwargs)
        .put("options", &node.options.to_json())
        .put("subtask_type", &kind)
        .put("immutable", &node.immutable);
    for (key, value) in &node.extra {
        map.put(key, value);
    }
    map.finish()
}

fn tasks_map(tasks: &[Node]) -> Json {
    Json::object([("tasks", list(tasks))])
}

fn list(tasks: &[Node]) -> Json {
    Json::array(tasks.iter().map(signature))
}

fn chord_map(chord: &Chord) -> Json {
    let header = match &chord.header.group {
        None => list(&chord.header.tasks),
        Some(options) => {
            let group = Node::group(chord.header.tasks.clone());
            signature(&Node { options: options.clone(), ..group })
        }
    };
    let body = chord.body.as_ref().map_or(Json::null(), signature);
    Json::object([("kwargs", chord.kwargs.clone()), ("header", header), ("body", body)])
}
