//! A worker that is killed while a chord runs: the chord comes to its end, and its body runs once.

use it::{End, Engine, Fault, Proxy, Server};
use serde_json::json;

use crate::differential::{host, site};

/// What the clients here have besides: how often a label ran, and whether each run after the first was of a message that was
/// delivered again.
const CLIENT: &str = r#"
import redis
from celery import chord

RUNS = "taskhost:kv:canvas:runs:"
store = redis.Redis.from_url(os.environ["BACKEND"], decode_responses=True)


def put(label, name="put", **kwargs):
    return app.signature("diff." + name, kwargs={"label": label, **kwargs})


def runs(label):
    """What each run has said of itself. One that was killed may have said nothing."""
    return [json.loads(store.get(f"{RUNS}r:{label}:{n + 1}") or "null") for n in range(int(store.get(f"{RUNS}n:{label}") or 0))]


def again(labels):
    """The labels that ran more than once, and those among them that had no reason to."""
    many = {label: runs(label) for label in labels}
    many = {label: list for label, list in many.items() if len(list) != 1}
    return [sorted(many), [label for label, list in many.items() if not all(run is None or run["redelivered"] for run in list[1:])]]


def claim(result):
    return store.get(f"celery-taskset-meta-{result.parent.id}.c")


def is_over(result):
    """True if nothing is left of a chord but the note that it is done, and nothing in the queue."""
    keys = [store.exists(f"celery-taskset-meta-{result.parent.id}.{end}") for end in "jst"]
    return claim(result) == "done" and not any(keys) and depth() == 0
"#;

fn client(code: &str) -> String {
    format!("{CLIENT}{code}")
}

const MEMBERS: usize = 200;
const SLOTS: usize = 2;

#[test]
fn a_chord_whose_workers_are_killed_comes_to_its_end_on_rabbitmq() {
    a_chord_whose_workers_are_killed_comes_to_its_end(Engine::RabbitMqRedis);
}

#[test]
fn a_chord_whose_workers_are_killed_comes_to_its_end_on_redis() {
    a_chord_whose_workers_are_killed_comes_to_its_end(Engine::Redis);
}

fn a_chord_whose_workers_are_killed_comes_to_its_end(engine: Engine) {
    let Some(redis) = Server::redis() else { return };
    let Some(site) = site(engine, &redis, 1) else { return };
    let mut worker = host(&site);
    let client = site.start_client(&client(&format!(
        r#"
labels = [f"m{{n}}" for n in range({MEMBERS})]
result = chord([put(label, "slow", seconds=0.01) for label in labels])(put("body", "slow", seconds=0))
emit("published")
value = get(result)
until(lambda: is_over(result), "the chord is over")
emit([runs("body")[0]["args"][:21], len(runs("body")), get(result.parent) == [label + "()" for label in labels], *again(labels)])
"#
    )));
    // Three die amidst the members, at whatever they are doing.
    for _ in 0..3 {
        worker.wait_for_count("] succeeded in ", MEMBERS / 5);
        worker.kill();
        worker = host(&site);
    }
    let mut answer = client.finish();
    let twice = answer[3].as_array().expect("a list").len();
    // Of each slot the one that was running, and the one before it, whose result was on its way.
    assert!(twice <= 3 * 2 * SLOTS, "{twice} members ran again, which is more than were running or being stored");
    answer[3] = json!([]);
    assert_eq!(answer, json!(["[[m0(),m1(),m2(),m3()", 1, true, [], []]));
}

#[test]
fn a_body_that_was_published_by_a_worker_that_died_before_it_acknowledged_runs_once_on_rabbitmq() {
    // The broker's answer arrives, so the chord is marked as done, and the acknowledgement is lost.
    a_body_runs_once(Engine::RabbitMqRedis, End::Client);
}

#[test]
fn a_body_that_was_published_by_a_worker_that_died_before_it_acknowledged_runs_once_on_redis() {
    a_body_runs_once(Engine::Redis, End::Client);
}

#[test]
fn a_body_that_was_published_by_a_worker_that_never_knew_runs_once_on_rabbitmq() {
    // The broker's answer is lost: the chord is claimed, and neither done nor is its last part acknowledged.
    a_body_runs_once(Engine::RabbitMqRedis, End::Server);
}

#[test]
fn a_body_that_was_published_by_a_worker_that_never_knew_runs_once_on_redis() {
    a_body_runs_once(Engine::Redis, End::Server);
}

fn a_body_runs_once(engine: Engine, muted: End) {
    let Some(redis) = Server::redis() else { return };
    let Some(mut site) = site(engine, &redis, 1) else { return };
    let proxy = Proxy::start(&site.broker);
    site.host_broker = Some(proxy.url(&site.broker));
    let mut first = host(&site);
    // The name of the body is in its message alone, since nobody but the worker publishes it through the proxy.
    proxy.set(Fault::MuteAfter("the-body", muted));
    let code = r#"
labels = [f"m{n}" for n in range(10)]
# The body waits in a queue that the first worker does not have.
result = chord([put(label) for label in labels])(put("the-body").set(queue=QUEUE + "-body"))
until(lambda: claim(result), "the chord is claimed")
if MUTED == "Client":
    until(lambda: claim(result) == "done", "the chord is done")
was_done = claim(result) == "done"
emit("go on")
get(result)
until(lambda: is_over(result), "the chord is over")
emit([was_done, len(runs("the-body")), *again(labels)])
"#;
    let client = site.start_client(&client(&code.replace("MUTED", &format!("\"{muted:?}\""))));
    proxy.wait_until_muted();
    client.wait_for("go on");
    first.kill();
    drop(proxy);
    site.host_broker = None;
    site.queue = format!("{0},{0}-body", site.queue);
    let _second = site.host(&[]);
    assert_eq!(client.finish(), json!([muted == End::Client, 1, [], []]));
}
