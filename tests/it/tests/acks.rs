//! What becomes of a message whose task failed, timed out or trapped (the acknowledgement matrix).

use it::{Engine, Site};
use serde_json::json;

on_every_engine! {
    a_timeout_that_is_not_acknowledged_is_run_again
    a_trap_that_is_given_back_is_run_again
    a_trap_is_retried_where_that_is_wanted
    a_failure_that_is_not_acknowledged_is_gone
}

fn a_timeout_that_is_not_acknowledged_is_run_again(site: &Site) {
    site.write("host.toml", "[tasks.\"tasks.limited\"]\nacks_on_timeout = false\n");
    let host = site.host(&[]);
    let code = r#"
end = fails("tasks.limited", 60)
emit([end["state"], end["type"], call("tasks.add", 2, 2)])
"#;
    assert_eq!(site.client(code), json!(["FAILURE", "TimeLimitExceeded", 4]));
    host.wait_for_count("Hard time limit (1s) exceeded for tasks.limited", 2);
}

fn a_trap_that_is_given_back_is_run_again(site: &Site) {
    let mut host = site.host(&["--set", "task.reject_on_worker_lost=true", "--set", "task.delivery_limit=none"]);
    let id = site.client("emit(send('tasks.recurse').id)");
    let id = id.as_str().expect("an id");
    host.wait_for_count(&format!("Task tasks.recurse[{id}] was lost, and is given back: StackOverflow"), 3);
    assert_eq!(site.client("emit(call('tasks.add', 2, 2))"), json!(4));
    // It is nobody's fault but its own, and nothing is said to the client.
    assert_eq!(site.client(&format!("emit(app.AsyncResult('{id}').state)")), json!("PENDING"));
    assert!(host.stop().success());
}

fn a_trap_is_retried_where_that_is_wanted(site: &Site) {
    let options = "retry_on_worker_lost = true\nmax_retries = 2\ndefault_retry_delay = 0\n";
    site.write("host.toml", &format!("[tasks.\"tasks.recurse\"]\n{options}"));
    let host = site.host(&[]);
    let code = r#"
result = send("tasks.recurse")
end = outcome(result)
emit([end["state"], end["type"], result.id])
"#;
    let emitted = site.client(code);
    assert_eq!((&emitted[0], &emitted[1]), (&json!("FAILURE"), &json!("StackOverflow")));
    let id = emitted[2].as_str().expect("an id");
    assert_eq!(host.wait_for_count(&format!("Task tasks.recurse[{id}] retry: Retry in 0s: StackOverflow"), 2).len(), 2);
}

fn a_failure_that_is_not_acknowledged_is_gone(site: &Site) {
    let mut host = site.host(&["--set", "task.acks_on_failure=false"]);
    let code = "emit([fails('tasks.fail', 'no')['type'], call('tasks.add', 2, 2)])";
    assert_eq!(site.client(code), json!(["ValueError", 4]));
    assert!(host.stop().success());
    assert_eq!(site.client("emit(depth())"), json!(0));
}

#[test]
fn a_rejected_failure_goes_where_the_queue_says() {
    let Some(site) = Site::open(Engine::RabbitMqRedis) else { return };
    let queues = r#"
from kombu import Exchange, Queue
rejected = Queue(QUEUE + ".rejected", Exchange(QUEUE + ".dlx", type="fanout"))
dead_letters = {"x-dead-letter-exchange": QUEUE + ".dlx"}
queue = Queue(QUEUE, Exchange(QUEUE), QUEUE, queue_arguments=dead_letters)
app.conf.task_queues = [queue]
"#;
    let declare = r#"
with app.connection_for_write() as connection:
    for each in (rejected, queue):
        each(connection.default_channel).declare()
"#;
    site.client(&format!("{queues}{declare}"));
    let _host = site.host(&["--set", "task.acks_on_failure=false"]);
    let call = r#"
results = [send("tasks.fail", "no"), send("tasks.add", 2, 2)]
ends = [outcome(result)["state"] for result in results]
with app.connection_for_read() as connection:
    message = connection.SimpleQueue(rejected).get(timeout=PATIENCE)
    message.ack()
emit([ends, message.headers["id"] == results[0].id, message.headers["x-first-death-reason"]])
"#;
    let emitted = site.client(&format!("{queues}{call}"));
    assert_eq!(emitted, json!([["FAILURE", "SUCCESS"], true, "rejected"]));
}
