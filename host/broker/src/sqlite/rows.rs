//! The statements: every read and write of the message tables.
//!
//! Knows nothing of threads or consumers. All writes are made inside of a transaction of the caller.
//!
//! Visible rows wait. kombu leaves their `timestamp` null, and so do we: it orders by timestamp and
//! id, so that everybody's rows stand in the order of their ids. A row of kombu's that is not visible
//! was taken by a Python worker, which leaves it behind; one of ours has a lease beside it.

use std::collections::VecDeque;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::clock::LEASE_MS_MAX;
use crate::port::Acknowledgement;
use crate::sqlalchemy::{Claimed, NewRow, eta_ms};

/// Most rows that are read, or made due, in one transaction: bounds how long it takes.
const READ_MAX: u32 = 256;

/// Most bytes of payload that one claim takes, unless a single message is larger.
const CLAIM_BYTES_MAX: usize = 8 << 20;

/// The owner of a row whose payload is no message: nobody takes it again.
const UNREADABLE: &str = "unreadable";

/// Finds a queue, or makes it.
pub(super) fn ensure_queue(db: &Connection, name: &str) -> Result<i64> {
    if let Some(id) = find_queue(db, name)? {
        return Ok(id);
    }
    db.prepare_cached("INSERT INTO kombu_queue (name) VALUES (?1)")?.insert([name])
}

/// Finds a queue.
pub(super) fn find_queue(db: &Connection, name: &str) -> Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM kombu_queue WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}

pub(super) fn insert(db: &Connection, rows: &[NewRow]) -> Result<()> {
    let sql = "INSERT INTO kombu_message (visible, payload, version, queue_id, priority, eta)
               VALUES (1, ?1, 1, ?2, ?3, ?4)";
    let mut statement = db.prepare_cached(sql)?;
    for row in rows {
        let queue = ensure_queue(db, &row.queue)?;
        statement.execute(params![row.payload, queue, row.priority, row.eta_ms])?;
    }
    Ok(())
}

/// Messages that wait: also those that are not due yet.
pub(super) fn depth(db: &Connection, queue: i64) -> Result<i64> {
    db.prepare_cached("SELECT count(*) FROM kombu_message WHERE queue_id = ?1 AND visible = 1")?
        .query_row([queue], |row| row.get(0))
}

/// Deletes all messages that wait.
pub(super) fn purge(db: &Connection, queue: i64) -> Result<usize> {
    db.prepare_cached("DELETE FROM kombu_message WHERE queue_id = ?1 AND visible = 1")?.execute([queue])
}

/// Settles a row that `owner` claimed. One that is gone is settled already. A row that another process
/// took over after its lease had expired is deleted as well: it is done with, and whoever runs it
/// again will find nothing to settle.
pub(super) fn settle(db: &Connection, id: i64, owner: &str, acknowledgement: Acknowledgement) -> Result<()> {
    match acknowledgement {
        Acknowledgement::Ack | Acknowledgement::Reject => {
            db.prepare_cached("DELETE FROM kombu_message WHERE id = ?1")?.execute([id])?;
        }
        Acknowledgement::Requeue => {
            let sql = "UPDATE kombu_message SET visible = 1, lease_until = NULL, owner = NULL, redelivered = 1,
                       delivery_count = delivery_count + 1, version = version + 1 WHERE id = ?1 AND owner = ?2";
            db.prepare_cached(sql)?.execute(params![id, owner])?;
        }
    }
    Ok(())
}

/// Lets a row that `owner` claimed wait until it is due.
pub(super) fn put_back(db: &Connection, id: i64, owner: &str, eta_ms: i64) -> Result<()> {
    let sql = "UPDATE kombu_message SET visible = 1, lease_until = NULL, owner = NULL, eta = ?3, version = version + 1
               WHERE id = ?1 AND owner = ?2";
    db.prepare_cached(sql)?.execute(params![id, owner, eta_ms]).map(drop)
}

/// Gives back rows that nobody has seen.
pub(super) fn give_back(db: &Connection, ids: &[i64], owner: &str) -> Result<()> {
    let sql = "UPDATE kombu_message SET visible = 1, lease_until = NULL, owner = NULL, version = version + 1
               WHERE id = ?1 AND owner = ?2";
    let mut statement = db.prepare_cached(sql)?;
    ids.iter().try_for_each(|id| statement.execute(params![id, owner]).map(drop))
}

/// Gives back all that `owner` holds: it will not settle it any more.
pub(super) fn release(db: &Connection, owner: &str) -> Result<usize> {
    let sql = "UPDATE kombu_message SET visible = 1, lease_until = NULL, owner = NULL, redelivered = 1,
               delivery_count = delivery_count + 1, version = version + 1
               WHERE lease_until IS NOT NULL AND owner = ?1";
    db.prepare_cached(sql)?.execute([owner])
}

/// Keeps a row out of everybody's way, for a person to look at.
pub(super) fn set_aside(db: &Connection, id: i64) -> Result<()> {
    let sql = "UPDATE kombu_message SET visible = 0, lease_until = NULL, owner = ?2 WHERE id = ?1";
    db.prepare_cached(sql)?.execute(params![id, UNREADABLE]).map(drop)
}

/// Renews the leases of `owner`, and says how many rows it holds.
pub(super) fn renew(db: &Connection, owner: &str, until_ms: i64) -> Result<usize> {
    let sql = "UPDATE kombu_message SET lease_until = ?2 WHERE lease_until IS NOT NULL AND owner = ?1";
    db.prepare_cached(sql)?.execute(params![owner, until_ms])
}

/// Whether somebody's lease has expired, or is from a time before the clock was set back.
pub(super) fn has_expired(db: &Connection, now_ms: i64) -> Result<bool> {
    let sql =
        "SELECT 1 FROM kombu_message WHERE lease_until IS NOT NULL AND (lease_until < ?1 OR lease_until > ?2) LIMIT 1";
    db.prepare_cached(sql)?.exists([now_ms, now_ms + LEASE_MS_MAX])
}

/// Makes rows with an expired lease visible again: their owner has died.
pub(super) fn reclaim(db: &Connection, now_ms: i64) -> Result<usize> {
    let sql = "UPDATE kombu_message SET visible = 1, lease_until = NULL, owner = NULL, redelivered = 1,
               delivery_count = delivery_count + 1, version = version + 1
               WHERE lease_until IS NOT NULL AND (lease_until < ?1 OR lease_until > ?2)";
    db.prepare_cached(sql)?.execute([now_ms, now_ms + LEASE_MS_MAX])
}

/// Whether a claim would find something.
pub(super) fn has_claimable(db: &Connection, queue: i64, now_ms: i64) -> Result<bool> {
    let ready = "SELECT 1 FROM kombu_message WHERE queue_id = ?1 AND visible = 1 AND eta IS NULL LIMIT 1";
    let due = "SELECT 1 FROM kombu_message WHERE queue_id = ?1 AND eta IS NOT NULL AND eta <= ?2 LIMIT 1";
    Ok(db.prepare_cached(ready)?.exists([queue])? || db.prepare_cached(due)?.exists([queue, now_ms])?)
}

/// When the next message of a queue is due.
pub(super) fn next_due_ms(db: &Connection, queue: i64) -> Result<Option<i64>> {
    let sql = "SELECT min(eta) FROM kombu_message WHERE queue_id = ?1 AND eta IS NOT NULL";
    db.prepare_cached(sql)?.query_row([queue], |row| row.get(0))
}

/// Changes whenever another connection has committed.
pub(super) fn data_version(db: &Connection) -> Result<i64> {
    db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// Claims at most `wanted` rows that are due, the most urgent first, then the oldest.
pub(super) fn claim(
    db: &Connection,
    queue: i64,
    wanted: usize,
    owner: &str,
    now_ms: i64,
    until_ms: i64,
) -> Result<Vec<Claimed>> {
    make_due(db, queue, now_ms)?;
    let mut unread = read_in(db, queue, now_ms)?;
    let mut ready = ready(db, queue, u32::try_from(wanted).unwrap_or(u32::MAX))?;
    let sql = "UPDATE kombu_message SET visible = 0, lease_until = ?2, owner = ?3, priority = ?4, version = version + 1
               WHERE id = ?1 AND visible = 1 RETURNING payload, redelivered, delivery_count";
    let mut take = db.prepare_cached(sql)?;
    let mut claimed = Vec::new();
    let mut bytes = 0;
    while claimed.len() < wanted && bytes < CLAIM_BYTES_MAX {
        let source = if goes_first(unread.front(), ready.front()) { &mut unread } else { &mut ready };
        let Some(Place { id, priority }) = source.pop_front() else { break };
        let row = take
            .query_row(params![id, until_ms, owner, priority], |row| {
                let payload = row.get_ref(0)?.as_bytes()?.to_vec();
                Ok(Claimed { id, payload, redelivered: row.get(1)?, delivery_count: row.get(2)? })
            })
            .optional()?;
        bytes += row.as_ref().map_or(0, |row| row.payload.len());
        claimed.extend(row);
    }
    // The rest need not be read again.
    let mut note = db.prepare_cached("UPDATE kombu_message SET priority = ?2 WHERE id = ?1")?;
    for Place { id, priority } in unread {
        note.execute(params![id, priority])?;
    }
    Ok(claimed)
}

#[derive(Debug, Clone, Copy)]
struct Place {
    id: i64,
    priority: i64,
}

fn goes_first(one: Option<&Place>, other: Option<&Place>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => (-one.priority, one.id) < (-other.priority, other.id),
        (one, _) => one.is_some(),
    }
}

fn make_due(db: &Connection, queue: i64, now_ms: i64) -> Result<()> {
    let sql = "UPDATE kombu_message SET eta = NULL WHERE id IN
               (SELECT id FROM kombu_message WHERE queue_id = ?1 AND eta IS NOT NULL AND eta <= ?2
                ORDER BY eta LIMIT ?3)";
    db.prepare_cached(sql)?.execute(params![queue, now_ms, READ_MAX]).map(drop)
}

/// Rows whose priority is known.
fn ready(db: &Connection, queue: i64, wanted: u32) -> Result<VecDeque<Place>> {
    let sql = "SELECT id, priority FROM kombu_message
               WHERE queue_id = ?1 AND visible = 1 AND eta IS NULL AND priority IS NOT NULL
               ORDER BY priority DESC, id LIMIT ?2";
    db.prepare_cached(sql)?
        .query_map(params![queue, wanted], |row| Ok(Place { id: row.get(0)?, priority: row.get(1)? }))?
        .collect()
}

/// Reads rows that a client wrote: their priority and ETA are only in the payload. Those that are not due
/// are put off; the others are returned in order.
fn read_in(db: &Connection, queue: i64, now_ms: i64) -> Result<VecDeque<Place>> {
    // `json_valid(.., 2)`: also NaN and Infinity, which Python writes. gocelery's priority is inside of
    // delivery_info.
    let sql = "SELECT id, CASE WHEN json_valid(payload, 2) THEN
                          coalesce(json_extract(payload, '$.properties.priority'),
                                   json_extract(payload, '$.properties.delivery_info.priority')) END,
                      CASE WHEN json_valid(payload, 2) THEN json_extract(payload, '$.headers.eta') END
               FROM kombu_message
               WHERE queue_id = ?1 AND visible = 1 AND eta IS NULL AND priority IS NULL
               ORDER BY id LIMIT ?2";
    let mut places = VecDeque::new();
    let mut put_off = Vec::new();
    let mut select = db.prepare_cached(sql)?;
    let mut found = select.query(params![queue, READ_MAX])?;
    while let Some(row) = found.next()? {
        let priority = match row.get_ref(1)? {
            ValueRef::Integer(priority) => priority.clamp(0, u8::MAX.into()),
            _ => 0,
        };
        let place = Place { id: row.get(0)?, priority };
        let eta_ms = row.get_ref(2)?.as_str().ok().and_then(eta_ms);
        match eta_ms.filter(|eta_ms| *eta_ms > now_ms) {
            Some(eta_ms) => put_off.push((place, eta_ms)),
            None => places.push_back(place),
        }
    }
    let mut note = db.prepare_cached("UPDATE kombu_message SET priority = ?2, eta = ?3 WHERE id = ?1")?;
    for (Place { id, priority }, eta_ms) in put_off {
        note.execute(params![id, priority, eta_ms])?;
    }
    // Stable: within a priority the oldest stays first.
    places.make_contiguous().sort_by_key(|place| -place.priority);
    Ok(places)
}
