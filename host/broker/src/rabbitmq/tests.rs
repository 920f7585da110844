//! Against a real server, named by `TASKHOST_TEST_AMQP`.

mod broadcasts;
mod left;
mod qpid;
mod queues;
mod tls;

use std::collections::BTreeSet;
use std::sync::Arc;

use lapin::options::QueueDeleteOptions;
use lapin::types::AMQPValue;
use taskhost_core::{ExchangeKind, HeaderValue, Message, QueueKind, Route};

use super::*;
use crate::conformance::{self, Capabilities, publication, settle, take, texts};
use crate::port::{Acknowledgement, DELIVERY_COUNT_HEADER, Delivery};

#[expect(clippy::print_stdout, reason = "the runner of the tests counts these lines")]
/// The URL of the server, or a line that says that the test is skipped.
fn server() -> Option<String> {
    let url = std::env::var("TASKHOST_TEST_AMQP").ok();
    if url.is_none() {
        println!("skipped: TASKHOST_TEST_AMQP is not set");
    }
    url
}

async fn connect() -> Option<RabbitMq> {
    let url = server()?;
    Some(RabbitMq::connect(&url, &ConnectOptions::default()).await.unwrap())
}

/// Makes a queue as somebody else might have.
async fn queue_with(broker: &RabbitMq, arguments: &[(&str, AMQPValue)]) -> QueueName {
    let queue = QueueName::parse(&format!("special.{}", Uuid::new_v4())).unwrap();
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        table.insert((*key).into(), value.clone());
    }
    let channel = broker.session.connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.as_str().into(), options, table).await.unwrap();
    queue
}

async fn delete(broker: &RabbitMq, queue: &QueueName) {
    let channel = broker.session.connection.create_channel().await.unwrap();
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_passes_the_suite() {
    let Some(url) = server() else { return };
    // Queues are made without `x-max-priority`, as Celery makes them, and classic ones do not count.
    let capabilities =
        Capabilities { priorities: false, json_headers: false, counts_deliveries: false, ..Capabilities::ALL };
    let options = ConnectOptions::default();
    conformance::run(capabilities, async || {
        RabbitMq::connect(&url, &options).await.map(|broker| Arc::new(broker) as Arc<dyn Broker>)
    })
    .await;
}

#[tokio::test]
async fn the_arguments_of_an_existing_queue_are_not_fought() {
    let Some(broker) = connect().await else { return };
    let queue = queue_with(&broker, &[("x-max-priority", AMQPValue::LongInt(5))]).await;
    broker.declare(&queue.clone().into()).await.unwrap();
    let mut urgent = publication(&queue, "urgent");
    urgent.message.properties.priority = Some(5);
    broker.publish(&[publication(&queue, "patient"), urgent]).await.unwrap();
    let consumer = broker.consume(&queue.clone().into(), 2).await.unwrap();
    let taken = take(&*consumer, 2).await;
    assert_eq!(texts(&taken), ["urgent", "patient"]);
    settle(&*consumer, taken, Acknowledgement::Ack).await;
    delete(&broker, &queue).await;
}

#[tokio::test]
async fn a_quorum_queue_is_consumed_and_counts_deliveries() {
    let Some(broker) = connect().await else { return };
    let queue = queue_with(&broker, &[("x-queue-type", text("quorum"))]).await;
    broker.publish(&[publication(&queue, "again")]).await.unwrap();
    let consumer = broker.consume(&queue.clone().into(), 1).await.unwrap();
    settle(&*consumer, take(&*consumer, 1).await, Acknowledgement::Requeue).await;
    let again = take(&*consumer, 1).await;
    assert!(again[0].info.redelivered);
    assert_eq!(again[0].message.headers.get(DELIVERY_COUNT_HEADER), Some(&HeaderValue::Int(1)));
    settle(&*consumer, again, Acknowledgement::Ack).await;
    delete(&broker, &queue).await;
}

#[tokio::test]
async fn a_queue_that_is_full_refuses_for_now() {
    let Some(broker) = connect().await else { return };
    let arguments = [("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", text("reject-publish"))];
    let queue = queue_with(&broker, &arguments).await;
    let calls: Vec<_> = (0..3).map(|number| publication(&queue, &number.to_string())).collect();
    let error = broker.publish(&calls).await.unwrap_err();
    assert!(matches!(error, BrokerError::Publish { transient: true, .. }), "{error:?}");
    broker.purge(&queue).await.unwrap();
    broker.publish(&calls[..1]).await.unwrap();
    delete(&broker, &queue).await;
}

#[tokio::test]
async fn a_deleted_queue_ends_its_consumer() {
    let Some(broker) = connect().await else { return };
    let queue = queue_with(&broker, &[]).await;
    let consumer = broker.consume(&queue.clone().into(), 1).await.unwrap();
    delete(&broker, &queue).await;
    let end = tokio::time::timeout(Duration::from_secs(20), consumer.next()).await.unwrap();
    assert!(matches!(end, Err(BrokerError::Lost { .. })), "{end:?}");
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_and_harms_nothing() {
    let Some(broker) = connect().await else { return };
    let queue = queue_with(&broker, &[]).await;
    let mut long = publication(&queue, "long");
    long.message.headers.set(&"k".repeat(300), HeaderValue::Null);
    let error = broker.publish(&[long]).await.unwrap_err();
    assert!(!error.is_transient());
    broker.publish(&[publication(&queue, "good")]).await.unwrap();
    delete(&broker, &queue).await;
}

#[tokio::test]
async fn nothing_is_lost_while_the_prefetch_changes() {
    const COUNT: usize = 3000;
    let Some(broker) = connect().await else { return };
    let queue = queue_with(&broker, &[]).await;
    let all: Vec<_> = (0..COUNT).map(|number| publication(&queue, &number.to_string())).collect();
    broker.publish(&all).await.unwrap();
    let consumer = broker.consume(&queue.clone().into(), 4).await.unwrap();
    let mut seen = BTreeSet::new();
    let mut held = Vec::new();
    let started = tokio::time::Instant::now();
    while seen.len() < COUNT {
        // Up and down about four times; slow enough that all of them happen on the way.
        let round = started.elapsed().as_millis() / 500;
        consumer.set_prefetch([4, 64, 3, 128][round as usize % 4]).await.unwrap();
        for delivery in take(&*consumer, 1).await {
            assert!(!delivery.info.redelivered);
            seen.extend(texts(std::slice::from_ref(&delivery)));
            held.push(delivery);
        }
        // Keeps one open for a while, so that the prefix is not contiguous.
        if held.len() > 2 {
            settle(&*consumer, held.drain(1..).collect(), Acknowledgement::Ack).await;
        }
        if seen.len() % 5 == 0 {
            settle(&*consumer, std::mem::take(&mut held), Acknowledgement::Ack).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    settle(&*consumer, held, Acknowledgement::Ack).await;
    consumer.cancel().await.unwrap();
    drop(consumer);
    assert_eq!(broker.depth(&queue).await.unwrap(), 0);
    delete(&broker, &queue).await;
}
