//! A member of a chord whose result is there and cannot be read, where chords are joined from stored results: the chord
//! fails, and says why.

use taskhost_core::chord::Part;
use taskhost_core::protocol::content::ToJson;
use taskhost_core::{Exception, Json, State, TaskId};

/// The member as one that has failed.
pub(crate) fn unreadable(task: &TaskId, reason: &str) -> Part {
    let exception = Exception::new("kombu.exceptions", "DecodeError", [Json::text(reason)]);
    let mut result = String::new();
    exception.write_json(&mut result);
    let result = Json::parse(result).expect("an exception is written as JSON");
    Part { task: task.clone(), state: State::Failure, result }
}
