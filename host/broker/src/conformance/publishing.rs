//! What is published arrives, as it was and once.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use taskhost_core::{HeaderValue, Publication, Route};

use super::{
    Capabilities, case, consume, expect_depth, expect_texts, filled, message, new_queue, numbered, publication,
    publish, refs, settle, take, text, texts, within,
};
use crate::port::{Acknowledgement, Broker, BrokerError};

pub(super) async fn run<C: AsyncFn() -> Arc<dyn Broker>>(capabilities: Capabilities, connect: &C) {
    case("properties, headers and body arrive as they were sent");
    everything_arrives_as_it_was(capabilities, &*connect().await).await;
    case("bodies may be empty, binary and large");
    bodies_of_all_kinds(capabilities, &*connect().await).await;
    case("messages arrive in the order of their publication, where there is one");
    order_is_kept(capabilities, &*connect().await).await;
    if capabilities.priorities {
        case("larger priorities are delivered first");
        urgent_first(&*connect().await).await;
    }
    if capabilities.knows_unroutable {
        case("a message that no queue takes is an error that names its route");
        unroutable_is_an_error(&*connect().await).await;
    }
    case("what is sent unconfirmed arrives, or vanishes without an error");
    unconfirmed_is_best_effort(capabilities, &*connect().await).await;
    case("depth counts and purge deletes what waits");
    depth_and_purge(&*connect().await).await;
    case("many publishers and two consumers: everything arrives exactly once");
    exactly_once_when_nothing_fails(connect).await;
}

async fn everything_arrives_as_it_was(capabilities: Capabilities, broker: &dyn Broker) {
    let queue = filled(broker, &[]).await;
    let mut sent = message("[[], {}, null]");
    sent.properties.correlation_id = Some("b1b2a7d3".to_owned());
    sent.properties.reply_to = Some("übergabe".to_owned());
    sent.properties.priority = Some(0);
    sent.properties.expiration = capabilities.expirations.then(|| "3600000".to_owned());
    let nested = vec![("depth".to_owned(), HeaderValue::Int(2)), ("text".to_owned(), HeaderValue::Text("x".into()))];
    let list = vec![HeaderValue::Int(300), HeaderValue::Null, HeaderValue::Text("a".into())];
    let mut headers = vec![
        ("null", HeaderValue::Null),
        ("true", HeaderValue::Bool(true)),
        ("false", HeaderValue::Bool(false)),
        ("zero", HeaderValue::Int(0)),
        ("negative", HeaderValue::Int(-7)),
        ("large", HeaderValue::Int(i64::MAX)),
        ("double", HeaderValue::Double(0.25)),
        ("empty", HeaderValue::Text(String::new())),
        ("text", HeaderValue::Text("naïve \u{1F980} \"quoted\"\n".into())),
        ("long", HeaderValue::Text("x".repeat(70_000))),
        ("list", HeaderValue::List(list)),
        ("map", HeaderValue::Map(nested)),
    ];
    if capabilities.typed_headers {
        headers.push(("bytes", HeaderValue::Bytes(vec![0, 159, 146, 150])));
        headers.push(("timestamp", HeaderValue::Timestamp(1_795_343_528)));
    }
    if capabilities.json_headers {
        headers.push(("json", HeaderValue::Json("123456789012345678901234567890".into())));
    }
    for (key, value) in headers {
        sent.headers.set(key, value);
    }
    let publication = Publication { message: sent.clone(), route: Route::queue(&queue) };
    within("publish", broker.publish(&[publication])).await.expect("publish");

    let consumer = consume(broker, &queue, 1).await;
    let mut taken = take(&*consumer, 1).await;
    let delivery = taken.remove(0);
    assert_eq!(delivery.message.properties, sent.properties);
    assert_eq!(delivery.message.body, sent.body);
    assert_eq!(delivery.message.headers.0.len(), sent.headers.0.len(), "{:?}", delivery.message.headers);
    for (key, value) in &sent.headers.0 {
        assert_eq!(delivery.message.headers.get(key), Some(value), "header {key}");
    }
    assert_eq!(delivery.info.queue, queue);
    assert_eq!(delivery.info.exchange, "");
    assert_eq!(delivery.info.routing_key, queue.as_str());
    assert!(!delivery.info.redelivered);
    settle(&*consumer, vec![delivery], Acknowledgement::Ack).await;
}

async fn bodies_of_all_kinds(capabilities: Capabilities, broker: &dyn Broker) {
    let queue = filled(broker, &[]).await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    let large = 1_000_000.min(capabilities.body_bytes_max) as u32;
    let large: Vec<u8> = (0..large).map(|n| (n % 251) as u8).collect();
    let bodies = [Bytes::new(), Bytes::from(all_bytes), Bytes::from(large)];
    for body in &bodies {
        let mut message = message("");
        message.properties.content_type = Some("application/x-msgpack".to_owned());
        message.properties.content_encoding = Some("binary".to_owned());
        message.body = body.clone();
        let publication = Publication { message, route: Route::queue(&queue) };
        within("publish", broker.publish(&[publication])).await.expect("publish");
    }
    let consumer = consume(broker, &queue, 0).await;
    let taken = take(&*consumer, bodies.len()).await;
    for (place, body) in bodies.iter().enumerate() {
        let arrived = match capabilities.ordered {
            true => taken[place].message.body == body,
            false => taken.iter().any(|delivery| delivery.message.body == body),
        };
        assert!(arrived, "body of {} bytes is not as it was sent", body.len());
    }
    settle(&*consumer, taken, Acknowledgement::Ack).await;
}

async fn order_is_kept(capabilities: Capabilities, broker: &dyn Broker) {
    let sent = numbered(200);
    let queue = filled(broker, &[]).await;
    for part in sent.chunks(70) {
        publish(broker, &queue, &refs(part)).await;
    }
    let consumer = consume(broker, &queue, 10).await;
    let mut seen = Vec::new();
    while seen.len() < sent.len() {
        let taken = take(&*consumer, 1).await;
        seen.extend(texts(&taken));
        settle(&*consumer, taken, Acknowledgement::Ack).await;
    }
    expect_texts(capabilities, &seen, &sent);
}

async fn urgent_first(broker: &dyn Broker) {
    let queue = filled(broker, &[]).await;
    for (text, priority) in [("a0", 0), ("b9", 9), ("c5", 5), ("d9", 9), ("e0", 0)] {
        let mut publication = publication(&queue, text);
        publication.message.properties.priority = Some(priority);
        within("publish", broker.publish(&[publication])).await.expect("publish");
    }
    let consumer = consume(broker, &queue, 0).await;
    let taken = take(&*consumer, 5).await;
    assert_eq!(texts(&taken), ["b9", "d9", "c5", "a0", "e0"]);
    settle(&*consumer, taken, Acknowledgement::Ack).await;
}

async fn unroutable_is_an_error(broker: &dyn Broker) {
    let queue = filled(broker, &[]).await;
    let nowhere = new_queue();
    let calls = [publication(&queue, "before"), publication(&nowhere, "lost"), publication(&queue, "after")];
    let error = within("publish", broker.publish(&calls)).await.expect_err("nobody takes it");
    assert!(!error.is_transient());
    let BrokerError::Unroutable { exchange, routing_key } = error else { panic!("not Unroutable: {error:?}") };
    assert_eq!((exchange.as_str(), routing_key.as_str()), ("", nowhere.as_str()));
    assert_eq!(broker.depth(&nowhere).await.expect("depth"), 0);

    let mut elsewhere = publication(&queue, "lost");
    elsewhere.route.exchange = nowhere.to_string();
    let error = within("publish", broker.publish(&[elsewhere])).await.expect_err("there is no such exchange");
    assert!(!error.is_transient());
    // The connection is as good as before.
    publish(broker, &queue, &["still works"]).await;
}

async fn unconfirmed_is_best_effort(capabilities: Capabilities, broker: &dyn Broker) {
    let queue = filled(broker, &[]).await;
    let calls = [publication(&queue, "one"), publication(&new_queue(), "lost"), publication(&queue, "two")];
    within("send", broker.send_unconfirmed(&calls)).await.expect("nobody asks where they went");
    let consumer = consume(broker, &queue, 0).await;
    let taken = take(&*consumer, 2).await;
    expect_texts(capabilities, &texts(&taken), &["one", "two"]);
    settle(&*consumer, taken, Acknowledgement::Ack).await;
}

async fn depth_and_purge(broker: &dyn Broker) {
    assert_eq!(broker.depth(&new_queue()).await.expect("depth of a missing queue"), 0);
    assert_eq!(broker.purge(&new_queue()).await.expect("purge of a missing queue"), 0);
    let queue = filled(broker, &["a", "b", "c"]).await;
    // Declaring what exists changes nothing.
    broker.declare(&queue.clone().into()).await.expect("declare again");
    expect_depth(broker, &queue, 3).await;
    assert_eq!(broker.purge(&queue).await.expect("purge"), 3);
    expect_depth(broker, &queue, 0).await;
    publish(broker, &queue, &["d"]).await;
    let consumer = consume(broker, &queue, 0).await;
    assert_eq!(text(&take(&*consumer, 1).await[0]), "d");
}

async fn exactly_once_when_nothing_fails<C: AsyncFn() -> Arc<dyn Broker>>(connect: &C) {
    const TASKS: usize = 8;
    const EACH: usize = 60;
    let connections = [connect().await, connect().await];
    let queue = filled(&*connections[0], &[]).await;
    let publishers: Vec<_> = (0..TASKS)
        .map(|task| {
            let (broker, queue) = (Arc::clone(&connections[task % 2]), queue.clone());
            tokio::spawn(async move {
                for number in 0..EACH / 2 {
                    let pair = [format!("{task}/{number}/a"), format!("{task}/{number}/b")];
                    publish(&*broker, &queue, &refs(&pair)).await;
                }
            })
        })
        .collect();
    let consumers = [consume(&*connections[0], &queue, 16).await, consume(&*connections[1], &queue, 16).await];
    let mut seen = Vec::new();
    while seen.len() < TASKS * EACH {
        let (batch, consumer) = tokio::select! {
            batch = consumers[0].next() => (batch, &consumers[0]),
            batch = consumers[1].next() => (batch, &consumers[1]),
            () = tokio::time::sleep(super::PATIENCE) => panic!("only {} of {} arrived", seen.len(), TASKS * EACH),
        };
        let batch = batch.expect("next").expect("not cancelled");
        assert!(batch.iter().all(|delivery| !delivery.info.redelivered));
        seen.extend(texts(&batch));
        settle(&**consumer, batch, Acknowledgement::Ack).await;
    }
    for publisher in publishers {
        publisher.await.expect("publisher");
    }
    let distinct: BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), TASKS * EACH, "nothing arrives twice");
    expect_depth(&*connections[0], &queue, 0).await;
}
