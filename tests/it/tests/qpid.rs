//! Qpid Broker-J between a stock Celery client and a worker: AMQP 0-9-1 without RabbitMQ's extensions.

use it::{Server, Site, settings};
use serde_json::json;

/// A site with a broker of its own and the shared Redis for results.
fn open() -> Option<(Server, Site)> {
    let qpid = Server::qpid()?;
    let site = Site::on(&qpid.url, &settings::required(settings::REDIS)?)?;
    Some((qpid, site))
}

#[test]
fn a_client_and_a_worker_meet_on_qpid() {
    let Some((_qpid, site)) = open() else { return };
    let mut host = site.host(&["-c", "2"]);
    let code = r#"
results = [send("tasks.add", n, n) for n in range(30)] + [send("tasks.flaky", 2, kwargs={"countdown": 0.5})]
results += [send("tasks.add", 40, 2, countdown=3)]
emit([get(result) for result in results] + [fails("tasks.fail", "no")["type"]])
"#;
    let mut expected: Vec<_> = (0..30).map(|n| json!(n * 2)).collect();
    expected.extend([json!(2), json!(42), json!("ValueError")]);
    assert_eq!(site.client(code), json!(expected));
    let ping = site.celery(&["inspect", "ping", "-d", &host.node]).success();
    assert!(ping.out.contains("pong"), "{}", ping.out);
    let called = site.command(&["call", "tasks.add", "--args", "[1, 2]", "--queue", &site.queue, "--wait"]).success();
    assert_eq!(called.out.trim().lines().next_back(), Some("3"), "{}", called.out);
    assert!(host.stop().success());
}

#[test]
fn a_worker_resumes_when_qpid_comes_back() {
    let Some((mut qpid, mut site)) = open() else { return };
    // It reads what clients send more slowly than they send it, and what it has not read when it is stopped is lost.
    site.celery_settings = json!({"broker_transport_options": {"confirm_publish": true}, "without_empty_tables": true});
    let mut host = site.host(&["-c", "2"]);
    let client = site.start_client(
        r#"
results = [send("tasks.sleep", 0.125 + n / 2**20) for n in range(60)]
emit("published")
emit([get(result) == 0.125 + n / 2**20 for n, result in enumerate(results)].count(True))
"#,
    );
    client.wait_for("published");
    host.wait_for("] succeeded in ");
    qpid.stop();
    host.wait_for("Connection to broker lost");
    qpid.start_again();
    assert_eq!(client.finish(), json!(60));
    assert!(host.stop().success());
}
