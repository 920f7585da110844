//! Tasks over SQS: an emulator of it, a stock Celery client with kombu's transport, and results in Redis.

use it::{Server, Site, settings};
use serde_json::json;

/// What the host is told, if it is nothing else.
const OPTIONS: &str = "[broker.transport_options]\nwait_time_seconds = 2\n";

/// A site on an emulator that all share.
fn open() -> Option<Site> {
    site(&settings::required(settings::SQS)?)
}

fn site(broker: &str) -> Option<Site> {
    let mut site = Site::on(broker, &settings::required(settings::REDIS)?)?;
    site.celery_settings = json!({ "broker_transport_options": { "wait_time_seconds": 1, "polling_interval": 0.1 } });
    site.write("host.toml", OPTIONS);
    Some(site)
}

#[test]
fn tasks_of_a_stock_client_run_and_are_tried_again() {
    let Some(site) = open() else { return };
    let host = site.host(&["-c", "4"]);
    host.wait_for("no remote control through this broker");
    let code = r#"
results = [send("tasks.add", n, n) for n in range(30)] + [send("tasks.flaky", 2, kwargs={"countdown": 0.5})]
emit([get(result) for result in results] + [outcome(send("tasks.fail", "no"))["type"]])
"#;
    let mut expected: Vec<_> = (0..30).map(|n| json!(n * 2)).collect();
    expected.extend([json!(2), json!("ValueError")]);
    assert_eq!(site.client(code), json!(expected));
    let sum = site.command(&["call", "tasks.add", "--args", "[2, 3]", "--queue", &site.queue, "--wait"]).success();
    assert_eq!(sum.out.trim(), "5");
}

#[test]
fn what_a_killed_worker_had_runs_on_another_within_its_lease() {
    let Some(site) = open() else { return };
    site.write("host.toml", "[broker.transport_options]\nwait_time_seconds = 2\nvisibility_timeout = 5\n");
    let mut first = site.host(&["-c", "2"]);
    let client = site.start_client(
        r#"
# Longer than the visibility timeout: it is renewed.
results = [send("tasks.sleep", 9 + n) for n in range(2)]
emit([get(result) for result in results])
"#,
    );
    first.wait_for_count("] received", 2);
    first.kill();
    let second = site.host(&["-c", "2"]);
    assert_eq!(client.finish(), json!([9.0, 10.0]));
    assert_eq!(second.lines_with("] succeeded in ").len(), 2);
    assert_eq!(second.lines_with("] received").len(), 2, "nothing came twice");
}

#[test]
fn a_worker_comes_back_when_its_server_does() {
    let Some(mut server) = Server::sqs() else { return };
    let Some(site) = site(&server.url) else { return };
    let mut host = site.host(&["-c", "2"]);
    let running = site.start_client("emit(call('tasks.sleep', 3.0))");
    host.wait_for("] received");
    server.kill();
    // What runs ends, and its result is stored, though nobody is there to hear of it.
    assert_eq!(running.finish(), json!(3.0));
    host.wait_for("Connection to broker lost");
    server.start_again();
    assert_eq!(site.client("emit(call('tasks.add', 2, 2))"), json!(4));
    assert!(host.stop().success());
}

#[test]
fn a_fifo_queue_keeps_the_order_of_a_group_for_a_worker_with_one_slot() {
    let Some(mut site) = open() else { return };
    site.queue.push_str(".fifo");
    let host = site.host(&["-c", "1"]);
    let code = r#"
results = [send("tasks.add", n, 0, MessageGroupId="one") for n in range(6)]
emit([get(result) for result in results])
"#;
    assert_eq!(site.client(code), json!([0, 1, 2, 3, 4, 5]));
    let order: Vec<String> = host
        .lines_with("] succeeded in ")
        .iter()
        .map(|line| line.rsplit(": ").next().unwrap_or_default().trim().to_owned())
        .collect();
    assert_eq!(order, ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn queues_that_somebody_else_made_are_used_with_credentials_and_a_backoff_of_their_own() {
    let Some(mut site) = open() else { return };
    // Made by kombu; from then on both sides know it by a URL only.
    let code = r#"
channel = app.connection_for_write().default_channel
emit(channel._new_queue(QUEUE))
"#;
    let url = site.client(code);
    let url = url.as_str().expect("a URL").to_owned();
    let name = "orders";
    let queue = std::mem::replace(&mut site.queue, name.to_owned());
    site.celery_settings["broker_transport_options"]["predefined_queues"] =
        json!({ name: { "url": url, "access_key_id": "theirs", "secret_access_key": "hush" } });
    let predefined = format!(
        "{OPTIONS}[broker.transport_options.predefined_queues.{name}]\nurl = \"{url}\"\n\
         access_key_id = \"theirs\"\nsecret_access_key = \"hush\"\n\
         backoff_policy = {{ 1 = 0, 2 = 600 }}\nbackoff_tasks = [\"tasks.reject\"]\n"
    );
    site.write("host.toml", &predefined);
    let host = site.host(&["-c", "1"]);
    assert_eq!(site.client("emit(call('tasks.add', 2, 2))"), json!(4));
    // What is rejected there comes again, after what the queue's policy says.
    assert!(site.client("emit(send('tasks.reject', False).id)").is_string());
    host.wait_for_count("] rejected", 2);
    let shown = site.bare_command(&["config", "-b", &site.broker]).success();
    assert!(shown.out.contains(&queue) && !shown.out.contains("hush"), "{}", shown.out);
    drop(host);
    site.command(&["call", "tasks.add", "--queue", "other"]).refused(&["must be defined in predefined_queues"]);
}

#[test]
fn an_endpoint_with_tls_is_believed_by_the_bundle_that_boto_believes() {
    let Some(certificates) = settings::required_path(settings::CERTIFICATES) else { return };
    let Some(mut site) = settings::required(settings::SQS_TLS).and_then(|url| site(&url)) else { return };
    site.celery_settings["broker_transport_options"]["is_secure"] = json!(true);
    site.write("host.toml", &format!("{OPTIONS}is_secure = true\n"));
    let stranger = site.launch_host(&[]);
    stranger.wait_for("signed by nobody who is believed; AWS_CA_BUNDLE names who is");
    drop(stranger);
    let bundle = certificates.join("ca.pem").display().to_string();
    let code = format!(
        r#"
import os
os.environ["AWS_CA_BUNDLE"] = "{bundle}"
later = send("tasks.add", 1, 2, countdown=2)
emit([get(send("tasks.add", 2, 2)), get(later)])
"#
    );
    site.environment.push(("AWS_CA_BUNDLE".to_owned(), bundle));
    let _host = site.host(&["-c", "2"]);
    assert_eq!(site.client(&code), json!([4, 3]));
}
