//! What is put back comes again when its time has come, and is otherwise as if nothing had happened.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use taskhost_core::{HeaderValue, Publication, QueueName, Route, Timestamp};

use super::{
    Capabilities, QUIET, case, consume, expect_depth, expect_texts, filled, message, numbered, refs, settle, take,
    take_until_quiet, text, texts, within,
};
use crate::port::{Acknowledgement, Broker, Consumer, Delivery, PutBack};

/// How long things wait here: long enough to see a delivery that is a second early.
const WAIT: Duration = Duration::from_secs(3);

/// How much too early a delivery may be.
const EARLY_MAX: Duration = Duration::from_secs(1);

pub(super) async fn run<C: AsyncFn() -> Arc<dyn Broker>>(capabilities: Capabilities, connect: &C) {
    if !connect().await.capabilities().puts_back {
        return;
    }
    case("what is put back comes again as it was, when its time has come");
    comes_back_as_it_was(&*connect().await).await;
    case("putting back makes room for others and leaves them alone");
    others_are_left_alone(capabilities, &*connect().await).await;
    case("what was put back survives the connection");
    survives_the_connection(connect).await;
    case("many with times of their own come back once each, those of the past at once");
    many_come_back_once(&*connect().await).await;
}

fn now() -> Timestamp {
    Timestamp::from_micros(0) + SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

fn back(delivery: Delivery, until: Timestamp) -> PutBack {
    let Delivery { message, info, receipt } = delivery;
    let route = Route { exchange: info.exchange, routing_key: info.routing_key };
    PutBack { receipt, publication: Publication { message, route }, until }
}

async fn put_back(consumer: &dyn Consumer, deliveries: Vec<PutBack>) {
    within("put back", consumer.put_back(deliveries)).await.expect("put back");
}

/// Takes one, and sees that it does not come too early.
async fn take_at(consumer: &dyn Consumer, due: Instant) -> Delivery {
    let delivery = take(consumer, 1).await.remove(0);
    let early = due.saturating_duration_since(Instant::now());
    assert!(early <= EARLY_MAX, "`{}` comes {early:?} too early", text(&delivery));
    delivery
}

async fn comes_back_as_it_was(broker: &dyn Broker) {
    let queue = filled(broker, &[]).await;
    let mut sent = message("later");
    sent.properties.correlation_id = Some("b1b2a7d3".to_owned());
    sent.properties.priority = Some(3);
    sent.properties.expiration = Some("1000".to_owned());
    sent.headers.set("number", HeaderValue::Int(7));
    let publication = Publication { message: sent, route: Route::queue(&queue) };
    // Already there when it comes, which has only a second to live in a queue.
    let consumer = consume(broker, &queue, 1).await;
    within("publish", broker.publish(&[publication])).await.expect("publish");
    let first = take(&*consumer, 1).await.remove(0);
    let (message, info) = (first.message.clone(), first.info.clone());

    // Twice, since the first time must not leave anything behind.
    let mut again = first;
    for _ in 0..2 {
        let due = Instant::now() + WAIT;
        put_back(&*consumer, vec![back(again, now() + WAIT)]).await;
        again = take_at(&*consumer, due).await;
        assert_eq!(again.message.properties, message.properties);
        assert_eq!(again.message.body, message.body);
        let sorted = |headers: &taskhost_core::Headers| {
            let mut headers = headers.0.clone();
            headers.sort_by(|(one, _), (other, _)| one.cmp(other));
            headers
        };
        assert_eq!(sorted(&again.message.headers), sorted(&message.headers));
        assert_eq!(again.info, info);
    }
    settle(&*consumer, vec![again], Acknowledgement::Ack).await;
    expect_depth(broker, &queue, 0).await;
}

async fn others_are_left_alone(capabilities: Capabilities, broker: &dyn Broker) {
    let sent = ["held", "later", "next"];
    let queue = filled(broker, &sent).await;
    let consumer = consume(broker, &queue, 2).await;
    let mut held = take(&*consumer, 2).await;
    let due = Instant::now() + WAIT;
    let later = held.remove(1);
    let mut seen = vec![text(&later)];
    put_back(&*consumer, vec![back(later, now() + WAIT)]).await;
    put_back(&*consumer, Vec::new()).await;
    held.extend(take(&*consumer, 1).await);
    seen.extend(texts(&held));
    expect_texts(capabilities, &[&seen[1..2], &seen[..1], &seen[2..]].concat(), &sent);
    settle(&*consumer, held, Acknowledgement::Ack).await;
    let later = take_at(&*consumer, due).await;
    assert_eq!(text(&later), seen[0]);
    settle(&*consumer, vec![later], Acknowledgement::Ack).await;
    assert_eq!(texts(&take_until_quiet(&*consumer).await), [""; 0]);
}

async fn survives_the_connection<C: AsyncFn() -> Arc<dyn Broker>>(connect: &C) {
    let broker = connect().await;
    let queue = filled(&*broker, &["put back", "put back, not consumed"]).await;
    let consumer = consume(&*broker, &queue, 0).await;
    let held = take(&*consumer, 2).await;
    let due = Instant::now() + WAIT;
    put_back(&*consumer, held.into_iter().map(|delivery| back(delivery, now() + WAIT)).collect()).await;
    within("close", broker.close()).await;
    drop((consumer, broker));

    let other = connect().await;
    let consumer = consume(&*other, &queue, 1).await;
    let early = tokio::time::timeout(QUIET, consumer.next()).await;
    assert!(early.is_err(), "nothing is there yet: {early:?}");
    let first = take_at(&*consumer, due).await;
    assert!(!first.info.redelivered, "it was given back, not lost");
    settle(&*consumer, vec![first], Acknowledgement::Ack).await;
    settle(&*consumer, take(&*consumer, 1).await, Acknowledgement::Ack).await;
    expect_depth(&*other, &queue, 0).await;
}

async fn many_come_back_once(broker: &dyn Broker) {
    const COUNT: usize = 600;
    let sent = numbered(COUNT);
    let queue: QueueName = filled(broker, &refs(&sent)).await;
    let consumer = consume(broker, &queue, 0).await;
    let held = take(&*consumer, COUNT).await;
    let (began, start) = (Instant::now(), now());
    let offset = |text: &str| Duration::from_millis(text.bytes().last().map_or(0, u64::from) % 4 * 1000);
    let deliveries = held.into_iter().map(|delivery| {
        let offset = offset(&text(&delivery));
        // A quarter was due a second ago.
        let until = if offset.is_zero() { start - Duration::from_secs(1) } else { start + offset };
        back(delivery, until)
    });
    put_back(&*consumer, deliveries.collect()).await;
    let mut seen = BTreeSet::new();
    while seen.len() < COUNT {
        let batch = take(&*consumer, 1).await;
        for delivery in &batch {
            let text = text(delivery);
            let early = (began + offset(&text)).saturating_duration_since(Instant::now());
            assert!(early <= EARLY_MAX, "{text} comes {early:?} too early");
            assert!(seen.insert(text), "nothing comes twice");
        }
        settle(&*consumer, batch, Acknowledgement::Ack).await;
    }
    assert_eq!(texts(&take_until_quiet(&*consumer).await), [""; 0]);
    expect_depth(broker, &queue, 0).await;
}
