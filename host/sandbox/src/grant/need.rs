//! What a plugin can need, and how `[needs]` of `plugin.toml` writes it.

use std::fmt;

use super::{Calls, HttpPattern, SocketPattern, entry, keyvalue};
use crate::size::Size;

/// Whether a directory can only be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    ReadOnly,
    ReadWrite,
}

/// One power that a plugin declares in `[needs]` of `plugin.toml`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A variable of the environment.
    Env(String),
    /// A key of `wasi:config/store`.
    Config(String),
    /// A directory under this path of the guest.
    Directory(String, Mode),
    /// Where it sends HTTP requests.
    Http(HttpPattern),
    /// A private folder for each attempt, of this size.
    Scratch(Size),
    Secret(String),
    /// Which machines it talks to.
    Socket(SocketPattern),
    /// Calls of tasks.
    Publish(Calls),
    /// To see results.
    Results(Scope),
    /// A bucket of `wasi:keyvalue`.
    KeyValue(String),
}

/// Whose results a plugin sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Those of tasks that descend from the one that asks.
    Own,
    Any,
}

impl Scope {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        match text {
            "own" => Ok(Self::Own),
            "any" => Ok(Self::Any),
            _ => Err(format!("expected \"own\" or \"any\", found \"{}\"", text.escape_debug())),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Any => "any",
        }
    }
}

/// The keys of `[needs]`.
pub(crate) const CAPABILITIES: &[&str] =
    &["config", "env", "fs", "http", "keyvalue", "publish", "results", "scratch", "secrets", "sockets"];

impl Need {
    /// The key in `[needs]` and in the grant.
    pub fn capability(&self) -> &'static str {
        match self {
            Self::Env(_) => "env",
            Self::Config(_) => "config",
            Self::Directory(..) => "fs",
            Self::Http(_) => "http",
            Self::Socket(_) => "sockets",
            Self::Scratch(_) => "scratch",
            Self::Secret(_) => "secrets",
            Self::Publish(_) => "publish",
            Self::Results(_) => "results",
            Self::KeyValue(_) => "keyvalue",
        }
    }

    /// What it is about, as `[needs]` has it.
    pub fn name(&self) -> String {
        match self {
            Self::Env(name) | Self::Config(name) | Self::Secret(name) | Self::KeyValue(name) => name.clone(),
            Self::Directory(guest, Mode::ReadOnly) => guest.clone(),
            Self::Directory(guest, Mode::ReadWrite) => format!("{guest}:rw"),
            Self::Http(pattern) => pattern.to_string(),
            Self::Socket(pattern) => pattern.to_string(),
            Self::Publish(calls) => calls.to_string(),
            Self::Results(scope) => scope.as_str().to_owned(),
            Self::Scratch(size) => size.to_string(),
        }
    }

    /// An entry of a grant that would give it; words in capitals are for the operator to choose.
    pub fn example(&self) -> String {
        match self {
            Self::Env(name) | Self::KeyValue(name) => name.clone(),
            Self::Config(key) => format!("{key}=VALUE"),
            Self::Secret(name) => format!("{name}=env:VARIABLE"),
            Self::Directory(guest, Mode::ReadOnly) => format!("{guest}=/FOLDER"),
            Self::Directory(guest, Mode::ReadWrite) => format!("{guest}=/FOLDER:rw"),
            Self::Http(pattern) => pattern.to_string(),
            Self::Socket(pattern) => pattern.to_string(),
            Self::Publish(_) | Self::Results(_) => self.name(),
            Self::Scratch(size) => size.to_string(),
        }
    }

    /// The entry of a grant that gives it, if that follows from the name alone.
    pub fn entry(&self) -> Option<String> {
        match self {
            Self::Env(name) | Self::KeyValue(name) => Some(name.clone()),
            Self::Http(pattern) => Some(pattern.to_string()),
            Self::Socket(pattern) => Some(pattern.to_string()),
            Self::Publish(_) | Self::Results(_) => Some(self.name()),
            Self::Scratch(size) => Some(size.to_string()),
            Self::Config(_) | Self::Secret(_) | Self::Directory(..) => None,
        }
    }

    pub(super) fn is_about(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory(guest, _), Self::Directory(other, _)) => guest == other,
            // One entry of a grant may give what several needs name.
            (Self::Http(pattern), Self::Http(granted)) => granted.covers(pattern),
            (Self::Socket(pattern), Self::Socket(granted)) => granted.covers(pattern),
            (Self::Publish(calls), Self::Publish(other)) => calls == other || other.covers(calls),
            (Self::Results(_), Self::Results(_)) => true,
            (Self::Scratch(_), Self::Scratch(_)) => true,
            _ => self == other,
        }
    }

    /// Reads one entry of `[needs]`.
    pub(crate) fn read(capability: &str, text: &str) -> Result<Self, String> {
        match capability {
            "config" => entry::name(text).map(Self::Config),
            "env" => entry::name(text).map(Self::Env),
            // `/data`, or `/data:rw`.
            "fs" => entry::needed_directory(text).map(|(guest, mode)| Self::Directory(guest, mode)),
            "http" => HttpPattern::parse(text).map(Self::Http),
            "keyvalue" => keyvalue::bucket(text).map(Self::KeyValue),
            "publish" => Calls::read(text).map(Self::Publish),
            "results" => Scope::read(text).map(Self::Results),
            "scratch" => entry::size(text).map(Self::Scratch),
            "secrets" => entry::name(text).map(Self::Secret),
            "sockets" => SocketPattern::parse(text).map(Self::Socket),
            _ => Err(format!("there is no capability `{capability}`")),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.capability(), self.name())
    }
}
