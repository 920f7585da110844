//! Several brokers that stand in for each other, and brokers that are read and written apart.
//!
//! The Python clients have the same lists: kombu goes on to the next server by itself.

use it::settings::{AMQP, REDIS, required};
use it::{Server, Site};
use serde_json::json;

/// Publishes tasks that take their time; the name of the batch is put in front of their ids.
fn publish(batch: &str, count: usize) -> String {
    format!(
        r#"
results = [send("tasks.sleep", 0.25 + n / 2**20, task_id=f"{{QUEUE}}-{batch}-{{n}}") for n in range({count})]
emit("published")
emit([get(result) == 0.25 + n / 2**20 for n, result in enumerate(results)].count(True))
"#
    )
}

/// Whom the worker's remote control says that it is connected to, once it says `expected`.
fn told(site: &Site, node: &str, expected: &str) -> serde_json::Value {
    let code = format!(
        r#"
def broker():
    stats = app.control.inspect(timeout=2, destination=["{node}"]).stats() or {{}}
    found = stats.get("{node}", {{}}).get("broker")
    return found if found and str(found["port"]) == "{expected}" else None
emit(until(broker, "the worker is connected to {expected}"))
"#
    );
    site.client(&code)
}

fn port(url: &str) -> String {
    let server = url.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
    server.rsplit(':').next().unwrap_or_default().to_owned()
}

/// `keeps`: a server that is killed has its messages when it is back.
fn each_stands_in_for_the_other(start: fn() -> Option<Server>, keeps: bool) {
    let Some(backend) = required(REDIS) else { return };
    let (Some(mut one), Some(mut two)) = (start(), start()) else { return };
    let Some(site) = Site::on(&format!("{};{}", one.url, two.url), &backend) else { return };
    let mut host = site.host(&["-c", "2"]);
    host.wait_for(&format!("Connected to {}", masked(&one.url)));
    let first = site.start_client(&publish("first", 16));
    first.wait_for("published");
    host.wait_for("-first-1] succeeded");

    one.kill();
    host.wait_for("Connection to broker lost");
    host.wait_for(&format!("Connected to {}", masked(&two.url)));
    assert_eq!(site.client(&publish("second", 6)), json!(6));
    let broker = told(&site, &host.node, &port(&two.url));
    assert_eq!(broker["failover_strategy"], json!("round-robin"));
    assert_eq!(broker["alternates"], json!([masked(&one.url), masked(&two.url)]));
    let called = site.command(&["call", "tasks.add", "--args", "[2, 3]", "--queue", &site.queue, "--wait"]);
    assert_eq!(called.success().out.trim(), "5");

    one.start_again();
    two.kill();
    host.wait_for_count(&format!("Connected to {}", masked(&one.url)), 2);
    assert_eq!(site.client(&publish("third", 6)), json!(6));
    told(&site, &host.node, &port(&one.url));
    if keeps {
        assert_eq!(first.finish(), json!(16), "what was left at the first server");
        for n in 0..16 {
            assert_eq!(host.lines_with(&format!("-first-{n}] succeeded")).len(), 1, "task {n}");
        }
    }

    one.kill();
    host.wait_for("Cannot connect to any broker: ");
    let refused = site.bare_command(&["purge", "-f", "-b", &site.broker]);
    refused.refused(&["connect to any broker", &masked(&one.url), &masked(&two.url)]);
    two.start_again();
    host.wait_for_count(&format!("Connected to {}", masked(&two.url)), 2);
    assert!(host.stop().success());
}

/// As a log line shows it.
fn masked(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?))) {
        Some((scheme, (login, rest))) if login.contains(':') => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:**@{rest}")
        }
        _ => url.to_owned(),
    }
}

#[test]
fn one_rabbitmq_stands_in_for_another_and_the_other_way_round() {
    each_stands_in_for_the_other(Server::rabbitmq, true);
}

#[test]
fn one_redis_stands_in_for_another_and_the_other_way_round() {
    each_stands_in_for_the_other(Server::redis, false);
}

#[test]
fn brokers_of_different_kinds_stand_in_for_each_other() {
    let (Some(mut redis), Some(amqp), Some(backend)) = (Server::redis(), required(AMQP), required(REDIS)) else {
        return;
    };
    let Some(site) = Site::on(&format!("{};{amqp}", redis.url), &backend) else { return };
    let mut host = site.host(&["-c", "2"]);
    assert_eq!(site.client(&publish("first", 2)), json!(2));
    redis.kill();
    host.wait_for(&format!("Connected to {}", masked(&amqp)));
    assert_eq!(site.client(&publish("second", 4)), json!(4));
    assert!(host.stop().success());
}

/// Reads what was written, as federation would bring it there.
const MOVE: &str = r#"
from kombu import Connection

def move():
    with Connection(WRITE) as source, Connection(READ) as target:
        found = source.SimpleQueue(QUEUE).get(timeout=PATIENCE)
        headers = dict(found.headers)
        body = found.body
        properties = {key: found.properties.get(key) for key in ("correlation_id", "reply_to")}
        target.Producer().publish(
            body, exchange="", routing_key=QUEUE, headers=headers, content_type=found.content_type,
            content_encoding=found.content_encoding, **properties,
        )
        found.ack()
"#;

/// A task comes by the one URL, and its retry goes out by the other.
fn what_is_read_and_written_apart(read: &str, write: &str) {
    let Some(backend) = required(REDIS) else { return };
    let Some(site) = Site::on(read, &backend) else { return };
    let write_url = format!("broker_write_url={write}");
    let mut host = site.host(&["-c", "2", "--set", &write_url]);
    let config = site.command(&["config", "--set", &write_url]).success().out;
    assert!(config.contains("broker.write_url") && config.contains(&masked(write)), "{config}");
    let code = format!(
        r#"
READ, WRITE = os.environ["BROKER"], "{write}"
{MOVE}
result = send("tasks.flaky", 1)
move()
emit([get(result), call("tasks.add", 1, 2), depth()])
"#
    );
    assert_eq!(site.client(&code), json!([1, 3, 0]));
    assert_eq!(host.lines_with("retry: Retry in").len(), 1);
    assert!(host.lines_with("Connection to broker lost").is_empty());
    assert!(host.stop().success());
}

#[test]
fn rabbitmq_is_read_and_written_apart() {
    let Some(mut rabbitmq) = Server::rabbitmq() else { return };
    let base = rabbitmq.url.trim_end_matches('/').to_owned();
    for host in ["in", "out"] {
        rabbitmq.control(&format!("add_vhost {host}"));
        rabbitmq.control(&format!("set_permissions -p {host} guest .* .* .*"));
    }
    what_is_read_and_written_apart(&format!("{base}/in"), &format!("{base}/out"));
}

#[test]
fn redis_is_read_and_written_apart() {
    let Some(redis) = Server::redis() else { return };
    let base = redis.url.rsplit_once('/').map_or(redis.url.clone(), |(base, _)| base.to_owned());
    what_is_read_and_written_apart(&format!("{base}/1"), &format!("{base}/2"));
}

#[test]
fn losing_the_broker_that_is_written_to_is_noticed_and_mended() {
    let (Some(read), Some(mut write), Some(backend)) = (required(AMQP), Server::redis(), required(REDIS)) else {
        return;
    };
    let Some(site) = Site::on(&read, &backend) else { return };
    let write_url = format!("broker_write_url={}", write.url);
    let mut host = site.host(&["-c", "2", "--set", &write_url]);
    assert_eq!(site.client("emit(call('tasks.add', 1, 2))"), json!(3));
    write.kill();
    host.wait_for("the broker that is written to is lost");
    write.start_again();
    host.wait_for("Connected again");
    assert_eq!(site.client("emit(call('tasks.add', 2, 2))"), json!(4));
    assert!(host.stop().success());
}
