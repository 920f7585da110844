//! One transaction of the writer: what it does, and what follows from it once it is on disk.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::info;

use super::claimant::Claimant;
use super::failure::{Failure, Kind};
use super::rows;
use super::thread::{Claims, Thread};
use super::writer::{Command, Work};
use crate::sqlalchemy::{Claimed, End};

/// After this long in a transaction nothing is added to it: other processes want to write, too.
const TRANSACTION_BUDGET: Duration = Duration::from_millis(40);

/// How much of a lease may pass until it is renewed: 10 s of 30.
const RENEWALS_PER_LEASE: u32 = 3;

/// How often to look for expired leases of others: every 5 s of 30.
pub(super) const SWEEPS_PER_LEASE: u32 = 6;

/// What a transaction came to.
pub(super) struct Committed {
    answers: Vec<u64>,
    claimed: Vec<(u64, Vec<Claimed>)>,
    house: Housekeeping,
}

/// What was done besides.
#[derive(Default)]
struct Housekeeping {
    renewed: bool,
    swept: bool,
    /// Consumers that are gone, with what they held given back.
    released: Vec<u64>,
}

impl Thread {
    pub(super) fn renewal_is_due(&self) -> bool {
        self.renewed_at.elapsed() >= self.lease / RENEWALS_PER_LEASE && self.claimants.values().any(Claimant::holds)
    }

    pub(super) fn sweep_is_due(&self) -> bool {
        self.swept_at.is_none_or(|at| at.elapsed() >= self.lease / SWEEPS_PER_LEASE)
    }

    pub(super) fn transaction(&mut self, commands: &[Command], claims: Claims) -> Result<Committed, Failure> {
        let patience = Instant::now() + self.patience;
        while let Err(error) = self.db.execute_batch("BEGIN IMMEDIATE") {
            let failure = Failure::from(error);
            if failure.kind != Kind::Busy || Instant::now() > patience {
                return Err(failure);
            }
        }
        let committed = self.body(commands, claims).and_then(|body| self.db.execute_batch("COMMIT").map(|()| body));
        committed.map_err(|error| {
            // SQLite may have rolled back by itself; then this fails, and nothing is open either way.
            let _ = self.db.execute_batch("ROLLBACK");
            Failure::from(error)
        })
    }

    fn body(&mut self, commands: &[Command], claims: Claims) -> rusqlite::Result<Committed> {
        let began = Instant::now();
        let house = self.keep_house()?;
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            answers.push(self.execute(&command.work)?);
        }
        let mut claimed = Vec::new();
        if claims == Claims::Not {
            self.again = true;
            return Ok(Committed { answers, claimed, house });
        }
        let now_ms = now_ms();
        let until_ms = now_ms + self.lease.as_millis() as i64;
        for (id, claimant) in &mut self.claimants {
            let wanted = claimant.credit();
            if wanted == 0 {
                continue;
            }
            if began.elapsed() > TRANSACTION_BUDGET {
                self.again = true;
                break;
            }
            let rows = rows::claim(&self.db, claimant.queue_id, wanted, &claimant.owner, now_ms, until_ms)?;
            claimant.next_due_ms = rows::next_due_ms(&self.db, claimant.queue_id)?;
            self.again |= !rows.is_empty();
            claimed.push((*id, rows));
        }
        Ok(Committed { answers, claimed, house })
    }

    /// Renews our leases, then takes back those of the dead: in this order, so that a process that was
    /// stopped for a while does not take from itself.
    fn keep_house(&mut self) -> rusqlite::Result<Housekeeping> {
        let mut house = Housekeeping::default();
        let now_ms = now_ms();
        if self.renewal_is_due() {
            let until_ms = now_ms + self.lease.as_millis() as i64;
            for claimant in self.claimants.values().filter(|claimant| claimant.holds()) {
                let renewed = rows::renew(&self.db, &claimant.owner, until_ms)?;
                claimant.compare(renewed);
            }
            house.renewed = true;
        }
        if self.sweep_is_due() && self.clock.judges(now_ms, Instant::now(), self.lease) {
            let reclaimed = rows::reclaim(&self.db, now_ms)?;
            if reclaimed > 0 {
                info!(count = reclaimed, "{reclaimed} messages of a worker that has died are delivered again");
            }
            house.swept = true;
        }
        for (id, claimant) in self.claimants.iter().filter(|(_, claimant)| claimant.is_gone()) {
            rows::release(&self.db, &claimant.owner)?;
            house.released.push(*id);
        }
        Ok(house)
    }

    pub(super) fn execute(&mut self, work: &Work) -> rusqlite::Result<u64> {
        let db = &self.db;
        match work {
            Work::Declare(queue) => rows::ensure_queue(db, queue.as_str()).map(|_| 0),
            Work::Publish(new) => rows::insert(db, new).map(|()| 0),
            Work::Depth(queue) => match rows::find_queue(db, queue.as_str())? {
                Some(queue) => rows::depth(db, queue).map(|count| count as u64),
                None => Ok(0),
            },
            Work::Purge(queue) => match rows::find_queue(db, queue.as_str())? {
                Some(queue) => rows::purge(db, queue).map(|count| count as u64),
                None => Ok(0),
            },
            Work::Consume(new) => rows::ensure_queue(db, new.queue.as_str()).map(|id| id as u64),
            Work::Settle { consumer, owner, receipts } => {
                let mut claimant = self.claimants.get_mut(consumer);
                for (row, acknowledgement) in receipts {
                    rows::settle(db, *row, owner, *acknowledgement)?;
                    if let Some(claimant) = &mut claimant {
                        claimant.held.remove(row);
                    }
                }
                Ok(0)
            }
            Work::PutBack { owner, rows, .. } => {
                rows.iter().try_for_each(|(row, eta_ms)| rows::put_back(db, *row, owner, *eta_ms)).map(|()| 0)
            }
            Work::Cancel { consumer } => {
                if let Some(claimant) = self.claimants.get_mut(consumer) {
                    claimant.end(End::Cancelled);
                    rows::give_back(db, &claimant.returning, &claimant.owner)?;
                }
                Ok(0)
            }
            Work::Close { connection } => {
                let reason = "the connection was closed";
                for claimant in self.claimants.values_mut().filter(|it| it.connection == *connection) {
                    claimant.end(End::Lost(reason.to_owned()));
                    rows::give_back(db, &claimant.returning, &claimant.owner)?;
                    rows::release(db, &claimant.owner)?;
                }
                Ok(0)
            }
            Work::SetAside { consumer, row } => {
                if let Some(claimant) = self.claimants.get_mut(consumer) {
                    claimant.held.remove(row);
                }
                rows::set_aside(db, *row).map(|()| 0)
            }
            Work::SetPrefetch { .. } | Work::LookAgain => Ok(0),
        }
    }

    pub(super) fn after_commit(&mut self, commands: Vec<Command>, committed: Committed) {
        let Committed { answers, claimed, house } = committed;
        let now = Instant::now();
        // A lease begins with its claim: the first one after a pause needs no renewal.
        if house.renewed || !self.claimants.values().any(Claimant::holds) {
            self.renewed_at = now;
        }
        if house.swept {
            self.swept_at = Some(now);
        }
        for id in house.released {
            self.claimants.remove(&id);
        }
        for (id, rows) in claimed {
            if let Some(claimant) = self.claimants.get_mut(&id) {
                claimant.receive(rows);
            }
        }
        for (command, answer) in commands.into_iter().zip(answers) {
            match &command.work {
                Work::Consume(new) => {
                    self.claimants.insert(new.id, Claimant::new(new, answer as i64));
                    self.again = true;
                }
                // Not before: if the transaction fails, they are still held.
                Work::PutBack { consumer, rows, .. } => {
                    if let Some(claimant) = self.claimants.get_mut(consumer) {
                        for (row, _) in rows {
                            claimant.held.remove(row);
                        }
                    }
                    self.again = true;
                }
                Work::Cancel { consumer } => {
                    if let Some(claimant) = self.claimants.get_mut(consumer) {
                        claimant.returned();
                    }
                }
                Work::Close { connection } => self.claimants.retain(|_, claimant| claimant.connection != *connection),
                _ => {}
            }
            command.answer(Ok(answer));
        }
    }
}

/// Wall time, which all processes that share the file have in common.
pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
