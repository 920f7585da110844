//! Arguments and results: what a client sends is what a task gets, and what it returns is what the client gets.

use it::Site;
use serde_json::json;

on_every_engine! {
    a_sum_comes_back
    values_come_back_unchanged
    numbers_survive_a_task_that_takes_them_as_its_own
    a_megabyte_comes_back
    the_client_chooses_the_task_id
    an_ignored_result_is_not_stored
    a_started_task_is_seen
    a_task_knows_its_request
    output_of_a_task_is_logged_with_its_name_and_id
}

fn a_sum_comes_back(site: &Site) {
    let _host = site.host(&[]);
    assert_eq!(site.client("emit(call('tasks.add', 2, 2))"), json!(4));
}

fn values_come_back_unchanged(site: &Site) {
    let _host = site.host(&[]);
    // The representation tells 1 from 1.0 and True, and shows NaN equal to itself.
    let code = r#"
from datetime import datetime, timezone
from decimal import Decimal
from uuid import UUID

values = [
    None, True, False,
    0, -1, 2**53 + 1, -2**63, 2**64, 10**299 + 7, -(10**300),
    0.1, 1.0, -0.0, 1e-300, 5e-324, 1.7976931348623157e308, float("nan"), float("inf"), float("-inf"),
    "", "\0", "line\nbreak", "quote\" back\\slash", "naïve ☃ \u2028 🦀", "\ud83e", "</script>",
    [], {}, [[[]]], {"": None}, {"ключ": ["värde", {"深": 1.5}]},
    datetime(2024, 5, 17, 12, 30, tzinfo=timezone.utc), Decimal("1.10"), UUID(int=5),
]
results = [send("tasks.echo", value) for value in values]
returned = [get(result) for result in results]
emit([[repr(value), repr(got)] for value, got in zip(values, returned) if repr(value) != repr(got)])
"#;
    assert_eq!(site.client(code), json!([]), "pairs of sent and received that differ");
}

fn numbers_survive_a_task_that_takes_them_as_its_own(site: &Site) {
    let _host = site.host(&[]);
    let code = r#"
numbers = [n * 1e-6 + 0.01 for n in range(0, 1000, 20)] + [0.1, 1e-300, 1.7976931348623157e308, 2**53 + 1, -2**63, 2**63 - 1]
results = [send("tasks.add", number, 0) for number in numbers]
sums = [get(result) for result in results]
emit([[repr(number), repr(total)] for number, total in zip(numbers, sums) if repr(number) != repr(total)])
"#;
    assert_eq!(site.client(code), json!([]), "pairs of sent and received that differ");
}

fn a_megabyte_comes_back(site: &Site) {
    let _host = site.host(&[]);
    let code = r#"
payload = "0123456789abcdef" * 65536
emit([call("tasks.echo", payload) == payload, call("tasks.echo", kwargs={"payload": [payload]}) == [payload]])
"#;
    assert_eq!(site.client(code), json!([true, true]));
}

fn the_client_chooses_the_task_id(site: &Site) {
    let _host = site.host(&[]);
    let code = r#"
result = send("tasks.add", 1, 2, task_id="order 66/ü")
emit([result.id, get(result)])
"#;
    assert_eq!(site.client(code), json!(["order 66/ü", 3]));
}

fn an_ignored_result_is_not_stored(site: &Site) {
    let host = site.host(&[]);
    let code = r#"
result = send("tasks.add", 1, 2, ignore_result=True)
call("tasks.add", 2, 2)
emit(result.id)
"#;
    let id = site.client(code);
    let id = id.as_str().expect("an id");
    host.wait_for(&format!("Task tasks.add[{id}] succeeded"));
    assert_eq!(site.client(&format!("emit(app.AsyncResult('{id}').state)")), json!("PENDING"));
}

fn a_started_task_is_seen(site: &Site) {
    let host = site.host(&["--set", "task.track_started=true"]);
    let code = r#"
result = send("tasks.sleep", 1.5)
until(lambda: result.state == "STARTED", "the task has started")
info = dict(result.info)
emit([info["hostname"], type(info["pid"]).__name__, get(result)])
"#;
    assert_eq!(site.client(code), json!([host.node, "int", 1.5]));
}

fn a_task_knows_its_request(site: &Site) {
    let host = site.host(&[]);
    let code = r#"
import re
result = send("tasks.request", priority=3, headers={"colour": "red"})
request = get(result)
emit({
    "id": request["id"] == result.id,
    "root_id": request["root_id"] == result.id,
    "correlation_id": request["correlation_id"] == result.id,
    "origin": request["origin"] == f"gen{os.getpid()}@{os.uname().nodename}",
    "task": request["task"],
    "retries": request["retries"],
    "hostname": request["hostname"],
    "routing_key": request["delivery_info"]["routing_key"] == QUEUE,
    "redelivered": bool(request["delivery_info"]["redelivered"]),
    "colour": request["headers"]["colour"],
})
"#;
    let expected = json!({
        "id": true, "root_id": true, "correlation_id": true, "origin": true, "task": "tasks.request", "retries": 0,
        "hostname": host.node, "routing_key": true, "redelivered": false, "colour": "red",
    });
    assert_eq!(site.client(code), expected);
}

fn output_of_a_task_is_logged_with_its_name_and_id(site: &Site) {
    let host = site.host(&[]);
    let code = r#"
results = [send("tasks.log", "a line from inside"), send("tasks.log", "a complaint from inside", True)]
[get(result) for result in results]
emit([result.id for result in results])
"#;
    let ids = site.client(code);
    for (index, text) in ["a line from inside", "a complaint from inside"].iter().enumerate() {
        let line = host.wait_for(text);
        let id = ids[index].as_str().expect("an id");
        assert!(line.contains("tasks.log") && line.contains(id), "no name or no id in: {line}");
    }
}
