//! The example of a producer in TypeScript, as its README tells it: compiled, and run beside a worker.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use it::http::Http;
use it::{Engine, Process, Site, settings};
use serde_json::{Value, json};

#[test]
fn a_service_in_typescript_has_patterns_searched_for() {
    let Some(site) = Site::open(Engine::Redis) else { return };
    let Some(patterns) = settings::required_path("TASKHOST_TEST_EXAMPLES_TS_PRODUCER_PLUGINS_PATTERNS") else { return };
    let Some(modules) = settings::required_path(settings::TS_PRODUCER) else { return };
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/ts-producer");
    for file in
        ["host.toml", "package.json", "tsconfig.json", "src/main.ts", "src/tasks.ts", "plugins/patterns/cases.jsonl"]
    {
        let text = fs::read_to_string(example.join(file)).unwrap_or_else(|error| panic!("read {file}: {error}"));
        site.write(file, &text);
    }
    site.add_plugin("patterns", &patterns);
    site.bare_command(&["plugin", "test", "plugins/patterns"]).success();
    // As `npm install` would have made it.
    #[cfg(unix)]
    std::os::unix::fs::symlink(&modules, site.path("node_modules")).expect("the temporary folder is writable");
    let mut compiler = Command::new("node");
    compiler.arg(modules.join("typescript/bin/tsc")).current_dir(site.folder());
    assert!(Process::start("tsc", &mut compiler).wait().success());

    let host = site.start_command(&["run", "-b", &site.broker, "-Q", site.queue()]);
    host.wait_for_within(" ready.", it::COMPILER_PATIENCE);
    let mut service = Command::new("node");
    service.arg("dist/main.js").current_dir(site.folder()).env("PORT", "0").env("QUEUE", site.queue());
    service.env("CELERY_BROKER_URL", &site.broker).env_remove("CELERY_RESULT_BACKEND");
    let service = Process::start("main.js", &mut service);
    let line = service.wait_for("listening on http://");
    let web = Http(line.rsplit("http://").next().expect("it was waited for").trim().to_owned());
    let search = |pattern: &str, text: &str| {
        let answer = web.post(&format!("/search?pattern={pattern}"), text);
        (answer.status, serde_json::from_str::<Value>(&answer.body).expect("it answers in JSON"))
    };

    thread::scope(|scope| {
        let greedy = scope.spawn(|| search("(a%2B)%2B%24", &format!("{}b", "a".repeat(40))));
        let found = json!([{"line": 2, "text": "22"}, {"line": 3, "text": "333"}]);
        assert_eq!(search("%5Cd%2B", "one\ntwo 22\nthree 333\n"), (200, found), "while the other one is busy");
        let (status, answer) = greedy.join().expect("it asserts nothing");
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(status == 422 && error.starts_with("CpuTimeLimitExceeded: "), "{status} {answer}");
    });
    assert_eq!(search("(", "text").0, 422);
    assert_eq!(web.get("/search").status, 404);
}
