//! What a running task says about itself: states that a client sees before the end.

use it::{Engine, Site};
use serde_json::json;

on_every_engine! {
    a_task_tells_how_far_it_is
    a_task_gives_itself_a_state_with_any_meta
    a_task_cannot_claim_its_own_end
    the_last_of_many_updates_is_seen
    a_state_stays_if_the_task_stores_no_result
}

fn a_task_tells_how_far_it_is(site: &Site) {
    let _host = site.host(&["--set", "task.track_started=true"]);
    let code = r#"
result = send("tasks.progress", 4, 0.5)
seen = []
def step():
    # One look, where .state and .info are one each.
    meta = result._get_task_meta()
    if meta["status"] == "PROGRESS" and meta["result"] not in seen:
        seen.append(meta["result"])
    return meta["status"] in READY_STATES
until(step, "the task is done")
steps = [info["current"] for info in seen]
emit({
    "in order": steps == sorted(steps) and len(steps) > 1,
    "total": all(info == {"current": info["current"], "total": 4} for info in seen),
    "result": get(result),
})
"#;
    assert_eq!(site.client(code), json!({"in order": true, "total": true, "result": 4}));
}

fn a_task_gives_itself_a_state_with_any_meta(site: &Site) {
    let _host = site.host(&["--set", "task.track_started=true"]);
    let code = r#"
meta = {"pages": [1, None, "ü"], "big": 10**40}
result = send("tasks.report", "INDEXING", meta, 4.0)
def look():
    stored = result._get_task_meta()
    return stored if stored["status"] == "INDEXING" else None
stored = until(look, "the state is seen")
emit([stored["result"] == meta, stored["date_done"], get(result), result.state])
"#;
    assert_eq!(site.client(code), json!([true, null, null, "SUCCESS"]));
}

fn a_task_cannot_claim_its_own_end(site: &Site) {
    let _host = site.host(&["--set", "limits.state=100"]);
    let code = r#"
ends = [fails("tasks.report", state) for state in ["SUCCESS", "RETRY", "", "x" * 51]]
ends.append(fails("tasks.report", "BIG", "x" * 100))
emit([[end["state"], end["type"], end["args"][0]] for end in ends])
"#;
    let failed = |why: &str| json!(["FAILURE", "UpdateError", why]);
    let outcome = |state| failed(&format!("the state {state} is what a task comes to, and follows from how it ends"));
    let expected = json!([
        outcome("SUCCESS"),
        outcome("RETRY"),
        failed("the state is empty"),
        failed("the state is longer than 50 characters"),
        failed("the meta has 102 bytes; limits.state is 100 bytes"),
    ]);
    assert_eq!(site.client(code), expected);
}

fn the_last_of_many_updates_is_seen(site: &Site) {
    // It is stored although no other follows it and the task goes on.
    let _host = site.host(&["--set", "limits.state_interval=300ms"]);
    let code = r#"
result = send("tasks.progress", 1000, 0.0, 5.0)
last = {"current": 1000, "total": 1000}
def look():
    stored = result._get_task_meta()
    return stored["status"] == "PROGRESS" and stored["result"] == last
until(look, "the last state is seen")
emit(get(result))
"#;
    assert_eq!(site.client(code), json!(1000));
}

fn a_state_stays_if_the_task_stores_no_result(site: &Site) {
    let host = site.host(&[]);
    if site.engine == Engine::RabbitMqRpc {
        return; // There, a client that wants no result has no queue for states either.
    }
    // As in Celery: `ignore_result` is about what the task comes to.
    let id = site.client("emit(send('tasks.report', 'HALFWAY', [1], ignore_result=True).id)");
    let id = id.as_str().expect("an id");
    host.wait_for(&format!("Task tasks.report[{id}] succeeded"));
    let code = format!("result = app.AsyncResult('{id}')\nemit([result.state, result.info])");
    assert_eq!(site.client(&code), json!(["HALFWAY", [1]]));
}
