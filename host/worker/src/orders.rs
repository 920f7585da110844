//! What the driver wants committed, in order.
//!
//! Not a channel: the committer takes everything that is there at once, and waits a moment for more while
//! attempts run, which is what makes its batches grow with the load. Bounded by the dispatcher, which starts nothing while `committing_max` commits
//! are open, by the driver, which takes no deliveries then, and by the invoker, which has at most two
//! reports of an attempt open.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use taskhost_core::dispatcher::Kept;
use taskhost_core::revoke::Revocation;
use taskhost_core::settle::Settlement;
use taskhost_core::{Acknowledgement, DeliveryId, ResultRecord, Timestamp};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::put_back::Wait;

/// Least time from one batch to the next while more is about to come. A round trip to a store, with the
/// threads that have to be woken for it, costs the same for one task as for fifty.
const GATHER_MAX: Duration = Duration::from_millis(1);

/// So many orders do not wait for more.
const GATHERED_MAX: usize = 64;

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
    /// Forget that these are revoked.
    Unremember(Vec<Revocation>),
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
    /// Nothing is gained by waiting for more.
    urgent: bool,
    closed: bool,
    /// The committer waits for more, and is not to be woken before it is worth it.
    gathering: bool,
    taken: Option<Instant>,
}

impl Waiting {
    /// Until when to wait for more; `None` if what is there is to be taken now.
    fn gathers_until(&self) -> Option<Instant> {
        if self.urgent || self.closed || self.orders.len() >= GATHERED_MAX {
            return None;
        }
        self.taken.map(|taken| taken + GATHER_MAX).filter(|until| *until > Instant::now())
    }
}

impl Orders {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nobody panics while holding this lock")
    }

    /// Adds these and leaves `orders` empty. `last` if no more will follow before these are carried out,
    /// as far as anybody knows.
    pub(crate) fn push(&self, orders: &mut Vec<Order>, last: bool) {
        let mut waiting = self.waiting();
        waiting.orders.append(orders);
        if waiting.orders.is_empty() {
            return;
        }
        waiting.urgent |= last;
        let wake = !waiting.gathering || waiting.gathers_until().is_none();
        drop(waiting);
        if wake {
            self.arrived.notify_one();
        }
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
            // A guest stands still until this is stored.
            waiting.urgent = true;
            drop(waiting);
            self.arrived.notify_one();
        }
    }

    /// Waits for orders, or a little longer for more of them, and takes all; `None` once it is closed and
    /// empty.
    pub(crate) async fn take(&self) -> Option<Vec<Order>> {
        loop {
            let until = {
                let mut waiting = self.waiting();
                let until = waiting.gathers_until();
                if !waiting.orders.is_empty() && until.is_none() {
                    (waiting.urgent, waiting.gathering, waiting.taken) = (false, false, Some(Instant::now()));
                    return Some(std::mem::take(&mut waiting.orders));
                }
                if waiting.closed {
                    return None;
                }
                waiting.gathering = !waiting.orders.is_empty();
                until.filter(|_| waiting.gathering)
            };
            match until {
                Some(until) => tokio::select! {
                    () = self.arrived.notified() => {}
                    () = sleep_until(until) => {}
                },
                None => self.arrived.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(number: u64) -> Vec<Order> {
        vec![Order::Settle(DeliveryId(number), Acknowledgement::Ack)]
    }

    /// Orders of which one batch was taken already, just now.
    async fn busy() -> Orders {
        let orders = Orders::default();
        orders.push(&mut settle(0), false);
        assert_eq!(orders.take().await.map(|batch| batch.len()), Some(1), "the first does not wait");
        orders
    }

    async fn take(orders: &Orders) -> (usize, Duration) {
        let began = Instant::now();
        let batch = orders.take().await.expect("it is not closed");
        (batch.len(), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn what_follows_a_batch_at_once_waits_for_more() {
        let orders = busy().await;
        orders.push(&mut settle(1), false);
        let (_, (count, waited)) = tokio::join!(async { orders.push(&mut settle(2), false) }, take(&orders));
        assert_eq!(count, 2);
        assert!(!waited.is_zero() && waited <= 2 * GATHER_MAX, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_later_does_not_wait() {
        let orders = busy().await;
        tokio::time::advance(GATHER_MAX).await;
        orders.push(&mut settle(1), false);
        assert_eq!(take(&orders).await, (1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn when_nothing_else_will_come_nobody_waits() {
        let orders = busy().await;
        orders.push(&mut settle(1), true);
        assert_eq!(take(&orders).await, (1, Duration::ZERO));
        orders.push(&mut settle(2), false);
        // Also if that turns out while the committer waits.
        let (_, taken) = tokio::join!(biased; take_later(&orders), take(&orders));
        assert_eq!(taken, (1, Duration::ZERO));
    }

    async fn take_later(orders: &Orders) {
        tokio::task::yield_now().await;
        orders.push(&mut Vec::new(), true);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_batch_does_not_wait() {
        let orders = busy().await;
        let mut many = (1..=GATHERED_MAX as u64).flat_map(settle).collect();
        orders.push(&mut many, false);
        assert_eq!(take(&orders).await, (GATHERED_MAX, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_behind_at_the_end() {
        let orders = busy().await;
        orders.push(&mut settle(1), false);
        orders.close();
        assert_eq!(take(&orders).await, (1, Duration::ZERO));
        assert!(orders.take().await.is_none());
    }
}
