//! A broker that is read and one that is written: what belongs on which side when nobody brings anything across.

use it::settings::{REDIS, required};
use it::{Server, Site};
use serde_json::{Value, json};

use crate::reload::{answers, put};

/// How many messages wait in the site's queue, and in those with these suffixes, at the broker that is written to.
fn written(site: &Site, write: &str) -> Value {
    let code = format!(
        r#"
from kombu import Connection

def waiting(suffix):
    with Connection("{write}") as connection:
        try:
            return connection.default_channel.queue_declare(QUEUE + suffix, passive=True).message_count
        except connection.channel_errors:
            return 0
emit([waiting(suffix) for suffix in ("", ".dead", ".parked")])
"#
    );
    site.client(&code)
}

fn what_is_set_aside_is_found_where_it_was_read(start: fn() -> Option<Server>) {
    let Some(backend) = required(REDIS) else { return };
    let (Some(read), Some(write)) = (start(), start()) else { return };
    let Some(site) = Site::on(&read.url, &backend) else { return };
    let write_url = format!("broker_write_url={}", write.url);
    let apart = ["--set", write_url.as_str()];
    let settings =
        ["task_delivery_limit=1", "task_track_started=true", "worker.unknown_task=park", "worker.eta_hold=1s"];
    let mut options = vec!["-c", "1", "--statedb", "w.state.db"];
    options.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    options.extend(apart);

    let mut host = site.host(&options);
    let killer = format!("killer-{}", site.queue());
    let started = format!(
        r#"
killer = send("tasks.sleep", 600, task_id="{killer}")
until(lambda: killer.state == "STARTED", "it is started")
emit(killer.id)
"#
    );
    assert_eq!(site.client(&started), json!(killer));
    host.kill();
    let host = site.host(&options);
    host.wait_for(&format!("Task tasks.sleep[{killer}] was delivered 1 times and never finished"));

    // A late start waits where the task was taken.
    assert_eq!(site.client("emit(call('tasks.add', 1, 2, countdown=4))"), json!(3));

    let stranger = format!("stranger-{}", site.queue());
    site.client(&format!(r#"emit(send("t", task_id="{stranger}").id)"#));
    let unregistered = "Received unregistered task of type 't'".to_owned();
    host.wait_for(&unregistered);
    let place = ["-b", &site.broker, "-Q", site.queue(), "--set", &write_url];
    for (kind, id, again) in [
        (&["--parked"][..], &stranger, &unregistered),
        (&[][..], &killer, &format!("Task tasks.sleep[{killer}] received")),
    ] {
        let dead = |words: &[&str]| site.bare_command(&[&["dead"], words, kind, &place].concat());
        let listed = dead(&["list", "--json"]).success();
        let letter: Value = serde_json::from_str(listed.out.trim()).expect("one JSON object");
        assert_eq!(letter["id"], json!(id));
        let before = host.lines_with(again).len();
        assert_eq!(dead(&["requeue", id]).success().out, "requeued 1 message\n");
        host.wait_for_count(again, before + 1);
    }
    assert_eq!(written(&site, &write.url), json!([0, 0, 0]));

    // The killer has the only slot.
    site.client(&format!(r#"app.control.terminate("{killer}"); emit(True)"#));
    put(&site, "plugins/p.wasm", &answers("home"));
    host.wait_for("1 parked messages of");
    assert_eq!(site.client(&format!(r#"emit(get(app.AsyncResult("{stranger}")))"#)), json!("home"));
    drop(host);

    // What waits on both sides is purged, as Celery does on the one.
    let code = format!(
        r#"
send("tasks.add", 1, 2)
app.conf.broker_write_url = "{}"
with app.connection_for_write() as connection, connection.Producer() as producer:
    [app.send_task("tasks.add", (1, 2), producer=producer) for _ in range(2)]
emit(True)
"#,
        write.url
    );
    site.client(&code);
    assert_eq!(written(&site, &write.url), json!([2, 0, 0]));
    let purged = site.bare_command(&[&["purge", "-f"], &place[..]].concat()).success();
    assert!(purged.out.contains("3 messages"), "{purged:?}");
    assert_eq!(written(&site, &write.url), json!([0, 0, 0]));
}

#[test]
fn what_is_set_aside_is_found_where_it_was_read_rabbitmq() {
    what_is_set_aside_is_found_where_it_was_read(Server::rabbitmq);
}

#[test]
fn what_is_set_aside_is_found_where_it_was_read_redis() {
    what_is_set_aside_is_found_where_it_was_read(Server::redis);
}

/// A client of a quorum queue sends what has a countdown into exchanges that it takes for granted where it publishes.
#[test]
fn clients_may_delay_what_they_publish_to_the_side_that_is_not_read() {
    let Some(backend) = required(REDIS) else { return };
    let (Some(read), Some(write)) = (Server::rabbitmq(), Server::rabbitmq()) else { return };
    let Some(site) = Site::on(&read.url, &backend) else { return };
    site.write("host.toml", &format!("[queues.\"{}\"]\nexchange_type = \"topic\"\ntype = \"quorum\"\n", site.queue()));
    let host = site.host(&["--set", &format!("broker_write_url={}", write.url)]);
    let code = format!(
        r#"
from kombu import Connection, Exchange, Queue

WRITE = "{}"
app.conf.broker_write_url = WRITE
app.conf.task_queues = [
    Queue(QUEUE, Exchange(QUEUE, type="topic"), routing_key=QUEUE, queue_arguments={{"x-queue-type": "quorum"}})
]
started = time.time()
result = send("tasks.add", 1, 2, countdown=3)
# As federation would bring it across.
with Connection(WRITE) as source, Connection(os.environ["BROKER"]) as target:
    found = until(lambda: source.default_channel.basic_get(QUEUE, no_ack=True), "it comes out of the delays")
    delayed = time.time() - started
    target.Producer().publish(
        found.body, exchange="", routing_key=QUEUE, headers=found.headers, content_type=found.content_type,
        content_encoding=found.content_encoding, correlation_id=found.properties["correlation_id"],
    )
emit([get(result), delayed > 2, found.delivery_info["routing_key"].endswith(".1.1." + QUEUE)])
"#,
        write.url
    );
    assert_eq!(site.client(&code), json!([3, true, true]));
    assert!(host.lines_with("cannot delay").is_empty());
}
