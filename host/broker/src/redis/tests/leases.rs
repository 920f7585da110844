//! What dead hosts and dead Python workers held, and what waits for its time.

use std::collections::BTreeSet;

use taskhost_core::Timestamp;

use super::*;
use crate::port::{DELIVERY_COUNT_HEADER, PutBack};

#[tokio::test]
async fn what_a_dead_host_held_is_taken_over_within_seconds() {
    let Some(bench) = Bench::new().await else { return };
    let bench = bench.with_short_lease();
    let dying = bench.broker().await;
    let consumer = dying.consume(&queue(), 0).await.unwrap();
    publish(&dying, &["a", "b"]).await;
    let held = take(&*consumer, 2).await;
    let survivor = bench.broker().await;
    let other = survivor.consume(&queue(), 0).await.unwrap();
    let began = Instant::now();
    drop(dying);
    assert!(matches!(consumer.next().await, Err(BrokerError::Lost { .. })));
    let again = take(&*other, 2).await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(texts(&again), ["a", "b"]);
    for delivery in &again {
        assert!(delivery.info.redelivered);
        assert_eq!(delivery.message.headers.get(DELIVERY_COUNT_HEADER), Some(&HeaderValue::Int(1)));
    }
    let receipts = held.into_iter().map(|it| (it.receipt, Acknowledgement::Ack)).collect();
    assert!(consumer.settle(receipts).await.is_err_and(|error| error.is_transient()));
    settle(&*other, again, Acknowledgement::Ack).await;
    assert_eq!(bench.ask::<u64>("HLEN", "unacked", &[]).await, 0);
}

#[tokio::test]
async fn a_host_that_was_taken_for_dead_knows_it() {
    let Some(bench) = Bench::new().await else { return };
    let bench = bench.with_short_lease();
    let broker = bench.broker().await;
    let consumer = broker.consume(&queue(), 0).await.unwrap();
    bench.ask::<u64>("DEL", "_taskhost.owners", &[]).await;
    let end = tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap();
    assert!(matches!(end, Err(BrokerError::Lost { .. })), "{end:?}");
    assert!(broker.publish(&[publication("a", 0)]).await.is_err_and(|error| error.is_transient()));
    assert!(broker.consume(&queue(), 0).await.is_err_and(|error| error.is_transient()));
}

#[tokio::test]
async fn scores_of_what_we_hold_are_renewed_so_that_nobody_restores_it() {
    let Some(bench) = Bench::new().await else { return };
    let bench = bench.with_visibility_timeout(Duration::from_secs(1));
    let (broker, other) = (bench.broker().await, bench.broker().await);
    let consumer = broker.consume(&queue(), 1).await.unwrap();
    let _idle = other.consume(&name_of("other"), 1).await.unwrap();
    publish(&broker, &["long"]).await;
    let held = take(&*consumer, 1).await;
    let first = bench.scores().await;
    // Three times the visibility timeout.
    eventually("renewals", async || bench.scores().await[0].1 > first[0].1 + 3.0).await;
    // Lost from the index, it is put there again.
    bench.ask::<u64>("DEL", "unacked_index", &[]).await;
    eventually("a repaired index", async || bench.scores().await.len() == 1).await;
    assert_eq!(broker.depth(&name()).await.unwrap(), 0);
    settle(&*consumer, held, Acknowledgement::Ack).await;
    assert_eq!(bench.scores().await, []);
}

#[tokio::test]
async fn what_lost_its_index_entry_or_its_owner_is_found_by_who_connects() {
    let Some(bench) = Bench::new().await else { return };
    let bench = bench.with_short_lease();
    let dying = bench.broker().await;
    let consumer = dying.consume(&queue(), 2).await.unwrap();
    publish(&dying, &["a", "b"]).await;
    let held = take(&*consumer, 2).await;
    drop(dying);
    assert!(matches!(consumer.next().await, Err(BrokerError::Lost { .. })));
    bench.ask::<u64>("DEL", "_taskhost.owners", &[]).await;
    bench.ask::<u64>("DEL", "unacked_index", &[]).await;
    let survivor = bench.broker().await;
    let other = survivor.consume(&queue(), 2).await.unwrap();
    let again = take(&*other, 2).await;
    assert_eq!(again.len(), held.len());
    settle(&*other, again, Acknowledgement::Ack).await;
    assert_eq!(bench.scores().await, []);
    assert_eq!(bench.ask::<u64>("HLEN", "unacked", &[]).await, 0);
}

#[tokio::test]
async fn what_somebody_else_took_over_is_ours_no_more() {
    let Some(bench) = Bench::new().await else { return };
    let bench = bench.with_visibility_timeout(Duration::from_secs(1));
    let broker = bench.broker().await;
    let consumer = broker.consume(&queue(), 1).await.unwrap();
    publish(&broker, &["a", "b"]).await;
    let held = take(&*consumer, 1).await;
    bench.ask::<u64>("DEL", "unacked", &[]).await;
    assert_eq!(texts(&take(&*consumer, 1).await), ["b"], "its place is free");
    settle(&*consumer, held, Acknowledgement::Requeue).await;
    assert_eq!(broker.depth(&name()).await.unwrap(), 0);
}

/// What a Python worker that died leaves behind.
async fn leave_behind(bench: &Bench, tag: &str, text: &str, route: (&str, &str), age_s: f64) {
    let Publication { message, route: to } = publication(text, 4);
    let entry = format!(r#"[{}, "{}", "{}"]"#, envelope::encode(&message, &to, tag), route.0, route.1);
    bench.ask::<u64>("HSET", "unacked", &[tag, &entry]).await;
    bench.ask::<u64>("ZADD", "unacked_index", &[&(now_s() - age_s).to_string(), tag]).await;
}

#[tokio::test]
async fn what_a_dead_python_worker_held_is_restored_when_it_is_overdue() {
    let Some(bench) = Bench::new().await else { return };
    let bench = bench.with_visibility_timeout(Duration::from_secs(60));
    bench.ask::<u64>("SADD", "_kombu.binding.x", &["k\u{6}\u{16}\u{6}\u{16}q"]).await;
    leave_behind(&bench, "t1", "overdue", ("x", "k"), 61.0).await;
    leave_behind(&bench, "t2", "evicted binding", ("gone", "q"), 62.0).await;
    leave_behind(&bench, "t3", "at work", ("", "q"), 30.0).await;
    bench.ask::<u64>("ZADD", "unacked_index", &["5", "without message"]).await;
    bench.ask::<u64>("HSET", "unacked", &["broken", "[{"]).await;
    bench.ask::<u64>("ZADD", "unacked_index", &["6", "broken"]).await;
    let broker = bench.broker().await;
    let consumer = broker.consume(&queue(), 0).await.unwrap();
    let taken = take(&*consumer, 2).await;
    assert_eq!(
        texts(&taken).into_iter().collect::<BTreeSet<_>>(),
        ["evicted binding", "overdue"].map(String::from).into()
    );
    assert!(taken.iter().all(|it| it.info.redelivered && it.message.properties.priority == Some(4)));
    settle(&*consumer, taken, Acknowledgement::Ack).await;
    let left: BTreeSet<String> = bench.scores().await.into_iter().map(|(tag, _)| tag).collect();
    assert_eq!(left, ["broken", "t3"].map(String::from).into());
    assert_eq!(bench.ask::<u64>("EXISTS", "unacked_mutex", &[]).await, 0, "the lock is released");
}

#[tokio::test]
async fn a_sweep_of_others_is_waited_for() {
    let Some(bench) = Bench::new().await else { return };
    bench.ask::<()>("SET", "unacked_mutex", &["somebody", "PX", "60000"]).await;
    leave_behind(&bench, "t1", "overdue", ("", "q"), 4000.0).await;
    let broker = bench.broker().await;
    let consumer = broker.consume(&queue(), 0).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(1500), consumer.next()).await;
    assert!(early.is_err(), "restored under the lock of another");
    assert_eq!(bench.ask::<String>("GET", "unacked_mutex", &[]).await, "somebody");
    bench.ask::<u64>("DEL", "unacked_mutex", &[]).await;
    assert_eq!(texts(&take(&*consumer, 1).await), ["overdue"]);
}

async fn put_back(consumer: &dyn Consumer, deliveries: Vec<Delivery>, until_s: f64) {
    let until = Timestamp::from_micros((until_s * 1e6) as i64);
    let put_back = |it: Delivery| {
        let Delivery { message, info, receipt } = it;
        let route = Route { exchange: info.exchange, routing_key: info.routing_key };
        PutBack { receipt, publication: Publication { message, route }, until }
    };
    consumer.put_back(deliveries.into_iter().map(put_back).collect()).await.unwrap();
}

#[tokio::test]
async fn what_is_put_back_comes_when_it_is_due_and_as_if_it_were_new() {
    let Some(bench) = Bench::new().await else { return };
    let bench = bench.with_short_lease();
    let broker = bench.broker().await;
    let consumer = broker.consume(&queue(), 2).await.unwrap();
    publish(&broker, &["early", "late", "now"]).await;
    let mut taken = take(&*consumer, 2).await;
    let until = now_s() + 1.5;
    put_back(&*consumer, vec![taken.remove(0)], until).await;
    put_back(&*consumer, taken, now_s() + 10_000.0).await;
    // They leave room.
    let now = take(&*consumer, 1).await;
    assert_eq!(texts(&now), ["now"]);
    settle(&*consumer, now, Acknowledgement::Ack).await;
    let scores = bench.scores().await;
    assert!((scores[0].1 - (until - 3600.0)).abs() < 0.01, "kombu finds it when it is due");
    let early = take(&*consumer, 1).await;
    assert!((until - 0.05..until + 5.0).contains(&now_s()), "{}", now_s() - until);
    assert_eq!(texts(&early), ["early"]);
    assert!(!early[0].info.redelivered);
    assert_eq!(early[0].message.headers.get(DELIVERY_COUNT_HEADER), None);
    settle(&*consumer, early, Acknowledgement::Ack).await;
    // The other survives us, and nobody takes it for ours.
    broker.close().await;
    let other = bench.broker().await;
    let consumer = other.consume(&queue(), 2).await.unwrap();
    assert!(tokio::time::timeout(bench.options.lease + Duration::from_secs(1), consumer.next()).await.is_err());
    assert_eq!(bench.scores().await.len(), 1);
}

#[tokio::test]
async fn a_hundred_that_are_due_at_once_come_once() {
    let Some(bench) = Bench::new().await else { return };
    let (broker, other) = (bench.broker().await, bench.broker().await);
    let consumer = broker.consume(&queue(), 0).await.unwrap();
    let sent: Vec<String> = (0..100).map(|n| format!("{n:03}")).collect();
    publish(&broker, &sent.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let taken = take(&*consumer, 100).await;
    // A second host sweeps, too.
    let _idle = other.consume(&name_of("other"), 1).await.unwrap();
    let until = now_s() + 0.5;
    for (n, delivery) in taken.into_iter().enumerate() {
        put_back(&*consumer, vec![delivery], until + n as f64 / 1e4).await;
    }
    let mut again = texts(&take(&*consumer, 100).await);
    again.sort();
    assert_eq!(again, sent);
    assert!(tokio::time::timeout(Duration::from_millis(300), consumer.next()).await.is_err());
}

#[tokio::test]
async fn two_hosts_and_a_crash_run_everything_and_settle_each_message_once() {
    let Some(bench) = Bench::new().await else { return };
    let bench = bench.with_short_lease();
    let (one, two) = (bench.broker().await, bench.broker().await);
    let sent: Vec<String> = (0..300).map(|n| format!("{n:03}")).collect();
    let consumers = [one.consume(&queue(), 7).await.unwrap(), two.consume(&queue(), 16).await.unwrap()];
    publish(&two, &sent.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut settled = Vec::new();
    for _ in 0..3 {
        for consumer in &consumers {
            let taken = take(&**consumer, 1).await;
            settled.extend(texts(&taken));
            settle(&**consumer, taken, Acknowledgement::Ack).await;
        }
    }
    drop(one);
    while settled.len() < sent.len() {
        let taken = take(&*consumers[1], 1).await;
        settled.extend(texts(&taken));
        settle(&*consumers[1], taken, Acknowledgement::Ack).await;
    }
    settled.sort();
    assert_eq!(settled, sent);
    assert_eq!(bench.scores().await, []);
}
