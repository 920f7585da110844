//! The broker of a worker that is alone: what is published comes back to it, and it is known when nothing is left.
//!
//! Carries no message out of the process. What is not run here is only shown.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use broker::{
    Broker, BrokerError, Capabilities, Consumer, Delivery, Inbox, MemoryBroker, PutBack, PutBackFailed, Receipts,
    Subscription, Topic,
};
use taskhost_core::{
    Acknowledgement, Catalog, Codec, DeliveryInfo, HeaderValue, Publication, Queue, QueueName, Request, Route, TaskId,
};
use tokio::sync::watch;

use super::audience::{Audience, Called, Fate};
use super::{Terms, is_builtin};
use crate::wiring;

/// Messages that one call may lead to. A task that calls itself would never end.
const MESSAGES_MAX: usize = 10_000;

/// Retries that one call may have, where it has any number: without a delay they would never end.
const RETRIES_MAX: u32 = 100;

/// A broker with one worker.
pub(super) struct Loopback {
    catalog: Arc<Catalog>,
    queue: QueueName,
    codec: Codec,
    audience: Arc<dyn Audience>,
    broker: MemoryBroker,
    /// Messages that are not done with.
    open: watch::Sender<usize>,
    seen: Mutex<Seen>,
}

/// What came of the call that is played.
#[derive(Default)]
struct Seen {
    terms: Terms,
    messages: usize,
    ids: HashSet<TaskId>,
}

impl Loopback {
    pub(super) fn new(catalog: Arc<Catalog>, queue: QueueName, codec: Codec, audience: Arc<dyn Audience>) -> Self {
        let (broker, open) = (MemoryBroker::new(), watch::Sender::new(0));
        Self { catalog, queue, codec, audience, broker, open, seen: Mutex::default() }
    }

    /// Another call is played: nothing came of it so far.
    pub(super) fn begin(&self, terms: Terms) {
        *self.seen() = Seen { terms, ..Seen::default() };
    }

    /// Waits until no message is left.
    pub(super) async fn idle(&self) {
        let mut open = self.open.subscribe();
        // We have the sender.
        let _ = open.wait_for(|open| *open == 0).await;
    }

    pub(super) fn connect(self: &Arc<Self>) -> Result<Arc<dyn Broker>, BrokerError> {
        Ok(Arc::new(Wire { broker: self.broker.connect()?, loopback: self.clone() }))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The message as it comes back; none, if it does not.
    fn admit(&self, publication: &Publication) -> Option<Publication> {
        let Route { exchange, routing_key } = publication.route.clone();
        let info = DeliveryInfo { queue: self.queue.clone(), exchange, routing_key, redelivered: false };
        let request = Request::decode(publication.message.clone(), info, &self.codec).ok()?;
        let fate = self.fate(&request);
        let waits = self.seen().terms.waits;
        let delay = request.eta.map(|eta| eta.since(wiring::now())).filter(|delay| *delay > Duration::ZERO);
        let comes_back = matches!(fate, Fate::First | Fate::Runs | Fate::Retried | Fate::TakesOver);
        self.audience.called(&Called { request, delay, fate, waits });
        if !comes_back {
            return None;
        }
        let mut message = publication.message.clone();
        if !waits {
            message.headers.set("eta", HeaderValue::Null);
        }
        Some(Publication { message, route: Route::queue(&self.queue) })
    }

    fn fate(&self, request: &Request) -> Fate {
        let mut seen = self.seen();
        let spec = self.catalog.get(&request.task);
        let is_first = seen.ids.is_empty();
        let is_known = seen.ids.contains(&request.id);
        if seen.messages >= MESSAGES_MAX || request.retries > RETRIES_MAX {
            return Fate::TooMany;
        }
        let Some(spec) = spec else { return if is_known { Fate::TakesOverElsewhere } else { Fate::Elsewhere } };
        if is_known && request.retries > 0 {
            seen.messages += 1;
            return Fate::Retried;
        }
        // Celery's own tasks are part of how others are called.
        if !is_first && !is_known && !seen.terms.follows && !is_builtin(&spec.plugin) {
            return Fate::NotFollowed;
        }
        seen.messages += 1;
        seen.ids.insert(request.id.clone());
        match (is_first, is_known) {
            (true, _) => Fate::First,
            (false, true) => Fate::TakesOver,
            (false, false) => Fate::Runs,
        }
    }
}

/// A connection.
struct Wire {
    broker: Arc<dyn Broker>,
    loopback: Arc<Loopback>,
}

#[async_trait]
impl Broker for Wire {
    fn capabilities(&self) -> Capabilities {
        self.broker.capabilities()
    }

    async fn consume(&self, queue: &Queue, prefetch: u32) -> Result<Box<dyn Consumer>, BrokerError> {
        let consumer = self.broker.consume(queue, prefetch).await?;
        Ok(Box::new(Taker { consumer, loopback: self.loopback.clone() }))
    }

    async fn publish(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        let back: Vec<Publication> = publications.iter().filter_map(|one| self.loopback.admit(one)).collect();
        // Before anybody can be done with them.
        self.loopback.open.send_modify(|open| *open += back.len());
        let published = self.broker.publish(&back).await;
        if published.is_err() {
            self.loopback.open.send_modify(|open| *open -= back.len());
        }
        published
    }

    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.broker.declare(queue).await
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Inbox>, BrokerError> {
        self.broker.subscribe(subscription).await
    }

    async fn broadcast(&self, topic: Topic, publications: Vec<Publication>) -> Result<(), BrokerError> {
        self.broker.broadcast(topic, publications).await
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        self.broker.depth(queue).await
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        self.broker.purge(queue).await
    }

    async fn close(&self) {
        self.broker.close().await;
    }
}

/// A consumer that counts what is done with.
struct Taker {
    consumer: Box<dyn Consumer>,
    loopback: Arc<Loopback>,
}

#[async_trait]
impl Consumer for Taker {
    async fn next(&self) -> Result<Option<Vec<Delivery>>, BrokerError> {
        self.consumer.next().await
    }

    async fn settle(&self, receipts: Receipts) -> Result<(), BrokerError> {
        let count = receipts.len();
        // What is given back would come again and again: nobody else is there to take it.
        let for_good = |acknowledgement| match acknowledgement {
            Acknowledgement::Requeue => Acknowledgement::Reject,
            other => other,
        };
        let receipts = receipts.into_iter().map(|(receipt, what)| (receipt, for_good(what))).collect();
        self.consumer.settle(receipts).await?;
        self.loopback.open.send_modify(|open| *open = open.saturating_sub(count));
        Ok(())
    }

    async fn put_back(&self, deliveries: Vec<PutBack>) -> Result<(), PutBackFailed> {
        self.consumer.put_back(deliveries).await
    }

    async fn set_prefetch(&self, prefetch: u32) -> Result<(), BrokerError> {
        self.consumer.set_prefetch(prefetch).await
    }

    async fn cancel(&self) -> Result<(), BrokerError> {
        self.consumer.cancel().await
    }
}
