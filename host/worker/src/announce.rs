//! Where everything that happens to tasks is told: one funnel for the driver and the committer.
//!
//! Best effort: nothing waits for whoever listens. What monitors want to know is written into a buffer here, and sent by
//! the speaker ([`speak`]) on a connection of its own.

mod buffer;
mod machine;
mod speaker;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taskhost_core::event::{Beat, CustomEvent, EventWriter, Software, Stamp, Vitals};
use taskhost_core::{Event, Happening, NodeName, Publication, Timestamp};
use tokio::sync::Notify;

use self::buffer::Buffer;
pub(crate) use self::speaker::speak;
use crate::lamport::Lamport;
use crate::log;
use crate::tally::Tally;

/// How often a worker says how it is, if somebody asks one that does not say so by itself
/// (celery/worker/control.py `heartbeat`).
const ASKED_INTERVAL: Duration = Duration::from_secs(5);

/// What is told, and as whom.
#[derive(Debug, Clone)]
pub struct EventSettings {
    pub node: NodeName,
    /// The exchange of events (Celery's `event_exchange`).
    pub exchange: String,
    /// Tell what happens to tasks from the start, whatever monitors want.
    pub task_events: bool,
    /// Tell what tasks this worker sends.
    pub sent_events: bool,
    /// How often to say that this worker lives; never, if none.
    pub heartbeat: Option<Duration>,
}

/// Tells whoever wants to know.
#[derive(Debug)]
pub struct Announcer {
    settings: EventSettings,
    writer: EventWriter,
    /// Counts what happens, if somebody asks for numbers.
    tally: Option<Arc<Tally>>,
    /// The wall clock.
    clock: fn() -> Timestamp,
    lamport: Lamport,
    /// Monitors want to know what happens to tasks.
    task_events: AtomicBool,
    /// The broker reaches no monitors.
    mute: AtomicBool,
    buffer: Mutex<Buffer>,
    /// There is something in the buffer, or so much that it should be sent at once.
    filled: Notify,
    /// There may be something to say.
    wanted: Notify,
    beat_wanted: Notify,
    /// Somebody has asked how this worker is.
    asked: AtomicBool,
    dropped: AtomicU64,
    active: AtomicUsize,
    processed: AtomicU64,
}

impl Announcer {
    /// One that has nothing to say yet.
    pub fn new(settings: EventSettings, clock: fn() -> Timestamp) -> Self {
        let software =
            Software { name: "taskhost", version: env!("CARGO_PKG_VERSION"), system: machine::operating_system() };
        Self {
            writer: EventWriter::new(&settings.node, std::process::id(), software),
            tally: None,
            clock,
            lamport: Lamport::default(),
            task_events: AtomicBool::new(settings.task_events),
            mute: AtomicBool::new(false),
            settings,
            buffer: Mutex::default(),
            filled: Notify::new(),
            wanted: Notify::new(),
            beat_wanted: Notify::new(),
            asked: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            active: AtomicUsize::new(0),
            processed: AtomicU64::new(0),
        }
    }

    /// Counts what happens as well.
    pub fn counting(self, tally: Option<Arc<Tally>>) -> Self {
        Self { tally, ..self }
    }

    /// The logical clock of this node.
    pub fn lamport(&self) -> &Lamport {
        &self.lamport
    }

    /// Something happened. Returns at once, whoever listens.
    pub(crate) fn event(&self, event: Event) {
        log::event(&event);
        if let Some(tally) = &self.tally {
            tally.event(&event);
        }
        if matches!(event.what, Happening::Started { .. }) {
            self.processed.fetch_add(1, Ordering::Relaxed);
        }
        if self.tells_of_tasks() {
            self.say(None, |writer, out, stamp| writer.task(out, &event, stamp));
        }
    }

    /// A running task says something by itself.
    pub fn custom(&self, event: &CustomEvent) {
        if !self.tells_of_tasks() {
            return;
        }
        let alone = (!event.is_of_task()).then(|| event.kind());
        self.say(alone, |writer, out, stamp| {
            writer.custom(out, event, stamp);
            true
        });
    }

    /// This node sent something, which may be a task.
    pub(crate) fn sent(&self, publication: &Publication) {
        if self.settings.sent_events && !self.mute.load(Ordering::Relaxed) {
            self.say(Some("task-sent"), |writer, out, stamp| writer.sent(out, publication, stamp));
        }
    }

    /// Whether this node tells what tasks it sends.
    pub(crate) fn tells_what_is_sent(&self) -> bool {
        self.settings.sent_events
    }

    /// Monitors want to know what happens to tasks, or do not any more. True if that changed anything: as in Celery
    /// nothing does where it was said at the start (celery/worker/control.py `enable_events`).
    pub fn switch_task_events(&self, on: bool) -> bool {
        if self.settings.task_events {
            return false;
        }
        let changed = self.task_events.swap(on, Ordering::Relaxed) != on;
        self.wanted.notify_one();
        changed
    }

    /// Says now how this worker is.
    pub fn heartbeat(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.beat_wanted.notify_one();
        self.wanted.notify_one();
    }

    /// How many events were thrown away, since the broker did not take them as fast as they came.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// So many attempts run now.
    pub(crate) fn set_active(&self, attempts: usize) {
        self.active.store(attempts, Ordering::Relaxed);
    }

    fn tells_of_tasks(&self) -> bool {
        self.task_events.load(Ordering::Relaxed) && !self.mute.load(Ordering::Relaxed)
    }

    /// Something is to be said, from the start or by and by.
    fn wants_to_speak(&self) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        asked || self.settings.heartbeat.is_some() || self.settings.sent_events || self.tells_of_tasks()
    }

    /// Says what `write` appends, if it says that it did; `alone`, if it does not travel among the events of tasks.
    fn say(&self, alone: Option<&str>, write: impl FnOnce(&EventWriter, &mut String, Stamp) -> bool) {
        // Stamped and written in one go, so that what is sent first was also said first.
        let added = self.buffer().add(alone, |out| write(&self.writer, out, self.stamp()));
        if added.dropped > 0 {
            self.drop_events(added.dropped);
        }
        if added.wakes {
            self.filled.notify_one();
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp { clock: self.lamport.forward(), at: (self.clock)() }
    }

    /// Nobody will ever hear anything.
    fn mute(&self) {
        self.mute.store(true, Ordering::Relaxed);
        *self.buffer() = Buffer::default();
    }

    fn drop_events(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this worker says about itself.
    fn beat(&self, beat: Beat) -> String {
        let vitals = Vitals {
            interval: self.settings.heartbeat.unwrap_or(ASKED_INTERVAL),
            active: self.active.load(Ordering::Relaxed),
            processed: self.processed.load(Ordering::Relaxed),
            load: machine::load(),
        };
        self.writer.beat(beat, &vitals, self.stamp())
    }
}

#[cfg(test)]
mod tests;
