//! On the embedded file: one transaction stores the results of a batch, deletes its messages and claims the next one.
//!
//! The host has one connection for messages and one for results, since they may be different files; a single
//! transaction for both is what it is compared with.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};

use super::{id_in, now, told_to_stop};
use crate::{BareArgs, Result};

/// How long to wait after no message was found.
const POLL: Duration = Duration::from_millis(10);
/// As long as any other worker waits.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// What a claim is good for, in milliseconds.
const LEASE_MS: i64 = 30_000;

const RESULTS: &str = "CREATE TABLE IF NOT EXISTS celery_taskmeta (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, task_id VARCHAR(155), status VARCHAR(50), result BLOB,
    date_done DATETIME, traceback TEXT, children BLOB, name VARCHAR(155), args BLOB, kwargs BLOB, worker VARCHAR(155),
    retries INTEGER, queue VARCHAR(155), stamps BLOB, UNIQUE (task_id));
    CREATE INDEX IF NOT EXISTS ix_celery_taskmeta_date_done ON celery_taskmeta (date_done);";
const STORE: &str = "INSERT INTO celery_taskmeta (task_id, status, result, date_done) VALUES (?1, 'SUCCESS', ?2, ?3)";
const DELETE: &str = "DELETE FROM kombu_message WHERE id = ?1";
const FIND: &str = "SELECT id FROM kombu_message WHERE visible = 1 AND eta IS NULL AND priority IS NOT NULL
    AND queue_id = (SELECT id FROM kombu_queue WHERE name = 'celery') ORDER BY priority DESC, id LIMIT ?1";
const CLAIM: &str = "UPDATE kombu_message SET visible = 0, lease_until = ?2, owner = 'bare', version = version + 1
    WHERE id = ?1 RETURNING payload";

/// `path` is what follows `sqlite://`.
pub(super) async fn serve(path: &str, args: &BareArgs) -> Result<()> {
    let path = Path::new(path.strip_prefix('/').unwrap_or(path)).to_owned();
    let (results, prefetch) = (args.results.is_some(), args.prefetch);
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    let work = tokio::task::spawn_blocking(move || run(&path, results, prefetch, &stopping));
    told_to_stop().await;
    stop.store(true, Ordering::Relaxed);
    work.await?
}

fn run(path: &Path, results: bool, prefetch: u16, stop: &AtomicBool) -> Result<()> {
    let mut file = Connection::open(path)?;
    file.busy_timeout(BUSY_TIMEOUT)?;
    file.pragma_update(None, "synchronous", "FULL")?;
    file.execute_batch(RESULTS)?;
    let mut held: Vec<(i64, String)> = Vec::new();
    loop {
        let now = now()?;
        let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut store = transaction.prepare_cached(STORE)?;
            let mut delete = transaction.prepare_cached(DELETE)?;
            let date_done = now.isoformat_naive(' ');
            for (row, payload) in &held {
                if results {
                    store.execute(params![id_in(payload)?, b"null", date_done])?;
                }
                delete.execute([row])?;
            }
            held.clear();
            if !stop.load(Ordering::Relaxed) {
                let mut find = transaction.prepare_cached(FIND)?;
                let rows =
                    find.query_map([prefetch], |row| row.get::<_, i64>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
                let mut claim = transaction.prepare_cached(CLAIM)?;
                let until = now.as_micros() / 1_000 + LEASE_MS;
                for row in rows {
                    held.push((row, claim.query_row(params![row, until], |row| row.get(0))?));
                }
            }
        }
        transaction.commit()?;
        if held.is_empty() {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
    }
}
