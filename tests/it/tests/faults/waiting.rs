//! Long tasks, long waits and workers that leave: what is under way changes hands once, or not at all.

use it::{Engine, Server, Site};
use serde_json::json;

on_every_engine! {
    tasks_that_wait_at_the_broker_survive_their_worker_and_run_once
    what_a_leaving_worker_has_fetched_is_run_by_another_at_once
    tasks_that_are_due_much_later_take_no_room_in_the_worker
}

/// What 100,000 tasks that are due in an hour may add to the worker, in bytes for each.
const WAITING_BYTES: u64 = 50 * 1024 * 1024 / 100_000;
/// What the worker may take for other reasons: pages that are not given back.
const OTHER_BYTES: u64 = 1024 * 1024;
/// How often as many tasks come again until whatever has a bound of its own is full, such as what was settled lately. What
/// each of them took would be added every time.
const ROUNDS_MAX: usize = 6;

fn tasks_that_are_due_much_later_take_no_room_in_the_worker(site: &Site) {
    // RabbitMQ and the embedded file write each to the disk.
    let tasks: u64 = match site.engine {
        Engine::Redis => 12_000,
        Engine::RabbitMqRedis | Engine::RabbitMqRpc => 3_000,
        Engine::Embedded | Engine::Other => 500,
    };
    let host = site.host(&["-c", "1"]);
    let publish = |tasks: u64| {
        let published = site.client(&format!(
            r#"
with app.producer_pool.acquire(block=True) as producer:
    for n in range({tasks}):
        app.send_task("tasks.add", (n, n), countdown=3600, producer=producer, ignore_result=True)
# It stands behind all of them.
emit(call("tasks.add", 100, 100))
"#
        ));
        assert_eq!(published, json!(200));
    };
    let allowed = tasks * WAITING_BYTES + OTHER_BYTES;
    let mut grown = Vec::new();
    while grown.last().is_none_or(|last| *last > allowed) {
        assert!(grown.len() < ROUNDS_MAX, "{tasks} waiting tasks added {grown:?} bytes, {allowed} are allowed");
        let before = host.own_bytes();
        publish(tasks);
        grown.push(host.own_bytes().saturating_sub(before));
    }
    eprintln!("{tasks} waiting tasks added {grown:?} bytes, {allowed} are allowed");
    let received = host.lines_with("] received").len() as u64;
    // The embedded file does not even hand them out.
    let each = if site.engine == Engine::Embedded { 1 } else { tasks + 1 };
    assert_eq!(received, grown.len() as u64 * each);
}

fn tasks_that_wait_at_the_broker_survive_their_worker_and_run_once(site: &Site) {
    const TASKS: usize = 40;
    let options = ["-c", "2", "--set", "worker.eta_hold=1s"];
    let mut first = site.host(&options);
    let client = site.start_client(&format!(
        r#"
started = time.time()
results = [send("tasks.add", n, n, countdown=9, task_id=f"{{QUEUE}}-{{n}}") for n in range({TASKS})]
emit("published")
values = [get(result) for result in results]
emit([values == [2 * n for n in range({TASKS})], time.time() - started >= 9])
"#
    ));
    client.wait_for("published");
    first.wait_for_count("] received", TASKS);
    // One more message passes through when all of them have been put back.
    assert_eq!(site.client("emit(call('tasks.add', 100, 100))"), json!(200));
    first.kill();
    let second = site.host(&options);
    assert_eq!(client.finish(), json!([true, true]));
    for n in 0..TASKS {
        let ended = format!("[{}-{n}] succeeded", site.queue);
        let lines = first.lines_with(&ended).len() + second.lines_with(&ended).len();
        assert_eq!(lines, 1, "runs of task {n}");
    }
}

fn what_a_leaving_worker_has_fetched_is_run_by_another_at_once(site: &Site) {
    let mut first = site.host(&["-c", "1", "--prefetch-multiplier", "10", "--set", "task.track_started=true"]);
    let client = site.start_client(
        r#"
long = send("tasks.sleep", 15.0)
until(lambda: long.state == "STARTED", "the task runs")
short = [send("tasks.add", n, n) for n in range(8)]
emit("published")
emit(["short", [get(result) for result in short]])
emit(get(long))
"#,
    );
    client.wait_for("published");
    first.wait_for_count("Task tasks.add[", 8);
    let second = site.host(&["-c", "1"]);
    assert!(second.lines_with("Task tasks.add[").is_empty(), "the first has fetched them all");
    first.signal("TERM");
    client.wait_for(r#"["short", [0, 2, 4, 6, 8, 10, 12, 14]]"#);
    assert!(first.is_running(), "they had to wait for the task that runs");
    assert_eq!(client.finish(), json!(15.0));
    assert!(first.wait().success());
    assert!(second.lines_with("Task tasks.sleep[").is_empty(), "the long task was not given away");
}

#[test]
fn a_worker_that_was_paused_for_longer_than_its_lease_gets_over_it_redis() {
    crate::on(Engine::Redis, a_worker_that_was_paused_for_longer_than_its_lease_gets_over_it);
}

#[test]
fn a_worker_that_was_paused_for_longer_than_its_lease_gets_over_it_embedded() {
    crate::on(Engine::Embedded, a_worker_that_was_paused_for_longer_than_its_lease_gets_over_it);
}

fn a_worker_that_was_paused_for_longer_than_its_lease_gets_over_it(site: &Site) {
    let options = ["-c", "1", "--set", "task.track_started=true"];
    let mut paused = site.host(&options);
    let client = site.start_client(
        r#"
first = send("tasks.sleep", 2.0)
until(lambda: first.state == "STARTED", "the task runs")
rest = [send("tasks.add", n, n) for n in range(3)]
emit("running")
emit([get(first)] + [get(result) for result in rest])
"#,
    );
    client.wait_for("running");
    paused.wait_for_count("] received", 4);
    paused.signal("STOP");
    let other = site.host(&options);
    // Everything is taken over, as if it were dead.
    assert_eq!(client.finish(), json!([2.0, 0, 2, 4]));
    assert_eq!(other.lines_with("] succeeded in ").len(), 4);
    paused.signal("CONT");
    // What it held is others' now: it settles nothing of that, and works again.
    assert_eq!(site.client("until(lambda: depth() == 0, 'the queue is empty'); emit(depth())"), json!(0));
    drop(other);
    assert_eq!(site.client("emit([call('tasks.add', 5, 5), call('tasks.flaky', 2)])"), json!([10, 2]));
    assert!(paused.stop().success());
}

#[test]
fn a_task_longer_than_the_visibility_timeout_of_its_queue_runs_once() {
    // Of the test's own, since a sweep with a short time-out restores what others hold.
    let Some(server) = Server::redis() else { return };
    let Some(mut site) = Site::with_redis(&server.url) else { return };
    site.host_broker = Some(format!("{}?visibility_timeout=3", site.broker));
    let host = site.host(&["-c", "1"]);
    // A Python worker beside it restores, by kombu's rules, what is unacknowledged for longer than that.
    let python = site.start_client(
        r#"
app.conf.broker_transport_options = {"visibility_timeout": 3}
with app.connection_for_read() as connection:
    channel = connection.default_channel
    emit("sweeping")
    deadline = time.monotonic() + 14
    while time.monotonic() < deadline:
        channel.qos.restore_visible(num=100, interval=1)
        time.sleep(0.2)
emit(True)
"#,
    );
    python.wait_for("sweeping");
    assert_eq!(
        site.client("emit([get(result) for result in [send('tasks.sleep', 9.0), send('tasks.add', 2, 2)]])"),
        json!([9.0, 4])
    );
    assert_eq!(python.finish(), json!(true));
    assert_eq!(host.lines_with("] received").len(), 2, "each was delivered once");
    assert_eq!(host.lines_with("] succeeded").len(), 2);
}
