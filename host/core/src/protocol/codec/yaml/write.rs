//! A tree of YAML as JSON text.

use super::YamlError;
use super::build::{Node, NodeId, Tree};
use super::scalar::Scalar;
use crate::protocol::content::{ToJson, WRAPPED_DEPTH_MAX};

/// Writes the tree, if that takes no more than `bytes_max`.
pub(super) fn json(tree: &Tree, bytes_max: usize) -> Result<String, YamlError> {
    let mut writer = Writer { nodes: &tree.nodes, out: String::new(), bytes_max, visits: 0 };
    writer.value(tree.root, 0)?;
    Ok(writer.out)
}

struct Writer<'a> {
    nodes: &'a [Node],
    out: String,
    bytes_max: usize,
    /// Nodes looked at. Through aliases a few nodes can be looked at very often and write nothing.
    visits: usize,
}

impl Writer<'_> {
    fn visit(&mut self, depth: usize) -> Result<(), YamlError> {
        self.visits += 1;
        if self.visits.max(self.out.len()) > self.bytes_max {
            return Err(YamlError::TooLarge { bytes_max: self.bytes_max });
        }
        match depth > WRAPPED_DEPTH_MAX {
            true => Err(YamlError::TooDeep),
            false => Ok(()),
        }
    }

    fn value(&mut self, id: NodeId, depth: usize) -> Result<(), YamlError> {
        self.visit(depth)?;
        let nodes = self.nodes;
        match &nodes[id] {
            Node::Scalar(scalar) => scalar.write_json(&mut self.out),
            Node::List(items) => self.list(items.iter().copied(), depth)?,
            Node::Set(parts) => self.list(parts.iter().copied().step_by(2), depth)?,
            Node::Map(parts) => {
                self.out.push('{');
                self.members(parts, depth)?;
                self.out.push('}');
            }
        }
        Ok(())
    }

    fn list(&mut self, items: impl Iterator<Item = NodeId>, depth: usize) -> Result<(), YamlError> {
        self.out.push('[');
        for (index, item) in items.enumerate() {
            self.out.push_str(if index == 0 { "" } else { ", " });
            self.value(item, depth + 1)?;
        }
        self.out.push(']');
        Ok(())
    }

    /// What a map merges comes before what it has itself: of equal keys the last counts.
    fn members(&mut self, parts: &[NodeId], depth: usize) -> Result<(), YamlError> {
        let (members, _) = parts.as_chunks::<2>();
        let is_merge = |key: NodeId| matches!(self.nodes[key], Node::Scalar(Scalar::Merge));
        for [_, value] in members.iter().filter(|[key, _]| is_merge(*key)) {
            self.merge(*value, depth)?;
        }
        for [key, value] in members.iter().filter(|[key, _]| !is_merge(*key)) {
            if !self.out.ends_with('{') {
                self.out.push_str(", ");
            }
            self.key(*key)?;
            self.out.push_str(": ");
            self.value(*value, depth + 1)?;
        }
        Ok(())
    }

    fn merge(&mut self, id: NodeId, depth: usize) -> Result<(), YamlError> {
        self.visit(depth)?;
        let nodes = self.nodes;
        match &nodes[id] {
            Node::Map(parts) => self.members(parts, depth + 1),
            Node::List(maps) => {
                for id in maps.iter().rev() {
                    self.visit(depth)?;
                    let Node::Map(parts) = &nodes[*id] else { return Err(YamlError::Merge) };
                    self.members(parts, depth + 1)?;
                }
                Ok(())
            }
            Node::Scalar(_) | Node::Set(_) => Err(YamlError::Merge),
        }
    }

    /// A key as `json.dumps` writes it.
    fn key(&mut self, id: NodeId) -> Result<(), YamlError> {
        let Node::Scalar(scalar) = &self.nodes[id] else { return Err(YamlError::Key) };
        match scalar {
            Scalar::Text(text) => text.write_json(&mut self.out),
            Scalar::Null | Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_) => {
                self.out.push('"');
                scalar.write_json(&mut self.out);
                self.out.push('"');
            }
            Scalar::Merge | Scalar::Date(_) | Scalar::Time(_) | Scalar::Bytes(_) => return Err(YamlError::Key),
        }
        Ok(())
    }
}
