//! Result documents: what is stored beside the result, and in which form.

use it::{Engine, Site};
use serde_json::json;

on_every_engine! {
    an_extended_result_tells_what_the_call_was
    a_result_tells_what_the_task_used
    results_in_yaml_are_read_by_the_client
    results_in_msgpack_are_read_by_the_client
}

fn an_extended_result_tells_what_the_call_was(site: &Site) {
    site.write("host.toml", "[result]\nextended = true\n");
    let host = site.host(&["--set", "task.track_started=true"]);
    let code = r#"
from celery.canvas import StampingVisitor

class Stamps(StampingVisitor):
    def on_signature(self, signature, **headers):
        return {"tenant": "acme", "stamped_headers": ["tenant"]}

app.conf.result_extended = True
stamped = app.signature("tasks.add", args=(1, 2.5))
stamped.stamp(Stamps())
retried = send("tasks.flaky", 1, kwargs={"countdown": 0})
results = [retried, stamped.apply_async(), send("tasks.fail", "ü")]
[outcome(result) for result in results]
told = [[r.name, r.args, r.kwargs, r.worker, r.retries, r.queue == QUEUE] for r in results]
emit([told, results[1]._get_task_meta().get("tenant"), retried.get(), results[1].id])
"#;
    let emitted = site.client(code);
    let told = json!([
        ["tasks.flaky", [1], {"countdown": 0}, host.node, 1, true],
        ["tasks.add", [1, 2.5], {}, host.node, 0, true],
        ["tasks.fail", ["ü"], {}, host.node, 0, true],
    ]);
    assert_eq!(emitted[0], told);
    assert_eq!((&emitted[1], &emitted[2]), (&json!("acme"), &json!(1)));
    if site.engine != Engine::RabbitMqRpc {
        let shown = site.command(&["result", emitted[3].as_str().expect("an id")]).success();
        assert!(shown.out.contains("name    tasks.add\nargs    [1, 2.5]\n"), "{}", shown.out);
    }
}

fn a_result_tells_what_the_task_used(site: &Site) {
    let host = site.host(&["--set", "result.usage=true", "--set", "log.format=json"]);
    let code = r#"
results = [send("tasks.echo", "x" * 100), send("tasks.fail", "no"), send("tasks.flaky", 1, kwargs={"countdown": 0})]
ends = [outcome(results[0]), outcome(results[1]), results[2].get()]
told = [result._get_task_meta().get("usage") for result in results]
emit([[ends[0]["state"], ends[1]["type"], ends[2]], told, results[0].id])
"#;
    let emitted = site.client(code);
    assert_eq!(emitted[0], json!(["SUCCESS", "ValueError", 1]));
    // The log has it wherever the results go.
    let line = host.wait_for("Task tasks.echo[");
    let line = if line.contains("succeeded") { line } else { host.wait_for("] succeeded in ") };
    let logged: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
    assert_eq!((&logged["bytes_in"], &logged["bytes_out"]), (&json!(106), &json!(102)), "{line}");
    assert!(logged["memory"].as_u64() > Some(65536) && logged["cpu"].is_f64(), "{line}");
    if site.engine == Engine::Embedded {
        host.wait_for("has no place for what tasks used");
        assert_eq!(emitted[1], json!([null, null, null]));
        return;
    }
    for used in emitted[1].as_array().expect("a list") {
        assert!(used["memory"].as_u64() > Some(65536) && used["runtime"].is_f64() && used["cpu"].is_f64(), "{used}");
    }
    assert_eq!((&emitted[1][0]["bytes_in"], &emitted[1][0]["bytes_out"]), (&json!(106), &json!(102)));
    if site.engine != Engine::RabbitMqRpc {
        let shown = site.command(&["result", emitted[2].as_str().expect("an id")]).success();
        assert!(shown.out.contains("\"bytes_out\": 102"), "{}", shown.out);
    }
}

fn results_in_yaml_are_read_by_the_client(site: &Site) {
    results_in(
        site,
        "yaml",
        "[10**30, datetime(2026, 11, 22, 10, 32, tzinfo=timezone.utc), 1e300, -1e-7, float('inf')]",
    );
}

fn results_in_msgpack_are_read_by_the_client(site: &Site) {
    results_in(site, "msgpack", "[2**64 - 1, -(2**63), 1e300, float('inf')]");
}

/// Values go there and come back; `more` are some that this serializer alone can say.
fn results_in(site: &Site, serializer: &str, more: &str) {
    let _host = site.host(&["--set", &format!("result.serializer={serializer}"), "--set", "result.extended=true"]);
    let code = format!(
        r#"
from datetime import datetime, timezone
app.conf.update(result_serializer="{serializer}", result_accept_content=["{serializer}"], result_extended=True)
values = [
    None, True, 0, -1, 1.5, 1e16, 5e-324, "", "yes", "12", "~", "naïve ☃ \u2028 🦀\n\0", "a: b", b"bytes", b"\xff\0",
    [], {{}}, [[1, [2]]], {{"": None, "no": {{"ключ": [1.5]}}, "k" * 2000: 1}}, "x" * 100_000,
] + {more}
results = [send("tasks.echo", value) for value in values]
returned = [get(result) for result in results]
failure = send("tasks.fail", "naïve ☃", "KeyError")
end = outcome(failure)
differ = [[repr(value), repr(got)] for value, got in zip(values, returned) if repr(value) != repr(got)]
emit([differ, end["type"], end["args"], results[4].args, results[4].name, failure.traceback[:9], results[4].id])
"#
    );
    let emitted = site.client(&code);
    let expected = json!([[], "KeyError", ["naïve ☃"], [1.5], "tasks.echo", "Traceback", emitted[6]]);
    assert_eq!(emitted, expected);
    if site.engine != Engine::RabbitMqRpc {
        // Whatever this command would write itself.
        let shown = site.command(&["result", emitted[6].as_str().expect("an id")]).success();
        assert!(shown.out.contains("result  1.5\n"), "{}", shown.out);
    }
    let called = site.command(&[
        "call",
        "tasks.add",
        "--args",
        "[1, 2]",
        "--queue",
        &site.queue,
        "--wait",
        "--set",
        &format!("result.serializer={serializer}"),
    ]);
    assert_eq!(called.success().out, "3\n");
}
