//! The writer's thread: group commit.
//!
//! Everything that waits when a commit begins is part of it (publications, claims, settlements), so
//! that they share one fsync. Answers are given after it.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use tracing::{info, warn};

use super::claimant::Claimant;
use super::failure::{Failure, Kind};
use super::inbox::End;
use super::rows::{self, Claimed};
use super::writer::{Command, Work};

/// How often an idle writer looks whether another process has written something.
const POLL: Duration = Duration::from_millis(10);

/// How long a writer with nobody to serve sleeps if nothing wakes it.
const SLEEP: Duration = Duration::from_secs(3600);

/// After this long in a transaction nothing is added to it: other processes want to write, too.
const TRANSACTION_BUDGET: Duration = Duration::from_millis(40);

/// The pause after a transaction, as a share of its length: SQLite's lock is not fair, and whoever waits
/// for it (a Python client for 5 s) looks only now and then whether it is free.
const WINDOW_SHARE: u32 = 4;
const WINDOW_MAX: Duration = Duration::from_millis(20);

/// How long another process may keep the lock until we give up. Each attempt waits SQLite's own time-out.
const BUSY_PATIENCE: Duration = Duration::from_secs(30);

/// Until a transaction that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Most commands in one transaction.
const COMMANDS_MAX: usize = 512;

/// How much of a lease may pass until it is renewed: 10 s of 30.
const RENEWALS_PER_LEASE: u32 = 3;

/// How often to look for expired leases of others: every 5 s of 30.
const SWEEPS_PER_LEASE: u32 = 6;

pub(super) struct Thread {
    db: Connection,
    received: Receiver<Command>,
    claimants: BTreeMap<u64, Claimant>,
    /// Settlements that could not be committed: they are retried, since their receipts are spent.
    backlog: Vec<Command>,
    lease: Duration,
    renewed_at: Instant,
    swept_at: Option<Instant>,
    data_version: i64,
    /// There is more to do at once.
    again: bool,
    warned_at: Option<Instant>,
}

/// What a transaction came to.
struct Committed {
    answers: Vec<u64>,
    claimed: Vec<(u64, Vec<Claimed>)>,
}

impl Thread {
    pub(super) fn new(db: Connection, received: Receiver<Command>, lease: Duration) -> Self {
        Self {
            db,
            received,
            claimants: BTreeMap::new(),
            backlog: Vec::new(),
            lease,
            renewed_at: Instant::now(),
            swept_at: None,
            data_version: 0,
            again: false,
            warned_at: None,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let first = match self.received.recv_timeout(self.pause()) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut commands = std::mem::take(&mut self.backlog);
            commands.extend(first);
            while commands.len() < COMMANDS_MAX
                && let Ok(command) = self.received.try_recv()
            {
                commands.push(command);
            }
            if let Err(failure) = self.round(commands) {
                self.fail(&failure);
                return;
            }
        }
        self.shut_down();
    }

    /// How long to wait for a command.
    fn pause(&self) -> Duration {
        if !self.backlog.is_empty() {
            return RETRY_PAUSE;
        }
        if self.again {
            return Duration::ZERO;
        }
        if self.claimants.is_empty() {
            return SLEEP;
        }
        if self.claimants.values().any(Claimant::is_hungry) {
            return POLL;
        }
        (self.lease / SWEEPS_PER_LEASE).min(SLEEP)
    }

    /// Does what was asked for and claims what is wanted. An error is the end.
    fn round(&mut self, commands: Vec<Command>) -> Result<(), Failure> {
        let again = std::mem::take(&mut self.again);
        for command in &commands {
            if let Work::SetPrefetch { consumer, prefetch } = &command.work
                && let Some(claimant) = self.claimants.get_mut(consumer)
            {
                claimant.prefetch = *prefetch;
            }
        }
        match self.needs_transaction(&commands, again) {
            Ok(true) => {}
            Ok(false) => return self.answer_reads(commands),
            Err(failure) => return self.after_failure(commands, failure),
        }
        let began = Instant::now();
        match self.transaction(&commands) {
            Ok(committed) => {
                self.after_commit(commands, committed);
                std::thread::sleep((began.elapsed() / WINDOW_SHARE).min(WINDOW_MAX));
                Ok(())
            }
            Err(failure) => self.after_failure(commands, failure),
        }
    }

    fn needs_transaction(&mut self, commands: &[Command], again: bool) -> Result<bool, Failure> {
        if commands.iter().any(|command| command.work.writes())
            || self.renewal_is_due()
            || self.claimants.values().any(|claimant| claimant.is_gone())
        {
            return Ok(true);
        }
        if !self.claimants.is_empty() && self.sweep_is_due() {
            if rows::has_expired(&self.db, now_ms())? {
                return Ok(true);
            }
            self.swept_at = Some(Instant::now());
        }
        let data_version = rows::data_version(&self.db)?;
        let changed = data_version != self.data_version || !commands.is_empty() || again;
        self.data_version = data_version;
        let now_ms = now_ms();
        for claimant in self.claimants.values_mut().filter(|claimant| claimant.is_hungry()) {
            if !changed && claimant.next_due_ms.is_none_or(|due| due > now_ms) {
                continue;
            }
            if rows::has_claimable(&self.db, claimant.queue_id, now_ms)? {
                return Ok(true);
            }
            claimant.next_due_ms = rows::next_due_ms(&self.db, claimant.queue_id)?;
        }
        Ok(false)
    }

    fn renewal_is_due(&self) -> bool {
        self.renewed_at.elapsed() >= self.lease / RENEWALS_PER_LEASE && self.claimants.values().any(Claimant::holds)
    }

    fn sweep_is_due(&self) -> bool {
        self.swept_at.is_none_or(|at| at.elapsed() >= self.lease / SWEEPS_PER_LEASE)
    }

    fn answer_reads(&mut self, commands: Vec<Command>) -> Result<(), Failure> {
        for command in commands {
            let result = self.execute(&command.work).map_err(Failure::from);
            command.answer(result);
        }
        Ok(())
    }

    fn transaction(&mut self, commands: &[Command]) -> Result<Committed, Failure> {
        let patience = Instant::now() + BUSY_PATIENCE;
        while let Err(error) = self.db.execute_batch("BEGIN IMMEDIATE") {
            let failure = Failure::from(error);
            if failure.kind != Kind::Busy || Instant::now() > patience {
                return Err(failure);
            }
        }
        let committed = self.body(commands).and_then(|body| self.db.execute_batch("COMMIT").map(|()| body));
        committed.map_err(|error| {
            // SQLite may have rolled back by itself; then this fails, and nothing is open either way.
            let _ = self.db.execute_batch("ROLLBACK");
            Failure::from(error)
        })
    }

    fn body(&mut self, commands: &[Command]) -> rusqlite::Result<Committed> {
        let began = Instant::now();
        self.keep_house()?;
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            answers.push(self.execute(&command.work)?);
        }
        let mut claimed = Vec::new();
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
        Ok(Committed { answers, claimed })
    }

    /// Renews our leases, then takes back those of the dead: in this order, so that a process that was
    /// stopped for a while does not take from itself.
    fn keep_house(&mut self) -> rusqlite::Result<()> {
        let now_ms = now_ms();
        if self.renewal_is_due() {
            let until_ms = now_ms + self.lease.as_millis() as i64;
            for claimant in self.claimants.values().filter(|claimant| claimant.holds()) {
                let renewed = rows::renew(&self.db, &claimant.owner, until_ms)?;
                claimant.compare(renewed);
            }
            self.renewed_at = Instant::now();
        }
        if self.sweep_is_due() {
            let reclaimed = rows::reclaim(&self.db, now_ms)?;
            if reclaimed > 0 {
                info!(count = reclaimed, "{reclaimed} messages of a worker that has died are delivered again");
            }
            self.swept_at = Some(Instant::now());
        }
        for claimant in self.claimants.values().filter(|claimant| claimant.is_gone()) {
            rows::release(&self.db, &claimant.owner)?;
        }
        Ok(())
    }

    fn execute(&mut self, work: &Work) -> rusqlite::Result<u64> {
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

    fn after_commit(&mut self, commands: Vec<Command>, committed: Committed) {
        self.claimants.retain(|_, claimant| !claimant.is_gone());
        for (id, rows) in committed.claimed {
            if let Some(claimant) = self.claimants.get_mut(&id) {
                claimant.receive(rows);
            }
        }
        for (command, answer) in commands.into_iter().zip(committed.answers) {
            match &command.work {
                Work::Consume(new) => {
                    self.claimants.insert(new.id, Claimant::new(new, answer as i64));
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

    fn after_failure(&mut self, mut commands: Vec<Command>, failure: Failure) -> Result<(), Failure> {
        match failure.kind {
            Kind::Lost | Kind::ReadOnly => {
                commands.into_iter().for_each(|command| command.answer(Err(failure.clone())));
                Err(failure)
            }
            Kind::Busy | Kind::Full => {
                self.warn(&failure);
                for command in commands {
                    if command.work.must_succeed() { self.backlog.push(command) } else { command.answer(Err(failure.clone())) }
                }
                if self.backlog.is_empty() {
                    std::thread::sleep(RETRY_PAUSE);
                }
                Ok(())
            }
            // Nobody asked for what failed: then it fails for ever.
            Kind::Statement if commands.is_empty() => Err(Failure::new(Kind::Lost, failure.to_string())),
            Kind::Statement if commands.len() == 1 => {
                commands.remove(0).answer(Err(failure));
                Ok(())
            }
            // One of them is at fault: each gets a transaction of its own.
            Kind::Statement => commands.into_iter().try_for_each(|command| self.round(vec![command])),
        }
    }

    fn warn(&mut self, failure: &Failure) {
        if self.warned_at.is_none_or(|at| at.elapsed() > BUSY_PATIENCE) {
            self.warned_at = Some(Instant::now());
            warn!(error = %failure, "cannot write to the database: {failure}; trying again");
        }
    }

    /// Tells everybody that there is no more to be had here.
    fn fail(&mut self, failure: &Failure) {
        for claimant in self.claimants.values_mut() {
            claimant.end(End::Lost(failure.to_string()));
        }
        for command in self.backlog.drain(..) {
            command.answer(Err(failure.clone()));
        }
    }

    /// The last owner is gone: gives back what its consumers held.
    fn shut_down(&mut self) {
        let mut commands = std::mem::take(&mut self.backlog);
        commands.retain(|command| command.work.must_succeed());
        // All consumers are gone, since they keep the writer alive: the transaction releases what they held.
        match self.transaction(&commands) {
            Ok(committed) => self.after_commit(commands, committed),
            Err(failure) => {
                warn!(error = %failure, "cannot give back messages: {failure}; their leases will expire");
                commands.into_iter().for_each(|command| command.answer(Err(failure.clone())));
            }
        }
    }
}

impl Work {
    fn writes(&self) -> bool {
        !matches!(self, Self::Depth(_) | Self::SetPrefetch { .. } | Self::LookAgain)
    }

    /// Whoever asked for it cannot ask again.
    fn must_succeed(&self) -> bool {
        matches!(self, Self::Settle { .. } | Self::Cancel { .. } | Self::SetAside { .. } | Self::Close { .. })
    }
}

/// Wall time, which all processes that share the file have in common.
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
