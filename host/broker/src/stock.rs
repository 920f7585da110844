//! What was taken from a queue for one consumer: ready until it is handed out, held until it is settled.
//!
//! Only says what there is to do. How messages are taken, given back and kept ours is the adapter's, and who waits
//! for whom is the [shelf's](crate::shelf).

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use crate::port::{BrokerError, Delivery};

/// Most messages that wait to be handed out if there is no prefetch: so many bodies are in memory at once.
pub(crate) const READY_MAX: usize = 128;

/// The messages of one consumer. `H` is what the adapter knows of one that is held.
#[derive(Debug)]
pub(crate) struct Stock<H> {
    ready: VecDeque<Delivery>,
    /// Taken and not settled, those that are ready included.
    held: HashMap<u64, H>,
    prefetch: usize,
    phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Taking,
    Cancelled {
        returned: bool,
    },
    /// The consumer was dropped, or the connection is being closed.
    Ending,
    Lost(String),
}

/// What the task that takes has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<H> {
    /// Take so many messages.
    Take(usize),
    /// Wait for a change, and at the longest until then.
    Wait(Option<Instant>),
    /// Give these back as if nobody had seen them, then say that they are back.
    Return(Vec<H>),
    /// Give these back, and end.
    End {
        seen: Vec<H>,
        unseen: Vec<H>,
    },
    Stop,
}

impl<H> Stock<H> {
    pub(crate) fn new(prefetch: u32) -> Self {
        Self { ready: VecDeque::new(), held: HashMap::new(), prefetch: prefetch as usize, phase: Phase::Taking }
    }

    /// What is to be done whether or not there are more messages. None: they are wanted, if there is
    /// [room](Stock::room).
    pub(crate) fn duty(&mut self) -> Option<Step<H>> {
        match &self.phase {
            Phase::Lost(_) => Some(Step::Stop),
            Phase::Ending => {
                let unseen = self.take_unseen();
                Some(Step::End { seen: self.held.drain().map(|(_, held)| held).collect(), unseen })
            }
            Phase::Cancelled { returned: true } => Some(Step::Wait(None)),
            Phase::Cancelled { returned: false } => Some(Step::Return(self.take_unseen())),
            Phase::Taking => None,
        }
    }

    /// For how many more messages there is room, if so many are on their way.
    pub(crate) fn room(&self, coming: usize) -> usize {
        match self.prefetch {
            0 => READY_MAX.saturating_sub(self.ready.len() + coming),
            prefetch => prefetch.saturating_sub(self.held.len() + coming),
        }
    }

    /// Adds a message that was taken; without a delivery it is held but handed out to nobody.
    pub(crate) fn add(&mut self, number: u64, held: H, delivery: Option<Delivery>) {
        self.held.insert(number, held);
        self.ready.extend(delivery);
        if let Phase::Cancelled { returned } = &mut self.phase {
            *returned = false;
        }
    }

    /// Adds a message that nobody settles, unless nobody wants it. At most so many are ready: returns false if an
    /// older one had to go.
    pub(crate) fn add_unheld(&mut self, delivery: Delivery, most: usize) -> bool {
        if self.phase != Phase::Taking {
            return true;
        }
        let fits = self.ready.len() < most;
        if !fits {
            self.ready.pop_front();
        }
        self.ready.push_back(delivery);
        fits
    }

    /// Hands out what is ready. None: it was cancelled, and nothing comes any more.
    pub(crate) fn take(&mut self) -> Result<Option<Vec<Delivery>>, BrokerError> {
        self.usable()?;
        Ok((self.phase == Phase::Taking).then(|| std::mem::take(&mut self.ready).into()))
    }

    /// An error if what is held is held no more.
    pub(crate) fn usable(&self) -> Result<(), BrokerError> {
        let lost = |reason: &str| Err(BrokerError::Lost { reason: reason.to_owned() });
        match &self.phase {
            Phase::Taking | Phase::Cancelled { .. } => Ok(()),
            Phase::Ending => lost("it was closed"),
            Phase::Lost(reason) => lost(reason),
        }
    }

    pub(crate) fn get(&self, number: u64) -> Option<&H> {
        self.held.get(&number)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut H> {
        self.held.get_mut(&number)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &H> {
        self.held.values()
    }

    /// This one is not ours any more. True if it was.
    pub(crate) fn release(&mut self, number: u64) -> bool {
        self.held.remove(&number).is_some()
    }

    pub(crate) fn set_prefetch(&mut self, prefetch: u32) {
        self.prefetch = prefetch as usize;
    }

    /// No more is wanted, and what nobody has seen goes back.
    pub(crate) fn cancel(&mut self) {
        if self.phase == Phase::Taking {
            self.phase = Phase::Cancelled { returned: false };
        }
    }

    /// What [`Step::Return`] named is back.
    pub(crate) fn set_returned(&mut self) {
        if let Phase::Cancelled { returned } = &mut self.phase {
            *returned = true;
        }
    }

    /// Whether a cancelled consumer still has what nobody has seen, or one is not cancelled at all.
    pub(crate) fn has_unseen(&self) -> bool {
        matches!(self.phase, Phase::Taking | Phase::Cancelled { returned: false })
    }

    /// Everything goes back.
    pub(crate) fn end(&mut self) {
        if !matches!(self.phase, Phase::Lost(_)) {
            self.phase = Phase::Ending;
        }
    }

    /// Nothing can be done any more. The first reason stays.
    pub(crate) fn lose(&mut self, reason: &str) {
        if !matches!(self.phase, Phase::Lost(_)) {
            self.phase = Phase::Lost(reason.to_owned());
        }
        self.ready.clear();
    }

    /// Those that nobody has seen, which are held no more.
    fn take_unseen(&mut self) -> Vec<H> {
        let numbers = self.ready.drain(..).filter_map(|delivery| delivery.receipt.number());
        numbers.filter_map(|number| self.held.remove(&number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use taskhost_core::{DeliveryInfo, Message, QueueName};

    use super::*;
    use crate::port::{Receipt, Token};

    fn delivery(token: Token) -> Delivery {
        let queue = QueueName::parse("q").expect("a name");
        let info = DeliveryInfo { queue, exchange: String::new(), routing_key: String::new(), redelivered: false };
        Delivery { message: Message::default(), info, receipt: Receipt::new(token) }
    }

    fn stock(prefetch: u32, numbers: std::ops::Range<u64>) -> Stock<u64> {
        let mut stock = Stock::new(prefetch);
        numbers.for_each(|number| stock.add(number, number, Some(delivery(Token::Number(number)))));
        stock
    }

    fn taken(stock: &mut Stock<u64>) -> usize {
        stock.take().expect("it is not lost").expect("it is not cancelled").len()
    }

    #[test]
    fn a_prefetch_counts_what_is_not_settled_and_what_is_coming() {
        let mut stock = stock(10, 0..4);
        assert_eq!((stock.room(0), stock.room(5), stock.room(9)), (6, 1, 0));
        assert_eq!(taken(&mut stock), 4);
        assert_eq!(stock.room(0), 6, "what is handed out is still held");
        assert!(stock.release(0) && !stock.release(0));
        assert_eq!(stock.room(0), 7);
        stock.set_prefetch(2);
        assert_eq!(stock.room(0), 0);
    }

    #[test]
    fn without_a_prefetch_only_what_nobody_has_taken_counts() {
        let mut stock = stock(0, 0..100);
        assert_eq!((stock.room(0), stock.room(20)), (28, 8));
        assert_eq!(taken(&mut stock), 100);
        assert_eq!(stock.room(0), READY_MAX);
    }

    #[test]
    fn a_cancel_gives_back_what_nobody_has_seen_and_keeps_the_rest() {
        let mut stock = stock(0, 0..2);
        assert_eq!((taken(&mut stock), stock.duty()), (2, None));
        stock.add(2, 2, Some(delivery(Token::Number(2))));
        stock.cancel();
        assert!(stock.take().unwrap().is_none());
        assert!(stock.has_unseen());
        assert_eq!(stock.duty(), Some(Step::Return(vec![2])));
        stock.set_returned();
        assert!(!stock.has_unseen());
        assert_eq!(stock.duty(), Some(Step::Wait(None)));
        // It was on its way.
        stock.add(3, 3, Some(delivery(Token::Number(3))));
        assert_eq!(stock.duty(), Some(Step::Return(vec![3])));
        assert!(stock.get(0).is_some() && stock.get(2).is_none());
        stock.usable().expect("what was handed out can be settled");
    }

    #[test]
    fn the_end_gives_back_all_and_tells_what_was_seen() {
        let mut stock = stock(0, 0..1);
        taken(&mut stock);
        stock.add(1, 1, Some(delivery(Token::Number(1))));
        // What cannot be read is given to nobody.
        stock.add(2, 2, None);
        stock.end();
        assert_eq!(stock.take().unwrap_err().to_string(), "connection to the broker is lost: it was closed");
        let Some(Step::End { mut seen, unseen }) = stock.duty() else { panic!("it does not end") };
        seen.sort_unstable();
        assert_eq!((seen, unseen), (vec![0, 2], vec![1]));
        assert_eq!(stock.all().count(), 0);
    }

    #[test]
    fn the_first_reason_of_a_loss_stays() {
        let mut stock = stock(0, 0..1);
        stock.lose("the server has gone");
        stock.lose("it was closed");
        stock.end();
        stock.cancel();
        assert_eq!(stock.duty(), Some(Step::Stop));
        assert_eq!(stock.usable().unwrap_err().to_string(), "connection to the broker is lost: the server has gone");
    }

    #[test]
    fn of_what_nobody_settles_the_oldest_goes_when_too_many_wait() {
        let unheld = |text: &str| delivery(Token::Text(text.into()));
        let mut stock = Stock::<u64>::new(1);
        assert!(stock.add_unheld(unheld("a"), 2) && stock.add_unheld(unheld("b"), 2));
        assert!(!stock.add_unheld(unheld("c"), 2));
        let left = stock.take().unwrap().unwrap();
        assert_eq!(
            left.iter().map(|it| it.receipt.token()).collect::<Vec<_>>(),
            [&Token::Text("b".into()), &Token::Text("c".into())]
        );
        stock.add_unheld(unheld("d"), 2);
        stock.cancel();
        assert!(stock.add_unheld(unheld("e"), 1), "nobody misses it");
        assert_eq!(stock.duty(), Some(Step::Return(Vec::new())), "there is no giving it back");
    }
}
