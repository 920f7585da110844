//! Queues of all kinds, made from their description, and what is put back from them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lapin::options::ExchangeDeleteOptions;
use taskhost_core::{Exchange, Timestamp};

use super::*;
use crate::conformance::expect_quiet;
use crate::port::PutBack;

const WAIT: Duration = Duration::from_secs(2);

fn described(kind: ExchangeKind, routing_key: &str) -> Queue {
    let id = Uuid::new_v4();
    Queue {
        exchange: Exchange { name: format!("exchange.{id}"), kind },
        routing_key: routing_key.to_owned(),
        ..Queue::named(QueueName::parse(&format!("queue.{id}")).unwrap())
    }
}

/// Another queue of the same exchange.
fn sibling(queue: &Queue, routing_key: &str) -> Queue {
    let other = described(ExchangeKind::Direct, routing_key);
    Queue { exchange: queue.exchange.clone(), ..other }
}

fn to(queue: &Queue, routing_key: &str, body: &str) -> Publication {
    let Publication { message, .. } = publication(&queue.name, body);
    Publication { message, route: Route { exchange: queue.exchange.name.clone(), routing_key: routing_key.to_owned() } }
}

fn later(delivery: Delivery) -> PutBack {
    let Delivery { message, info, receipt } = delivery;
    let route = Route { exchange: info.exchange, routing_key: info.routing_key };
    let now = Timestamp::from_micros(0) + SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    PutBack { receipt, publication: Publication { message, route }, until: now + WAIT }
}

async fn clean_up(broker: &RabbitMq, queues: &[&Queue]) {
    for queue in queues {
        delete(broker, &queue.name).await;
        let channel = broker.session.connection.create_channel().await.unwrap();
        let name = queue.exchange.name.as_str();
        channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_missing_queue_is_made_as_it_is_described() {
    let Some(broker) = connect().await else { return };
    let plain = described(ExchangeKind::Direct, "some.key");
    let urgent = Queue { max_priority: Some(10), ..plain };
    let consumer = broker.consume(&urgent, 0).await.unwrap();
    drop(consumer);
    let mut first = to(&urgent, "some.key", "urgent");
    first.message.properties.priority = Some(7);
    broker.publish(&[to(&urgent, "some.key", "patient"), first]).await.unwrap();
    let consumer = broker.consume(&urgent, 0).await.unwrap();
    let taken = take(&*consumer, 2).await;
    assert_eq!(texts(&taken), ["urgent", "patient"]);
    assert_eq!(
        (taken[0].info.exchange.as_str(), taken[0].info.routing_key.as_str()),
        (&*urgent.exchange.name, "some.key")
    );
    settle(&*consumer, taken, Acknowledgement::Ack).await;

    let counting = Queue { kind: QueueKind::Quorum, ..described(ExchangeKind::Direct, "k") };
    let consumer = broker.consume(&counting, 0).await.unwrap();
    broker.publish(&[to(&counting, "k", "again")]).await.unwrap();
    settle(&*consumer, take(&*consumer, 1).await, Acknowledgement::Requeue).await;
    let again = take(&*consumer, 1).await;
    assert_eq!(again[0].message.headers.get(DELIVERY_COUNT_HEADER), Some(&HeaderValue::Int(1)));
    settle(&*consumer, again, Acknowledgement::Ack).await;

    // What exists stays as it is, whatever is wanted now.
    let other = Queue { kind: QueueKind::Classic, max_priority: Some(3), ..counting.clone() };
    broker.declare(&other).await.unwrap();
    clean_up(&broker, &[&urgent, &counting]).await;
}

#[tokio::test]
async fn a_queue_that_cannot_be_is_an_error_that_says_why() {
    let Some(broker) = connect().await else { return };
    let strange = described(ExchangeKind::Direct, "k");
    let strange = Queue { kind: QueueKind::Quorum, max_priority: Some(10), ..strange };
    let error = broker.declare(&strange).await.unwrap_err();
    assert!(!error.is_transient());
    let BrokerError::Declare { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("x-max-priority"), "{source}");
}

#[tokio::test]
async fn fanout_and_headers_exchanges_lead_to_their_queues() {
    let Some(broker) = connect().await else { return };
    let one = described(ExchangeKind::Fanout, "");
    let other = sibling(&one, "");
    let consumers = [broker.consume(&one, 0).await.unwrap(), broker.consume(&other, 0).await.unwrap()];
    broker.publish(&[to(&one, "whatever", "for both")]).await.unwrap();
    for consumer in &consumers {
        let taken = take(&**consumer, 1).await;
        assert_eq!(texts(&taken), ["for both"]);
        settle(&**consumer, taken, Acknowledgement::Ack).await;
    }

    let matching = [("x-match", "all"), ("region", "eu")];
    let matching = matching.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let by_header = Queue { binding_arguments: matching, ..described(ExchangeKind::Headers, "") };
    let consumer = broker.consume(&by_header, 0).await.unwrap();
    let mut near = to(&by_header, "", "near");
    near.message.headers.set("region", HeaderValue::Text("eu".to_owned()));
    broker.publish(&[near]).await.unwrap();
    let far = broker.publish(&[to(&by_header, "", "far")]).await.unwrap_err();
    assert!(matches!(far, BrokerError::Unroutable { .. }), "{far:?}");
    let taken = take(&*consumer, 1).await;
    assert_eq!(texts(&taken), ["near"]);
    settle(&*consumer, taken, Acknowledgement::Ack).await;
    drop((consumers, consumer));
    clean_up(&broker, &[&one, &other, &by_header]).await;
}

#[tokio::test]
async fn every_consumer_of_a_broadcast_queue_gets_each_message() {
    let Some(broker) = connect().await else { return };
    let everybody = Queue { broadcast: true, ..described(ExchangeKind::Fanout, "") };
    broker.declare(&everybody).await.unwrap();
    let other = connect().await.unwrap();
    let consumers = [broker.consume(&everybody, 0).await.unwrap(), other.consume(&everybody, 0).await.unwrap()];
    broker.publish(&[to(&everybody, "", "all")]).await.unwrap();
    for consumer in &consumers {
        let taken = take(&**consumer, 1).await;
        assert_eq!(texts(&taken), ["all"]);
        assert_eq!(taken[0].info.queue, everybody.name);
        settle(&**consumer, taken, Acknowledgement::Ack).await;
    }
    // What one of them puts back comes back to that one only.
    broker.publish(&[to(&everybody, "", "later")]).await.unwrap();
    settle(&*consumers[1], take(&*consumers[1], 1).await, Acknowledgement::Ack).await;
    let taken = take(&*consumers[0], 1).await.remove(0);
    consumers[0].put_back(vec![later(taken)]).await.unwrap();
    let again = take(&*consumers[0], 1).await;
    assert_eq!(texts(&again), ["later"]);
    assert_eq!(again[0].info.exchange, everybody.exchange.name);
    settle(&*consumers[0], again, Acknowledgement::Ack).await;
    expect_quiet(&*consumers[1]).await;
    // They are gone with their connections.
    other.close().await;
    broker.publish(&[to(&everybody, "", "one is left")]).await.unwrap();
    settle(&*consumers[0], take(&*consumers[0], 1).await, Acknowledgement::Ack).await;
}

#[tokio::test]
async fn what_is_put_back_comes_to_its_queue_alone() {
    let Some(broker) = connect().await else { return };
    let queue = Queue { kind: QueueKind::Quorum, ..described(ExchangeKind::Topic, "images.*") };
    // As `#` would, this makes Celery's binding catch all that is put back.
    let other = Queue { kind: QueueKind::Quorum, ..sibling(&queue, "#.x-put-back") };
    // A queue whose name ends like the other's.
    let similar = Queue::named(QueueName::parse(&format!("similar.{}", queue.name)).unwrap());
    let consumers = [
        broker.consume(&queue, 0).await.unwrap(),
        broker.consume(&other, 0).await.unwrap(),
        broker.consume(&similar, 0).await.unwrap(),
    ];
    broker.publish(&[to(&queue, "images.large", "images"), publication(&similar.name, "similar")]).await.unwrap();
    let similars = take(&*consumers[2], 1).await.remove(0);
    consumers[2].put_back(vec![later(similars)]).await.unwrap();
    let taken = take(&*consumers[0], 1).await.remove(0);
    consumers[0].put_back(vec![later(taken)]).await.unwrap();
    let again = take(&*consumers[0], 1).await;
    assert_eq!(texts(&again), ["images"]);
    assert_eq!(again[0].info.routing_key, "images.large");
    assert_eq!(again[0].info.exchange, queue.exchange.name);
    settle(&*consumers[0], again, Acknowledgement::Ack).await;
    let again = take(&*consumers[2], 1).await;
    assert_eq!(texts(&again), ["similar"]);
    settle(&*consumers[2], again, Acknowledgement::Ack).await;
    for consumer in &consumers {
        expect_quiet(&**consumer).await;
    }
    drop(consumers);
    clean_up(&broker, &[&queue, &other, &similar]).await;
}

#[tokio::test]
async fn clients_may_delay_what_they_send_to_a_quorum_queue() {
    let Some(broker) = connect().await else { return };
    let queue = Queue { kind: QueueKind::Quorum, ..described(ExchangeKind::Topic, "images") };
    let consumer = broker.consume(&queue, 0).await.unwrap();
    // As kombu's `calculate_routing_key(2, "images")` says.
    let key = format!("{}1.0.images", "0.".repeat(26));
    let route = Route { exchange: "celery_delayed_27".to_owned(), routing_key: key };
    let message = Message { body: "delayed".into(), ..Message::default() };
    let began = Instant::now();
    broker.publish(&[Publication { message, route }]).await.unwrap();
    let taken = take(&*consumer, 1).await;
    assert!(began.elapsed() > Duration::from_secs(1));
    assert_eq!(
        (taken[0].info.exchange.as_str(), taken[0].info.routing_key.as_str()),
        (&*queue.exchange.name, "images")
    );
    assert_eq!(taken[0].message.headers, Default::default());
    settle(&*consumer, taken, Acknowledgement::Ack).await;
    drop(consumer);
    clean_up(&broker, &[&queue]).await;
}

#[tokio::test]
async fn a_queue_whose_name_leaves_no_room_for_a_delay_keeps_its_messages() {
    let Some(broker) = connect().await else { return };
    let queue = Queue::named(QueueName::parse(&format!("{}{}", Uuid::new_v4(), "x".repeat(170))).unwrap());
    broker.declare(&queue).await.unwrap();
    broker.publish(&[publication(&queue.name, "kept")]).await.unwrap();
    let consumer = broker.consume(&queue, 0).await.unwrap();
    let taken = take(&*consumer, 1).await.remove(0);
    let failed = consumer.put_back(vec![later(taken)]).await.unwrap_err();
    assert!(!failed.error.is_transient());
    let receipts = failed.deliveries.into_iter().map(|kept| (kept.receipt, Acknowledgement::Ack)).collect();
    consumer.settle(receipts).await.unwrap();
    drop(consumer);
    assert_eq!(broker.depth(&queue.name).await.unwrap(), 0);
    assert!(broker.capabilities().puts_back);
    clean_up(&broker, &[&queue]).await;
}
