//! What plugins offer: task specs with their options.
//!
//! Which of them can be run now is the catalog's to know; how a plugin is loaded or run is the sandbox's.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::arity::Arity;
use crate::concurrency::KeyPath;
use crate::name::{PluginName, TaskName};
use crate::rate::{Rate, RateScope};

/// One task as the worker knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSpec {
    pub name: TaskName,
    pub plugin: PluginName,
    pub version: PluginVersion,
    /// How many attempts of the whole plugin may run in this worker at a time.
    pub plugin_concurrency: Option<NonZeroU32>,
    /// One line for people.
    pub summary: String,
    /// Which arguments it takes; none if its plugin does not say so.
    pub takes: Option<Arity>,
    pub options: TaskOptions,
}

/// Which version of a plugin: the first digits of a hash over all that it is made of. Two that have the same
/// are the same.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PluginVersion(Arc<str>);

impl PluginVersion {
    /// How many digits there are.
    const DIGITS: usize = 12;

    /// The version of what has this hash, in hexadecimal.
    pub fn of(hash: &str) -> Self {
        Self(hash.get(..Self::DIGITS).unwrap_or(hash).into())
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PluginVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PluginVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the sandbox can do to an attempt so that its task is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetryOn {
    /// A trap, or any other violation that ends the instance.
    pub trap: bool,
    /// Exhausted memory.
    pub memory: bool,
    /// A time limit, of the wall or of the processor.
    pub time: bool,
}

/// How a task wants to be treated, under Celery's option names. `None` means: as the worker is
/// configured.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskOptions {
    /// How many retries a task may have; `None` is no limit. Celery's default is 3.
    pub max_retries: Option<u32>,
    /// Delay of a retry that names none. Celery's default is 180 s.
    pub default_retry_delay: Duration,
    /// Exception classes that cause a retry without being asked.
    pub autoretry_for: Vec<String>,
    /// Exception classes that cause none, whatever `autoretry_for` says.
    pub dont_autoretry_for: Vec<String>,
    /// What automatic retries do differently.
    pub retry_kwargs: RetryKwargs,
    /// Factor of the exponential backoff of automatic retries, in seconds; zero is none.
    pub retry_backoff: f64,
    /// Upper bound of that backoff.
    pub retry_backoff_max: Duration,
    /// Draw the backoff evenly between zero and its value.
    pub retry_jitter: bool,
    pub time_limit: Option<Duration>,
    pub soft_time_limit: Option<Duration>,
    /// The task watches `context.cancelled` and may go on after its soft time limit.
    pub handles_soft_limit: bool,
    pub acks_late: Option<bool>,
    /// Of late acknowledgements: whether a message is acknowledged whose task failed, or passed its hard
    /// time limit, and what holds for both where nothing else is said.
    pub acks_on_failure: Option<bool>,
    pub acks_on_timeout: Option<bool>,
    pub acks_on_failure_or_timeout: Option<bool>,
    /// Give a message back whose attempt trapped.
    pub reject_on_worker_lost: Option<bool>,
    /// Retry a task that trapped, while it has retries left.
    pub retry_on_worker_lost: Option<bool>,
    /// Retry a task that the sandbox ended for this, while it has retries left.
    pub retry_on: RetryOn,
    /// A retry runs on the version that asked for it, as long as that is there.
    pub pin_retries: bool,
    pub ignore_result: Option<bool>,
    pub store_errors_even_if_ignored: Option<bool>,
    pub track_started: Option<bool>,
    /// `Some(None)` is no limit, whatever the worker's default is.
    pub rate_limit: Option<Option<Rate>>,
    /// Who shares the rate limit.
    pub rate_limit_scope: RateScope,
    /// How many attempts may run in this worker at a time, of each key if there is one.
    pub concurrency: Option<NonZeroU32>,
    /// What counts apart for `concurrency`.
    pub concurrency_key: Option<KeyPath>,
}

/// The arguments that Celery passes to `retry` when it retries by itself.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RetryKwargs {
    /// In place of the task's own.
    pub max_retries: Option<u32>,
    /// In place of `default_retry_delay`; a backoff counts more.
    pub countdown: Option<Duration>,
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            max_retries: Some(3),
            default_retry_delay: Duration::from_secs(180),
            autoretry_for: Vec::new(),
            dont_autoretry_for: Vec::new(),
            retry_kwargs: RetryKwargs::default(),
            retry_backoff: 0.0,
            retry_backoff_max: Duration::from_secs(600),
            retry_jitter: true,
            time_limit: None,
            soft_time_limit: None,
            handles_soft_limit: false,
            acks_late: None,
            acks_on_failure: None,
            acks_on_timeout: None,
            acks_on_failure_or_timeout: None,
            reject_on_worker_lost: None,
            retry_on_worker_lost: None,
            retry_on: RetryOn::default(),
            pin_retries: false,
            ignore_result: None,
            store_errors_even_if_ignored: None,
            track_started: None,
            rate_limit: None,
            rate_limit_scope: RateScope::Worker,
            concurrency: None,
            concurrency_key: None,
        }
    }
}

/// What becomes of a message whose task no plugin has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The task has failed as not registered (Celery's only way).
    Reject,
    /// The broker gets it back, for another worker.
    Requeue,
    /// It is kept aside until a plugin brings the task.
    Park,
}

impl Disposition {
    /// The name under which it is configured.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Requeue => "requeue",
            Self::Park => "park",
        }
    }

    /// The disposition of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Reject, Self::Requeue, Self::Park].into_iter().find(|disposition| disposition.as_str() == text)
    }
}
