//! A broker or a result store that goes away: the worker comes back by itself, and runs nothing twice.

use it::{Server, Site};
use serde_json::json;

#[test]
fn a_worker_resumes_when_rabbitmq_comes_back() {
    let Some(mut rabbitmq) = Server::rabbitmq() else { return };
    let Some(site) = Site::with_broker(&rabbitmq.url) else { return };
    let mut host = site.host(&["-c", "2"]);
    let client = site.start_client(
        r#"
results = [send("tasks.sleep", 0.125 + n / 2**20) for n in range(100)]
emit("published")
emit([get(result) == 0.125 + n / 2**20 for n, result in enumerate(results)].count(True))
"#,
    );
    client.wait_for("published");
    host.wait_for("] succeeded in ");
    rabbitmq.stop();
    host.wait_for("Connection to broker lost");
    rabbitmq.start_again();
    assert_eq!(client.finish(), json!(100));
    assert!(host.is_running());
    // It takes new work as well, and still ends as it should.
    assert_eq!(site.client("emit(call('tasks.add', 2, 2))"), json!(4));
    assert!(host.stop().success());
}

#[test]
fn a_worker_waits_for_a_rabbitmq_that_is_not_there_yet() {
    let Some(mut rabbitmq) = Server::rabbitmq() else { return };
    let Some(site) = Site::with_broker(&rabbitmq.url) else { return };
    rabbitmq.stop();
    let host = site.launch_host(&[]);
    host.wait_for("connect");
    rabbitmq.start_again();
    host.wait_for(&format!("{} ready.", host.node));
    assert_eq!(site.client("emit(call('tasks.add', 2, 2))"), json!(4));
}

#[test]
fn a_redelivered_task_does_not_run_twice_and_its_retry_runs() {
    let Some(mut rabbitmq) = Server::rabbitmq() else { return };
    let Some(site) = Site::with_broker(&rabbitmq.url) else { return };
    let host = site.host(&["-c", "2"]);
    let client = site.start_client(
        r#"
results = [
    send("tasks.sleep", 6.0, task_id=QUEUE + "-slow"),         # is running when the connection is lost
    send("tasks.flaky", 1, 6, task_id=QUEUE + "-waiting"),     # its retry is waiting
    send("tasks.flaky", 3, task_id=QUEUE + "-immediate"),
]
emit("published")
emit([get(result) for result in results])
"#,
    );
    client.wait_for("published");
    host.wait_for("-slow] received");
    host.wait_for("-waiting] retry");
    host.wait_for("-immediate] succeeded");
    let closed = rabbitmq.control("close_all_connections cut");
    assert!(closed.contains("Closed"), "{closed}");
    host.wait_for("Connection to broker lost");
    assert_eq!(client.finish(), json!([6.0, 1, 3]));
    // Both copies are settled once nothing is left.
    let code = "until(lambda: call('tasks.add', 1, 1) == 2 and depth() == 0, 'the queue is empty'); emit(depth())";
    assert_eq!(site.client(code), json!(0));
    for ended in ["-slow] succeeded", "-waiting] succeeded", "-immediate] succeeded"] {
        assert_eq!(host.lines_with(ended).len(), 1, "{ended}");
    }
    assert_eq!(host.lines_with("-waiting] retry").len(), 1);
    assert_eq!(host.lines_with("-immediate] retry").len(), 3);
    let queues = rabbitmq.control("list_queues name messages messages_unacknowledged");
    let ours = queues.lines().find(|line| line.starts_with(&format!("{}\t", site.queue)));
    assert_eq!(ours, Some(&*format!("{}\t0\t0", site.queue)), "a delivery was not settled:\n{queues}");
}

#[test]
fn a_worker_without_its_broker_still_ends_as_it_should() {
    let Some(mut rabbitmq) = Server::rabbitmq() else { return };
    let Some(site) = Site::with_broker(&rabbitmq.url) else { return };
    let mut host = site.host(&[]);
    rabbitmq.kill();
    host.wait_for("Connection to broker lost");
    assert!(host.stop().success());
}

#[test]
fn a_result_waits_for_its_store() {
    let Some(mut redis) = Server::redis() else { return };
    let Some(site) = Site::with_results(&redis.url) else { return };
    let mut host = site.host(&["-c", "1"]);
    site.client("emit(call('tasks.add', 1, 1))");
    redis.kill();
    // A client without results of its own, since it could not reach them.
    site.client(
        r#"
other = Celery("other", broker=os.environ["BROKER"], backend="disabled://")
other.send_task("tasks.add", (2, 2), task_id=QUEUE + "-patient", queue=QUEUE)
"#,
    );
    host.wait_for("-patient] received");
    redis.start_again();
    assert_eq!(site.client("emit(get(app.AsyncResult(QUEUE + '-patient')))"), json!(4));
    assert_eq!(site.client("emit(call('tasks.add', 3, 3))"), json!(6));
    assert!(host.stop().success());
}
