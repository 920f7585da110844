//! Gives messages in `unacked` back to their queues: ours when they are requeued, everybody's when they
//! are overdue.

use std::collections::HashMap;

use redis::Value;
use tracing::error;

use super::failure::Failure;
use super::layout::Entry;
use super::link::Link;
use super::script;

/// Most messages that are moved in one step: so many bodies are in memory at once.
const MOVE_MAX: usize = 64;

/// Which end of the queue they go to, and what becomes of their envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Behind all others, as kombu does with what is requeued.
    Requeued,
    /// Before all others, as kombu does with what was taken and not worked on.
    Restored,
    /// Before all others, and as if nobody had seen them.
    Unseen,
}

/// What is moved, and to where.
struct Move {
    tag: String,
    envelope: Vec<u8>,
    lists: Vec<String>,
}

impl Link {
    /// Gives back the messages under these tags, in this order; those that are gone are left out. With
    /// `bound`, only those whose score is not larger. Says how many were moved.
    pub(super) async fn give_back(&self, tags: &[String], manner: Manner, bound: Option<&str>) -> Result<u64, Failure> {
        let mut moved = 0;
        for tags in tags.chunks(MOVE_MAX) {
            let moves = self.moves(tags, manner).await?;
            if !moves.is_empty() {
                moved += self.carry_out(&moves, manner, bound).await?;
            }
        }
        Ok(moved)
    }

    async fn moves(&self, tags: &[String], manner: Manner) -> Result<Vec<Move>, Failure> {
        let mut fetch = redis::cmd("HMGET");
        fetch.arg(&self.layout.unacked).arg(tags);
        let Value::Array(entries) = self.connection.run(&fetch).await? else { return Err(Failure::strange("HMGET")) };
        let mut moves = Vec::with_capacity(tags.len());
        let mut without_entry = Vec::new();
        for (tag, entry) in tags.iter().zip(entries) {
            let Value::BulkString(text) = entry else {
                without_entry.push(tag);
                continue;
            };
            match Entry::parse(text) {
                Ok(entry) => moves.push(self.destination(tag, &entry, manner).await?),
                Err(reason) => {
                    error!(error = %reason, "`{tag}` in `{}` is no message ({reason})", self.layout.unacked);
                    self.postpone(tag).await?;
                }
            }
        }
        if !without_entry.is_empty() {
            // Nobody can do anything with them, and they would be found again and again.
            let mut forget = redis::cmd("ZREM");
            forget.arg(&self.layout.index).arg(without_entry);
            self.connection.run(&forget).await?;
        }
        Ok(moves)
    }

    async fn destination(&self, tag: &str, entry: &Entry, manner: Manner) -> Result<Move, Failure> {
        let mut queues = self.bindings.lookup(&self.connection, &entry.exchange, &entry.routing_key).await?;
        if queues.is_empty() {
            // Kombu drops it. The tables may have been evicted, and Celery's keys are names of queues.
            queues.push(entry.routing_key.clone());
        }
        let priority = entry.priority();
        Ok(Move {
            tag: tag.to_owned(),
            envelope: match manner {
                Manner::Unseen => entry.envelope.bytes().into(),
                Manner::Requeued | Manner::Restored => entry.marked().bytes().into(),
            },
            lists: queues.iter().map(|queue| self.layout.list(queue, priority)).collect(),
        })
    }

    async fn carry_out(&self, moves: &[Move], manner: Manner, bound: Option<&str>) -> Result<u64, Failure> {
        let mut keys = vec![self.layout.unacked.as_str(), self.layout.index.as_str()];
        let mut places: HashMap<&str, usize> = HashMap::new();
        for list in moves.iter().flat_map(|it| &it.lists) {
            places.entry(list).or_insert_with(|| {
                keys.push(list);
                keys.len() - 2
            });
        }
        let mut call = script::call(&script::GIVE_BACK, &keys);
        call.arg(bound.unwrap_or_default());
        let side = if manner == Manner::Requeued { "LPUSH" } else { "RPUSH" };
        for Move { tag, envelope, lists } in moves {
            call.arg(tag).arg(side).arg(envelope).arg(lists.len());
            for list in lists {
                call.arg(places[list.as_str()]);
            }
        }
        self.connection.call(&script::GIVE_BACK, &call).await
    }

    /// What cannot be read comes up again only when it would be overdue again.
    async fn postpone(&self, tag: &str) -> Result<(), Failure> {
        let mut call = script::call(&script::RENEW, &[&self.layout.unacked, &self.layout.index]);
        call.arg(tag);
        self.connection.call::<Value>(&script::RENEW, &call).await.map(drop)
    }
}
