//! The writer's thread: group commit.
//!
//! Everything that waits when a commit begins is part of it (publications, claims, settlements), so
//! that they share one fsync. Answers are given after it.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tracing::warn;

use super::claimant::Claimant;
use super::clock::WallClock;
use super::commit::{SWEEPS_PER_LEASE, now_ms};
use super::failure::{Failure, Kind};
use super::rows;
use super::writer::{Command, Work};
use crate::sqlalchemy::End;

/// How often an idle writer looks whether another process has written something.
const POLL: Duration = Duration::from_millis(10);

/// How long a writer with nobody to serve sleeps if nothing wakes it.
const SLEEP: Duration = Duration::from_secs(3600);

/// The pause after a transaction, as a share of its length: SQLite's lock is not fair, and whoever waits
/// for it (a Python client for 5 s) looks only now and then whether it is free.
const WINDOW_SHARE: u32 = 4;
const WINDOW_MAX: Duration = Duration::from_millis(20);

/// Until a transaction that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How much is written in one transaction: in rows, or as many bytes as take as long.
const WEIGHT_MAX: usize = 2000;
const BYTES_PER_ROW: usize = 4096;

/// How long another process may keep the lock until we give up. Each attempt waits SQLite's own time-out.
const BUSY_PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Thread {
    pub(super) db: Connection,
    pub(super) claimants: BTreeMap<u64, Claimant>,
    pub(super) lease: Duration,
    /// How long to wait for the lock, besides SQLite's own time-out.
    pub(super) patience: Duration,
    pub(super) renewed_at: Instant,
    pub(super) swept_at: Option<Instant>,
    pub(super) clock: WallClock,
    /// There is more to do at once.
    pub(super) again: bool,
    received: Receiver<Command>,
    /// Settlements that could not be committed: they are retried, since their receipts are spent.
    backlog: Vec<Command>,
    data_version: i64,
    warned_at: Option<Instant>,
}

/// Whether a transaction also claims what the consumers want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claims {
    Too,
    Not,
}

impl Thread {
    pub(super) fn new(db: Connection, received: Receiver<Command>, lease: Duration) -> Self {
        Self {
            db,
            claimants: BTreeMap::new(),
            lease,
            patience: BUSY_PATIENCE,
            renewed_at: Instant::now(),
            swept_at: None,
            clock: WallClock::default(),
            again: false,
            received,
            backlog: Vec::new(),
            data_version: 0,
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
            let result = match std::mem::take(&mut self.backlog) {
                backlog if backlog.is_empty() => Ok(()),
                // By themselves: on a full disk they may succeed where nothing else does.
                backlog => self.round(backlog, Claims::Not),
            };
            let commands = self.collect(first);
            if let Err(failure) = result.and_then(|()| self.round(commands, Claims::Too)) {
                self.fail(&failure);
                return;
            }
        }
        self.shut_down();
    }

    /// What waits, as far as one transaction can take it.
    fn collect(&self, first: Option<Command>) -> Vec<Command> {
        let mut commands: Vec<_> = first.into_iter().collect();
        let mut weight: usize = commands.iter().map(|command| command.work.weight()).sum();
        while weight < WEIGHT_MAX
            && let Ok(command) = self.received.try_recv()
        {
            weight += command.work.weight();
            commands.push(command);
        }
        commands
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
    fn round(&mut self, commands: Vec<Command>, claims: Claims) -> Result<(), Failure> {
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
        match self.transaction(&commands, claims) {
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
            if self.clock.judges(now_ms(), Instant::now(), self.lease) && rows::has_expired(&self.db, now_ms())? {
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

    fn answer_reads(&mut self, commands: Vec<Command>) -> Result<(), Failure> {
        for command in commands {
            let result = self.execute(&command.work).map_err(Failure::from);
            command.answer(result);
        }
        Ok(())
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
                    if command.work.must_succeed() {
                        self.backlog.push(command);
                    } else if command.work.writes() {
                        command.answer(Err(failure.clone()));
                    } else {
                        let result = self.execute(&command.work).map_err(Failure::from);
                        command.answer(result);
                    }
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
            Kind::Statement => commands.into_iter().try_for_each(|command| self.round(vec![command], Claims::Not)),
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
        self.patience = Duration::ZERO;
        match self.transaction(&commands, Claims::Not) {
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

    fn weight(&self) -> usize {
        match self {
            Self::Publish(rows) => rows.iter().map(|row| 1 + row.payload.len() / BYTES_PER_ROW).sum(),
            Self::Settle { receipts, .. } => receipts.len(),
            Self::PutBack { rows, .. } => rows.len(),
            _ => 1,
        }
    }

    /// Whoever asked for it cannot ask again.
    fn must_succeed(&self) -> bool {
        matches!(self, Self::Settle { .. } | Self::Cancel { .. } | Self::SetAside { .. } | Self::Close { .. })
    }
}
