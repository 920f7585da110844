//! What a counted member says about its chord: that others are missing, or that all are there, with their results.
//!
//! Who sends the body then is decided by the claim.

use std::time::Duration;

use taskhost_core::Json;
use taskhost_core::chord::{self, ChordPart, ClaimedChord, Part, Progress};
use taskhost_core::protocol::document;

use tracing::warn;

use super::super::link::Trouble;
use super::super::protocol::{Reply, Store};
use super::super::{MemcachedStore, checked};
use super::claim::{self, Claim};
use super::{Counting, Header, LOOK_AGAIN, values};
use crate::unreadable::unreadable;

impl MemcachedStore {
    /// A member was counted just now.
    pub(super) async fn counted(
        &self,
        it: &Counting<'_>,
        header: &Header,
        number: Option<u64>,
    ) -> Result<Progress, Trouble> {
        let size = match size(it.part, header) {
            Ok(size) => size,
            Err(reason) => return self.broken(it, &header.run, &reason).await,
        };
        match number {
            Some(number) if number < size => Ok(Progress::Waiting),
            Some(number) if number == size => self.completed(it, header, false).await,
            Some(_) => {
                // As Celery says it. Whoever got the number that completes it may have been lost with it.
                warn!("Chord counter incremented too many times for {:?}", it.part.group);
                self.completed_by_another(it, header).await
            }
            None => self.without_counter(it, header).await,
        }
    }

    /// A member was counted by an earlier delivery.
    pub(super) async fn counted_before(&self, it: &Counting<'_>, header: &Header) -> Result<Progress, Trouble> {
        let size = match size(it.part, header) {
            Ok(size) => size,
            Err(reason) => return self.broken(it, &header.run, &reason).await,
        };
        let counter = values(self.ask_server(it.keys.server, |ask| ask.read([it.keys.counter.as_str()])).await?)?.pop();
        let number = counter.and_then(|item| String::from_utf8_lossy(&item.value).trim().parse::<u64>().ok());
        match number {
            Some(number) if number < size => Ok(Progress::Waiting),
            Some(_) => self.completed_by_another(it, header).await,
            None => self.without_counter(it, header).await,
        }
    }

    /// All were counted, and somebody else may be sending the body: he has as long as a claim lasts.
    async fn completed_by_another(&self, it: &Counting<'_>, header: &Header) -> Result<Progress, Trouble> {
        match self.held(&it.keys, &header.run, &it.token).await? {
            Some(Claim::Done) => return Ok(Progress::Over),
            Some(Claim::Held) => return Ok(Progress::Held(LOOK_AGAIN)),
            Some(Claim::Ours) => return self.completed(it, header, true).await,
            None => {}
        }
        let waits_s = self.chords.claim_s;
        let reply =
            self.ask_server(it.keys.server, |ask| ask.store(Store::Add, &it.keys.waited, b"1", waits_s * 10)).await;
        match reply? {
            Reply::Done => Ok(Progress::Held(Duration::from_secs(waits_s))),
            _ => self.completed(it, header, true).await,
        }
    }

    /// The counter was forgotten: what is stored of the members says whether all are done.
    async fn without_counter(&self, it: &Counting<'_>, header: &Header) -> Result<Progress, Trouble> {
        let Ok(tuple) = &header.tuple else { return Ok(Progress::Waiting) };
        let (leaves, parts) = self.read_parts(tuple).await?;
        match parts.len() == leaves {
            true => self.completed(it, header, true).await,
            false => Ok(Progress::Waiting),
        }
    }

    /// The header is gone, and nobody has said that the chord is over: its results cannot come together.
    pub(super) async fn without_header(&self, it: &Counting<'_>) -> Result<Progress, Trouble> {
        let reason = format!("GroupResult {} no longer exists", it.part.group);
        self.broken(it, claim::NO_RUN, &reason).await
    }

    async fn broken(&self, it: &Counting<'_>, run: &str, reason: &str) -> Result<Progress, Trouble> {
        Ok(match self.claim(&it.keys, run, &it.token).await? {
            Claim::Done => Progress::Over,
            Claim::Held => Progress::Held(LOOK_AGAIN),
            Claim::Ours => Progress::Claimed(ClaimedChord {
                group: it.part.group.clone(),
                token: it.token.clone(),
                again: !it.part.is_new,
                parts: Vec::new(),
                structure: None,
                broken: Some(reason.to_owned()),
            }),
        })
    }

    async fn completed(&self, it: &Counting<'_>, header: &Header, again: bool) -> Result<Progress, Trouble> {
        match self.claim(&it.keys, &header.run, &it.token).await? {
            Claim::Done => return Ok(Progress::Over),
            Claim::Held => return Ok(Progress::Held(LOOK_AGAIN)),
            Claim::Ours => {}
        }
        let tuple = header.tuple.clone().unwrap_or(Json::null());
        let (leaves, parts) = self.read_parts(&tuple).await?;
        // Whoever publishes the body waits for results that are not there; those have no place in a plain list.
        let is_plain = parts.len() == leaves && chord::is_flat(&tuple);
        Ok(Progress::Claimed(ClaimedChord {
            group: it.part.group.clone(),
            token: it.token.clone(),
            again,
            parts,
            structure: (!is_plain).then_some(tuple),
            broken: None,
        }))
    }

    /// How many results a header has, and those that are final.
    async fn read_parts(&self, tuple: &Json) -> Result<(usize, Vec<Part>), Trouble> {
        let leaves = chord::leaves(tuple);
        let keys = leaves.iter().map(|task| checked(self.keys.of(task))).collect::<Result<Vec<_>, _>>()?;
        let found = self.read(&keys).await?;
        let mut parts = Vec::with_capacity(leaves.len());
        for (task, key) in leaves.iter().zip(&keys) {
            let Some(item) = found.get(key) else { continue };
            match document::decode_as(&item.value, &self.format) {
                Ok(stored) if stored.state.is_ready() => {
                    parts.push(Part { task: task.clone(), state: stored.state, result: stored.result });
                }
                Ok(_) => {}
                // Nobody can read what one wrote with a serializer that we refuse: a failure that is said.
                Err(error) => parts.push(unreadable(task, &error.to_string())),
            }
        }
        Ok((leaves.len(), parts))
    }
}

/// How many members complete the chord: what its body says (older clients, and we), or as many as its header has.
fn size(part: &ChordPart, header: &Header) -> Result<u64, String> {
    let said = part.body.get("chord_size").and_then(|size| u64::try_from(size.as_i64()?).ok());
    match (&header.tuple, said) {
        (Err(reason), _) => Err(format!("Cannot restore group: {reason}")),
        (Ok(_), Some(size)) => Ok(size),
        (Ok(tuple), None) => Ok(chord::leaves(tuple).len() as u64),
    }
}
