//! `--metrics`: numbers that Prometheus' own parser reads, and whether the worker lives and takes tasks.

use it::{Engine, Fault, Host, Proxy, Site};
use serde_json::{Value, json};

/// A client that asks the worker; `{url}` is where.
fn ask(site: &Site, host: &Host, code: &str) -> Value {
    let line = host.wait_for("metrics at http://");
    let url = line.split("metrics at ").nth(1).expect("the line has it").trim().trim_end_matches("/metrics");
    let prelude = format!(
        r##"
import urllib.request, urllib.error
from prometheus_client.parser import text_string_to_metric_families

def fetch(path, method="GET"):
    request = urllib.request.Request("{url}" + path, method=method)
    try:
        answer = urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        answer = error
    return [answer.status, answer.read().decode(), dict(answer.headers)]

def samples():
    status, page, headers = fetch("/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4"), headers
    families = list(text_string_to_metric_families(page))
    assert len(families) == page.count("# TYPE "), "a family stands there twice"
    return [sample for family in families for sample in family.samples]

def value(name, **labels):
    found = [sample.value for sample in samples() if sample.name == name and labels.items() <= sample.labels.items()]
    return sum(found) if found else None

def ready():
    status, text, _ = fetch("/ready")
    return [status, text.strip()]
"##
    );
    site.client(&(prelude + code))
}

#[test]
fn what_happens_to_tasks_is_counted_for_each_task_and_version() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let host = site.host(&["--metrics", "127.0.0.1:0", "-c", "3"]);
    let code = r#"
call("tasks.add", 2, 2)
call("tasks.add", 2, 3)
call("tasks.flaky", 1)
fails("tasks.fail", "no luck")
fails("tasks.nobody")
get(send("tasks.add", 1, 1, countdown=0.2))
def event(task, name):
    return value("taskhost_task_events_total", task=task, event=name)
# What has a result may not be announced yet.
until(lambda: event("tasks.fail", "failed") and event("tasks.add", "succeeded") == 3 and event("unknown", "unregistered"), "all are counted")
until(lambda: value("taskhost_tasks_running") == 0, "nothing runs")
versions = {sample.labels["version"] for sample in samples() if sample.labels.get("task") == "tasks.add"}
def histogram(name):
    everything = value(name + "_bucket", task="tasks.add", le="+Inf")
    return [everything, value(name + "_count", task="tasks.add"), value(name + "_sum", task="tasks.add") < 60]
emit({
    "add": [event("tasks.add", name) for name in ("received", "started", "succeeded", "failed")],
    "flaky": [event("tasks.flaky", name) for name in ("received", "started", "retried", "succeeded")],
    "names": sorted({sample.labels["task"] for sample in samples() if "task" in sample.labels}),
    "versions": len(versions),
    "histograms": [histogram("taskhost_task_" + name) for name in ("duration_seconds", "wait_seconds", "cpu_seconds")],
    "memory": value("taskhost_task_memory_bytes_sum", task="tasks.add") > 3 * 65536,
    "slots": value("taskhost_slots"),
    "state": [value("taskhost_" + name) for name in ("broker_connected", "ready", "quiet", "queues_consumed", "tasks_held")],
    "prefetch": value("taskhost_prefetch") >= 3,
})
"#;
    let told = ask(&site, &host, code);
    assert_eq!(told["add"], json!([3, 3, 3, null]));
    assert_eq!(told["flaky"], json!([2, 2, 1, 1]));
    assert_eq!(told["names"], json!(["tasks.add", "tasks.fail", "tasks.flaky", "unknown"]));
    assert_eq!(told["versions"], json!(1));
    assert_eq!(told["histograms"], json!([[3, 3, true], [3, 3, true], [3, 3, true]]));
    assert_eq!((&told["memory"], &told["slots"], &told["prefetch"]), (&json!(true), &json!(3), &json!(true)));
    assert_eq!(told["state"], json!([1, 1, 0, 1, 0]));
}

#[test]
fn a_worker_is_ready_while_it_has_its_broker_and_until_it_stops() {
    let Some(mut site) = Site::open(Engine::Redis) else { return };
    let proxy = Proxy::start(&site.broker);
    site.host_broker = Some(format!("{}?socket_timeout=2", proxy.url(&site.broker)));
    let mut host = site.host(&["--metrics", "127.0.0.1:0"]);
    let code = "emit([ready(), fetch('/health')[:2], fetch('/ready', 'HEAD')[:2], fetch('/health', 'POST')[0], fetch('/')[0]])";
    let good = ask(&site, &host, code);
    assert_eq!(good, json!([[200, "it takes tasks"], [200, "it lives\n"], [200, ""], 405, 404]));

    proxy.set(Fault::Refusal);
    proxy.cut();
    host.wait_for("Connection to broker lost");
    let away = ask(
        &site,
        &host,
        "emit([until(lambda: ready()[0] == 503 and ready(), 'it says so'), fetch('/health')[0], value('taskhost_broker_connected')])",
    );
    assert_eq!(away, json!([[503, "it is not connected to the broker"], 200, 0]));

    proxy.set(Fault::Nothing);
    host.wait_for("Connected again");
    let back = ask(&site, &host, "emit(until(lambda: ready()[0] == 200 and ready(), 'it is ready again'))");
    assert_eq!(back, json!([200, "it takes tasks"]));
    // Its mailbox has a connection of its own.
    ask(&site, &host, "until(lambda: value('taskhost_remote_control') == 1, 'it hears commands again')");

    // Ready or not, quiet, queues that are paused, and whether remote control works.
    let after = |words: &[&str], expected: Value| {
        site.bare_command(&[&["control"], words, &["-d", &host.node, "-t", "30", "-b", &site.broker]].concat())
            .success();
        let code = format!(
            "state = lambda: [*ready(), *(value('taskhost_' + name) for name in ('quiet', 'queues_paused', 'remote_control'))]\n\
             until(lambda: state() == {expected}, 'it says so')"
        );
        ask(&site, &host, &code);
    };
    after(&["quiet"], json!([503, "it is quiet", 1, 0, 1]));
    after(&["unquiet"], json!([200, "it takes tasks", 0, 0, 1]));
    after(&["pause_queue", &site.queue], json!([503, "no queue is consumed", 0, 1, 1]));
    after(&["resume_queue", &site.queue], json!([200, "it takes tasks", 0, 0, 1]));

    site.client("send('tasks.sleep', 600)");
    host.wait_for("Task tasks.sleep[");
    host.signal("TERM");
    host.wait_for("Warm shutdown");
    let stopping =
        ask(&site, &host, "emit([until(lambda: ready()[0] == 503 and ready(), 'it says so'), fetch('/health')[0]])");
    assert_eq!(stopping, json!([[503, "it is stopping"], 200]));
    host.kill();
}
