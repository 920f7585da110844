//! Names as types: the only way to own one is to have parsed one.
//!
//! Knows nothing about what a name stands for.

use std::fmt;
use std::sync::Arc;

/// Longest task id, task or queue name we accept, in bytes.
///
/// AMQP short strings (routing keys, correlation ids) end at 255 bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} has {bytes} bytes, more than the {NAME_BYTES_MAX} that AMQP allows")]
    TooLong { what: &'static str, bytes: usize },
    #[error("{what} `{text}` contains a control character")]
    ControlCharacter { what: &'static str, text: String },
}

fn check(what: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { what, bytes: text.len() });
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::ControlCharacter { what, text: text.escape_debug().to_string() });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text: not empty, no control characters, at most [`NAME_BYTES_MAX`] bytes.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check($what, text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// The id of a task call: any text that the client chose, normally a UUID.
    TaskId, "task id"
}
name! {
    /// The name under which a task is called, such as `images.resize`.
    TaskName, "task name"
}
name! {
    /// The name of a queue at the broker.
    QueueName, "queue name"
}
name! {
    /// The name of a worker in its cluster, such as `taskhost@machine`.
    NodeName, "node name"
}
name! {
    /// The name of a plugin, from its manifest or its file name.
    PluginName, "plugin name"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_not_empty_not_long_and_printable() {
        assert_eq!(TaskName::parse("tasks.add").map(|n| n.to_string()), Ok("tasks.add".into()));
        assert!(TaskId::parse("übung 1").is_ok());
        assert_eq!(TaskId::parse(""), Err(NameError::Empty { what: "task id" }));
        assert!(matches!(QueueName::parse("a\nb"), Err(NameError::ControlCharacter { .. })));
        assert!(matches!(TaskName::parse(&"x".repeat(256)), Err(NameError::TooLong { bytes: 256, .. })));
    }
}
