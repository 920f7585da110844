//! Messages that are left in queues of their own.

use lapin::options::{BasicGetOptions, QueueDeclareOptions};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn name() -> QueueName {
    QueueName::parse(&Uuid::new_v4().simple().to_string()).unwrap()
}

async fn read(broker: &RabbitMq, queue: &QueueName) -> Vec<u8> {
    let channel = broker.session.connection.create_channel().await.unwrap();
    let message = channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await.unwrap();
    message.map(|message| message.delivery.data.clone()).unwrap_or_default()
}

#[tokio::test]
async fn what_is_left_waits_in_a_queue_made_for_it() {
    let Some(broker) = connect().await else { return };
    let queues = [name(), name(), name()];
    // Somebody who waits has made his in his own way; that it differs from ours does not matter.
    let channel = broker.session.connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queues[1].as_str().into(), options, FieldTable::default()).await.unwrap();

    let publications = queues.each_ref().map(|queue| publication(queue, queue.as_str()));
    let answers = broker.leave(&publications, DAY).await;
    assert!(answers.len() == 3 && answers.iter().all(Result::is_ok), "{answers:?}");
    for queue in &queues {
        assert_eq!(read(&broker, queue).await, queue.as_str().as_bytes());
    }

    // As clients make them: of another kind, the broker would refuse.
    let options = QueueDeclareOptions { durable: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), AMQPValue::LongInt(86_400_000));
    channel.queue_declare(queues[0].as_str().into(), options, arguments).await.unwrap();
    for queue in &queues {
        delete(&broker, queue).await;
    }
}

#[tokio::test]
async fn hundreds_are_left_in_one_call() {
    let Some(broker) = connect().await else { return };
    let queues: Vec<QueueName> = (0..300).map(|_| name()).collect();
    let publications: Vec<Publication> = queues.iter().map(|queue| publication(queue, queue.as_str())).collect();
    let answers = broker.leave(&publications, DAY).await;
    assert!(answers.len() == 300 && answers.iter().all(Result::is_ok));
    for queue in &queues {
        assert_eq!(read(&broker, queue).await, queue.as_str().as_bytes());
        delete(&broker, queue).await;
    }
}

#[tokio::test]
async fn a_name_that_no_queue_can_have_fails_alone() {
    let Some(broker) = connect().await else { return };
    let taken = QueueName::parse("amq.taken").unwrap();
    let answers = broker.leave(&[publication(&taken, "x")], DAY).await;
    let error = answers[0].as_ref().unwrap_err();
    assert!(!error.is_transient(), "{error}");
}
