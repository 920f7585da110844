//! Retries: the same id, counted, with the state RETRY between.

use it::Site;
use serde_json::json;

on_every_engine! {
    a_retried_task_is_seen_in_state_retry_and_succeeds
    a_retry_without_delay_runs
    a_retry_may_have_other_arguments
    a_task_without_retries_left_fails_with_its_exception
    automatic_retries_follow_the_task_its_manifest_and_the_operator
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

fn a_retry_may_have_other_arguments(site: &Site) {
    let _host = site.host(&[]);
    assert_eq!(site.client("emit(call('tasks.replaced', 'first'))"), json!("second"));
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

fn automatic_retries_follow_the_task_its_manifest_and_the_operator(site: &Site) {
    let code = "emit([outcome(send('tasks.unsteady', 2)), fails('tasks.unsteady', 3)['state']])";
    let succeeds = |retries: u32| json!({"state": "SUCCESS", "value": retries});
    let mut host = site.host(&[]);
    assert_eq!(site.client(code), json!([succeeds(2), "FAILURE"]));
    host.stop();

    let manifest = "name = \"demo\"\ncomponent = \"demo.wasm\"\n[tasks.\"tasks.unsteady\"]\n";
    site.write("plugins/demo/plugin.toml", &format!("{manifest}max_retries = 3\n"));
    let mut host = site.host(&[]);
    assert_eq!(site.client(code), json!([succeeds(2), "SUCCESS"]));
    host.stop();

    let operator = "[tasks.\"tasks.unsteady\"]\nautoretry_for = [\"OSError\"]\n";
    site.write("host.toml", operator);
    let _host = site.host(&[]);
    // Python's ConnectionError is an OSError, but names are compared: nothing knows Python's classes here.
    let code = "emit(fails('tasks.unsteady', 1)['state'])";
    assert_eq!(site.client(code), json!("FAILURE"));
}
