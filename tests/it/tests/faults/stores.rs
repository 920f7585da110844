//! Each result store down while tasks run: they run on within bounds, and once it is back every result is there, each
//! task has run once, and nothing is left in the queue.

use std::fs;

use it::settings::{AMQP, required};
use it::{Host, Server, Site};
use serde_json::json;

/// How many tasks end while the store is away; the last of them fails.
const TASKS: usize = 40;

/// Publishes without a result backend, since there is none now.
const PUBLISH: &str = r#"
other = Celery("other", broker=os.environ["BROKER"], backend="disabled://")
for n in range(TASKS):
    name, args = ("tasks.add", (n, n)) if n < TASKS - 1 else ("tasks.fail", ("no luck",))
    other.send_task(name, args, task_id=f"{QUEUE}-{n}", queue=QUEUE)
until(lambda: depth() == 0, "the worker has taken them all")
emit("published")
"#;

/// Reads what became of them.
const READ: &str = r#"
ended = [outcome(app.AsyncResult(f"{QUEUE}-{n}")) for n in range(TASKS)]
assert [it.get("value") for it in ended[:-1]] == [2 * n for n in range(TASKS - 1)], ended
assert ended[-1]["type"] == "ValueError", ended[-1]
until(lambda: depth() == 0, "the queue is empty")
emit(call("tasks.add", 20, 1))
"#;

fn code(text: &str, tasks: usize) -> String {
    format!("TASKS = {tasks}\n{text}")
}

#[track_caller]
fn ran_once(site: &Site, host: &Host, tasks: usize) {
    for n in 0..tasks {
        let ended = if n < tasks - 1 { "succeeded" } else { "raised unexpected" };
        host.wait_for(&format!("[{}-{n}] {ended}", site.queue));
        assert_eq!(host.lines_with(&format!("[{}-{n}] {ended}", site.queue)).len(), 1, "task {n}");
    }
}

/// A store that is killed, and back later.
fn is_waited_for(start: fn() -> Option<Server>) {
    let (Some(broker), Some(mut server)) = (required(AMQP), start()) else { return };
    let Some(site) = Site::on(&broker, &server.url) else { return };
    let mut host = site.host(&["-c", "2"]);
    assert_eq!(site.client("emit(call('tasks.add', 1, 1))"), json!(2));
    server.kill();
    assert_eq!(site.client(&code(PUBLISH, TASKS)), json!("published"));
    host.wait_for("results wait here");
    assert!(host.lines_with("] succeeded").len() <= 1, "nothing has come to its end that is not stored");
    server.start_again();
    assert_eq!(site.client(&code(READ, TASKS)), json!(21));
    host.wait_for("took all results that waited");
    ran_once(&site, &host, TASKS);
    assert!(host.stop().success());
}

#[test]
fn a_redis_that_is_down_is_waited_for() {
    is_waited_for(Server::redis);
}

#[test]
fn a_postgresql_that_is_down_is_waited_for() {
    is_waited_for(Server::postgresql);
}

#[test]
fn a_mariadb_that_is_down_is_waited_for() {
    is_waited_for(Server::mariadb);
}

#[test]
fn a_memcached_that_is_down_is_waited_for() {
    is_waited_for(Server::memcached);
}

#[test]
fn a_locked_sqlite_file_is_waited_for() {
    let Some(broker) = required(AMQP) else { return };
    let Some(mut site) = Site::on(&broker, "") else { return };
    site.backend = format!("db+sqlite:///{}", site.path("results.db").display());
    let mut host = site.host(&["-c", "2", "--set", "result.write_timeout=1s"]);
    assert_eq!(site.client("emit(call('tasks.add', 1, 1))"), json!(2));
    let lock = r#"
import sqlite3
file = sqlite3.connect(os.environ["BACKEND"].partition("///")[2], isolation_level=None)
file.execute("BEGIN EXCLUSIVE")
"#;
    let unlock =
        "\nuntil(lambda: os.path.exists('unlock'), 'the file is there')\nfile.execute('ROLLBACK')\nemit('unlocked')\n";
    let locker = site.start_client(&code(&[lock, PUBLISH, unlock].concat(), TASKS));
    locker.wait_for("published");
    host.wait_for("results wait here");
    site.write("unlock", "");
    assert_eq!(locker.finish(), json!("unlocked"));
    assert_eq!(site.client(&code(READ, TASKS)), json!(21));
    ran_once(&site, &host, TASKS);
    assert!(host.stop().success());
}

#[test]
fn a_folder_that_is_away_is_waited_for() {
    let Some(broker) = required(AMQP) else { return };
    let Some(mut site) = Site::on(&broker, "") else { return };
    let (folder, away) = (site.path("results"), site.path("away"));
    fs::create_dir(&folder).expect("a folder of the site");
    site.backend = format!("file://{}", folder.display());
    let mut host = site.host(&["-c", "2"]);
    assert_eq!(site.client("emit(call('tasks.add', 1, 1))"), json!(2));
    fs::rename(&folder, &away).expect("it is there");
    assert_eq!(site.client(&code(PUBLISH, TASKS)), json!("published"));
    host.wait_for("results wait here");
    fs::rename(&away, &folder).expect("it was moved");
    assert_eq!(site.client(&code(READ, TASKS)), json!(21));
    ran_once(&site, &host, TASKS);
    assert!(host.stop().success());
}

#[test]
fn no_more_tasks_start_than_results_may_wait_and_whoever_asks_is_told() {
    for acks_late in ["true", "false"] {
        let (Some(broker), Some(mut server)) = (required(AMQP), Server::redis()) else { return };
        let Some(site) = Site::on(&broker, &server.url) else { return };
        let acks_late = format!("task.acks_late={acks_late}");
        let settings = ["-c", "2", "--metrics", "127.0.0.1:0", "--set", "result.spool_limit=5", "--set", &acks_late];
        let mut host = site.host(&settings);
        assert_eq!(site.client("emit(call('tasks.add', 1, 1))"), json!(2));
        server.kill();
        let publish = PUBLISH.replace("until(lambda: depth() == 0, \"the worker has taken them all\")", "");
        site.client(&code(&publish, TASKS));
        host.wait_for("NO TASK STARTS");
        let line = host.wait_for("metrics at http://");
        let url = line.split("metrics at ").nth(1).expect("the line has it").trim().trim_end_matches("/metrics");
        let ask = r#"
import urllib.request, urllib.error
def fetch(path):
    try:
        return urllib.request.urlopen(URL + path).read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()
until(lambda: "as many results as may be wait" in fetch("/ready"), "it is not ready")
waiting = [line for line in fetch("/metrics").splitlines() if line.startswith("taskhost_results_waiting ")]
emit([waiting, depth() > 0])
"#;
        let told = site.client(&format!("URL = \"{url}\"\n{ask}"));
        let waiting = told[0][0].as_str().and_then(|line| line.split(' ').nth(1)?.parse::<u32>().ok());
        assert!(waiting.is_some_and(|waiting| (5..=6).contains(&waiting)), "{told}");
        assert_eq!(told[1], json!(true), "the rest stays at the broker");
        server.start_again();
        assert_eq!(site.client(&code(READ, TASKS)), json!(21));
        ran_once(&site, &host, TASKS);
        assert!(host.stop().success());
    }
}

#[test]
fn a_worker_that_ends_while_its_store_is_away_leaves_the_tasks_to_another() {
    let (Some(broker), Some(mut server)) = (required(AMQP), Server::redis()) else { return };
    let Some(site) = Site::on(&broker, &server.url) else { return };
    let mut first = site.host(&["-c", "2"]);
    assert_eq!(site.client("emit(call('tasks.add', 1, 1))"), json!(2));
    server.kill();
    site.client(&code(PUBLISH, TASKS));
    first.wait_for("results wait here");
    assert!(first.stop().success());
    assert_eq!(first.lines_with("goes back to its queue and will run again").len(), TASKS);
    server.start_again();
    let second = site.host(&["-c", "2"]);
    assert_eq!(site.client(&code(READ, TASKS)), json!(21));
    ran_once(&site, &second, TASKS);
}
