//! What the keeper, the consumers and the connection know in common.
//!
//! The lock is held for a few lines and never while a disk is waited for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use uuid::Uuid;

use super::failure::Failure;
use super::folders::Folders;
use super::inbox::{End, Inbox, Taken};
use super::options::FilesystemOptions;
use super::table::Binding;
use super::{name, owner, table};
use crate::broadcast::Topic;
use crate::letters::Letters;

/// Most messages that one look takes for somebody, and that wait in an inbox if there is no prefetch.
pub(super) const TAKE_MAX: usize = 256;
/// Most names of which somebody told, until the folder is listed instead.
const FRESH_MAX: usize = 4096;
/// How long closing may take until the rest is left to the lease.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of a node's name in the name of a folder.
const NODE_BYTES_MAX: usize = 64;

/// One connection.
pub(super) struct Shared {
    pub(super) folders: Folders,
    pub(super) lease: Duration,
    pub(super) polling_interval: Duration,
    /// The name of our folder among those of all who take messages.
    pub(super) owner: String,
    state: Mutex<State>,
    woken: Condvar,
    ended: Notify,
    /// Whether the keeper runs; locked while it starts.
    pub(super) started: Mutex<bool>,
}

#[derive(Default)]
struct State {
    takers: BTreeMap<u64, Taker>,
    last_id: u64,
    /// Names of files that somebody told us of.
    fresh: Vec<String>,
    /// There may be files of which nobody told.
    stale: bool,
    woken: bool,
    next_due_ms: Option<u64>,
    broadcasts: HashMap<String, Topic>,
    closed: Option<String>,
    ended: bool,
}

/// Somebody who wants what is in a queue.
struct Taker {
    queue: String,
    purpose: Purpose,
    prefetch: usize,
    /// Its queue is its alone, and goes with it.
    own: Option<(String, Binding)>,
    /// Taken and not settled: names of files.
    held: HashMap<u64, String>,
    /// Those of them that nobody has seen and that go back.
    unseen: Vec<u64>,
    cancelled: bool,
    gone: bool,
}

/// What for.
pub(super) enum Purpose {
    Consume(Weak<Inbox>),
    Listen(Weak<Letters>),
}

pub(super) struct NewTaker {
    pub(super) queue: String,
    pub(super) purpose: Purpose,
    pub(super) prefetch: u32,
    pub(super) own: Option<(String, Binding)>,
}

/// Who wants how much.
pub(super) struct Want {
    pub(super) id: u64,
    pub(super) queue: String,
    pub(super) credit: usize,
    pub(super) letters: Option<Arc<Letters>>,
}

/// What somebody held who is gone.
#[derive(Default)]
pub(super) struct Left {
    /// Files that somebody has seen.
    pub(super) seen: Vec<String>,
    pub(super) unseen: Vec<String>,
    pub(super) own: Option<(String, Binding)>,
}

impl Shared {
    pub(super) fn new(folders: Folders, options: &FilesystemOptions) -> Self {
        let is_plain =
            |character: &char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-' | '@');
        let node: String = options.node.chars().filter(is_plain).take(NODE_BYTES_MAX).collect();
        Self {
            folders,
            lease: options.lease,
            polling_interval: options.polling_interval,
            owner: format!("{node}-{}-{}", std::process::id(), Uuid::new_v4().simple()),
            state: Mutex::new(State { stale: true, ..State::default() }),
            woken: Condvar::new(),
            ended: Notify::new(),
            started: Mutex::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn usable(&self) -> Result<(), Failure> {
        self.state().closed.clone().map_or(Ok(()), |reason| Err(Failure::lost(reason)))
    }

    /// From now on somebody takes from a queue.
    pub(super) fn add(&self, new: NewTaker) -> Result<u64, Failure> {
        self.usable()?;
        let NewTaker { queue, purpose, prefetch, own } = new;
        if let Some((exchange, binding)) = &own {
            table::bind(&self.folders, exchange, binding)?;
        }
        let taker = Taker {
            queue,
            purpose,
            prefetch: prefetch as usize,
            own,
            held: HashMap::new(),
            unseen: Vec::new(),
            cancelled: false,
            gone: false,
        };
        let id = {
            let mut state = self.state();
            state.last_id += 1;
            let id = state.last_id;
            state.takers.insert(id, taker);
            id
        };
        owner::record(self)?;
        // What was there before nobody tells of.
        self.look_again();
        // Closing has seen it, or we see that it has begun.
        self.usable().map(|()| id)
    }

    /// The bindings that go with this connection.
    pub(super) fn own_bindings(&self) -> Vec<(String, Binding)> {
        self.state().takers.values().filter_map(|taker| taker.own.clone()).collect()
    }

    /// Lets the keeper look at what has changed.
    pub(super) fn wake(&self) {
        self.state().woken = true;
        self.woken.notify_all();
    }

    /// Lets the keeper look at everything.
    pub(super) fn look_again(&self) {
        self.state().stale = true;
        self.wake();
    }

    /// Somebody has told of a file.
    pub(super) fn tell(&self, file: &str) {
        let mut state = self.state();
        if !name::queue(file).is_some_and(|queue| state.takers.values().any(|taker| taker.queue == queue)) {
            return;
        }
        if state.fresh.len() < FRESH_MAX {
            state.fresh.push(file.to_owned());
        } else {
            state.stale = true;
        }
        drop(state);
        self.wake();
    }

    /// Waits until somebody wakes us or the time has come.
    pub(super) fn wait(&self, until: Instant) {
        let mut state = self.state();
        while !state.woken && state.closed.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.woken.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.woken = false;
    }

    /// Names of which somebody told since, and whether there may be others.
    pub(super) fn news(&self) -> (Vec<String>, bool) {
        let mut state = self.state();
        (std::mem::take(&mut state.fresh), std::mem::take(&mut state.stale))
    }

    pub(super) fn queues(&self) -> Vec<String> {
        self.state().takers.values().map(|taker| taker.queue.clone()).collect()
    }

    pub(super) fn wants(&self) -> Vec<Want> {
        let state = self.state();
        let wants = state.takers.iter().map(|(id, taker)| Want {
            id: *id,
            queue: taker.queue.clone(),
            credit: taker.credit(),
            letters: taker.letters(),
        });
        wants.filter(|want| want.credit > 0).collect()
    }

    /// Gives files to whoever wanted them; returns those that are not wanted any more.
    pub(super) fn deliver(&self, id: u64, files: Vec<(String, Vec<u8>)>) -> Vec<String> {
        let mut state = self.state();
        let mut token = state.last_id;
        let is_open = state.closed.is_none();
        let taken = match state.takers.get_mut(&id).filter(|taker| is_open && !taker.cancelled && !taker.gone) {
            Some(taker) => taker,
            None => return files.into_iter().map(|(name, _)| name).collect(),
        };
        let Purpose::Consume(inbox) = &taken.purpose else { return Vec::new() };
        let Some(inbox) = inbox.upgrade() else { return files.into_iter().map(|(name, _)| name).collect() };
        let mut messages = Vec::with_capacity(files.len());
        for (name, text) in files {
            token += 1;
            taken.held.insert(token, name);
            messages.push(Taken { token, text });
        }
        state.last_id = token;
        // Within the lock: whoever cancels finds them there.
        inbox.put(messages);
        Vec::new()
    }

    /// The file that a receipt is for.
    pub(super) fn held(&self, id: u64, token: u64) -> Option<String> {
        self.state().takers.get(&id)?.held.get(&token).cloned()
    }

    /// It is settled.
    pub(super) fn release(&self, id: u64, token: u64) {
        if let Some(taker) = self.state().takers.get_mut(&id) {
            taker.held.remove(&token);
        }
    }

    pub(super) fn set_prefetch(&self, id: u64, prefetch: u32) {
        if let Some(taker) = self.state().takers.get_mut(&id) {
            taker.prefetch = prefetch as usize;
        }
        self.wake();
    }

    /// Takes no more, and returns what nobody has seen.
    pub(super) fn cancel(&self, id: u64) -> Vec<(u64, String)> {
        let mut state = self.state();
        let Some(taker) = state.takers.get_mut(&id) else { return Vec::new() };
        taker.end(End::Cancelled);
        let unseen = std::mem::take(&mut taker.unseen);
        unseen.into_iter().filter_map(|token| Some((token, taker.held.get(&token)?.clone()))).collect()
    }

    /// Somebody is gone: the keeper gives back what it held.
    pub(super) fn leave(&self, id: u64) {
        if let Some(taker) = self.state().takers.get_mut(&id) {
            taker.end(End::Cancelled);
            taker.gone = true;
        }
        self.wake();
    }

    /// Those who are gone, or all.
    pub(super) fn left(&self, all: bool) -> Vec<Left> {
        let mut state = self.state();
        let ids: Vec<u64> =
            state.takers.iter().filter(|(_, taker)| all || taker.is_gone()).map(|(id, _)| *id).collect();
        ids.iter().filter_map(|id| state.takers.remove(id)).map(Taker::left).collect()
    }

    /// Takes out one that listened.
    pub(super) fn remove(&self, id: u64) -> Option<(String, Binding)> {
        self.state().takers.remove(&id)?.own
    }

    pub(super) fn note_due(&self, due_ms: u64) {
        let mut state = self.state();
        state.next_due_ms = Some(state.next_due_ms.map_or(due_ms, |next| next.min(due_ms)));
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.state().next_due_ms
    }

    pub(super) fn forget_due(&self) {
        self.state().next_due_ms = None;
    }

    pub(super) fn note_broadcast(&self, exchange: &str, topic: Topic) {
        let mut state = self.state();
        if !state.broadcasts.contains_key(exchange) {
            state.broadcasts.insert(exchange.to_owned(), topic);
        }
    }

    pub(super) fn broadcasts(&self) -> Vec<(String, Topic)> {
        self.state().broadcasts.iter().map(|(exchange, topic)| (exchange.clone(), *topic)).collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed.is_some()
    }

    /// Nothing works from now on; the keeper gives back what is held and ends. The first reason stays.
    pub(super) fn close(&self, reason: &str) {
        {
            let mut state = self.state();
            let reason = state.closed.get_or_insert_with(|| reason.to_owned()).clone();
            for taker in state.takers.values_mut() {
                taker.end(End::Lost(reason.clone()));
            }
        }
        self.wake();
    }

    /// The keeper is done.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.ended.notify_waiters();
    }

    /// Waits until the keeper is done, if there is one.
    pub(super) async fn until_ended(&self) {
        if !*self.started.lock().unwrap_or_else(PoisonError::into_inner) {
            return;
        }
        let ended = async {
            loop {
                let mut ended = std::pin::pin!(self.ended.notified());
                ended.as_mut().enable();
                if self.state().ended {
                    return;
                }
                ended.await;
            }
        };
        // What is not back by then goes back when the lease has run out.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, ended).await;
    }
}

impl Taker {
    fn credit(&self) -> usize {
        if self.cancelled || self.gone {
            return 0;
        }
        match (&self.purpose, self.prefetch) {
            (Purpose::Listen(letters), _) => {
                if letters.strong_count() > 0 {
                    TAKE_MAX
                } else {
                    0
                }
            }
            (Purpose::Consume(inbox), 0) => inbox.upgrade().map_or(0, |inbox| TAKE_MAX.saturating_sub(inbox.len())),
            (Purpose::Consume(_), prefetch) => prefetch.saturating_sub(self.held.len()).min(TAKE_MAX),
        }
    }

    fn letters(&self) -> Option<Arc<Letters>> {
        match &self.purpose {
            Purpose::Listen(letters) => letters.upgrade(),
            Purpose::Consume(_) => None,
        }
    }

    fn is_gone(&self) -> bool {
        self.gone
    }

    fn end(&mut self, end: End) {
        self.cancelled = true;
        match &self.purpose {
            Purpose::Consume(inbox) => {
                if let Some(inbox) = inbox.upgrade() {
                    self.unseen.extend(inbox.end(end));
                }
            }
            Purpose::Listen(letters) => match (letters.upgrade(), end) {
                (Some(letters), End::Lost(reason)) => letters.lose(&reason),
                (Some(letters), End::Cancelled) => letters.close(),
                (None, _) => {}
            },
        }
    }

    fn left(mut self) -> Left {
        let unseen = self.unseen.iter().filter_map(|token| self.held.remove(token)).collect();
        Left { seen: self.held.into_values().collect(), unseen, own: self.own }
    }
}
