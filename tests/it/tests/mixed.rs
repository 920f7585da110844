//! Mixed fleets: a Python worker and our host take tasks from one queue.

use std::collections::BTreeMap;

use it::{Engine, Process, Site};
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

fn lines(worker: &Process, text: &str) -> Vec<String> {
    worker.lines_with(text)
}

/// The id of the task that a line is about.
fn id(line: &str, site: &Site) -> String {
    let start = line.find(&format!("[{}-", site.queue)).expect("the line names a task") + 1;
    let end = start + line[start..].find(']').expect("the id ends");
    line[start..end].to_owned()
}
