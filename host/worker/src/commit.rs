//! Carries out settlements, in the one order that loses nothing: publish, store, tell chords, acknowledge.
//!
//! Decides nothing: what failed goes back to the dispatcher with what remains to be done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::Consumer;
use store::state::NodeState;
use store::{ResultStore, StoreError};
use taskhost_core::dispatcher::{CommitFailure, Input};
use taskhost_core::protocol::auth::Seal;
use taskhost_core::revoke::Revocation;
use taskhost_core::settle::Settlement;
use taskhost_core::{Acknowledgement, ChordPart, DeliveryId, Progress, ResultRecord, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::announce::Announcer;
use crate::chords::{self, Closer};
use crate::connection::Connection;
use crate::journal::{self, Journal};
use crate::orders::{Order, Orders};
use crate::publish::Publisher;
use crate::put_back;
use crate::receipts::Receipts;

/// A store that takes longer than this over a batch does not hold up what has nothing to store: it is taken from the
/// orders and carried out beside that batch. Most stores never do, and one batch after the other costs least.
const SLOW: Duration = Duration::from_millis(50);

/// Takes orders until they are closed.
pub(crate) struct Committer {
    pub(crate) orders: Arc<Orders>,
    pub(crate) receipts: Arc<Receipts>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) store: Arc<dyn ResultStore>,
    pub(crate) state: Arc<dyn NodeState>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) announcer: Arc<Announcer>,
    /// Signs what takes the place of something signed.
    pub(crate) seal: Option<Arc<dyn Seal>>,
    /// How long to wait for results that a chord needs.
    pub(crate) join_timeout: Duration,
    /// How long the store may take over a batch until that has failed.
    pub(crate) write_timeout: Duration,
}

/// A batch on its way: what belongs to which delivery.
#[derive(Default)]
struct Batch {
    records: Vec<ResultRecord>,
    /// Who is told what became of each record.
    owners: Vec<Owner>,
    /// Their records stand in `records`.
    commits: Vec<(DeliveryId, Settlement)>,
    /// Those that the store is told nothing of.
    plain: Vec<(DeliveryId, Settlement)>,
    settles: Vec<(DeliveryId, Acknowledgement)>,
}

/// What is carried out of a batch.
#[derive(Default)]
struct Done {
    /// All but their acknowledgement and their events.
    commits: Vec<(DeliveryId, Settlement)>,
    settles: Vec<(DeliveryId, Acknowledgement)>,
    failed: Vec<Input>,
}

/// What goes on beside the batches.
#[derive(Default)]
struct Beside {
    publishing: JoinSet<()>,
    remembering: Option<JoinHandle<()>>,
}

enum Owner {
    /// The commit of that index.
    Commit(usize),
    /// A running task.
    Task(oneshot::Sender<Result<(), String>>),
    Nobody,
}

impl Committer {
    pub(crate) async fn run(self) {
        // Publishing waits for the broker's confirmation; tasks that publish nothing do not wait for it.
        let mut beside = Beside::default();
        let mut closing = JoinSet::new();
        let mut batch = Batch::default();
        let mut open = true;
        while open {
            let Some(orders) = self.orders.take().await else { break };
            self.sort(orders, &mut batch, &mut beside);
            while !batch.is_empty() {
                while closing.try_join_next().is_some() {}
                let carrying_out = self.carry_out(std::mem::take(&mut batch), &mut closing);
                tokio::pin!(carrying_out);
                if timeout(SLOW, &mut carrying_out).await.is_ok() {
                    continue;
                }
                loop {
                    tokio::select! {
                        () = &mut carrying_out => break,
                        orders = self.orders.take(), if open => match orders {
                            Some(orders) => {
                                self.sort(orders, &mut batch, &mut beside);
                                self.finish(batch.take_plain()).await;
                            }
                            None => open = false,
                        },
                    }
                }
            }
        }
        beside.publishing.join_all().await;
        closing.join_all().await;
        if let Some(remembering) = beside.remembering {
            let _ = remembering.await;
        }
    }

    /// Puts orders where they belong, and begins those that nobody waits for.
    fn sort(&self, orders: Vec<Order>, batch: &mut Batch, beside: &mut Beside) {
        let Beside { publishing, remembering } = beside;
        while publishing.try_join_next().is_some() {}
        let (mut put_backs, mut kept, mut uncounted) = (Vec::new(), Vec::new(), Vec::new());
        for order in orders {
            match order {
                Order::Commit(delivery, settlement) if !settlement.before.is_empty() => {
                    let (orders, inputs) = (self.orders.clone(), self.inputs.clone());
                    publishing.spawn(publish_first(delivery, settlement, self.publisher(), orders, inputs));
                }
                Order::Commit(delivery, settlement) => batch.commit(delivery, settlement),
                Order::Settle(delivery, acknowledgement) => batch.settles.push((delivery, acknowledgement)),
                Order::Record(record) => {
                    batch.records.push(record);
                    batch.owners.push(Owner::Nobody);
                }
                Order::Report(record, answer) => {
                    batch.records.push(record);
                    batch.owners.push(Owner::Task(answer));
                }
                Order::PutBack(wait) => put_backs.push(wait),
                Order::Journal(delivery, entry) => kept.push((delivery, entry)),
                Order::Remember(revocations) => {
                    let memory = Memory::Revoked(revocations);
                    *remembering = Some(remember(memory, self.state.clone(), remembering.take()));
                }
                Order::Unremember(revocations) => {
                    let memory = Memory::Allowed(revocations);
                    *remembering = Some(remember(memory, self.state.clone(), remembering.take()));
                }
                Order::ForgetCount(execution) => uncounted.push(execution),
            }
        }
        if !put_backs.is_empty() {
            let seal = self.seal.clone();
            publishing.spawn(put_back::run(put_backs, self.receipts.clone(), self.inputs.clone(), seal));
        }
        if !kept.is_empty() {
            let (receipts, inputs) = (self.receipts.clone(), self.inputs.clone());
            publishing.spawn(journal::write(kept, self.journal.clone(), receipts, inputs, self.seal.clone()));
        }
        if !uncounted.is_empty() {
            publishing.spawn(forget_counts(uncounted, self.state.clone()));
        }
    }

    /// Stores what is to be stored, counts parts of chords, and finishes what succeeded.
    async fn carry_out(&self, mut batch: Batch, closing: &mut JoinSet<()>) {
        let mut failures = self.store(&batch.records, std::mem::take(&mut batch.owners)).await;
        let mut done = batch.take_plain();
        let (mut parts, mut counted) = (Vec::new(), Vec::new());
        for (index, (delivery, mut settlement)) in batch.commits.into_iter().enumerate() {
            if let Some((records, error)) = failures.remove(&index) {
                settlement.records = records;
                done.failed.push(failed(delivery, settlement, error.is_transient(), chain(&error)));
            } else if settlement.chord.is_empty() && settlement.after.is_empty() {
                done.commits.push((delivery, settlement));
            } else if let Some(part) = chords::only_part(&settlement) {
                parts.push(part.clone());
                counted.push((delivery, settlement));
            } else {
                closing.spawn(self.closer().close(delivery, settlement));
            }
        }
        if !parts.is_empty() {
            let answers = self.count(&parts).await;
            for ((delivery, mut settlement), answer) in counted.into_iter().zip(answers) {
                match answer {
                    Ok(Progress::Waiting | Progress::Over) => {
                        settlement.chord.clear();
                        done.commits.push((delivery, settlement));
                    }
                    Ok(progress) => drop(closing.spawn(self.closer().go_on(delivery, settlement, progress))),
                    Err(error) => done.failed.push(failed(delivery, settlement, error.is_transient(), chain(&error))),
                }
            }
        }
        self.finish(done).await;
    }

    /// Acknowledges, announces and answers.
    async fn finish(&self, done: Done) {
        let Done { commits, settles: mut acknowledgements, failed } = done;
        let mut announced = Vec::with_capacity(commits.len());
        let mut inputs = Vec::with_capacity(commits.len() + failed.len());
        for (delivery, settlement) in commits {
            acknowledgements.extend(settlement.acknowledgement.map(|acknowledgement| (delivery, acknowledgement)));
            announced.extend(settlement.events);
            inputs.push(Input::Committed(delivery));
        }
        self.acknowledge(acknowledgements).await;
        announced.into_iter().for_each(|event| self.announcer.event(event));
        for input in inputs.into_iter().chain(failed) {
            // The driver is gone only after it has no deliveries left.
            let _ = self.inputs.send(input).await;
        }
    }

    fn publisher(&self) -> Publisher {
        Publisher::new(self.connection.clone(), self.store.clone(), self.seal.clone(), self.announcer.clone())
    }

    fn closer(&self) -> Closer {
        Closer {
            store: self.store.clone(),
            publisher: self.publisher(),
            orders: self.orders.clone(),
            inputs: self.inputs.clone(),
            join_timeout: self.join_timeout,
        }
    }

    /// Writes all records and answers, for each commit that failed, its records and why.
    async fn store(
        &self,
        records: &[ResultRecord],
        owners: Vec<Owner>,
    ) -> BTreeMap<usize, (Vec<ResultRecord>, StoreError)> {
        let mut failures: BTreeMap<usize, (Vec<ResultRecord>, StoreError)> = BTreeMap::new();
        if records.is_empty() {
            return failures;
        }
        let answers = match timeout(self.write_timeout, self.store.put(records)).await {
            Ok(answers) => answers,
            Err(_) => records.iter().map(|_| Err(self.silent("store"))).collect(),
        };
        for ((record, owner), answer) in records.iter().zip(owners).zip(answers) {
            match (owner, answer) {
                // A task that has ended meanwhile does not hear it.
                (Owner::Task(answered), answer) => drop(answered.send(answer.map_err(|error| chain(&error)))),
                (_, Ok(())) => {}
                (Owner::Commit(owner), Err(error)) => {
                    failures.entry(owner).or_insert_with(|| (Vec::new(), error)).0.push(record.clone());
                }
                (Owner::Nobody, Err(error)) => {
                    warn!(task.id = %record.id, "cannot store state {}: {}", record.state.as_str(), chain(&error));
                }
            }
        }
        failures
    }

    /// Counts parts of chords; the answers stand in the same order.
    async fn count(&self, parts: &[ChordPart]) -> Vec<Result<Progress, StoreError>> {
        match timeout(self.write_timeout, self.store.count_chord_parts(parts)).await {
            Ok(answers) => answers,
            Err(_) => parts.iter().map(|_| Err(self.silent("count parts of chords by"))).collect(),
        }
    }

    /// The store has not answered in time. What it was told may have arrived: it is told again, which does no harm.
    fn silent(&self, operation: &'static str) -> StoreError {
        let reason = format!("no answer within {} s (result.write_timeout)", self.write_timeout.as_secs_f64());
        StoreError::Store { operation, source: reason.into(), transient: true }
    }

    async fn acknowledge(&self, acknowledgements: Vec<(DeliveryId, Acknowledgement)>) {
        if acknowledgements.is_empty() {
            return;
        }
        let mut by_consumer: Vec<(Arc<dyn Consumer>, broker::Receipts)> = Vec::new();
        for (held, acknowledgement) in self.receipts.take(acknowledgements.into_iter()) {
            let entry = (held.receipt, acknowledgement);
            match by_consumer.iter_mut().find(|(consumer, _)| Arc::ptr_eq(consumer, &held.consumer)) {
                Some((_, receipts)) => receipts.push(entry),
                None => by_consumer.push((held.consumer, vec![entry])),
            }
        }
        for (consumer, receipts) in by_consumer {
            if let Err(error) = consumer.settle(receipts).await {
                // The consumer's `next` says the same, and the broker will deliver these again; they
                // are recognised then.
                debug!("cannot acknowledge: {}", chain(&error));
            }
        }
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.commits.is_empty() && self.plain.is_empty() && self.settles.is_empty()
    }

    /// What the store has no part in.
    fn take_plain(&mut self) -> Done {
        let (commits, settles) = (std::mem::take(&mut self.plain), std::mem::take(&mut self.settles));
        Done { commits, settles, failed: Vec::new() }
    }

    fn commit(&mut self, delivery: DeliveryId, mut settlement: Settlement) {
        if settlement.records.is_empty() && settlement.chord.is_empty() && settlement.after.is_empty() {
            return self.plain.push((delivery, settlement));
        }
        let owner = self.commits.len();
        self.owners.extend(settlement.records.iter().map(|_| Owner::Commit(owner)));
        self.records.append(&mut settlement.records);
        self.commits.push((delivery, settlement));
    }
}

/// Publishes what comes before, then puts the rest back in line.
async fn publish_first(
    delivery: DeliveryId,
    mut settlement: Settlement,
    publisher: Publisher,
    orders: Arc<Orders>,
    inputs: mpsc::Sender<Input>,
) {
    match publisher.publish(&settlement.before).await {
        Ok(()) => {
            settlement.before.clear();
            orders.push(&mut vec![Order::Commit(delivery, settlement)], false);
        }
        Err(error) => {
            let _ = inputs.send(failed(delivery, settlement, error.is_transient(), chain(&error))).await;
        }
    }
}

/// What is to be remembered about revoked tasks.
enum Memory {
    Revoked(Vec<(Revocation, Timestamp)>),
    Allowed(Vec<Revocation>),
}

/// Nobody waits for this: what is revoked is refused by this process in any case. One after the other: what was
/// revoked and then allowed is to be found allowed.
fn remember(memory: Memory, state: Arc<dyn NodeState>, before: Option<JoinHandle<()>>) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Some(before) = before {
            let _ = before.await;
        }
        let (written, lost) = match memory {
            Memory::Revoked(revocations) => (state.revoke(revocations).await, "revoked tasks will be forgotten"),
            Memory::Allowed(revocations) => (state.unrevoke(revocations).await, "tasks will be revoked again"),
        };
        if let Err(error) = written {
            warn!("{lost} when this worker ends: cannot {}", chain(&error));
        }
    })
}

/// Nobody waits for this either: the oldest counts go by themselves.
async fn forget_counts(executions: Vec<String>, state: Arc<dyn NodeState>) {
    if let Err(error) = state.forget_counts(executions).await {
        warn!("cannot {}", chain(&error));
    }
}

pub(crate) fn failed(delivery: DeliveryId, remaining: Settlement, transient: bool, reason: String) -> Input {
    // Of what the store does not take the dispatcher tells, once for all that wait.
    match transient && remaining.before.is_empty() {
        true => debug!(transient, "cannot commit a task: {reason}"),
        false => warn!(transient, "cannot commit a task: {reason}"),
    }
    Input::CommitFailed(delivery, Box::new(CommitFailure { remaining, transient, wait: None, reason }))
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        // Some libraries say the cause themselves.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}
