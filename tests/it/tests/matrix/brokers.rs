//! The brokers, and what is tried with each.

use it::process::Stream;
use it::{Engine, Site, settings};
use serde_json::json;

use super::{NO, Probe, Row, YES};

pub(super) const ROWS: &[Row] = &[
    Row { name: "RabbitMQ, classic queues", url: "amqp://", open: || prioritised(Site::open(Engine::RabbitMqRedis)?) },
    Row { name: "RabbitMQ, quorum queues", url: "amqp://", open: quorum },
    Row { name: "RabbitMQ with TLS", url: "amqps://", open: rabbitmq_with_tls },
    Row { name: "Qpid Broker-J", url: "amqp://", open: qpid },
    Row { name: "Redis", url: "redis://", open: || prioritised(Site::open(Engine::Redis)?) },
    Row {
        name: "Redis with TLS",
        url: "rediss://",
        open: || {
            let url = settings::required(settings::REDISS)?;
            prioritised(Site::on(&url, &url)?)
        },
    },
    Row { name: "Redis behind Sentinels", url: "sentinel://", open: sentinels },
    Row { name: "SQS", url: "sqs://", open: sqs },
    Row {
        name: "PostgreSQL",
        url: "sqla+postgresql://",
        open: || {
            let database = settings::required(settings::POSTGRESQL)?;
            Site::on(&database.replacen("db+", "sqla+", 1), &settings::required(settings::REDIS)?)
        },
    },
    Row { name: "embedded SQLite", url: "sqlite:///", open: || prioritised(Site::open(Engine::Embedded)?) },
    Row { name: "kombu's folders", url: "filesystem://", open: crate::folders::site },
];

pub(super) const COLUMNS: &[(&str, Probe)] = &[
    ("tasks, retries, results", tasks),
    ("priorities", priorities),
    ("exchanges", exchanges),
    ("ETA", eta),
    ("a killed worker's tasks", redelivery),
    ("dead letters", dead_letters),
    ("beside Python workers", beside_python),
    ("remote control", remote_control),
    ("events", events),
    ("purge", purge),
];

/// Queues with priorities where that is a property of queues.
fn prioritised(mut site: Site) -> Option<Site> {
    site.celery_settings["task_queue_max_priority"] = json!(10);
    site.write("host.toml", "[task]\nqueue_max_priority = 10\n");
    Some(site)
}

/// Clients and the host are told of TLS by settings.
fn rabbitmq_with_tls() -> Option<Site> {
    let url = settings::required(settings::AMQPS)?.replace("amqps://", "amqp://");
    let mut site = Site::on(&url, &settings::required(settings::REDIS)?)?;
    let root = settings::required_path(settings::CERTIFICATES)?.join("ca.pem");
    site.celery_settings = json!({ "broker_use_ssl": { "ca_certs": root }, "task_queue_max_priority": 10 });
    let ours = format!("[broker]\nuse_ssl = {{ ca_certs = {root:?} }}\n[task]\nqueue_max_priority = 10\n");
    site.write("host.toml", &ours);
    Some(site)
}

/// A worker has been there before the first client, since what would be published before is lost.
fn qpid() -> Option<Site> {
    let mut site = Site::on(&settings::required(settings::QPID)?, &settings::required(settings::REDIS)?)?;
    site.celery_settings =
        json!({ "broker_transport_options": { "confirm_publish": true }, "without_empty_tables": true });
    assert!(site.host(&[]).stop().success());
    Some(site)
}

/// Priorities are Redis' own.
fn sentinels() -> Option<Site> {
    crate::redis_ways::behind(&settings::required(settings::SENTINEL)?)
}

/// Results in Redis. What a killed worker had is hidden for a while.
fn sqs() -> Option<Site> {
    let mut site = Site::on(&settings::required(settings::SQS)?, &settings::required(settings::REDIS)?)?;
    site.celery_settings = json!({ "broker_transport_options": { "wait_time_seconds": 1, "polling_interval": 0.1 } });
    site.write("host.toml", "[broker.transport_options]\nwait_time_seconds = 2\nvisibility_timeout = 5\n");
    Some(site)
}

fn quorum() -> Option<Site> {
    let mut site = Site::open(Engine::RabbitMqRedis)?;
    site.celery_settings["task_default_queue_type"] = json!("quorum");
    site.write("host.toml", "[task]\ndefault_queue_type = \"quorum\"\n");
    Some(site)
}

fn tasks(site: &Site) -> String {
    let _host = site.host(&[]);
    let code = r#"
results = [send("tasks.add", n, n) for n in range(30)] + [send("tasks.flaky", 2, kwargs={"countdown": 0.5})]
emit([get(result) for result in results] + [fails("tasks.fail", "no")["type"]])
"#;
    let mut expected: Vec<_> = (0..30).map(|n| json!(n * 2)).collect();
    expected.extend([json!(2), json!("ValueError")]);
    assert_eq!(site.client(code), json!(expected));
    YES.to_owned()
}

/// Which of the tasks that wait comes first: one with the largest priority, or one with the smallest.
fn priorities(site: &Site) -> String {
    // The names of kombu's files have no order within a millisecond.
    site.client(
        r#"
for priority in [5, 5, 9, 0, 5, 5]:
    send("tasks.echo", priority, priority=priority)
    time.sleep(0.01)
"#,
    );
    let host = site.host(&["-c", "1", "--prefetch-multiplier", "1"]);
    host.wait_for_count("] succeeded in ", 6);
    let order: Vec<String> = host
        .lines_with("] succeeded in ")
        .iter()
        .map(|line| line.rsplit(": ").next().unwrap_or_default().trim().to_owned())
        .collect();
    match order.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["9", "5", "5", "5", "5", "0"] => "larger first".to_owned(),
        ["0", "5", "5", "5", "5", "9"] => "smaller first".to_owned(),
        ["5", "5", "9", "0", "5", "5"] => NO.to_owned(),
        _ => "in part".to_owned(),
    }
}

/// A client that knows topic and direct exchanges, and a worker that only knows the queues.
fn exchanges(site: &Site) -> String {
    let queues = ["images", "small", "mail"].map(|suffix| format!("{}-{suffix}", site.queue)).join(",");
    let code = r#"
from kombu import Exchange, Queue
topics, direct = Exchange(QUEUE + "-topics", "topic"), Exchange(QUEUE + "-direct", "direct")
kind = app.conf.task_default_queue_type
arguments = {"x-queue-type": kind} if kind == "quorum" else {}
app.conf.task_queues = [
    Queue(QUEUE + suffix, exchange, routing_key=key, queue_arguments=arguments)
    for suffix, exchange, key in [
        ("-images", topics, "images.#"), ("-small", topics, "*.small"), ("-mail", direct, "letters")
    ]
]
sent = [(topics, "images.large"), (topics, "videos.small"), (direct, "letters")]
results = [
    send("tasks.request", exchange=exchange, routing_key=key, declare=app.conf.task_queues) for exchange, key in sent
]
emit([get(result)["id"] == result.id for result in results])
"#;
    let _host = site.host(&["-Q", &queues]);
    assert_eq!(site.client(code), json!([true, true, true]));
    YES.to_owned()
}

/// Tasks that are due later than the worker keeps them outlive it, and start in time.
fn eta(site: &Site) -> String {
    let options = ["-c", "1", "--set", "worker.eta_hold=1s"];
    let mut first = site.host(&options);
    let code = r#"
from datetime import datetime, timedelta, timezone
due = datetime.now(timezone.utc) + timedelta(seconds=8)
results = [send("tasks.add", n, 1, eta=due) for n in range(3)]
emit("published")
values = [get(result) for result in results]
done = [result.date_done.replace(tzinfo=timezone.utc) for result in results]
emit([values, all(time >= due for time in done)])
"#;
    let client = site.start_client(code);
    client.wait_for("published");
    first.wait_for_count("] received", 3);
    first.kill();
    let _second = site.host(&options);
    assert_eq!(client.finish(), json!([[1, 2, 3], true]));
    YES.to_owned()
}

fn redelivery(site: &Site) -> String {
    let mut first = site.host(&["-c", "2"]);
    let client = site.start_client(
        r#"
results = [send("tasks.sleep", 4 + n) for n in range(2)]
emit([get(result) for result in results])
"#,
    );
    first.wait_for_count("] received", 2);
    first.kill();
    let _second = site.host(&["-c", "2"]);
    assert_eq!(client.finish(), json!([4.0, 5.0]));
    "run again".to_owned()
}

fn dead_letters(site: &Site) -> String {
    let host = site.host(&["-c", "1", "--set", "task.delivery_limit=2", "--statedb", "w.state.db"]);
    let id = format!("dead-{}", site.queue);
    site.client(&format!(r#"send("tasks.reject", True, task_id="{id}")"#));
    host.wait_for("was delivered");
    let listed = site.bare_command(&["dead", "list", "--json", "-b", &site.broker, "-Q", &site.queue]).success();
    assert!(listed.out.contains(&id), "{}", listed.out);
    YES.to_owned()
}

fn beside_python(site: &Site) -> String {
    let host = site.host(&["-c", "1", "--prefetch-multiplier", "1"]);
    let name = format!("python@{}", site.queue);
    let python = site.python_worker(&["--concurrency", "1", "--prefetch-multiplier", "1", "--hostname", &name]);
    let code = r#"
results = [send("tasks.sleep", 0.25 + n / 2**20) for n in range(24)]
emit([get(result) == 0.25 + n / 2**20 for n, result in enumerate(results)].count(True))
"#;
    assert_eq!(site.client(code), json!(24));
    let shares = [host.lines_with("] succeeded in ").len(), python.lines_with("] succeeded in ").len()];
    assert!(shares[0] > 0 && shares[1] > 0, "the host and the Python worker ran {shares:?}");
    YES.to_owned()
}

fn remote_control(site: &Site) -> String {
    let host = site.host(&[]);
    let asked = site.celery(&["inspect", "ping", "-d", &host.node, "--timeout", "10"]);
    if asked.status.success() {
        assert!(asked.out.contains("pong"), "{}", asked.out);
        return YES.to_owned();
    }
    host.wait_for("no remote control through this broker");
    "`host` on the same machine".to_owned()
}

fn events(site: &Site) -> String {
    let mut monitor = site.start_command(&["events", "-b", &site.broker]);
    let _host = site.host(&["-E"]);
    let id = format!("seen-{}", site.queue);
    site.client(&format!(r#"get(send("tasks.add", 1, 1, task_id="{id}"))"#));
    if !monitor.is_running() {
        let said = monitor.written(Stream::Err);
        assert!(said.contains("events need "), "{said}");
        return NO.to_owned();
    }
    monitor.wait_for(&id);
    YES.to_owned()
}

fn purge(site: &Site) -> String {
    site.client(r#"for n in range(5): send("tasks.add", n, n)"#);
    let purged = site.bare_command(&["purge", "--force", "-b", &site.broker, "-Q", &site.queue]).success();
    assert!(purged.out.contains('5'), "{}", purged.out);
    YES.to_owned()
}
