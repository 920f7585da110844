//! The same folders, seen by kombu itself.

use std::process::Command;

use super::*;

/// What every script begins with: a channel as Celery would have it.
const PRELUDE: &str = r#"
import sys, time
from kombu import Connection, Exchange, Queue, Producer, Consumer
data, control = sys.argv[1:3]
connection = Connection('filesystem://', transport_options={
    'data_folder_in': data, 'data_folder_out': data, 'control_folder': control})
channel = connection.channel()
"#;

/// Runs a script on the folders of a bench; none, if there is no Python.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn python(bench: &Bench, script: &str) -> Option<String> {
    const PYTHON: &str = "TASKHOST_TEST_PYTHON";
    let Some(python) = std::env::var_os(PYTHON).filter(|python| !python.is_empty()) else {
        println!("skipped: {PYTHON} is not set");
        return None;
    };
    let control = bench.folder.path().join("control");
    let script = format!("{PRELUDE}{script}");
    let run = Command::new(python).args(["-c", &script]).arg(bench.data()).arg(control).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Some(String::from_utf8(run.stdout).unwrap())
}

#[tokio::test]
async fn kombu_reads_what_we_publish_and_finds_our_bindings() {
    let bench = Bench::new();
    let broker = bench.broker().await;
    let mut first = publication("first");
    first.message.headers.set("id", HeaderValue::Text("größe".to_owned()));
    first.message.properties.correlation_id = Some("c".to_owned());
    first.message.properties.content_type = Some("text/plain".to_owned());
    broker.publish(&[first, publication("second")]).await.unwrap();
    let mut topic = Queue::named(QueueName::parse("large").unwrap());
    topic.exchange = taskhost_core::Exchange { name: "images".to_owned(), kind: ExchangeKind::Topic };
    topic.routing_key = "*.large-ish.#".to_owned();
    broker.declare(&topic).await.unwrap();
    let script = r#"
print(channel._size('celery'))
for _ in range(2):
    message = channel.basic_get('celery')
    print(message.body, message.headers.get('id'), message.properties.get('correlation_id'), message.delivery_info)
    message.ack()
print(channel.basic_get('celery'))
print([tuple(line) for line in channel.get_table('images')])
exchange = Exchange('images', type='topic')
Queue('large', exchange=exchange, routing_key='*.large-ish.#')(channel).declare()
print(len(channel.get_table('images')))
Producer(channel, exchange=exchange).publish('x', routing_key='png.large-ish.a.b')
print(channel._size('large'))
"#;
    let Some(said) = python(&bench, script) else { return };
    let expected = r"2
b'first' größe c {'exchange': '', 'routing_key': 'celery'}
b'second' None None {'exchange': '', 'routing_key': 'celery'}
None
[('*.large-ish.#', '^[^\\.]+\\.large\\-ish\\..*?$', 'large')]
1
1
";
    assert_eq!(said, expected);
    assert_eq!(broker.depth(&topic.name).await.unwrap(), 1);
}

#[tokio::test]
async fn we_read_what_kombu_publishes_binds_and_restores() {
    let bench = Bench::new();
    let script = r#"
exchange = Exchange('images', type='direct')
queue = Queue('large', exchange=exchange, routing_key='big')(channel)
queue.declare()
producer = Producer(channel)
for number in range(3):
    time.sleep(0.005)  # Within a millisecond kombu's files have no order.
    producer.publish({'number': number}, routing_key='celery', headers={'id': str(number)}, priority=number,
                     serializer='json', compression='gzip' if number == 1 else None)
# A worker that stops gives back what it has not acknowledged.
taken = channel.basic_get('celery')
time.sleep(0.005)
connection.close()
"#;
    if python(&bench, script).is_none() {
        return;
    }
    let broker = bench.broker().await;
    let consumer = broker.consume(&celery().into(), 0).await.unwrap();
    let taken = take(&*consumer, 3).await;
    let ids: Vec<_> = taken.iter().map(|delivery| delivery.message.headers.get("id").cloned()).collect();
    assert_eq!(ids, ["1", "2", "0"].map(|id| Some(HeaderValue::Text(id.to_owned()))));
    assert_eq!(taken.iter().map(|delivery| delivery.info.redelivered).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(taken[1].message.properties.priority, Some(2));
    assert_eq!(taken[1].message.body, r#"{"number": 2}"#);
    settle(&*consumer, taken, Acknowledgement::Ack).await;
    let route = Route { exchange: "images".to_owned(), routing_key: "big".to_owned() };
    broker.publish(&[Publication { message: Message::default(), route }]).await.unwrap();
    assert_eq!(broker.depth(&QueueName::parse("large").unwrap()).await.unwrap(), 1);
}

#[tokio::test]
async fn kombu_gets_what_we_requeue_and_put_back() {
    let bench = Bench::new();
    let broker = bench.broker().await;
    broker.publish(&[publication("again"), publication("later")]).await.unwrap();
    let consumer = broker.consume(&celery().into(), 2).await.unwrap();
    let mut taken = take(&*consumer, 2).await;
    let later = taken.remove(1);
    consumer.cancel().await.unwrap();
    settle(&*consumer, taken, Acknowledgement::Requeue).await;
    let route = Route::queue(&celery());
    let publication = Publication { message: later.message, route };
    let until = Timestamp::from_micros(1);
    consumer.put_back(vec![PutBack { receipt: later.receipt, publication, until }]).await.unwrap();
    let back = async {
        while names(&bench.data()).len() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), back).await.expect("both are back");
    let script = r#"
for _ in range(2):
    message = channel.basic_get('celery')
    print(message.body, message.headers.get('redelivered'), message.delivery_info.get('redelivered'))
print(channel.basic_get('celery'))
"#;
    let Some(said) = python(&bench, script) else { return };
    assert_eq!(said, "b'later' None None\nb'again' True True\nNone\n");
}

#[tokio::test]
async fn mailboxes_and_replies_are_kombus() {
    let bench = Bench::new();
    let broker = Arc::new(bench.broker().await);
    let inbox = broker.subscribe(&Subscription::mailbox("celery", "a@box")).await.unwrap();
    let answering = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move {
            let asked = inbox.next().await.unwrap().unwrap().remove(0);
            let text = String::from_utf8(asked.message.body.to_vec()).unwrap();
            let exchange = "reply.celery.pidbox".to_owned();
            let key = text.split(r#""routing_key": ""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
            let ticket = text.split(r#""ticket": ""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
            let mut message = Message { body: r#"{"a@box": {"ok": "pong"}}"#.into(), ..Message::default() };
            message.properties.content_type = Some("application/json".to_owned());
            message.properties.content_encoding = Some("utf-8".to_owned());
            message.headers.set("ticket", HeaderValue::Text(ticket));
            let route = Route { exchange, routing_key: key };
            broker.broadcast(Topic::Replies, vec![Publication { message, route }]).await.unwrap();
            inbox.close().await;
        }
    });
    let script = r#"
from kombu.pidbox import Mailbox
print(Mailbox('celery')(connection).multi_call('ping', timeout=10, limit=1))
connection.close()
"#;
    let bench = Arc::new(bench);
    let seen = Arc::clone(&bench);
    let said = tokio::task::spawn_blocking(move || python(&seen, script)).await.unwrap();
    if said.is_none() {
        return answering.abort();
    }
    assert_eq!(said.unwrap(), "[{'a@box': {'ok': 'pong'}}]\n");
    answering.await.unwrap();
    assert_eq!(fs::read_to_string(bench.folder.path().join("control/celery.pidbox.exchange")).unwrap(), "[]");
}
