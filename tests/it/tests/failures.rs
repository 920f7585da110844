//! Tasks that fail, in every way: the client gets the exception of the right class, and the next task runs.

use it::Site;
use serde_json::{Value, json};

on_every_engine! {
    exceptions_have_their_class_and_message
    an_exception_of_an_unknown_class_is_made_for_the_client
    wrong_arguments_are_a_type_error_that_names_the_parameter
    an_unknown_task_is_not_registered
    a_task_ends_at_its_hard_time_limit
    a_task_ends_at_its_soft_time_limit
    a_task_that_listens_finishes_at_its_soft_time_limit
    a_task_that_traps_does_not_disturb_the_next
    a_spinning_task_does_not_hold_up_others
}

/// Runs the code with a host and compares what it emits.
#[track_caller]
fn check(site: &Site, code: &str, expected: &Value) {
    let _host = site.host(&[]);
    assert_eq!(&site.client(code), expected);
}

fn exceptions_have_their_class_and_message(site: &Site) {
    let code = r#"
failed = send("tasks.fail", "no luck")
first = outcome(failed)
assert failed.traceback.startswith("Traceback (most recent call last):"), failed.traceback
assert "ValueError: no luck" in failed.traceback, failed.traceback
emit([first, fails("tasks.fail", "naïve ☃", "KeyError"), fails("tasks.fail", "x", "ImproperlyConfigured", "celery.exceptions")])
"#;
    let failure = |class: &str, module: &str, message: &str, of_celery: bool| json!({"state": "FAILURE", "type": class, "module": module, "args": [message], "is_celery_class": of_celery});
    let expected = json!([
        failure("ValueError", "builtins", "no luck", false),
        failure("KeyError", "builtins", "naïve ☃", false),
        failure("ImproperlyConfigured", "celery.exceptions", "x", true),
    ]);
    check(site, code, &expected);
}

fn an_exception_of_an_unknown_class_is_made_for_the_client(site: &Site) {
    let code = r#"
end = fails("tasks.fail", "none left", "OutOfStock", "shop.errors")
emit([end["state"], end["type"], end["args"]])
"#;
    check(site, code, &json!(["FAILURE", "OutOfStock", ["none left"]]));
}

fn wrong_arguments_are_a_type_error_that_names_the_parameter(site: &Site) {
    let code = r#"
calls = [
    ("'y'", fails("tasks.add", 1)),
    ("y", fails("tasks.add", 1, "two")),
    ("3", fails("tasks.add", 1, 2, 3)),
    ("'z'", fails("tasks.add", 1, 2, kwargs={"z": 3})),
    ("'x'", fails("tasks.add", 1, kwargs={"x": 3})),
]
emit([[end["state"], end["type"], end["module"], part in end["args"][0] or end["args"]] for part, end in calls])
"#;
    let each = json!(["FAILURE", "TypeError", "builtins", true]);
    check(site, code, &json!([each, each, each, each, each]));
}

fn an_unknown_task_is_not_registered(site: &Site) {
    let code = "emit([fails('tasks.missing', 1), call('tasks.add', 2, 2)])";
    let failure = json!({
        "state": "FAILURE", "type": "NotRegistered", "module": "celery.exceptions", "args": ["tasks.missing"],
        "is_celery_class": true,
    });
    check(site, code, &json!([failure, 4]));
}

fn a_task_ends_at_its_hard_time_limit(site: &Site) {
    // One limit from the task, one from the message, and one for a task that never calls the host.
    let code = r#"
from celery.exceptions import TimeLimitExceeded
results = [
    send("tasks.limited", 60),
    send("tasks.sleep", 60, time_limit=1),
    send("tasks.spin", time_limit=1),
]
ends = [outcome(result) for result in results]
assert all(isinstance(result.result, TimeLimitExceeded) for result in results)
emit([[end["state"], end["type"], end["args"] == [1]] for end in ends] + [call("tasks.add", 2, 2)])
"#;
    let end = json!(["FAILURE", "TimeLimitExceeded", true]);
    check(site, code, &json!([end, end, end, 4]));
}

fn a_task_ends_at_its_soft_time_limit(site: &Site) {
    let code = r#"
from celery.exceptions import SoftTimeLimitExceeded
results = [
    send("tasks.soft_limited", 60),
    send("tasks.sleep", 60, soft_time_limit=1),
    send("tasks.spin", soft_time_limit=1, time_limit=30),
]
ends = [outcome(result) for result in results]
assert all(isinstance(result.result, SoftTimeLimitExceeded) for result in results)
emit([[end["state"], end["type"], end["args"]] for end in ends] + [call("tasks.add", 2, 2)])
"#;
    let end = json!(["FAILURE", "SoftTimeLimitExceeded", []]);
    check(site, code, &json!([end, end, end, 4]));
}

fn a_task_that_listens_finishes_at_its_soft_time_limit(site: &Site) {
    check(site, "emit(call('tasks.graceful', 60, soft_time_limit=1, time_limit=60))", &json!(true));
}

fn a_task_that_traps_does_not_disturb_the_next(site: &Site) {
    // With one slot, the next task runs where the last one ended.
    let host = site.host(&["-c", "1"]);
    let code = r#"
hostile = [
    send("tasks.recurse"), send("tasks.panic", "a bug"), send("tasks.exit", 3), send("tasks.exit", 0),
    send("tasks.allocate", 500),
]
ends = [outcome(result) for result in hostile]
emit([[end["state"], end["type"]] for end in ends] + [call("tasks.add", 2, 2)])
"#;
    let expected = json!([
        ["FAILURE", "StackOverflow"],
        ["FAILURE", "Trap"],
        ["FAILURE", "GuestExited"],
        ["FAILURE", "GuestExited"],
        ["FAILURE", "MemoryLimitExceeded"],
        4,
    ]);
    assert_eq!(site.client(code), expected);
    host.wait_for("a bug"); // the panic's message is the guest's stderr
}

fn a_spinning_task_does_not_hold_up_others(site: &Site) {
    let _host = site.host(&["-c", "2"]);
    let code = r#"
spinning = send("tasks.spin", time_limit=20)
sums = [call("tasks.add", n, n) for n in range(5)]
emit([sums, spinning.state])
"#;
    assert_eq!(site.client(code), json!([[0, 2, 4, 6, 8], "PENDING"]));
}

#[test]
fn a_task_that_computes_too_long_fails_with_the_key_to_raise() {
    let Some(site) = Site::open(it::Engine::Embedded) else { return };
    let _host = site.host(&["--set", "limits.cpu_time=1s"]);
    let code = r#"
end = fails("tasks.spin")
emit([end["state"], end["type"], end["args"], call("tasks.sleep", 1.5)])
"#;
    let expected = json!(["FAILURE", "CpuTimeLimitExceeded", ["1 s; raise limits.cpu_time"], 1.5]);
    assert_eq!(site.client(code), expected);
}
