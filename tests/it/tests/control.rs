//! Remote control by stock Celery: what is asked, what is told, and what it leads to.

use it::{Engine, Host, Site};
use serde_json::{Value, json};

/// What the code of these tests begins with: a worker of this name is asked and told.
const PRELUDE: &str = r#"
def inspect(method, node=None, **arguments):
    replies = app.control.inspect(destination=[node or NODE], timeout=10)._request(method, **arguments)
    assert replies, f"no answer to {method}"
    return replies[node or NODE]

def control(method, **arguments):
    replies = app.control.broadcast(method, arguments=arguments, destination=[NODE], reply=True, timeout=10)
    assert replies, f"no answer to {method}"
    return replies[0][NODE]

def ids(requests):
    return sorted((it.get("request") or it)["id"] for it in requests)

"#;

fn client(site: &Site, host: &Host, code: &str) -> Value {
    site.client(&format!("NODE = {:?}\n{PRELUDE}{code}", host.node))
}

/// Each scenario on every broker that reaches mailboxes.
macro_rules! on_brokers_with_mailboxes {
    ($($scenario:ident)*) => {
        mod rabbitmq {
            $(#[test] fn $scenario() { crate::on(it::Engine::RabbitMqRedis, super::$scenario) })*
        }
        mod redis {
            $(#[test] fn $scenario() { crate::on(it::Engine::Redis, super::$scenario) })*
        }
    };
}

on_brokers_with_mailboxes! {
    answers_have_the_shape_of_those_of_a_python_worker
    a_revoked_task_never_runs_wherever_it_waits
    a_running_task_is_terminated
    stamps_revoke_whatever_carries_them
    limits_take_effect_at_once
    queues_come_go_and_pause
    the_pool_changes_and_the_worker_says_so
    what_is_revoked_outlives_a_restart_and_comes_from_neighbours
    nodes_are_named_by_patterns_and_what_comes_too_late_is_ignored
    a_worker_is_shut_down
}

/// Keys that differ for a reason: what a Python pool counts, what it knows of its connection alone, and what only one
/// of both has.
const DIFFERENCES: &str = r#"
known = {
    "stats.pool.writes", "stats.total.", "stats.pool.timeouts", "stats.broker.transport_options.",
}

def paths(value, at):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, f"{at}.{key}")
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from paths(value[0], f"{at}[]")
    else:
        yield at

"#;

fn answers_have_the_shape_of_those_of_a_python_worker(site: &Site) {
    let host = site.host(&["-c", "1", "--set", "worker.eta_hold=1h"]);
    let python = format!("py-{}@localhost", site.queue());
    let queue = format!("{}-py", site.queue());
    let _python = site.python_worker(&["-Q", &queue, "-n", &python, "-c", "1"]);
    let code = format!(
        r#"
PYTHON, PYQUEUE = {python:?}, {queue:?}
{DIFFERENCES}
for queue in (QUEUE, PYQUEUE):
    send("tasks.sleep", 20.0, queue=queue, task_id=f"{{queue}}-active", priority=0)
    send("tasks.sleep", 20.0, queue=queue, task_id=f"{{queue}}-reserved", priority=0)
    send("tasks.sleep", 20.0, queue=queue, task_id=f"{{queue}}-later", priority=0, countdown=600)
for node in (NODE, PYTHON):
    until(lambda: inspect("active", node) and inspect("reserved", node) and inspect("scheduled", node), "all are there")
found = {{}}
for method, arguments in [
    ("ping", {{}}), ("stats", {{}}), ("active", {{}}), ("active", {{"safe": True}}), ("reserved", {{}}), ("scheduled", {{}}),
    ("revoked", {{}}), ("active_queues", {{}}), ("clock", {{}}), ("report", {{}}), ("memsample", {{}}),
    ("nosuch", {{}}), ("query_task", {{}}), ("query_task", {{"ids": "x"}}), ("enable_events", {{"x": 1}}),
    ("hello", {{"from_node": "x@y"}}), ("heartbeat", {{}}), ("autoscale", {{}}),
    ("rate_limit", {{"task_name": "nosuch", "rate_limit": "1/s"}}), ("time_limit", {{"task_name": "nosuch"}}),
    ("rate_limit", {{"task_name": "tasks.add", "rate_limit": "often"}}), ("election", {{}}),
]:
    ours, theirs = [inspect(method, node, **arguments) for node in (NODE, PYTHON)]
    ours, theirs = set(paths(ours, method)), set(paths(theirs, method))
    different = {{path for path in ours ^ theirs if not any(path.startswith(it) for it in known)}}
    if different:
        found[method] = sorted(different)
errors = []
for method, arguments in [
    ("nosuch", {{}}), ("query_task", {{}}), ("enable_events", {{"x": 1}}), ("autoscale", {{}}), ("election", {{}}),
    ("rate_limit", {{"task_name": "tasks.add", "rate_limit": "often"}}), ("terminate", {{"signal": "no", "task_id": "x"}}),
    ("revoke", {{"task_id": "x"}}), ("revoke", {{"task_id": "x", "terminate": True}}), ("disable_events", {{}}),
]:
    ours, theirs = [inspect(method, node, **arguments) for node in (NODE, PYTHON)]
    if ours != theirs:
        errors.append([method, ours, theirs])
conf = inspect("conf")
wanted = {{"worker_hijack_root_logger", "worker_log_color", "accept_content", "enable_utc", "timezone", "broker_url",
          "result_backend", "broker_heartbeat", "deprecated_settings", "include"}}
app.control.revoke([f"{{queue}}-{{name}}" for queue in (QUEUE, PYQUEUE) for name in ("active", "reserved", "later")],
                   terminate=True, destination=[NODE, PYTHON])
emit([found, errors, sorted(wanted - set(conf)), conf["timezone"]])
"#
    );
    let emitted = client(site, &host, &code);
    assert_eq!(emitted[0], json!({}), "paths that only one of both has");
    assert_eq!(emitted[1], json!([]), "answers that differ");
    assert_eq!(emitted[2], json!([]), "settings that every Python worker tells");
    assert_eq!(emitted[3], json!("UTC"));
}

fn a_revoked_task_never_runs_wherever_it_waits(site: &Site) {
    let host = site.host(&["-c", "1", "--set", "worker.eta_hold=5m"]);
    let code = r#"
done = send("tasks.add", 0, 0)
get(done)
running = send("tasks.sleep", 300.0)
until(lambda: inspect("active"), "it runs")
waiting = {
    "reserved": send("tasks.add", 1, 1),
    "held": send("tasks.add", 1, 1, countdown=240),
    "away": send("tasks.add", 1, 1, countdown=900),
    "elsewhere": send("tasks.add", 1, 1, queue=QUEUE + "-nobody"),
}
until(lambda: len(inspect("reserved")) == 1 and len(inspect("scheduled")) == 2, "they have arrived")
listed = [ids(inspect("active")) == [running.id], ids(inspect("reserved")) == [waiting["reserved"].id],
          ids(inspect("scheduled")) == sorted([waiting["held"].id, waiting["away"].id])]
standing = {name: inspect("query_task", ids=[it.id]).get(it.id, ["unknown"])[0] for name, it in waiting.items()}
answer = control("revoke", task_id=[done.id, running.id] + [it.id for it in waiting.values()])
states = {name: until(lambda: it.state == "REVOKED" and it.state, name) for name, it in waiting.items()}
# What runs goes on, and what has ended stays what it came to.
rest = [ids(inspect("active")) == [running.id], running.state, app.AsyncResult(done.id).state]
control("terminate", signal="KILL", task_id=running.id)
until(lambda: running.state == "REVOKED", "it was stopped")
emit([listed, standing, answer["ok"].endswith("flagged as revoked"), states, rest, inspect("scheduled"), call("tasks.add", 2, 2)])
"#;
    let emitted = client(site, &host, code);
    assert_eq!(emitted[0], json!([true, true, true]), "they are listed by where they stand");
    assert_eq!(
        emitted[1],
        json!({"reserved": "reserved", "held": "scheduled", "away": "scheduled", "elsewhere": "unknown"})
    );
    let revoked = json!({"reserved": "REVOKED", "held": "REVOKED", "away": "REVOKED", "elsewhere": "REVOKED"});
    assert_eq!([&emitted[2], &emitted[3]], [&json!(true), &revoked]);
    assert_eq!(emitted[4], json!([true, "PENDING", "SUCCESS"]));
    assert_eq!([&emitted[5], &emitted[6]], [&json!([]), &json!(4)]);
    assert_eq!(host.lines_with("Discarding revoked task: tasks.add[").len(), 2, "those that were here");
}

fn a_running_task_is_terminated(site: &Site) {
    let host = site.host(&["-c", "2"]);
    let code = r#"
one, two = send("tasks.sleep", 60.0), send("tasks.sleep", 60.0)
until(lambda: len(inspect("active")) == 2, "they run")
first = control("terminate", signal="KILL", task_id=[one.id, "unknown"])
app.control.revoke(two.id, terminate=True, signal="SIGTERM", reply=True, timeout=5, destination=[NODE])
ends = [outcome(one), outcome(two)]
emit([first, [[it["state"], it["type"], it["args"]] for it in ends], control("terminate", signal="no", task_id="x"),
      control("terminate", signal="KILL", task_id="x"), one.id])
"#;
    let emitted = client(site, &host, code);
    let id = emitted[4].as_str().expect("an id");
    assert_eq!(emitted[0], json!({"ok": format!("terminate: {id}")}));
    let ended = json!(["REVOKED", "TaskRevokedError", ["terminated"]]);
    assert_eq!(emitted[1], json!([ended, ended]));
    assert_eq!(emitted[2], json!({"error": "TypeError('signal name must be uppercase string.')"}));
    assert_eq!(emitted[3], json!({"ok": "terminate: tasks unknown"}));
    host.wait_for(&format!("Terminating {id} (SIGKILL)"));
}

fn stamps_revoke_whatever_carries_them(site: &Site) {
    let host = site.host(&["-c", "1"]);
    let code = r#"
def stamped(value, *args):
    return send("tasks.sleep", *args, headers={"stamped_headers": ["tenant"], "stamps": {"tenant": value}})

acme, waiting, other = stamped(["acme"], 60.0), stamped("acme", 0.0), stamped("other", 0.0)
until(lambda: len(inspect("reserved")) == 2 and inspect("active"), "they are there")
flagged = app.control.revoke_by_stamped_headers({"tenant": ["acme"]}, reply=True, destination=[NODE], timeout=10)
until(lambda: waiting.state == "REVOKED", "the one that waits is revoked")
stopped = app.control.revoke_by_stamped_headers(
    {"tenant": ["acme"]}, terminate=True, reply=True, destination=[NODE], timeout=10)
emit([flagged[0][NODE], stopped[0][NODE], outcome(acme)["args"], get(other), fails("tasks.sleep", 0.0, headers={
    "stamped_headers": ["tenant"], "stamps": {"tenant": ["acme"]}})["type"]])
"#;
    assert_eq!(
        client(site, &host, code),
        json!([
            {"ok": "headers {'tenant': ['acme']} flagged as revoked, but not terminated"},
            {"ok": "headers {'tenant': {'acme'}} revoked"},
            ["terminated"],
            0.0,
            "TaskRevokedError"
        ])
    );
}

fn limits_take_effect_at_once(site: &Site) {
    let host = site.host(&["-c", "4"]);
    let code = r#"
answers = [control("time_limit", task_name="tasks.sleep", hard=1.0), control("rate_limit", task_name="tasks.add", rate_limit="2/h")]
stopped = fails("tasks.sleep", 60.0)
first = call("tasks.add", 1, 1)
second = send("tasks.add", 2, 2)
until(lambda: second.id in inspect("query_task", ids=[second.id]), "the next one waits")
limited = [line for line in inspect("registered") if line.startswith("tasks.add ")]
told = inspect("registered", taskinfoitems=["time_limit"])
waits = second.state
answers.append(control("rate_limit", task_name="tasks.add", rate_limit=""))
emit([answers, stopped["type"], stopped["args"], first, limited, "tasks.sleep [time_limit=1]" in told, waits, get(second)])
"#;
    assert_eq!(
        client(site, &host, code),
        json!([
            [
                {"ok": "time limits set successfully"},
                {"ok": "new rate limit set successfully"},
                {"ok": "rate limit disabled successfully"}
            ],
            "TimeLimitExceeded",
            [1],
            2,
            ["tasks.add [rate_limit=2/h]"],
            true,
            "PENDING",
            4
        ])
    );
}

fn queues_come_go_and_pause(site: &Site) {
    let host = site.host(&[]);
    let code = r#"
second = QUEUE + "-second"
def names():
    return sorted(queue["name"].removeprefix(QUEUE) for queue in inspect("active_queues"))

seen = [names()]
early = send("tasks.add", 1, 1, queue=second)
answers = [control("add_consumer", queue=second)]
seen.append(names())
value = get(early)
answers.append(control("pause_queue", queue=second))
paused = send("tasks.add", 2, 2, queue=second)
seen.append(names())
others = call("tasks.add", 3, 3)
state = paused.state
answers.append(control("resume_queue", queue=second))
resumed = get(paused)
answers.append(control("cancel_consumer", queue=second))
seen.append(names())
answers.append(control("quiet"))
quiet = send("tasks.add", 4, 4)
stats = inspect("stats")
answers.append(control("unquiet"))
emit([seen, [answer["ok"].replace(second, "second") for answer in answers], value, others, state, resumed, stats["quiet"], get(quiet)])
"#;
    assert_eq!(
        client(site, &host, code),
        json!([
            [[""], ["", "-second"], [""], [""]],
            [
                "add consumer second",
                "queue second paused",
                "queue second resumed",
                "no longer consuming from second",
                "quiet: no more tasks are taken",
                "no longer quiet: tasks are taken again"
            ],
            2,
            6,
            "PENDING",
            4,
            true,
            8
        ])
    );
}

fn the_pool_changes_and_the_worker_says_so(site: &Site) {
    let host = site.host(&["-c", "1"]);
    let code = r#"
def slots():
    return inspect("stats")["pool"]["max-concurrency"]

seen = [slots()]
tasks = [send("tasks.sleep", 60.0) for _ in range(2)]
until(lambda: len(inspect("reserved")) == 1, "one waits for the other")
answers = [control("pool_grow", n=1)]
until(lambda: len(inspect("active")) == 2, "both run")
seen.append(slots())
answers.append(control("pool_shrink"))
seen.append(slots())
answers += [control("pool_shrink"), control("autoscale", max=4, min=1), control("pool_restart")]
app.control.revoke([task.id for task in tasks], terminate=True, destination=[NODE])
totals = until(lambda: inspect("stats")["total"].get("tasks.sleep") == 2, "they were counted")
emit([seen, answers])
"#;
    assert_eq!(
        client(site, &host, code),
        json!([
            [1, 2, 1],
            [
                {"ok": "pool will grow"},
                {"ok": "pool will shrink"},
                {"error": "the pool has 1 slots and must keep one"},
                {"error": "ValueError('Autoscale not enabled')"},
                {"ok": "reload started"}
            ]
        ])
    );
}

fn what_is_revoked_outlives_a_restart_and_comes_from_neighbours(site: &Site) {
    let neighbour = format!("py-{}@localhost", site.queue());
    let queue = format!("{}-py", site.queue());
    let _python = site.python_worker(&["-Q", &queue, "-n", &neighbour, "-P", "solo"]);
    let node = format!("{}-again@localhost", site.queue());
    let mut host = site.host_named(&node, &[]);
    let code = r#"
control("revoke", task_id=[f"{QUEUE}-a", f"{QUEUE}-b"])
emit([control("unrevoke", task_id=f"{QUEUE}-b")["ok"].endswith("may run again"), inspect("clock")["clock"] > 0])
"#;
    assert_eq!(client(site, &host, code), json!([true, true]));
    host.stop();
    // Meanwhile somebody revokes another one.
    site.client(&format!(
        r#"
app.control.revoke(f"{{QUEUE}}-c", destination=[{neighbour:?}], reply=True)
emit(None)
"#
    ));
    let host = site.host_named(&node, &[]);
    host.wait_for("mingle: sync with ");
    let code = r#"
revoked = until(lambda: f"{QUEUE}-c" in inspect("revoked") and inspect("revoked"), "the neighbour's is known")
runs = [send("tasks.add", 1, 1, task_id=f"{QUEUE}-{name}") for name in "abc"]
# What was stored about it when it was revoked stands until it has run.
until(lambda: app.AsyncResult(runs[1].id).state == "SUCCESS", "it may run again")
ends = [outcome(app.AsyncResult(run.id))["state"] for run in runs]
emit([[name for name in "abc" if f"{QUEUE}-{name}" in revoked], ends])
"#;
    assert_eq!(client(site, &host, code), json!([["a", "c"], ["REVOKED", "SUCCESS", "REVOKED"]]));
}

fn nodes_are_named_by_patterns_and_what_comes_too_late_is_ignored(site: &Site) {
    let hosts = [site.host(&[]), site.host(&[])];
    let code = r#"
def answers(pattern, matcher):
    replies = app.control.broadcast("ping", reply=True, pattern=pattern, matcher=matcher, timeout=3)
    return sorted(node.removeprefix(QUEUE) for reply in replies for node in reply)

found = [answers(f"{QUEUE}-*", "glob"), answers(f"{QUEUE}-[0]@*", "glob"), answers(f"{QUEUE}-[01]@local", "pcre")]
with app.connection_for_write() as connection:
    mailbox = app.control.mailbox(connection)
    for timeout, id in [(-60, f"{QUEUE}-late"), (60, f"{QUEUE}-soon"), (0, f"{QUEUE}-ever")]:
        mailbox._publish("revoke", {"task_id": id}, destination=[NODE], timeout=timeout, channel=connection.default_channel)
revoked = until(lambda: f"{QUEUE}-ever" in inspect("revoked") and inspect("revoked"), "the last one was heard")
emit([found, sorted(id.removeprefix(QUEUE) for id in revoked if id.startswith(QUEUE))])
"#;
    assert_eq!(
        client(site, &hosts[0], code),
        json!([
            [["-0@localhost", "-1@localhost"], ["-0@localhost"], ["-0@localhost", "-1@localhost"]],
            ["-ever", "-soon"]
        ])
    );
}

fn a_worker_is_shut_down(site: &Site) {
    let mut host = site.host(&[]);
    let code = r#"
running = send("tasks.sleep", 2.0)
until(lambda: inspect("active"), "it runs")
app.control.broadcast("shutdown", destination=[NODE])
emit(get(running))
"#;
    assert_eq!(client(site, &host, code), json!(2.0));
    assert!(host.wait().success());
    host.wait_for("Got shutdown from remote");
}

#[test]
fn a_name_that_another_worker_has_costs_remote_control_and_nothing_else() {
    let Some(site) = Site::open(Engine::RabbitMqRedis) else { return };
    let node = format!("{}-twin@localhost", site.queue());
    let first = site.host_named(&node, &[]);
    let second = site.host_named(&node, &["--statedb", "none"]);
    second.wait_for(&format!("A node named {node} is already using this process mailbox!"));
    let code = r#"
replies = app.control.ping(destination=[NODE], timeout=3)
emit([replies, sorted(get(it) for it in [send("tasks.add", n, 1) for n in range(20)]) == list(range(1, 21))])
"#;
    assert_eq!(client(&site, &first, code), json!([[{node: {"ok": "pong"}}], true]));
}

#[test]
fn a_broker_that_reaches_no_mailboxes_leaves_the_workers_own_socket() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let host = site.host(&[]);
    host.wait_for("no remote control through this broker");
    let socket = site.path(&format!("{}.state.db.sock", host.node));
    let code = format!(
        r#"
import socket
def ask(body):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect({socket:?})
        connection.sendall(json.dumps({{"control": body}}).encode() + b"\n")
        return json.loads(connection.makefile().read())
emit([ask({{"method": "ping"}}), ask({{"method": "ping", "destination": ["x@y"]}}), ask({{"method": "nosuch"}}), ask([])["error"],
      "tasks.add" in ask({{"method": "registered", "arguments": {{}}}})["ok"][NODE]])
"#
    );
    let node = &host.node;
    assert_eq!(
        client(&site, &host, &code),
        json!([
            {"ok": {node: {"ok": "pong"}}},
            {"ok": {}},
            {"ok": {node: {"error": "KeyError('nosuch')"}}},
            "the body is no object with a `method`",
            true
        ])
    );
}

#[test]
fn an_operator_may_want_no_remote_control() {
    let Some(site) = Site::open(Engine::Redis) else { return };
    let host = site.host(&["--set", "worker.enable_remote_control=false"]);
    let code = "emit([app.control.ping(destination=[NODE], timeout=2), call('tasks.add', 1, 1)])";
    assert_eq!(client(&site, &host, code), json!([[], 2]));
}
