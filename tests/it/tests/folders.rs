//! A shared folder and no server: kombu's filesystem transport and Celery's filesystem results, with stock clients.

use std::fs;

use it::{Engine, Site};
use serde_json::json;

/// A folder for messages and one for results, of which both sides are told.
pub(crate) fn site() -> Option<Site> {
    let mut site = Site::on("filesystem://", "disabled://")?;
    let [queue, control, results] = ["messages", "control", "results"].map(|name| site.path(name));
    for folder in [&queue, &results] {
        fs::create_dir(folder).expect("a folder of the site");
    }
    site.backend = format!("file://{}", results.display());
    site.celery_settings["broker_transport_options"] = json!({ "data_folder_in": queue, "data_folder_out": queue, "control_folder": control, "polling_interval": 0.1 });
    let folders = [("data_folder_in", &queue), ("data_folder_out", &queue), ("control_folder", &control)];
    let options = folders.map(|(name, folder)| format!("{name}={}", folder.display()));
    site.write("host.toml", &format!("[broker]\ntransport_options = {options:?}\n"));
    Some(site)
}

fn on_folders(scenario: fn(&Site)) {
    if let Some(site) = site() {
        assert_eq!(site.engine, Engine::Other);
        scenario(&site);
    }
}

/// What lies in the folder of messages besides what is ours.
fn waiting(site: &Site) -> Vec<String> {
    let entries = fs::read_dir(site.path("messages")).expect("the folder is there");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
    names.filter(|name| name != ".taskhost").collect()
}

#[test]
fn a_shared_folder_is_a_complete_system() {
    on_folders(|site| {
        let mut host = site.host(&["-c", "2"]);
        let code = r#"
from celery import chain, chord, group, signature
def add(*args): return signature("tasks.add", args=args, app=app, queue=QUEUE)
results = [send("tasks.add", n, n) for n in range(20)] + [send("tasks.flaky", 2, kwargs={"countdown": 0.2})]
values = [get(result) for result in results]
chained = get(chain(add(1, 2), add(3), add(4)).apply_async())
grouped = get(group(add(n, 1) for n in range(5)).apply_async())
header = [signature("tasks.add", args=(n, n), app=app, queue=QUEUE) for n in range(4)]
body = get(chord(header, signature("tasks.echo", app=app, queue=QUEUE)).apply_async())
failed = fails("tasks.fail", "no")["type"]
emit([values, chained, grouped, sorted(body), failed])
"#;
        let mut values: Vec<_> = (0..20).map(|n| n * 2).collect();
        values.push(2);
        assert_eq!(site.client(code), json!([values, 10, [1, 2, 3, 4, 5], [0, 2, 4, 6], "ValueError"]));
        let called =
            site.command(&["call", "tasks.add", "--args", "[2, 3]", "--queue", &site.queue, "--wait"]).success();
        assert!(called.out.contains('5'), "{}", called.out);
        host.wait_for_count("] succeeded in ", 20);
        assert!(host.stop().success());
        assert_eq!(waiting(site), [""; 0], "nothing is left of all that");
    });
}

#[test]
fn inspect_control_and_events_of_celery_work_on_a_folder() {
    on_folders(|site| {
        let host = site.host(&["-c", "1", "-E"]);
        let ping = site.celery(&["inspect", "ping", "-d", &host.node, "--timeout", "10"]).success();
        assert!(ping.out.contains("pong"), "{}", ping.out);
        let monitor = site.start_celery(&["events", "--dump"]);
        // It is bound when the first heartbeat has reached it.
        monitor.wait_for("heartbeat:");
        let id = format!("revoked-{}", site.queue);
        let client = site.start_client(&format!(
            r#"
busy = send("tasks.sleep", 20)
time.sleep(0.01)  # Within a millisecond kombu's files have no order.
waits = send("tasks.add", 1, 1, task_id="{id}")
emit("published")
emit([outcome(waits)["type"], get(busy)])
"#
        ));
        client.wait_for("published");
        let revoked = site.celery(&["control", "revoke", &id]).success();
        assert!(revoked.out.contains("OK") || revoked.out.contains("revoked"), "{}", revoked.out);
        assert_eq!(client.finish(), json!(["TaskRevokedError", 20.0]));
        monitor.wait_for("task succeeded:");
        monitor.wait_for("task revoked:");
        let status = site.bare_command(&["status", "-b", &site.broker]).success();
        assert!(status.out.contains(&host.node), "{}", status.out);
    });
}

#[test]
fn of_two_hosts_on_one_folder_one_is_killed_and_nothing_is_lost() {
    on_folders(|site| {
        const TASKS: u32 = 200;
        let (mut first, second) = (site.host(&["-c", "2"]), site.host(&["-c", "2"]));
        let client = site.start_client(&format!(
            r#"
results = [send("tasks.sleep", 0.1 + n / 2**20) for n in range({TASKS})]
emit("published")
emit([get(result) == 0.1 + n / 2**20 for n, result in enumerate(results)].count(True))
"#
        ));
        first.wait_for_count("] succeeded in ", 10);
        second.wait_for_count("] succeeded in ", 10);
        first.kill();
        assert_eq!(client.finish(), json!(TASKS));
        second.wait_for("has shown no sign of life");
        let ran = [&first, &second].map(|host| host.lines_with("] succeeded in ").len());
        assert!(ran[0] >= 10 && ran[1] >= 10, "{ran:?}");
        assert_eq!(waiting(site), [""; 0]);
    });
}

#[test]
fn a_python_worker_and_a_host_share_a_folder() {
    on_folders(|site| {
        let host = site.host(&["-c", "1", "--prefetch-multiplier", "1"]);
        let name = format!("python@{}", site.queue);
        let python = site.python_worker(&["--concurrency", "1", "--prefetch-multiplier", "1", "--hostname", &name]);
        let code = r#"
results = [send("tasks.sleep", 0.25 + n / 2**20) for n in range(24)]
emit([get(result) == 0.25 + n / 2**20 for n, result in enumerate(results)].count(True))
"#;
        assert_eq!(site.client(code), json!(24));
        let shares = [host.lines_with("] succeeded in ").len(), python.lines_with("] succeeded in ").len()];
        assert!(shares[0] > 0 && shares[1] > 0 && shares[0] + shares[1] == 24, "they ran {shares:?}");
    });
}

#[test]
fn a_missing_folder_is_named_with_what_to_do() {
    on_folders(|site| {
        fs::remove_dir_all(site.path("results")).expect("it was made");
        let refused =
            site.command(&["run", "--plugins", &site.plugins, "-Q", &site.queue]).refused(&["there is no folder"]);
        assert!(refused.err.contains("make it"), "{}", refused.err);
    });
}

#[test]
fn folders_that_go_away_are_waited_for() {
    on_folders(|site| {
        let host = site.host(&["-c", "2"]);
        // Results that cannot be written, and messages that are taken meanwhile.
        let code = r#"
import os
call("tasks.add", 1, 1)
os.rename("results", "away")
results = [send("tasks.add", n, n) for n in range(5)]
while any(name.endswith(".msg") for name in os.listdir("messages")):
    time.sleep(INTERVAL)
os.rename("away", "results")
emit([get(result) for result in results])
"#;
        assert_eq!(site.client(code), json!([0, 2, 4, 6, 8]));
        fs::rename(site.path("messages"), site.path("away")).expect("it is there");
        host.wait_for("there is no folder");
        fs::rename(site.path("away"), site.path("messages")).expect("it was moved");
        host.wait_for("Connected again");
        assert_eq!(site.client(r#"emit(call("tasks.add", 2, 3))"#), json!(5));
    });
}
