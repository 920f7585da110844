//! A broker inside the process: for tests, and for running a plugin without a server.
//!
//! Behaves as RabbitMQ does where a test could tell, and can be told to fail. Nothing survives the
//! process.

mod topics;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use taskhost_core::{DeliveryInfo, HeaderValue, Message, Publication, Queue, QueueName, RedactedUrl, Route, Timestamp};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use self::topics::{MemoryInbox, Topics};
use crate::broadcast::{Inbox, Subscription, Topic};
use crate::port::{
    Acknowledgement, Broker, BrokerError, Capabilities, Consumer, DELIVERY_COUNT_HEADER, Delivery, PutBack,
    PutBackFailed, Receipt, Receipts, Token,
};

/// The server: queues that several connections share.
#[derive(Clone)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

/// One connection to a [`MemoryBroker`].
pub struct MemoryConnection {
    id: u64,
    shared: Arc<Shared>,
}

struct MemoryConsumer {
    id: u64,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Told of every change that may concern a waiting consumer.
    changes: watch::Sender<()>,
    clock: fn() -> Timestamp,
}

#[derive(Default)]
struct State {
    queues: HashMap<QueueName, BTreeMap<Place, Stored>>,
    /// Messages that were put back, by the time at which they return to their queue.
    later: BTreeMap<(Timestamp, u64), (QueueName, Place, Stored)>,
    topics: Topics,
    connections: Vec<u64>,
    consumers: HashMap<u64, Taker>,
    last_number: u64,
    refuses: bool,
}

/// Where a message stands in its queue: urgent ones first, then in order of publication. A message
/// that is given back takes its old place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(Reverse<u8>, u64);

struct Stored {
    message: Message,
    route: Route,
    /// How often it was handed out and not settled.
    deliveries: i64,
}

/// The server's side of a consumer.
struct Taker {
    connection: u64,
    queue: QueueName,
    prefetch: usize,
    held: HashMap<u64, (Place, Stored)>,
    end: Option<End>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Cancelled,
    Lost,
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBroker {
    /// An empty broker.
    pub fn new() -> Self {
        Self::with_clock(wall_time)
    }

    /// An empty broker that reads the time there: for tests with a clock of their own.
    pub fn with_clock(clock: fn() -> Timestamp) -> Self {
        let (state, changes) = (Mutex::default(), watch::Sender::new(()));
        Self { shared: Arc::new(Shared { state, changes, clock }) }
    }

    /// The broker of that name, one for the whole process: what `memory://NAME` means.
    pub fn named(name: &str) -> Self {
        static NAMED: LazyLock<Mutex<HashMap<String, MemoryBroker>>> = LazyLock::new(Mutex::default);
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        named.entry(name.to_owned()).or_default().clone()
    }

    /// Opens a connection. Fails while the broker refuses connections.
    pub fn connect(&self) -> Result<Arc<MemoryConnection>, BrokerError> {
        let mut state = self.shared.state();
        if state.refuses {
            let source = "the broker was told to refuse connections".into();
            return Err(BrokerError::Connect { url: RedactedUrl::new("memory://"), source, transient: true });
        }
        let id = state.next_number();
        state.connections.push(id);
        Ok(Arc::new(MemoryConnection { id, shared: Arc::clone(&self.shared) }))
    }

    /// Loses all connections, as when the server restarts.
    pub fn lose_connections(&self) {
        let connections = std::mem::take(&mut self.shared.state().connections);
        for connection in connections {
            self.shared.lose(connection);
        }
    }

    /// From now on, connecting fails (or works again).
    pub fn refuse_connections(&self, refuses: bool) {
        self.shared.state().refuses = refuses;
    }
}

impl MemoryConnection {
    /// Loses this connection: its consumers end, what they hold goes back to its queues marked as
    /// redelivered, and nothing can be published.
    pub fn lose(&self) {
        self.shared.lose(self.id);
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, BrokerError> {
        let state = self.shared.state();
        if state.connections.contains(&self.id) { Ok(state) } else { Err(lost()) }
    }
}

#[async_trait]
impl Broker for MemoryConnection {
    fn capabilities(&self) -> Capabilities {
        Capabilities { puts_back: true, times_out: false, clock_is_wrong: false, broadcasts: true }
    }

    async fn consume(&self, queue: &Queue, prefetch: u32) -> Result<Box<dyn Consumer>, BrokerError> {
        let mut state = self.state()?;
        state.queues.entry(queue.name.clone()).or_default();
        let id = state.next_number();
        let taker = Taker {
            connection: self.id,
            queue: queue.name.clone(),
            prefetch: bound(prefetch),
            held: HashMap::new(),
            end: None,
        };
        state.consumers.insert(id, taker);
        Ok(Box::new(MemoryConsumer { id, shared: Arc::clone(&self.shared) }))
    }

    async fn publish(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        let mut state = self.state()?;
        let result = publications.iter().try_for_each(|publication| state.publish(publication));
        drop(state);
        self.shared.changes.send_replace(());
        result
    }

    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.state()?.queues.entry(queue.name.clone()).or_default();
        Ok(())
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Inbox>, BrokerError> {
        let letters = self.state()?.topics.subscribe(self.id, subscription)?;
        Ok(Box::new(MemoryInbox { letters }))
    }

    async fn broadcast(&self, topic: Topic, publications: Vec<Publication>) -> Result<(), BrokerError> {
        self.state()?.topics.send(topic, &publications);
        Ok(())
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        Ok(self.state()?.queues.get(queue).map_or(0, |waiting| waiting.len() as u64))
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        Ok(self.state()?.queues.get_mut(queue).map_or(0, |waiting| std::mem::take(waiting).len() as u64))
    }

    async fn close(&self) {
        self.shared.lose(self.id);
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn next(&self) -> Result<Option<Vec<Delivery>>, BrokerError> {
        let mut changes = self.shared.changes.subscribe();
        loop {
            let now = (self.shared.clock)();
            let due = {
                let mut state = self.shared.state();
                state.return_due(now);
                match state.take(self.id) {
                    Ok(deliveries) if !deliveries.is_empty() => return Ok(Some(deliveries)),
                    Ok(_) => {}
                    Err(End::Cancelled) => return Ok(None),
                    Err(End::Lost) => return Err(lost()),
                }
                state.later.first_key_value().map(|((at, _), _)| Instant::now() + at.since(now))
            };
            tokio::select! {
                // Fails only when the sender is gone, and we own a share of it.
                _ = changes.changed() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    async fn settle(&self, receipts: Receipts) -> Result<(), BrokerError> {
        let mut state = self.shared.state();
        for (receipt, acknowledgement) in receipts {
            state.settle(self.id, &receipt, acknowledgement)?;
        }
        drop(state);
        self.shared.changes.send_replace(());
        Ok(())
    }

    async fn put_back(&self, deliveries: Vec<PutBack>) -> Result<(), PutBackFailed> {
        let mut state = self.shared.state();
        for delivery in &deliveries {
            if let Err(error) = state.put_back(self.id, delivery) {
                drop(state);
                return Err(PutBackFailed { error, deliveries });
            }
        }
        drop(state);
        self.shared.changes.send_replace(());
        Ok(())
    }

    async fn set_prefetch(&self, prefetch: u32) -> Result<(), BrokerError> {
        let mut state = self.shared.state();
        let taker = state.consumers.get_mut(&self.id).ok_or_else(lost)?;
        taker.prefetch = bound(prefetch);
        drop(state);
        self.shared.changes.send_replace(());
        Ok(())
    }

    async fn cancel(&self) -> Result<(), BrokerError> {
        let mut state = self.shared.state();
        let taker = state.consumers.get_mut(&self.id).ok_or_else(lost)?;
        taker.end.get_or_insert(End::Cancelled);
        drop(state);
        self.shared.changes.send_replace(());
        Ok(())
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.give_back(self.id);
        state.consumers.remove(&self.id);
        drop(state);
        self.shared.changes.send_replace(());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, connection: u64) {
        let mut state = self.state();
        state.connections.retain(|known| *known != connection);
        state.topics.lose(connection);
        let consumers: Vec<u64> =
            state.consumers.iter().filter(|(_, taker)| taker.connection == connection).map(|(id, _)| *id).collect();
        for id in consumers {
            state.give_back(id);
            if let Some(taker) = state.consumers.get_mut(&id) {
                taker.end = Some(End::Lost);
            }
        }
        drop(state);
        self.changes.send_replace(());
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn publish(&mut self, publication: &Publication) -> Result<(), BrokerError> {
        let Publication { message, route } = publication;
        let number = self.next_number();
        // A queue is bound to the default exchange and to an exchange of its own name.
        let bound = route.exchange.is_empty() || route.exchange == route.routing_key;
        let name = QueueName::parse(&route.routing_key).ok();
        let queue = name.filter(|_| bound).and_then(|name| self.queues.get_mut(&name));
        let Some(queue) = queue else {
            let Route { exchange, routing_key } = route.clone();
            return Err(BrokerError::Unroutable { exchange, routing_key });
        };
        let place = Place(Reverse(message.properties.priority.unwrap_or(0)), number);
        queue.insert(place, Stored { message: message.clone(), route: route.clone(), deliveries: 0 });
        Ok(())
    }

    fn take(&mut self, consumer: u64) -> Result<Vec<Delivery>, End> {
        let taker = self.consumers.get_mut(&consumer).ok_or(End::Lost)?;
        if let Some(end) = taker.end {
            return Err(end);
        }
        let mut deliveries = Vec::new();
        let Some(waiting) = self.queues.get_mut(&taker.queue) else { return Ok(deliveries) };
        while taker.held.len() < taker.prefetch {
            let Some((place, stored)) = waiting.pop_first() else { break };
            self.last_number += 1;
            deliveries.push(stored.deliver(&taker.queue, self.last_number));
            taker.held.insert(self.last_number, (place, stored));
        }
        Ok(deliveries)
    }

    fn settle(
        &mut self,
        consumer: u64,
        receipt: &Receipt,
        acknowledgement: Acknowledgement,
    ) -> Result<(), BrokerError> {
        let taker = self.consumers.get_mut(&consumer).filter(|taker| taker.end != Some(End::Lost)).ok_or_else(lost)?;
        let Token::Number(number) = receipt.token() else { return Ok(()) };
        let Some((place, mut stored)) = taker.held.remove(number) else { return Ok(()) };
        if acknowledgement == Acknowledgement::Requeue {
            stored.deliveries += 1;
            self.queues.entry(taker.queue.clone()).or_default().insert(place, stored);
        }
        Ok(())
    }

    fn put_back(&mut self, consumer: u64, delivery: &PutBack) -> Result<(), BrokerError> {
        let taker = self.consumers.get_mut(&consumer).filter(|taker| taker.end != Some(End::Lost)).ok_or_else(lost)?;
        let Token::Number(number) = delivery.receipt.token() else { return Ok(()) };
        let Some((place, stored)) = taker.held.remove(number) else { return Ok(()) };
        self.later.insert((delivery.until, *number), (taker.queue.clone(), place, stored));
        Ok(())
    }

    /// Returns to their queues what was put back until now.
    fn return_due(&mut self, now: Timestamp) {
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            let (queue, place, stored) = first.remove();
            self.queues.entry(queue).or_default().insert(place, stored);
        }
    }

    /// Gives back all that a consumer holds.
    fn give_back(&mut self, consumer: u64) {
        let Some(taker) = self.consumers.get_mut(&consumer) else { return };
        let queue = self.queues.entry(taker.queue.clone()).or_default();
        for (_, (place, mut stored)) in taker.held.drain() {
            stored.deliveries += 1;
            queue.insert(place, stored);
        }
    }
}

impl Stored {
    fn deliver(&self, queue: &QueueName, number: u64) -> Delivery {
        let mut message = self.message.clone();
        if self.deliveries > 0 {
            message.headers.set(DELIVERY_COUNT_HEADER, HeaderValue::Int(self.deliveries));
        }
        let Route { exchange, routing_key } = self.route.clone();
        let redelivered = self.deliveries > 0;
        let info = DeliveryInfo { queue: queue.clone(), exchange, routing_key, redelivered };
        Delivery { message, info, receipt: Receipt::new(Token::Number(number)) }
    }
}

fn bound(prefetch: u32) -> usize {
    if prefetch == 0 { usize::MAX } else { prefetch as usize }
}

fn wall_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(0) + since
}

fn lost() -> BrokerError {
    BrokerError::Lost { reason: "the connection to the memory broker was closed".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn a_memory_broker_passes_the_suite() {
        let server = MemoryBroker::new();
        conformance::run(conformance::Capabilities::ALL, async || server.connect().map(|it| it as Arc<dyn Broker>))
            .await;
    }

    #[tokio::test]
    async fn a_lost_connection_ends_its_consumers_and_gives_back_what_they_held() {
        let server = MemoryBroker::new();
        let queue = QueueName::parse("q").unwrap();
        let broker = server.connect().unwrap();
        let consumer = broker.consume(&queue.clone().into(), 0).await.unwrap();
        let publication = Publication { message: Message::default(), route: Route::queue(&queue) };
        broker.publish(std::slice::from_ref(&publication)).await.unwrap();
        let held = consumer.next().await.unwrap().unwrap();

        server.refuse_connections(true);
        server.lose_connections();
        assert!(matches!(consumer.next().await, Err(BrokerError::Lost { .. })));
        let receipts = held.into_iter().map(|delivery| (delivery.receipt, Acknowledgement::Ack)).collect();
        assert!(consumer.settle(receipts).await.unwrap_err().is_transient());
        assert!(broker.publish(&[publication]).await.unwrap_err().is_transient());
        assert!(server.connect().is_err());

        server.refuse_connections(false);
        let again =
            server.connect().unwrap().consume(&queue.clone().into(), 0).await.unwrap().next().await.unwrap().unwrap();
        assert!(again[0].info.redelivered);
    }

    #[tokio::test]
    async fn names_are_shared_by_the_process() {
        let queue = QueueName::parse("q").unwrap();
        MemoryBroker::named("shared").connect().unwrap().declare(&queue.clone().into()).await.unwrap();
        let publication = Publication { message: Message::default(), route: Route::queue(&queue) };
        assert!(
            MemoryBroker::named("shared").connect().unwrap().publish(std::slice::from_ref(&publication)).await.is_ok()
        );
        assert!(MemoryBroker::named("other").connect().unwrap().publish(&[publication]).await.is_err());
    }
}
