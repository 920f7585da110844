//! A task that sends its message back again and again.

use it::Site;
use serde_json::json;

on_every_engine! {
    a_task_that_always_requeues_is_slowed_down_and_holds_up_nobody
}

fn a_task_that_always_requeues_is_slowed_down_and_holds_up_nobody(site: &Site) {
    let mut host = site.host(&["-c", "2", "--set", "task.delivery_limit=none"]);
    let client = site.start_client(
        r#"
for n in range(3):
    send("tasks.reject", True)
# More of them than the worker fetches ahead would be all that it sees.
emit(sum(call("tasks.sleep", 0.05) == 0.05 for n in range(60)))
"#,
    );
    assert_eq!(client.finish(), json!(60));
    let rounds = host.lines_with("] rejected").len();
    assert!(rounds >= 4, "they come back: {rounds}");
    // Without a brake there would be hundreds in these seconds.
    assert!(rounds < 60, "the worker was busy with {rounds} requeues");
    assert!(host.stop().success());
    // Nothing is lost by that.
    let code = "until(lambda: depth() == 3, 'all are back'); emit(depth())";
    assert_eq!(site.client(code), json!(3));
}
