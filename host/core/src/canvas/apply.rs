//! Tasks, chains, groups and chunks, applied (`apply_async` of celery/canvas.py).

use crate::protocol::content::Json;
use crate::signature::SignatureError;

use super::freeze::{Frame, Piece};
use super::node::{Node, Shape};
use super::options::Options;
use super::read::MEMBERS_MAX;
use super::results::Promise;
use super::run::Run;
use super::write;

impl Run<'_> {
    /// None of a chain without steps, of which nothing comes. Options may be null, which chains pass on.
    pub(super) fn apply(
        &mut self,
        node: Node,
        args: &[Json],
        kwargs: Option<&Json>,
        given: &Options,
    ) -> Result<Option<Promise>, SignatureError> {
        match &node.shape {
            Shape::Task { kwargs: own } => self.send(&node, own, args, kwargs, given).map(Some),
            Shape::Chunks { .. } => self.apply_group(in_chunks(&node)?, args, kwargs, given).map(Some),
            Shape::Chain(_) => self.apply_chain(node, args, kwargs, given),
            Shape::Group(_) => self.apply_group(node, args, kwargs, given).map(Some),
            Shape::Chord(_) => self.apply_chord(node, args, kwargs, given).map(Some),
        }
    }

    /// `_chain.run`: the first step is sent, with the others in it.
    fn apply_chain(
        &mut self,
        node: Node,
        args: &[Json],
        kwargs: Option<&Json>,
        given: &Options,
    ) -> Result<Option<Promise>, SignatureError> {
        let Node { mut options, shape, immutable, .. } = node;
        let Shape::Chain(tasks) = shape else { return Ok(None) };
        options.update(given);
        let links = options.take("link").map_or_else(Vec::new, |value| value.links());
        let errbacks = options.take("link_error").map_or_else(Vec::new, |value| value.links());
        let [id, group_id, root_id] = ["task_id", "group_id", "root_id"].map(|key| options.take_text(key));
        let chord = options.take_json("chord");
        let group_index = options.take_json("group_index").and_then(|index| usize::try_from(index.as_i64()?).ok());
        options.take("parent_id");
        let frame = Frame {
            id: id.as_deref(),
            group_id: group_id.as_deref(),
            chord: chord.as_ref(),
            root_id: root_id.as_deref(),
            parent_id: None,
            group_index,
        };
        let args = if immutable { &[] } else { args };
        let steps = tasks.into_iter().map(Piece::own).collect();
        let (mut tasks, results) = self.prepare(args, kwargs, steps, &frame, &errbacks, true)?;
        if let Some(last) = tasks.first_mut().filter(|_| !links.is_empty()) {
            last.options.extend_links("link", links);
        }
        let Some(first) = tasks.pop() else { return Ok(None) };
        let mut chain: Vec<Json> = options.json("chain").iter().flat_map(Json::elements).collect();
        chain.extend(tasks.iter().map(|task| write::signature(task)));
        options.set_json("chain", Json::array(chain));
        let applied = self.apply(first.into_node(), &[], None, &options)?;
        // Of a single step its own result is the one that will come true.
        Ok(if tasks.is_empty() { applied } else { results.first().copied() })
    }

    /// `group.apply_async`: every member is sent.
    pub(super) fn apply_group(
        &mut self,
        node: Node,
        args: &[Json],
        kwargs: Option<&Json>,
        given: &Options,
    ) -> Result<Promise, SignatureError> {
        let Node { options: mut own, shape, .. } = node;
        let Shape::Group(mut tasks) = shape else { return Err(SignatureError::EmptyGroup) };
        let mut given = given.clone();
        let [link, link_error, to_parent] = ["link", "link_error", "add_to_parent"].map(|key| given.take_json(key));
        if link.is_some() || link_error.is_some() {
            return Err(SignatureError::GroupLink { on_error: link.is_none() });
        }
        if tasks.is_empty() {
            return self.freeze_group(&mut own, &mut tasks, &Frame::default());
        }
        let mut options = own.merged_in_group(&given);
        let group_id = match options.take_text("task_id") {
            Some(id) => id,
            None => self.next_id(),
        };
        options.set_text("group_id", &group_id);
        let root_id = options.text("root_id");
        let mut prepared = Vec::with_capacity(tasks.len());
        self.prepare_members(tasks, &group_id, root_id.as_deref(), &mut prepared)?;
        // Options of the group that are no options of its members.
        options.take("group_index");
        options.take("add_to_parent");
        let chord = options.take_json("chord");
        let of_last = prepared.last().and_then(|(task, _)| task.options.json("chord"));
        if chord.is_some() || of_last.is_some() {
            // Celery says it before it sends the last one: it does not know the size earlier.
            let size = prepared.iter().map(|(task, _)| task.size()).sum();
            self.set_chord_size(&group_id, size);
        }
        options.set_json("add_to_parent", Json::bool(false));
        let mut results = Vec::with_capacity(prepared.len());
        for (task, result) in prepared {
            let chord = chord.clone().or_else(|| task.options.json("chord"));
            options.set_json("chord", chord.unwrap_or(Json::null()));
            self.apply(task, args, kwargs, &options)?;
            results.push(result);
        }
        let mut result = self.results.group(group_id, results);
        // A group of one chain that ends in a group is that group.
        if let Some([only]) = self.results.members(result)
            && self.results.members(*only).is_some()
        {
            result = *only;
        }
        if to_parent.is_none_or(|value| value.as_bool() != Some(false)) {
            self.children.push(result);
        }
        Ok(result)
    }

    /// The members of a group, and of groups in it, with their results (`_prepared`).
    fn prepare_members(
        &mut self,
        tasks: Vec<Node>,
        group_id: &str,
        root_id: Option<&str>,
        prepared: &mut Vec<(Node, Promise)>,
    ) -> Result<(), SignatureError> {
        for (index, mut task) in tasks.into_iter().enumerate() {
            task.renew();
            match task.shape {
                Shape::Group(members) => self.prepare_members(members, group_id, root_id, prepared)?,
                _ if task.is_empty_chain() => {}
                _ => {
                    let frame =
                        Frame { group_id: Some(group_id), root_id, group_index: Some(index), ..Frame::default() };
                    let result = self.freeze(&mut task, &frame)?;
                    prepared.push((task, result));
                }
            }
        }
        Ok(())
    }
}

/// A group of `celery.starmap`, each over a slice.
fn in_chunks(node: &Node) -> Result<Node, SignatureError> {
    let Shape::Chunks { kwargs } = &node.shape else { return Err(SignatureError::EmptyGroup) };
    let get = |key: &str| kwargs.get(key).unwrap_or(Json::null());
    let wrong = SignatureError::Shape { what: "`kwargs.n`", expected: "a number from 1" };
    let count = usize::try_from(get("n").as_i64().unwrap_or(0)).ok().filter(|count| *count > 0).ok_or(wrong)?;
    let (task, items): (Json, Vec<Json>) = (get("task"), get("it").elements().collect());
    if items.len().div_ceil(count) > MEMBERS_MAX as usize {
        return Err(SignatureError::Members);
    }
    let of = |slice: &[Json]| {
        let kwargs = Json::object([("task", task.clone()), ("it", Json::array(slice))]);
        Node { immutable: true, ..Node::task("celery.starmap", Json::empty_list(), kwargs) }
    };
    Ok(Node::group(items.chunks(count).map(of).collect()))
}
