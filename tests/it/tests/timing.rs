//! Tasks that are to run later, or no later than.

use it::Site;
use serde_json::json;

on_every_engine! {
    a_task_waits_for_its_countdown_and_eta
    a_waiting_task_does_not_hold_up_others
    an_expired_task_is_revoked
}

fn a_task_waits_for_its_countdown_and_eta(site: &Site) {
    let _host = site.host(&[]);
    let code = r#"
from datetime import datetime, timedelta, timezone
started = time.time()
def waited(result):
    return [get(result), time.time() - started >= 1.5]
ahead = timedelta(seconds=1.5)
results = [
    send("tasks.add", 1, 1, countdown=1.5),
    send("tasks.add", 2, 2, eta=datetime.now(timezone.utc) + ahead),
    send("tasks.add", 3, 3, eta=datetime.now(timezone(timedelta(hours=-7))) + ahead),
]
past = get(send("tasks.add", 4, 4, eta=datetime.now(timezone.utc) - timedelta(hours=1)))
emit([waited(result) for result in results] + [past])
"#;
    assert_eq!(site.client(code), json!([[2, true], [4, true], [6, true], 8]));
}

fn a_waiting_task_does_not_hold_up_others(site: &Site) {
    // More tasks wait than the worker would fetch ahead.
    let _host = site.host(&["-c", "1", "--prefetch-multiplier", "2"]);
    let code = r#"
waiting = [send("tasks.add", n, n, countdown=45) for n in range(10)]
emit([call("tasks.add", 2, 2), [result.state for result in waiting] == ["PENDING"] * 10])
"#;
    assert_eq!(site.client(code), json!([4, true]));
}

fn an_expired_task_is_revoked(site: &Site) {
    // RabbitMQ drops expired messages that wait in the queue; these expire in the worker's hands.
    let _host = site.host(&["-c", "1"]);
    let code = r#"
from celery.exceptions import TaskRevokedError
held = send("tasks.add", 1, 1, countdown=1.5, expires=1)
busy = send("tasks.sleep", 2.0)
reserved = send("tasks.add", 2, 2, expires=1)
in_time = send("tasks.add", 3, 3, expires=60)
ends = [outcome(held), outcome(reserved)]
assert isinstance(held.result, TaskRevokedError), held.result
emit([[end["state"], end["type"], end["args"]] for end in ends] + [get(busy), get(in_time)])
"#;
    let revoked = json!(["REVOKED", "TaskRevokedError", ["expired"]]);
    assert_eq!(site.client(code), json!([revoked, revoked, 2.0, 6]));
}
