//! What every adapter means by the port: one suite that all of them pass.
//!
//! Tests the port only. What is special to a transport is tested beside its adapter, with the same hands.

mod broadcasting;
mod consuming;
mod publishing;
mod putting_back;
mod settling;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use taskhost_core::{HeaderValue, Message, Publication, QueueName, Route};

use crate::port::{Acknowledgement, Broker, BrokerError, Consumer, Delivery};

/// How long something that must happen may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long nothing has to happen until we believe that nothing will.
const QUIET: Duration = Duration::from_millis(300);

/// What a transport can do. The suite leaves out what it cannot.
#[derive(Debug, Clone, Copy)]
pub struct Capabilities {
    /// It knows whether a queue took a message.
    pub knows_unroutable: bool,
    /// Larger priorities are delivered first on a queue that `declare` made.
    pub priorities: bool,
    /// Headers may hold bytes and timestamps.
    pub typed_headers: bool,
    /// Headers may hold JSON that has no other form.
    pub json_headers: bool,
    /// A message may say how long it has to live.
    pub expirations: bool,
    /// What somebody has and has not settled yet does not count for the depth.
    pub depth_is_of_waiting: bool,
    /// It tells how often a message was delivered before.
    pub counts_deliveries: bool,
    /// A queue of a subscription belongs to one connection.
    pub knows_taken: bool,
    /// Messages come in the order in which they were sent.
    pub ordered: bool,
    /// The largest body that fits into a message.
    pub body_bytes_max: usize,
}

impl Capabilities {
    /// Whatever the port can express.
    pub const ALL: Self = Self {
        knows_unroutable: true,
        priorities: true,
        typed_headers: true,
        json_headers: true,
        expirations: true,
        depth_is_of_waiting: true,
        counts_deliveries: true,
        knows_taken: true,
        ordered: true,
        body_bytes_max: usize::MAX,
    };
}

/// Runs the suite. `connect` opens a new connection to the same broker each time; every case uses
/// queues of its own.
pub async fn run<C>(capabilities: Capabilities, connect: C)
where
    C: AsyncFn() -> Result<Arc<dyn Broker>, BrokerError>,
{
    let connect = async || within("connect", connect()).await.expect("connect");
    publishing::run(capabilities, &connect).await;
    consuming::run(capabilities, &connect).await;
    settling::run(capabilities, &connect).await;
    putting_back::run(capabilities, &connect).await;
    broadcasting::run(capabilities, &connect).await;
}

/// Names the case, so that a failure can be told from another in the output of a failed test.
fn case(sentence: &str) {
    eprintln!("conformance: {sentence}");
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing within {PATIENCE:?}"),
    }
}

fn new_queue() -> QueueName {
    QueueName::parse(&format!("conformance.{}", uuid::Uuid::new_v4())).expect("a UUID is a name")
}

fn message(text: &str) -> Message {
    let mut message = Message { body: Bytes::from(text.to_owned()), ..Message::default() };
    message.properties.delivery_mode = Some(2);
    message.properties.content_type = Some("text/plain".to_owned());
    message.properties.content_encoding = Some("utf-8".to_owned());
    message.headers.set("task", HeaderValue::Text("conformance".to_owned()));
    message
}

pub(crate) fn publication(queue: &QueueName, text: &str) -> Publication {
    Publication { message: message(text), route: Route::queue(queue) }
}

async fn publish(broker: &dyn Broker, queue: &QueueName, texts: &[&str]) {
    let publications: Vec<_> = texts.iter().map(|text| publication(queue, text)).collect();
    within("publish", broker.publish(&publications)).await.expect("publish");
}

/// A queue that holds these.
async fn filled(broker: &dyn Broker, texts: &[&str]) -> QueueName {
    let queue = new_queue();
    within("declare", broker.declare(&queue.clone().into())).await.expect("declare");
    publish(broker, &queue, texts).await;
    queue
}

async fn consume(broker: &dyn Broker, queue: &QueueName, prefetch: u32) -> Box<dyn Consumer> {
    within("consume", broker.consume(&queue.clone().into(), prefetch)).await.expect("consume")
}

/// Waits for so many deliveries.
pub(crate) async fn take(consumer: &dyn Consumer, wanted: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < wanted {
        let what = format!("delivery {} of {wanted}", taken.len() + 1);
        let batch = within(&what, consumer.next()).await.expect("next").expect("not cancelled");
        assert!(!batch.is_empty(), "a batch holds at least one delivery");
        taken.extend(batch);
    }
    taken
}

/// Sees that nothing comes.
#[cfg(test)]
pub(crate) async fn expect_quiet(consumer: &dyn Consumer) {
    let came = tokio::time::timeout(QUIET, consumer.next()).await;
    assert!(came.is_err(), "{came:?}");
}

/// Takes what comes until nothing comes any more.
async fn take_until_quiet(consumer: &dyn Consumer) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while let Ok(batch) = tokio::time::timeout(QUIET, consumer.next()).await {
        taken.extend(batch.expect("next").expect("not cancelled"));
    }
    taken
}

pub(crate) async fn settle(consumer: &dyn Consumer, deliveries: Vec<Delivery>, acknowledgement: Acknowledgement) {
    let receipts = deliveries.into_iter().map(|delivery| (delivery.receipt, acknowledgement)).collect();
    within("settle", consumer.settle(receipts)).await.expect("settle");
}

/// Waits until the queue holds so many waiting messages: a broker may need a moment after a settlement.
async fn expect_depth(broker: &dyn Broker, queue: &QueueName, expected: u64) {
    let reach = async {
        while broker.depth(queue).await.expect("depth") != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(&format!("depth {expected}"), reach).await;
}

/// Sees that these are the same texts, in the same order where the transport keeps one.
#[track_caller]
fn expect_texts<T: AsRef<str>>(capabilities: Capabilities, seen: &[String], expected: &[T]) {
    let mut seen: Vec<&str> = seen.iter().map(String::as_str).collect();
    let mut expected: Vec<&str> = expected.iter().map(AsRef::as_ref).collect();
    if !capabilities.ordered {
        seen.sort_unstable();
        expected.sort_unstable();
    }
    assert_eq!(seen, expected);
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.body).into_owned()
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(text).collect()
}

fn text_set(deliveries: &[Delivery]) -> BTreeSet<String> {
    deliveries.iter().map(text).collect()
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("message {number:04}")).collect()
}

fn refs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}
