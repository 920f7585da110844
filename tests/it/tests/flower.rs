//! Flower 2.2 against a running host: its REST API, and its pages in a browser.

use std::net::TcpListener;

use it::browser::Browser;
use it::http::Http;
use it::{Host, Process, Server, Site};
use serde_json::{Value, json};

/// Flower, which knows the tasks of our plugins by the module that the host writes for it.
struct Flower {
    _process: Process,
    http: Http,
}

impl Flower {
    fn start(site: &Site) -> Flower {
        site.bare_command(&["plugin", "stubs", "--python", "--plugins", &site.plugins, "-o", "stubs.py"]).success();
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let port = format!("--port={}", free.port());
        let process = site.start_celery(&["-A", "stubs", "flower", "--address=127.0.0.1", &port]);
        let http = Http(free.to_string());
        http.until("/healthcheck", |response| response.status == 200);
        Flower { _process: process, http }
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        self.http.get(path).json()
    }

    /// The answer's message.
    #[track_caller]
    fn post(&self, path: &str) -> Value {
        self.http.post(path, "").json()["message"].clone()
    }

    /// The worker as Flower has just asked for it.
    #[track_caller]
    fn worker(&self, node: &str) -> Value {
        let path = format!("/api/workers?refresh=1&workername={node}");
        let knows = |worker: &Value| {
            ["stats", "active_queues", "registered", "conf", "active", "reserved", "scheduled", "revoked"]
                .iter()
                .all(|part| worker.get(part).is_some())
        };
        let response = self
            .http
            .until(&path, |response| response.try_json().is_some_and(|workers| workers.get(node).is_some_and(knows)));
        response.json()[node].clone()
    }

    /// Waits until Flower has heard that the task is in this state, and gives all it knows.
    #[track_caller]
    fn task(&self, id: &str, state: &str) -> Value {
        let path = format!("/api/task/info/{id}");
        let is_there = |task: Value| task["state"] == json!(state);
        self.http.until(&path, |response| response.try_json().is_some_and(is_there)).json()
    }

    /// Starts a task and gives its id.
    #[track_caller]
    fn send(&self, site: &Site, name: &str, args: &Value, options: &Value) -> String {
        let mut body = json!({"args": args, "queue": site.queue()});
        for (option, value) in options.as_object().into_iter().flatten() {
            body[option] = value.clone();
        }
        let answer = self.http.post(&format!("/api/task/send-task/{name}"), &body.to_string()).json();
        answer["task-id"].as_str().expect("an id").to_owned()
    }
}

fn open(server: Option<Server>, with: fn(&str) -> Option<Site>) -> Option<(Server, Site, Host, Flower)> {
    let server = server?;
    let mut site = with(&server.url)?;
    site.environment.push(("FLOWER_UNAUTHENTICATED_API".to_owned(), "true".to_owned()));
    let host = site.host(&["-c", "1"]);
    let flower = Flower::start(&site);
    Some((server, site, host, flower))
}

#[test]
fn its_api_shows_and_changes_a_host_on_redis() {
    let Some((_server, site, host, flower)) = open(Server::redis(), Site::with_redis) else { return };
    its_api_shows_and_changes_a_host(&site, host, &flower);
}

#[test]
fn its_api_shows_and_changes_a_host_on_rabbitmq() {
    let Some((_server, site, host, flower)) = open(Server::rabbitmq(), Site::with_broker) else { return };
    its_api_shows_and_changes_a_host(&site, host, &flower);
}

fn its_api_shows_and_changes_a_host(site: &Site, mut host: Host, flower: &Flower) {
    let node = host.node.clone();
    let node = node.as_str();
    let worker = flower.worker(node);
    assert_eq!(worker["stats"]["pool"]["max-concurrency"], json!(1), "{worker}");
    assert_eq!(worker["active_queues"][0]["name"], json!(site.queue()));
    assert!(worker["registered"].as_array().is_some_and(|tasks| tasks.contains(&json!("tasks.add"))), "{worker}");
    assert!(worker["conf"].as_object().is_some_and(|conf| !conf.is_empty()), "{worker}");
    flower.http.until("/api/workers?status=1", |response| response.try_json() == Some(json!({node: true})));

    // Tasks, which Flower hears of since it has switched their events on.
    host.wait_for("enabled by remote");
    let sum = flower.send(site, "tasks.add", &json!([2, 2]), &json!({}));
    let task = flower.task(&sum, "SUCCESS");
    assert_eq!((&task["name"], &task["worker"], &task["result"]), (&json!("tasks.add"), &json!(node), &json!("4")));
    assert_eq!(task["args"], json!("[2, 2]"), "{task}");
    assert!(task["runtime"].is_number(), "{task}");
    assert_eq!(flower.get(&format!("/api/task/result/{sum}"))["result"], json!(4));
    let body = json!({"args": [1, 2], "queue": site.queue()}).to_string();
    let applied = flower.http.post("/api/task/apply/tasks.add", &body).json();
    assert_eq!((&applied["state"], &applied["result"]), (&json!("SUCCESS"), &json!(3)), "{applied}");
    let failed = flower.send(site, "tasks.fail", &json!(["on purpose"]), &json!({}));
    let task = flower.task(&failed, "FAILURE");
    assert_eq!(task["exception"], json!("ValueError('on purpose')"), "{task}");
    let tasks = flower.get("/api/tasks?limit=10");
    assert!([&sum, &failed].iter().all(|id| tasks.get(id.as_str()).is_some()), "{tasks}");
    let types = flower.get("/api/task/types");
    assert!(types["task-types"].as_array().is_some_and(|types| types.contains(&json!("tasks.add"))), "{types}");

    let body = json!({"args": [600], "queue": site.queue()}).to_string();
    let running = flower.http.post("/api/task/async-apply/tasks.sleep", &body).json()["task-id"].clone();
    let running = running.as_str().expect("an id");
    flower.task(running, "STARTED");
    let waiting = flower.send(site, "tasks.add", &json!([1, 1]), &json!({}));
    let held = flower.send(site, "tasks.add", &json!([3, 3]), &json!({"countdown": 50}));
    for id in [&waiting, &held] {
        flower.task(id, "RECEIVED");
    }
    let worker = flower.worker(node);
    assert_eq!(worker["active"][0]["id"], json!(running), "{worker}");
    assert_eq!(worker["reserved"][0]["id"], json!(waiting), "{worker}");
    assert_eq!(worker["scheduled"][0]["request"]["id"], json!(held), "{worker}");
    flower.post(&format!("/api/task/revoke/{held}"));
    flower.post(&format!("/api/task/revoke/{running}?terminate=true&signal=SIGKILL"));
    flower.task(running, "REVOKED");
    flower.task(&waiting, "SUCCESS");
    assert!(flower.worker(node)["revoked"].to_string().contains(&held));

    // Slots, queues and limits.
    let slots = || flower.worker(node)["stats"]["pool"]["max-concurrency"].clone();
    flower.post(&format!("/api/worker/pool/grow/{node}?n=2"));
    assert_eq!(slots(), json!(3));
    flower.post(&format!("/api/worker/pool/shrink/{node}?n=1"));
    assert_eq!(slots(), json!(2));
    let refused = flower.http.post(&format!("/api/worker/pool/autoscale/{node}?min=1&max=4"), "");
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("Autoscale not enabled"), "{refused:?}");
    flower.post(&format!("/api/worker/pool/restart/{node}"));
    let added = flower.post(&format!("/api/worker/queue/add-consumer/{node}?queue=more"));
    assert_eq!(added, json!("add consumer more"));
    assert_eq!(flower.worker(node)["active_queues"].as_array().map(Vec::len), Some(2));
    if site.broker.starts_with("redis") {
        // Of RabbitMQ Flower asks the plugin for management, which Debian's server does not start.
        let lengths = flower.get("/api/queues/length");
        let names: Vec<_> = lengths["active_queues"].as_array().expect("a list").iter().map(|it| &it["name"]).collect();
        assert!(names.contains(&&json!("more")) && names.contains(&&json!(site.queue())), "{lengths}");
    }
    let cancelled = flower.post(&format!("/api/worker/queue/cancel-consumer/{node}?queue=more"));
    assert_eq!(cancelled, json!("no longer consuming from more"));
    let limited = flower.post(&format!("/api/task/rate-limit/tasks.add?workername={node}&ratelimit=30/m"));
    assert_eq!(limited, json!("new rate limit set successfully"));
    assert!(flower.worker(node)["registered"].to_string().contains("tasks.add [rate_limit=30/m]"));
    let limited = flower.post(&format!("/api/task/timeout/tasks.sleep?workername={node}&soft=1&hard=2"));
    assert_eq!(limited, json!("time limits set successfully"));
    let late = flower.send(site, "tasks.sleep", &json!([60]), &json!({}));
    assert_eq!(flower.task(&late, "FAILURE")["exception"], json!("SoftTimeLimitExceeded()"));

    flower.post(&format!("/api/worker/shutdown/{node}"));
    assert!(host.wait().success());
    flower.http.until("/api/workers?status=1", |response| response.try_json() == Some(json!({node: false})));
}

#[test]
fn its_pages_show_a_host() {
    let Some(browser) = Browser::find() else { return };
    let Some((_server, site, host, flower)) = open(Server::redis(), Site::with_redis) else { return };
    let node = host.node.as_str();
    flower.worker(node);
    host.wait_for("enabled by remote");
    let sum = flower.send(&site, "tasks.add", &json!([2, 2]), &json!({}));
    flower.task(&sum, "SUCCESS");
    let running = flower.send(&site, "tasks.sleep", &json!([600]), &json!({}));
    flower.task(&running, "STARTED");
    flower.worker(node);
    let page = |path: &str, expected: &[&str]| {
        let document = browser.document(&format!("http://{}{path}", flower.http.0));
        for text in expected {
            assert!(document.contains(text), "{path} does not show `{text}`:\n{document}");
        }
        document
    };
    let workers = page("/workers", &[node, "Online"]);
    assert!(!workers.contains("Offline"), "{workers}");
    // All tabs are in one document: pool, broker, queues, tasks, limits, config, system, other.
    let pid = host.id().to_string();
    page(
        &format!("/worker/{node}"),
        &[
            node,
            &format!("<td>{pid}</td>"),
            "<td>Max concurrency</td>",
            ">redis</td>",
            &format!("<td>{}</td>", site.queue()),
            "<td>tasks.add</td>",
            &running,
            "task-rate-limit-tasks.add",
            "worker_concurrency",
            "<td>utime</td>",
            "<td>uptime</td>",
        ],
    );
    page("/tasks", &["tasks.add", &sum, "tasks.sleep", &running]);
    page(&format!("/task/{sum}"), &["tasks.add", "SUCCESS", "[2, 2]", node, "Runtime"]);
    page(&format!("/task/{running}"), &["STARTED", "task-terminate"]);
    page("/broker", &[site.queue()]);
}
