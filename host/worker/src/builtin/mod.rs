//! Runs Celery's own tasks, and passes the attempts of all others on.
//!
//! What they take and what they come to is decided in `core` (`core/src/builtin`).

mod map;
mod unlock;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use store::ResultStore;
use taskhost_core::builtin::{self, Builtin};
use taskhost_core::canvas::{Applied, SendSettings, Sender};
use taskhost_core::{Attempt, Catalog, Child, Exception, Finished, Json, Limit, Outcome, Timestamp, Usage};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::commit::chain;
use crate::invoker::{Cancel, Invoker};

/// What Celery's own tasks are run with.
#[derive(Debug, Clone)]
pub struct BuiltinSettings {
    /// Results older than this are deleted when somebody asks for it; none are, if this is none.
    pub results_expire: Option<Duration>,
    /// What a list of results may come to, in bytes.
    pub result_bytes_max: u64,
    /// How long the results of a chord may take to be looked up.
    pub chord_join_timeout: Duration,
}

/// An [`Invoker`] that has Celery's own tasks beside those of another one.
pub struct Builtins {
    pub settings: BuiltinSettings,
    /// Who runs the tasks of plugins.
    pub inner: Arc<dyn Invoker>,
    pub store: Arc<dyn ResultStore>,
    /// What can be called from within.
    pub catalogs: watch::Receiver<Arc<Catalog>>,
    /// What publishes signatures.
    pub sending: Arc<SendSettings>,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
}

// By hand, as an attempt of a plugin's task is passed on without another allocation.
impl Invoker for Builtins {
    fn invoke<'life0, 'async_trait>(
        &'life0 self,
        attempt: Attempt,
        cancel: Cancel,
    ) -> Pin<Box<dyn Future<Output = Finished> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        match Builtin::of(&attempt.spec) {
            None => self.inner.invoke(attempt, cancel),
            Some(builtin) => Box::pin(self.run(builtin, attempt, cancel)),
        }
    }
}

impl Builtins {
    async fn run(&self, builtin: Builtin, attempt: Attempt, cancel: Cancel) -> Finished {
        let started = Instant::now();
        let request = &attempt.request;
        let (args, kwargs) = (request.args.byte_len(), request.kwargs.byte_len());
        let mut finished = match builtin {
            Builtin::Map | Builtin::Starmap => self.map(builtin, &attempt, started, cancel).await,
            _ => within_limits(self.perform(builtin, &attempt), &attempt, started, cancel).await,
        };
        let usage = &mut finished.usage;
        (usage.wall, usage.bytes_in) = (started.elapsed(), (args + kwargs) as u64);
        usage.bytes_out = match &finished.outcome {
            Outcome::Success(result) => result.byte_len() as u64,
            _ => 0,
        };
        finished
    }

    async fn perform(&self, builtin: Builtin, attempt: &Attempt) -> Finished {
        let request = &attempt.request;
        let result = match builtin {
            Builtin::Accumulate => builtin::accumulate(request),
            Builtin::BackendCleanup => self.clean_up(attempt).await,
            Builtin::Chord | Builtin::Chunks | Builtin::Group => return self.publish(builtin, attempt),
            Builtin::ChordUnlock => return Finished::alone(self.unlock(attempt).await, Usage::default()),
            Builtin::Ping => builtin::ping(request),
            // The other two do not come here.
            Builtin::Chain | Builtin::Map | Builtin::Starmap => Err(builtin::chain()),
        };
        let outcome = result.map_or_else(|exception| Outcome::Failure(exception, None), Outcome::Success);
        Finished::alone(outcome, Usage::default())
    }

    fn publish(&self, builtin: Builtin, attempt: &Attempt) -> Finished {
        let sender = Sender { request: &attempt.request, settings: &self.sending };
        match builtin::publish(builtin, &sender, (self.clock)()) {
            Ok(Applied { steps, result, children }) => Finished {
                effects: steps,
                children: children.into_iter().map(|result| Child { result, published: false }).collect(),
                ..Finished::alone(Outcome::Success(result), Usage::default())
            },
            Err(exception) => Finished::alone(Outcome::Failure(exception, None), Usage::default()),
        }
    }

    async fn clean_up(&self, attempt: &Attempt) -> Result<Json, Exception> {
        builtin::cleanup(&attempt.request)?;
        let Some(age) = self.settings.results_expire else { return Ok(Json::null()) };
        match self.store.delete_expired(age).await {
            Ok(_deleted) => Ok(Json::null()),
            Err(error) => {
                let text = format!("cannot {}", chain(&error));
                Err(Exception::new("celery.exceptions", "BackendError", [Json::text(&text)]))
            }
        }
    }
}

/// What it comes to, unless somebody wants it to stop or its time is over.
async fn within_limits(
    work: impl Future<Output = Finished>,
    attempt: &Attempt,
    started: Instant,
    cancel: Cancel,
) -> Finished {
    let soft = async {
        match attempt.soft_time_limit {
            Some(limit) => {
                sleep_until(started + limit).await;
                limit
            }
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        biased;
        finished = work => return finished,
        () = cancel.requested() => Outcome::Interrupted,
        limit = soft => Outcome::TimedOut(Limit::Soft(limit)),
        () = sleep_until(started + attempt.time_limit) => Outcome::TimedOut(Limit::Hard(attempt.time_limit)),
    };
    Finished::alone(outcome, Usage::default())
}
