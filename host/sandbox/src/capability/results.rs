//! `taskhost:task/results`: what became of other tasks.
//!
//! Keeps nothing: every question goes to the result store, behind [`ResultSource`].

use std::sync::Arc;
use std::time::Duration;

use taskhost_core::protocol::content::MapWriter;
use taskhost_core::signature::was_sent_before;
use taskhost_core::{State, StoredResult, TaskId};
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
        let (id, source) = self.question(&id)?;
        let stored = look_up(&self.waiting(), &source, &id).await?;
        self.check_own(&source, &id, stored.as_ref()).await?;
        Ok(meta(&id, stored.as_ref()))
    }

    async fn wait(&mut self, id: String, timeout_ms: u64) -> Result<String, ResultError> {
        let (id, source) = self.question(&id)?;
        if self.sent().fate(&id) == Some(Fate::Waits) {
            return Err(ResultError::Unpublished(format!(
                "task {id} is published when this one has succeeded, so waiting for it would never end; publish it \
                 with `immediately`"
            )));
        }
        let timeout = Duration::from_millis(timeout_ms);
        let deadline = Instant::now().checked_add(timeout);
        let mut pause = RESULT_PAUSE_MIN;
        let mut checked = false;
        loop {
            let stored = look_up(&self.waiting(), &source, &id).await?;
            if !checked {
                self.check_own(&source, &id, stored.as_ref()).await?;
                checked = true;
            }
            if stored.as_ref().is_some_and(|stored| stored.state.is_ready()) {
                return Ok(meta(&id, stored.as_ref()));
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                let seconds = timeout.as_secs_f64();
                return Err(ResultError::TimedOut(format!("task {id} was not done after {seconds} s")));
            }
            let wait = pause.min(left);
            match self.waiting().wait(wait, source.changed(&id, wait)).await {
                // The time of the pause is not that of the task.
                Ok(()) | Err(Cut::Time(_)) if !self.is_cancelled() => {}
                Ok(()) | Err(Cut::Time(_) | Cut::Told) => {
                    return Err(ResultError::Cancelled(format!("this task is to end; task {id} is not done yet")));
                }
            }
            pause = pause.saturating_mul(2).min(RESULT_PAUSE_MAX);
        }
    }
}

impl Guest {
    /// What is asked, and whom to ask.
    fn question(&self, id: &str) -> Result<(TaskId, Arc<dyn ResultSource>), ResultError> {
        let id = TaskId::parse(id).map_err(|error| ResultError::Invalid(error.to_string()))?;
        if self.capabilities().is_none_or(|all| all.results.is_none()) {
            return Err(ResultError::Denied(self.denied("results", "own")));
        }
        match self.surroundings().results.get() {
            Some(source) => Ok((id, Arc::clone(source))),
            None => Err(ResultError::Unavailable("there is no result store".to_owned())),
        }
    }

    /// Whether this result may be seen: any may, or it is of a task that this one called, or that one of
    /// those called.
    async fn check_own(
        &mut self,
        source: &Arc<dyn ResultSource>,
        id: &TaskId,
        stored: Option<&StoredResult>,
    ) -> Result<(), ResultError> {
        let any = self.capabilities().is_some_and(|all| all.results == Some(Scope::Any));
        let Speaker::Task(attempt, _) = self.speaker() else {
            return Err(ResultError::Invalid("no task is running".to_owned()));
        };
        let (request, calls_max) = (Arc::clone(&attempt.request), self.limits().publish.min(DERIVED_MAX));
        if any || *id == request.id || self.sent().fate(id).is_some() {
            return Ok(());
        }
        let patience = self.waiting();
        let mut parent = stored.and_then(|stored| stored.parent_id.clone());
        for _ in 0..ANCESTORS_MAX {
            let Some(id) = parent.as_deref().and_then(|parent| TaskId::parse(parent).ok()) else { break };
            if id == request.id {
                return Ok(());
            }
            parent = look_up(&patience, source, &id).await?.and_then(|stored| stored.parent_id);
        }
        // What an earlier execution of this task called and has not begun yet is in no store.
        if was_sent_before(&request, id, calls_max) {
            return Ok(());
        }
        let denied = self.denied("results", "any");
        Err(ResultError::Denied(format!("task {id} is not known to descend from this one; {denied}")))
    }
}

async fn look_up(
    patience: &Patience,
    source: &Arc<dyn ResultSource>,
    id: &TaskId,
) -> Result<Option<StoredResult>, ResultError> {
    match patience.wait(RESULT_WAIT, source.get(id)).await {
        Ok(found) => found.map_err(ResultError::Unavailable),
        Err(Cut::Time(waited)) => {
            let seconds = waited.as_secs_f64();
            Err(ResultError::Unavailable(format!("the result store did not answer within {seconds} s")))
        }
        Err(Cut::Told) => Err(ResultError::Cancelled("this task is to end".to_owned())),
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
