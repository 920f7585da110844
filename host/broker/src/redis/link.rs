//! What all parts of one connected broker share: its connection, its name among the owners, its end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use taskhost_core::protocol::envelope;
use taskhost_core::{DeliveryInfo, QueueName};
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::RedisOptions;
use super::bindings::Bindings;
use super::connection::Connection;
use super::failure::Failure;
use super::intake::Intake;
use super::layout::Layout;
use crate::letters::Letters;
use crate::port::{Delivery, Receipt, Token};

/// The prefix of tags of messages that wait for their time: they belong to no owner.
pub(super) const DELAYED: &str = "thd-";

/// A connected broker, for those who take, keep and sweep.
pub(super) struct Link {
    /// For taking and settling. Publishing has a connection of its own.
    pub(super) connection: Connection,
    pub(super) layout: Layout,
    pub(super) bindings: Bindings,
    pub(super) options: RedisOptions,
    /// The prefix of the tags of what we hold, by which others find it when we are dead.
    pub(super) owner: String,
    pub(super) signals: Arc<Signals>,
    /// The server tells us when something is put into a list that we look at.
    pub(super) is_told: bool,
    /// Something will be due soon.
    pub(super) due: Notify,
    next_number: AtomicU64,
}

/// What is known before the connection is: who listens, and whether it is lost.
#[derive(Default)]
pub(super) struct Signals {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    intakes: Vec<Weak<Intake>>,
    letters: Vec<Weak<Letters>>,
    lost: Option<String>,
}

impl Link {
    pub(super) fn new(
        connection: Connection,
        layout: Layout,
        options: RedisOptions,
        signals: Arc<Signals>,
        is_told: bool,
    ) -> Self {
        let random = uuid::Uuid::new_v4().simple().to_string();
        Self {
            connection,
            bindings: Bindings::new(layout.clone()),
            layout,
            options,
            owner: format!("th-{}-", &random[..16]),
            signals,
            is_told,
            due: Notify::new(),
            next_number: AtomicU64::new(1),
        }
    }

    pub(super) fn tag(&self, number: u64) -> String {
        format!("{}{number}", self.owner)
    }

    /// The first of so many numbers that nobody else uses.
    pub(super) fn numbers(&self, count: usize) -> u64 {
        self.next_number.fetch_add(count as u64, Ordering::Relaxed)
    }

    pub(super) fn lease(&self) -> Duration {
        self.options.lease
    }

    /// Ends everything if the failure is the end of the connection.
    pub(super) fn note(&self, failure: Failure) -> Failure {
        if failure.lost {
            self.signals.lose(&failure.to_string());
        }
        failure
    }
}

impl Signals {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, intake: &Arc<Intake>) {
        let mut state = self.state();
        state.intakes.retain(|known| known.strong_count() > 0);
        state.intakes.push(Arc::downgrade(intake));
        if let Some(reason) = &state.lost {
            intake.shelf.lose(reason);
        }
    }

    /// An inbox ends with the rest.
    pub(super) fn add_letters(&self, letters: &Arc<Letters>) {
        let mut state = self.state();
        state.letters.retain(|known| known.strong_count() > 0);
        state.letters.push(Arc::downgrade(letters));
        if let Some(reason) = &state.lost {
            letters.lose(reason);
        }
    }

    pub(super) fn intakes(&self) -> Vec<Arc<Intake>> {
        self.state().intakes.iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn lost(&self) -> Option<Failure> {
        self.state().lost.clone().map(Failure::lost)
    }

    /// The connection is gone: consumers end, and what they hold goes to others when its lease is over.
    pub(super) fn lose(&self, reason: &str) {
        let mut state = self.state();
        if state.lost.is_none() {
            debug!(reason, "connection to Redis is given up: {reason}");
            state.lost = Some(reason.to_owned());
        }
        let letters = std::mem::take(&mut state.letters);
        drop(state);
        for letters in letters.iter().filter_map(Weak::upgrade) {
            letters.lose(reason);
        }
        for intake in self.intakes() {
            intake.shelf.lose(reason);
        }
        self.ended.notify_waiters();
    }

    /// Returns when the connection is lost.
    pub(super) async fn until_lost(&self) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.state().lost.is_some() {
                return;
            }
            ended.await;
        }
    }

    /// Hears what the server says by itself.
    pub(super) fn hear(&self, info: PushInfo) {
        match info.kind {
            PushKind::Disconnection => self.lose("the server closed the connection"),
            // Without keys: all of them.
            PushKind::Invalidate => match info.data.into_iter().next() {
                Some(Value::Array(keys)) => self.wake(&keys),
                _ => self.intakes().iter().for_each(|intake| intake.wake()),
            },
            PushKind::PMessage => self.hear_broadcast(&info.data),
            _ => {}
        }
    }

    fn wake(&self, keys: &[Value]) {
        for intake in self.intakes() {
            let is_meant = |key: &Value| match key {
                Value::BulkString(key) => intake.lists.iter().any(|list| list.as_bytes() == key),
                _ => false,
            };
            if keys.iter().any(is_meant) {
                intake.wake();
            }
        }
    }

    /// Pattern, channel, envelope.
    fn hear_broadcast(&self, data: &[Value]) {
        let [Value::BulkString(pattern), Value::BulkString(channel), Value::BulkString(text)] = data else { return };
        for intake in self.intakes() {
            if !intake.channels.iter().flatten().any(|channels| channels.as_bytes() == pattern) {
                continue;
            }
            match broadcast(&intake.queue, text) {
                Ok(delivery) => {
                    if !intake.receive_broadcast(delivery) {
                        let queue = &intake.queue;
                        warn!(queue.name = %queue, "a message of broadcast queue `{queue}` was dropped: too many wait");
                    }
                }
                Err(reason) => {
                    let channel = String::from_utf8_lossy(channel);
                    warn!(error = %reason, "what came by channel `{channel}` is no message ({reason})");
                }
            }
        }
    }
}

fn broadcast(queue: &QueueName, text: &[u8]) -> Result<Delivery, envelope::EnvelopeError> {
    let envelope = envelope::decode(text)?;
    let info = DeliveryInfo {
        queue: queue.clone(),
        exchange: envelope.route.exchange,
        routing_key: envelope.route.routing_key,
        redelivered: false,
    };
    // Nobody settles it, but every receipt is different.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let token = Token::Text(NUMBER.fetch_add(1, Ordering::Relaxed).to_string().into());
    Ok(Delivery { message: envelope.message, info, receipt: Receipt::new(token) })
}
