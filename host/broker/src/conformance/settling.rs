//! What is settled is settled, and nothing else is.

use std::collections::BTreeSet;
use std::sync::Arc;

use taskhost_core::HeaderValue;

use super::{
    Capabilities, case, consume, expect_depth, filled, numbered, refs, settle, take, take_until_quiet, text, text_set,
    texts, within,
};
use crate::port::{Acknowledgement, Broker, DELIVERY_COUNT_HEADER};

pub(super) async fn run<C: AsyncFn() -> Arc<dyn Broker>>(capabilities: Capabilities, connect: &C) {
    case("acknowledged messages are gone for good");
    acknowledged_is_gone(connect).await;
    case("a requeued message comes again, marked as redelivered");
    requeued_comes_again(capabilities, &*connect().await).await;
    case("a rejected message does not come again");
    rejected_is_dropped(&*connect().await).await;
    case("settling in any order and mixture does what it says for each");
    mixtures(connect).await;
    case("settling a message that is gone is no error");
    settling_what_is_gone(connect).await;
}

async fn acknowledged_is_gone<C: AsyncFn() -> Arc<dyn Broker>>(connect: &C) {
    let broker = connect().await;
    let sent = numbered(30);
    let queue = filled(&*broker, &refs(&sent)).await;
    let consumer = consume(&*broker, &queue, 30).await;
    let mut held = take(&*consumer, 30).await;
    // Backwards and in parts, so that neither is a contiguous prefix.
    while !held.is_empty() {
        let part = held.split_off(held.len().saturating_sub(7));
        settle(&*consumer, part, Acknowledgement::Ack).await;
    }
    settle(&*consumer, Vec::new(), Acknowledgement::Ack).await;
    broker.close().await;
    let other = connect().await;
    let consumer = consume(&*other, &queue, 0).await;
    assert_eq!(texts(&take_until_quiet(&*consumer).await), [""; 0]);
    expect_depth(&*other, &queue, 0).await;
}

async fn requeued_comes_again(capabilities: Capabilities, broker: &dyn Broker) {
    let queue = filled(broker, &["again"]).await;
    let consumer = consume(broker, &queue, 1).await;
    let first = take(&*consumer, 1).await;
    assert_eq!(first[0].message.headers.get(DELIVERY_COUNT_HEADER), None);
    settle(&*consumer, first, Acknowledgement::Requeue).await;
    for count in 1..3 {
        let again = take(&*consumer, 1).await;
        assert_eq!(texts(&again), ["again"]);
        assert!(again[0].info.redelivered);
        if capabilities.counts_deliveries {
            let counted = again[0].message.headers.get(DELIVERY_COUNT_HEADER);
            assert_eq!(counted, Some(&HeaderValue::Int(count)));
        }
        settle(&*consumer, again, Acknowledgement::Requeue).await;
    }
}

async fn rejected_is_dropped(broker: &dyn Broker) {
    let queue = filled(broker, &["refused"]).await;
    let consumer = consume(broker, &queue, 1).await;
    let taken = take(&*consumer, 1).await;
    settle(&*consumer, taken, Acknowledgement::Reject).await;
    assert_eq!(texts(&take_until_quiet(&*consumer).await), [""; 0]);
    expect_depth(broker, &queue, 0).await;
}

async fn mixtures<C: AsyncFn() -> Arc<dyn Broker>>(connect: &C) {
    const COUNT: usize = 90;
    let broker = connect().await;
    let queue = filled(&*broker, &refs(&numbered(COUNT))).await;
    let consumer = consume(&*broker, &queue, COUNT as u32).await;
    let held = take(&*consumer, COUNT).await;
    // A third acknowledged, a third rejected, a third kept; in a stirred order, over several calls.
    let mut parts: Vec<Vec<_>> = (0..7).map(|_| Vec::new()).collect();
    let mut kept = BTreeSet::new();
    let mut keep = Vec::new();
    for (index, delivery) in held.into_iter().enumerate() {
        let acknowledgement = match index % 3 {
            0 => Acknowledgement::Ack,
            1 => Acknowledgement::Reject,
            _ => {
                kept.insert(text(&delivery));
                keep.push(delivery);
                continue;
            }
        };
        parts[index * 5 % 7].push((delivery.receipt, acknowledgement));
    }
    // Both ways at once.
    let (front, back) = parts.split_at_mut(3);
    for (one, other) in front.iter_mut().zip(back.iter_mut()) {
        let (one, other) = (std::mem::take(one), std::mem::take(other));
        let settled = async { tokio::join!(consumer.settle(one), consumer.settle(other)) };
        let (one, other) = within("settle", settled).await;
        one.expect("settle");
        other.expect("settle");
    }
    within("settle", consumer.settle(std::mem::take(&mut parts[6]))).await.expect("settle");
    drop((consumer, keep));
    broker.close().await;

    let other = connect().await;
    let consumer = consume(&*other, &queue, 0).await;
    let again = take(&*consumer, kept.len()).await;
    assert_eq!(text_set(&again), kept);
    assert_eq!(texts(&take_until_quiet(&*consumer).await), [""; 0]);
    settle(&*consumer, again, Acknowledgement::Ack).await;
}

async fn settling_what_is_gone<C: AsyncFn() -> Arc<dyn Broker>>(connect: &C) {
    let broker = connect().await;
    let queue = filled(&*broker, &["a", "b", "c"]).await;
    let consumer = consume(&*broker, &queue, 3).await;
    let mut held = take(&*consumer, 3).await;
    connect().await.purge(&queue).await.expect("purge");
    settle(&*consumer, vec![held.remove(0)], Acknowledgement::Ack).await;
    settle(&*consumer, vec![held.remove(0)], Acknowledgement::Reject).await;
    settle(&*consumer, held, Acknowledgement::Requeue).await;
}
