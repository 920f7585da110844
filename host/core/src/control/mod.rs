//! Remote control in Celery's words: what a node can be asked and told, how that is written, and how it answers
//! what it does not understand (celery/worker/control.py, kombu/pidbox.py).
//!
//! Carries nothing out: most commands are the dispatcher's ([`crate::dispatcher`]), the rest is answered by
//! whoever knows the process. How messages travel is the brokers' affair.

mod info;
mod mail;
mod method;
mod parse;
mod pattern;
mod queues;
mod signal;

use std::time::Duration;

use crate::name::{QueueName, TaskId};
use crate::protocol::content::{Json, MapWriter};
use crate::protocol::repr::repr;
use crate::queue::Queue;
use crate::rate::Rate;
use crate::revoke::Revocation;

pub(crate) use info::{RequestInfo, attributes};
pub use mail::{Answer, CLOCK_MAX, EXPIRED_GRACE, Mail, MailError, Question, REPLY_BYTES_MAX};
pub use method::{ArgumentKind, METHODS, Method, MethodKind, WordsError};
pub use pattern::Pattern;
pub use queues::queue_facts;
pub use signal::Signal;

/// How much of a value is shown in an answer, in characters.
const SHOWN_CHARS_MAX: usize = 4096;

/// Something that a node is asked or told. Names and arguments are Celery's, but for those that only we have.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    // Asked: celery's inspect commands.
    Ping,
    Clock,
    Report,
    Conf {
        with_defaults: bool,
    },
    Stats,
    /// Attempts that run. If `safe`, with their arguments as text.
    Active {
        safe: bool,
    },
    Reserved,
    Scheduled,
    Revoked,
    Registered {
        /// Which attributes of the tasks to show; none: Celery's choice.
        attributes: Vec<String>,
        builtins: bool,
    },
    ActiveQueues,
    QueryTask(Vec<TaskId>),
    Hello {
        from: String,
        revoked: Vec<TaskId>,
    },
    MemorySample,
    MemoryDump,
    ObjectGraph,

    // Told: celery's control commands.
    Revoke {
        ids: Vec<TaskId>,
        /// Stop those that run, and say that it was with this.
        terminate: Option<Signal>,
    },
    RevokeByStamps {
        stamps: Vec<Revocation>,
        /// The stamps as Python would print them.
        shown: String,
        terminate: Option<Signal>,
    },
    RateLimit {
        task: String,
        rate: Option<Rate>,
        /// The limit was given as nothing, and not as zero.
        disabled: bool,
    },
    TimeLimit {
        task: String,
        hard: Option<Duration>,
        soft: Option<Duration>,
    },
    /// A queue of which no more is known than the command says.
    AddConsumer(Box<Queue>),
    CancelConsumer(QueueName),
    PoolGrow(i64),
    PoolShrink(i64),
    PoolRestart,
    Autoscale {
        max: Option<u32>,
        min: Option<u32>,
    },
    EnableEvents,
    DisableEvents,
    Heartbeat,
    Shutdown {
        /// What is logged.
        reason: String,
    },
    /// Of Celery's gossip, which this host does not take part in.
    Election,

    // Ours.
    /// Take nothing from this queue, and keep it.
    PauseQueue(QueueName),
    ResumeQueue(QueueName),
    /// Take nothing at all, finish what is here, and stay.
    Quiet,
    Unquiet,
    /// These may run after all.
    Unrevoke(Vec<TaskId>),
}

/// Why a command is not carried out, in the words that a Python worker answers with.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ControlError {
    /// An exception of Python.
    #[error("{}", self.repr())]
    Raised { class: &'static str, message: String },
    /// The command's own words.
    #[error("{0}")]
    Refused(String),
}

impl ControlError {
    /// There is no such method.
    pub fn unknown(method: &str) -> Self {
        Self::Raised { class: "KeyError", message: method.to_owned() }
    }

    /// An exception that Python would raise.
    pub fn raised(class: &'static str, message: impl Into<String>) -> Self {
        Self::Raised { class, message: message.into() }
    }

    /// The answer.
    pub fn reply(&self) -> Json {
        error(&self.to_string())
    }

    fn repr(&self) -> String {
        match self {
            Self::Raised { class, message } => format!("{class}({})", repr(&Json::text(message), SHOWN_CHARS_MAX)),
            Self::Refused(text) => text.clone(),
        }
    }
}

/// The answer of a command that did what it should.
pub fn ok(value: &str) -> Json {
    let mut map = MapWriter::new();
    map.put("ok", value);
    map.finish()
}

/// The answer of a command that did not.
pub fn error(text: &str) -> Json {
    let mut map = MapWriter::new();
    map.put("error", text);
    map.finish()
}
