//! An execution of a task, and what can come of it.
//!
//! An outcome is not an error: a task that fails is ordinary business. What is done about an outcome
//! is decided in `settle` alone.

use std::sync::Arc;
use std::time::Duration;

use crate::control::Signal;
use crate::exception::Exception;
use crate::flow::Broken;
use crate::protocol::content::Json;
use crate::record::CallRecord;
use crate::request::Request;
use crate::settle::Step;
use crate::task::{PluginVersion, TaskSpec};
use crate::timestamp::Timestamp;
use crate::usage::Usage;

/// Identifies a delivery within this process. The receipt itself stays with the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(pub u64);

/// Identifies an attempt within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(pub u64);

/// One execution of a task.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub id: AttemptId,
    pub delivery: DeliveryId,
    pub request: Arc<Request>,
    pub spec: Arc<TaskSpec>,
    /// What its results tell about the call; none if they tell nothing.
    pub call: Option<Arc<CallRecord>>,
    pub started: Timestamp,
    /// Wall time after which the attempt is stopped, whatever it does.
    pub time_limit: Duration,
    /// Wall time after which the attempt is told to end, or stopped if it does not listen.
    pub soft_time_limit: Option<Duration>,
    /// The version of its plugin that it is to run on, if that is there, in place of the one of its spec.
    pub pinned: Option<PluginVersion>,
    pub policy: Policy,
}

/// How an assignment is treated: message, task and worker settings resolved into one answer each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Acknowledge the message after the attempt, not when it starts.
    pub acks_late: bool,
    /// Of late acknowledgements: a message whose task failed is acknowledged, and not rejected.
    pub acks_on_failure: bool,
    /// One whose task passed its hard time limit is acknowledged, and not given back.
    pub acks_on_timeout: bool,
    /// One whose attempt trapped is given back.
    pub reject_on_worker_lost: bool,
    /// A task that trapped is retried.
    pub retry_on_worker_lost: bool,
    /// Store no result.
    pub ignore_result: bool,
    /// Store failures all the same.
    pub store_errors: bool,
    /// Store STARTED when the attempt starts.
    pub track_started: bool,
    /// Store what the attempt used with its result.
    pub store_usage: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            acks_late: true,
            acks_on_failure: true,
            acks_on_timeout: true,
            reject_on_worker_lost: false,
            retry_on_worker_lost: false,
            ignore_result: false,
            store_errors: true,
            track_started: false,
            store_usage: false,
        }
    }
}

/// What came back from an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    pub outcome: Outcome,
    /// What it sent meanwhile, in order: published if it succeeds or is replaced, and else dropped.
    pub effects: Vec<Step>,
    /// The results of what it called.
    pub children: Vec<Child>,
    pub usage: Usage,
}

impl Finished {
    /// Of an attempt that sent nothing.
    pub fn alone(outcome: Outcome, usage: Usage) -> Self {
        Self { outcome, effects: Vec::new(), children: Vec::new(), usage }
    }
}

/// The result of a call that a task made.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// Celery's result tuple: an id and its parent, and the members of a group.
    pub result: Json,
    /// It went out at once; others go with the effects, or not at all.
    pub published: bool,
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The task returned.
    Success(Json),
    /// The task ended with an exception of its own.
    Failure(Exception, Option<String>),
    /// The task asked for another run.
    Retry(RetryRequest),
    /// The task wants nothing to be stored.
    Ignored,
    /// The task gives its message back to the broker.
    Rejected { requeue: bool },
    /// Another signature takes its place; these publish it.
    Replaced(Vec<Step>),
    /// It looked after a chord, whose body is to be published, or can never be.
    Unlocked(Box<Unlocked>),
    /// A time limit passed.
    TimedOut(Limit),
    /// The sandbox ended the attempt.
    Trapped(Trap),
    /// The worker is stopping at once and ended the attempt.
    Interrupted,
    /// The task was revoked while it ran, and the attempt ended for that.
    /// This is what its client wanted it to be stopped with.
    Terminated(Signal),
}

/// A chord of which it is known how its header ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Unlocked {
    /// The id of the header.
    pub group: String,
    /// The signature of the body.
    pub body: Json,
    /// The list of results that the body is called with.
    pub joined: Result<Json, Box<Broken>>,
    /// What the task that looked after it fails with itself, if it gave up.
    pub failure: Option<Exception>,
}

/// Which time limit, and how long it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Soft(Duration),
    Hard(Duration),
}

/// What only a sandbox can do to a task; becomes an exception of module `taskhost.errors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trap {
    /// An instruction that traps: `unreachable`, out of bounds, division by zero. The text names it.
    Instruction(String),
    StackOverflow,
    /// The guest wanted more memory than its limit, in bytes.
    MemoryLimit {
        limit_bytes: u64,
    },
    /// The guest wanted a larger table than any may have, in elements.
    TableLimit {
        elements: u64,
    },
    /// The guest kept a processor for longer than its limit.
    CpuTimeLimit {
        limit: Duration,
    },
    /// The guest held more handles than its limit: streams, timers, open files.
    HandleLimit {
        limit: u64,
    },
    /// The guest called the host more often than its limit.
    HostCallLimit {
        limit: u64,
    },
    /// The guest handed more to the host in one call than its limit, in bytes.
    HostCallTooLarge {
        limit_bytes: u64,
    },
    /// The result was longer than its limit, in bytes.
    ResultTooLarge {
        limit_bytes: u64,
    },
    /// The guest called `exit`; what it had said last on stderr, if anything.
    Exited {
        code: i32,
        words: Option<String>,
    },
    /// The guest's answer does not follow the interface. The text says how.
    InvalidResult(String),
    /// The guest asked for something that is not granted. The text names the missing line.
    CapabilityDenied(String),
    /// The plugin that served the task could not be instantiated. The text says why.
    NotInstantiated(String),
}

/// How the sandbox had to end an attempt: something that tells about the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    Trap,
    Memory,
    Time,
}

impl Trap {
    /// None for wrong answers of a task that ended.
    pub fn violation(&self) -> Option<Violation> {
        match self {
            Self::Instruction(_)
            | Self::StackOverflow
            | Self::HandleLimit { .. }
            | Self::HostCallLimit { .. }
            | Self::HostCallTooLarge { .. }
            | Self::Exited { .. } => Some(Violation::Trap),
            Self::MemoryLimit { .. } | Self::TableLimit { .. } => Some(Violation::Memory),
            Self::CpuTimeLimit { .. } => Some(Violation::Time),
            Self::ResultTooLarge { .. }
            | Self::InvalidResult(_)
            | Self::CapabilityDenied(_)
            | Self::NotInstantiated(_) => None,
        }
    }

    /// True for what costs Celery the process that runs the task, and us the instance.
    pub fn lost_the_instance(&self) -> bool {
        self.violation().is_some()
    }
}

impl Outcome {
    /// What the sandbox had to do, if anything.
    pub fn violation(&self) -> Option<Violation> {
        match self {
            Self::Trapped(trap) => trap.violation(),
            Self::TimedOut(_) => Some(Violation::Time),
            _ => None,
        }
    }

    /// The limit that ended it, by its key in `[limits]`; a soft time limit is the task's own.
    pub fn limit(&self) -> Option<&'static str> {
        match self {
            Self::TimedOut(Limit::Hard(_)) => Some("time"),
            Self::TimedOut(Limit::Soft(_)) => Some("soft_time"),
            Self::Trapped(trap) => match trap {
                Trap::StackOverflow => Some("stack"),
                Trap::MemoryLimit { .. } => Some("memory"),
                Trap::TableLimit { .. } => Some("table"),
                Trap::CpuTimeLimit { .. } => Some("cpu_time"),
                Trap::HandleLimit { .. } => Some("handles"),
                Trap::HostCallLimit { .. } => Some("host_calls"),
                Trap::HostCallTooLarge { .. } => Some("host_call_bytes"),
                Trap::ResultTooLarge { .. } => Some("result"),
                _ => None,
            },
            _ => None,
        }
    }

    /// What it says about the plugin that the task is of: it failed, it did not, or nothing.
    pub fn verdict(&self) -> Option<bool> {
        match self {
            Self::Failure(..) | Self::Trapped(_) | Self::TimedOut(_) => Some(true),
            Self::Success(_)
            | Self::Retry(_)
            | Self::Ignored
            | Self::Rejected { .. }
            | Self::Replaced(_)
            | Self::Unlocked(_) => Some(false),
            Self::Interrupted | Self::Terminated(_) => None,
        }
    }
}

/// What a task that retries asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryRequest {
    pub cause: Option<(Exception, Option<String>)>,
    pub delay: RetryDelay,
    /// How many retries are allowed, for this attempt only.
    pub max_retries: Option<u32>,
    pub args: Option<Json>,
    pub kwargs: Option<Json>,
}

/// When a retry is due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RetryDelay {
    /// After the task's own delay.
    Default,
    Countdown(Duration),
    At(Timestamp),
}

// Two attempts are the same if they have the same id; used by tests that compare actions.
impl PartialEq for Attempt {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.delivery == other.delivery
    }
}
