//! What a worker remembers for itself, in its state file.

use it::{Engine, Site};
use serde_json::json;

#[test]
fn what_is_revoked_stays_revoked_after_a_restart_embedded() {
    crate::on(Engine::Embedded, what_is_revoked_stays_revoked_after_a_restart);
}

#[test]
fn what_is_revoked_stays_revoked_after_a_restart_redis() {
    crate::on(Engine::Redis, what_is_revoked_stays_revoked_after_a_restart);
}

fn what_is_revoked_stays_revoked_after_a_restart(site: &Site) {
    let options = ["--statedb", "w.state.db"];
    let mut first = site.host(&options);
    // What has expired counts as revoked.
    let expired = r#"emit(outcome(send("tasks.add", 1, 2, task_id="gone", expires=-5)))"#;
    assert_eq!(site.client(expired)["type"], json!("TaskRevokedError"));
    first.wait_for("Discarding revoked task: tasks.add[gone]");
    assert!(first.stop().success());

    let second = site.host(&options);
    let again = r#"
again = send("tasks.add", 1, 2, task_id="gone")
emit(get(send("tasks.add", 1, 2)))
"#;
    assert_eq!(site.client(again), json!(3));
    second.wait_for("Discarding revoked task: tasks.add[gone]");
    assert_eq!(second.lines_with("Task tasks.add[gone] succeeded").len(), 0);
}

#[test]
fn two_workers_never_share_a_state_file() {
    crate::on(Engine::Embedded, |site| {
        let options = ["--statedb", "w.state.db"];
        let mut first = site.host(&options);
        let mut second = site.launch_host(&options);
        assert!(!second.wait().success());
        second.wait_for("w.state.db: another worker is using it");
        second.wait_for("its path comes from: --statedb");
        // A worker that dies leaves it to the next.
        first.kill();
        site.host(&options);
    });
}

#[test]
fn a_worker_without_a_place_for_its_default_file_says_so_and_works() {
    crate::on(Engine::Redis, |site| {
        let node = format!("{}@here", site.queue());
        std::fs::create_dir(site.path(&format!("{node}.state.db"))).expect("the site's folder is writable");
        let host = site.host_named(&node, &[]);
        host.wait_for("RUNNING WITHOUT A STATE FILE");
        assert_eq!(site.client(r#"emit(get(send("tasks.add", 1, 2)))"#), json!(3));
    });
}
