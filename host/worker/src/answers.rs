//! What remote control asks of the dispatcher, on the way there and back.
//!
//! What is answered is decided by the dispatcher; who asks is the business of whoever holds the other end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use rustc_hash::FxHashMap;
use store::ResultStore;
use taskhost_core::control::Command;
use taskhost_core::dispatcher::{Input, QuestionId};
use taskhost_core::{Json, ResultRecord, State, TaskId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::warn;

use crate::commit::chain;
use crate::orders::Order;

/// How many questions may wait for the dispatcher. Whoever has more waits.
pub const QUESTIONS_MAX: usize = 64;

/// How many results are looked up at a time.
const LOOK_UPS_MAX: usize = 16;

/// How long looking up may take, however many there are. What is not known by then is left as it is.
const LOOK_UP_MAX: Duration = Duration::from_secs(10);

/// A command for the dispatcher, and where its answer goes.
#[derive(Debug)]
pub struct Question {
    pub command: Command,
    pub answer: oneshot::Sender<Json>,
}

/// Questions that are not answered yet.
#[derive(Default)]
pub(crate) struct Answers {
    open: FxHashMap<QuestionId, oneshot::Sender<Json>>,
    asked: u64,
    busy: JoinSet<()>,
}

impl Answers {
    /// Takes a question and gives it a number.
    pub(crate) fn open(&mut self, Question { command, answer }: Question) -> (QuestionId, Box<Command>) {
        while self.busy.try_join_next().is_some() {}
        // Whoever asked may have given up.
        self.open.retain(|_, answer| !answer.is_closed());
        self.asked += 1;
        let id = QuestionId(self.asked);
        self.open.insert(id, answer);
        (id, Box::new(command))
    }

    pub(crate) fn reply(&mut self, question: QuestionId, answer: Json) {
        if let Some(asker) = self.open.remove(&question) {
            let _ = asker.send(answer);
        }
    }

    /// Asks the store which states these have.
    pub(crate) fn look_up(
        &mut self,
        question: QuestionId,
        ids: Vec<TaskId>,
        store: Arc<dyn ResultStore>,
        inputs: mpsc::Sender<Input>,
    ) {
        self.busy.spawn(async move {
            let look_ups = ids.into_iter().map(|id| {
                let store = store.clone();
                async move {
                    match store.get(&id).await {
                        Ok(stored) => Some((id, stored.map_or(State::Pending, |stored| stored.state))),
                        Err(error) => {
                            let error = chain(&error);
                            warn!(task.id = %id, "Failed to mark task {id} as revoked in backend: {error}");
                            None
                        }
                    }
                }
            });
            let states = stream::iter(look_ups).buffered(LOOK_UPS_MAX).take_until(sleep(LOOK_UP_MAX));
            let states: Vec<_> = states.filter_map(std::future::ready).collect().await;
            let _ = inputs.send(Input::States(question, states)).await;
        });
    }

    /// Orders to store these, after which the question is answered.
    pub(crate) fn reply_when_stored(
        &mut self,
        question: QuestionId,
        records: Vec<ResultRecord>,
        answer: Json,
    ) -> Vec<Order> {
        let mut orders = Vec::with_capacity(records.len());
        let mut stored = Vec::with_capacity(records.len());
        for record in records {
            let (done, written) = oneshot::channel();
            stored.push((record.id.clone(), written));
            orders.push(Order::Report(record, done));
        }
        let asker = self.open.remove(&question);
        self.busy.spawn(async move {
            for (id, written) in stored {
                if let Ok(Err(error)) = written.await {
                    warn!(task.id = %id, "Failed to mark task {id} as revoked in backend: {error}");
                }
            }
            if let Some(asker) = asker {
                let _ = asker.send(answer);
            }
        });
        orders
    }
}
