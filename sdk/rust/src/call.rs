//! Calls of other tasks.
//!
//! What may be called is declared under `publish` in `[needs]` of `plugin.toml`, and granted by the operator.

use std::fmt;

use crate::canvas::Signature;
use crate::context::Context;
use crate::error::TaskError;
use crate::result::AsyncResult;

impl Context {
    /// Calls another task, or whatever a canvas says, once this one has succeeded or is replaced: if it comes to
    /// anything else, nothing is published. Gives the id of the result, see [`AsyncResult::id`]. Declared under
    /// `publish` in `[needs]`.
    pub fn publish(&self, signature: &Signature) -> Result<String, PublishError> {
        send(signature, false)
    }

    /// Calls another task now, whatever this one comes to, and returns when the broker has the call.
    pub fn publish_now(&self, signature: &Signature) -> Result<String, PublishError> {
        send(signature, true)
    }

    /// As [`Context::publish`], and tells where all of the results will be: the task may return that.
    pub fn apply(&self, signature: &Signature) -> Result<AsyncResult, PublishError> {
        apply(signature, false)
    }

    /// As [`Context::publish_now`], and tells where all of the results will be: [`Context::join`] waits for them.
    pub fn apply_now(&self, signature: &Signature) -> Result<AsyncResult, PublishError> {
        apply(signature, true)
    }

    /// Adds to the header of the chord that this task is in the header of: its body then waits for the other too, and
    /// is called with its result among those of the header. It is published once this task has succeeded, before that
    /// is counted. A task that is in no chord gets a ValueError, as from Celery's `add_to_chord`.
    #[track_caller]
    pub fn add_to_chord(&self, signature: &Signature) -> Result<AsyncResult, TaskError> {
        self.check_chord()?;
        Ok(extend(signature)?)
    }

    #[track_caller]
    pub(crate) fn check_chord(&self) -> Result<(), TaskError> {
        match self.request().get("chord").is_none_or(serde_json::Value::is_null) {
            true => Err(TaskError::new("ValueError", "Current task is not member of any chord")),
            false => Ok(()),
        }
    }
}

impl TaskError {
    /// Puts another task, or a canvas, in this one's place, under its id: Celery's `Task.replace`. The others have to
    /// be declared under `publish` in `[needs]`.
    ///
    /// ```
    /// # use taskhost::{Signature, TaskError};
    /// fn resize(url: &str) -> Result<(), TaskError> {
    ///     Err(TaskError::replace(&Signature::new("images.resize_large").args((url,))))
    /// }
    /// # resize("x").unwrap_err();
    /// ```
    #[track_caller]
    pub fn replace(signature: &Signature) -> Self {
        match signature.to_json() {
            Ok(json) => Self::replace_by(json),
            Err(why) => Self::new("TypeError", why),
        }
    }
}

/// Why a call was not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishError {
    /// The plugin was not granted it; the text names what is missing.
    Denied(String),
    /// It can never be published.
    Invalid(String),
    /// It is more than the operator allows; the text names the limit.
    Limited(String),
    /// The broker is away, or did not confirm in time. It may have the call all the same.
    Unavailable(String),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Denied(why) | Self::Invalid(why) | Self::Limited(why) | Self::Unavailable(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for PublishError {}

#[cfg(target_family = "wasm")]
fn send(signature: &Signature, now: bool) -> Result<String, PublishError> {
    use crate::bindings::taskhost::task::publish;
    let json = signature.to_json().map_err(PublishError::Invalid)?;
    let sent = if now { publish::immediately(json.as_str()) } else { publish::send(json.as_str()) };
    sent.map_err(published)
}

#[cfg(target_family = "wasm")]
fn apply(signature: &Signature, now: bool) -> Result<AsyncResult, PublishError> {
    let json = signature.to_json().map_err(PublishError::Invalid)?;
    let applied = crate::bindings::taskhost::task::publish::apply(json.as_str(), "[]", "{}", now);
    AsyncResult::read(&applied.map_err(published)?).map_err(PublishError::Invalid)
}

#[cfg(target_family = "wasm")]
fn extend(signature: &Signature) -> Result<AsyncResult, PublishError> {
    let json = signature.to_json().map_err(PublishError::Invalid)?;
    let added = crate::bindings::taskhost::task::publish::add_to_chord(json.as_str(), false);
    AsyncResult::read(&added.map_err(published)?).map_err(PublishError::Invalid)
}

#[cfg(target_family = "wasm")]
pub(crate) fn published(error: crate::bindings::taskhost::task::publish::PublishError) -> PublishError {
    use crate::bindings::taskhost::task::publish::PublishError as Wire;
    match error {
        Wire::Denied(why) => PublishError::Denied(why),
        Wire::Invalid(why) => PublishError::Invalid(why),
        Wire::Limited(why) => PublishError::Limited(why),
        Wire::Unavailable(why) => PublishError::Unavailable(why),
    }
}

#[cfg(not(target_family = "wasm"))]
fn send(signature: &Signature, _now: bool) -> Result<String, PublishError> {
    outside(signature)
}

#[cfg(not(target_family = "wasm"))]
fn apply(signature: &Signature, _now: bool) -> Result<AsyncResult, PublishError> {
    outside(signature)
}

#[cfg(not(target_family = "wasm"))]
fn extend(signature: &Signature) -> Result<AsyncResult, PublishError> {
    outside(signature)
}

#[cfg(not(target_family = "wasm"))]
pub(crate) fn outside<T>(signature: &Signature) -> Result<T, PublishError> {
    signature.to_json().map_err(PublishError::Invalid)?;
    Err(PublishError::Unavailable("tasks are published by a host, and this is none".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::End;

    #[test]
    fn what_is_no_json_is_told_when_it_is_used() {
        let broken = Signature::new("a").args([std::collections::BTreeMap::from([((1, 2), 3)])]);
        assert!(TaskError::replace(&broken).to_string().starts_with("TypeError: a signature of a: not JSON"));
        assert!(TaskError::replace(&Signature::new("a")).to_string().starts_with("replace by {\"task\": \"a\""));
        let context = Context::new("id", "task", 0);
        for tried in [context.publish(&broken).err(), context.apply_now(&broken).err()] {
            assert!(matches!(tried, Some(PublishError::Invalid(_))), "{tried:?}");
        }
        assert!(matches!(context.publish_now(&Signature::new("a")), Err(PublishError::Unavailable(_))));
    }

    #[test]
    fn a_task_in_no_chord_cannot_add_to_one() {
        let error = Context::new("id", "task", 0).add_to_chord(&Signature::new("a")).expect_err("is in none");
        let line = line!() - 1;
        assert_eq!(error.to_string(), "ValueError: Current task is not member of any chord");
        let End::Failed(raised) = error.into_end() else { panic!("it failed") };
        assert!(raised.render_traceback("f").contains(&format!("line {line}, in f")), "it was called there");
    }
}
