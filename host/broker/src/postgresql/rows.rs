//! The statements: every read and write of the message tables.
//!
//! Knows nothing of consumers. Times are those of the server's clock, which all workers have in common. Rows that
//! others hold in a transaction are passed over, never waited for.

use std::collections::VecDeque;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use super::schema::Tables;
use crate::port::Acknowledgement;
use crate::sqlalchemy::{Claimed, NewRow, eta_ms, priority_and_eta};

/// Most rows that are read, or made due, in one transaction: bounds how long it takes.
const READ_MAX: i64 = 256;
/// Most expired leases that are taken back in one go.
const RECLAIM_MAX: i64 = 1_000;
/// Most bytes of payload that one claim takes, unless a single message is larger.
const CLAIM_BYTES_MAX: usize = 8 << 20;
/// Nobody living has a lease that ends later than this: the server's clock was set back since.
const LEASE_MS_MAX: i64 = 600_000;
/// The owner of a row whose payload is no message: nobody takes it again.
const UNREADABLE: &str = "unreadable";
/// Milliseconds since the epoch.
const NOW_MS: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// The statements for the tables of one broker.
pub(super) struct Statements {
    tables: Tables,
    lease_ms: i64,
}

/// What there is for a queue.
pub(super) struct Outlook {
    pub(super) claimable: bool,
    /// In how many milliseconds the next message is due.
    pub(super) due_in_ms: Option<i64>,
}

struct Place {
    id: i32,
    priority: i32,
    row: Option<Claimed>,
}

/// A row, its priority, and when it is due.
type Noted = (i32, i32, Option<i64>);

impl Statements {
    pub(super) fn new(tables: Tables, lease_ms: i64) -> Self {
        Self { tables, lease_ms }
    }

    pub(super) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Finds a queue, or makes it.
    pub(super) async fn ensure_queue(&self, client: &Client, name: &str) -> Result<i32, Error> {
        let queue = &self.tables.queue;
        let make = format!(
            r#"INSERT INTO "{queue}" (id, name) SELECT nextval('queue_id_sequence'), $1
               WHERE NOT EXISTS (SELECT 1 FROM "{queue}" WHERE name = $1) ON CONFLICT (name) DO NOTHING"#
        );
        client.execute_typed(&make, &[(&name, Type::TEXT)]).await?;
        let find = format!(r#"SELECT id FROM "{queue}" WHERE name = $1"#);
        let found = client.query_typed(&find, &[(&name, Type::TEXT)]).await?;
        // One that somebody deletes in this moment will be missed soon enough.
        Ok(found.first().map_or(0, |row| row.get(0)))
    }

    /// Inserts rows in order, and says how many found their queue.
    pub(super) async fn insert(&self, client: &Client, rows: &[NewRow]) -> Result<u64, Error> {
        let Tables { queue, message } = &self.tables;
        let sql = format!(
            r#"INSERT INTO "{message}" (id, visible, payload, version, queue_id, priority, eta)
               SELECT nextval('message_id_sequence'), true, new.payload, 1, queue.id, new.priority, new.eta
               FROM unnest($1::text[], $2::text[], $3::int4[], $4::int8[])
                    WITH ORDINALITY AS new(queue, payload, priority, eta, place)
               JOIN "{queue}" AS queue ON queue.name = new.queue ORDER BY new.place"#
        );
        let queues: Vec<&str> = rows.iter().map(|row| row.queue.as_str()).collect();
        let payloads: Vec<&str> = rows.iter().map(|row| row.payload.as_str()).collect();
        let priorities: Vec<i32> = rows.iter().map(|row| row.priority.into()).collect();
        let etas: Vec<Option<i64>> = rows.iter().map(|row| row.eta_ms).collect();
        client
            .execute_typed(
                &sql,
                &[
                    (&queues, Type::TEXT_ARRAY),
                    (&payloads, Type::TEXT_ARRAY),
                    (&priorities, Type::INT4_ARRAY),
                    (&etas, Type::INT8_ARRAY),
                ],
            )
            .await
    }

    /// Messages that wait: also those that are not due yet.
    pub(super) async fn depth(&self, client: &Client, queue: &str) -> Result<u64, Error> {
        let Tables { queue: queues, message } = &self.tables;
        let sql = format!(
            r#"SELECT count(*) FROM "{message}" WHERE visible AND queue_id = (SELECT id FROM "{queues}" WHERE name = $1)"#
        );
        let counted = client.query_typed(&sql, &[(&queue, Type::TEXT)]).await?;
        Ok(counted.first().map_or(0, |row| row.get::<_, i64>(0).cast_unsigned()))
    }

    /// Deletes all messages that wait.
    pub(super) async fn purge(&self, client: &Client, queue: &str) -> Result<u64, Error> {
        let Tables { queue: queues, message } = &self.tables;
        let sql = format!(
            r#"DELETE FROM "{message}" WHERE visible AND queue_id = (SELECT id FROM "{queues}" WHERE name = $1)"#
        );
        client.execute_typed(&sql, &[(&queue, Type::TEXT)]).await
    }

    /// Settles rows that `owner` claimed. Those that are gone are settled already. One that another worker took over
    /// after its lease had expired is deleted as well: it is done with, and whoever runs it again finds nothing to
    /// settle.
    pub(super) async fn settle(
        &self,
        client: &Client,
        owner: &str,
        receipts: &[(i32, Acknowledgement)],
    ) -> Result<(), Error> {
        let message = &self.tables.message;
        let of = |requeued: bool| -> Vec<i32> {
            let wanted = receipts.iter().filter(|(_, what)| (*what == Acknowledgement::Requeue) == requeued);
            wanted.map(|(id, _)| *id).collect()
        };
        let (done, requeued) = (of(false), of(true));
        let delete = async {
            let sql = format!(r#"DELETE FROM "{message}" WHERE id = ANY($1)"#);
            if done.is_empty() { Ok(0) } else { client.execute_typed(&sql, &[(&done, Type::INT4_ARRAY)]).await }
        };
        let requeue =
            async { if requeued.is_empty() { Ok(0) } else { self.release(client, owner, &requeued, true).await } };
        let (delete, requeue) = tokio::join!(delete, requeue);
        delete.and(requeue).map(drop)
    }

    /// Makes rows that `owner` claimed visible again: as new ones, or as delivered once more.
    pub(super) async fn release(&self, client: &Client, owner: &str, ids: &[i32], seen: bool) -> Result<u64, Error> {
        let message = &self.tables.message;
        let counted = if seen { ", redelivered = true, delivery_count = delivery_count + 1" } else { "" };
        let sql = format!(
            r#"UPDATE "{message}" SET visible = true, lease_until = NULL, owner = NULL{counted}
               WHERE id = ANY($1) AND owner = $2"#
        );
        client.execute_typed(&sql, &[(&ids, Type::INT4_ARRAY), (&owner, Type::TEXT)]).await
    }

    /// Lets rows that `owner` claimed wait until they are due.
    pub(super) async fn put_back(&self, client: &Client, owner: &str, rows: &[(i32, i64)]) -> Result<(), Error> {
        let message = &self.tables.message;
        let sql = format!(
            r#"UPDATE "{message}" AS it SET visible = true, lease_until = NULL, owner = NULL, eta = due.at
               FROM unnest($1::int4[], $2::int8[]) AS due(id, at) WHERE it.id = due.id AND it.owner = $3"#
        );
        let (ids, etas): (Vec<i32>, Vec<i64>) = rows.iter().copied().unzip();
        let values = [
            (&ids as &(dyn tokio_postgres::types::ToSql + Sync), Type::INT4_ARRAY),
            (&etas, Type::INT8_ARRAY),
            (&owner, Type::TEXT),
        ];
        client.execute_typed(&sql, &values).await.map(drop)
    }

    /// Keeps a row out of everybody's way, for a person to look at.
    pub(super) async fn set_aside(&self, client: &Client, id: i32) -> Result<(), Error> {
        let message = &self.tables.message;
        let sql = format!(r#"UPDATE "{message}" SET visible = false, lease_until = NULL, owner = $2 WHERE id = $1"#);
        client.execute_typed(&sql, &[(&id, Type::INT4), (&UNREADABLE, Type::TEXT)]).await.map(drop)
    }

    /// Renews the leases of these rows, as far as `owner` still holds them, and says how many those are.
    pub(super) async fn renew(&self, client: &Client, owner: &str, ids: &[i32]) -> Result<u64, Error> {
        let (message, lease_ms) = (&self.tables.message, self.lease_ms);
        let sql = format!(
            r#"UPDATE "{message}" SET lease_until = {NOW_MS} + {lease_ms}
               WHERE id = ANY($1) AND owner = $2 AND lease_until IS NOT NULL"#
        );
        client.execute_typed(&sql, &[(&ids, Type::INT4_ARRAY), (&owner, Type::TEXT)]).await
    }

    /// Makes rows with an expired lease visible again: their owner has died.
    pub(super) async fn reclaim(&self, client: &Client) -> Result<u64, Error> {
        let message = &self.tables.message;
        let sql = format!(
            r#"UPDATE "{message}" SET visible = true, lease_until = NULL, owner = NULL, redelivered = true,
                   delivery_count = delivery_count + 1
               WHERE id IN (SELECT id FROM "{message}" WHERE lease_until IS NOT NULL
                            AND (lease_until < {NOW_MS} OR lease_until > {NOW_MS} + {LEASE_MS_MAX})
                            LIMIT {RECLAIM_MAX} FOR UPDATE SKIP LOCKED)"#
        );
        client.execute_typed(&sql, &[]).await
    }

    /// Whether a claim would find something, and when it is worth another look.
    pub(super) async fn outlook(&self, client: &Client, queue: i32) -> Result<Outlook, Error> {
        let message = &self.tables.message;
        let sql = format!(
            r#"SELECT EXISTS (SELECT 1 FROM "{message}" WHERE queue_id = $1 AND visible AND eta IS NULL),
                      (SELECT min(eta) FROM "{message}" WHERE queue_id = $1 AND eta IS NOT NULL) - {NOW_MS}"#
        );
        let found = client.query_typed(&sql, &[(&queue, Type::INT4)]).await?;
        let due_in_ms: Option<i64> = found.first().and_then(|row| row.get(1));
        let claimable = found.first().is_some_and(|row| row.get(0)) || due_in_ms.is_some_and(|ms| ms <= 0);
        Ok(Outlook { claimable, due_in_ms })
    }

    /// Claims at most `wanted` rows that are due, the most urgent first, then the oldest.
    pub(super) async fn claim(
        &self,
        client: &Client,
        queue: i32,
        wanted: usize,
        owner: &str,
    ) -> Result<Vec<Claimed>, Error> {
        let message = &self.tables.message;
        let due = format!(
            r#"UPDATE "{message}" SET eta = NULL WHERE id IN
               (SELECT id FROM "{message}" WHERE queue_id = $1 AND eta IS NOT NULL AND eta <= {NOW_MS}
                ORDER BY eta LIMIT {READ_MAX} FOR UPDATE SKIP LOCKED)"#
        );
        // Of a client's rows priority and ETA are only in the payload.
        let unread = format!(
            r#"SELECT id, payload, redelivered, delivery_count, {NOW_MS} FROM "{message}"
               WHERE queue_id = $1 AND visible AND eta IS NULL AND priority IS NULL
               ORDER BY id LIMIT {READ_MAX} FOR UPDATE SKIP LOCKED"#
        );
        let ready = format!(
            r#"SELECT id, priority FROM "{message}"
               WHERE queue_id = $1 AND visible AND eta IS NULL AND priority IS NOT NULL
               ORDER BY priority DESC, id LIMIT $2 FOR UPDATE SKIP LOCKED"#
        );
        let limit = i64::try_from(wanted).unwrap_or(READ_MAX).min(READ_MAX);
        let values = [(&queue as &(dyn tokio_postgres::types::ToSql + Sync), Type::INT4), (&limit, Type::INT8)];
        // Sent in one go, and carried out in this order.
        let (begun, due, unread, ready) = tokio::join!(
            client.batch_execute("BEGIN"),
            client.execute_typed(&due, &values[..1]),
            client.query_typed(&unread, &values[..1]),
            client.query_typed(&ready, &values),
        );
        begun?;
        due?;
        let (mut unread, put_off) = read_in(unread?);
        let mut ready: VecDeque<Place> =
            ready?.iter().map(|row| Place { id: row.get(0), priority: row.get(1), row: None }).collect();
        let mut taken: Vec<Place> = Vec::new();
        let mut bytes = 0;
        while taken.len() < wanted && bytes < CLAIM_BYTES_MAX {
            let source = if goes_first(unread.front(), ready.front()) { &mut unread } else { &mut ready };
            let Some(place) = source.pop_front() else { break };
            bytes += place.row.as_ref().map_or(0, |row| row.payload.len());
            taken.push(place);
        }
        let taking = self.take(client, owner, &taken);
        let noting = self.note(client, unread.into_iter().map(|it| (it.id, it.priority, None)).chain(put_off));
        let (rows, noted, committed) = tokio::join!(taking, noting, client.batch_execute("COMMIT"));
        let mut rows = rows?;
        noted?;
        committed?;
        let claimed = taken.into_iter().filter_map(|place| match place.row {
            Some(row) => Some(row),
            None => rows.iter().position(|row| row.id == i64::from(place.id)).map(|found| rows.swap_remove(found)),
        });
        Ok(claimed.collect())
    }

    /// Takes these, and reads those whose payload nobody has read.
    async fn take(&self, client: &Client, owner: &str, taken: &[Place]) -> Result<Vec<Claimed>, Error> {
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let (message, lease_ms) = (&self.tables.message, self.lease_ms);
        // kombu's version counts changes of a small number of kinds; ours would overflow it.
        let sql = format!(
            r#"UPDATE "{message}" AS it SET visible = false, lease_until = {NOW_MS} + {lease_ms}, owner = $1,
                   priority = taken.priority
               FROM unnest($2::int4[], $3::int4[], $4::bool[]) AS taken(id, priority, is_read) WHERE it.id = taken.id
               RETURNING it.id, CASE WHEN taken.is_read THEN NULL ELSE it.payload END, it.redelivered, it.delivery_count"#
        );
        let ids: Vec<i32> = taken.iter().map(|place| place.id).collect();
        let priorities: Vec<i32> = taken.iter().map(|place| place.priority).collect();
        let read: Vec<bool> = taken.iter().map(|place| place.row.is_some()).collect();
        let rows = client
            .query_typed(
                &sql,
                &[
                    (&owner, Type::TEXT),
                    (&ids, Type::INT4_ARRAY),
                    (&priorities, Type::INT4_ARRAY),
                    (&read, Type::BOOL_ARRAY),
                ],
            )
            .await?;
        Ok(rows.iter().filter_map(|row| Some(claimed(row, row.get::<_, Option<&str>>(1)?))).collect())
    }

    /// Writes down what was read, so that it need not be read again.
    async fn note(&self, client: &Client, places: impl Iterator<Item = Noted>) -> Result<(), Error> {
        let (mut ids, mut priorities, mut etas) = (Vec::new(), Vec::new(), Vec::new());
        for (id, priority, eta) in places {
            ids.push(id);
            priorities.push(priority);
            etas.push(eta);
        }
        if ids.is_empty() {
            return Ok(());
        }
        let message = &self.tables.message;
        let sql = format!(
            r#"UPDATE "{message}" AS it SET priority = read.priority, eta = read.eta
               FROM unnest($1::int4[], $2::int4[], $3::int8[]) AS read(id, priority, eta) WHERE it.id = read.id"#
        );
        let values = [
            (&ids as &(dyn tokio_postgres::types::ToSql + Sync), Type::INT4_ARRAY),
            (&priorities, Type::INT4_ARRAY),
            (&etas, Type::INT8_ARRAY),
        ];
        client.execute_typed(&sql, &values).await.map(drop)
    }
}

fn claimed(row: &Row, payload: &str) -> Claimed {
    Claimed {
        id: row.get::<_, i32>(0).into(),
        payload: payload.as_bytes().to_vec(),
        redelivered: row.get(2),
        delivery_count: row.get::<_, i32>(3).into(),
    }
}

/// Rows of clients in the order of their priority, and those whose time has not come.
fn read_in(rows: Vec<Row>) -> (VecDeque<Place>, Vec<Noted>) {
    let (mut places, mut put_off) = (VecDeque::new(), Vec::new());
    for row in rows {
        let (id, payload, now_ms): (i32, &str, i64) = (row.get(0), row.get(1), row.get(4));
        let (priority, eta) = priority_and_eta(payload.as_bytes());
        let eta = eta.as_deref().and_then(eta_ms).filter(|eta| *eta > now_ms);
        match eta {
            Some(eta) => put_off.push((id, priority.into(), Some(eta))),
            None => places.push_back(Place { id, priority: priority.into(), row: Some(claimed(&row, payload)) }),
        }
    }
    // Stable: within a priority the oldest stays first.
    places.make_contiguous().sort_by_key(|place| -place.priority);
    (places, put_off)
}

fn goes_first(one: Option<&Place>, other: Option<&Place>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => (-one.priority, one.id) < (-other.priority, other.id),
        (one, _) => one.is_some(),
    }
}
