//! A result store that is away, silent or full: tasks run all the same, and their results arrive later.

use it::{Engine, Fault, Host, Proxy, Site};
use serde_json::json;

/// Messages by RabbitMQ; the host reaches the results through a proxy, and clients go straight.
fn with_results_behind_a_proxy(scenario: fn(&Site, &Proxy)) {
    let Some(mut site) = Site::open(Engine::RabbitMqRedis) else { return };
    let proxy = Proxy::start(&site.backend);
    site.host_backend = Some(format!("{}?socket_timeout=2", proxy.url(&site.backend)));
    scenario(&site, &proxy);
}

/// Publishes ten tasks, one of which fails, and says so.
const PUBLISH: &str = r#"
results = [send("tasks.add", n, n, task_id=f"{QUEUE}-{n}") for n in range(9)] + [send("tasks.fail", task_id=f"{QUEUE}-9")]
emit("published")
emit([get(result) for result in results[:9]] + [outcome(results[9])["type"]])
"#;

#[track_caller]
fn ran_once(site: &Site, host: &Host) {
    for n in 0..10 {
        let ended = if n < 9 { "succeeded" } else { "raised unexpected" };
        let lines = host.lines_with(&format!("[{}-{n}] {ended}", site.queue));
        assert_eq!(lines.len(), 1, "task {n}");
    }
    assert_eq!(site.client("until(lambda: depth() == 0, 'the queue is empty'); emit(depth())"), json!(0));
}

#[test]
fn results_wait_for_a_store_that_refuses_connections() {
    with_results_behind_a_proxy(|site, proxy| {
        let mut host = site.host(&["-c", "2", "--set", "task.track_started=true"]);
        site.client("emit(call('tasks.add', 1, 1))");
        proxy.set(Fault::Refusal);
        proxy.cut();
        let client = site.start_client(PUBLISH);
        client.wait_for("published");
        // That the state STARTED cannot be stored fails no task.
        host.wait_for_count("cannot store state STARTED", 2);
        host.wait_for("results wait here");
        proxy.set(Fault::Nothing);
        assert_eq!(client.finish(), json!([0, 2, 4, 6, 8, 10, 12, 14, 16, "ValueError"]));
        ran_once(site, &host);
        assert!(host.stop().success());
    });
}

#[test]
fn results_wait_for_a_store_that_has_gone_silent() {
    with_results_behind_a_proxy(|site, proxy| {
        let host = site.host(&["-c", "2"]);
        site.client("emit(call('tasks.add', 1, 1))");
        proxy.forget();
        let client = site.start_client(PUBLISH);
        assert_eq!(client.finish(), json!([0, 2, 4, 6, 8, 10, 12, 14, 16, "ValueError"]));
        ran_once(site, &host);
        assert!(host.lines_with("Connection to broker lost").is_empty());
    });
}

#[test]
fn a_worker_that_waits_for_its_store_ends_when_it_is_told_to_and_loses_nothing() {
    with_results_behind_a_proxy(|site, proxy| {
        let mut first = site.host(&["-c", "2"]);
        site.client("emit(call('tasks.add', 1, 1))");
        proxy.set(Fault::Refusal);
        proxy.cut();
        let client = site.start_client(PUBLISH);
        client.wait_for("published");
        first.wait_for("results wait here");
        first.wait_for_count("] received", 11);
        first.signal("QUIT");
        assert!(first.wait().success());
        proxy.set(Fault::Nothing);
        let _second = site.host(&["-c", "2"]);
        assert_eq!(client.finish(), json!([0, 2, 4, 6, 8, 10, 12, 14, 16, "ValueError"]));
        assert_eq!(site.client("until(lambda: depth() == 0, 'the queue is empty'); emit(depth())"), json!(0));
    });
}
