//! One subscription: an exclusive queue that is gone with its consumer, and a channel of its own.
//!
//! Reads with a bound, so that what a slow reader leaves waits at the broker and dies there of its age.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, Stream};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use taskhost_core::{Publication, Route};
use tokio::sync::Notify;

use super::declare::short;
use super::failure::{Failure, lost, timely};
use super::{REPLY_SUCCESS, Session, convert};
use crate::broadcast::{Inbox, Subscription};
use crate::port::BrokerError;

/// Most messages that are in this process unread.
const UNREAD_MAX: u16 = 1000;

/// Most messages that `next` returns at once.
const BATCH_MAX: usize = 256;

pub(super) struct RabbitInbox {
    queue: String,
    channel: lapin::Channel,
    /// `None` when it is closed.
    stream: Mutex<Option<lapin::Consumer>>,
    closed: Notify,
}

impl RabbitInbox {
    pub(super) async fn open(session: &Session, subscription: &Subscription) -> Result<Self, Failure> {
        let Subscription { topic, exchange, routing_key, queue, message_ttl, expires } = subscription;
        session.declarer().ensure_topic(exchange, *topic).await?;
        let channel = session.channel().await?;
        let name = short(queue)?;
        // As kombu declares it. Nothing is looked for before: who may have it is what the broker is asked.
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        for (key, time) in [("x-expires", expires), ("x-message-ttl", message_ttl)] {
            if let Some(time) = time {
                arguments.insert(key.into(), milliseconds(*time));
            }
        }
        timely(channel.queue_declare(name.clone(), options, arguments)).await?;
        let (exchange, key) = (short(exchange)?, short(routing_key)?);
        let options = QueueBindOptions::default();
        timely(channel.queue_bind(name.clone(), exchange, key, options, FieldTable::default())).await?;
        timely(channel.basic_qos(UNREAD_MAX, BasicQosOptions { global: false })).await?;
        let options = BasicConsumeOptions::default();
        let consume = channel.basic_consume(name, ShortString::default(), options, FieldTable::default());
        let stream = Mutex::new(Some(timely(consume).await?));
        Ok(Self { queue: queue.clone(), channel, stream, closed: Notify::new() })
    }

    fn stream(&self) -> MutexGuard<'_, Option<lapin::Consumer>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_batch(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<Publication>>, BrokerError>> {
        let mut stream = self.stream();
        let Some(stream) = stream.as_mut() else { return Poll::Ready(Ok(None)) };
        let mut batch = Vec::new();
        let mut last = None;
        while batch.len() < BATCH_MAX {
            match Pin::new(&mut *stream).poll_next(cx) {
                Poll::Ready(Some(Ok(delivery))) => {
                    last = Some(delivery.delivery_tag);
                    batch.push(publication(delivery));
                }
                // Those before the end are returned first; the end is there again when it is asked for.
                Poll::Ready(_) if !batch.is_empty() => break,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(lost(error))),
                Poll::Ready(None) => {
                    let reason = format_args!("the broker ended the consumer of queue `{}`", self.queue);
                    return Poll::Ready(Err(lost(reason)));
                }
                Poll::Pending => break,
            }
        }
        let Some(last) = last else { return Poll::Pending };
        // Queued when it is first polled. If it does not arrive, nothing else does.
        let _ = self.channel.basic_ack(last, BasicAckOptions { multiple: true }).now_or_never();
        Poll::Ready(Ok(Some(batch)))
    }
}

#[async_trait]
impl Inbox for RabbitInbox {
    async fn next(&self) -> Result<Option<Vec<Publication>>, BrokerError> {
        loop {
            let mut closed = std::pin::pin!(self.closed.notified());
            closed.as_mut().enable();
            tokio::select! {
                biased;
                batch = std::future::poll_fn(|cx| self.poll_batch(cx)) => return batch,
                () = closed => {}
            }
        }
    }

    async fn close(&self) {
        let Some(stream) = self.stream().take() else { return };
        self.closed.notify_waiters();
        // An error means that the connection is gone, and the queue with it.
        let _ = timely(self.channel.basic_cancel(stream.tag(), BasicCancelOptions::default())).await;
        let _ = timely(self.channel.close(REPLY_SUCCESS, "OK".into())).await;
    }
}

fn publication(delivery: lapin::message::Delivery) -> Publication {
    let lapin::message::Delivery { exchange, routing_key, properties, data, .. } = delivery;
    let route = Route { exchange: exchange.into(), routing_key: routing_key.into() };
    Publication { message: convert::message(&properties, data), route }
}

fn milliseconds(time: Duration) -> AMQPValue {
    // What does not fit is longer than anybody waits.
    AMQPValue::LongInt(i32::try_from(time.as_millis()).unwrap_or(i32::MAX))
}
