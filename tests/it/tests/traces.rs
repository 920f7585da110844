//! Traces: what a client began goes on in the worker, in the task and in what the task calls, and a collector gets it.

use it::{Engine, Site};
use serde_json::json;

/// A client that is a collector as well. What it gets is read by OpenTelemetry's own definition, which knows no other
/// fields.
const COLLECTOR: &str = r#"
import base64, http.server, threading
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

spans, resources = [], []

class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/json"), self.path
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        for resource in body["resourceSpans"]:
            for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
                # OTLP writes ids in hexadecimal where protobuf's JSON has base 64.
                for key in {"traceId", "spanId", "parentSpanId"} & span.keys():
                    span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
        for resource in json_format.ParseDict(body, ExportTraceServiceRequest()).resource_spans:
            resources.append({item.key: item.value.string_value for item in resource.resource.attributes})
            spans.extend(span for scope in resource.scope_spans for span in scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
threading.Thread(target=server.serve_forever, daemon=True).start()
emit(f"collects at {server.server_port}")

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

def traced(flags="01"):
    return {"traceparent": f"00-{TRACE}-{CALLER}-{flags}", "tracestate": "vendor=1"}

def told(span):
    return {item.key: item.value.string_value or item.value.int_value for item in span.attributes}

def of(task):
    return [span for span in spans if told(span)["celery.task_name"] == task]

def wait_for(task, count):
    until(lambda: len(of(task)) >= count, f"{count} spans of {task}")
    return sorted(of(task), key=lambda span: span.start_time_unix_nano)
"#;

const CONFIGURATION: &str = r#"
[grants.demo]
publish = ["tasks.*"]
results = ["own"]
"#;

const MANIFEST: &str = r#"
name = "demo"
component = "demo.wasm"

[needs]
publish = ["tasks.*"]
results = ["own"]
"#;

#[test]
fn a_trace_goes_on_in_attempts_retries_and_calls_rabbitmq() {
    let Some(site) = Site::open(Engine::RabbitMqRedis) else { return };
    a_trace_goes_on(site);
}

#[test]
fn a_trace_goes_on_in_attempts_retries_and_calls_embedded() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    a_trace_goes_on(site);
}

fn a_trace_goes_on(mut site: Site) {
    let code = r#"
send("tasks.flaky", 1, headers=traced())
flaky = wait_for("tasks.flaky", 2)
request = call("tasks.request", headers=traced())
(seen,) = wait_for("tasks.request", 1)
send("tasks.fail", "no luck")
(failed,) = wait_for("tasks.fail", 1)
calls = [{"task": "tasks.noop"}]
for now in (False, True):
    send("tasks.publish", kwargs={"calls": calls, "now": now}, headers=traced())
    wait_for("tasks.noop", 1 + now)
publishers, called = wait_for("tasks.publish", 2), wait_for("tasks.noop", 2)
send("tasks.replace", {"task": "tasks.echo", "args": [1]}, headers=traced())
(replaced,), (replacement,) = wait_for("tasks.replace", 1), wait_for("tasks.echo", 1)
quiet = call("tasks.request", headers=traced("00"))
send("tasks.add", 1, 1, headers={"traceparent": "rubbish"})
(new,) = wait_for("tasks.add", 1)

emit({
    "traces": sorted({span.trace_id.hex() == TRACE for span in flaky + [seen, replaced, replacement] + publishers + called}),
    "names": sorted({span.name for span in flaky}),
    "flaky": [flaky[0].parent_span_id.hex() == CALLER, flaky[1].parent_span_id == flaky[0].span_id],
    "states": [told(span)["celery.state"] for span in flaky],
    "tracestate": sorted({span.trace_state for span in flaky}),
    "times": all(0 < span.start_time_unix_nano <= span.end_time_unix_nano for span in spans),
    "kinds": sorted({span.kind for span in spans}),
    "guest": request["headers"]["traceparent"] == f"00-{TRACE}-{seen.span_id.hex()}-01",
    "attributes": [told(seen)[key] for key in ("messaging.destination.name", "messaging.operation.type", "taskhost.plugin")],
    "message": told(seen)["messaging.message.id"] == request["id"],
    "system": told(seen)["messaging.system"],
    "failed": [failed.status.code, failed.status.message, told(failed)["error.type"], failed.events[0].name],
    "calls": [{span.parent_span_id for span in called} == {span.span_id for span in publishers}],
    "replacement": replacement.parent_span_id == replaced.span_id,
    "quiet": quiet["headers"]["traceparent"].startswith(f"00-{TRACE}-") and quiet["headers"]["traceparent"].endswith("-00"),
    "not_recorded": len(of("tasks.request")),
    "new": new.trace_id.hex() != TRACE and not new.parent_span_id,
    "resource": [resources[0]["service.name"], resources[0]["team"]],
})
"#;
    site.write("host.toml", CONFIGURATION);
    site.write("plugins/demo/plugin.toml", MANIFEST);
    let client = site.start_client(&format!("{COLLECTOR}{code}"));
    let line = client.wait_for("collects at ");
    let port = line.trim_end_matches(['"', '\n']).rsplit(' ').next().expect("the line ends with it").to_owned();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}")),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=a%20b".to_owned()),
    ];
    site.environment = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
    // Where tasks call others.
    let _host = site.host(&["--set", &format!("task.default_queue={}", site.queue)]);
    let told = client.finish();

    assert_eq!(told["traces"], json!([true]), "{told}");
    assert_eq!(told["names"], json!(["run tasks.flaky"]));
    assert_eq!((&told["flaky"], &told["states"]), (&json!([true, true]), &json!(["RETRY", "SUCCESS"])));
    assert_eq!(
        (&told["tracestate"], &told["times"], &told["kinds"]),
        (&json!(["vendor=1"]), &json!(true), &json!([5]))
    );
    assert_eq!((&told["guest"], &told["message"]), (&json!(true), &json!(true)));
    assert_eq!(told["attributes"], json!([site.queue, "process", "demo"]));
    let system = if site.engine == Engine::Embedded { "sqlite" } else { "rabbitmq" };
    assert_eq!(told["system"], system);
    assert_eq!(told["failed"], json!([2, "ValueError('no luck')", "ValueError", "exception"]));
    assert_eq!((&told["calls"], &told["replacement"]), (&json!([true]), &json!(true)));
    assert_eq!((&told["quiet"], &told["not_recorded"]), (&json!(true), &json!(1)), "a trace that nobody records");
    assert_eq!(told["new"], json!(true), "what is no trace begins one");
    assert_eq!(told["resource"], json!(["taskhost", "a b"]));
}

#[test]
fn a_collector_that_is_away_costs_no_task_and_one_with_tls_is_refused() {
    let Some(mut site) = Site::open(Engine::Embedded) else { return };
    site.environment = vec![("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), "http://127.0.0.1:1".to_owned())];
    let mut host = site.host(&["--metrics", "127.0.0.1:0"]);
    assert_eq!(site.client("emit([call('tasks.add', n, 1) for n in range(5)])"), json!([1, 2, 3, 4, 5]));
    host.wait_for("traces are lost");
    assert!(host.stop().success());
    site.bare_command(&["config", "--set", "otel.endpoint=https://collector:4318"])
        .refused(&["otel.endpoint", "no TLS"]);
}
