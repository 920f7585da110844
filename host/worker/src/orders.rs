//! What the driver wants committed, in order.
//!
//! Not a channel: the committer takes everything that is there at once, which is what makes its batches
//! grow with the load. Bounded by the dispatcher, which starts nothing while `committing_max` commits
//! are open, by the driver, which takes no deliveries then, and by the invoker, which has at most two
//! reports of an attempt open.

use std::sync::{Arc, Mutex};

use taskhost_core::dispatcher::Kept;
use taskhost_core::revoke::Revocation;
use taskhost_core::settle::Settlement;
use taskhost_core::{Acknowledgement, DeliveryId, ResultRecord, Timestamp};
use tokio::sync::{Notify, oneshot};

use crate::put_back::Wait;

/// One thing to be done by the committer.
#[derive(Debug)]
pub(crate) enum Order {
    Commit(DeliveryId, Settlement),
    Settle(DeliveryId, Acknowledgement),
    Record(ResultRecord),
    /// A state that a running task gave itself, and who wants to know that it is stored.
    Report(ResultRecord, oneshot::Sender<Result<(), String>>),
    PutBack(Wait),
    /// Keep this message, then tell the broker that it is done with.
    Journal(DeliveryId, Kept),
    /// Keep these for the next start of this worker.
    Remember(Vec<(Revocation, Timestamp)>),
    /// The deliveries of this execution need no longer be counted.
    ForgetCount(String),
}

/// Where an [`Invoker`](crate::Invoker) hands over the states that running tasks give themselves. They
/// are stored in line with everything else, so that no state of a task overtakes another.
#[derive(Default)]
pub struct Reports(pub(crate) Arc<Orders>);

impl Reports {
    /// Takes over a state of an attempt that has not been answered yet, and answers when it is stored.
    pub fn put(&self, record: ResultRecord) -> oneshot::Receiver<Result<(), String>> {
        let (answer, answered) = oneshot::channel();
        self.0.report(record, answer);
        answered
    }
}

/// The orders that nobody has taken yet.
#[derive(Default)]
pub(crate) struct Orders {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    orders: Vec<Order>,
    closed: bool,
}

impl Orders {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nobody panics while holding this lock")
    }

    /// Adds these and leaves `orders` empty.
    pub(crate) fn push(&self, orders: &mut Vec<Order>) {
        if orders.is_empty() {
            return;
        }
        self.waiting().orders.append(orders);
        self.arrived.notify_one();
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.waiting().closed = true;
        self.arrived.notify_one();
    }

    /// Puts a report in line. One that comes too late is answered by its sender being gone.
    fn report(&self, record: ResultRecord, answer: oneshot::Sender<Result<(), String>>) {
        let mut waiting = self.waiting();
        if !waiting.closed {
            waiting.orders.push(Order::Report(record, answer));
            drop(waiting);
            self.arrived.notify_one();
        }
    }

    /// Waits for orders and takes all; `None` once it is closed and empty.
    pub(crate) async fn take(&self) -> Option<Vec<Order>> {
        loop {
            {
                let mut waiting = self.waiting();
                if !waiting.orders.is_empty() {
                    return Some(std::mem::take(&mut waiting.orders));
                }
                if waiting.closed {
                    return None;
                }
            }
            self.arrived.notified().await;
        }
    }
}
