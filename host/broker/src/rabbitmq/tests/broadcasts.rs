//! What is special to RabbitMQ about what is broadcast: who owns a queue, and exchanges that vanish.

use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions};

use super::*;

fn letter(exchange: &str, routing_key: &str) -> Publication {
    let route = Route { exchange: exchange.to_owned(), routing_key: routing_key.to_owned() };
    Publication { message: Message { body: "{}".into(), ..Message::default() }, route }
}

#[tokio::test]
async fn a_mailbox_that_somebody_made_for_all_to_share_is_taken() {
    let Some(broker) = connect().await else { return };
    let namespace = Uuid::new_v4().to_string();
    let subscription = Subscription::mailbox(&namespace, "one@box");
    let channel = broker.session.connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(subscription.queue.as_str().into(), options, FieldTable::default()).await.unwrap();
    let refused = broker.subscribe(&subscription).await.err().unwrap();
    assert!(refused.is_taken(), "{refused:?}");
    channel.queue_delete(subscription.queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    broker.subscribe(&subscription).await.unwrap();
}

#[tokio::test]
async fn an_exchange_that_was_deleted_is_made_again() {
    let Some(broker) = connect().await else { return };
    let exchange = format!("events.{}", Uuid::new_v4());
    let events = || vec![letter(&exchange, "task.sent")];
    broker.broadcast(Topic::Events, events()).await.unwrap();
    let channel = broker.session.connection.create_channel().await.unwrap();
    channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
    // The first that is sent after that ends the channel, and one of the next makes the exchange.
    let made = async {
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        loop {
            broker.broadcast(Topic::Events, events()).await.unwrap();
            let channel = broker.session.connection.create_channel().await.unwrap();
            let (name, kind) = (exchange.as_str().into(), lapin::ExchangeKind::Topic);
            if channel.exchange_declare(name, kind, options, FieldTable::default()).await.is_ok() {
                return channel;
            }
        }
    };
    let channel = tokio::time::timeout(Duration::from_secs(20), made).await.expect("it is made again");
    channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
}

#[tokio::test]
async fn an_exchange_that_may_not_be_is_refused_and_harms_nothing() {
    let Some(broker) = connect().await else { return };
    let refused = broker.broadcast(Topic::Replies, vec![letter("amq.of.somebody", "me")]).await.unwrap_err();
    assert!(!refused.is_transient(), "{refused:?}");
    let long = "k".repeat(300);
    assert!(!broker.broadcast(Topic::Replies, vec![letter(&long, "me")]).await.unwrap_err().is_transient());
    let namespace = Uuid::new_v4().to_string();
    let inbox = broker.subscribe(&Subscription::replies(&namespace, "me")).await.unwrap();
    let exchange = Topic::Replies.exchange(&namespace);
    let long_key = letter(&exchange, &long);
    assert!(!broker.broadcast(Topic::Replies, vec![long_key]).await.unwrap_err().is_transient());
    broker.broadcast(Topic::Replies, vec![letter(&exchange, "me")]).await.unwrap();
    let came = tokio::time::timeout(Duration::from_secs(20), inbox.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(came.len(), 1);
}

#[tokio::test]
async fn what_is_sent_goes_another_way_as_soon_as_tasks_are_taken() {
    let Some(broker) = connect().await else { return };
    let namespace = Uuid::new_v4().to_string();
    let exchange = Topic::Replies.exchange(&namespace);
    let inbox = broker.subscribe(&Subscription::replies(&namespace, "me")).await.unwrap();
    let next = async || tokio::time::timeout(Duration::from_secs(20), inbox.next()).await.unwrap().unwrap().unwrap();
    let shares =
        async || broker.control.connection().await.is_some_and(|it| Arc::ptr_eq(&it, &broker.session.connection));
    broker.broadcast(Topic::Replies, vec![letter(&exchange, "me")]).await.unwrap();
    assert_eq!(next().await.len(), 1);
    assert!(shares().await);
    let queue = queue_with(&broker, &[]).await;
    let consumer = broker.consume(&queue.clone().into(), 1).await.unwrap();
    broker.broadcast(Topic::Replies, vec![letter(&exchange, "me")]).await.unwrap();
    assert_eq!(next().await.len(), 1);
    assert!(!shares().await);
    drop(consumer);
    delete(&broker, &queue).await;
}
