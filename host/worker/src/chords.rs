//! Tells the store what settlements say about chords, and hears which of them are complete.
//!
//! What a complete chord leads to is decided by the dispatcher; whatever fails goes back to it with what remains to
//! be done.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashSet;
use store::{ResultStore, StoreError};
use taskhost_core::dispatcher::{CommitFailure, Input, ReadyChord};
use taskhost_core::settle::{ChordStep, Settlement};
use taskhost_core::{ChordPart, ClaimedChord, DeliveryId, Progress, TaskId, chord};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use crate::commit::{chain, failed};
use crate::orders::{Order, Orders};
use crate::publish::Publisher;

/// Who carries out the rest of a settlement.
pub(crate) struct Closer {
    pub(crate) store: Arc<dyn ResultStore>,
    pub(crate) publisher: Publisher,
    pub(crate) orders: Arc<Orders>,
    pub(crate) inputs: mpsc::Sender<Input>,
    /// How long to wait for results that a chord needs (`result_chord_join_timeout`).
    pub(crate) join_timeout: Duration,
}

/// The one part that a settlement has to count, if that is all there is between records and acknowledgement.
pub(crate) fn only_part(settlement: &Settlement) -> Option<&ChordPart> {
    match (&*settlement.chord, settlement.after.is_empty()) {
        ([ChordStep::Count(part)], true) => Some(part),
        _ => None,
    }
}

impl Closer {
    /// Does what stands between records and acknowledgement, then puts the rest back in line. That a chord is over
    /// is said last: until then a repeat after a crash does all of this again.
    pub(crate) async fn close(self, delivery: DeliveryId, mut settlement: Settlement) {
        while let Some(index) = settlement.chord.iter().position(|step| matches!(step, ChordStep::Count(_))) {
            settlement.chord.swap(0, index);
            let ChordStep::Count(part) = &settlement.chord[0] else { break };
            match self.store.count_chord_parts(std::slice::from_ref(part)).await.pop() {
                Some(Err(error)) => return self.give_back(delivery, settlement, &error).await,
                Some(Ok(progress)) => match self.heard(delivery, settlement, progress).await {
                    Some(rest) => settlement = rest,
                    None => return,
                },
                None => drop(settlement.chord.remove(0)),
            }
        }
        if !settlement.after.is_empty() {
            if let Err(error) = self.publisher.publish(&settlement.after).await {
                let failure = failed(delivery, settlement, error.is_transient(), chain(&error));
                return drop(self.inputs.send(failure).await);
            }
            settlement.after.clear();
        }
        while let Some(step) = settlement.chord.first() {
            let done = match step {
                ChordStep::Count(_) => Ok(()),
                ChordStep::Finish { group, token } => self.store.finish_chord(group, token).await.map(|ours| {
                    if !ours {
                        warn!("somebody else may publish the body of chord {group} as well: the claim was lost");
                    }
                }),
                ChordStep::Fail { group } => self.store.fail_chord(group).await,
            };
            if let Err(error) = done {
                return self.give_back(delivery, settlement, &error).await;
            }
            settlement.chord.remove(0);
        }
        self.orders.push(&mut vec![Order::Commit(delivery, settlement)], false);
    }

    /// As [`Closer::close`], for a part that has been counted.
    pub(crate) async fn go_on(self, delivery: DeliveryId, settlement: Settlement, progress: Progress) {
        if let Some(rest) = self.heard(delivery, settlement, progress).await {
            self.close(delivery, rest).await;
        }
    }

    /// What became of the part that comes first; answers with what remains to be done here.
    async fn heard(&self, delivery: DeliveryId, mut settlement: Settlement, progress: Progress) -> Option<Settlement> {
        match progress {
            Progress::Waiting | Progress::Over => {
                settlement.chord.remove(0);
                Some(settlement)
            }
            Progress::Held(wait) => {
                let reason = "somebody else publishes the body of a chord".to_owned();
                debug!("{reason}, looking again in {} ms", wait.as_millis());
                let failure = CommitFailure { remaining: settlement, transient: true, wait: Some(wait), reason };
                let _ = self.inputs.send(Input::CommitFailed(delivery, Box::new(failure))).await;
                None
            }
            Progress::Claimed(claimed) => self.claimed(delivery, settlement, claimed).await,
        }
    }

    async fn claimed(
        &self,
        delivery: DeliveryId,
        mut settlement: Settlement,
        mut claimed: ClaimedChord,
    ) -> Option<Settlement> {
        self.look_up(&mut claimed).await;
        match self.store.extend_claim(&claimed.group, &claimed.token).await {
            Ok(true) => {}
            Ok(false) => {
                warn!("the body of chord {} is left to somebody else: the claim was lost", claimed.group);
                settlement.chord.remove(0);
                return Some(settlement);
            }
            Err(error) => {
                self.give_back(delivery, settlement, &error).await;
                return None;
            }
        }
        let ChordStep::Count(part) = settlement.chord.remove(0) else { return Some(settlement) };
        let ready = ReadyChord { claimed, body: part.body, remaining: settlement };
        let _ = self.inputs.send(Input::ChordReady(delivery, Box::new(ready))).await;
        None
    }

    /// Adds the results that the shape of the header names and no part has brought: those of chains that end in
    /// something with an id of its own.
    async fn look_up(&self, claimed: &mut ClaimedChord) {
        let until = Instant::now() + self.join_timeout;
        let missing: FxHashSet<TaskId> = chord::missing(claimed).into_iter().collect();
        for id in missing {
            let found = async {
                loop {
                    match self.store.get(&id).await {
                        Ok(Some(stored)) if stored.state.is_ready() => return Some(stored),
                        Ok(_) => self.store.changed(&id, self.join_timeout).await,
                        Err(error) => {
                            warn!(task.id = %id, "cannot look up a result that a chord needs: {}", chain(&error));
                            return None;
                        }
                    }
                }
            };
            // What is not there in time fails the chord.
            if let Ok(Some(stored)) = timeout_at(until, found).await {
                claimed.parts.push(chord::Part { task: id, state: stored.state, result: stored.result });
            }
        }
    }

    async fn give_back(&self, delivery: DeliveryId, settlement: Settlement, error: &StoreError) {
        let failure = failed(delivery, settlement, error.is_transient(), chain(error));
        let _ = self.inputs.send(failure).await;
    }
}
