//! Instances that wait for the next attempt of their plugin, where its manifest asks for that.
//!
//! Whoever runs an attempt decides whether its instance may wait; here it is decided how many do, for how long,
//! and who gets one. An instance is with one attempt or waits here, so that no two ever share it at a time.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use wasmtime::Store;
use wasmtime::component::Instance;

use crate::instance::Guest;
use crate::limits::IDLE_TIME;

/// Room for instances, and those that wait in some of it.
pub(crate) struct Rooms {
    /// One permit for each instance in the pool: an exhausted pool is an error, this is a wait.
    free: Arc<Semaphore>,
    idle: Arc<Mutex<State>>,
    /// As many as attempts run at a time.
    idle_max: usize,
    /// Attempts that wait for room. While any does, no instance waits for work.
    waiting: AtomicUsize,
    /// Drops what has waited for too long. At most one task, which ends with this.
    sweeper: Mutex<JoinSet<()>>,
    lines: AtomicU64,
}

#[derive(Default)]
struct State {
    /// In the order in which they came.
    idle: Vec<Idle>,
    sweeping: bool,
}

/// An instance with its store, which has run attempts.
pub(crate) struct Used {
    // Freed before the room is given back.
    pub(crate) store: Store<Guest>,
    pub(crate) instance: Instance,
    pub(crate) room: OwnedSemaphorePermit,
    /// How many it has run.
    pub(crate) attempts: u32,
}

struct Idle {
    line: u64,
    covered: bool,
    since: Instant,
    used: Used,
}

/// The instances of one version of a plugin, which are gone with it.
pub(crate) struct Line {
    number: u64,
    /// Attempts that one of them may run.
    attempts_max: u32,
    closed: AtomicBool,
    idle: Arc<Mutex<State>>,
}

impl Rooms {
    /// Room for so many instances, of which at most so many wait for work.
    pub(crate) fn new(instances: usize, idle_max: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(instances.min(Semaphore::MAX_PERMITS))),
            idle: Arc::default(),
            idle_max,
            waiting: AtomicUsize::new(0),
            sweeper: Mutex::default(),
            lines: AtomicU64::new(0),
        }
    }

    /// Waits until there is room for one more instance. Those that wait for work make room.
    pub(crate) async fn room(&self) -> OwnedSemaphorePermit {
        if let Ok(room) = Arc::clone(&self.free).try_acquire_owned() {
            return room;
        }
        let _waits = Waits::new(&self.waiting);
        loop {
            let evicted = {
                let idle = &mut lock(&self.idle).idle;
                (!idle.is_empty()).then(|| idle.remove(0))
            };
            if evicted.is_none() {
                break;
            }
            drop(evicted);
            // Somebody else may have been quicker.
            if let Ok(room) = Arc::clone(&self.free).try_acquire_owned() {
                return room;
            }
        }
        Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// For the instances of one version of a plugin.
    pub(crate) fn line(&self, attempts_max: u32) -> Line {
        Line {
            number: self.lines.fetch_add(1, Ordering::Relaxed),
            attempts_max,
            closed: AtomicBool::new(false),
            idle: Arc::clone(&self.idle),
        }
    }

    /// The instance that ran last, of those that were covered by the grant as the next attempt is.
    pub(crate) fn take(&self, line: &Line, covered: bool) -> Option<Used> {
        let idle = &mut lock(&self.idle).idle;
        let at = idle.iter().rposition(|idle| idle.line == line.number && idle.covered == covered)?;
        Some(idle.remove(at).used)
    }

    /// Lets an instance wait for the next attempt, if there will be one for it.
    pub(crate) fn put(&self, line: &Line, covered: bool, used: Used) {
        if used.attempts >= line.attempts_max {
            return;
        }
        let used = Idle { line: line.number, covered, since: Instant::now(), used };
        let (dropped, sweep) = {
            let mut state = lock(&self.idle);
            // Under the lock: whoever comes to wait for room, or closes the line, after this finds it among the idle.
            if self.waiting.load(Ordering::SeqCst) > 0 || line.closed.load(Ordering::SeqCst) {
                (Some(used), false)
            } else {
                state.idle.push(used);
                let surplus = (state.idle.len() > self.idle_max).then(|| state.idle.remove(0));
                (surplus, !std::mem::replace(&mut state.sweeping, true))
            }
        };
        // Not under the lock, since it takes a while.
        drop(dropped);
        if sweep {
            let mut sweeper = lock(&self.sweeper);
            while sweeper.try_join_next().is_some() {}
            sweeper.spawn(drop_the_old(Arc::clone(&self.idle)));
        }
    }

    /// How many wait for work.
    pub(crate) fn idle(&self) -> usize {
        lock(&self.idle).idle.len()
    }
}

/// Drops what has waited for too long, until nothing waits.
async fn drop_the_old(state: Arc<Mutex<State>>) {
    loop {
        let oldest = {
            let mut state = lock(&state);
            state.sweeping = !state.idle.is_empty();
            state.idle.first().map(|idle| idle.since)
        };
        let Some(oldest) = oldest else { return };
        sleep_until(oldest + IDLE_TIME).await;
        let now = Instant::now();
        let old: Vec<Idle> = lock(&state).idle.extract_if(.., |idle| now >= idle.since + IDLE_TIME).collect();
        drop(old);
    }
}

impl Line {
    /// No instance of this waits any more: its version is not served.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let gone: Vec<Idle> = lock(&self.idle).idle.extract_if(.., |idle| idle.line == self.number).collect();
        drop(gone);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.close();
    }
}

struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
