//! `taskhost:task/publish`, and the replacement that a task may answer with: calls of other tasks.
//!
//! Everything passes the same gate: signature, grant, limits. Nothing goes out here; see
//! [`crate::publish`].

use std::sync::Arc;
use std::time::Instant;

use taskhost_core::settle::Step;
use taskhost_core::{Canvas, Ids, Json, Outcome, PartialCall, Sender, SignatureError, TaskId, Timestamp, Trap};

use crate::abi::taskhost::task::publish::{self, PublishError};
use crate::clock::Cut;
use crate::grant::Calls;
use crate::instance::Guest;
use crate::limits::PUBLISH_WAIT;
use crate::logs::Speaker;
use crate::publish::{Fate, Outlet};

impl publish::Host for Guest {
    fn send(&mut self, signature: String) -> Result<String, PublishError> {
        let (id, steps) = self.call(signature, Fate::Waits)?;
        self.sent().effects.extend(steps);
        Ok(id)
    }

    async fn immediately(&mut self, signature: String) -> Result<String, PublishError> {
        let (id, steps) = self.call(signature, Fate::Left)?;
        let outlet = self.outlet()?;
        let published = self.waiting().wait(PUBLISH_WAIT, outlet.sink.publish(steps)).await;
        match published {
            Ok(Ok(())) => Ok(id),
            Ok(Err(why)) => Err(PublishError::Unavailable(why)),
            Err(Cut::Time(waited)) => {
                let seconds = waited.as_secs_f64();
                Err(PublishError::Unavailable(format!("the broker did not confirm task {id} within {seconds} s")))
            }
            Err(Cut::Told) => {
                Err(PublishError::Unavailable(format!("the task is to end; the broker has not confirmed task {id}")))
            }
        }
    }
}

impl Guest {
    /// Messages that are ready to leave, and the id of the whole.
    fn call(&mut self, text: String, fate: Fate) -> Result<(String, Vec<Step>), PublishError> {
        let (count_max, bytes_max) = (self.limits().publish, self.limits().result_bytes);
        let bytes = text.len();
        let sent = self.sent();
        if sent.count >= count_max {
            self.surroundings().reached.count(self.speaker().plugin(), "publish");
            let text = format!("the task has published {count_max} others; limits.publish is {count_max}");
            return Err(PublishError::Limited(text));
        }
        if bytes > bytes_max.saturating_sub(sent.bytes) {
            let all = sent.bytes.saturating_add(bytes);
            self.surroundings().reached.count(self.speaker().plugin(), "result");
            let text = format!("the signatures of the task have {all} bytes; limits.result is {bytes_max} bytes");
            return Err(PublishError::Limited(text));
        }
        let index = sent.count;
        let invalid = |error: SignatureError| PublishError::Invalid(error.to_string());
        let canvas = Canvas::parse(text).map_err(invalid)?;
        self.admit(&canvas).map_err(invalid)?.map_err(PublishError::Denied)?;
        let (applied, ids) = self.with_sender(|sender, now| {
            let mut ids = Ids::of_call(sender.request, index);
            (sender.apply(&canvas, PartialCall::default(), &mut ids, now), ids)
        })?;
        let applied = applied.map_err(invalid)?;
        let id = id_of(&applied.result).ok_or(PublishError::Invalid("a chain without steps".to_owned()))?;
        let sent = self.sent();
        sent.count += 1;
        sent.bytes += bytes;
        let text = id.to_string();
        for id in ids.into_drawn() {
            sent.remember(id, fate);
        }
        Ok((text, applied.steps))
    }

    /// Whether the plugin may publish this and all that hangs on it; why not.
    fn admit(&self, canvas: &Canvas) -> Result<Result<(), String>, SignatureError> {
        for signature in canvas.signatures()? {
            let needed = Calls::of(&signature);
            let granted = self.capabilities().is_some_and(|all| all.publish.iter().any(|entry| entry.covers(&needed)));
            if !granted {
                return Ok(Err(self.denied("publish", &needed.to_string())));
            }
        }
        Ok(Ok(()))
    }

    fn outlet(&self) -> Result<Arc<Outlet>, PublishError> {
        self.surroundings()
            .outlet
            .get()
            .cloned()
            .ok_or_else(|| PublishError::Unavailable("there is no broker".to_owned()))
    }

    fn with_sender<T>(&self, act: impl FnOnce(Sender<'_>, Timestamp) -> T) -> Result<T, PublishError> {
        let outlet = self.outlet()?;
        let Speaker::Task(attempt, _) = self.speaker() else {
            return Err(PublishError::Invalid("no task is running".to_owned()));
        };
        // The wall clock as it was when the attempt started, and has gone on since.
        let now = attempt.started + Instant::now().saturating_duration_since(self.deadlines().started);
        Ok(act(Sender { request: &attempt.request, settings: &outlet.settings }, now))
    }

    /// The outcome of a task that answers with another in its place.
    pub(crate) fn replaced(&self, signature: String) -> Outcome {
        let invalid = |error: SignatureError| Outcome::Trapped(Trap::InvalidResult(error.to_string()));
        let canvas = match Canvas::parse(signature) {
            Ok(canvas) => canvas,
            Err(error) => return invalid(error),
        };
        match self.admit(&canvas) {
            Err(error) => return invalid(error),
            Ok(Err(denied)) => return Outcome::Trapped(Trap::CapabilityDenied(denied)),
            Ok(Ok(())) => {}
        }
        match self.with_sender(|sender, now| sender.replace(canvas, now)) {
            Ok(Ok(applied)) => Outcome::Replaced(applied.steps),
            Ok(Err(error)) => invalid(error),
            Err(_) => {
                let why = "the task wants another in its place, and there is no broker".to_owned();
                Outcome::Trapped(Trap::CapabilityDenied(why))
            }
        }
    }
}

/// The id in a result tuple.
fn id_of(result: &Json) -> Option<TaskId> {
    TaskId::parse(&result.elements().next()?.elements().next()?.as_text()?).ok()
}
