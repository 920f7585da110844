//! Connections that break, go silent, stall or cannot be made, between the host and its broker.

use std::collections::BTreeMap;
use std::time::Duration;

use it::{Engine, Fault, Host, Proxy, Site};
use serde_json::json;

/// Makes each scenario a test with RabbitMQ and one with Redis.
macro_rules! on_every_server {
    ($($scenario:ident)*) => {
        mod rabbitmq {
            $(#[test] fn $scenario() { super::through_a_proxy(it::Engine::RabbitMqRedis, super::$scenario) })*
        }
        mod redis {
            $(#[test] fn $scenario() { super::through_a_proxy(it::Engine::Redis, super::$scenario) })*
        }
    };
}

on_every_server! {
    a_reset_connection_is_made_anew_and_nothing_runs_twice
    a_connection_that_goes_silent_is_noticed_and_replaced
    a_connection_that_goes_silent_while_a_task_publishes_is_noticed_and_replaced
    a_server_that_reads_nothing_is_noticed
    a_server_that_accepts_and_says_nothing_is_waited_for
    a_server_that_refuses_connections_is_waited_for
    a_slow_network_loses_nothing
    a_task_that_spins_does_not_cost_the_connection
}

/// The host reaches its broker through a proxy, and notices silence within seconds; clients and results go
/// straight.
fn through_a_proxy(engine: Engine, scenario: fn(&Site, &Proxy)) {
    let Some(mut site) = Site::open(engine) else { return };
    let proxy = Proxy::start(&site.broker);
    let patience = if engine == Engine::Redis { "socket_timeout=2" } else { "heartbeat=2" };
    site.host_broker = Some(format!("{}?{patience}", proxy.url(&site.broker)));
    scenario(&site, &proxy);
}

/// How often each task has succeeded, by its id.
fn successes(hosts: &[&Host]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in hosts.iter().flat_map(|host| host.lines_with("] succeeded in ")) {
        let id = line.split_once('[').and_then(|(_, rest)| rest.split_once("] succeeded")).map(|(id, _)| id.to_owned());
        // The log's own brackets come first.
        let id = id.map(|id| id.rsplit_once('[').map_or(id.clone(), |(_, id)| id.to_owned()));
        *counts.entry(id.expect("the line names the task")).or_default() += 1;
    }
    counts
}

/// It still works, and so does a retry, for which the host publishes.
#[track_caller]
fn works(site: &Site) {
    assert_eq!(site.client("emit([call('tasks.add', 2, 2), call('tasks.flaky', 2)])"), json!([4, 2]));
}

fn a_reset_connection_is_made_anew_and_nothing_runs_twice(site: &Site, proxy: &Proxy) {
    const TASKS: usize = 120;
    let host = site.host(&["-c", "2"]);
    let client = site.start_client(&format!(
        r#"
results = [send("tasks.sleep", 6.0)] + [send("tasks.sleep", 0.05) for n in range({TASKS})]
emit("published")
emit([get(result) for result in results].count(0.05))
"#
    ));
    client.wait_for("published");
    for cut in 1..=2 {
        host.wait_for_count("] succeeded in ", 20 * cut);
        proxy.cut();
        host.wait_for_count("Connected again", cut);
    }
    assert_eq!(client.finish(), json!(TASKS));
    let code = "until(lambda: depth() == 0, 'the queue is empty'); emit(True)";
    site.client(code);
    works(site);
    let twice: Vec<_> = successes(&[&host]).into_iter().filter(|(_, count)| *count != 1).collect();
    assert_eq!(twice, []);
}

fn a_connection_that_goes_silent_is_noticed_and_replaced(site: &Site, proxy: &Proxy) {
    let host = site.host(&[]);
    works(site);
    proxy.forget();
    // The client goes around the proxy: these wait for a worker that hears nothing of them.
    works(site);
    assert!(!host.lines_with("Connection to broker lost").is_empty());
    assert!(!host.lines_with("Connected again").is_empty());
}

fn a_connection_that_goes_silent_while_a_task_publishes_is_noticed_and_replaced(site: &Site, proxy: &Proxy) {
    let host = site.host(&["--set", "task.track_started=true"]);
    works(site);
    let client = site.start_client(
        r#"
result = send("tasks.slow_flaky", 2.0, task_id=QUEUE + "-retried")
until(lambda: result.state == "STARTED", "the task runs")
emit("running")
emit(get(result))
"#,
    );
    client.wait_for("running");
    proxy.forget();
    // Its retry is published into the void at first.
    assert_eq!(client.finish(), json!(1));
    works(site);
    assert_eq!(host.lines_with("-retried] succeeded").len(), 1);
}

fn a_server_that_reads_nothing_is_noticed(site: &Site, proxy: &Proxy) {
    let host = site.host(&[]);
    works(site);
    proxy.set(Fault::Stall);
    host.wait_for("Connection to broker lost");
    proxy.set(Fault::Nothing);
    host.wait_for("Connected again");
    works(site);
}

fn a_server_that_accepts_and_says_nothing_is_waited_for(site: &Site, proxy: &Proxy) {
    let mut host = site.host(&[]);
    proxy.set(Fault::Silence);
    host.wait_for("Connection to broker lost");
    host.wait_for("Trying again in 1.00 seconds");
    let threads = threads(&host);
    host.wait_for("Trying again in 5.00 seconds");
    if let (Some(before), Some(after)) = (threads, self::threads(&host)) {
        // There were four more tries, and threads of a pool may come and go.
        assert!(after <= before + 3, "tries to connect leave threads behind: there were {before}, now {after}");
    }
    proxy.set(Fault::Nothing);
    host.wait_for("Connected again");
    works(site);
    assert!(host.stop().success());
}

/// How many threads a process has, where that can be asked.
fn threads(host: &Host) -> Option<usize> {
    Some(std::fs::read_dir(format!("/proc/{}/task", host.id())).ok()?.count())
}

fn a_server_that_refuses_connections_is_waited_for(site: &Site, proxy: &Proxy) {
    let host = site.host(&[]);
    proxy.set(Fault::Refusal);
    proxy.cut();
    host.wait_for("Trying again in 2.00 seconds");
    proxy.set(Fault::Nothing);
    host.wait_for("Connected again");
    works(site);
}

fn a_slow_network_loses_nothing(site: &Site, proxy: &Proxy) {
    const TASKS: usize = 50;
    proxy.set(Fault::Delay(Duration::from_millis(150)));
    let host = site.host(&[]);
    let code = format!("emit([get(result) for result in [send('tasks.add', n, n) for n in range({TASKS})]].count(2))");
    assert_eq!(site.client(&code), json!(1));
    works(site);
    assert!(host.lines_with("Connection to broker lost").is_empty());
    let twice: Vec<_> = successes(&[&host]).into_iter().filter(|(_, count)| *count != 1).collect();
    assert_eq!(twice, []);
}

fn a_task_that_spins_does_not_cost_the_connection(site: &Site, proxy: &Proxy) {
    // More slots than most machines of tests have processors.
    let host = site.host(&["-c", "4"]);
    works(site);
    let before = proxy.accepted();
    // For longer than the broker waits for a sign of life, on every slot.
    let code = r#"emit([outcome(result)["type"] for result in [send("tasks.spin", time_limit=11) for n in range(4)]])"#;
    assert_eq!(site.client(code), json!(vec!["TimeLimitExceeded"; 4]));
    assert_eq!(proxy.accepted(), before, "the host had to connect anew");
    assert!(host.lines_with("Connection to broker lost").is_empty());
}
