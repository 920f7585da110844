//! Python on the other side: what kombu's own transport writes we read, and the other way round.

use std::path::PathBuf;

use tokio::process::Command;

use super::*;

/// Speaks for kombu: publishes and takes by its SQS transport.
const PROGRAM: &str = r#"
import json, sys
from kombu import Connection, Consumer, Exchange, Queue
url, prefix, name, task = sys.argv[1:5]
options = {"queue_name_prefix": prefix, "wait_time_seconds": 1, "polling_interval": 0.1}
with Connection(url, transport_options=options) as connection:
    queue = Queue(name, Exchange(name), routing_key=name)
    if task == "write":
        producer = connection.Producer()
        for number in range(3):
            properties = {"MessageGroupId": "g"} if name.endswith(".fifo") else {}
            producer.publish(
                [[number], {}, {}], exchange="", routing_key=name, declare=[queue], serializer="json",
                headers={"task": "tasks.add", "id": f"id-{number}"}, correlation_id=f"id-{number}", **properties)
    else:
        taken = []
        def on_message(message):
            taken.append([message.headers["task"], message.body if isinstance(message.body, str) else message.body.decode(), message.content_type])
            message.ack()
        with connection.Consumer([queue], on_message=on_message, auto_declare=True):
            while len(taken) < 3:
                connection.drain_events(timeout=20)
        print(json.dumps(taken))
"#;

/// The interpreter of the tests, which has kombu and boto3.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("TASKHOST_TEST_PYTHON").filter(|path| !path.is_empty()).map(PathBuf::from);
    if python.is_none() {
        println!("skipped: TASKHOST_TEST_PYTHON is not set");
    }
    python
}

async fn run(bench: &Bench, name: &str, task: &str) -> Option<String> {
    let mut command = Command::new(python()?);
    command.args(["-c", PROGRAM, &bench.url, &bench.options.queue_name_prefix, name, task]).kill_on_drop(true);
    let output = within("Python", command.output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

async fn check_both_ways(name: &str) {
    let Some(bench) = Bench::new() else { return };
    let broker = bench.broker().await;
    if run(&bench, name, "write").await.is_none() {
        return;
    }
    let consumer = consume(&broker, name, 10).await;
    let mut taken = Vec::new();
    // A FIFO queue gives the next of a group when the one before is done.
    while taken.len() < 3 {
        let batch = take(&*consumer, 1).await;
        taken.extend(batch.iter().map(text));
        for delivery in &batch {
            assert_eq!(delivery.message.properties.content_type.as_deref(), Some("application/json"));
            assert_eq!(delivery.message.headers.get("task"), Some(&HeaderValue::Text("tasks.add".to_owned())));
            assert_eq!((delivery.info.exchange.as_str(), delivery.info.routing_key.as_str()), ("", name));
            assert!(!delivery.info.redelivered);
        }
        settle(&*consumer, batch, Acknowledgement::Ack).await;
    }
    if !name.ends_with(".fifo") {
        taken.sort();
    }
    assert_eq!(taken, ["[[0], {}, {}]", "[[1], {}, {}]", "[[2], {}, {}]"]);
    drop(consumer);

    let texts = ["[[7], {}, {}]", "[[8], {}, {}]", "[[9], {}, {}]"];
    let publications: Vec<_> = texts
        .iter()
        .map(|text| {
            let mut message = message(text);
            message.properties.content_type = Some("application/json".to_owned());
            message.properties.content_encoding = Some("utf-8".to_owned());
            Publication { message, route: Route::queue(&queue(name)) }
        })
        .collect();
    broker.publish(&publications).await.unwrap();
    let said = run(&bench, name, "read").await.unwrap();
    for text in texts {
        assert!(said.contains(&format!(r#"["tasks.add", "{text}", "application/json"]"#)), "{said}");
    }
}

#[tokio::test]
async fn kombu_and_we_read_each_other() {
    check_both_ways("some.queue").await;
}

#[tokio::test]
async fn kombu_and_we_read_each_other_in_fifo_queues() {
    check_both_ways("some.queue.fifo").await;
}
