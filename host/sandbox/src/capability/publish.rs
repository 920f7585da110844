//! `taskhost:task/publish`, and the replacement that a task may answer with: calls of other tasks.
//!
//! Everything passes the same gate: signature, grant, limits. Nothing goes out here; see
//! [`crate::publish`].

use std::sync::Arc;
use std::time::Instant;

use taskhost_core::settle::Step;
use taskhost_core::signature::Sender;
use taskhost_core::{Outcome, Signature, Timestamp, Trap};

use crate::abi::taskhost::task::publish::{self, PublishError};
use crate::clock::Cut;
use crate::grant::Calls;
use crate::instance::Guest;
use crate::limits::PUBLISH_WAIT;
use crate::logs::Speaker;
use crate::publish::{Fate, Outlet};

impl publish::Host for Guest {
    fn send(&mut self, signature: String) -> Result<String, PublishError> {
        let (id, step) = self.call(signature, Fate::Waits)?;
        self.sent().effects.push(step);
        Ok(id)
    }

    async fn immediately(&mut self, signature: String) -> Result<String, PublishError> {
        let (id, step) = self.call(signature, Fate::Left)?;
        let outlet = self.outlet()?;
        let published = self.waiting().wait(PUBLISH_WAIT, outlet.sink.publish(step)).await;
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
    /// A message that is ready to leave, and its id.
    fn call(&mut self, text: String, fate: Fate) -> Result<(String, Step), PublishError> {
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
        let signature = Signature::parse(text).map_err(|error| PublishError::Invalid(error.to_string()))?;
        self.admit(&signature).map_err(PublishError::Denied)?;
        let sent = self.with_sender(|sender, now| {
            sender.send(&signature, index, now).map(|(id, step)| (sender.derived_id(index) == id, id, step))
        })?;
        let (is_derived, id, step) = sent.map_err(|error| PublishError::Invalid(error.to_string()))?;
        let sent = self.sent();
        sent.count += 1;
        sent.bytes += bytes;
        let text = id.to_string();
        if is_derived {
            sent.remember(id, fate);
        }
        Ok((text, step))
    }

    /// Whether the plugin may publish this and all that hangs on it; why not.
    fn admit(&self, signature: &Signature) -> Result<(), String> {
        for signature in signature.all() {
            let needed = Calls::of(signature);
            let granted = self.capabilities().is_some_and(|all| all.publish.iter().any(|entry| entry.covers(&needed)));
            if !granted {
                return Err(self.denied("publish", &needed.to_string()));
            }
        }
        Ok(())
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
        let (node, request) = (&self.surroundings().hostname, &*attempt.request);
        Ok(act(Sender { request, node, router: &outlet.router, signs: outlet.signs }, now))
    }

    /// The outcome of a task that answers with another in its place.
    pub(crate) fn replaced(&self, signature: String) -> Outcome {
        let signature = match Signature::parse(signature) {
            Ok(signature) => signature,
            Err(error) => return Outcome::Trapped(Trap::InvalidResult(error.to_string())),
        };
        if let Err(denied) = self.admit(&signature) {
            return Outcome::Trapped(Trap::CapabilityDenied(denied));
        }
        match self.with_sender(|sender, now| sender.replace(&signature, now)) {
            Ok(Ok(step)) => Outcome::Replaced(vec![step]),
            Ok(Err(error)) => Outcome::Trapped(Trap::InvalidResult(error.to_string())),
            Err(_) => {
                let why = "the task wants another in its place, and there is no broker".to_owned();
                Outcome::Trapped(Trap::CapabilityDenied(why))
            }
        }
    }
}
