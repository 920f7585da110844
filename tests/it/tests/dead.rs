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
    let options =
        ["--set", "task_delivery_limit=2", "--set", "task_track_started=true", "--statedb", "w.state.db", "-c", "1"];
    // Results of several tests lie in the same place.
    let killer = &format!("killer-{}", site.queue());
    site.client(&format!(r#"emit(send("tasks.sleep", 600, task_id="{killer}").id)"#));
    if site.engine == Engine::RabbitMqRedis {
        // It waits behind the killer each time, and has nothing to do with it.
        site.client(r#"emit(send("tasks.add", 1, 2, task_id="bystander-" + QUEUE).id)"#);
    }
    for _ in 0..2 {
        let mut host = site.host(&options);
        let started = format!(
            r#"
killer = app.AsyncResult("{killer}")
while killer.state != "STARTED" or killer.info["pid"] != {}:
    time.sleep(INTERVAL)
emit("started")
"#,
            host.id()
        );
        assert_eq!(site.client(&started), json!("started"));
        host.kill();
    }
    let mut last = site.host(&options);
    last.wait_for(&format!("Task tasks.sleep[{killer}] was delivered 2 times and never finished"));
    let error = site.client(&format!(r#"emit(outcome(app.AsyncResult("{killer}"))["type"])"#));
    assert_eq!(error, json!("WorkerLostError"));
    if site.engine == Engine::RabbitMqRedis {
        assert_eq!(site.client(r#"emit(get(app.AsyncResult("bystander-" + QUEUE)))"#), json!(3));
    }
    let place = ["-b", &site.broker, "-Q", site.queue()];
    let dead = |words: &[&str]| site.bare_command(&[&["dead"], words, &place].concat());
    let listed = dead(&["list", "--json"]).success();
    let letter: Value = serde_json::from_str(listed.out.trim()).expect("one JSON object");
    assert_eq!((&letter["id"], &letter["deliveries"]), (&json!(killer), &json!(2)));

    // A new life begins without the old count.
    let received = format!("Task tasks.sleep[{killer}] received");
    let lives = last.lines_with(&received).len();
    assert_eq!(dead(&["requeue", killer]).success().out, "requeued 1 message\n");
    last.wait_for_count(&received, lives + 1);
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
