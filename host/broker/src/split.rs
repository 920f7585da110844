//! One broker made of two: messages are taken from the one and published to the other.
//!
//! What brings messages from where they are published to where they are read is somebody else's business, such as
//! RabbitMQ's federation; or both are one cluster with two addresses. What was taken and is not done with, and what is
//! set aside to be found again, stays where it was read, and waits for nobody to bring it. Losing one of both is losing
//! both.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::{Publication, Queue, QueueName};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::broadcast::{Inbox, Subscription, Topic};
use crate::port::{Broker, BrokerError, Capabilities, Consumer, Delivery, PutBack, PutBackFailed, Receipts};

/// How often it is asked whether the side that is only written to is there: nothing else would notice while
/// nothing is published.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// How long that may take.
const PROBE_MAX: Duration = Duration::from_secs(30);

/// Takes from one broker and publishes to another.
pub(crate) struct Split {
    read: Arc<dyn Broker>,
    write: Arc<dyn Broker>,
    /// Why the side that is written to is lost, once it is.
    lost: watch::Receiver<Option<String>>,
    /// Something went wrong there that may mean that it is lost.
    doubt: Arc<Notify>,
    /// Ends with this.
    _probing: JoinSet<()>,
}

impl Split {
    /// Of two that are connected.
    pub(crate) fn new(read: Arc<dyn Broker>, write: Arc<dyn Broker>) -> Self {
        let (lose, lost) = watch::channel(None);
        let doubt = Arc::new(Notify::new());
        let mut probing = JoinSet::new();
        probing.spawn(probe(write.clone(), doubt.clone(), lose));
        Self { read, write, lost, doubt, _probing: probing }
    }

    /// What came of something done at the side that is written to.
    fn written<T>(&self, result: Result<T, BrokerError>) -> Result<T, BrokerError> {
        if result.as_ref().is_err_and(BrokerError::is_transient) {
            self.doubt.notify_one();
        }
        result
    }
}

/// Returns when the broker is lost.
async fn probe(broker: Arc<dyn Broker>, doubt: Arc<Notify>, lose: watch::Sender<Option<String>>) {
    // Any will do: one that does not exist is empty.
    let queue = QueueName::parse("celery").expect("it is a name");
    loop {
        tokio::select! {
            () = sleep(PROBE_EVERY) => {}
            () = doubt.notified() => {}
        }
        let reason = match timeout(PROBE_MAX, broker.depth(&queue)).await {
            Ok(Err(error)) if error.is_transient() => error.to_string(),
            Ok(_) => continue,
            Err(_) => format!("no answer within {} s", PROBE_MAX.as_secs()),
        };
        lose.send_replace(Some(reason));
        return;
    }
}

/// The error with which everything ends when the other side is lost.
async fn lost(mut lost: watch::Receiver<Option<String>>) -> BrokerError {
    match lost.wait_for(Option::is_some).await {
        Ok(reason) => {
            let reason = reason.clone().unwrap_or_default();
            BrokerError::Lost { reason: format!("the broker that is written to is lost: {reason}") }
        }
        Err(_) => BrokerError::Lost { reason: "it was closed".to_owned() },
    }
}

#[async_trait]
impl Broker for Split {
    fn capabilities(&self) -> Capabilities {
        let (read, write) = (self.read.capabilities(), self.write.capabilities());
        Capabilities {
            puts_back: read.puts_back,
            times_out: read.times_out,
            clock_is_wrong: read.clock_is_wrong || write.clock_is_wrong,
            broadcasts: read.broadcasts && write.broadcasts,
        }
    }

    async fn consume(&self, queue: &Queue, prefetch: u32) -> Result<Box<dyn Consumer>, BrokerError> {
        let inner = self.read.consume(queue, prefetch).await?;
        self.write.offer(queue).await;
        Ok(Box::new(SplitConsumer { inner, lost: self.lost.clone() }))
    }

    fn source(&self) -> Option<Arc<dyn Broker>> {
        Some(Arc::clone(&self.read))
    }

    async fn publish(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        self.written(self.write.publish(publications).await)
    }

    async fn send_unconfirmed(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        self.written(self.write.send_unconfirmed(publications).await)
    }

    async fn leave(&self, publications: &[Publication], expires: Duration) -> Vec<Result<(), BrokerError>> {
        let left = self.write.leave(publications, expires).await;
        left.into_iter().map(|left| self.written(left)).collect()
    }

    /// Whoever declares without consuming is about to publish; Celery declares there, too
    /// (celery/app/amqp.py `send_task_message`).
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.written(self.write.declare(queue).await)
    }

    /// Answers come to where the question went, and where workers publish.
    async fn replies(&self) -> Result<Option<(QueueName, Box<dyn Consumer>)>, BrokerError> {
        self.written(self.write.replies().await)
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Inbox>, BrokerError> {
        match subscription.topic {
            Topic::Replies => self.written(self.write.subscribe(subscription).await),
            Topic::Mailboxes | Topic::Events => {
                let inner = self.read.subscribe(subscription).await?;
                Ok(Box::new(SplitInbox { inner, lost: self.lost.clone() }))
            }
        }
    }

    async fn broadcast(&self, topic: Topic, publications: Vec<Publication>) -> Result<(), BrokerError> {
        self.written(self.write.broadcast(topic, publications).await)
    }

    /// Celery looks where it publishes (celery/bin/purge.py), and so does this; the other side is the source's.
    async fn depth(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        self.written(self.write.depth(queue).await)
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        self.written(self.write.purge(queue).await)
    }

    async fn close(&self) {
        tokio::join!(self.read.close(), self.write.close());
    }
}

/// Takes from the one side, as long as both are there.
struct SplitConsumer {
    inner: Box<dyn Consumer>,
    lost: watch::Receiver<Option<String>>,
}

#[async_trait]
impl Consumer for SplitConsumer {
    async fn next(&self) -> Result<Option<Vec<Delivery>>, BrokerError> {
        tokio::select! {
            biased;
            error = lost(self.lost.clone()) => Err(error),
            next = self.inner.next() => next,
        }
    }

    async fn settle(&self, receipts: Receipts) -> Result<(), BrokerError> {
        self.inner.settle(receipts).await
    }

    async fn put_back(&self, deliveries: Vec<PutBack>) -> Result<(), PutBackFailed> {
        self.inner.put_back(deliveries).await
    }

    async fn set_prefetch(&self, prefetch: u32) -> Result<(), BrokerError> {
        self.inner.set_prefetch(prefetch).await
    }

    async fn cancel(&self) -> Result<(), BrokerError> {
        self.inner.cancel().await
    }
}

/// Listens at the one side, as long as both are there.
struct SplitInbox {
    inner: Box<dyn Inbox>,
    lost: watch::Receiver<Option<String>>,
}

#[async_trait]
impl Inbox for SplitInbox {
    async fn next(&self) -> Result<Option<Vec<Publication>>, BrokerError> {
        tokio::select! {
            biased;
            error = lost(self.lost.clone()) => Err(error),
            next = self.inner.next() => next,
        }
    }

    fn dropped(&self) -> u64 {
        self.inner.dropped()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;
    use crate::memory::MemoryBroker;
    use taskhost_core::{Message, Route};

    fn split(read: &MemoryBroker, write: &MemoryBroker) -> Split {
        Split::new(read.connect().expect("it is there"), write.connect().expect("it is there"))
    }

    fn publication(queue: &QueueName) -> Publication {
        Publication { message: Message::default(), route: Route::queue(queue) }
    }

    #[tokio::test]
    async fn two_that_are_one_pass_the_suite() {
        let server = MemoryBroker::new();
        let connect = async || Ok(Arc::new(split(&server, &server)) as Arc<dyn Broker>);
        conformance::run(conformance::Capabilities::ALL, connect).await;
    }

    #[tokio::test]
    async fn messages_are_taken_from_one_side_and_published_to_the_other() {
        let (left, right) = (MemoryBroker::new(), MemoryBroker::new());
        let (broker, back) = (split(&left, &right), split(&right, &left));
        let queue = QueueName::parse("q").unwrap();
        broker.declare(&queue.clone().into()).await.unwrap();
        broker.publish(&[publication(&queue)]).await.unwrap();
        assert_eq!((broker.depth(&queue).await.unwrap(), back.depth(&queue).await.unwrap()), (1, 0));
        let consumer = back.consume(&queue.into(), 1).await.unwrap();
        assert_eq!(consumer.next().await.unwrap().map(|batch| batch.len()), Some(1));
    }

    #[tokio::test]
    async fn what_is_set_aside_is_found_where_messages_are_taken() {
        let (left, right) = (MemoryBroker::new(), MemoryBroker::new());
        let broker = split(&left, &right);
        let queue = QueueName::parse("q.dead").unwrap();
        let source = broker.source().expect("it is another one");
        source.declare(&queue.clone().into()).await.unwrap();
        source.publish(&[publication(&queue)]).await.unwrap();
        assert_eq!((source.depth(&queue).await.unwrap(), broker.depth(&queue).await.unwrap()), (1, 0));
        assert!(source.source().is_none());
        let consumer = broker.consume(&queue.into(), 1).await.unwrap();
        assert_eq!(consumer.next().await.unwrap().map(|batch| batch.len()), Some(1));
    }

    #[tokio::test]
    async fn commands_come_by_the_side_that_is_read_and_answers_go_by_the_other() {
        let (left, right) = (MemoryBroker::new(), MemoryBroker::new());
        let (broker, client) = (split(&left, &right), split(&right, &left));
        let mailbox = broker.subscribe(&Subscription::mailbox("celery", "w1@box")).await.unwrap();
        let mut waits = Subscription::replies("celery", "f00");
        waits.exchange = Topic::Replies.exchange("celery");
        let answers = left.connect().unwrap().subscribe(&waits).await.unwrap();
        let send = |exchange: String, routing_key: &str| {
            vec![Publication {
                message: Message::default(),
                route: Route { exchange, routing_key: routing_key.to_owned() },
            }]
        };
        client.broadcast(Topic::Mailboxes, send(Topic::Mailboxes.exchange("celery"), "")).await.unwrap();
        assert_eq!(mailbox.next().await.unwrap().map(|batch| batch.len()), Some(1));
        client.broadcast(Topic::Replies, send(waits.exchange.clone(), "f00")).await.unwrap();
        assert_eq!(answers.next().await.unwrap().map(|batch| batch.len()), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn losing_the_side_that_is_written_to_ends_whoever_takes_from_the_other() {
        let (left, right) = (MemoryBroker::new(), MemoryBroker::new());
        let broker = split(&left, &right);
        let queue = QueueName::parse("q").unwrap();
        let consumer = broker.consume(&queue.clone().into(), 1).await.unwrap();
        right.lose_connections();
        // Though nobody publishes.
        let error = consumer.next().await.expect_err("it is lost");
        assert!(matches!(error, BrokerError::Lost { .. }), "{error}");
        assert!(error.to_string().contains("written to"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn losing_the_side_that_is_read_is_seen_as_ever() {
        let (left, right) = (MemoryBroker::new(), MemoryBroker::new());
        let broker = split(&left, &right);
        let consumer = broker.consume(&QueueName::parse("q").unwrap().into(), 1).await.unwrap();
        left.lose_connections();
        assert!(matches!(consumer.next().await, Err(BrokerError::Lost { .. })));
    }
}
