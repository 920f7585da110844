//! A broker that is short of memory and lets nobody publish.

use it::{Server, Site};
use serde_json::json;

#[test]
fn a_broker_that_blocks_publishers_is_waited_for_and_consuming_goes_on() {
    const RETRYING: usize = 6;
    let Some(mut rabbitmq) = Server::rabbitmq() else { return };
    let Some(site) = Site::with_broker(&rabbitmq.url) else { return };
    let host = site.host(&["-c", "8", "--set", "task.track_started=true"]);
    let client = site.start_client(&format!(
        r#"
retrying = [send("tasks.slow_flaky", 6.0 + n / 10, task_id=f"{{QUEUE}}-retrying-{{n}}") for n in range({RETRYING})]
plain = [send("tasks.sleep", 0.5) for n in range(20)]
until(lambda: all(result.state == "STARTED" for result in retrying), "they run")
emit("running")
emit(["plain", [get(result) for result in plain].count(0.5)])
emit([get(result) for result in retrying])
"#
    ));
    client.wait_for("running");
    rabbitmq.control("set_vm_memory_high_watermark 0");
    host.wait_for("blocks whoever publishes");
    // What publishes nothing goes on.
    client.wait_for(r#"["plain", 20]"#);
    // A publisher is told why, in time.
    let call = site.command(&["call", "tasks.add", "--args", "[2, 2]", "--queue", site.queue()]);
    call.refused(&["the broker is short of memory or disk and blocks whoever publishes"]);
    assert!(host.lines_with("-retrying-").iter().all(|line| !line.contains("succeeded")), "a retry was published");
    rabbitmq.control("set_vm_memory_high_watermark 0.6");
    host.wait_for("blocks publishers no longer");
    assert_eq!(client.finish(), json!(vec![1; RETRYING]));
    assert_eq!(
        site.client("until(lambda: depth() == 0, 'the queue is empty'); emit(call('tasks.flaky', 2))"),
        json!(2)
    );
    for n in 0..RETRYING {
        for ended in ["retry: ", "succeeded"] {
            let lines = host.lines_with(&format!("-retrying-{n}] {ended}"));
            assert_eq!(lines.len(), 1, "{ended} of task {n}");
        }
    }
    let queues = rabbitmq.control("list_queues name messages messages_unacknowledged");
    // Others begin with the same name, such as that of the host's mailbox.
    let ours = queues.lines().find(|line| line.starts_with(&format!("{}\t", site.queue)));
    assert_eq!(ours, Some(&*format!("{}\t0\t0", site.queue)), "a delivery was not settled:\n{queues}");
}
