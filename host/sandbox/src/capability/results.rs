//! `taskhost:task/results`: what became of other tasks.
//!
//! Keeps nothing: every question goes to the result store, behind [`ResultSource`].

use std::sync::Arc;
use std::time::Duration;

use taskhost_core::protocol::content::MapWriter;
use taskhost_core::signature::was_sent_before;
use taskhost_core::{Request, State, StoredResult, TaskId};
use tokio::time::Instant;

use crate::abi::taskhost::task::results::{self, ResultError};
use crate::clock::{Cut, Patience};
use crate::grant::Scope;
use crate::instance::Guest;
use crate::limits::{ANCESTORS_MAX, DERIVED_MAX, RESULT_PAUSE_MAX, RESULT_PAUSE_MIN, RESULT_WAIT};
use crate::logs::Speaker;
use crate::publish::Fate;

/// Where running tasks look for results.
#[wasmtime_wasi::async_trait]
pub trait ResultSource: Send + Sync {
    /// What is known about a task; none for one of which nothing is.
    async fn get(&self, id: &TaskId) -> Result<Option<StoredResult>, String>;

    /// Returns when the state of a task may have become final, or after `within`.
    async fn changed(&self, id: &TaskId, within: Duration);
}

impl results::Host for Guest {
    async fn get(&mut self, id: String) -> Result<String, ResultError> {
        self.question(&id)?.get().await
    }

    async fn wait(&mut self, id: String, timeout_ms: u64) -> Result<String, ResultError> {
        self.question_to_wait(&id)?.wait(Duration::from_millis(timeout_ms)).await
    }
}

impl Guest {
    /// What is asked, whom to ask, and whether the guest may see the answer.
    pub(crate) fn question(&mut self, id: &str) -> Result<Question, ResultError> {
        let id = TaskId::parse(id).map_err(|error| ResultError::Invalid(error.to_string()))?;
        let scope = self.capabilities().and_then(|all| all.results);
        let Some(scope) = scope else { return Err(ResultError::Denied(self.denied("results", "own"))) };
        let Some(source) = self.surroundings().results.get().cloned() else {
            return Err(ResultError::Unavailable("there is no result store".to_owned()));
        };
        let Speaker::Task(attempt, _) = self.speaker() else {
            return Err(ResultError::Invalid("no task is running".to_owned()));
        };
        let (request, calls_max) = (Arc::clone(&attempt.request), self.limits().publish.min(DERIVED_MAX));
        let may_see = scope == Scope::Any || id == request.id || self.sent().fate(&id).is_some();
        let descent = (!may_see).then(|| Descent { request, calls_max, denied: self.denied("results", "any") });
        Ok(Question { id, source, patience: self.waiting(), descent })
    }

    /// The same, if it makes sense to wait for the answer.
    pub(crate) fn question_to_wait(&mut self, id: &str) -> Result<Question, ResultError> {
        let question = self.question(id)?;
        let id = &question.id;
        if self.sent().fate(id) == Some(Fate::Waits) {
            return Err(ResultError::Unpublished(format!(
                "task {id} is published when this one has succeeded, so waiting for it would never end; publish it \
                 with `immediately`"
            )));
        }
        Ok(question)
    }
}

/// A question with all that answering it takes: it needs its guest no more.
pub(crate) struct Question {
    id: TaskId,
    source: Arc<dyn ResultSource>,
    patience: Patience,
    /// Whom the task has to descend from. None, if the guest may see its result anyway.
    descent: Option<Descent>,
}

struct Descent {
    request: Arc<Request>,
    calls_max: u32,
    /// What the guest is told.
    denied: String,
}

impl Question {
    pub(crate) async fn get(self) -> Result<String, ResultError> {
        let stored = self.look_up(&self.id).await?;
        self.check(stored.as_ref()).await?;
        Ok(meta(&self.id, stored.as_ref()))
    }

    pub(crate) async fn wait(self, timeout: Duration) -> Result<String, ResultError> {
        let Self { id, source, patience, .. } = &self;
        let deadline = Instant::now().checked_add(timeout);
        let mut pause = RESULT_PAUSE_MIN;
        let mut checked = false;
        loop {
            let stored = self.look_up(id).await?;
            if !checked {
                self.check(stored.as_ref()).await?;
                checked = true;
            }
            if stored.as_ref().is_some_and(|stored| stored.state.is_ready()) {
                return Ok(meta(id, stored.as_ref()));
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                let seconds = timeout.as_secs_f64();
                return Err(ResultError::TimedOut(format!("task {id} was not done after {seconds} s")));
            }
            let wait = pause.min(left);
            match patience.wait(wait, source.changed(id, wait)).await {
                // The time of the pause is not that of the task.
                Ok(()) | Err(Cut::Time(_)) if !patience.is_over() => {}
                Ok(()) | Err(Cut::Time(_) | Cut::Told) => {
                    return Err(ResultError::Cancelled(format!("this task is to end; task {id} is not done yet")));
                }
            }
            pause = pause.saturating_mul(2).min(RESULT_PAUSE_MAX);
        }
    }

    /// Whether this result may be seen: any may, or it is of a task that this one called, or that one of
    /// those called.
    async fn check(&self, stored: Option<&StoredResult>) -> Result<(), ResultError> {
        let Some(Descent { request, calls_max, denied }) = &self.descent else { return Ok(()) };
        let mut parent = stored.and_then(|stored| stored.parent_id.clone());
        for _ in 0..ANCESTORS_MAX {
            let Some(id) = parent.as_deref().and_then(|parent| TaskId::parse(parent).ok()) else { break };
            if id == request.id {
                return Ok(());
            }
            parent = self.look_up(&id).await?.and_then(|stored| stored.parent_id);
        }
        // What an earlier execution of this task called and has not begun yet is in no store.
        if was_sent_before(request, &self.id, *calls_max) {
            return Ok(());
        }
        let id = &self.id;
        Err(ResultError::Denied(format!("task {id} is not known to descend from this one; {denied}")))
    }

    async fn look_up(&self, id: &TaskId) -> Result<Option<StoredResult>, ResultError> {
        match self.patience.wait(RESULT_WAIT, self.source.get(id)).await {
            Ok(found) => found.map_err(ResultError::Unavailable),
            Err(Cut::Time(waited)) => {
                let seconds = waited.as_secs_f64();
                Err(ResultError::Unavailable(format!("the result store did not answer within {seconds} s")))
            }
            Err(Cut::Told) => Err(ResultError::Cancelled("this task is to end".to_owned())),
        }
    }
}

/// What is known about a task, under Celery's names.
fn meta(id: &TaskId, stored: Option<&StoredResult>) -> String {
    let mut meta = MapWriter::new();
    meta.put("task_id", id.as_str())
        .put("state", stored.map_or(&State::Pending, |stored| &stored.state).as_str())
        .put("result", &stored.map(|stored| stored.result.clone()))
        .put("traceback", &stored.and_then(|stored| stored.traceback.as_ref()))
        .put("date_done", &stored.and_then(|stored| stored.date_done.as_ref()))
        .put("parent_id", &stored.and_then(|stored| stored.parent_id.as_ref()));
    for (name, value) in stored.iter().flat_map(|stored| &stored.call) {
        meta.put(name, value);
    }
    meta.finish_text()
}
