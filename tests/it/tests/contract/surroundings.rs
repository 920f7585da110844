//! What a task knows about its call, what it says, and what it is lent.

use serde_json::json;

use super::Contract;

in_every_language! {
    a_task_knows_its_call
    a_task_tells_how_far_it_is
    a_task_tells_monitors_something_of_its_own
    what_a_task_says_is_in_the_log
    a_task_has_what_it_is_granted_and_nothing_else
    what_a_task_keeps_is_there_for_the_next
}

fn a_task_knows_its_call(contract: &Contract) {
    let _host = contract.host(&[]);
    let code = r#"
result = send("contract.context", time_limit=60)
known = get(result)
remaining = known.pop("remaining")
emit([known == {"id": result.id, "task": "contract.context", "retries": 0, "cancelled": False, "root_id": result.id, "queue": QUEUE},
      50 < remaining <= 60])
"#;
    contract.check(code, json!([true, true]));
}

fn a_task_tells_how_far_it_is(contract: &Contract) {
    // Every state is stored, even if the next one comes at once.
    let _host = contract.host(&["--set", "limits.state_interval=0"]);
    let code = r#"
seen = []
# Whoever waits for a result listens from then on.
result = send("contract.progress", 3, countdown=2)
value = result.get(timeout=PATIENCE, on_message=lambda message: seen.append([message["status"], message["result"]]))
refused = call("contract.report", "SUCCESS")
emit([value, seen[-2:], "SUCCESS" in refused, call("contract.report", "MINE")])
"#;
    let seen = json!([["CUSTOM", {"note": "ü"}], ["SUCCESS", 3]]);
    contract.check(code, json!([3, seen, true, null]));
}

fn a_task_tells_monitors_something_of_its_own(contract: &Contract) {
    let _host = contract.host(&["-E"]);
    let code = r#"
import threading
from celery.events.receiver import EventReceiver

ready, heard = threading.Event(), []
def run():
    class Receiver(EventReceiver):
        def on_consume_ready(self, *args, **kwargs):
            ready.set()
    with app.connection_for_read() as connection:
        Receiver(connection, handlers={"task-indexed": heard.append}, app=app).capture()
threading.Thread(target=run, daemon=True).start()
assert ready.wait(PATIENCE)
result = send("contract.event", "task-indexed")
get(result)
emit(until(lambda: [event["x"] for event in heard if event["uuid"] == result.id], "the event"))
"#;
    contract.check(code, json!([1]));
}

fn what_a_task_says_is_in_the_log(contract: &Contract) {
    let host = contract.host(&[]);
    let id = contract.site.client(r#"result = send("contract.log", "hällo"); get(result); emit(result.id)"#);
    let id = id.as_str().expect("an id");
    for (text, level) in [("warning: hällo", "WARN"), ("stdout: hällo", "INFO"), ("stderr: hällo", "")] {
        let line = host.wait_for(text);
        assert!(line.contains(id) && line.contains(level), "{line}");
    }
    let lines = host.lines_with("hällo");
    assert!(lines.iter().any(|line| !line.contains(": hällo") || line.contains("INFO")), "{lines:?}");
    assert!(lines.len() >= 4, "{lines:?}");
}

fn a_task_has_what_it_is_granted_and_nothing_else(contract: &Contract) {
    let _host = contract.host(&[]);
    let code = r#"
denied = [fails("contract.config", "colour"), fails("contract.secret", "other"), fails("contract.keep", "attic", "k", "v")]
emit([call("contract.config", "region"), call("contract.secret", "key"), [end["state"] for end in denied],
      [str(end["args"][0]) for end in denied]])
"#;
    let got = contract.site.client(code);
    assert_eq!((&got[0], &got[1], &got[2]), (&json!("eu-west"), &json!(15), &json!(vec!["FAILURE"; 3])));
    for (index, what) in ["config `colour`", "secrets `other`", "keyvalue `attic`"].into_iter().enumerate() {
        let text = got[3][index].as_str().unwrap_or_default();
        assert!(text.contains(what) && text.contains("plugin.toml"), "{text}");
    }
}

fn what_a_task_keeps_is_there_for_the_next(contract: &Contract) {
    let _host = contract.host(&[]);
    contract.check(
        r#"emit([call("contract.keep", "cache", "k", "ü"), call("contract.keep", "cache", "k", "v")])"#,
        json!([["ü", 2], ["v", 4]]),
    );
}
