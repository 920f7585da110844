//! Retries: the same id, counted, with the state RETRY between.

use it::Site;
use serde_json::json;

on_every_engine! {
    a_retried_task_is_seen_in_state_retry_and_succeeds
    a_retry_without_delay_runs
    a_task_without_retries_left_fails_with_its_exception
}

fn a_retried_task_is_seen_in_state_retry_and_succeeds(site: &Site) {
    let host = site.host(&[]);
    let code = r#"
result = send("tasks.flaky", 2, 1.0)
until(lambda: result.state == "RETRY", "the task is to be retried")
cause = result.info
seen = states(result)
emit([type(cause).__name__, cause.args, seen[-1], get(result), result.id])
"#;
    let emitted = site.client(code);
    let id = emitted[4].as_str().expect("an id");
    assert_eq!(emitted, json!(["ConnectionError", ["attempt 1 of 3"], "SUCCESS", 2, id]));
    assert_eq!(host.wait_for_count(&format!("Task tasks.flaky[{id}] retry: Retry in 1"), 2).len(), 2);
}

fn a_retry_without_delay_runs(site: &Site) {
    let _host = site.host(&[]);
    let code = "emit([get(result) for result in [send('tasks.flaky', times) for times in (0, 1, 2, 10)]])";
    assert_eq!(site.client(code), json!([0, 1, 2, 10]));
}

fn a_task_without_retries_left_fails_with_its_exception(site: &Site) {
    site.write("host.toml", "[tasks.\"tasks.flaky\"]\nmax_retries = 1\n");
    let _host = site.host(&[]);
    let code = "emit([fails('tasks.flaky', 5), call('tasks.flaky', 1)])";
    let failure = json!({
        "state": "FAILURE", "type": "ConnectionError", "module": "builtins", "args": ["attempt 2 of 6"],
        "is_celery_class": false,
    });
    assert_eq!(site.client(code), json!([failure, 1]));
}
