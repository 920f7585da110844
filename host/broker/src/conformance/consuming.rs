//! Deliveries come when and as far as they are wanted.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Capabilities, QUIET, case, consume, expect_depth, expect_texts, filled, new_queue, numbered, publish, refs, settle,
    take, take_until_quiet, text_set, texts, within,
};
use crate::port::{Acknowledgement, Broker, BrokerError, Consumer, Delivery};

pub(super) async fn run<C: AsyncFn() -> Arc<dyn Broker>>(capabilities: Capabilities, connect: &C) {
    case("consuming a missing queue creates it");
    consuming_creates_the_queue(&*connect().await).await;
    case("no more than the prefetch is unsettled");
    prefetch_is_honoured(capabilities, &*connect().await).await;
    case("a changed prefetch takes effect, up and down");
    prefetch_can_be_changed(&*connect().await).await;
    case("a delivery wakes a consumer that waits");
    a_waiting_consumer_is_woken(&*connect().await).await;
    case("giving up waiting loses nothing");
    waiting_may_be_given_up(capabilities, &*connect().await).await;
    case("cancelling gives back what was not returned, and the rest may be settled");
    cancel_gives_back(capabilities, connect).await;
    case("closing a connection redelivers what was not settled");
    closing_redelivers(connect).await;
    case("dropping a consumer redelivers what was not settled");
    dropping_redelivers(&*connect().await).await;
}

async fn consuming_creates_the_queue(broker: &dyn Broker) {
    let queue = new_queue();
    let consumer = consume(broker, &queue, 1).await;
    publish(broker, &queue, &["first"]).await;
    let taken = take(&*consumer, 1).await;
    assert_eq!(texts(&taken), ["first"]);
    settle(&*consumer, taken, Acknowledgement::Ack).await;
}

async fn prefetch_is_honoured(capabilities: Capabilities, broker: &dyn Broker) {
    let sent = numbered(9);
    let queue = filled(broker, &refs(&sent)).await;
    let consumer = consume(broker, &queue, 3).await;
    let mut held = exactly(&*consumer, 3).await;
    let mut seen = texts(&held);
    settle(&*consumer, vec![held.remove(1)], Acknowledgement::Ack).await;
    held.extend(exactly(&*consumer, 1).await);
    seen.extend(texts(&held[2..]));
    settle(&*consumer, held, Acknowledgement::Ack).await;
    for wanted in [3, 2] {
        let rest = exactly(&*consumer, wanted).await;
        seen.extend(texts(&rest));
        settle(&*consumer, rest, Acknowledgement::Ack).await;
    }
    expect_texts(capabilities, &seen, &sent);
}

/// Takes so many deliveries, and sees that there are no more.
async fn exactly(consumer: &dyn Consumer, wanted: usize) -> Vec<Delivery> {
    let taken = take(consumer, wanted).await;
    let more = take_until_quiet(consumer).await;
    assert!(taken.len() == wanted && more.is_empty(), "{wanted} wanted, besides: {:?}", texts(&more));
    taken
}

async fn prefetch_can_be_changed(broker: &dyn Broker) {
    let sent = numbered(40);
    let queue = filled(broker, &refs(&sent)).await;
    let consumer = consume(broker, &queue, 1).await;
    let mut held = take(&*consumer, 1).await;
    within("set_prefetch", consumer.set_prefetch(16)).await.expect("set_prefetch");
    held.extend(take(&*consumer, 15).await);
    assert!(text_set(&held).len() >= 16);
    settle(&*consumer, held, Acknowledgement::Ack).await;
    settle(&*consumer, take_until_quiet(&*consumer).await, Acknowledgement::Ack).await;

    // An adapter may take its time, and a smaller credit shows only when less was outstanding.
    within("set_prefetch", consumer.set_prefetch(2)).await.expect("set_prefetch");
    let shrink = async {
        loop {
            publish(broker, &queue, &refs(&sent[..5])).await;
            let held = take_until_quiet(&*consumer).await;
            let unsettled = held.len();
            settle(&*consumer, held, Acknowledgement::Ack).await;
            if unsettled == 2 {
                break;
            }
            let rest = take_until_quiet(&*consumer).await;
            settle(&*consumer, rest, Acknowledgement::Ack).await;
        }
    };
    within("the smaller prefetch", shrink).await;
}

async fn a_waiting_consumer_is_woken(broker: &dyn Broker) {
    let queue = filled(broker, &[]).await;
    let consumer = consume(broker, &queue, 5).await;
    let waiting = consumer.next();
    let publishing = async {
        tokio::time::sleep(QUIET).await;
        publish(broker, &queue, &["wake up"]).await;
    };
    let (batch, ()) = within("the message", async { tokio::join!(waiting, publishing) }).await;
    let batch = batch.expect("next").expect("not cancelled");
    assert_eq!(texts(&batch), ["wake up"]);
    settle(&*consumer, batch, Acknowledgement::Ack).await;
}

async fn waiting_may_be_given_up(capabilities: Capabilities, broker: &dyn Broker) {
    let sent = numbered(60);
    let queue = filled(broker, &[]).await;
    let consumer = consume(broker, &queue, 7).await;
    let publishing = async {
        for part in sent.chunks(3) {
            publish(broker, &queue, &refs(part)).await;
        }
    };
    let taking = async {
        let mut seen = Vec::new();
        while seen.len() < sent.len() {
            let next = tokio::time::timeout(Duration::from_micros(700), consumer.next());
            let Ok(batch) = next.await else { continue };
            let batch = batch.expect("next").expect("not cancelled");
            seen.extend(texts(&batch));
            settle(&*consumer, batch, Acknowledgement::Ack).await;
        }
        seen
    };
    let (seen, ()) = within("all messages", async { tokio::join!(taking, publishing) }).await;
    expect_texts(capabilities, &seen, &sent);
}

async fn cancel_gives_back<C: AsyncFn() -> Arc<dyn Broker>>(capabilities: Capabilities, connect: &C) {
    let broker = connect().await;
    let sent = numbered(6);
    let queue = filled(&*broker, &refs(&sent[..2])).await;
    let consumer = consume(&*broker, &queue, 4).await;
    let mut held = take(&*consumer, 2).await;
    publish(&*broker, &queue, &refs(&sent[2..])).await;
    within("cancel", consumer.cancel()).await.expect("cancel");
    within("cancel twice", consumer.cancel()).await.expect("cancel twice");
    assert!(within("end", consumer.next()).await.expect("next").is_none());
    expect_depth(&*broker, &queue, if capabilities.depth_is_of_waiting { 4 } else { 6 }).await;
    settle(&*consumer, vec![held.remove(0)], Acknowledgement::Ack).await;
    settle(&*consumer, held, Acknowledgement::Requeue).await;
    drop(consumer);

    let other = connect().await;
    let consumer = consume(&*other, &queue, 0).await;
    let taken = take(&*consumer, 5).await;
    assert_eq!(text_set(&taken), sent[1..].iter().cloned().collect());
    settle(&*consumer, taken, Acknowledgement::Ack).await;
}

async fn closing_redelivers<C: AsyncFn() -> Arc<dyn Broker>>(connect: &C) {
    let broker = connect().await;
    let queue = filled(&*broker, &["settled", "held", "held too", "never seen"]).await;
    let consumer = consume(&*broker, &queue, 3).await;
    let mut held = take(&*consumer, 3).await;
    settle(&*consumer, vec![held.remove(0)], Acknowledgement::Ack).await;
    within("close", broker.close()).await;
    within("close twice", broker.close()).await;
    let end = within("end", async {
        // What was under way when the connection closed may still come.
        loop {
            match consumer.next().await {
                Ok(Some(_)) => {}
                end => break end,
            }
        }
    });
    assert!(matches!(end.await, Err(BrokerError::Lost { .. })));
    let receipts = held.into_iter().map(|delivery| (delivery.receipt, Acknowledgement::Ack)).collect();
    assert!(within("settle", consumer.settle(receipts)).await.is_err_and(|error| error.is_transient()));
    let refused = [super::publication(&queue, "too late")];
    assert!(within("publish", broker.publish(&refused)).await.is_err_and(|error| error.is_transient()));

    let other = connect().await;
    let consumer = consume(&*other, &queue, 0).await;
    let taken = take(&*consumer, 3).await;
    for delivery in &taken {
        if super::text(delivery).starts_with("held") {
            assert!(delivery.info.redelivered, "{}", super::text(delivery));
        }
    }
    assert_eq!(text_set(&taken), ["held", "held too", "never seen"].map(String::from).into());
    settle(&*consumer, taken, Acknowledgement::Ack).await;
}

async fn dropping_redelivers(broker: &dyn Broker) {
    let queue = filled(broker, &["held"]).await;
    let consumer = consume(broker, &queue, 3).await;
    let held = take(&*consumer, 1).await;
    drop(consumer);
    let consumer = consume(broker, &queue, 3).await;
    let taken = take(&*consumer, 1).await;
    assert_eq!(texts(&taken), texts(&held));
    assert!(taken[0].info.redelivered);
    settle(&*consumer, taken, Acknowledgement::Ack).await;
}
