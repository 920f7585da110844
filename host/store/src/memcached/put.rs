//! Writing a batch of results: nearly all are the first of their task and take one round trip.
//!
//! A result that is there already is read, and replaced only if it is still what was read: SUCCESS stays even of two
//! workers that finish the same task in the same moment. A Python worker looks and then writes.

use std::collections::HashMap;

use bytes::Bytes;
use taskhost_core::protocol::document;
use taskhost_core::{ResultRecord, State, TaskId};

use super::link::Trouble;
use super::protocol::{Item, KEYS_MAX, Reply, Store};
use super::{MemcachedStore, checked, is_success};
use crate::port::StoreError;

/// How much is sent in one go. A single document may be larger.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
const BATCH_RECORDS_MAX: usize = 500;
/// How often somebody else may be faster.
const ROUNDS_MAX: u32 = 32;

/// A document on its way.
struct Writing {
    key: String,
    document: Bytes,
    /// What is known to be there.
    over: Option<u64>,
    outcome: Option<Result<(), Trouble>>,
}

impl MemcachedStore {
    pub(super) async fn put_all(&self, records: &[ResultRecord]) -> Vec<Result<(), StoreError>> {
        let (winners, places) = winners(records);
        let mut writings = Vec::with_capacity(winners.len());
        for record in winners {
            let key = checked(self.keys.of(&record.id));
            let document = document::encode_as(record, &self.format);
            writings.push(match key {
                Ok(key) => Writing { key, document, over: None, outcome: None },
                Err(trouble) => {
                    Writing { key: String::new(), document: Bytes::new(), over: None, outcome: Some(Err(trouble)) }
                }
            });
        }
        let mut rest = &mut writings[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |writing: &&Writing| {
                bytes += writing.document.len();
                bytes <= BATCH_BYTES_MAX
            };
            let count = rest.iter().take(BATCH_RECORDS_MAX).take_while(fits).count().max(1);
            let (chunk, others) = rest.split_at_mut(count);
            self.write(chunk).await;
            rest = others;
        }
        let answer = |(record, place): (&ResultRecord, usize)| match &writings[place].outcome {
            Some(Ok(())) => Ok(()),
            Some(Err(trouble)) => Err(self.error(trouble, "store", &record.id)),
            None => Err(self.error(&Trouble::refused("others write it all the time", true), "store", &record.id)),
        };
        records.iter().zip(places).map(answer).collect()
    }

    async fn write(&self, writings: &mut [Writing]) {
        for _ in 0..ROUNDS_MAX {
            let mut open: Vec<&mut Writing> = writings.iter_mut().filter(|it| it.outcome.is_none()).collect();
            if open.is_empty() {
                return;
            }
            let mut batch = self.cluster.batch();
            for writing in &open {
                let how = writing.over.map_or(Store::Add, Store::Over);
                let server = self.cluster.servers.of(&writing.key);
                batch.ask(server, |it| it.store(how, &writing.key, &writing.document, self.expires()));
            }
            let answers = self.cluster.run(&batch).await;
            for (writing, answer) in open.iter_mut().zip(answers) {
                writing.outcome = match answer {
                    Ok(Reply::Done) => Some(Ok(())),
                    Ok(Reply::NotStored | Reply::Changed | Reply::Missing) => None,
                    Ok(Reply::Refused(text)) => Some(Err(refused(&text, writing.document.len()))),
                    Ok(other) => Some(Err(Trouble::refused(&format!("the server answered {other:?}"), false))),
                    Err(trouble) => Some(Err(trouble)),
                };
            }
            open.retain(|writing| writing.outcome.is_none());
            self.look(&mut open).await;
        }
    }

    /// What is there in place of these.
    async fn look(&self, writings: &mut [&mut Writing]) {
        if writings.is_empty() {
            return;
        }
        let keys: Vec<String> = writings.iter().map(|writing| writing.key.clone()).collect();
        let mut found = match self.read(&keys).await {
            Ok(found) => found,
            Err(trouble) => {
                writings.iter_mut().for_each(|writing| writing.outcome = Some(Err(trouble.clone())));
                return;
            }
        };
        for writing in writings {
            match found.remove(&writing.key) {
                None => writing.over = None,
                Some(item) if is_success(&item.value, &self.format) => writing.outcome = Some(Ok(())),
                Some(item) => writing.over = Some(item.unique),
            }
        }
    }

    /// Reads what there is under these keys.
    pub(super) async fn read(&self, keys: &[String]) -> Result<HashMap<String, Item>, Trouble> {
        let mut by_server: Vec<Vec<&str>> = vec![Vec::new(); self.cluster.len()];
        for key in keys {
            by_server[self.cluster.servers.of(key)].push(key);
        }
        let mut batch = self.cluster.batch();
        for (server, keys) in by_server.iter().enumerate() {
            for keys in keys.chunks(KEYS_MAX) {
                batch.ask(server, |it| it.read(keys.iter().copied()));
            }
        }
        let mut found = HashMap::with_capacity(keys.len());
        for answer in self.cluster.run(&batch).await {
            match answer? {
                Reply::Values(items) => {
                    found
                        .extend(items.into_iter().filter_map(|it| Some((String::from_utf8(it.key.clone()).ok()?, it))));
                }
                Reply::Refused(text) => return Err(Trouble::refused(&text, text.starts_with("SERVER_ERROR"))),
                other => return Err(Trouble::refused(&format!("the server answered {other:?}"), false)),
            }
        }
        Ok(found)
    }
}

/// What is left of the records of each task after a stored SUCCESS, and where the one is that answers for each.
fn winners(records: &[ResultRecord]) -> (Vec<&ResultRecord>, Vec<usize>) {
    let mut winners: Vec<&ResultRecord> = Vec::with_capacity(records.len());
    let mut by_id: HashMap<&TaskId, usize> = HashMap::with_capacity(records.len());
    let places = records.iter().map(|record| {
        let place = *by_id.entry(&record.id).or_insert_with(|| {
            winners.push(record);
            winners.len() - 1
        });
        if winners[place].state != State::Success {
            winners[place] = record;
        }
        place
    });
    let places = places.collect();
    (winners, places)
}

/// Why a value was not stored.
pub(super) fn refused(text: &str, bytes: usize) -> Trouble {
    match text {
        _ if text.contains("too large") => {
            let reason = format!(
                "{bytes} bytes are more than the server keeps in one value, 1 MiB unless it was started with a larger \
                 `-I`: {text}"
            );
            Trouble::refused(&reason, false)
        }
        // Full, and told not to forget anything (`-M`): others expire.
        _ => Trouble::refused(text, text.starts_with("SERVER_ERROR")),
    }
}
