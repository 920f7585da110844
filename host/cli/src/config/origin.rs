//! Where a value came from.
//!
//! Shown by `host config`, and in front of every error about a value.

use std::fmt;

/// The place that a value was written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody gave it.
    Default,
    File {
        path: String,
        line: usize,
        column: usize,
    },
    /// The name of the variable.
    Environment(String),
    /// `--set`, with the name as it was written. Never the value: it may be a secret.
    Set(String),
    /// An option of the command line, such as `--concurrency`.
    Flag(&'static str),
}

impl Origin {
    /// The place for an error: exact, with the column.
    pub(crate) fn exact(&self) -> String {
        match self {
            Self::File { path, line, column } => format!("{path}:{line}:{column}"),
            other => other.to_string(),
        }
    }

    /// Line and column, if it is in a file.
    pub(crate) fn position(&self) -> Option<(usize, usize)> {
        match self {
            Self::File { line, column, .. } => Some((*line, *column)),
            _ => None,
        }
    }

    /// True if the place itself says which setting is meant.
    pub(crate) fn names_the_setting(&self) -> bool {
        !matches!(self, Self::File { .. } | Self::Default)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, .. } => write!(f, "{path}:{line}"),
            Self::Environment(name) => f.write_str(name),
            Self::Set(name) => write!(f, "--set {name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}
