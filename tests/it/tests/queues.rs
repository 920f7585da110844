//! Queues, exchanges and priorities, as a stock client declares them and publishes to them.

use it::{Engine, Redis, Site};
use serde_json::json;

on_every_engine! {
    a_worker_takes_from_the_queues_it_is_told_and_from_no_other
    direct_and_topic_exchanges_lead_to_the_queues_that_are_bound_to_them
    urgent_tasks_run_first
}

fn a_worker_takes_from_the_queues_it_is_told_and_from_no_other(site: &Site) {
    let name = |suffix: &str| format!("{}-{suffix}", site.queue);
    let queues = [name("a"), name("b"), name("c")].join(",");
    let _host = site.host(&["-Q", &queues, "-X", &name("c")]);
    let code = r#"
results = [send("tasks.add", n, n, queue=f"{QUEUE}-{suffix}") for n, suffix in enumerate("abab")]
excluded = send("tasks.add", 9, 9, queue=QUEUE + "-c")
emit([get(result) for result in results] + [excluded.state])
"#;
    assert_eq!(site.client(code), json!([0, 2, 4, 6, "PENDING"]));
    // A worker of the other queue runs what is there.
    let _other = site.host(&["-Q", &name("c")]);
    site.client("until(lambda: True, ''); emit(call('tasks.add', 1, 1, queue=QUEUE + '-c'))");
}

/// What both sides know: two topics, and a direct exchange with another routing key than the queue's name.
const DECLARATIONS: &str = r#"
from kombu import Exchange, Queue
topics, direct = Exchange(QUEUE + "-topics", "topic"), Exchange(QUEUE + "-direct", "direct")
app.conf.task_queues = [
    Queue(QUEUE, Exchange(QUEUE), routing_key=QUEUE),
    Queue(QUEUE + "-images", topics, routing_key="images.#"),
    Queue(QUEUE + "-small", topics, routing_key="*.small"),
    Queue(QUEUE + "-mail", direct, routing_key="letters"),
]
"#;

fn direct_and_topic_exchanges_lead_to_the_queues_that_are_bound_to_them(site: &Site) {
    let queue = &site.queue;
    site.write(
        "host.toml",
        &format!(
            r#"
[queues."{queue}-images"]
exchange = "{queue}-topics"
exchange_type = "topic"
routing_key = "images.#"

[queues."{queue}-small"]
exchange = "{queue}-topics"
exchange_type = "topic"
routing_key = "*.small"

[queues."{queue}-mail"]
exchange = "{queue}-direct"
routing_key = "letters"
"#
        ),
    );
    let queues = ["images", "small", "mail"].map(|suffix| format!("{queue}-{suffix}")).join(",");
    let host = site.host(&["-Q", &queues]);
    let code = format!(
        r#"{DECLARATIONS}
def through(exchange, key, name, argument):
    return send(name, argument, exchange=exchange, routing_key=key, declare=app.conf.task_queues[1:])
results = [
    through(topics, "images.large.jpeg", "tasks.log", "mark one queue"),
    through(topics, "images.small", "tasks.log", "mark two queues"),
    through(topics, "texts.small", "tasks.log", "mark the other queue"),
    through(direct, "letters", "tasks.log", "mark by its key"),
    # A retry takes the same way.
    through(topics, "images.large", "tasks.flaky", 2),
    through(direct, "letters", "tasks.flaky", 1),
]
emit([get(result) for result in results])
"#
    );
    assert_eq!(site.client(&code), json!([null, null, null, null, 2, 1]));
    // Two queues got a message each, of one id.
    host.wait_for_count("mark two queues", 2);
    for (text, runs) in
        [("mark one queue", 1), ("mark two queues", 2), ("mark the other queue", 1), ("mark by its key", 1)]
    {
        assert_eq!(host.lines_with(text).len(), runs, "{text}");
    }
}

fn urgent_tasks_run_first(site: &Site) {
    // RabbitMQ and the embedded file serve larger priorities first, kombu's Redis transport smaller ones.
    let urgent_first = if site.engine == Engine::Redis { [0, 3, 6, 9] } else { [9, 6, 3, 0] };
    let host = site.host(&[
        "-c",
        "1",
        "--prefetch-multiplier",
        "1",
        "--set",
        "task.queue_max_priority=10",
        "--set",
        "task.track_started=true",
    ]);
    let code = r#"
app.conf.task_queue_max_priority = 10
busy = send("tasks.sleep", 3.0, priority=5)
until(lambda: busy.state != "PENDING" or os.environ["BACKEND"] == "rpc://", "the worker is busy")
results = [send("tasks.log", f"mark {priority} end", priority=priority) for priority in (3, 9, 0, 6) for _ in range(3)]
emit([get(result) for result in results].count(None))
"#;
    assert_eq!(site.client(code), json!(12));
    let marks = host.wait_for_count("mark ", 12);
    let order: Vec<u32> = marks.iter().map(|line| number(line)).collect();
    let expected: Vec<u32> = urgent_first.iter().flat_map(|priority| [*priority; 3]).collect();
    assert_eq!(order, expected);
}

/// The number after `mark`.
fn number(line: &str) -> u32 {
    let rest = line.split_once("mark ").expect("it was selected by this").1;
    rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number follows")
}

#[test]
fn every_queue_of_a_fanout_exchange_gets_each_message_rabbitmq() {
    crate::on(Engine::RabbitMqRedis, every_queue_of_a_fanout_exchange_gets_each_message);
}

#[test]
fn every_worker_gets_each_message_of_a_broadcast_queue_rabbitmq() {
    crate::on(Engine::RabbitMqRedis, every_worker_gets_each_message_of_a_broadcast_queue);
}

#[test]
fn every_worker_gets_each_message_of_a_broadcast_queue_redis() {
    crate::on(Engine::Redis, every_worker_gets_each_message_of_a_broadcast_queue);
}

fn every_queue_of_a_fanout_exchange_gets_each_message(site: &Site) {
    let queue = &site.queue;
    let of = |suffix: &str| {
        format!("[queues.\"{queue}-{suffix}\"]\nexchange = \"{queue}-news\"\nexchange_type = \"fanout\"\n")
    };
    site.write("host.toml", &(of("one") + &of("two")));
    let host = site.host(&["-Q", &format!("{queue}-one,{queue}-two")]);
    site.client(
        r#"
from kombu import Exchange
send("tasks.log", "mark to all", exchange=Exchange(QUEUE + "-news", "fanout"), routing_key="all", declare=[])
"#,
    );
    host.wait_for_count("mark to all", 2);
}

fn every_worker_gets_each_message_of_a_broadcast_queue(site: &Site) {
    let queue = &site.queue;
    site.write("host.toml", &format!("[queues.\"{queue}-news\"]\nbroadcast = true\n"));
    let queues = format!("{queue},{queue}-news");
    let hosts = [site.host(&["-Q", &queues]), site.host(&["-Q", &queues])];
    site.client(
        r#"
from kombu.common import Broadcast
app.conf.task_queues = [Broadcast(QUEUE + "-news")]
# With a key that Celery makes up, with one of the client's own, and without.
news = QUEUE + "-news"
known = app.conf.task_queues
send("tasks.log", "mark to everybody 1", queue=news, declare=known)
send("tasks.log", "mark to everybody 2", exchange=news, routing_key="key", exchange_type="fanout", declare=known)
send("tasks.log", "mark to everybody 3", queue=news, exchange=news)
"#,
    );
    for host in &hosts {
        host.wait_for_count("mark to everybody", 3);
    }
    assert_eq!(site.client("emit(call('tasks.add', 2, 2))"), json!(4));
    for host in &hosts {
        assert_eq!(host.lines_with("mark to everybody").len(), 3);
    }
}

#[test]
fn a_queue_that_somebody_deletes_is_made_again() {
    let Some(site) = Site::open(Engine::RabbitMqRedis) else { return };
    let host = site.host(&[]);
    assert_eq!(site.client("emit(call('tasks.add', 1, 1))"), json!(2));
    site.client("with app.connection_for_write() as connection: connection.default_channel.queue_delete(QUEUE)");
    host.wait_for("the broker ended the consumer of queue");
    host.wait_for("Connected again");
    assert_eq!(site.client("emit(call('tasks.flaky', 2))"), json!(2));
}

#[test]
fn a_headers_exchange_leads_to_the_queues_whose_headers_match() {
    let Some(site) = Site::open(Engine::RabbitMqRedis) else { return };
    let queue = &site.queue;
    site.write(
        "host.toml",
        &format!(
            "[queues.\"{queue}-eu\"]\nexchange = \"{queue}-regions\"\nexchange_type = \"headers\"\n\
             binding_arguments = [\"x-match=all\", \"region=eu\"]\n"
        ),
    );
    let host = site.host(&["-Q", &format!("{queue}-eu")]);
    site.client(
        r#"
from kombu import Exchange
regions = Exchange(QUEUE + "-regions", "headers")
for region in ("us", "eu"):
    send("tasks.log", f"mark for {region}", exchange=regions, routing_key="any", headers={"region": region}, declare=[])
"#,
    );
    host.wait_for("mark for eu");
    assert!(host.lines_with("mark for us").is_empty());
}

#[test]
fn a_key_prefix_keeps_applications_apart_on_one_redis() {
    let Some(site) = Site::open(Engine::Redis) else { return };
    let mut redis = Redis::connect(&site.broker);
    let prefix = format!("{}:", site.queue);
    let option = format!("[\"global_keyprefix={prefix}\"]");
    site.write(
        "host.toml",
        &format!("[broker]\ntransport_options = {option}\n[result]\nbackend_transport_options = {option}\n"),
    );
    let host = site.host(&[]);
    let prefixed = format!(
        r#"
options = {{"global_keyprefix": "{prefix}"}}
app.conf.update(broker_transport_options=options, result_backend_transport_options=options)
"#
    );
    let plain =
        site.start_client("result = send('tasks.add', 1, 1)\nemit('published')\ntime.sleep(2)\nemit(result.state)");
    plain.wait_for("published");
    let code = format!(
        "{prefixed}\nemit([call('tasks.add', 2, 2), call('tasks.flaky', 2), call('tasks.sleep', 0.1, priority=9)])"
    );
    assert_eq!(site.client(&code), json!([4, 2, 0.1]));
    assert_eq!(plain.finish(), json!("PENDING"), "the worker ran what was published without its prefix");
    assert_eq!(host.lines_with("] received").len(), 5);
    let keys = redis.ask(&["KEYS", &format!("{prefix}*")]);
    let keys: Vec<&str> = keys.as_array().expect("a list").iter().filter_map(|key| key.as_str()).collect();
    for wanted in ["_taskhost.owners", &format!("_kombu.binding.{}", site.queue)] {
        assert!(keys.contains(&&*format!("{prefix}{wanted}")), "{wanted} is not among {keys:?}");
    }
}
