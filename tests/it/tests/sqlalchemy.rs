//! kombu's SQLAlchemy transport on PostgreSQL, with stock clients and Python workers on the same tables.

use std::collections::BTreeMap;

use it::{Process, Server, Site, settings};
use serde_json::json;

/// A site with messages and results in this database.
fn site(results: &str) -> Option<Site> {
    Site::on(&results.replacen("db+", "sqla+", 1), results)
}

#[test]
fn a_client_publishes_to_postgresql_and_the_host_does_what_it_says() {
    a_client_publishes_and_the_host_does_what_it_says(settings::POSTGRESQL);
}

/// Which lends a connection for no longer than a transaction takes.
#[test]
fn all_that_goes_through_a_pgbouncer_as_well() {
    a_client_publishes_and_the_host_does_what_it_says(settings::PGBOUNCER);
}

fn a_client_publishes_and_the_host_does_what_it_says(database: &str) {
    let Some(database) = settings::required(database) else { return };
    let Some(site) = site(&database) else { return };
    // Where results are kept follows from the broker.
    let mut host = site.host(&["-c", "2", "--set", "worker.eta_hold=1s"]);
    let code = r#"
from datetime import datetime, timedelta, timezone
later = send("tasks.add", 1, 2, countdown=3)
eta = send("tasks.add", 3, 4, eta=datetime.now(timezone.utc) + timedelta(seconds=3))
flaky = send("tasks.flaky", 2)
failed = fails("tasks.fail", "no")
emit([get(flaky), failed["type"], call("tasks.echo", "größe \U0001f980"), get(later), get(eta)])
"#;
    assert_eq!(site.client(code), json!([2, "ValueError", "größe 🦀", 3, 7]));
    assert!(host.is_running());
    let called = site.command(&["call", "tasks.add", "--args", "[2, 3]", "--queue", site.queue(), "--wait"]);
    assert!(called.success().out.contains('5'));
}

#[test]
fn waiting_messages_go_by_priority_and_can_be_purged() {
    let Some(database) = settings::required(settings::POSTGRESQL) else { return };
    let Some(site) = site(&database) else { return };
    let ids = site.client(
        r#"
ids = [send("tasks.echo", n, priority=n % 3, task_id=f"{QUEUE}-{n}").id for n in range(9)]
emit(ids)
"#,
    );
    let host = site.host(&["-c", "1"]);
    let last = ids[6].as_str().expect("an id");
    host.wait_for(&format!("{last}] succeeded in "));
    let order: Vec<u64> = host
        .lines_with("] succeeded in ")
        .iter()
        .map(|line| line.rsplit(": ").next().and_then(|value| value.trim().parse().ok()).expect("a number"))
        .collect();
    assert_eq!(order, [2, 5, 8, 1, 4, 7, 0, 3, 6]);
    drop(host);
    site.client(r#"[send("tasks.echo", n) for n in range(7)]; emit(None)"#);
    let purged = site.bare_command(&["purge", "--force", "-b", &site.broker, "-Q", site.queue()]);
    assert!(purged.success().out.contains('7'));
}

#[test]
fn a_python_worker_and_the_host_share_a_queue() {
    const TASKS: usize = 200;
    let Some(database) = settings::required(settings::POSTGRESQL) else { return };
    let Some(site) = site(&database) else { return };
    let host = site.host(&["-c", "1"]);
    let python = site.python_worker(&["-Q", site.queue(), "-n", &format!("py-{}@localhost", site.queue()), "-c", "1"]);
    let code = format!(
        r#"
results = [send("tasks.sleep", 0.05) for n in range({TASKS})]
emit([get(result) == 0.05 for result in results].count(True))
"#
    );
    assert_eq!(site.client(&code), json!(TASKS));
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for worker in [&*host, &python] {
        let lines = lines(worker);
        assert!(!lines.is_empty(), "one of both got nothing");
        lines.into_iter().for_each(|id| *runs.entry(id).or_default() += 1);
    }
    assert_eq!(runs.len(), TASKS);
    assert!(runs.values().all(|count| *count == 1), "some ran more than once");
}

/// The ids of tasks that have succeeded.
fn lines(worker: &Process) -> Vec<String> {
    let id = |line: &String| {
        line.split_once("tasks.sleep[").and_then(|(_, rest)| rest.split_once(']')).map(|it| it.0.to_owned())
    };
    worker.lines_with("] succeeded in ").iter().filter_map(id).collect()
}

#[test]
fn a_database_that_is_restarted_loses_no_task() {
    let Some(mut postgresql) = Server::postgresql() else { return };
    let Some(site) = site(&postgresql.url) else { return };
    let mut host = site.host(&["-c", "2"]);
    let ids = site.client(
        r#"
results = [send("tasks.sleep", 0.1 + n / 2**20) for n in range(60)]
emit([result.id for result in results])
"#,
    );
    host.wait_for_count("] succeeded in ", 5);
    postgresql.kill();
    host.wait_for("Connection to broker lost");
    postgresql.start_again();
    let done = site.client(&format!(
        r#"
ids = json.loads('{ids}')
emit([get(app.AsyncResult(id)) == 0.1 + n / 2**20 for n, id in enumerate(ids)].count(True))
"#
    ));
    assert_eq!(done, json!(60));
    assert_eq!(site.client("emit(call('tasks.add', 2, 2))"), json!(4));
    assert!(host.stop().success());
}
