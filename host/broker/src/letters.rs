//! What waits in an inbox until it is taken: bounded, the oldest goes first.
//!
//! For transports that keep nothing themselves for whoever reads slowly.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use taskhost_core::Publication;
use tokio::sync::Notify;

use crate::port::BrokerError;

/// Most messages, and most bytes of their bodies, that wait: some seconds of a busy fleet's events.
const WAITING_MAX: usize = 4096;
const WAITING_BYTES_MAX: usize = 16 << 20;

/// Messages between whoever hears them and whoever takes them.
#[derive(Default)]
pub(crate) struct Letters {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Publication>,
    bytes: usize,
    dropped: u64,
    end: Option<End>,
}

enum End {
    Closed,
    Lost(String),
}

impl Letters {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one. Older ones are dropped if there is no room.
    pub(crate) fn put(&self, letter: Publication) {
        let mut state = self.state();
        if state.end.is_some() {
            return;
        }
        state.bytes += letter.message.body.len();
        state.waiting.push_back(letter);
        while state.waiting.len() > WAITING_MAX || (state.bytes > WAITING_BYTES_MAX && state.waiting.len() > 1) {
            let Some(oldest) = state.waiting.pop_front() else { break };
            state.bytes -= oldest.message.body.len();
            state.dropped += 1;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits for messages and takes all. `None` if nothing comes any more.
    pub(crate) async fn take(&self) -> Result<Option<Vec<Publication>>, BrokerError> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.state();
                match &state.end {
                    Some(End::Closed) => return Ok(None),
                    Some(End::Lost(reason)) => return Err(BrokerError::Lost { reason: reason.clone() }),
                    None if state.waiting.is_empty() => {}
                    None => {
                        state.bytes = 0;
                        return Ok(Some(std::mem::take(&mut state.waiting).into()));
                    }
                }
            }
            changed.await;
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// Nothing is wanted any more.
    pub(crate) fn close(&self) {
        self.end(End::Closed);
    }

    /// Nothing can come any more.
    pub(crate) fn lose(&self, reason: &str) {
        self.end(End::Lost(reason.to_owned()));
    }

    /// The first end stays.
    fn end(&self, end: End) {
        let mut state = self.state();
        state.end.get_or_insert(end);
        state.waiting.clear();
        state.bytes = 0;
        drop(state);
        self.changed.notify_waiters();
    }

    pub(crate) fn ended(&self) -> bool {
        self.state().end.is_some()
    }
}

#[cfg(test)]
mod tests {
    use taskhost_core::{Message, Route};

    use super::*;

    fn letter(body: Vec<u8>) -> Publication {
        let route = Route { exchange: "celeryev".to_owned(), routing_key: "task.sent".to_owned() };
        Publication { message: Message { body: body.into(), ..Message::default() }, route }
    }

    #[tokio::test]
    async fn the_oldest_are_dropped_and_counted_when_too_many_wait() {
        let letters = Letters::default();
        (0..WAITING_MAX + 3).for_each(|number| letters.put(letter(number.to_string().into())));
        let taken = letters.take().await.unwrap().unwrap();
        assert_eq!((taken.len(), letters.dropped()), (WAITING_MAX, 3));
        assert_eq!(&taken[0].message.body[..], b"3");
    }

    #[tokio::test]
    async fn large_ones_are_dropped_by_their_size() {
        let letters = Letters::default();
        (0..5).for_each(|_| letters.put(letter(vec![b' '; 6 << 20])));
        assert_eq!((letters.take().await.unwrap().unwrap().len(), letters.dropped()), (2, 3));
        // One that is too large alone is still better than none.
        letters.put(letter(vec![b' '; WAITING_BYTES_MAX + 1]));
        assert_eq!(letters.take().await.unwrap().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn the_first_end_is_told() {
        let letters = Letters::default();
        letters.put(letter(Vec::new()));
        letters.lose("the server has gone");
        letters.close();
        let error = letters.take().await.unwrap_err();
        assert_eq!(error.to_string(), "connection to the broker is lost: the server has gone");
        let letters = Letters::default();
        letters.close();
        assert_eq!(letters.take().await.unwrap(), None);
    }
}
