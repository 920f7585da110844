//! A worker that is killed: whatever it held is run by the next one.

use it::{Engine, Host, Site};
use serde_json::json;

const TASKS: u32 = 1000;

#[test]
fn nothing_is_lost_when_the_worker_is_killed_rabbitmq_redis() {
    crate::on(Engine::RabbitMqRedis, nothing_is_lost);
}

#[test]
fn nothing_is_lost_when_the_worker_is_killed_redis() {
    crate::on(Engine::Redis, nothing_is_lost);
}

#[test]
fn nothing_is_lost_when_the_worker_is_killed_embedded() {
    crate::on(Engine::Embedded, nothing_is_lost);
}

fn nothing_is_lost(site: &Site) {
    let options = ["-c", "4"];
    let mut first = site.host(&options);
    // Slow enough that the kills fall between the first task and the last.
    let client = site.start_client(&format!(
        r#"
results = [send("tasks.sleep", 0.01 + n / 2**20) for n in range({TASKS})]
emit("published")
values = [get(result) for result in results]
emit([abs(value - 0.01 - n / 2**20) < 1e-9 for n, value in enumerate(values)].count(True))
"#
    ));
    let kill_midway = |host: &mut Host| {
        host.wait_for_count("] succeeded in ", 150);
        host.kill();
    };
    kill_midway(&mut first);
    let mut second = site.host(&options);
    kill_midway(&mut second);
    let mut third = site.host(&options);
    client.wait_for("published");
    assert_eq!(client.finish(), json!(TASKS));
    assert!(third.stop().success());
    assert_eq!(waiting_messages(site), json!(0), "messages that nobody will run");
}

/// How many messages the queue holds, seen as a client sees it.
fn waiting_messages(site: &Site) -> serde_json::Value {
    site.client("emit(depth())")
}
