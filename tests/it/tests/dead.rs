//! Messages that lose worker after worker: kept aside, looked at, and sent on their way.

use it::{Engine, Site};
use serde_json::{Value, json};

#[test]
fn a_message_that_loses_its_worker_too_often_is_kept_aside_embedded() {
    crate::on(Engine::Embedded, a_message_that_loses_its_worker_too_often_is_kept_aside);
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
