//! What became of other tasks.
//!
//! Whose results may be seen is declared under `results` in `[needs]` of `plugin.toml`. Nothing is kept: every question
//! goes to the host.

use std::fmt;
use std::time::{Duration, Instant};

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::context::Context;
use crate::elements;
use crate::json::Json;
use crate::lenient;

/// Where the result of a call will be: of a task, or of a group of them. It is Celery's `AsyncResult` and
/// `GroupResult`: a task that returns one gives its client what `AsyncResult` was made for, and one that gets one as
/// an argument knows where to look.
///
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsyncResult {
    id: String,
    /// Celery's `[[id, parent], children]`. Parents may be many, so they are read when somebody asks.
    tuple: Json,
}

impl AsyncResult {
    /// The id of the task; of a chain that of its last step, of a chord that of its body; of a group its own.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What comes before it: the step before in a chain, or the header of a chord.
    pub fn parent(&self) -> Option<AsyncResult> {
        let (_, parent) = pair(pair(self.tuple.as_str())?.0)?;
        Self::read(parent).ok()
    }

    /// Of a group its members, in order; nothing if it is a task.
    pub fn children(&self) -> Option<Vec<AsyncResult>> {
        let (_, children) = pair(self.tuple.as_str())?;
        let mut read = Vec::new();
        elements::of_array(children, |child| read.push(Self::read(child))).ok()?;
        read.into_iter().collect::<Result<_, _>>().ok()
    }

    /// The ids of all members of a group, in order, those of a group in it in its place; of a task its own.
    pub(crate) fn members(&self) -> Vec<String> {
        let mut members = Vec::new();
        let mut open = vec![self.clone()];
        while let Some(next) = open.pop() {
            match next.children() {
                Some(children) => open.extend(children.into_iter().rev()),
                None => members.push(next.id),
            }
        }
        members
    }

    /// Reads Celery's tuple; why it is none.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let wrong = || "not the result of a call: no [[id, parent], children]".to_owned();
        let (this, _) = pair(text).ok_or_else(wrong)?;
        let (id, _) = pair(this).ok_or_else(wrong)?;
        let id = lenient::parse::<String>(id).map_err(|_| wrong())?;
        Ok(Self { id, tuple: Json::from_text(text) })
    }
}

/// The two elements of an array.
fn pair(text: &str) -> Option<(&str, &str)> {
    let mut found = Vec::with_capacity(2);
    elements::of_array(text, |element| found.push(element)).ok()?;
    match found.as_slice() {
        [first, second] => Some((first, second)),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for AsyncResult {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Json::deserialize(deserializer)?.as_str()).map_err(D::Error::custom)
    }
}

impl Serialize for AsyncResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.tuple.serialize(serializer)
    }
}

impl Context {
    /// What is known about a task that this one called. Declared under `results` in `[needs]`.
    pub fn result(&self, id: &str) -> Result<TaskResult, ResultError> {
        ask(id, None)
    }

    /// Waits until a task is done that was called with [`Context::publish_now`]. This task keeps its slot meanwhile: a
    /// worker all of whose tasks wait for others that it alone could run does nothing.
    pub fn wait(&self, id: &str, timeout: Duration) -> Result<TaskResult, ResultError> {
        ask(id, Some(timeout))
    }

    /// Waits for what was called with [`Context::apply_now`], and gives the results of all members of a group, in
    /// order, those of a group in it in its place; of a task it gives its own. The time is for all of them together.
    pub fn join(&self, result: &AsyncResult, timeout: Duration) -> Result<Vec<TaskResult>, ResultError> {
        let start = Instant::now();
        let members = result.members();
        members.iter().map(|id| self.wait(id, timeout.saturating_sub(start.elapsed()))).collect()
    }
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultError {
    /// The plugin may not see it; the text names what is missing.
    Denied(String),
    /// This is no id of a task.
    Invalid(String),
    /// The call is published when this task has succeeded, so it cannot be waited for.
    Unpublished(String),
    /// The other task was not done in time.
    TimedOut(String),
    /// This task is to come to an end.
    Cancelled(String),
    /// The result store is away, or did not answer in time.
    Unavailable(String),
}

/// What is known about a task.
#[derive(Debug, Clone)]
pub struct TaskResult {
    /// Celery's name of it; PENDING, if nothing is known.
    pub state: String,
    /// What it returned; of a failure Celery's map of the exception.
    pub result: Json,
    pub traceback: Option<String>,
    /// Everything, as the host told it.
    pub meta: Json,
}

impl TaskResult {
    /// True once it has returned.
    pub fn is_success(&self) -> bool {
        self.state == "SUCCESS"
    }

    /// True once it will not change any more.
    pub fn is_ready(&self) -> bool {
        matches!(self.state.as_str(), "SUCCESS" | "FAILURE" | "REVOKED")
    }

    #[cfg_attr(not(any(target_family = "wasm", test)), expect(dead_code, reason = "only a host tells results"))]
    pub(crate) fn read(meta: String) -> Self {
        let mut read =
            Self { state: String::new(), result: Json::from_text("null"), traceback: None, meta: Json::from_text("") };
        let _ = elements::of_object(&meta, |name, text| match &*name {
            "state" => read.state = lenient::parse(text).unwrap_or_default(),
            "result" => read.result = Json::from_text(text),
            "traceback" => read.traceback = lenient::parse(text).unwrap_or_default(),
            _ => {}
        });
        Self { meta: Json::from_text(meta), ..read }
    }
}

impl fmt::Display for ResultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Denied(why) | Self::Invalid(why) | Self::Unpublished(why)) = self else {
            let (Self::TimedOut(why) | Self::Cancelled(why) | Self::Unavailable(why)) = self else { return Ok(()) };
            return f.write_str(why);
        };
        f.write_str(why)
    }
}

impl std::error::Error for ResultError {}

#[cfg(target_family = "wasm")]
fn ask(id: &str, timeout: Option<Duration>) -> Result<TaskResult, ResultError> {
    use crate::bindings::taskhost::task::results;
    let told = match timeout {
        None => results::get(id),
        Some(timeout) => results::wait(id, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
    };
    told.map(TaskResult::read).map_err(refused)
}

#[cfg(target_family = "wasm")]
pub(crate) fn refused(error: crate::bindings::taskhost::task::results::ResultError) -> ResultError {
    use crate::bindings::taskhost::task::results::ResultError as Wire;
    match error {
        Wire::Denied(why) => ResultError::Denied(why),
        Wire::Invalid(why) => ResultError::Invalid(why),
        Wire::Unpublished(why) => ResultError::Unpublished(why),
        Wire::TimedOut(why) => ResultError::TimedOut(why),
        Wire::Cancelled(why) => ResultError::Cancelled(why),
        Wire::Unavailable(why) => ResultError::Unavailable(why),
    }
}

#[cfg(not(target_family = "wasm"))]
pub(crate) fn ask(_id: &str, _timeout: Option<Duration>) -> Result<TaskResult, ResultError> {
    Err(ResultError::Unavailable("results are kept by a host, and this is none".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_read_from_what_the_host_tells() {
        let told = r#"{"task_id": "a", "state": "SUCCESS", "result": [NaN], "traceback": null}"#;
        let result = TaskResult::read(told.to_owned());
        assert!(result.is_success() && result.is_ready());
        assert_eq!((result.result.as_str(), result.traceback, result.meta.as_str()), ("[NaN]", None, told));
    }

    #[test]
    fn where_results_will_be_is_celerys_tuple() {
        let text = r#"[["g", [["h", null], null]], [[["a", null], null], [["b", [["c", null], null]], null]]]"#;
        let group: AsyncResult = serde_json::from_str(text).expect("a tuple");
        assert_eq!((group.id(), serde_json::to_string(&group).expect("is JSON").as_str()), ("g", text));
        let parent = group.parent().expect("has one");
        assert_eq!((parent.id(), parent.parent(), parent.children()), ("h", None, None));
        let children = group.children().expect("is a group");
        let ids: Vec<&str> = children.iter().map(AsyncResult::id).collect();
        assert_eq!((ids, children[1].parent().expect("has one").id()), (vec!["a", "b"], "c"));
        let none = AsyncResult::read(r#"[["g", null], []]"#).expect("a tuple");
        assert_eq!(none.children(), Some(Vec::new()), "a group may be empty");
    }

    #[test]
    fn a_chain_of_any_length_has_parents() {
        let mut text = r#"[["0", null], null]"#.to_owned();
        for step in 1..1000 {
            text = format!("[[\"{step}\", {text}], null]");
        }
        let mut result = AsyncResult::read(&text).expect("a tuple");
        let mut length = 1;
        while let Some(parent) = result.parent() {
            (result, length) = (parent, length + 1);
        }
        assert_eq!((length, result.id()), (1000, "0"));
    }

    #[test]
    fn what_is_no_tuple_is_no_result() {
        for text in ["null", "\"id\"", "[]", r#"["id", null]"#, r#"[[1, null], null]"#, r#"[["id"], null]"#] {
            assert!(AsyncResult::read(text).is_err_and(|why| why.starts_with("not the result of a call")), "{text}");
        }
    }
}
