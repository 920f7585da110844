//! What a worker and a result store say to each other about chords: parts, claims, and who completes them
//! (celery/backends/redis.py `on_chord_part_return`, celery/backends/base.py).
//!
//! Plain data. Where parts are kept belongs to the stores, what follows the last one to [`crate::flow`].

use std::time::Duration;

use rustc_hash::FxHashSet;

use crate::name::TaskId;
use crate::protocol::content::{Json, Kind};
use crate::record::{ResultValue, State};

/// How long a chord waits for results that it needs, as Celery's default (`result_chord_join_timeout`).
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(3);

/// How a result store brings the members of a chord together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChordStyle {
    /// The store counts parts, and whoever brings the last one publishes the body.
    Native,
    /// As that, and the store counts no more than how many there were: it is told the header before, and the results
    /// come from what is stored of the members (`implements_incr` of celery/backends/base.py, and `ChordCounter` of
    /// django-celery-results).
    Counter,
    /// A task `celery.chord_unlock` looks at the results until all are there.
    Unlock,
    /// Not at all; this is what Celery calls the store.
    Refused(&'static str),
}

impl ChordStyle {
    /// True if the store is told of every part.
    pub fn counts(self) -> bool {
        matches!(self, Self::Native | Self::Counter)
    }
}

/// The result of one member of a chord.
#[derive(Debug, Clone, PartialEq)]
pub struct ChordPart {
    /// The id of the chord's header.
    pub group: String,
    pub task: TaskId,
    /// Its place in the header; those without one come last.
    pub index: Option<i64>,
    pub state: State,
    pub result: ResultValue,
    /// No earlier delivery can have brought it. One of a chord that is over belongs to the next run of it, whose
    /// size is told before the last member is published and maybe after this one (celery/canvas.py
    /// `_apply_tasks`): it is kept for that run.
    pub is_new: bool,
    /// The signature of the chord's body as the member's message carries it. Not stored.
    pub body: Json,
}

/// What the store answers to a part.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// Others are missing, or it is not known yet how many there will be.
    Waiting,
    /// The body was published, or has failed.
    Over,
    /// All parts are there, and somebody publishes the body. If nothing comes of it within this time, somebody
    /// else may.
    Held(Duration),
    /// All parts are there, and the body is ours to publish.
    Claimed(ClaimedChord),
}

/// The right to publish the body of a chord, for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedChord {
    pub group: String,
    /// Proves to the store that the claim is still ours.
    pub token: String,
    /// The part had been counted before: somebody may have published the body, and not come to say so.
    pub again: bool,
    /// In the order of their places.
    pub parts: Vec<Part>,
    /// The result tuple of the header, if a member of it is a group: the results are to be put in its shape.
    pub structure: Option<Json>,
    /// Why the results cannot come together, as the body's ChordError says it; there are no parts then.
    pub broken: Option<String>,
}

/// A part as it was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub task: TaskId,
    pub state: State,
    /// The value, or an exception.
    pub result: Json,
}

/// The members that the shape of the header names and no part has brought.
pub fn missing(chord: &ClaimedChord) -> Vec<TaskId> {
    let mut leaves = chord.structure.as_ref().map_or_else(Vec::new, leaves);
    let there: FxHashSet<&TaskId> = chord.parts.iter().map(|part| &part.task).collect();
    leaves.retain(|leaf| !there.contains(leaf));
    leaves
}

/// The ids of the tasks in a result tuple, in order.
pub fn leaves(tuple: &Json) -> Vec<TaskId> {
    let mut leaves = Vec::new();
    collect_leaves(tuple, 0, &mut leaves);
    leaves
}

/// True of the result tuple of a group that has tasks for members, and no groups.
pub fn is_flat(tuple: &Json) -> bool {
    members(tuple).is_some_and(|all| all.iter().all(|member| members(member).is_none()))
}

/// How deep groups may lie within each other.
const GROUPS_MAX: u32 = 64;

fn collect_leaves(tuple: &Json, depth: u32, leaves: &mut Vec<TaskId>) {
    if depth > GROUPS_MAX {
        return;
    }
    match members(tuple) {
        Some(members) => members.iter().for_each(|member| collect_leaves(member, depth + 1, leaves)),
        None => leaves.extend(leaf(tuple)),
    }
}

/// The member tuples of a group; none of a task.
pub(crate) fn members(tuple: &Json) -> Option<Vec<Json>> {
    let children = tuple.elements().nth(1)?;
    (children.kind() == Kind::List).then(|| children.elements().collect())
}

/// The id of a task.
pub(crate) fn leaf(tuple: &Json) -> Option<TaskId> {
    let head = tuple.elements().next()?;
    let id = if head.kind() == Kind::List { head.elements().next()? } else { head };
    TaskId::parse(&id.as_text()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_part_has_brought_is_looked_for_by_the_shape_of_the_header() {
        let tuple =
            r#"[["g", null], [[["a", null], null], [["h", [["x", null], null]], [[["b", null], null], ["c", null]]]]]"#;
        let id = |text: &str| TaskId::parse(text).expect("an id");
        let part = Part { task: id("a"), state: State::Success, result: Json::null() };
        let chord = ClaimedChord {
            group: "g".into(),
            token: "t".into(),
            again: false,
            parts: vec![part],
            structure: Some(Json::parse(tuple).expect("JSON")),
            broken: None,
        };
        assert!(!is_flat(&Json::parse(tuple).expect("JSON")));
        assert!(is_flat(&Json::parse(r#"[["g", null], [[["a", null], null], "b"]]"#).expect("JSON")));
        assert_eq!(missing(&chord), [id("b"), id("c")], "and not the parents");
        assert_eq!(missing(&ClaimedChord { structure: None, ..chord }), []);
    }
}
