//! Chords and groups of the memory store: what Redis does with keys, with maps.
//!
//! Nothing expires but claims; the oldest groups make room for new ones.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use taskhost_core::chord::{ChordPart, ClaimedChord, Part, Progress};
use taskhost_core::protocol::content::ToJson;
use taskhost_core::{Json, TaskId};
use tokio::time::Instant;

/// How many groups are known.
const GROUPS_MAX: usize = 10_000;
/// How long a claim lasts, and how long once its body is being published, as in Redis.
const CLAIM: Duration = Duration::from_secs(6);
const PUBLISHING: Duration = Duration::from_secs(21);

#[derive(Default)]
pub(super) struct Chords {
    groups: HashMap<String, Group>,
    /// In the order in which they were first heard of.
    order: VecDeque<String>,
}

#[derive(Default)]
struct Group {
    size: Option<u64>,
    extra: u64,
    extended: HashSet<TaskId>,
    /// By index, those without one last, each in the order in which they came.
    parts: BTreeMap<(bool, Option<i64>, usize), Part>,
    counted: HashSet<(TaskId, Option<i64>)>,
    claim: Option<(String, Instant)>,
    is_done: bool,
    result: Option<Json>,
}

impl Chords {
    fn group(&mut self, name: &str) -> &mut Group {
        if !self.groups.contains_key(name) {
            if self.order.len() == GROUPS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.groups.remove(&oldest);
            }
            self.order.push_back(name.to_owned());
        }
        self.groups.entry(name.to_owned()).or_default()
    }

    pub(super) fn set_size(&mut self, name: &str, size: u64, again: bool) {
        let group = self.group(name);
        if again && (group.is_done || group.size.is_none() && !group.counted.is_empty()) {
            return;
        }
        if !again {
            group.is_done = false;
            group.claim = None;
        }
        group.size = Some(size);
    }

    pub(super) fn extend(&mut self, name: &str, member: &TaskId) {
        let group = self.group(name);
        if !group.is_done && group.extended.insert(member.clone()) {
            group.extra += 1;
        }
    }

    pub(super) fn count(&mut self, part: &ChordPart) -> Progress {
        let group = self.group(&part.group);
        if group.is_done && !part.is_new {
            return Progress::Over;
        }
        let again = !group.counted.insert((part.task.clone(), part.index));
        if !again {
            group.record(part);
        }
        if group.is_done {
            // Kept for another run of the same chord, whose size has yet to come.
            return Progress::Over;
        }
        if group.size.is_none_or(|size| group.parts.len() as u64 != size + group.extra) {
            return Progress::Waiting;
        }
        let token = format!("{}:{:?}", part.task, part.index);
        if let Some(left) = group.held_by_other(&token) {
            return Progress::Held(left);
        }
        group.claim = Some((token.clone(), Instant::now() + CLAIM));
        Progress::Claimed(ClaimedChord {
            group: part.group.clone(),
            token,
            again,
            parts: group.parts.values().cloned().collect(),
            structure: group.result.clone(),
            broken: None,
        })
    }

    pub(super) fn extend_claim(&mut self, name: &str, token: &str) -> bool {
        let group = self.group(name);
        let is_free = group.held_by_other(token).is_none() && group.size.is_some();
        if !group.held_by(token) && !is_free {
            return false;
        }
        group.claim = Some((token.to_owned(), Instant::now() + PUBLISHING));
        true
    }

    pub(super) fn finish(&mut self, name: &str, token: &str) -> bool {
        let group = self.group(name);
        if group.is_done {
            return true;
        }
        if !group.held_by(token) {
            return false;
        }
        let result = group.result.take();
        *group = Group { is_done: true, result, ..Group::default() };
        true
    }

    pub(super) fn fail(&mut self, name: &str) {
        self.group(name).size = None;
    }

    pub(super) fn save(&mut self, name: &str, result: &Json) {
        self.group(name).result = Some(result.clone());
    }

    #[cfg(test)]
    pub(super) fn let_claim_run_out(&mut self, name: &str) {
        self.group(name).claim = None;
    }

    pub(super) fn result(&self, name: &str) -> Option<Json> {
        self.groups.get(name)?.result.clone()
    }
}

impl Group {
    fn record(&mut self, part: &ChordPart) {
        let mut result = String::new();
        part.result.write_json(&mut result);
        let result = Json::parse(result).expect("a result is JSON");
        let place = (part.index.is_none(), part.index, self.parts.len());
        self.parts.insert(place, Part { task: part.task.clone(), state: part.state.clone(), result });
    }

    fn held_by(&self, token: &str) -> bool {
        self.claim.as_ref().is_some_and(|(holder, until)| holder == token && *until > Instant::now())
    }

    /// How long somebody else still has the claim.
    fn held_by_other(&self, token: &str) -> Option<Duration> {
        let (holder, until) = self.claim.as_ref()?;
        let left = until.saturating_duration_since(Instant::now());
        (holder != token && !left.is_zero()).then_some(left)
    }
}
