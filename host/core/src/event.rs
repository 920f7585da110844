//! What happened to a task, for whoever watches: log lines now, monitors as well.
//!
//! Best effort: nothing depends on an event being seen.

mod custom;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use crate::control::Signal;
use crate::exception::Exception;
use crate::name::{TaskId, TaskName};
use crate::outcome::Limit;
use crate::protocol::content::Json;
use crate::request::Request;
use crate::task::TaskSpec;
use crate::usage::Usage;

pub use custom::{CustomEvent, CustomEventError, KIND_BYTES_MAX};
pub use wire::{BATCH_KEY, Beat, EventWriter, Software, Stamp, Vitals, routing_key};

/// Something that happened to one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: TaskId,
    pub task: TaskName,
    /// What ran or would have run; none if no plugin has the task.
    pub spec: Option<Arc<TaskSpec>>,
    pub what: Happening,
}

/// The life of a task in Celery's words (docs/userguide/monitoring.rst, "Task Events").
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    Received {
        request: Arc<Request>,
        /// It has expired, or was revoked, and will not run.
        refused: bool,
    },
    Started {
        /// Since it was received, or since its ETA if that was later.
        waited: Duration,
    },
    Succeeded {
        result: Json,
        usage: Usage,
    },
    Failed {
        exception: Exception,
        traceback: Option<String>,
        limit: Option<Limit>,
        usage: Usage,
    },
    Retried {
        cause: Option<Exception>,
        traceback: Option<String>,
        delay: Duration,
    },
    Rejected {
        requeue: bool,
    },
    Ignored,
    /// It trapped, and its message is given back.
    Lost {
        exception: Exception,
    },
    Revoked {
        expired: bool,
        /// It was stopped while it ran, and this is what its client wanted it to be stopped with.
        terminated: Option<Signal>,
    },
    /// Its name is not in the catalog.
    Unregistered {
        /// Its message is given back, for a worker that has it.
        requeue: bool,
    },
    /// No plugin can run it now, and its message is kept aside until one can.
    Parked {
        /// There is one, which is in quarantine.
        quarantined: bool,
    },
    /// Kept aside, since nobody could finish it.
    DeadLettered {
        deliveries: u32,
    },
    /// Stopped half-way because the worker stops at once.
    Interrupted,
}
