//! Messages that lose worker after worker: kept aside, looked at, and sent on their way.

use it::{Engine, Site};
use serde_json::{Value, json};

#[test]
fn a_message_that_loses_its_worker_too_often_is_kept_aside_embedded() {
    crate::on(Engine::Embedded, a_message_that_loses_its_worker_too_often_is_kept_aside);
}

#[test]
fn a_message_that_kills_its_worker_again_and_again_is_kept_aside_rabbitmq_redis() {
    crate::on(Engine::RabbitMqRedis, a_message_that_kills_its_worker_again_and_again_is_kept_aside);
}

#[test]
fn a_message_that_kills_its_worker_again_and_again_is_kept_aside_redis() {
    crate::on(Engine::Redis, a_message_that_kills_its_worker_again_and_again_is_kept_aside);
}

/// Classic queues of RabbitMQ do not count: the worker does, in its state file.
fn a_message_that_kills_its_worker_again_and_again_is_kept_aside(site: &Site) {
    let options = ["--set", "task_delivery_limit=2", "--statedb", "w.state.db", "-c", "1"];
    site.client(r#"emit(send("tasks.sleep", 600, task_id="killer").id)"#);
    for _ in 0..2 {
        let mut host = site.host(&options);
        host.wait_for("Task tasks.sleep[killer] received");
        host.kill();
    }
    let mut last = site.host(&options);
    last.wait_for("Task tasks.sleep[killer] was delivered 2 times and never finished");
    assert_eq!(site.client(r#"emit(outcome(app.AsyncResult("killer"))["type"])"#), json!("WorkerLostError"));
    let place = ["-b", &site.broker, "-Q", site.queue()];
    let dead = |words: &[&str]| site.bare_command(&[&["dead"], words, &place].concat());
    let listed = dead(&["list", "--json"]).success();
    let letter: Value = serde_json::from_str(listed.out.trim()).expect("one JSON object");
    assert_eq!((&letter["id"], &letter["deliveries"]), (&json!("killer"), &json!(2)));

    // A new life begins without the old count.
    assert_eq!(dead(&["requeue", "killer"]).success().out, "requeued 1 message\n");
    last.wait_for_count("Task tasks.sleep[killer] received", 1);
    assert!(last.is_running());
}

fn a_message_that_loses_its_worker_too_often_is_kept_aside(site: &Site) {
    let options = ["--set", "task_delivery_limit=1"];
    let mut first = site.host(&options);
    let killer = site.client(r#"emit(send("tasks.sleep", 600, task_id="killer").id)"#);
    assert_eq!(killer, json!("killer"));
    first.wait_for("Task tasks.sleep[killer] received");
    first.kill();

    let second = site.host(&options);
    second.wait_for("Task tasks.sleep[killer] was delivered 1 times and never finished");
    assert_eq!(site.client(r#"emit(outcome(app.AsyncResult("killer"))["type"])"#), json!("WorkerLostError"));

    let dead = |words: &[&str]| site.command(&[&["dead"], words, &["-Q", site.queue()]].concat());
    let listed = dead(&["list", "--json"]).success();
    let letter: Value = serde_json::from_str(listed.out.trim()).expect("one JSON object");
    assert_eq!(letter["id"], json!("killer"));
    assert_eq!(letter["reason"], json!("delivery_limit"));
    assert_eq!(letter["deliveries"], json!(1));
    // Looking takes nothing away.
    let shown = dead(&["show", "killer"]).success();
    assert!(shown.out.contains("\"tasks.sleep\""), "{}", shown.out);
    dead(&["drop", "nobody"]).refused(&["1 of 1 not found among the dead letters"]);

    assert_eq!(dead(&["requeue", "killer"]).success().out, "requeued 1 message\n");
    second.wait_for("Task tasks.sleep[killer] received");
    let empty = dead(&["list"]).success();
    assert_eq!(empty.out, "");
}
