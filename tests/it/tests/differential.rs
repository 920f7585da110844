//! The same random canvases on a Python worker and on the host, and on both at once: what becomes of them is compared.
//!
//! `tests/fixtures/canvas` makes, runs and compares them, and prints those that differ. `TASKHOST_TEST_SEED=1
//! TASKHOST_TEST_SEEDS=1000 cargo xtask test differential` goes on for longer than the short form, which has the same
//! seeds every time.

use std::env;
use std::time::Duration;

use it::process::Stream;
use it::{Engine, Host, PATIENCE, Process, Server, Site, settings};
use serde_json::json;

/// How many canvases run at once.
const BATCH: &str = "20";
/// The order of Python's sets is chance unless it is told.
const HASH: (&str, &str) = ("PYTHONHASHSEED", "0");
const GRANTS: &str = r#"
[grants.canvas]
keyvalue = ["runs=BACKEND"]
publish = ["diff.*@*", "celery.map", "celery.starmap"]
"#;

#[test]
fn the_host_does_with_canvases_what_python_does_on_redis() {
    let Some(scene) = Scene::open(Engine::Redis) else { return };
    let _python = python_worker(&scene.left);
    let host = host(&scene.right);
    scene.compare(&[&host.node], "1", "60");
}

#[test]
fn the_host_does_with_canvases_what_python_does_on_rabbitmq() {
    let Some(scene) = Scene::open(Engine::RabbitMqRedis) else { return };
    let _python = python_worker(&scene.left);
    let host = host(&scene.right);
    scene.compare(&[&host.node], "1001", "40");
}

#[test]
fn canvases_that_both_run_together_come_out_as_those_of_python_alone() {
    let Some(scene) = Scene::open(Engine::Redis) else { return };
    let _python = python_worker(&scene.left);
    let helper = python_worker(&scene.right);
    let host = host(&scene.right);
    scene.compare(&[&host.node, &python_node(&scene.right)], "2001", "60");
    for worker in [&helper, &*host] {
        let done = worker.lines_with("] succeeded in ").len();
        assert!(done > 50, "one of both has had next to nothing to do: {done} tasks");
    }
}

/// Two places that have nothing in common but the servers. Python alone is at the left one.
struct Scene {
    left: Site,
    right: Site,
    /// Of this test alone, since whatever is in it is looked at.
    _redis: Server,
}

impl Scene {
    /// None if this machine lacks something, which is said.
    fn open(engine: Engine) -> Option<Scene> {
        let redis = Server::redis()?;
        Some(Scene { left: site(engine, &redis, 1)?, right: site(engine, &redis, 3)?, _redis: redis })
    }

    /// Runs so many canvases at both places, unless the tester says which. `nodes` are those at the right.
    fn compare(&self, nodes: &[&str], seed: &str, count: &str) {
        let given = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
        let (seed, count) = (given(settings::SEED, seed), given(settings::SEEDS, count));
        let describe = |name: &str, site: &Site, nodes: &[&str]| {
            let Site { broker, backend, queue, .. } = site;
            json!({"name": name, "broker": broker, "backend": backend, "queue": queue, "nodes": nodes})
        };
        let left = describe("python", &self.left, &[&python_node(&self.left)]);
        let sides = json!([left, describe("host", &self.right, nodes)]).to_string();
        let environment = [("SIDES", &*sides), HASH];
        let mut comparison = self.left.start_fixture("canvas/differential.py", &environment, &[&seed, &count, BATCH]);
        let patience = PATIENCE + Duration::from_secs(count.parse().expect("a number of seeds"));
        let status = comparison.wait_within(patience);
        assert!(status.success(), "they differ:\n{}", comparison.written(Stream::Out));
    }
}

/// A place with the tasks of canvases, and with two databases of this Redis: this one and the next.
pub(crate) fn site(engine: Engine, redis: &Server, number: u8) -> Option<Site> {
    let plugin = settings::required_path(settings::CANVAS)?;
    let database = |number: u8| format!("{}/{number}", redis.url.trim_end_matches("/0"));
    let mut site = match engine {
        Engine::Redis => Site::with_redis(&database(number))?,
        _ => Site::with_results(&redis.url)?,
    };
    site.backend = database(number + 1);
    site.add_plugin("canvas", &plugin);
    site.write("host.toml", &GRANTS.replace("BACKEND", &site.backend));
    Some(site)
}

fn python_node(site: &Site) -> String {
    format!("py-{}@localhost", site.queue())
}

fn python_worker(site: &Site) -> Process {
    let settings = json!({"task_default_queue": site.queue}).to_string();
    let environment = [("BROKER", &*site.broker), ("BACKEND", &*site.backend), ("SETTINGS", &*settings), HASH];
    let worker = site.start_fixture("canvas/tasks.py", &environment, &["-n", &python_node(site), "-c", "2"]);
    worker.wait_for(" ready.");
    worker
}

/// A worker that sends what it sends by the site's own queue.
pub(crate) fn host(site: &Site) -> Host {
    let queue = format!("task.default_queue={}", site.queue());
    site.host(&["-c", "2", "--set", &queue, "--set", "result.extended=true"])
}
