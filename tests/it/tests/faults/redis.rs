//! A Redis in trouble: each class of its errors, lost keys, and a host that gets over it.

use it::{Host, Redis, Server, Site};
use serde_json::{Value, json};

/// A server of the test's own for messages and results, and a place on it.
fn open() -> Option<(Server, Site)> {
    let server = Server::redis()?;
    let site = Site::with_redis(&server.url)?;
    Some((server, site))
}

#[track_caller]
fn works(site: &Site) {
    assert_eq!(site.client("emit([call('tasks.add', 2, 2), call('tasks.flaky', 2)])"), json!([4, 2]));
}

/// Each of these tasks succeeded, and did so once.
#[track_caller]
fn succeeded_once(host: &Host, ids: impl Iterator<Item = String>) {
    for id in ids {
        assert_eq!(host.lines_with(&format!("[{id}] succeeded in ")).len(), 1, "{id}");
    }
}

#[test]
fn a_master_that_becomes_a_replica_is_left_and_found_again() {
    let Some((server, site)) = open() else { return };
    let mut redis = Redis::connect(&server.url);
    let mut host = site.host(&["-c", "2"]);
    let client = site.start_client(
        r#"
results = [send("tasks.sleep", 0.3, task_id=f"t{n}") for n in range(20)]
emit("published")
emit([get(result) for result in results].count(0.3))
"#,
    );
    client.wait_for("published");
    host.wait_for("succeeded");
    redis.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    host.wait_for("Connection to broker lost");
    host.wait_for_count("You can't write against a read only replica", 2);
    redis.ask(&["REPLICAOF", "NO", "ONE"]);
    host.wait_for("Connected again");
    assert_eq!(client.finish(), json!(20));
    succeeded_once(&host, (0..20).map(|n| format!("t{n}")));
    works(&site);
    assert!(host.stop().success());
}

#[test]
fn a_server_that_restarts_and_loads_its_data_is_waited_for() {
    let Some((mut server, site)) = open() else { return };
    let mut redis = Redis::connect(&server.url);
    redis.ask(&["CONFIG", "SET", "appendonly", "yes"]);
    redis.ask(&["CONFIG", "SET", "appendfsync", "always"]);
    let host = site.host(&["-c", "2"]);
    let client = site.start_client(
        r#"
results = [send("tasks.sleep", 0.3, task_id=f"t{n}") for n in range(20)]
emit("published")
"#,
    );
    client.wait_for("published");
    client.finish();
    // Something that takes seconds to load, two milliseconds a key.
    redis.ask(&["EVAL", "for n = 1, 3000 do redis.call('SET', 'ballast' .. n, n) end", "0"]);
    redis.ask(&["BGREWRITEAOF"]);
    let is_done = |info: &Value| info.as_str().is_some_and(|info| info.contains("aof_rewrite_in_progress:0"));
    redis.until(&["INFO", "persistence"], is_done);
    host.wait_for("succeeded");
    server.kill();
    host.wait_for("Connection to broker lost");
    let options =
        "--appendonly yes --appendfsync always --key-load-delay 2000 --loading-process-events-interval-bytes 1024";
    server.start_again_with(options);
    host.wait_for("Redis is loading the dataset in memory");
    host.wait_for("Connected again");
    let code = "emit([get(app.AsyncResult(f't{n}')) for n in range(20)].count(0.3))";
    assert_eq!(site.client(code), json!(20));
    works(&site);
}

#[test]
fn a_server_that_forgot_everything_is_told_again() {
    let Some((mut server, site)) = open() else { return };
    let host = site.host(&[]);
    works(&site);
    server.kill();
    host.wait_for("Connection to broker lost");
    server.start_again();
    host.wait_for("Connected again");
    works(&site);
}

#[test]
fn a_server_whose_memory_is_full_is_waited_for() {
    let Some((server, site)) = open() else { return };
    let mut redis = Redis::connect(&server.url);
    let host = site.host(&["-c", "2"]);
    let client = site.start_client(
        r#"
results = [send("tasks.sleep", 0.5, task_id=f"t{n}") for n in range(10)]
results += [send("tasks.slow_flaky", 0.2, task_id=f"t{n}") for n in range(10, 15)]
emit("published")
emit([get(result) for result in results])
"#,
    );
    client.wait_for("published");
    host.wait_for("succeeded");
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    host.wait_for("OOM");
    // Nothing is lost by it: neither the connection nor what cannot be stored or published now.
    host.wait_for("results wait here");
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    let expected: Vec<Value> = (0..15).map(|n| if n < 10 { json!(0.5) } else { json!(1) }).collect();
    assert_eq!(client.finish(), json!(expected));
    succeeded_once(&host, (0..15).map(|n| format!("t{n}")));
    works(&site);
}

#[test]
fn a_server_that_may_throw_away_messages_is_warned_of() {
    let Some((server, site)) = open() else { return };
    let mut redis = Redis::connect(&server.url);
    redis.ask(&["CONFIG", "SET", "maxmemory", "100mb"]);
    redis.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let host = site.host(&[]);
    host.wait_for(
        "WARNING] Redis may throw away messages: its maxmemory-policy is `allkeys-lru` and must be `noeviction`",
    );
}

#[test]
fn killed_connections_are_made_anew() {
    let Some((server, site)) = open() else { return };
    let mut redis = Redis::connect(&server.url);
    let host = site.host(&["-c", "2"]);
    // The client is gone before the kill, which cannot tell hosts from clients: one of Celery's that waits for the
    // answer to a GET then fails.
    site.client("for n in range(30): send('tasks.sleep', 0.2, task_id=f't{n}')");
    host.wait_for("succeeded");
    redis.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    host.wait_for("Connected again");
    let code = "emit([get(app.AsyncResult(f't{n}')) for n in range(30)].count(0.2))";
    assert_eq!(site.client(code), json!(30));
    succeeded_once(&host, (0..30).map(|n| format!("t{n}")));
    works(&site);
}

#[test]
fn bindings_that_were_evicted_are_written_again_by_who_consumes() {
    let Some((server, site)) = open() else { return };
    let mut redis = Redis::connect(&server.url);
    let queue = site.queue().to_owned();
    site.write(
        "host.toml",
        &format!("[queues.\"{queue}\"]\nexchange = \"{queue}-topics\"\nexchange_type = \"topic\"\nrouting_key = \"images.#\"\n"),
    );
    let _host = site.host(&[]);
    // A client that knows the exchange and nothing of the queue.
    let publish = r#"
from kombu import Exchange
topics = Exchange(QUEUE + "-topics", "topic")
def send_topic(key, id):
    with app.producer_or_acquire() as producer:
        body = json.dumps([[2, 2], {}, {}])
        headers = {"task": "tasks.add", "id": id, "lang": "py"}
        producer.publish(body, exchange=topics, routing_key=key, headers=headers, content_type="application/json",
                         content_encoding="utf-8", correlation_id=id, declare=[topics])
    return get(app.AsyncResult(id))
"#;
    assert_eq!(site.client(&format!("{publish}\nemit(send_topic('images.small.resize', 'first'))")), json!(4));
    let tables = [format!("_kombu.binding.{queue}-topics"), format!("_kombu.binding_permanent.{queue}-topics")];
    for table in &tables {
        assert_eq!(redis.ask(&["DEL", table]), json!(1), "{table}");
    }
    for table in &tables {
        redis.until(&["EXISTS", table], |answer| *answer == json!(1));
    }
    assert_eq!(site.client(&format!("{publish}\nemit(send_topic('images.large', 'second'))")), json!(4));
}

#[test]
fn a_lease_that_was_evicted_is_taken_anew() {
    let Some((server, site)) = open() else { return };
    let mut redis = Redis::connect(&server.url);
    let host = site.host(&["-c", "1"]);
    let client = site.start_client(
        r#"
results = [send("tasks.sleep", 1.5, task_id=f"t{n}") for n in range(4)]
emit("published")
emit([get(result) for result in results].count(1.5))
"#,
    );
    client.wait_for("published");
    host.wait_for("[t0] received");
    redis.ask(&["DEL", "_taskhost.owners"]);
    host.wait_for("Connection to broker lost");
    host.wait_for("Connected again");
    assert_eq!(client.finish(), json!(4));
    succeeded_once(&host, (0..4).map(|n| format!("t{n}")));
    // Nobody would have restored what it held, had it not been looked for.
    assert!(!host.lines_with("hosts that held messages were not among `_taskhost.owners`").is_empty());
}

#[test]
fn messages_that_vanish_while_they_are_worked_on_are_told_and_their_tasks_end() {
    let Some((server, site)) = open() else { return };
    let mut redis = Redis::connect(&server.url);
    let host = site.host(&["-c", "1"]);
    let client =
        site.start_client("result = send('tasks.sleep', 14.0, task_id='t')\nemit('published')\nemit(get(result))");
    client.wait_for("published");
    host.wait_for("[t] received");
    assert_eq!(redis.ask(&["DEL", "unacked", "unacked_index"]), json!(2));
    host.wait_for("messages that we took from queue");
    assert_eq!(client.finish(), json!(14.0));
    succeeded_once(&host, ["t".to_owned()].into_iter());
    works(&site);
}
