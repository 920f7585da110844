//! A host beside a Python worker: neither has anything to complain of about the other.

use it::{Server, Site};
use serde_json::{Value, json};

/// Asks all workers that are there, by their number, and gives the answers by node.
const ASK: &str = r#"
def ask(method, count, **arguments):
    replies = app.control.broadcast(method, arguments=arguments, reply=True, timeout=PATIENCE, limit=count)
    return {node: answer for reply in replies for node, answer in reply.items()}
"#;

/// Waits until each node has sent so many heartbeats.
const HEARTBEATS: &str = r#"
def heartbeats(count, *nodes):
    seen = dict.fromkeys(nodes, 0)
    def heard(event):
        if event["hostname"] in seen:
            seen[event["hostname"]] += 1
        if min(seen.values()) >= count:
            receiver.should_stop = True
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"worker-heartbeat": heard})
        receiver.capture(limit=None, timeout=PATIENCE, wakeup=True)
    return seen
"#;

#[test]
fn a_python_worker_and_a_host_get_on_with_each_other_on_rabbitmq() {
    get_on_with_each_other(Server::rabbitmq(), Site::with_broker);
}

#[test]
fn a_python_worker_and_a_host_get_on_with_each_other_on_redis() {
    get_on_with_each_other(Server::redis(), Site::with_redis);
}

fn get_on_with_each_other(server: Option<Server>, open: fn(&str) -> Option<Site>) {
    let Some(server) = server else { return };
    let Some(mut site) = open(&server.url) else { return };
    // Celery's own defaults: it says hello to others and listens to their heartbeats.
    site.environment.push(("GOSSIP".to_owned(), "1".to_owned()));
    let ask = |code: &str| -> Value { site.client(&format!("{ASK}{HEARTBEATS}{code}")) };
    let mut host = site.host(&["-c", "1"]);
    let ours = host.node.clone();
    assert_eq!(ask("emit(ask('ping', 1))"), json!({&ours: {"ok": "pong"}}));
    ask("emit(ask('revoke', 1, task_id='known-to-the-host'))");
    // A clock that has run for longer than a new one.
    ask("[ask('ping', 1) for _ in range(20)]; emit(None)");
    let before = ask("emit(ask('clock', 1))")[&ours]["clock"].as_u64().expect("a number");

    // The Python worker takes over what the host knows.
    let python = site.python_worker(&["-n", "python@localhost", "-c", "1"]);
    let theirs = "python@localhost";
    python.wait_for("mingle: sync with 1 nodes");
    python.wait_for("mingle: sync complete");
    let pings = ask("emit(ask('ping', 2))");
    assert_eq!(pings, json!({&ours: {"ok": "pong"}, theirs: {"ok": "pong"}}));
    let revoked = ask("emit(ask('revoked', 2))");
    assert!(revoked[theirs].to_string().contains("known-to-the-host"), "{revoked}");
    let clocks = ask("emit(ask('clock', 2))");
    assert!(clocks[theirs]["clock"].as_u64() > Some(before), "{clocks} after {before}");

    // A host that starts takes over what both know.
    ask("emit(ask('revoke', 2, task_id='known-to-both'))");
    let second = site.host(&["-c", "1"]);
    let revoked = ask("emit(ask('revoked', 3))");
    for id in ["known-to-the-host", "known-to-both"] {
        assert!(revoked[&second.node].to_string().contains(id), "{id}: {revoked}");
    }
    let clocks = ask("emit(ask('clock', 3))");
    assert!(clocks[&second.node]["clock"].as_u64() > Some(before), "{clocks} after {before}");

    // Tasks go to whoever has time, and heartbeats to everybody.
    let results = "emit([get(r) for r in [send('tasks.sleep', 0.2) for n in range(12)]].count(0.2))";
    assert_eq!(ask(results), json!(12));
    ask(&format!("emit(heartbeats(4, '{ours}', '{}', '{theirs}'))", second.node));
    assert!(host.stop().success());
    python.wait_for(&format!("sync with {}", second.node));
    // One that has gone in order is not missed. Whom it misses, a Python worker finds out every 5 s.
    ask(&format!("emit(heartbeats(6, '{}', '{theirs}'))", second.node));
    for complaint in ["missed heartbeat", "Substantial drift", "ERROR", "CRITICAL", "Traceback"] {
        assert!(python.lines_with(complaint).is_empty(), "{complaint}");
        assert!(host.lines_with(complaint).is_empty() && second.lines_with(complaint).is_empty(), "{complaint}");
    }
    let warnings = |lines: Vec<String>| lines.into_iter().filter(|line| !line.contains("ROOT")).collect::<Vec<_>>();
    for lines in [python.lines_with("WARNING/"), host.lines_with("WARNING]"), second.lines_with("WARNING]")] {
        assert_eq!(warnings(lines), [""; 0]);
    }
}
