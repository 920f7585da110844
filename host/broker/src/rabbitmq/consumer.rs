//! One consumer: a channel of its own, and usually one AMQP consumer on it.
//!
//! While the prefetch changes there are two, since AMQP cannot change that of a running one.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, Stream, StreamExt};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::{FieldTable, ShortString};
use taskhost_core::{DeliveryInfo, Queue};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::failure::{Failure, OPERATION_DEADLINE, lost, timely};
use super::peer::Peer;
use super::put_back::Outcome;
use super::unsettled::{Frame, Unsettled};
use super::{Session, convert, delayed};
use crate::port::{Acknowledgement, BrokerError, Consumer, Delivery, PutBack, PutBackFailed, Receipt, Receipts, Token};

/// Most deliveries that `next` returns at once: enough to share the cost of waking, few enough to
/// start work early.
const BATCH_MAX: usize = 256;

/// Least time between two changes of the prefetch, each of which is three round trips.
const RESIZE_SPACING: Duration = Duration::from_secs(1);

pub(super) struct RabbitConsumer {
    shared: Arc<Shared>,
    wishes: watch::Sender<Wish>,
    resizer: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    session: Weak<Session>,
    /// The chain of delays leads to our queue.
    bound: tokio::sync::Mutex<bool>,
}

struct Shared {
    queue: Queue,
    /// Its name at the broker.
    at: ShortString,
    peer: Peer,
    channel: lapin::Channel,
    streams: Mutex<Streams>,
    unsettled: Mutex<Unsettled>,
    /// A stream was added, or all were taken away.
    changed: Notify,
}

#[derive(Default)]
struct Streams {
    /// The oldest first.
    running: Vec<lapin::Consumer>,
    cancelled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Prefetch(u32),
    Stop,
}

impl RabbitConsumer {
    /// Starts to consume an existing queue on a new channel.
    pub(super) async fn start(
        queue: Queue,
        at: ShortString,
        channel: lapin::Channel,
        prefetch: u32,
        session: Weak<Session>,
    ) -> Result<Self, Failure> {
        let peer = session.upgrade().map_or(Peer::RABBITMQ, |session| session.delays.peer());
        let shared = Arc::new(Shared {
            queue,
            at,
            peer,
            channel,
            streams: Mutex::default(),
            unsettled: Mutex::default(),
            changed: Notify::new(),
        });
        shared.add_stream(prefetch).await?;
        let (wishes, wished) = watch::channel(Wish::Prefetch(prefetch));
        let resizer = tokio::spawn(resize(Arc::clone(&shared), wished, prefetch));
        let (resizer, bound) = (tokio::sync::Mutex::new(Some(resizer)), tokio::sync::Mutex::new(false));
        Ok(Self { shared, wishes, resizer, session, bound })
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&self) -> Result<Option<Vec<Delivery>>, BrokerError> {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let batch = std::future::poll_fn(|cx| self.shared.poll_batch(cx));
            tokio::select! {
                biased;
                batch = batch => return batch,
                () = changed => {}
            }
        }
    }

    async fn settle(&self, receipts: Receipts) -> Result<(), BrokerError> {
        // The lock is held while the frames are queued, so that concurrent calls cannot overtake each
        // other: an ack for many must not precede a rejection of one among them.
        let mut unsettled = self.shared.unsettled();
        for frame in unsettled.settle(&receipts) {
            self.shared.send(frame)?;
        }
        Ok(())
    }

    async fn put_back(&self, deliveries: Vec<PutBack>) -> Result<(), PutBackFailed> {
        let Some(session) = self.session.upgrade() else {
            return Err(PutBackFailed { error: lost("it was closed"), deliveries });
        };
        let Shared { queue, at, .. } = &*self.shared;
        let Outcome { done, kept, mut error } = session.put_back(&queue.name, at, &self.bound, deliveries).await;
        if let Err(failed) = self.settle(done).await {
            error = Some(failed);
        }
        match error {
            None => Ok(()),
            Some(error) => Err(PutBackFailed { error, deliveries: kept }),
        }
    }

    async fn set_prefetch(&self, prefetch: u32) -> Result<(), BrokerError> {
        self.wishes.send_if_modified(|wish| {
            let changes = *wish != Wish::Stop && *wish != Wish::Prefetch(prefetch);
            if changes {
                *wish = Wish::Prefetch(prefetch);
            }
            changes
        });
        Ok(())
    }

    async fn cancel(&self) -> Result<(), BrokerError> {
        self.wishes.send_replace(Wish::Stop);
        if let Some(resizer) = self.resizer.lock().await.take() {
            // It ends after at most one more operation; its only other end is a panic, which is reported.
            let _ = resizer.await;
        }
        let running = {
            let mut streams = self.shared.streams();
            streams.cancelled = true;
            std::mem::take(&mut streams.running)
        };
        self.shared.changed.notify_waiters();
        for stream in running {
            self.shared.retire(&stream).await.map_err(lost)?;
            self.shared.give_back(stream).await?;
        }
        Ok(())
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        // Dropping the last share of the channel closes it, and the broker redelivers what is unsettled.
        if let Some(resizer) = self.resizer.get_mut().take() {
            resizer.abort();
        }
    }
}

impl Shared {
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsettled(&self) -> MutexGuard<'_, Unsettled> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn add_stream(&self, prefetch: u32) -> Result<(), Failure> {
        // AMQP counts to 65535; more is asked for only by somebody who means "as many as you have".
        let prefetch = u16::try_from(prefetch).unwrap_or(u16::MAX);
        timely(self.channel.basic_qos(prefetch, BasicQosOptions { global: false })).await?;
        let consume = self.channel.basic_consume(
            self.at.clone(),
            ShortString::default(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let stream = timely(consume).await?;
        self.streams().running.push(stream);
        self.changed.notify_waiters();
        Ok(())
    }

    /// Tells the broker to send no more to this stream. What was under way still comes, then the end.
    async fn retire(&self, stream: &lapin::Consumer) -> Result<(), Failure> {
        timely(self.channel.basic_cancel(stream.tag(), BasicCancelOptions::default())).await
    }

    /// Requeues what lies in a stream that was retired.
    async fn give_back(&self, mut stream: lapin::Consumer) -> Result<(), BrokerError> {
        loop {
            let next = tokio::time::timeout(OPERATION_DEADLINE, stream.next()).await;
            let delivery = match next.map_err(|_| lost(Failure::TimedOut(OPERATION_DEADLINE)))? {
                Some(delivery) => delivery.map_err(lost)?,
                None => return Ok(()),
            };
            let tag = delivery.delivery_tag;
            let receipt = Receipt::new(Token::Number(tag));
            let mut unsettled = self.unsettled();
            unsettled.insert(tag);
            for frame in unsettled.settle(&vec![(receipt, Acknowledgement::Requeue)]) {
                self.send(frame)?;
            }
        }
    }

    /// Queues a frame. lapin's futures queue it when they are first polled and then wait until it has
    /// been written, which nobody needs to know: if the connection fails, everything is redelivered.
    fn send(&self, frame: Frame) -> Result<(), BrokerError> {
        let sent = match frame {
            Frame::Ack { tag, multiple } => self.channel.basic_ack(tag, BasicAckOptions { multiple }).now_or_never(),
            Frame::Reject { tag, requeue: false } if !self.peer.rejected_is_gone => {
                self.channel.basic_ack(tag, BasicAckOptions::default()).now_or_never()
            }
            Frame::Reject { tag, requeue } => {
                self.channel.basic_reject(tag, BasicRejectOptions { requeue }).now_or_never()
            }
        };
        match sent {
            Some(Err(error)) => Err(lost(error)),
            Some(Ok(())) | None => Ok(()),
        }
    }

    fn poll_batch(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<Delivery>>, BrokerError>> {
        loop {
            match self.poll_streams(cx) {
                // All of them were strays.
                Poll::Ready(Ok(Some(batch))) if batch.is_empty() => {}
                polled => return polled,
            }
        }
    }

    fn poll_streams(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<Delivery>>, BrokerError>> {
        let mut streams = self.streams();
        let mut batch = Vec::new();
        let mut index = 0;
        while index < streams.running.len() && batch.len() < BATCH_MAX {
            match Pin::new(&mut streams.running[index]).poll_next(cx) {
                Poll::Ready(Some(Ok(delivery))) => batch.push(delivery),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(lost(error))),
                Poll::Ready(None) => drop(streams.running.remove(index)),
                Poll::Pending => index += 1,
            }
        }
        if !batch.is_empty() {
            let mut unsettled = self.unsettled();
            batch.iter().for_each(|delivery| unsettled.insert(delivery.delivery_tag));
            drop((unsettled, streams));
            let batch = batch.into_iter().filter_map(|delivery| self.convert(delivery).transpose());
            return Poll::Ready(batch.collect::<Result<Vec<_>, _>>().map(Some));
        }
        if !streams.running.is_empty() {
            return Poll::Pending;
        }
        if streams.cancelled {
            return Poll::Ready(Ok(None));
        }
        Poll::Ready(Err(lost(format_args!("the broker ended the consumer of queue `{}`", self.at))))
    }

    /// `None` if nobody is to see it.
    fn convert(&self, delivery: lapin::message::Delivery) -> Result<Option<Delivery>, BrokerError> {
        let lapin::message::Delivery { delivery_tag, exchange, routing_key, redelivered, properties, data, .. } =
            delivery;
        let mut message = convert::message(&properties, data);
        let (exchange, routing_key) = (exchange.into(), routing_key.into());
        let mut info = DeliveryInfo { queue: self.queue.name.clone(), exchange, routing_key, redelivered };
        let receipt = Receipt::new(Token::Number(delivery_tag));
        if let Err(delayed::Stray) = delayed::restore(&mut message, &mut info, &self.queue, self.at.as_str()) {
            let mut unsettled = self.unsettled();
            for frame in unsettled.settle(&vec![(receipt, Acknowledgement::Ack)]) {
                self.send(frame)?;
            }
            return Ok(None);
        }
        Ok(Some(Delivery { message, info, receipt }))
    }
}

/// Owned by the consumer: replaces its stream when another prefetch is wanted.
async fn resize(shared: Arc<Shared>, mut wishes: watch::Receiver<Wish>, mut prefetch: u32) {
    let mut resized_at = Instant::now() - RESIZE_SPACING;
    while wishes.changed().await.is_ok() {
        let pause = RESIZE_SPACING.saturating_sub(resized_at.elapsed());
        if tokio::time::timeout(pause, wishes.wait_for(|wish| *wish == Wish::Stop)).await.is_ok() {
            return;
        }
        let Wish::Prefetch(wanted) = *wishes.borrow_and_update() else { return };
        let Some(next) = resized(prefetch, wanted) else { continue };
        let old = shared.streams().running.last().cloned();
        let queue = &shared.queue.name;
        debug!(queue.name = %queue, prefetch = next, "prefetch of queue `{queue}` changes to {next}");
        let replaced = async {
            shared.add_stream(next).await?;
            match &old {
                Some(old) => shared.retire(old).await,
                None => Ok(()),
            }
        };
        if let Err(error) = replaced.await {
            // If this is the end of the channel, `next` says so.
            warn!(queue.name = %queue, %error, "cannot change the prefetch of queue `{queue}`");
        }
        prefetch = next;
        resized_at = Instant::now();
    }
}

/// The prefetch to change to, if it is worth it: a power of two, not less than is wanted, and only when
/// too little or at least twice too much is asked for now. Zero is no bound.
fn resized(now: u32, wanted: u32) -> Option<u32> {
    if now == wanted {
        return None;
    }
    if wanted == 0 {
        return Some(0);
    }
    if now != 0 && now >= wanted && now < wanted.saturating_mul(2) {
        return None;
    }
    let next = wanted.checked_next_power_of_two().unwrap_or(u32::MAX);
    (next != now).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefetch_follows_in_powers_of_two() {
        assert_eq!(resized(16, 16), None);
        assert_eq!(resized(16, 9), None);
        assert_eq!(resized(16, 8), Some(8));
        assert_eq!(resized(16, 5), Some(8));
        assert_eq!(resized(16, 17), Some(32));
        assert_eq!(resized(10, 5), Some(8));
        assert_eq!(resized(10, 11), Some(16));
        assert_eq!(resized(2, 1), Some(1));
        assert_eq!(resized(0, 100), Some(128));
        assert_eq!(resized(100, 0), Some(0));
        assert_eq!(resized(0, 0), None);
        assert_eq!(resized(1, u32::MAX), Some(u32::MAX));
    }
}
