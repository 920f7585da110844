//! Runs attempts on the guests' threads and reports how they ended.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use rustc_hash::FxHashMap;
use taskhost_core::dispatcher::Input;
use taskhost_core::{Attempt, AttemptId, Finished, Outcome, Trap, Usage};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::invoker::{Cancel, Invoker};
use crate::tally::Tally;

/// The attempts that run now.
pub(crate) struct Attempts {
    invoker: Arc<dyn Invoker>,
    guests: Handle,
    inputs: mpsc::Sender<Input>,
    /// Counts what attempts used, if somebody asks for numbers.
    tally: Option<Arc<Tally>>,
    running: FxHashMap<AttemptId, oneshot::Sender<()>>,
}

impl Attempts {
    pub(crate) fn new(
        invoker: Arc<dyn Invoker>,
        guests: Handle,
        inputs: mpsc::Sender<Input>,
        tally: Option<Arc<Tally>>,
    ) -> Self {
        Self { invoker, guests, inputs, tally, running: FxHashMap::default() }
    }

    pub(crate) fn start(&mut self, attempt: Attempt) {
        let id = attempt.id;
        let (terminate, cancel) = oneshot::channel();
        self.running.insert(id, terminate);
        let (invoker, inputs) = (self.invoker.clone(), self.inputs.clone());
        let tally = self.tally.clone().map(|tally| (tally, attempt.spec.clone()));
        self.guests.spawn(async move {
            let invocation = AssertUnwindSafe(invoker.invoke(attempt, Cancel(cancel))).catch_unwind();
            // A panic in the host's own code must cost one task, not the slot.
            let finished = invocation.await.unwrap_or_else(|_| {
                let why = "the host panicked while running the task".to_owned();
                Finished::alone(Outcome::Trapped(Trap::Instruction(why)), Usage::default())
            });
            if let Some((tally, spec)) = tally {
                tally.attempt(&spec, &finished.usage);
            }
            let _ = inputs.send(Input::Finished(id, Box::new(finished))).await;
        });
    }

    pub(crate) fn terminate(&mut self, id: AttemptId) {
        if let Some(terminate) = self.running.remove(&id) {
            let _ = terminate.send(());
        }
    }

    /// Nothing runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// How many run.
    pub(crate) fn count(&self) -> usize {
        self.running.len()
    }

    pub(crate) fn forget(&mut self, id: AttemptId) {
        self.running.remove(&id);
    }
}
