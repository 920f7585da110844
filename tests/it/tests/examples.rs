//! The stories of `examples/`, each as its README tells it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use it::http::Http;
use it::{Engine, Process, Site, settings};
use serde_json::{Value, json};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// Copies a file of an example into the site's folder.
#[track_caller]
fn take(site: &Site, example: &Path, file: &str) {
    let text = fs::read_to_string(example.join(file)).unwrap_or_else(|error| panic!("read {file}: {error}"));
    site.write(file, &text);
}

#[test]
fn a_flask_application_has_tables_read_in_rust() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let Some(tables) = settings::required_path("TASKHOST_TEST_EXAMPLES_FLASK_PRODUCER_PLUGINS_TABLES") else { return };
    let Some(python) = settings::required_path(settings::PYTHON) else { return };
    let example = example("flask-producer");
    for file in ["app.py", "host.toml", "templates/index.html", "plugins/tables/cases.jsonl"] {
        take(&site, &example, file);
    }
    site.add_plugin("tables", &tables);
    site.bare_command(&["plugin", "test", "plugins/tables"]).success();
    let host = site.start_command(&["run"]);
    host.wait_for(" ready.");
    let mut flask = Command::new(python);
    flask.args(["-E", "-s", "-u", "-m", "flask", "run", "--port", "0"]).current_dir(site.folder());
    let flask = Process::start("flask", &mut flask);
    let line = flask.wait_for("Running on http://");
    let address = line.rsplit("http://").next().expect("it was waited for").trim();
    let web = Http(address.to_owned());

    let page = web.get("/");
    assert!(page.status == 200 && page.body.contains("<form>"), "{page:?}");
    // Asks until there is an end, as the page does.
    let summarise = |table: &str| {
        let uploaded = web.post("/tables", table);
        assert_eq!(uploaded.status, 202, "{uploaded:?}");
        let uploaded: Value = serde_json::from_str(&uploaded.body).expect("the application answers in JSON");
        let location = uploaded["location"].as_str().expect("it names a path");
        let ready = web.until(location, |answer| answer.body.contains("SUCCESS") || answer.body.contains("FAILURE"));
        serde_json::from_str::<Value>(&ready.body).expect("the application answers in JSON")
    };
    let heights = fs::read_to_string(example.join("heights.csv")).expect("the example has a table");
    let numbers = json!({"least": 1.65, "most": 1.75, "mean": 1.7});
    let columns = json!([{"name": "name", "values": 3}, {"name": "height", "values": 2, "numbers": numbers}]);
    let summary = json!({"state": "SUCCESS", "summary": {"rows": 3, "columns": columns}});
    assert_eq!(summarise(&heights), summary);
    let readme = fs::read_to_string(example.join("README.md")).expect("the example has a README");
    let told = readme.lines().find_map(|line| line.trim().strip_prefix("{\"state\"")).expect("it shows an answer");
    assert_eq!(serde_json::from_str::<Value>(&format!("{{\"state\"{told}")).expect("it is JSON"), summary);

    let broken = summarise("a,b\n1,2\n1,2,3\n");
    let error = broken["error"].as_str().unwrap_or_default();
    assert!(error.starts_with("ValueError: CSV error: record 2 (line: 3, "), "{broken}");
    assert_eq!(web.get("/tables/no-id").status, 404);
}
