//! Whoever looks on while a task runs in this process: what there is to see, and somebody who writes it down.
//!
//! Changes nothing about what happens.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taskhost_core::event::CustomEvent;
use taskhost_core::protocol::content::MapWriter;
use taskhost_core::record::ResultValue;
use taskhost_core::{Attempt, Finished, Json, Outcome, Request, ResultRecord, TaskId, Usage};

/// States, calls and events of one play that are kept, of each so many.
const KEPT_MAX: usize = 10_000;

/// Hears of what happens, at once, and must not block.
pub(in crate::command) trait Audience: Send + Sync {
    /// A message was published.
    fn called(&self, called: &Called);
    /// An attempt is over.
    fn ended(&self, attempt: &Attempt, finished: &Finished);
    /// A task gives itself a state.
    fn state(&self, record: &ResultRecord);
    /// A task tells monitors something.
    fn event(&self, event: &CustomEvent);
}

/// A message that was published.
pub(in crate::command) struct Called {
    pub(in crate::command) request: Request,
    /// How long it was to wait.
    pub(in crate::command) delay: Option<Duration>,
    /// It does wait.
    pub(in crate::command) waits: bool,
    pub(in crate::command) fate: Fate,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::command) enum Fate {
    /// It is what is played.
    First,
    /// The plugin has the task.
    Runs,
    /// It is a task that is known already, again.
    Retried,
    /// It replaces the task whose id it has.
    TakesOver,
    /// The same, by a task that the plugin does not have.
    TakesOverElsewhere,
    /// The plugin does not have the task.
    Elsewhere,
    /// Calls are not followed.
    NotFollowed,
    /// More came of one call than is reasonable.
    TooMany,
}

/// Writes down what concerns one task.
#[derive(Default)]
pub(in crate::command) struct Recorder(Mutex<Record>);

/// What was written down.
#[derive(Debug, Default, Clone)]
pub(in crate::command) struct Record {
    id: Option<TaskId>,
    /// States that it gave itself, with their meta.
    pub(in crate::command) states: Vec<(String, Json)>,
    /// What it called.
    pub(in crate::command) calls: Vec<Json>,
    /// What it told monitors: type and fields.
    pub(in crate::command) events: Vec<(String, Json)>,
    /// How often it was tried again.
    pub(in crate::command) retries: u32,
    /// Of the last attempt.
    pub(in crate::command) usage: Usage,
    /// What the last attempt came to.
    pub(in crate::command) ending: &'static str,
    /// Who has taken its place and is not here.
    pub(in crate::command) replaced_by: Option<String>,
}

impl Recorder {
    /// Begins anew, with the task of this id.
    pub(in crate::command) fn begin(&self, id: TaskId) {
        *self.record() = Record { id: Some(id), ending: "PENDING", ..Record::default() };
    }

    /// What was written down.
    pub(in crate::command) fn read(&self) -> Record {
        self.record().clone()
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Audience for Recorder {
    fn called(&self, called: &Called) {
        let mut record = self.record();
        let Called { request, fate, .. } = called;
        if record.id.as_ref() == Some(&request.id) {
            match fate {
                Fate::Retried => record.retries = request.retries,
                Fate::TakesOverElsewhere => record.replaced_by = Some(request.task.to_string()),
                _ => {}
            }
            return;
        }
        let is_child = record.id.as_ref().is_some_and(|id| request.parent_id.as_deref() == Some(id.as_str()));
        if is_child && record.calls.len() < KEPT_MAX {
            record.calls.push(called.to_json());
        }
    }

    fn ended(&self, attempt: &Attempt, finished: &Finished) {
        let mut record = self.record();
        if record.id.as_ref() == Some(&attempt.request.id) {
            record.usage = finished.usage;
            record.ending = ending(&finished.outcome);
        }
    }

    fn state(&self, state: &ResultRecord) {
        let mut record = self.record();
        if record.id.as_ref() == Some(&state.id) && record.states.len() < KEPT_MAX {
            record.states.push((state.state.as_str().to_owned(), meta(state)));
        }
    }

    fn event(&self, event: &CustomEvent) {
        let mut record = self.record();
        if record.id.as_ref() == Some(event.id()) && record.events.len() < KEPT_MAX {
            record.events.push((event.kind().to_owned(), event.fields().clone()));
        }
    }
}

impl Called {
    /// As it is shown and compared.
    fn to_json(&self) -> Json {
        let request = &self.request;
        let mut map = MapWriter::new();
        map.put("task", request.task.as_str())
            .put("args", &request.args)
            .put("kwargs", &request.kwargs)
            .put("queue", &request.delivery.routing_key)
            .put("id", request.id.as_str())
            .put("priority", &request.message.properties.priority)
            .put("countdown", &self.delay.map_or(Json::null(), |delay| Json::float(seconds(delay))))
            .put("run", &matches!(self.fate, Fate::Runs));
        map.finish()
    }
}

/// To a tenth: the clock has gone on since it was asked for.
fn seconds(delay: Duration) -> f64 {
    (delay.as_secs_f64() * 10.0).round() / 10.0
}

/// The meta of a state.
pub(in crate::command) fn meta(record: &ResultRecord) -> Json {
    match &record.result {
        ResultValue::Json(meta) => meta.clone(),
        ResultValue::Exception(exception) => Json::text(&exception.headline()),
    }
}

/// What an attempt came to, in a word as Celery would have it.
pub(in crate::command) fn ending(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Success(_) | Outcome::Unlocked(_) => "SUCCESS",
        Outcome::Failure(..) | Outcome::TimedOut(_) | Outcome::Trapped(_) => "FAILURE",
        Outcome::Retry(_) => "RETRY",
        Outcome::Ignored => "IGNORED",
        Outcome::Rejected { .. } => "REJECTED",
        Outcome::Replaced(_) => "REPLACED",
        Outcome::Interrupted => "INTERRUPTED",
        Outcome::Terminated(_) => "REVOKED",
    }
}
