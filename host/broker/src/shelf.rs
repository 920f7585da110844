//! What stands between the task that takes messages from a queue and the consumer who wants them.
//!
//! Both wait here for each other. What is taken when is said by the [stock](crate::stock) and the adapter's pace.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::port::{BrokerError, Delivery};
use crate::stock::{Step, Stock};

/// The taking side of one consumer. `H` is what the adapter knows of a message that is held, `P` what it knows of when
/// to take more.
pub(crate) struct Shelf<H, P> {
    state: Mutex<State<H, P>>,
    arrived: Notify,
    /// For the one task that takes.
    changed: Notify,
    /// For those who wait until what was not handed out is back.
    returned: Notify,
}

/// What is on it, and when to take more: changed together.
pub(crate) struct State<H, P> {
    pub(crate) stock: Stock<H>,
    pub(crate) pace: P,
}

impl<H, P> Shelf<H, P> {
    pub(crate) fn new(prefetch: u32, pace: P) -> Self {
        Self {
            state: Mutex::new(State { stock: Stock::new(prefetch), pace }),
            arrived: Notify::new(),
            changed: Notify::new(),
            returned: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<H, P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides what the taking task does next; `take` does if more messages are wanted.
    pub(crate) fn step(&self, take: impl FnOnce(&mut State<H, P>) -> Step<H>) -> Step<H> {
        let mut state = self.state();
        match state.stock.duty() {
            Some(step) => step,
            None => take(&mut state),
        }
    }

    /// Adds messages, for whoever waits for them.
    pub(crate) fn fill<T>(&self, fill: impl FnOnce(&mut State<H, P>) -> T) -> T {
        let filled = fill(&mut self.state());
        self.arrived.notify_waiters();
        filled
    }

    /// Changes something by which the taking task may do something else.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State<H, P>) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.notify_one();
        changed
    }

    /// Waits until [`Shelf::step`] may say something else.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until messages are there and takes all of them. None: it was cancelled.
    pub(crate) async fn take(&self) -> Result<Option<Vec<Delivery>>, BrokerError> {
        loop {
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            let taken = self.state().stock.take()?;
            if taken.as_ref().is_some_and(Vec::is_empty) {
                arrived.await;
                continue;
            }
            // There is room again if there is no prefetch.
            self.changed.notify_one();
            return Ok(taken);
        }
    }

    /// An error if nothing that was handed out is ours any more.
    pub(crate) fn usable(&self) -> Result<(), BrokerError> {
        self.state().stock.usable()
    }

    /// Those of these that are ours, in this order.
    pub(crate) fn held(&self, numbers: impl IntoIterator<Item = u64>) -> Vec<H>
    where
        H: Clone,
    {
        let state = self.state();
        numbers.into_iter().filter_map(|number| state.stock.get(number).cloned()).collect()
    }

    /// All that are ours and of which this is true.
    pub(crate) fn held_where(&self, is_meant: impl Fn(&H) -> bool) -> Vec<H>
    where
        H: Clone,
    {
        self.state().stock.all().filter(|held| is_meant(held)).cloned().collect()
    }

    /// These are not ours any more. Returns how many were.
    pub(crate) fn release(&self, numbers: impl IntoIterator<Item = u64>) -> usize {
        self.change(|state| numbers.into_iter().filter(|number| state.stock.release(*number)).count())
    }

    pub(crate) fn set_prefetch(&self, prefetch: u32) {
        self.change(|state| state.stock.set_prefetch(prefetch));
    }

    /// Hands out no more, and waits until what nobody has seen is back, or the connection is lost, which is an error.
    pub(crate) async fn cancel(&self) -> Result<(), BrokerError> {
        self.change(|state| state.stock.cancel());
        self.arrived.notify_waiters();
        loop {
            let mut returned = std::pin::pin!(self.returned.notified());
            returned.as_mut().enable();
            if !self.state().stock.has_unseen() {
                return self.usable();
            }
            returned.await;
        }
    }

    /// What [`Step::Return`] named is back.
    pub(crate) fn returned(&self) {
        self.state().stock.set_returned();
        self.returned.notify_waiters();
    }

    /// Everything goes back, and the taking task ends.
    pub(crate) fn end(&self) {
        self.state().stock.end();
        self.wake_all();
    }

    /// Nothing can be done any more. The first reason stays.
    pub(crate) fn lose(&self, reason: &str) {
        self.state().stock.lose(reason);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.arrived.notify_waiters();
        self.returned.notify_waiters();
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use taskhost_core::{DeliveryInfo, Message, QueueName};

    use super::*;
    use crate::port::{Receipt, Token};

    fn put(shelf: &Shelf<u64, ()>, number: u64) {
        let queue = QueueName::parse("q").expect("a name");
        let info = DeliveryInfo { queue, exchange: String::new(), routing_key: String::new(), redelivered: false };
        let receipt = Receipt::new(Token::Number(number));
        let delivery = Delivery { message: Message::default(), info, receipt };
        shelf.fill(|state| state.stock.add(number, number, Some(delivery)));
    }

    #[tokio::test]
    async fn whoever_waits_gets_what_is_put_there() {
        let shelf = Shelf::new(0, ());
        let mut taking = pin!(shelf.take());
        assert!(matches!(futures_util::poll!(&mut taking), Poll::Pending));
        put(&shelf, 7);
        let taken = taking.await.unwrap().unwrap();
        assert_eq!(taken.len(), 1);
        // Whoever takes more is told that there is room.
        shelf.changed().await;
        assert_eq!(shelf.held([8, 7]), [7]);
        assert_eq!((shelf.release([7, 7]), shelf.release([7])), (1, 0));
    }

    #[tokio::test]
    async fn a_cancel_waits_until_what_nobody_has_seen_is_back() {
        let shelf = Shelf::new(0, ());
        put(&shelf, 1);
        let mut cancelling = pin!(shelf.cancel());
        assert!(matches!(futures_util::poll!(&mut cancelling), Poll::Pending));
        shelf.changed().await;
        assert_eq!(shelf.step(|_| Step::Take(1)), Step::Return(vec![1]));
        assert!(matches!(futures_util::poll!(&mut cancelling), Poll::Pending));
        shelf.returned();
        cancelling.await.unwrap();
        assert!(shelf.take().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_loss_ends_all_waits() {
        let shelf = Shelf::<u64, ()>::new(0, ());
        let (mut taking, mut cancelling) = (pin!(shelf.take()), pin!(shelf.cancel()));
        assert!(matches!(futures_util::poll!(&mut taking), Poll::Pending));
        assert!(matches!(futures_util::poll!(&mut cancelling), Poll::Pending));
        shelf.lose("the server has gone");
        for error in [taking.await.unwrap_err(), cancelling.await.unwrap_err(), shelf.usable().unwrap_err()] {
            assert_eq!(error.to_string(), "connection to the broker is lost: the server has gone");
        }
        assert_eq!(shelf.step(|_| Step::Take(1)), Step::Stop);
    }
}
