//! Mixed fleets: a Python worker and our host take tasks from one queue.

use std::collections::BTreeMap;

use it::{Engine, Process, Server, Site};
use serde_json::json;

/// Tasks of each kind: plain ones, ones with a countdown, ones that retry at once, ones that retry later.
const PLAIN: usize = 1200;
const LATER: usize = 300;
const RETRIED: usize = 300;
const RETRIED_LATER: usize = 200;

#[test]
fn a_python_worker_and_the_host_share_a_queue_of_rabbitmq() {
    crate::on(Engine::RabbitMqRedis, a_python_worker_and_the_host_share_a_queue);
}

#[test]
fn a_python_worker_and_the_host_share_a_queue_of_redis() {
    crate::on(Engine::Redis, a_python_worker_and_the_host_share_a_queue);
}

fn a_python_worker_and_the_host_share_a_queue(site: &Site) {
    // The countdowns are longer than the host keeps tasks itself, so that some wait at the broker.
    let host = site.host(&["-c", "2", "--set", "worker.eta_hold=2s"]);
    let python = site.python_worker(&["-Q", site.queue(), "-n", &format!("py-{}@localhost", site.queue()), "-c", "2"]);
    let client = site.start_client(&format!(
        r#"
plan = [("tasks.add", (n, 1), {{}}, n + 1) for n in range({PLAIN})]
plan += [("tasks.add", (n, 2), {{"countdown": 4 + n % 3}}, n + 2) for n in range({LATER})]
plan += [("tasks.flaky", (2,), {{}}, 2) for n in range({RETRIED})]
plan += [("tasks.flaky", (1, 3.0), {{}}, 1) for n in range({RETRIED_LATER})]
plan = [plan[7 * n % len(plan)] for n in range(len(plan))]
results = [send(name, *args, task_id=f"{{QUEUE}}-{{n}}-{{name}}-{{value}}", **options)
           for n, (name, args, options, value) in enumerate(plan)]
emit([get(result) == value for result, (_, _, _, value) in zip(results, plan)].count(True))
"#
    ));
    let tasks = PLAIN + LATER + RETRIED + RETRIED_LATER;
    assert_eq!(client.finish(), json!(tasks), "tasks with the right result");
    assert_eq!(site.client("until(lambda: depth() == 0, 'the queue is empty'); emit(depth())"), json!(0));

    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for line in lines(&host, "] succeeded in ").into_iter().chain(lines(&python, "] succeeded in ")) {
        *runs.entry(id(&line, site)).or_default() += 1;
    }
    assert_eq!(runs.len(), tasks, "tasks that ran to their end");
    let twice: Vec<_> = runs.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "ran more than once: {twice:?}");
    let mut retries: BTreeMap<String, usize> = BTreeMap::new();
    for line in lines(&host, "] retry: Retry in ").into_iter().chain(lines(&python, "] retry: Retry in ")) {
        *retries.entry(id(&line, site)).or_default() += 1;
    }
    assert_eq!(retries.len(), RETRIED + RETRIED_LATER, "tasks that were retried");
    // The id ends with how often.
    let wrong: Vec<_> = retries.iter().filter(|(id, count)| !id.ends_with(&format!("-{count}"))).collect();
    assert!(wrong.is_empty(), "retried too often, or not enough: {wrong:?}");
    for worker in [&*host, &python] {
        assert!(worker.lines_with("] succeeded in ").len() > tasks / 20, "one of both got next to nothing");
    }
}

#[test]
fn what_a_dead_host_has_put_away_is_run_by_a_python_worker_when_it_is_due() {
    let Some(site) = Site::open(Engine::Redis) else { return };
    let mut host = site.host(&["--set", "worker.eta_hold=1s"]);
    let client = site.start_client(
        r#"
started = time.time()
results = [send("tasks.add", n, n, countdown=9) for n in range(10)]
emit("published")
# A Python worker's own sweep, which it makes every 100 seconds.
with app.connection_for_read() as connection:
    channel = connection.default_channel
    until(lambda: channel.qos.restore_visible(num=100, interval=1) or results[0].ready(), "they are restored")
emit([[get(result) for result in results] == [2 * n for n in range(10)], time.time() - started >= 9])
"#,
    );
    client.wait_for("published");
    host.wait_for_count("] received", 10);
    // One more message passes through when all of them have been put back.
    assert_eq!(site.client("emit(call('tasks.add', 100, 100))"), json!(200));
    host.kill();
    let python =
        site.python_worker(&["-Q", site.queue(), "-n", &format!("py-{}@localhost", site.queue()), "-P", "solo"]);
    assert_eq!(client.finish(), json!([true, true]));
    assert_eq!(python.lines_with("] succeeded in ").len(), 10);
}

#[test]
fn what_a_dead_python_worker_held_is_run_by_the_host_when_it_is_overdue() {
    // Of the test's own, since a sweep with a short time-out restores what others hold.
    let Some(server) = Server::redis() else { return };
    let Some(mut site) = Site::with_redis(&server.url) else { return };
    site.host_broker = Some(format!("{}?visibility_timeout=6", site.broker));
    site.environment = vec![("TRANSPORT_OPTIONS".to_owned(), r#"{"visibility_timeout": 6}"#.to_owned())];
    let name = format!("py-{}@localhost", site.queue);
    let mut python = site.python_worker(&["-Q", site.queue(), "-n", &name, "-c", "1"]);
    let client = site.start_client(
        r#"
results = [send("tasks.sleep", 3.0)] + [send("tasks.add", n, n) for n in range(3)]
emit("published")
emit([get(result) for result in results])
"#,
    );
    client.wait_for("published");
    python.wait_for_count("] received", 4);
    python.kill();
    assert!(python.lines_with("] succeeded in ").is_empty());
    let host = site.host(&[]);
    assert_eq!(client.finish(), json!([3.0, 0, 2, 4]));
    assert_eq!(host.lines_with("] succeeded in ").len(), 4);
    host.wait_for("messages were unacknowledged for too long and are back in their queues");
}

fn lines(worker: &Process, text: &str) -> Vec<String> {
    worker.lines_with(text)
}

/// The id of the task that a line is about.
fn id(line: &str, site: &Site) -> String {
    let start = line.find(&format!("[{}-", site.queue)).expect("the line names a task") + 1;
    let end = start + line[start..].find(']').expect("the id ends");
    line[start..end].to_owned()
}
