//! What stock Celery monitors hear of a worker: `celery.events.Receiver`, its `State`, and `celery events --dump`.

use it::{Engine, Site};
use serde_json::{Value, json};

/// On every engine that reaches monitors.
macro_rules! where_monitors_are_reached {
    ($($scenario:ident)*) => {
        mod rabbitmq {
            $(#[test] fn $scenario() { crate::on(it::Engine::RabbitMqRedis, super::$scenario) })*
        }
        mod redis {
            $(#[test] fn $scenario() { crate::on(it::Engine::Redis, super::$scenario) })*
        }
    };
}

where_monitors_are_reached! {
    a_monitor_hears_what_becomes_of_tasks
    a_worker_says_hello_how_it_is_and_goodbye
    without_being_asked_a_worker_tells_nothing_of_tasks
    a_monitor_may_ask_for_what_happens_to_tasks
    a_task_tells_monitors_something_of_its_own
    a_worker_tells_what_tasks_it_sends_if_it_is_told_to
    a_monitor_that_does_not_read_slows_nothing
    celerys_own_dump_shows_our_events
}

/// A monitor that follows the workers of this site.
const MONITOR: &str = r#"
import threading
from celery.events.receiver import EventReceiver
from celery.events.state import State

class Monitor:
    def __init__(self):
        self.state, self.events, self.ready = State(), [], threading.Event()
        threading.Thread(target=self.run, daemon=True).start()
        assert self.ready.wait(PATIENCE)

    def run(self):
        monitor = self
        class Receiver(EventReceiver):
            def on_consume_ready(self, *args, **kwargs):
                monitor.ready.set()
        with app.connection_for_read() as connection:
            Receiver(connection, handlers={"*": self.hear}, app=app).capture()

    def hear(self, event):
        # As it came; what others on these servers say is their business.
        if event["hostname"].startswith(QUEUE + "-") or event.get("queue") == QUEUE:
            self.events.append(dict(event))
            self.state.event(event)

    def of(self, id):
        return sorted((event for event in self.events if event.get("uuid") == id), key=lambda event: event["clock"])

    def kinds(self, id):
        return [event["type"] for event in self.of(id)]

    def waits_for(self, id, kind, times=1):
        until(lambda: self.kinds(id).count(kind) >= times, f"{kind} of {id}: {self.kinds(id)}")
        return self.of(id)

    def workers(self):
        return [event for event in list(self.events) if event["type"].startswith("worker-")]

monitor = Monitor()
"#;

fn watch(site: &Site, code: &str) -> Value {
    site.client(&format!("{MONITOR}{code}"))
}

fn a_monitor_hears_what_becomes_of_tasks(site: &Site) {
    let _host = site.host(&["-E", "-c", "2"]);
    let code = r#"
def told(result, kind, times=1):
    monitor.waits_for(result.id, kind, times)
    return monitor.kinds(result.id)

added = send("tasks.add", 2, 2, kwargs={}, root_id="root", parent_id="parent")
failed = send("tasks.fail", "no \"ü\"")
flaky = send("tasks.flaky", 1, 0.0)
expired = send("tasks.add", 1, 1, expires=-10)
unknown = send("tasks.nosuch", 1)
rejected = send("tasks.reject")
lives = [
    told(added, "task-succeeded"),
    told(failed, "task-failed"),
    told(expired, "task-revoked"),
    told(unknown, "task-failed"),
    told(rejected, "task-rejected"),
]
flaky_life = told(flaky, "task-succeeded")

def fields(event, *names):
    return [event.get(name, "missing") for name in names]

received, started, succeeded = monitor.of(added.id)
shown = monitor.state.tasks[added.id]
now = time.time()
emit({
    "lives": lives,
    "flaky": sorted(flaky_life[:-1]) == ["task-received", "task-received", "task-retried", "task-started", "task-started"],
    "received": fields(received, "name", "args", "kwargs", "root_id", "parent_id", "retries", "eta", "expires"),
    "started": sorted(started),
    "succeeded": [succeeded["result"], 0 < succeeded["runtime"] < 60],
    "failed": [(event["exception"], event["traceback"]) for event in monitor.of(failed.id)[-1:]],
    "retried": [event["exception"] for event in monitor.of(flaky.id) if event["type"] == "task-retried"],
    "expired": [fields(event, "terminated", "signum", "expired") for event in monitor.of(expired.id)],
    "unknown": [event["exception"] for event in monitor.of(unknown.id)],
    "rejected": [event["requeue"] for event in monitor.of(rejected.id) if "requeue" in event],
    "state": [shown.name, shown.state, shown.result, shown.args, shown.worker.hostname == received["hostname"]],
    "on time": all(abs(event["timestamp"] - now) < 300 and event["local_received"] > event["timestamp"] - 5
                   for event in monitor.events),
    "clocks differ": len({event["clock"] for event in monitor.events}) == len(monitor.events),
})
"#;
    let seen = watch(site, code);
    let expected = json!({
        "lives": [
            ["task-received", "task-started", "task-succeeded"],
            ["task-received", "task-started", "task-failed"],
            ["task-revoked"],
            ["task-failed"],
            ["task-received", "task-started", "task-rejected"],
        ],
        "flaky": true,
        "received": ["tasks.add", "(2, 2)", "{}", "root", "parent", 0, null, null],
        "started": ["clock", "hostname", "local_received", "pid", "timestamp", "type", "uuid"],
        "succeeded": ["4", true],
        "failed": seen["failed"],
        "retried": ["ConnectionError('attempt 1 of 2')"],
        "expired": [[false, null, true]],
        "unknown": ["NotRegistered('tasks.nosuch')"],
        "rejected": [false],
        "state": ["tasks.add", "SUCCESS", "4", "(2, 2)", true],
        "on time": true,
        "clocks differ": true,
    });
    assert_eq!(seen, expected);
    assert_eq!(seen["failed"][0][0], "ValueError('no \"ü\"')");
}

fn a_worker_says_hello_how_it_is_and_goodbye(site: &Site) {
    let code = r#"
emit("watching")
until(lambda: any(event["type"] == "worker-heartbeat" for event in monitor.workers()), "a heartbeat")
alive = [worker.alive for worker in monitor.state.workers.values()]
call("tasks.add", 1, 1)
emit("done")
until(lambda: monitor.workers()[-1]["type"] == "worker-offline", "goodbye")
first, last = monitor.workers()[0], monitor.workers()[-1]
names = ["type", "freq", "active", "processed", "sw_ident", "sw_sys"]
emit([alive, [first[name] for name in names], [last[name] for name in names], len(first["loadavg"]), sorted(first),
      [worker.alive for worker in monitor.state.workers.values()]])
"#;
    let client = site.start_client(&format!("{MONITOR}{code}"));
    client.wait_for("\"watching\"");
    let mut host = site.host(&["--heartbeat-interval", "500ms"]);
    client.wait_for("\"done\"");
    assert!(host.stop().success());
    let system = if cfg!(target_os = "macos") { "Darwin" } else { "Linux" };
    let expected = json!([
        [true],
        ["worker-online", 0.5, 0, 0, "taskhost", system],
        ["worker-offline", 0.5, 0, 1, "taskhost", system],
        3,
        [
            "active",
            "clock",
            "freq",
            "hostname",
            "loadavg",
            "local_received",
            "pid",
            "processed",
            "sw_ident",
            "sw_sys",
            "sw_ver",
            "timestamp",
            "type"
        ],
        [false]
    ]);
    assert_eq!(client.finish(), expected);
}

fn without_being_asked_a_worker_tells_nothing_of_tasks(site: &Site) {
    let _host = site.host(&["--heartbeat-interval", "0.2"]);
    let code = r#"
call("tasks.add", 1, 1)
until(lambda: any(event["processed"] == 1 for event in monitor.workers()), "a heartbeat after the task")
emit(sorted({event["type"] for event in monitor.events if event["hostname"].startswith(QUEUE)} - {"worker-online"}))
"#;
    assert_eq!(watch(site, code), json!(["worker-heartbeat"]));
}

fn a_monitor_may_ask_for_what_happens_to_tasks(site: &Site) {
    let host = site.host(&["--without-heartbeat"]);
    let code = r#"
told = {"destination": [NODE], "reply": True, "timeout": 10}
answers = [reply[NODE] for ask in ["enable_events", "enable_events"] for reply in app.control.broadcast(ask, **told)]
first = send("tasks.add", 1, 1)
monitor.waits_for(first.id, "task-succeeded")
app.control.broadcast("heartbeat", **told)
until(monitor.workers, "how the worker is")
answers += [reply[NODE] for ask in ["disable_events", "disable_events"] for reply in app.control.broadcast(ask, **told)]
second = send("tasks.add", 1, 1)
get(second)
app.control.broadcast("heartbeat", **told)
until(lambda: len(monitor.workers()) == 2, "how the worker is, once more")
emit([answers, monitor.kinds(second.id), [event["processed"] for event in monitor.workers()]])
"#;
    let expected = json!([
        [
            {"ok": "task events enabled"},
            {"ok": "task events already enabled"},
            {"ok": "task events disabled"},
            {"ok": "task events already disabled"},
        ],
        [],
        [1, 2],
    ]);
    assert_eq!(watch(site, &format!("NODE = {:?}\n{code}", host.node)), expected);
}

fn a_task_tells_monitors_something_of_its_own(site: &Site) {
    let _host = site.host(&["-E", "--set", "limits.events=3"]);
    let code = r#"
told = send("tasks.announce", "task-indexed", {"pages": 300, "of": [1, None, "ü"]}, 2)
get(told)
monitor.waits_for(told.id, "task-succeeded")
event = monitor.of(told.id)[2]
alone = send("tasks.announce", "image-half-done", {"percent": 50})
get(alone)
until(lambda: "image-half-done" in monitor.kinds(alone.id), "an event of another group")
ends = [fails("tasks.announce", kind) for kind in ["worker-offline", "task-failed", "indexed"]]
ends.append(fails("tasks.announce", "task-x", {"uuid": "of another"}))
ends.append(fails("tasks.announce", "task-x", {}, 4))
emit([monitor.kinds(told.id), [event["pages"], event["of"]], [end["type"] for end in ends], ends[-1]["args"]])
"#;
    let expected = json!([
        ["task-received", "task-started", "task-indexed", "task-indexed", "task-succeeded"],
        [300, [1, null, "ü"]],
        ["EventError", "EventError", "EventError", "EventError", "EventError"],
        ["the task has sent 3 events; limits.events is 3"],
    ]);
    assert_eq!(watch(site, code), expected);
}

fn a_worker_tells_what_tasks_it_sends_if_it_is_told_to(site: &Site) {
    let _host = site.host(&["-E", "--set", "task_send_sent_event=true"]);
    let code = r#"
flaky = send("tasks.flaky", 1, 0.0)
monitor.waits_for(flaky.id, "task-succeeded")
sent, = [event for event in monitor.of(flaky.id) if event["type"] == "task-sent"]
emit([sent["name"], sent["args"], sent["retries"], sent["queue"] == QUEUE, sent["hostname"].startswith("gen"),
      monitor.state.tasks[flaky.id].client == sent["hostname"]])
"#;
    assert_eq!(watch(site, code), json!(["tasks.flaky", "(1, 0.0)", 1, true, true, true]));
}

fn a_monitor_that_does_not_read_slows_nothing(site: &Site) {
    let _host = site.host(&["-E"]);
    let listens = match site.engine {
        Engine::Redis => {
            r#"
connection = app.connection_for_read()
listener = connection.default_channel.client.pubsub()
listener.psubscribe("*celeryev*")
heard = lambda: (listener.get_message() or {}).get("type") == "pmessage"
"#
        }
        _ => {
            r##"
from kombu import Queue
connection = app.connection_for_read()
exchange = app.events.Receiver(connection).exchange
Queue(f"deaf-{QUEUE}", exchange, "#", exclusive=True, auto_delete=True, max_length=10)(connection).declare()
heard = lambda: connection.default_channel.queue_declare(f"deaf-{QUEUE}", passive=True).message_count > 0
"##
        }
    };
    let code = r#"
results = [send("tasks.echo", "x" * 2000) for _ in range(500)]
done = [len(get(result)) for result in results] == [2000] * 500
until(heard, "events have come")
emit(done)
"#;
    assert_eq!(site.client(&format!("{listens}{code}")), json!(true));
}

fn celerys_own_dump_shows_our_events(site: &Site) {
    let _host = site.host(&["-E", "--heartbeat-interval", "0.5"]);
    let code = r#"
import subprocess, threading
command = [sys.executable, "-m", "celery", "-b", os.environ["BROKER"], "events", "--dump"]
dump = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
lines = []
def read():
    for line in dump.stdout:
        lines.append(line)
threading.Thread(target=read, daemon=True).start()
until(lambda: any(QUEUE in line and "heartbeat" in line for line in lines), "a heartbeat is shown")
result = send("tasks.add", 2, 2)
shown = lambda word: any(result.id in line and word in line for line in lines)
until(lambda: shown("task received") and shown("task started") and shown("task succeeded"), f"the task is shown: {lines}")
dump.terminate()
emit([line.split("task succeeded: ")[1].split(" clock=")[0].replace(result.id, "ID") for line in lines
      if result.id in line and "task succeeded" in line])
"#;
    assert_eq!(site.client(code), json!(["tasks.add(ID) args=(2, 2) kwargs={}"]));
}

#[test]
fn a_broker_that_reaches_no_monitors_is_said_so_and_runs_tasks() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let host = site.host(&["-E"]);
    host.wait_for("events: this broker reaches no monitors, so none are sent");
    assert_eq!(site.client("emit(call(\"tasks.add\", 2, 2))"), json!(4));
}
