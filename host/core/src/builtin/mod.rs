//! Celery's own tasks, which every worker has: which there are, how they are treated, and what those come to that
//! need nothing but their arguments (celery/app/builtins.py).
//!
//! Runs no other task and asks no store: the worker does (`worker/src/builtin`).

mod arguments;
mod map;
mod publish;
#[cfg(test)]
mod tests;
mod unlock;

use std::time::Duration;

use crate::exception::Exception;
use crate::name::{PluginName, TaskName};
use crate::outcome::Attempt;
use crate::protocol::content::{Json, Kind};
use crate::request::Request;
use crate::task::{PluginVersion, TaskOptions, TaskSpec};

use arguments::{Parameters, type_name};
pub use map::{Mapping, mapped_task};
pub use publish::publish;
pub use unlock::{Look, Unlock};

/// What stands in the place of a plugin's name. No plugin may have it.
pub const PLUGIN: &str = "celery";

/// One of these tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builtin {
    Accumulate,
    BackendCleanup,
    Chain,
    Chord,
    ChordUnlock,
    Chunks,
    Group,
    Map,
    /// Celery has it beside its tests (celery/contrib/testing/tasks.py).
    Ping,
    Starmap,
}

impl Builtin {
    const ALL: [Self; 10] = [
        Self::Accumulate,
        Self::BackendCleanup,
        Self::Chain,
        Self::Chord,
        Self::ChordUnlock,
        Self::Chunks,
        Self::Group,
        Self::Map,
        Self::Ping,
        Self::Starmap,
    ];

    /// The name of its task.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accumulate => "celery.accumulate",
            Self::BackendCleanup => "celery.backend_cleanup",
            Self::Chain => "celery.chain",
            Self::Chord => "celery.chord",
            Self::ChordUnlock => "celery.chord_unlock",
            Self::Chunks => "celery.chunks",
            Self::Group => "celery.group",
            Self::Map => "celery.map",
            Self::Ping => "celery.ping",
            Self::Starmap => "celery.starmap",
        }
    }

    /// The one of that name.
    pub fn named(name: &TaskName) -> Option<Self> {
        let rest = name.as_str().strip_prefix("celery.")?;
        Self::ALL.into_iter().find(|builtin| builtin.name()["celery.".len()..] == *rest)
    }

    /// Which one the spec is of; none, if it is a plugin's.
    pub fn of(spec: &TaskSpec) -> Option<Self> {
        if spec.plugin.as_str() == PLUGIN { Self::named(&spec.name) } else { None }
    }

    fn summary(self) -> &'static str {
        match self {
            Self::Accumulate => "Returns its arguments, or one of them",
            Self::BackendCleanup => "Deletes results that have expired",
            Self::Chain => "Fails: a chain is no task",
            Self::Chord => "Publishes a chord",
            Self::ChordUnlock => "Publishes the body of a chord once its header is done",
            Self::Chunks => "Publishes a starmap for each so many calls",
            Self::Group => "Publishes a group",
            Self::Map => "Calls a task of this worker once for each element",
            Self::Ping => "Answers pong",
            Self::Starmap => "Calls a task of this worker once for each list of arguments",
        }
    }
}

/// All of them, for the catalog. `chord_retry_interval` is how long [`Builtin::ChordUnlock`] waits before it looks again.
pub fn specs(chord_retry_interval: Duration) -> impl Iterator<Item = TaskSpec> {
    Builtin::ALL.into_iter().map(move |builtin| {
        let defaults = TaskOptions::default();
        let options = match builtin {
            Builtin::ChordUnlock => TaskOptions {
                max_retries: None,
                default_retry_delay: chord_retry_interval,
                ignore_result: Some(true),
                ..defaults
            },
            Builtin::Chord => TaskOptions { ignore_result: Some(false), ..defaults },
            _ => defaults,
        };
        TaskSpec {
            name: TaskName::parse(builtin.name()).expect("these are names"),
            plugin: PluginName::parse(PLUGIN).expect("it is a name"),
            version: PluginVersion::of("builtin"),
            plugin_concurrency: None,
            summary: builtin.summary().to_owned(),
            takes: None,
            options,
        }
    })
}

/// The chord that an attempt of [`Builtin::ChordUnlock`] looks after: the id of its header and the signature of its
/// body. None of any other.
pub fn unlocked_chord(attempt: &Attempt) -> Option<(String, Json)> {
    match Builtin::of(&attempt.spec) {
        Some(Builtin::ChordUnlock) => Unlock::read(&attempt.request).ok().map(Unlock::into_chord),
        _ => None,
    }
}

/// What comes of [`Builtin::Ping`].
pub fn ping(request: &Request) -> Result<Json, Exception> {
    const PING: Parameters = Parameters::new("ping");
    PING.bind(request)?;
    Ok(Json::text("pong"))
}

/// What comes of [`Builtin::Chain`].
pub fn chain() -> Exception {
    Exception::new("builtins", "NotImplementedError", [Json::text("chain is not a real task")])
}

/// Checks what [`Builtin::BackendCleanup`] was called with.
pub fn cleanup(request: &Request) -> Result<(), Exception> {
    const CLEANUP: Parameters = Parameters::new("add_backend_cleanup_task.<locals>.backend_cleanup");
    CLEANUP.bind(request).map(drop)
}

/// What comes of [`Builtin::Accumulate`]: all positional arguments, or the one that `index` names.
pub fn accumulate(request: &Request) -> Result<Json, Exception> {
    let Some(index) = request.kwargs.get("index").filter(|index| !index.is_null()) else {
        return Ok(request.args.clone());
    };
    let position = match (index.kind(), index.as_bool(), index.as_i64()) {
        (Kind::Bool, Some(index), _) => i64::from(index),
        (Kind::Number, _, Some(index)) => index,
        // One that is too large for a number of ours is in no list.
        (Kind::Number, ..) if type_name(&index) == "int" => i64::MAX,
        _ => {
            let text = format!("tuple indices must be integers or slices, not {}", type_name(&index));
            return Err(arguments::type_error(&text));
        }
    };
    let count = request.args.elements().count();
    let from_start = usize::try_from(position).ok();
    let from_end = || usize::try_from(position.unsigned_abs()).ok().and_then(|back| count.checked_sub(back));
    let found = from_start.or_else(from_end).and_then(|index| request.args.elements().nth(index));
    found.ok_or_else(|| Exception::new("builtins", "IndexError", [Json::text("tuple index out of range")]))
}
