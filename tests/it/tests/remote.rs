//! The commands that ask and tell workers, `host status`, `inspect`, `control` and `events`, against Python workers and ours.

use it::{Engine, Process, Server, Site};
use serde_json::{Value, json};

macro_rules! on_brokers_that_broadcast {
    ($($scenario:ident)*) => {
        mod rabbitmq {
            $(#[test] fn $scenario() { crate::on(it::Engine::RabbitMqRedis, super::$scenario) })*
        }
        mod redis {
            $(#[test] fn $scenario() { crate::on(it::Engine::Redis, super::$scenario) })*
        }
    };
}

on_brokers_that_broadcast! {
    a_python_worker_is_asked_and_told
    what_nobody_answers_has_a_code_of_its_own
    events_of_a_python_worker_are_shown
    a_python_worker_is_shut_down
    our_host_is_asked_and_told
}

/// All that `host inspect --list` lists.
const INSPECT: [&str; 15] = [
    "active",
    "active_queues",
    "clock",
    "conf",
    "memdump",
    "memsample",
    "objgraph",
    "ping",
    "query_task",
    "registered",
    "report",
    "reserved",
    "revoked",
    "scheduled",
    "stats",
];

/// A Python worker and its name.
fn python_worker(site: &Site) -> (Process, String) {
    let node = format!("py-{}@localhost", site.queue());
    (site.python_worker(&["-Q", site.queue(), "-n", &node, "-c", "1"]), node)
}

fn json_of(site: &Site, node: &str, words: &[&str]) -> Value {
    let options = ["--json", "-d", node, "-t", "10", "-b", &site.broker];
    let ended = site.bare_command(&[words, &options].concat()).success();
    let replies: Value = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {}", ended.out));
    replies[node].clone()
}

fn a_python_worker_is_asked_and_told(site: &Site) {
    let (_worker, node) = python_worker(site);
    assert_eq!(json_of(site, &node, &["inspect", "ping"]), json!({"ok": "pong"}));
    assert_eq!(json_of(site, &node, &["status"]), json!({"ok": "pong"}));
    let queues = json_of(site, &node, &["inspect", "active_queues"]);
    assert_eq!(queues[0]["name"], json!(site.queue()));
    let id = format!("{}-later", site.queue());
    site.client(&format!("send('tasks.add', 1, 2, task_id='{id}', countdown=600)"));
    let is_scheduled = |_: &u32| json_of(site, &node, &["inspect", "scheduled"]) != json!([]);
    assert!((0..1000).any(|again| is_scheduled(&again)), "the worker has the task");
    assert_eq!(json_of(site, &node, &["inspect", "query_task", &id, "other"])[&id][0], json!("scheduled"));
    let told = json_of(site, &node, &["control", "revoke", &id]);
    assert!(told["ok"].as_str().is_some_and(|text| text.contains(&id)), "{told}");
    assert_eq!(json_of(site, &node, &["inspect", "revoked"]), json!([id]));

    let command = |words: &[&str]| site.bare_command(&[words, &["-d", &node, "-t", "10", "-b", &site.broker]].concat());
    let shown = command(&["inspect", "scheduled"]).success().out;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], format!("{node}:"));
    assert!(
        lines[1].trim_start().starts_with("eta ") && lines[2].contains(&id) && lines[2].contains("[1, 2]"),
        "{shown}"
    );
    let limited = command(&["control", "rate_limit", "tasks.add", "10/m"]).success();
    assert_eq!(limited.out, format!("{node}: new rate limit set successfully\n"));
    // What a worker cannot do is said, and is a failure.
    let refused = command(&["control", "rate_limit", "no.such.task", "10/m"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(refused.out, format!("{node}: ERROR unknown task\n"));
    let unknown = command(&["control", "pause_queue", site.queue()]);
    assert_eq!((unknown.status.code(), unknown.out), (Some(1), format!("{node}: ERROR KeyError('pause_queue')\n")));
}

fn what_nobody_answers_has_a_code_of_its_own(site: &Site) {
    let ended = site.bare_command(&["inspect", "ping", "-d", "nobody@nowhere", "-t", "0.2", "-b", &site.broker]);
    assert_eq!(ended.status.code(), Some(69), "{}", ended.err);
    ended.refused(&["none of these workers answered within 0.2 s", "host status"]);
    site.bare_command(&["inspect", "pign"]).refused(&["no method `pign`", "did you mean `ping`"]);
    site.bare_command(&["inspect", "revoke"]).refused(&["`revoke` is a method of `host control`"]);
    site.bare_command(&["control", "revoke"]).refused(&["`revoke` needs task_id"]);
}

fn events_of_a_python_worker_are_shown(site: &Site) {
    let (_worker, node) = python_worker(site);
    let mut lines = site.start_command(&["events", "-E", "-b", &site.broker]);
    let objects = site.start_command(&["events", "--json", "-b", &site.broker]);
    // Both listen as soon as they hear the worker.
    lines.wait_for(&format!("{node} ["));
    objects.wait_for(&format!("\"{node}\""));
    let id = format!("{}-sum", site.queue());
    // Events begin when the worker has been told to send them.
    let enabled = json_of(site, &node, &["control", "enable_events"]);
    assert!(enabled["ok"].as_str().is_some_and(|text| text.ends_with("enabled")), "{enabled}");
    assert_eq!(site.client(&format!("emit(call('tasks.add', 2, 3, task_id='{id}'))")), json!(5));
    let received = lines.wait_for(&format!("task received: tasks.add({id}) args=(2, 3) kwargs={{}}"));
    assert!(received.starts_with(&format!("{node} [")), "{received}");
    let succeeded = lines.wait_for(&format!("task succeeded: tasks.add({id})"));
    assert!(succeeded.contains("result=5"), "{succeeded}");
    // Received, started, succeeded; others on this broker have tasks of their own.
    let events = objects.wait_for_count(&id, 3);
    let succeeded = events.iter().find(|line| line.contains("\"task-succeeded\"")).expect("the last one");
    let event: Value = serde_json::from_str(succeeded).expect("a line is JSON");
    assert_eq!((&event["uuid"], &event["result"]), (&json!(id), &json!("5")));
    lines.signal("INT");
    assert!(lines.wait().success(), "{}", lines.transcript());
}

fn a_python_worker_is_shut_down(site: &Site) {
    let (mut worker, node) = python_worker(site);
    let told = site.bare_command(&["control", "shutdown", "-d", &node, "-t", "10", "-b", &site.broker]).success();
    assert_eq!(told.out, format!("{node}: told to shut down\n"));
    worker.wait();
}

#[test]
fn the_options_of_the_transport_and_names_of_exchanges_are_those_of_python() {
    let Some(mut site) = Site::open(Engine::Redis) else { return };
    let prefix = format!("{}:", site.queue());
    let options = json!({"global_keyprefix": prefix, "fanout_prefix": "/mail."});
    site.environment = vec![("TRANSPORT_OPTIONS".to_owned(), options.to_string())];
    let (_python, node) = python_worker(&site);
    let ours = format!("ours-{}@localhost", site.queue());
    let pairs = format!("broker.transport_options=global_keyprefix={prefix},fanout_prefix=/mail.");
    let _host = site.host_named(&ours, &["--set", &pairs]);
    let both = format!("{node},{ours}");
    let shown = site.bare_command(&["status", "-d", &both, "-t", "10", "-b", &site.broker, "--set", &pairs]).success();
    assert!(shown.out.ends_with("\n2 nodes online.\n"), "{}", shown.out);
    // Without them, or by another name, nobody is there.
    for others in [&[][..], &["--set", &pairs, "--set", "control.exchange=other"]] {
        let options = ["status", "-d", &both, "-t", "0.5", "-b", &site.broker];
        assert_eq!(site.bare_command(&[&options[..], others].concat()).status.code(), Some(69));
    }
    let events = site.start_command(&["events", "-b", &site.broker, "--set", &pairs]);
    events.wait_for(&format!("{node} ["));
    events.wait_for(&format!("{ours} ["));
}

#[test]
fn without_a_worker_the_embedded_file_says_that_it_cannot() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    site.bare_command(&["events"]).refused(&["reaches only queues", "RabbitMQ, Redis or kombu's folders"]);
    let ended = site.bare_command(&["inspect", "ping"]);
    assert_eq!(ended.status.code(), Some(69), "{}", ended.err);
    ended.refused(&["no worker taskhost@", "runs here", "reaches only queues"]);
    assert!(!site.path("host.db").exists(), "who only looks makes no file");
}

#[test]
fn with_the_embedded_file_the_worker_that_runs_here_is_asked() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let (one, two) = (format!("one-{}@localhost", site.queue()), format!("two-{}@localhost", site.queue()));
    let _hosts = [site.host_named(&one, &[]), site.host_named(&two, &[])];
    let both = format!("{one},{two}");
    let shown = site.bare_command(&["status", "-d", &both]).success();
    assert_eq!(shown.out, format!("{one}: OK\n{two}: OK\n\n2 nodes online.\n"));
    let asked = site.bare_command(&["inspect", "active_queues", "--json", "-d", &one]).success();
    let queues: Value = serde_json::from_str(&asked.out).expect("JSON");
    assert_eq!(queues[&one][0]["name"], json!(site.queue()));
    let told = site.bare_command(&["control", "quiet", "-d", &two]).success();
    assert!(told.out.starts_with(&format!("{two}: ")), "{}", told.out);
    let missing = site.bare_command(&["status", "-d", &format!("{one},three@localhost")]).success();
    assert!(missing.err.contains("no worker three@localhost runs here"), "{}", missing.err);
}

fn our_host_is_asked_and_told(site: &Site) {
    let node = format!("ours-{}@localhost", site.queue());
    let mut host = site.host_named(&node, &["-c", "2"]);
    assert_eq!(json_of(site, &node, &["inspect", "ping"]), json!({"ok": "pong"}));
    let tasks = json_of(site, &node, &["inspect", "registered"]);
    assert!(tasks.as_array().is_some_and(|tasks| tasks.contains(&json!("tasks.add"))), "{tasks}");
    for method in INSPECT {
        let words: &[&str] = if method == "query_task" { &["some-id"] } else { &[] };
        let options = ["inspect", method];
        let end = ["-d", &node, "-t", "10", "-b", &site.broker];
        let ended = site.bare_command(&[&options[..], words, &end].concat());
        // A graph and a dump of objects are Python's own.
        let can = !matches!(method, "memdump" | "objgraph");
        assert_eq!(ended.status.success(), can, "{method}: {}{}", ended.out, ended.err);
        assert!(ended.out.starts_with(&format!("{node}:")), "{method}: {}", ended.out);
    }
    let paused = json_of(site, &node, &["control", "pause_queue", site.queue()]);
    assert!(paused["ok"].is_string(), "{paused}");
    let id = site.client("emit(send('tasks.add', 1, 2).id)");
    let resumed = json_of(site, &node, &["control", "resume_queue", site.queue()]);
    assert!(resumed["ok"].is_string(), "{resumed}");
    let id = id.as_str().expect("an id");
    assert_eq!(site.client(&format!("emit(get(app.AsyncResult('{id}')))")), json!(3));
    let told = site.bare_command(&["control", "shutdown", "-d", &node, "-t", "10", "-b", &site.broker]).success();
    assert_eq!(told.out, format!("{node}: told to shut down\n"));
    host.wait_for("Warm shutdown");
    host.wait();
}

#[test]
fn events_go_on_when_redis_was_away() {
    let Some(server) = Server::redis() else { return };
    let Some(site) = Site::with_redis(&server.url) else { return };
    events_go_on_when_the_broker_was_away(&site, server);
}

#[test]
fn events_go_on_when_rabbitmq_was_away() {
    let Some(server) = Server::rabbitmq() else { return };
    let Some(site) = Site::with_broker(&server.url) else { return };
    events_go_on_when_the_broker_was_away(&site, server);
}

fn events_go_on_when_the_broker_was_away(site: &Site, mut server: Server) {
    let _host = site.host(&["-E"]);
    let events = site.start_command(&["events", "-b", &site.broker]);
    events.wait_for("heartbeat: ");
    server.kill();
    events.wait_for("trying again in 0.5 s");
    let heard = events.lines_with("heartbeat: ").len();
    server.start_again();
    // The worker comes back, too.
    events.wait_for_count("heartbeat: ", heard + 1);
    let id = format!("{}-sum", site.queue());
    assert_eq!(site.client(&format!("emit(call('tasks.add', 2, 3, task_id='{id}'))")), json!(5));
    events.wait_for(&format!("task succeeded: tasks.add({id})"));
}

#[test]
fn a_worker_that_may_not_have_a_mailbox_says_so_and_works() {
    let Some(mut server) = Server::rabbitmq() else { return };
    let Some(mut site) = Site::with_broker(&server.url) else { return };
    server.control("add_user limited limited");
    server.control(&format!("set_permissions limited {0} {0}|amq.default {0}", site.queue()));
    let url = server.url.replace("guest:guest@", "limited:limited@");
    site.host_broker = Some(url.clone());
    // The exchanges are there, so that the broker says only afterwards that it does not take what was sent.
    let monitor = site.host_named("monitored@localhost", &["-b", &server.url]);
    monitor.wait_for("mingle: all alone");
    let host = site.host(&["-E"]);
    host.wait_for("RUNNING WITHOUT REMOTE CONTROL: cannot listen to exchange `celery.pidbox`: ");
    host.wait_for("no monitor hears of this worker: cannot publish to exchange `celeryev`");
    let sums = "emit([get(result) for result in [send('tasks.add', n, n) for n in range(4)]])";
    assert_eq!(site.client(sums), json!([0, 2, 4, 6]));
    site.bare_command(&["status", "-b", &url]).refused(&["cannot wait for answers", "ACCESS_REFUSED"]);
}

#[test]
fn a_broker_that_blocks_publishers_is_named_as_the_reason_for_silence() {
    let Some(mut server) = Server::rabbitmq() else { return };
    let Some(site) = Site::with_broker(&server.url) else { return };
    server.control("set_vm_memory_high_watermark 0");
    // It takes a moment until the broker notices.
    let asked = || site.bare_command(&["inspect", "ping", "-t", "1", "-b", &site.broker]).refused(&[]).err;
    let reason = "short of memory or disk and blocks whoever publishes";
    assert!((0..10).any(|_| asked().contains(reason)), "{}", asked());
}
