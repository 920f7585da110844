//! The plugin `webhook`, against a server of its own; and `examples/rest`, which calls it.

use std::path::Path;
use std::process::Command;

use it::process::Stream;
use it::{Engine, Host, Process, Site, settings};
use serde_json::json;

const NEEDS: &str = "[needs]\nhttp = [\"http://127.0.0.1:*\"]\nsecrets = [\"hook\"]\n";
const GRANT: &str =
    "[grants.webhook]\nhttp = [\"http://127.0.0.1:*\"]\nnetworks = [\"loopback\"]\nsecrets = [\"hook=env:HOOK\"]\n";

/// A worker with the plugin, which may call this machine; none if something is lacking.
fn site() -> Option<(Site, Host)> {
    let component = settings::required_path("TASKHOST_TEST_WEBHOOK")?;
    let mut site = Site::open(Engine::Embedded)?;
    let manifest = std::fs::read_to_string(component.with_file_name("plugin.toml")).expect("it has a manifest");
    let (head, limits) = manifest.split_once("[needs]").expect("it declares what it needs");
    let limits = limits.split_once("[limits]").expect("it has limits").1;
    site.write("plugins/webhook/plugin.toml", &format!("{head}{NEEDS}[limits]{limits}"));
    std::fs::copy(component, site.path("plugins/webhook/webhook.wasm")).expect("the temporary folder is writable");
    site.write("host.toml", GRANT);
    site.environment.push(("HOOK".to_owned(), "s3cret".to_owned()));
    let host = site.host(&[]);
    Some((site, host))
}

/// Remembers what it is sent, and answers as the path says.
const SERVER: &str = r#"
import http.server, json, threading
seen = []
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        seen.append({"method": self.command, "path": self.path, "body": body, "headers": {k.lower(): v for k, v in self.headers.items()}})
        path = self.path.split("?")[0]
        status, headers, text = 200, {"content-type": "application/json"}, json.dumps({"echo": body})
        if path == "/text":
            headers, text = {"content-type": "text/plain; charset=utf-8"}, "grüezi"
        elif path == "/none":
            status, text = 204, ""
        elif path == "/missing":
            status, headers, text = 404, {}, "no such hook"
        elif path == "/busy" and sum(one["path"].startswith("/busy") for one in seen) < 3:
            status, headers, text = 503, {"retry-after": "0"}, "later"
        elif path == "/down":
            status, headers, text = 500, {"retry-after": "0"}, "broken"
        elif path == "/moved":
            status, headers, text = 302, {"location": "/none"}, ""
        elif path == "/large":
            text = json.dumps("x" * 2_000_000)
        elif path == "/multiply":
            x, y = (int(part.split("=")[1]) for part in (self.path.split("?")[1] if "?" in self.path else body).split("&"))
            text = json.dumps({"status": "success", "retval": x * y})
        elif path == "/refuse":
            text = json.dumps({"status": "failure", "reason": "not today"})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", len(text.encode()))
        self.end_headers()
        self.wfile.write(text.encode())
    do_GET = do_POST = do_PUT = answer
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_port}"
def error(path, **kwargs):
    end = fails("webhook.call", base + path, kwargs=kwargs)
    return [end["state"], end["type"], str(end["args"][0]).replace(base, "BASE"), end["args"][1:]]
"#;

#[test]
fn data_is_sent_and_the_answer_comes_back() {
    let Some((site, _host)) = site() else { return };
    let code = r#"
hook = base + "/hook?token=t"
result = send("webhook.call", hook, {"order": 7, "großes": 10**30})
sent = json.dumps({"order": 7, "großes": 10**30})
same = json.loads(get(result)["echo"]) == json.loads(sent)
head = seen[0]["headers"]
first = [seen[0]["method"], seen[0]["path"], head["content-type"], head["idempotency-key"] == result.id, same]
form = call("webhook.call", hook, {"a": [1, "ü"], "b": None}, kwargs={"encoding": "form", "headers": {"Authorization": {"secret": "hook", "prefix": "Bearer "}}})
query = call("webhook.call", base + "/hook?x=1", {"q": "a b"}, "GET")
emit([first, form, seen[1]["headers"]["authorization"], seen[2]["path"], call("webhook.call", base + "/text"), call("webhook.call", base + "/none"),
      call("webhook.call", base + "/missing", kwargs={"expect": [404], "answer": "response"})["body"]])
"#;
    let got = site.client(&format!("{SERVER}{code}"));
    let expected = json!([
        ["POST", "/hook?token=t", "application/json", true, true],
        {"echo": "a=1&a=%C3%BC&b="},
        "Bearer s3cret",
        "/hook?x=1&q=a+b",
        "grüezi",
        null,
        "no such hook"
    ]);
    assert_eq!(got, expected);
}

#[test]
fn what_may_pass_is_tried_again_and_what_may_not_fails() {
    let Some((site, _host)) = site() else { return };
    let code = r#"
busy = call("webhook.call", base + "/busy", {"n": 1})
tries = [(one["body"], one["headers"]["x-task-retries"]) for one in seen]
ids = {one["headers"]["idempotency-key"] for one in seen}
emit([busy, tries, len(ids), error("/missing?token=t"), error("/down"), sum(one["path"] == "/down" for one in seen), error("/moved")[2], error("/large")[1:3]])
"#;
    let got = site.client(&format!("{SERVER}{code}"));
    let body = "{\"n\": 1}";
    assert_eq!(got[0], json!({"echo": body}));
    assert_eq!((&got[1], &got[2]), (&json!([[body, "0"], [body, "1"], [body, "2"]]), &json!(1)));
    let missing = "POST BASE/missing?.. answered 404: no such hook";
    assert_eq!(got[3], json!(["FAILURE", "WebhookError", missing, [404]]));
    assert_eq!(got[4], json!(["FAILURE", "WebhookError", "POST BASE/down answered 500: broken", [500]]));
    assert_eq!(got[5], json!(6), "the first try and five more");
    assert_eq!(got[6], json!("POST BASE/moved answered 302: nothing"));
    assert!(got[7][1].as_str().is_some_and(|text| text.contains("BASE/large")), "{got}");
}

#[test]
fn only_servers_that_were_granted_are_called() {
    let Some((site, _host)) = site() else { return };
    let code = r#"emit(fails("webhook.call", "http://example.com/x", {"a": 1}))"#;
    let got = site.client(code);
    assert_eq!((&got["state"], &got["type"]), (&json!("FAILURE"), &json!("HttpError")), "{got}");
    let text = got["args"][0].as_str().expect("a text");
    assert!(text.contains("http `http://example.com` is denied") && text.contains("plugin.toml"), "{text}");
}

#[test]
fn servers_of_celerys_http_dispatch_are_understood() {
    let Some((site, _host)) = site() else { return };
    let code = r#"
refused = fails("webhook.dispatch", base + "/refuse")
emit([call("webhook.dispatch", base + "/multiply", kwargs={"x": 10, "y": 12}), call("webhook.dispatch", base + "/multiply", "POST", kwargs={"x": 2, "y": 3}),
      [refused["type"], refused["args"][0]]])
"#;
    assert_eq!(site.client(&format!("{SERVER}{code}")), json!([120, 6, ["RemoteError", "not today"]]));
}

#[test]
fn the_example_of_rest_tasks_does_what_its_readme_says() {
    let Some(rates) = settings::required_path("TASKHOST_TEST_EXAMPLES_REST_PLUGINS_RATES") else { return };
    let Some(webhook) = settings::required_path("TASKHOST_TEST_WEBHOOK") else { return };
    let Some(python) = settings::required_path(settings::PYTHON) else { return };
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/rest");
    let read =
        |file: &Path| std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let start = |name: &str, arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = Command::new(&python);
        command.args(["-E", "-s", "-u"]).arg(folder.join(name)).args(arguments).current_dir(site.folder());
        Process::start(name, command.envs(environment.iter().copied()))
    };
    let service = start("service.py", &["0"], &[]);
    let line = service.wait_for("service at http://");
    let address = line.rsplit("http://").next().expect("it was waited for").trim().to_owned();
    // As the README tells it, but for the port, which may be taken.
    let here = |text: String| {
        text.replace("https://hooks.example.com", "http://127.0.0.1:8099").replace("127.0.0.1:8099", &address)
    };
    std::fs::remove_dir_all(site.path("plugins/demo")).expect("the demo plugin is there");
    for (name, component) in [("rates", &rates), ("webhook", &webhook)] {
        site.add_plugin(name, component);
        site.write(&format!("plugins/{name}/plugin.toml"), &here(read(&component.with_file_name("plugin.toml"))));
    }
    site.write("host.toml", &here(read(&folder.join("host.toml"))));
    let host = site.start_command(&["run"]);
    host.wait_for(" ready.");
    let mut client = start("convert.py", &[], &[("SERVICE", &format!("http://{address}"))]);
    assert!(client.wait().success());
    let readme = read(&folder.join("README.md"));
    let (_, told) = readme.split_once("```\n100 USD").expect("the README shows what comes of it");
    let told = format!("100 USD{}", told.split_once("```").expect("the block ends").0);
    let written = client.written(Stream::Out);
    assert_eq!(written.lines().count(), told.lines().count(), "{written}");
    for (line, told) in written.lines().zip(told.lines()) {
        assert!(line.starts_with(told.trim_end_matches(" ..")), "{line}\n{told}");
    }
    service.wait_for("inbox: {\"USD\":0.92,\"CHF\":1.07}");
    assert!(readme.contains("`inbox: {\"USD\":0.92,\"CHF\":1.07}`"), "the README tells that too");
}
