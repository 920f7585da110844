//! What consumers hold: the rows that were claimed for them, how more are claimed, and how leases are renewed.
//!
//! Makes no messages of rows.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use taskhost_core::QueueName;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::Database;
use super::failure::Failure;
use crate::sqlalchemy::{End, Inbox};

/// Most rows that one claim takes, and that wait in an inbox if there is no prefetch.
const CLAIM_MAX: usize = 256;
/// How often a consumer that has room looks for rows: at first, and after a while in which none came.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_millis(250);
/// How much of a lease may pass until it is renewed, and until expired ones are looked for.
const RENEWALS_PER_LEASE: u32 = 3;
const SWEEPS_PER_LEASE: u32 = 6;

/// The rows of one consumer.
pub(super) struct Hold {
    pub(super) queue: QueueName,
    queue_id: i32,
    pub(super) owner: String,
    pub(super) inbox: Inbox,
    /// Claimed and not settled.
    held: Mutex<HashSet<i32>>,
    prefetch: AtomicU32,
    pub(super) cancelled: AtomicBool,
    wake: Notify,
}

impl Hold {
    pub(super) fn new(queue: QueueName, queue_id: i32, owner: String, prefetch: u32) -> Self {
        Self {
            queue,
            queue_id,
            owner,
            inbox: Inbox::default(),
            held: Mutex::default(),
            prefetch: AtomicU32::new(prefetch),
            cancelled: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    pub(super) fn set_prefetch(&self, prefetch: u32) {
        self.prefetch.store(prefetch, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// There may be room, or something new, or no wish for more.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// How many rows to claim now.
    fn credit(&self) -> usize {
        match self.prefetch.load(Ordering::Relaxed) as usize {
            0 => CLAIM_MAX.saturating_sub(self.inbox.len()),
            prefetch => prefetch.saturating_sub(self.held().len()).min(CLAIM_MAX),
        }
    }

    fn held(&self) -> MutexGuard<'_, HashSet<i32>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are settled, or not ours any more.
    pub(super) fn let_go(&self, ids: impl Iterator<Item = i32>) {
        let mut held = self.held();
        for id in ids {
            held.remove(&id);
        }
        drop(held);
        self.wake.notify_one();
    }

    pub(super) fn ids(&self) -> Vec<i32> {
        self.held().iter().copied().collect()
    }

    /// Claims rows for as long as somebody wants them. The reason why it ends is in the inbox.
    pub(super) async fn pump(&self, database: &Database) {
        let end = match self.claim(database).await {
            Ok(()) => End::Cancelled,
            Err(failure) => End::Lost(failure.to_string()),
        };
        let unseen: Vec<i32> = self.inbox.end(end).iter().filter_map(|row| i32::try_from(row.id).ok()).collect();
        let statements = &database.statements;
        if unseen.is_empty() {
            return;
        }
        // If it fails, the leases expire.
        let released = on_connection!(database, client => statements.release(client, &self.owner, &unseen, false));
        if released.is_ok() {
            self.let_go(unseen.into_iter());
        }
    }

    async fn claim(&self, database: &Database) -> Result<(), Failure> {
        let statements = &database.statements;
        let mut interval = LOOK_MIN;
        while !self.cancelled.load(Ordering::Relaxed) {
            let wanted = self.credit();
            if wanted == 0 {
                self.wake.notified().await;
                continue;
            }
            let outlook = on_connection!(database, client => statements.outlook(client, self.queue_id))?;
            let mut count = 0;
            if outlook.claimable {
                let rows = on_connection!(
                    database,
                    client => statements.claim(client, self.queue_id, wanted, &self.owner)
                )?;
                count = rows.len();
                self.held().extend(rows.iter().filter_map(|row| i32::try_from(row.id).ok()));
                if count > 0 {
                    self.inbox.put(rows);
                }
            }
            if count > 0 {
                interval = LOOK_MIN;
                continue;
            }
            let due = outlook.due_in_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
            let wait = due.map_or(interval, |due| due.clamp(LOOK_MIN, interval));
            let _ = tokio::time::timeout(wait, self.wake.notified()).await;
            interval = (interval * 2).min(LOOK_MAX);
        }
        Ok(())
    }

    /// Nothing more is to be had here, and nothing that is held will be settled.
    pub(super) fn end(&self, failure: &Failure) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.inbox.end(End::Lost(failure.to_string()));
        self.wake();
    }

    /// Everything goes back, as delivered once: nobody will settle it.
    pub(super) async fn give_back(&self, database: &Database) {
        let ids = self.ids();
        let statements = &database.statements;
        if ids.is_empty() {
            return;
        }
        let released = on_connection!(database, client => statements.release(client, &self.owner, &ids, true));
        if let Err(failure) = released {
            warn!(queue.name = %self.queue, "cannot give back messages: {failure}; their leases will expire");
        }
        self.let_go(ids.into_iter());
    }
}

/// The consumers of one connection.
#[derive(Default)]
pub(super) struct Holds(Mutex<Vec<Weak<Hold>>>);

impl Holds {
    pub(super) fn add(&self, hold: &Arc<Hold>) {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        holds.retain(|hold| hold.strong_count() > 0);
        holds.push(Arc::downgrade(hold));
    }

    fn all(&self) -> Vec<Arc<Hold>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }

    /// Something was published to these queues.
    pub(super) fn wake<'a>(&self, queues: impl Iterator<Item = &'a str>) {
        let holds = self.all();
        if holds.is_empty() {
            return;
        }
        let queues: HashSet<&str> = queues.collect();
        holds.iter().filter(|hold| queues.contains(hold.queue.as_str())).for_each(|hold| hold.wake());
    }

    pub(super) async fn give_back_all(&self, database: &Database, reason: &str) {
        for hold in self.all() {
            hold.cancelled.store(true, Ordering::Relaxed);
            hold.inbox.end(End::Lost(reason.to_owned()));
            hold.wake();
            hold.give_back(database).await;
        }
    }

    fn end(&self, failure: &Failure) {
        self.all().iter().for_each(|hold| hold.end(failure));
    }
}

/// Renews leases, then takes back those of the dead: in this order, so that a process that was stopped for a while
/// does not take from itself. Ends with the connection and its consumers.
pub(super) async fn keep(database: Arc<Database>, holds: Weak<Holds>, lease: Duration) {
    let mut renewed = Instant::now();
    loop {
        tokio::time::sleep(lease / SWEEPS_PER_LEASE).await;
        let Some(holds) = holds.upgrade() else { return };
        let renews = renewed.elapsed() >= lease / RENEWALS_PER_LEASE;
        if renews {
            renewed = Instant::now();
        }
        if let Err(failure) = keep_house(&database, &holds, renews).await {
            if failure.lost {
                holds.end(&failure);
            } else {
                warn!("cannot renew leases of messages: {failure}");
            }
        }
    }
}

async fn keep_house(database: &Database, holds: &Holds, renews: bool) -> Result<(), Failure> {
    let statements = &database.statements;
    for hold in holds.all().into_iter().filter(|_| renews) {
        let ids = hold.ids();
        if ids.is_empty() {
            continue;
        }
        let renewed = on_connection!(database, client => statements.renew(client, &hold.owner, &ids))?;
        // What was settled meanwhile is not missed.
        let held = hold.ids();
        let still = ids.iter().filter(|id| held.contains(id)).count() as u64;
        if let Some(missing) = still.checked_sub(renewed).filter(|missing| *missing > 0) {
            warn!(
                queue.name = %hold.queue,
                "the leases of {missing} messages of queue `{}` have expired: they may run twice", hold.queue
            );
        }
    }
    let reclaimed = on_connection!(database, client => statements.reclaim(client))?;
    if reclaimed > 0 {
        info!(count = reclaimed, "{reclaimed} messages of a worker that has died are delivered again");
    }
    Ok(())
}
