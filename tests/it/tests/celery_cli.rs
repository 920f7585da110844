//! Celery's own command line against a running host: whoever operates workers with it need not know which are ours.
//!
//! Each engine has a server of its own, since commands go to every worker of a broker.

use it::{Host, Process, Server, Site};
use serde_json::{Value, json};

struct Fleet {
    site: Site,
    host: Host,
    _server: Server,
}

impl Fleet {
    fn start(server: Option<Server>, open: fn(&str) -> Option<Site>) -> Option<Fleet> {
        Fleet::start_with(server, open, &["-c", "1"])
    }

    fn start_with(server: Option<Server>, open: fn(&str) -> Option<Site>, options: &[&str]) -> Option<Fleet> {
        let server = server?;
        let site = open(&server.url)?;
        let host = site.host(options);
        Some(Fleet { site, host, _server: server })
    }

    fn rabbitmq() -> Option<Fleet> {
        Fleet::start(Server::rabbitmq(), Site::with_broker)
    }

    fn redis() -> Option<Fleet> {
        Fleet::start(Server::redis(), Site::with_redis)
    }

    /// `celery inspect` or `celery control` with these words: what our node answers.
    #[track_caller]
    fn ask(&self, kind: &str, words: &[&str]) -> Value {
        let node = self.host.node.as_str();
        // With a destination Celery waits no longer than for its answer.
        let ended = self.site.celery(&[&[kind, "--json", "-t", "60", "-d", node], words].concat()).success();
        let last = ended.out.lines().next_back().unwrap_or_default();
        let replies: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{words:?}: {error}: {last}"));
        // The one prints a map of nodes, the other a list of such.
        let replies = if replies.is_array() { &replies[0] } else { &replies };
        replies.get(node).unwrap_or_else(|| panic!("{words:?}: {node} is not in {replies}")).clone()
    }

    #[track_caller]
    fn inspect(&self, words: &[&str]) -> Value {
        self.ask("inspect", words)
    }

    #[track_caller]
    fn control(&self, words: &[&str]) -> Value {
        self.ask("control", words)
    }

    /// `celery call`: the id of the task.
    #[track_caller]
    fn call(&self, words: &[&str]) -> String {
        let ended = self.site.celery(&[&["call"], words].concat()).success();
        ended.out.trim().to_owned()
    }

    fn dump(&self) -> Process {
        let dump = self.site.start_celery(&["events", "--dump"]);
        dump.wait_for("starting capture");
        // It says so before it listens; a heartbeat shows that it does.
        dump.wait_for("heartbeat");
        dump
    }
}

macro_rules! on_both {
    ($($scenario:ident)*) => {
        mod rabbitmq {
            $(#[test] fn $scenario() { if let Some(fleet) = super::Fleet::rabbitmq() { super::$scenario(fleet) } })*
        }
        mod redis {
            $(#[test] fn $scenario() { if let Some(fleet) = super::Fleet::redis() { super::$scenario(fleet) } })*
        }
    };
}

on_both! {
    a_host_answers_what_it_is_asked
    tasks_are_called_watched_and_revoked
    limits_slots_and_queues_are_changed_while_it_runs
}

fn a_host_answers_what_it_is_asked(fleet: Fleet) {
    let Fleet { site, host, .. } = &fleet;
    let status = site.celery(&["status", "-t", "60", "-d", &host.node]).success();
    assert!(status.out.contains(&format!("{}: OK", host.node)), "{}", status.out);
    assert!(status.out.contains("1 node online."), "{}", status.out);

    assert_eq!(fleet.inspect(&["ping"]), json!({"ok": "pong"}));
    assert!(fleet.inspect(&["clock"])["clock"].as_u64() > Some(0));
    let report = fleet.inspect(&["report"]);
    assert!(report["ok"].as_str().is_some_and(|text| text.contains("software -> ")), "{report}");
    let conf = fleet.inspect(&["conf"]);
    assert_eq!(conf["worker_concurrency"], json!(1), "{conf}");
    let all = fleet.inspect(&["conf", "true"]);
    assert!(all.as_object().map(|all| all.len()) > conf.as_object().map(|some| some.len()), "{all}");
    let stats = fleet.inspect(&["stats"]);
    assert_eq!(stats["pid"], json!(host.id()));
    assert_eq!(stats["pool"]["max-concurrency"], json!(1));
    assert!(stats["clock"].is_string() && stats["uptime"].is_u64() && stats["rusage"]["utime"].is_number(), "{stats}");
    let (_, port) = it::proxy::address(&site.broker).split_once(':').expect("a port");
    assert_eq!(stats["broker"]["port"].to_string(), port);
    let queues = fleet.inspect(&["active_queues"]);
    assert_eq!((&queues[0]["name"], queues.as_array().map(Vec::len)), (&json!(site.queue()), Some(1)));
    let registered = fleet.inspect(&["registered"]);
    assert!(registered.as_array().is_some_and(|names| names.contains(&json!("tasks.add"))), "{registered}");
    assert!(!registered.to_string().contains("celery."), "{registered}");
    let registered = fleet.inspect(&["registered", "max_retries", "name"]);
    assert!(registered.to_string().contains("tasks.add [max_retries=3 name=tasks.add]"), "{registered}");
    for nothing in ["active", "reserved", "scheduled", "revoked"] {
        assert_eq!(fleet.inspect(&[nothing]), json!([]), "{nothing}");
    }
    assert_eq!(fleet.inspect(&["query_task", "nobody"]), json!({}));
    assert!(fleet.inspect(&["memsample"]).as_str().is_some_and(|text| text.ends_with("MB")));
    // About Python's memory, of which there is none.
    for command in [&["memdump", "2"][..], &["objgraph", "Request", "1", "1"]] {
        let answer = fleet.inspect(command);
        assert!(answer.get("error").is_some() || answer.get("ok").is_some() || answer.is_string(), "{answer}");
    }

    // A pattern of names that is not ours is not for us, and nobody else is there.
    let nobody = site.celery(&["inspect", "-t", "1", "-d", "nobody@nowhere", "ping"]);
    assert!(!nobody.status.success() && nobody.err.contains("No nodes replied"), "{nobody:?}");
}

fn tasks_are_called_watched_and_revoked(mut fleet: Fleet) {
    let queue = fleet.site.queue().to_owned();
    let queue = queue.as_str();
    let dump = fleet.dump();
    assert_eq!(fleet.control(&["enable_events"]), json!({"ok": "task events enabled"}));

    let sum = fleet.call(&["tasks.add", "-a", "[2]", "-k", r#"{"y": 2}"#, "--queue", queue]);
    assert_eq!(fleet.site.celery(&["result", &sum]).success().out.trim(), "4");
    let received = dump.wait_for(&format!("task received: tasks.add({sum})"));
    assert!(received.contains("args=[2] kwargs={'y': 2}"), "{received}");
    dump.wait_for(&format!("task started: tasks.add({sum})"));
    assert!(dump.wait_for(&format!("task succeeded: tasks.add({sum})")).contains("result=4"));
    assert_eq!(fleet.inspect(&["stats"])["total"], json!({"tasks.add": 1}));

    let running = fleet.call(&["tasks.sleep", "-a", "[600]", "--queue", queue]);
    dump.wait_for(&format!("task started: tasks.sleep({running})"));
    let waiting = fleet.call(&["tasks.add", "-a", "[1, 1]", "--queue", queue]);
    let held = fleet.call(&["tasks.add", "-a", "[3, 3]", "--countdown", "50", "--queue", queue]);
    for id in [&waiting, &held] {
        dump.wait_for(&format!("task received: tasks.add({id})"));
    }
    let active = fleet.inspect(&["active"]);
    assert_eq!((&active[0]["id"], &active[0]["args"]), (&json!(running), &json!([600])), "{active}");
    let reserved = fleet.inspect(&["reserved"]);
    assert_eq!((&reserved[0]["id"], reserved.as_array().map(Vec::len)), (&json!(waiting), Some(1)), "{reserved}");
    let scheduled = fleet.inspect(&["scheduled"]);
    assert_eq!(scheduled[0]["request"]["id"], json!(held), "{scheduled}");
    let asked = fleet.inspect(&["query_task", &running, &waiting, &held, "nobody"]);
    let states: Vec<_> = [&running, &waiting, &held].map(|id| asked[id][0].clone()).into();
    assert_eq!(states, [json!("active"), json!("reserved"), json!("scheduled")], "{asked}");

    let revoked = format!("tasks {{'{waiting}'}} flagged as revoked");
    assert_eq!(fleet.control(&["revoke", &waiting]), json!({"ok": revoked}));
    assert_eq!(fleet.control(&["terminate", "KILL", &running]), json!({"ok": format!("terminate: {running}")}));
    assert_eq!(fleet.control(&["terminate", "KILL", "nobody"]), json!({"ok": "terminate: tasks unknown"}));
    assert!(dump.wait_for(&format!("task revoked: tasks.sleep({running})")).contains("terminated=True"));
    dump.wait_for(&format!("task revoked: tasks.add({waiting})"));
    for (id, why) in [(&running, "terminated"), (&waiting, "revoked")] {
        let result = fleet.site.celery(&["result", id]);
        assert!(result.err.contains(&format!("TaskRevokedError: {why}")), "{result:?}");
    }
    let ids = fleet.inspect(&["revoked"]);
    assert!([&waiting, &running].iter().all(|id| ids.to_string().contains(*id)), "{ids}");
    let stamps = fleet.control(&["revoke_by_stamped_headers", "tenant=acme"]);
    assert_eq!(stamps, json!({"ok": "headers {'tenant': 'acme'} flagged as revoked, but not terminated"}));

    assert_eq!(fleet.control(&["disable_events"]), json!({"ok": "task events disabled"}));
    assert_eq!(fleet.control(&["disable_events"]), json!({"ok": "task events already disabled"}));
    assert_eq!(fleet.control(&["heartbeat"]), Value::Null);

    fleet.call(&["tasks.add", "-a", "[1, 1]", "--queue", "nobodys"]);
    fleet.call(&["tasks.add", "-a", "[1, 1]", "--queue", "nobodys"]);
    let purged = fleet.site.celery(&["purge", "-f", "-Q", "nobodys"]).success();
    assert!(purged.out.contains("Purged 2 messages from 1 known task queue."), "{}", purged.out);
    // On RabbitMQ Celery needs a package that it does not bring, and a plugin of the server.
    if fleet.site.broker.starts_with("redis") {
        let bound = fleet.control(&["add_consumer", "bound", "celery", "direct", "to-celery"]);
        assert_eq!(bound, json!({"ok": "add consumer bound"}));
        let is_there = |line: &str| line.split_whitespace().eq(["bound", "celery", "to-celery"]);
        fleet.host.wait_for("taking messages from `bound`");
        let bindings = fleet.site.celery(&["list", "bindings"]).success().out;
        assert!(bindings.lines().any(is_there), "{bindings}");
    }
    // A worker that is told to end does not answer.
    let node = fleet.host.node.clone();
    let shutdown = fleet.site.celery(&["control", "-t", "1", "-d", &node, "shutdown"]);
    assert!(shutdown.err.contains("No nodes replied"), "{shutdown:?}");
    assert!(fleet.host.wait().success());
    dump.wait_for("shutdown");
}

fn limits_slots_and_queues_are_changed_while_it_runs(fleet: Fleet) {
    let ok = |text: &str| json!({"ok": text});
    let slots = || fleet.inspect(&["stats"])["pool"]["max-concurrency"].clone();
    assert_eq!(fleet.control(&["rate_limit", "tasks.add", "30/m"]), ok("new rate limit set successfully"));
    assert!(fleet.inspect(&["registered"]).to_string().contains("tasks.add [rate_limit=30/m]"));
    assert_eq!(fleet.control(&["rate_limit", "tasks.add", "0"]), ok("new rate limit set successfully"));
    assert_eq!(fleet.control(&["rate_limit", "tasks.nobody", "1/s"]), json!({"error": "unknown task"}));
    let wrong = fleet.control(&["rate_limit", "tasks.add", "often"]);
    assert!(wrong["error"].as_str().is_some_and(|text| text.starts_with("Invalid rate limit string: ")), "{wrong}");

    assert_eq!(fleet.control(&["time_limit", "tasks.sleep", "1", "2"]), ok("time limits set successfully"));
    assert_eq!(fleet.control(&["time_limit", "tasks.nobody", "1"]), json!({"error": "unknown task"}));
    let id = fleet.call(&["tasks.sleep", "-a", "[60]", "--queue", fleet.site.queue()]);
    let result = fleet.site.celery(&["result", &id]);
    assert!(result.err.contains("SoftTimeLimitExceeded"), "{result:?}");

    assert_eq!(fleet.control(&["pool_grow", "2"]), ok("pool will grow"));
    assert_eq!(slots(), json!(3));
    assert_eq!(fleet.control(&["pool_shrink"]), ok("pool will shrink"));
    assert_eq!(slots(), json!(2));
    assert_eq!(fleet.control(&["autoscale", "4", "1"]), json!({"error": "ValueError('Autoscale not enabled')"}));
    assert_eq!(fleet.control(&["pool_restart"]), ok("reload started"));

    let queues = || {
        let queues = fleet.inspect(&["active_queues"]);
        let names = queues.as_array().expect("a list").iter().map(|queue| queue["name"].as_str().expect("a name"));
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let own = fleet.site.queue().to_owned();
    assert_eq!(fleet.control(&["add_consumer", "more"]), ok("add consumer more"));
    let id = fleet.call(&["tasks.add", "-a", "[1, 2]", "--queue", "more"]);
    assert_eq!(fleet.site.celery(&["result", &id]).success().out.trim(), "3");
    // Celery's client for Redis knows the type of an exchange only if it has declared it, and else takes it for direct.
    let (kind, key) =
        if fleet.site.broker.starts_with("redis") { ("direct", "images.small") } else { ("topic", "images.#") };
    let added = fleet.control(&["add_consumer", "pictures", "images", kind, key]);
    assert_eq!(added, ok("add consumer pictures"));
    let mut all = queues();
    all.sort();
    let mut expected = vec![own.clone(), "more".to_owned(), "pictures".to_owned()];
    expected.sort();
    assert_eq!(all, expected);
    let id = fleet.call(&["tasks.add", "-a", "[2, 3]", "--exchange", "images", "--routing-key", "images.small"]);
    assert_eq!(fleet.site.celery(&["result", &id]).success().out.trim(), "5");
    for queue in ["more", "pictures"] {
        assert_eq!(fleet.control(&["cancel_consumer", queue]), ok(&format!("no longer consuming from {queue}")));
    }
    assert_eq!(queues(), [own]);
    // The others are asked of the host that has nothing of them to tell.
    let election = fleet.control(&["election"]);
    assert!(election.is_null() || election.get("error").is_some(), "{election}");
}

#[test]
fn the_bounds_of_autoscaling_are_changed_while_it_runs() {
    let Some(fleet) = Fleet::start_with(Server::redis(), Site::with_redis, &["--autoscale", "3,1"]) else { return };
    let autoscaler = || fleet.inspect(&["stats"])["autoscaler"].clone();
    assert_eq!(autoscaler(), json!({"max": 3, "min": 1, "current": 1, "qty": 0}));
    assert_eq!(fleet.control(&["autoscale", "5", "2"]), json!({"ok": "autoscale now max=5 min=2"}));
    let changed = autoscaler();
    assert_eq!((&changed["max"], &changed["min"]), (&json!(5), &json!(2)), "{changed}");
    let refused = fleet.control(&["pool_grow", "1"]);
    assert!(refused["error"].is_string(), "{refused}");
    // It grows with what there is to do.
    let dump = fleet.dump();
    fleet.control(&["enable_events"]);
    let ids: Vec<_> =
        (0..4).map(|_| fleet.call(&["tasks.sleep", "-a", "[600]", "--queue", fleet.site.queue()])).collect();
    for id in &ids {
        dump.wait_for(&format!("task started: tasks.sleep({id})"));
    }
    assert!(autoscaler()["current"].as_u64() >= Some(4));
}
