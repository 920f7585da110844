//! `taskhost:task/publish`, and the replacement that a task may answer with: calls of other tasks, and canvases of
//! them.
//!
//! Everything passes the same gate: signature, grant, limits. Nothing goes out here; see
//! [`crate::publish`].

use std::sync::Arc;
use std::time::Instant;

use taskhost_core::canvas::{Applied, Canvas, Ids, PartialCall, Sender};
use taskhost_core::protocol::content::Kind;
use taskhost_core::settle::Step;
use taskhost_core::signature::{Signature, SignatureError};
use taskhost_core::{Child, Json, Outcome, TaskId, Timestamp, Trap};

use crate::abi::taskhost::task::publish::{self, PublishError};
use crate::clock::{Cut, Patience};
use crate::grant::Calls;
use crate::instance::Guest;
use crate::limits::PUBLISH_WAIT;
use crate::logs::Speaker;
use crate::publish::{Fate, Outlet};

impl publish::Host for Guest {
    fn send(&mut self, signature: String) -> Result<String, PublishError> {
        let call = self.call(signature, Partial::default())?;
        let id = call.id();
        let _ = self.keep(call);
        Ok(id)
    }

    async fn immediately(&mut self, signature: String) -> Result<String, PublishError> {
        let (id, leaving) = self.publishing(signature)?;
        self.leave(leaving).await?;
        Ok(id)
    }

    async fn apply(
        &mut self,
        signature: String,
        args: String,
        kwargs: String,
        immediately: bool,
    ) -> Result<String, PublishError> {
        let partial = Partial::read(args, kwargs)?;
        if immediately {
            let (result, leaving) = self.applying(signature, partial)?;
            self.leave(leaving).await?;
            return Ok(result);
        }
        let call = self.call(signature, partial)?;
        Ok(self.keep(call))
    }

    async fn add_to_chord(&mut self, signature: String, immediately: bool) -> Result<String, PublishError> {
        if immediately {
            let (result, leaving) = self.adding_to_chord(signature)?;
            self.leave(leaving).await?;
            return Ok(result);
        }
        let call = self.chord_part(signature)?;
        Ok(self.keep(call))
    }
}

/// Arguments that come before and over those of a signature.
#[derive(Default)]
pub(crate) struct Partial {
    args: Vec<Json>,
    kwargs: Option<Json>,
    bytes: usize,
}

impl Partial {
    pub(crate) fn read(args: String, kwargs: String) -> Result<Self, PublishError> {
        let bytes = args.len() + kwargs.len();
        let typed = |what: &str, text: String, kind, expected: &str| match Json::parse(text) {
            Ok(json) if json.kind() == kind => Ok(json),
            Ok(_) => Err(PublishError::Invalid(format!("the {what} are not a JSON {expected}"))),
            Err(error) => Err(PublishError::Invalid(format!("the {what} are not JSON: {error}"))),
        };
        let args = typed("args", args, Kind::List, "array")?;
        let kwargs = typed("kwargs", kwargs, Kind::Map, "object")?;
        let is_empty = kwargs.members().next().is_none();
        Ok(Self { args: args.elements().collect(), kwargs: Some(kwargs).filter(|_| !is_empty), bytes })
    }
}

/// What is ready to leave.
struct Call {
    steps: Vec<Step>,
    result: Json,
    /// The results that become children of the task.
    children: Vec<Json>,
    /// The ids that were made for it. Ids that a task chose itself are not here: it could choose those of other
    /// people's tasks.
    made: Vec<TaskId>,
}

impl Call {
    /// The id of the task, or of the group.
    fn id(&self) -> String {
        let id = self.result.elements().next().and_then(|this| this.elements().next());
        id.and_then(|id| id.as_text().map(|id| id.into_owned())).unwrap_or_default()
    }
}

/// What is on its way to the broker. It needs its guest no more until it has arrived.
pub(crate) struct Leaving {
    id: String,
    steps: Vec<Step>,
    children: Vec<Child>,
    outlet: Arc<Outlet>,
    patience: Patience,
}

impl Leaving {
    /// Publishes it. The results that became children of the task.
    pub(crate) async fn publish(self) -> Result<Vec<Child>, PublishError> {
        let Self { id, steps, children, outlet, patience } = self;
        let why = match patience.wait(PUBLISH_WAIT, outlet.sink.publish(steps)).await {
            Ok(Ok(())) => return Ok(children),
            Ok(Err(why)) => why,
            Err(Cut::Time(waited)) => {
                format!("the broker did not confirm task {id} within {} s", waited.as_secs_f64())
            }
            Err(Cut::Told) => format!("the task is to end; the broker has not confirmed task {id}"),
        };
        Err(PublishError::Unavailable(why))
    }
}

impl Guest {
    /// `immediately`: the id of the task, and what is to be published.
    pub(crate) fn publishing(&mut self, signature: String) -> Result<(String, Leaving), PublishError> {
        let call = self.call(signature, Partial::default())?;
        Ok((call.id(), self.depart(call)?))
    }

    /// `apply`, at once: where the results will be, and what is to be published.
    pub(crate) fn applying(&mut self, signature: String, partial: Partial) -> Result<(String, Leaving), PublishError> {
        let call = self.call(signature, partial)?;
        Ok((call.result.as_str().to_owned(), self.depart(call)?))
    }

    /// `add-to-chord`, at once: the same for it.
    pub(crate) fn adding_to_chord(&mut self, signature: String) -> Result<(String, Leaving), PublishError> {
        let call = self.chord_part(signature)?;
        Ok((call.result.as_str().to_owned(), self.depart(call)?))
    }

    fn chord_part(&mut self, signature: String) -> Result<Call, PublishError> {
        let bytes = signature.len();
        let canvas = self.admitted(signature, bytes)?;
        self.make(bytes, |sender, ids, now| sender.add_to_chord(canvas, ids, now))
    }

    /// What a signature with these arguments comes to, if the plugin may publish it.
    fn call(&mut self, signature: String, partial: Partial) -> Result<Call, PublishError> {
        let bytes = signature.len() + partial.bytes;
        let canvas = self.admitted(signature, bytes)?;
        let Partial { args, kwargs, .. } = &partial;
        self.make(bytes, |sender, ids, now| {
            let call = PartialCall { args, kwargs: kwargs.as_ref(), ..PartialCall::default() };
            sender.apply(&canvas, call, ids, now)
        })
    }

    /// A signature that passes the gate, as part of something of so many bytes.
    fn admitted(&mut self, text: String, bytes: usize) -> Result<Canvas, PublishError> {
        let (count_max, bytes_max) = (self.limits().publish, self.limits().result_bytes);
        let sent = self.sent();
        if sent.count >= count_max {
            let text = format!("the task has published {count_max} others; limits.publish is {count_max}");
            return Err(self.limited("publish", text));
        }
        if bytes > bytes_max.saturating_sub(sent.bytes) {
            let all = sent.bytes.saturating_add(bytes);
            let text = format!("the signatures of the task have {all} bytes; limits.result is {bytes_max} bytes");
            return Err(self.limited("result", text));
        }
        let canvas = Canvas::parse(text).map_err(invalid)?;
        self.admit(&canvas.signatures().map_err(invalid)?).map_err(PublishError::Denied)?;
        Ok(canvas)
    }

    /// Makes messages of something of so many bytes, if there may be as many.
    fn make(
        &mut self,
        bytes: usize,
        act: impl FnOnce(&Sender<'_>, &mut Ids, Timestamp) -> Result<Applied, SignatureError>,
    ) -> Result<Call, PublishError> {
        let index = self.sent().calls;
        let (applied, ids) = self.with_sender(|sender, now| {
            let mut ids = Ids::of_call(sender.request, index);
            (act(&sender, &mut ids, now), ids)
        })?;
        let Applied { steps, result, children } = applied.map_err(invalid)?;
        if result.is_null() {
            return Err(PublishError::Invalid(
                "the signature is a chain without steps: nothing comes of it".to_owned(),
            ));
        }
        let count = self.sent_so_far().saturating_add(messages(&steps));
        if let Some(why) = self.beyond_limit(count) {
            return Err(PublishError::Limited(why));
        }
        let sent = self.sent();
        sent.count = count;
        sent.calls += 1;
        sent.bytes += bytes;
        Ok(Call { steps, result, children, made: ids.into_drawn() })
    }

    /// How many messages it has sent.
    fn sent_so_far(&self) -> u32 {
        self.sent.as_ref().map_or(0, |sent| sent.count)
    }

    /// Why a task may not publish so many.
    fn beyond_limit(&self, count: u32) -> Option<String> {
        let count_max = self.limits().publish;
        if count <= count_max {
            return None;
        }
        self.surroundings().reached.count(self.speaker().plugin(), "publish");
        Some(format!("the task would have published {count} others; limits.publish is {count_max}"))
    }

    fn limited(&mut self, limit: &'static str, text: String) -> PublishError {
        self.surroundings().reached.count(self.speaker().plugin(), limit);
        PublishError::Limited(text)
    }

    /// Keeps it until the end of the attempt, and says where its results will be.
    fn keep(&mut self, call: Call) -> String {
        let sent = self.sent();
        sent.remember(call.made, Fate::Waits);
        sent.effects.extend(call.steps);
        sent.children.extend(call.children.into_iter().map(|result| Child { result, published: false }));
        call.result.as_str().to_owned()
    }

    /// Gets it ready to be published.
    fn depart(&mut self, call: Call) -> Result<Leaving, PublishError> {
        let id = call.id();
        self.sent().remember(call.made, Fate::Left);
        let children = call.children.into_iter().map(|result| Child { result, published: true }).collect();
        let (outlet, patience) = (self.outlet()?, self.waiting());
        Ok(Leaving { id, steps: call.steps, children, outlet, patience })
    }

    /// Publishes it, while the guest waits.
    async fn leave(&mut self, leaving: Leaving) -> Result<(), PublishError> {
        let children = leaving.publish().await?;
        self.sent().children.extend(children);
        Ok(())
    }

    /// Whether the plugin may publish all of these; why not.
    fn admit(&self, signatures: &[Signature]) -> Result<(), String> {
        for signature in signatures {
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
        Ok(act(Sender { request: &attempt.request, settings: &outlet.settings }, now))
    }

    /// The outcome of a task that answers with another in its place.
    pub(crate) fn replaced(&self, signature: String) -> Outcome {
        self.replacement(signature).unwrap_or_else(Outcome::Trapped)
    }

    fn replacement(&self, signature: String) -> Result<Outcome, Trap> {
        let invalid = |error: SignatureError| Trap::InvalidResult(error.to_string());
        let canvas = Canvas::parse(signature).map_err(invalid)?;
        self.admit(&canvas.signatures().map_err(invalid)?).map_err(Trap::CapabilityDenied)?;
        let steps = match self.with_sender(|sender, now| sender.replace(canvas, now)) {
            Ok(Ok(Applied { steps, .. })) => steps,
            // Celery raises it in the task.
            Ok(Err(error)) => return Ok(Outcome::Failure(error.exception(), None)),
            Err(_) => {
                let why = "the task wants another in its place, and there is no broker".to_owned();
                return Err(Trap::CapabilityDenied(why));
            }
        };
        // One in its place is always allowed.
        let others = messages(&steps).saturating_sub(1);
        match self.beyond_limit(self.sent_so_far().saturating_add(others)) {
            Some(why) => Err(Trap::InvalidResult(why)),
            None => Ok(Outcome::Replaced(steps)),
        }
    }
}

/// How many of these are messages.
fn messages(steps: &[Step]) -> u32 {
    let messages = steps.iter().filter(|step| matches!(step, Step::Send(_) | Step::SendTo(..)));
    u32::try_from(messages.count()).unwrap_or(u32::MAX)
}

fn invalid(error: SignatureError) -> PublishError {
    PublishError::Invalid(error.to_string())
}
