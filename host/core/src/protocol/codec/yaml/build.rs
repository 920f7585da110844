//! From the parser's events to a tree in which an alias is one more way to the same node.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::YamlError;
use super::scalar::{self, Scalar};
use crate::protocol::content::WRAPPED_DEPTH_MAX;

/// Where a node stands in its tree.
pub(super) type NodeId = usize;

pub(super) enum Node {
    Scalar(Scalar),
    List(Vec<NodeId>),
    /// Keys and values in turn.
    Map(Vec<NodeId>),
    /// Like a map, but only the keys are of interest.
    Set(Vec<NodeId>),
}

/// A document. Has no cycles.
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
}

/// Reads the one document of a text.
pub(super) fn tree(text: &str) -> Result<Tree, YamlError> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, _) =
            event.map_err(|error| YamlError::Syntax { what: error.info().to_owned(), line: error.marker().line() })?;
        builder.take(event)?;
    }
    let root = match builder.root {
        Some(root) => root,
        None => builder.add(Node::Scalar(Scalar::Null), 0)?,
    };
    Ok(Tree { nodes: builder.nodes, root })
}

#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    /// Containers that are not complete, outermost first.
    open: Vec<NodeId>,
    anchors: HashMap<usize, NodeId>,
    root: Option<NodeId>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), YamlError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.map(|tag| full_name(&tag));
                let value = scalar::resolve(&text, style == ScalarStyle::Plain, tag.as_deref())?;
                self.add(Node::Scalar(value), anchor)?;
            }
            Event::SequenceStart(anchor, tag) => {
                let node = match tag.map(|tag| full_name(&tag)).as_deref() {
                    None | Some("!" | "tag:yaml.org,2002:seq") => Node::List(Vec::new()),
                    Some(other) => return Err(YamlError::Tag(other.to_owned())),
                };
                self.start(node, anchor)?;
            }
            Event::MappingStart(anchor, tag) => {
                let node = match tag.map(|tag| full_name(&tag)).as_deref() {
                    None | Some("!" | "tag:yaml.org,2002:map") => Node::Map(Vec::new()),
                    Some("tag:yaml.org,2002:set") => Node::Set(Vec::new()),
                    Some(other) => return Err(YamlError::Tag(other.to_owned())),
                };
                self.start(node, anchor)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
            }
            Event::Alias(anchor) => {
                let node = *self.anchors.get(&anchor).ok_or(YamlError::Cycle)?;
                // Whatever is open is not complete: to hang it into itself is the only way to a cycle.
                if self.open.contains(&node) {
                    return Err(YamlError::Cycle);
                }
                self.hang(node)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn start(&mut self, node: Node, anchor: usize) -> Result<(), YamlError> {
        if self.open.len() == WRAPPED_DEPTH_MAX {
            return Err(YamlError::TooDeep);
        }
        let id = self.add(node, anchor)?;
        self.open.push(id);
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<NodeId, YamlError> {
        let id = self.nodes.len();
        self.nodes.push(node);
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        self.hang(id)?;
        Ok(id)
    }

    /// Makes a node the next part of the innermost open container, or else the root.
    fn hang(&mut self, id: NodeId) -> Result<(), YamlError> {
        let Some(parent) = self.open.last() else {
            return match self.root.replace(id) {
                None => Ok(()),
                Some(_) => Err(YamlError::Documents),
            };
        };
        if let Node::List(parts) | Node::Map(parts) | Node::Set(parts) = &mut self.nodes[*parent] {
            parts.push(id);
        }
        Ok(())
    }
}

/// `!!int` is short for `tag:yaml.org,2002:int`.
fn full_name(tag: &Tag) -> String {
    format!("{}{}", tag.handle, tag.suffix)
}
