//! Against Qpid Broker-J, which speaks AMQP 0-9-1 without RabbitMQ's extensions; named by `TASKHOST_TEST_QPID`.

use super::*;

async fn connect() -> Option<RabbitMq> {
    let url = server()?;
    Some(RabbitMq::connect(&url, &ConnectOptions::default()).await.unwrap())
}

#[expect(clippy::print_stdout, reason = "the runner of the tests counts these lines")]
fn server() -> Option<String> {
    let url = std::env::var("TASKHOST_TEST_QPID").ok();
    if url.is_none() {
        println!("skipped: TASKHOST_TEST_QPID is not set");
    }
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn qpid_passes_the_suite() {
    let Some(url) = server() else { return };
    let capabilities = Capabilities {
        priorities: false,
        json_headers: false,
        expirations: false,
        depth_is_of_waiting: false,
        counts_deliveries: false,
        // It knows, but closes the connection over it.
        knows_taken: false,
        ..Capabilities::ALL
    };
    let options = ConnectOptions::default();
    conformance::run(capabilities, async || {
        RabbitMq::connect(&url, &options).await.map(|broker| Arc::new(broker) as Arc<dyn Broker>)
    })
    .await;
}

#[tokio::test]
async fn numbers_of_channels_that_the_broker_has_closed_are_passed_over() {
    let Some(broker) = connect().await else { return };
    let missing = QueueName::parse(&format!("missing.{}", Uuid::new_v4())).unwrap();
    let queue = queue_with(&broker, &[]).await;
    broker.publish(&[publication(&queue, "1")]).await.unwrap();
    // More than there are numbers.
    for _ in 0..3 {
        assert_eq!(broker.depth(&missing).await.unwrap(), 0);
        for _ in 0..130 {
            assert_eq!(broker.depth(&queue).await.unwrap(), 1);
        }
    }
    delete(&broker, &queue).await;
}

#[tokio::test]
async fn what_cannot_be_delayed_is_kept_and_said() {
    let Some(broker) = connect().await else { return };
    let queue = queue_with(&broker, &[]).await;
    broker.publish(&[publication(&queue, "later")]).await.unwrap();
    let consumer = broker.consume(&queue.clone().into(), 1).await.unwrap();
    assert!(!broker.capabilities().puts_back);
    let delivery = take(&*consumer, 1).await.remove(0);
    let Delivery { message, info, receipt, .. } = delivery;
    let route = Route { exchange: info.exchange, routing_key: info.routing_key };
    let until = taskhost_core::Timestamp::from_micros(4_000_000_000_000_000);
    let put_back = crate::port::PutBack { receipt, publication: Publication { message, route }, until };
    let failed = consumer.put_back(vec![put_back]).await.unwrap_err();
    assert_eq!(failed.deliveries.len(), 1);
    // Nothing that consumes has ended with the connection that was asked.
    let receipts = failed.deliveries.into_iter().map(|it| (it.receipt, Acknowledgement::Ack)).collect();
    consumer.settle(receipts).await.unwrap();
    delete(&broker, &queue).await;
}

#[tokio::test]
async fn a_task_that_expires_later_is_not_taken_for_one_that_expired_in_1970() {
    let Some(broker) = connect().await else { return };
    let queue = queue_with(&broker, &[]).await;
    let mut expiring = publication(&queue, "soon");
    expiring.message.properties.expiration = Some("3600000".to_owned());
    broker.publish(&[publication(&queue, "now"), expiring]).await.unwrap();
    let consumer = broker.consume(&queue.clone().into(), 2).await.unwrap();
    let taken = take(&*consumer, 2).await;
    assert_eq!(texts(&taken), ["now", "soon"]);
    settle(&*consumer, taken, Acknowledgement::Ack).await;
    delete(&broker, &queue).await;
}

#[tokio::test]
async fn an_empty_table_is_left_out_of_the_headers() {
    let Some(broker) = connect().await else { return };
    let queue = queue_with(&broker, &[]).await;
    let mut task = publication(&queue, "task");
    task.message.headers.set("stamps", HeaderValue::Map(Vec::new()));
    task.message.headers.set("retries", HeaderValue::Int(0));
    broker.publish(&[task]).await.unwrap();
    let consumer = broker.consume(&queue.clone().into(), 1).await.unwrap();
    let taken = take(&*consumer, 1).await;
    let headers = &taken[0].message.headers;
    assert_eq!((headers.get("stamps"), headers.get("retries")), (None, Some(&HeaderValue::Int(0))));
    settle(&*consumer, taken, Acknowledgement::Ack).await;
    delete(&broker, &queue).await;
}

#[tokio::test]
async fn what_is_published_by_the_default_exchange_finds_a_queue_that_has_an_exchange_of_its_name() {
    let Some(broker) = connect().await else { return };
    let name = QueueName::parse(&format!("shadowed.{}", Uuid::new_v4())).unwrap();
    broker.declare(&name.clone().into()).await.unwrap();
    broker.publish(&[publication(&name, "found")]).await.unwrap();
    assert_eq!(broker.depth(&name).await.unwrap(), 1);
    // A client that has declared both, before there was a worker, has not bound them so.
    delete(&broker, &name).await;
    let channel = broker.session.connection.create_channel().await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.as_str().into(), durable, FieldTable::default()).await.unwrap();
    let bind = lapin::options::QueueBindOptions::default();
    let key = name.as_str();
    channel.queue_bind(key.into(), key.into(), key.into(), bind, FieldTable::default()).await.unwrap();
    assert!(broker.publish(&[publication(&name, "lost")]).await.is_err(), "Qpid has changed");
    broker.declare(&name.clone().into()).await.unwrap();
    broker.publish(&[publication(&name, "found")]).await.unwrap();
    assert_eq!(broker.depth(&name).await.unwrap(), 1);
    delete(&broker, &name).await;
}

#[tokio::test]
async fn a_mailbox_that_somebody_has_is_taken() {
    let Some(first) = connect().await else { return };
    let Some(second) = connect().await else { return };
    let subscription = Subscription::mailbox(&format!("mail-{}", Uuid::new_v4()), "one@box");
    let _inbox = first.subscribe(&subscription).await.unwrap();
    let refused = second.subscribe(&subscription).await.err().expect("it is taken");
    assert!(refused.is_taken() && refused.is_transient(), "{refused:?}");
}

#[tokio::test]
async fn one_that_has_nowhere_to_go_is_told_from_those_that_have() {
    let Some(broker) = connect().await else { return };
    let queue = queue_with(&broker, &[]).await;
    let missing = QueueName::parse(&format!("missing.{}", Uuid::new_v4())).unwrap();
    let calls = [publication(&queue, "1"), publication(&missing, "2"), publication(&queue, "3")];
    match broker.publish(&calls).await {
        Err(BrokerError::Unroutable { exchange, routing_key }) => {
            assert_eq!((exchange.as_str(), routing_key.as_str()), ("", missing.as_str()));
        }
        other => panic!("{other:?}"),
    }
    broker.publish(&[publication(&queue, "4")]).await.unwrap();
    delete(&broker, &queue).await;
}
