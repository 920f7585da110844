//! Why a signature cannot be published.

use crate::exception::Exception;
use crate::name::NameError;
use crate::protocol::content::{Json, JsonError};
use crate::route::QueueNotFound;

/// Why nothing comes of a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the signature is not JSON: {0}")]
    Json(#[from] JsonError),
    #[error("`{path}`: {what}")]
    At { path: String, what: Box<Self> },
    #[error("the signature is of the type `{0}`, which nobody knows")]
    Kind(String),
    #[error("the signature is made of more than 100,000 others")]
    Members,
    #[error("signatures lie within each other, deeper than 100")]
    Nested,
    #[error("more than 1,000 signatures hang on one of the signature's, or more than 100,000 on all")]
    Hung,
    #[error("the signature makes messages of more than 256 MiB")]
    Bodies,
    #[error("{what} of the signature is not {expected}")]
    Shape { what: &'static str, expected: &'static str },
    #[error("the signature: {0}")]
    Name(#[from] NameError),
    #[error("option `{option}` of the signature is not {expected}")]
    Option { option: &'static str, expected: &'static str },
    #[error("the signature has an option `{0}`, which nobody knows")]
    UnknownOption(String),
    #[error(transparent)]
    Queue(#[from] QueueNotFound),
    #[error("header `{0}` of the signature cannot be set: its value follows from other things")]
    Header(String),
    #[error("task `{0}` calls what is in its arguments: only as an immutable signature with it under `kwargs.task`")]
    Builtin(&'static str),
    // From here on in Celery's words.
    #[error("Cannot add link to group: {}", if *.on_error { "do that on individual tasks" } else { "use a chord" })]
    GroupLink { on_error: bool },
    #[error("{}", no_chords(.0))]
    Chords(&'static str),
    #[error("{0}")]
    Improper(&'static str),
    #[error("Current task is not member of any chord")]
    NotInChord,
    #[error("Backend does not support add_to_chord")]
    Inextensible,
    #[error("the chord has no body")]
    Bodyless,
    #[error("the chain has no steps")]
    EmptyChain,
    #[error("the group has no members")]
    EmptyGroup,
    #[error("Recursive result parents")]
    Recursive,
}

impl SignatureError {
    /// The same, of a signature that is in another.
    pub(crate) fn within(self, outer: &str) -> Self {
        match self {
            Self::At { path, what } => Self::At { path: format!("{outer}.{path}"), what },
            what => Self::At { path: outer.to_owned(), what: Box::new(what) },
        }
    }

    /// What Python raises in the task that wants to publish it.
    pub fn exception(&self) -> Exception {
        let (module, kind) = match self {
            Self::At { what, .. } => return Exception { arguments: self.arguments(), ..what.exception() },
            Self::Improper(_) => ("celery.exceptions", "ImproperlyConfigured"),
            Self::Chords(_) | Self::Inextensible => ("builtins", "NotImplementedError"),
            Self::GroupLink { .. } => ("builtins", "TypeError"),
            Self::Recursive => ("builtins", "RuntimeError"),
            Self::Queue(_) => ("celery.exceptions", "QueueNotFound"),
            _ => ("builtins", "ValueError"),
        };
        Exception::new(module, kind, [Json::text(&self.to_string())])
    }

    fn arguments(&self) -> Json {
        Json::array([Json::text(&self.to_string())])
    }
}

/// celery/backends/rpc.py and celery/backends/base.py.
fn no_chords(store: &str) -> String {
    let first = match store {
        "disabled" => "Starting chords requires a result backend to be configured.".to_owned(),
        store => format!("The \"{store}\" result backend does not support chords!"),
    };
    format!(
        "{first}\n\nNote that a group chained with a task is also upgraded to be a chord,\nas this pattern requires \
         synchronization.\n\nResult backends that supports chords: Redis, Database, Memcached, and more."
    )
}
