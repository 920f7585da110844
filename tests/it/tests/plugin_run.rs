//! `host plugin run`: a task of a plugin with no broker and no worker.

use std::path::Path;

use it::process::Stream;
use it::{Engine, Process, Site, settings};
use serde_json::{Value, json};

/// All that a plugin can have without an operator.
const NEEDS: &str = "name = \"demo\"\ncomponent = \"demo.wasm\"\n[needs]\npublish = [\"*@*\"]\nresults = [\"any\"]\nkeyvalue = [\"b\"]\n";

fn site() -> Option<Site> {
    let site = Site::open(Engine::Embedded)?;
    site.write("plugins/demo/plugin.toml", NEEDS);
    Some(site)
}

/// What `--json` prints.
#[track_caller]
fn report(site: &Site, words: &[&str]) -> Value {
    let ended = site.bare_command(&[&["plugin", "run", "--json", "plugins/demo"], words].concat());
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}\n{}\n{}", ended.out, ended.err))
}

#[test]
fn a_task_is_run_and_its_result_stands_alone_on_stdout() {
    let Some(site) = site() else { return };
    let run = |words: &[&str]| site.bare_command(&[&["plugin", "run", "plugins/demo"], words].concat());
    let added = run(&["tasks.add", "2", "y=-3"]).success();
    assert_eq!(added.out, "-1\n");
    assert!(added.err.contains("SUCCESS in ") && added.err.contains(" ms: CPU ") && added.err.contains(" host calls"));
    assert_eq!(run(&["tasks.add", "--args", "[1]", "--kwargs", r#"{"y": 2.5}"#]).success().out, "3.5\n");
    // What Python would write passes byte for byte.
    assert_eq!(run(&["tasks.echo", r#"["\ud800", NaN, 1e300]"#]).success().out, "[\"\\ud800\", NaN, 1e300]\n");
    let logged = run(&["tasks.log", "hello"]).success();
    assert!(logged.err.contains("INFO] tasks.log[") && logged.err.contains("]: hello"), "{}", logged.err);
    // The component alone is a plugin as well, and nothing is left behind.
    let bare = site.bare_command(&["plugin", "run", "plugins/demo/demo.wasm", "tasks.add", "1", "1"]);
    assert_eq!(bare.success().out, "2\n");
    for file in ["host.db", "host-keyvalue.db"] {
        assert!(!site.path(file).exists(), "{file} was made");
    }
}

#[test]
fn an_argument_comes_from_stdin() {
    let Some(site) = site() else { return };
    let Some(binary) = settings::required_path(settings::HOST) else { return };
    let line = format!("printf '[1, 2]' | {} plugin run plugins/demo tasks.echo -", binary.display());
    let mut shell = Process::start("sh", it::host::command(Path::new("sh"), site.folder()).args(["-c", &line]));
    assert!(shell.wait().success());
    assert_eq!(shell.written(Stream::Out), "[1, 2]\n");
}

#[test]
fn a_failure_is_shown_as_python_would_and_ends_with_1() {
    let Some(site) = site() else { return };
    let run = |words: &[&str]| site.bare_command(&[&["plugin", "run", "plugins/demo"], words].concat());
    let failed = run(&["tasks.add", "1"]);
    assert_eq!((failed.status.code(), failed.out.as_str()), (Some(1), ""));
    let texts = ["Traceback (most recent call last):", "TypeError: add() missing 1 required positional argument: 'y'"];
    failed.refused(&[texts[0], texts[1], "FAILURE in "]);
    let trapped = run(&["tasks.panic"]);
    trapped.refused(&["a bug in the task", "Trap: ", "FAILURE in "]);
    run(&["tasks.spin", "--time-limit", "1"]).refused(&["TimeLimitExceeded: 1"]);
    run(&["tasks.allocate", "64", "--set", "limits.memory=8MiB"]).refused(&["MemoryLimitExceeded", "8 MiB"]);
    let rejected = run(&["tasks.reject", "true"]);
    assert_eq!(rejected.status.code(), Some(1));
    rejected.refused(&["REJECTED in "]);
}

#[test]
fn mistakes_are_named_before_anything_runs() {
    let Some(site) = site() else { return };
    let run = |words: &[&str]| {
        let ended = site.bare_command(&[&["plugin", "run"], words].concat());
        assert_eq!(ended.status.code(), Some(2), "{}", ended.err);
        ended
    };
    run(&["plugins/demo", "tasks.ad"]).refused(&["no task `tasks.ad`", "did you mean `tasks.add`?"]);
    run(&["plugins/demo", "add"]).refused(&["did you mean `tasks.add`?"]);
    run(&["plugins/demo", "quite.else"]).refused(&["it has tasks.add, "]);
    run(&["nowhere", "tasks.add"]).refused(&["nowhere: there is no such file or folder"]);
    run(&["plugins/demo", "tasks.add", "--args", "{}"]).refused(&["--args: expected a JSON array"]);
    run(&["plugins/demo", "tasks.add", "--grant", "config"]).refused(&["--grant: expected OPTION=ENTRY"]);
    run(&["plugins/demo", "tasks.add", "--grant", "confg=a=b"]).refused(&["confg"]);
    site.write("plugins/unbuilt/plugin.toml", "name = \"unbuilt\"\n[build]\nlanguage = \"rust\"\n");
    let unbuilt = site.bare_command(&["plugin", "run", "plugins/unbuilt", "t"]);
    unbuilt.refused(&["cannot load plugins/unbuilt", "host plugin build plugins/unbuilt"]);
}

#[test]
fn what_was_changed_and_not_built_runs_as_it_was_and_that_is_said() {
    let Some(site) = site() else { return };
    let run = || site.bare_command(&["plugin", "run", "plugins/demo", "tasks.add", "1", "1"]).success();
    assert!(!run().err.contains("warning"), "it does not say how it is built");
    site.write("plugins/demo/plugin.toml", &format!("{NEEDS}[build]\nlanguage = \"rust\"\n"));
    let stale = run();
    let warning = "warning: plugin.toml is newer than the component; to build it: host plugin build plugins/demo\n";
    assert!(stale.err.contains(warning), "{}", stale.err);
}

#[test]
fn retries_do_not_wait_and_are_counted() {
    let Some(site) = site() else { return };
    let told = site.bare_command(&["plugin", "run", "plugins/demo", "tasks.flaky", "2", "3600"]).success();
    assert_eq!(told.out, "2\n");
    for text in ["ConnectionError: attempt 1 of 3", "retry 2 in 3600 s, at once here", "after 2 retries"] {
        assert!(told.err.contains(text), "{text}: {}", told.err);
    }
    let waited = site.bare_command(&["plugin", "run", "--wait", "plugins/demo", "tasks.flaky", "1", "0.2"]).success();
    assert!(waited.err.contains("retry 1 in 0.2 s\n"), "{}", waited.err);
    let exhausted = report(&site, &["tasks.unsteady", "5"]);
    assert_eq!((&exhausted["state"], &exhausted["retries"]), (&json!("FAILURE"), &json!(2)));
    assert_eq!(exhausted["result"]["exc_type"], json!("ConnectionError"));
    // One that retries for ever is stopped.
    let endless = site.bare_command(&["plugin", "run", "plugins/demo", "tasks.flaky", "1000000"]);
    endless.refused(&["not run: more came of one call than is reasonable", "RETRY"]);
}

#[test]
fn what_a_task_calls_is_run_if_the_plugin_has_it_and_shown_in_any_case() {
    let Some(site) = site() else { return };
    let calls = r#"[{"task": "tasks.add", "args": [1, 2]},
                    {"task": "other.task", "args": ["x"], "options": {"queue": "q", "countdown": 5}}]"#;
    let told = site.bare_command(&["plugin", "run", "plugins/demo", "tasks.publish", calls]).success();
    for text in [
        "called(1, 2) by queue celery\n",
        "called('x') by queue q, not run: this plugin does not have it",
        "SUCCESS in ",
        "host calls: 3\n",
    ] {
        assert!(told.err.contains(text), "{text}: {}", told.err);
    }
    let told = report(&site, &["tasks.publish", calls, "--no-follow"]);
    let called: Vec<_> = told["calls"].as_array().expect("a list").iter().map(|call| &call["run"]).collect();
    assert_eq!(called, [false, false]);
    assert_eq!(told["calls"][1]["queue"], json!("q"));
    assert_eq!(told["calls"][1]["countdown"], json!(5.0));
    // Nothing is called by a task that fails.
    let failed = report(&site, &["tasks.publish", calls, "fail=true"]);
    assert_eq!((&failed["state"], &failed["calls"]), (&json!("FAILURE"), &json!([])));
    let replaced = report(&site, &["tasks.replace", r#"{"task": "other.task"}"#]);
    assert_eq!((&replaced["state"], &replaced["result"]), (&json!("REPLACED"), &Value::Null));
}

#[test]
fn a_canvas_runs_to_its_end() {
    let Some(site) = site() else { return };
    let fanned = report(&site, &["tasks.fan_out", "tasks.flaky", "[1, 0, 2]"]);
    assert_eq!((&fanned["state"], &fanned["result"]), (&json!("SUCCESS"), &json!([1, 0, 2])));
    let waited = report(&site, &["tasks.relay", r#"{"task": "tasks.add", "args": [20, 22]}"#]);
    assert_eq!(waited["result"], json!(42));
    let chord = json!({
        "task": "celery.chord", "args": [], "options": {}, "subtask_type": "chord",
        "kwargs": {
            "header": [
                {"task": "tasks.add", "args": [1, 2], "kwargs": {}, "options": {}},
                {"task": "tasks.add", "args": [3, 4], "kwargs": {}, "options": {}},
            ],
            "body": {"task": "tasks.echo", "args": [], "kwargs": {}, "options": {}},
        },
    });
    let became = report(&site, &["tasks.become", &chord.to_string()]);
    assert_eq!((&became["state"], &became["result"]), (&json!("SUCCESS"), &json!([3, 7])));
}

#[test]
fn states_events_and_values_are_shown_and_stay_here() {
    let Some(site) = site() else { return };
    let counted = report(&site, &["tasks.progress", "3", "0"]);
    let states = json!([1, 2, 3].map(|n| json!({"state": "PROGRESS", "meta": {"current": n, "total": 3}})));
    assert_eq!(counted["states"], states);
    let announced = report(&site, &["tasks.announce", "task-indexed", r#"{"pages": 3}"#]);
    assert_eq!(announced["events"], json!([{"type": "task-indexed", "fields": {"pages": 3}}]));
    assert_eq!(report(&site, &["tasks.keep", "b", "increment", "n", "text=\"2\""])["result"], json!(2));
    assert!(!site.path("host-keyvalue.db").exists());
}

#[test]
fn what_reaches_out_has_to_be_granted() {
    let Some(site) = site() else { return };
    site.write("plugins/demo/plugin.toml", &format!("{NEEDS}config = [\"region\"]\nfs = [\"/in\"]\n"));
    site.write("data/a.txt", "text");
    let run = ["plugin", "run", "plugins/demo", "tasks.config", "region"];
    let refused = site.bare_command(&run);
    refused.refused(&["config `region`", "fs `/in`", "not granted", "for this command alone: --grant"]);
    let granted = ["--grant", "config=region=eu", "--grant", "fs=/in=data"];
    assert_eq!(site.bare_command(&[&run[..], &granted].concat()).success().out, "\"eu\"\n");
    let read = ["plugin", "run", "plugins/demo", "tasks.read", "/in/a.txt"];
    assert_eq!(site.bare_command(&[&read[..], &granted].concat()).success().out, "\"text\"\n");
    // Whoever grants anything grants all.
    let folder = site.path("data");
    site.write("host.toml", &format!("[grants.demo]\nconfig = [\"region=us\"]\nfs = [\"/in={}\"]\n", folder.display()));
    site.bare_command(&run).refused(&["publish `*@*`", "not granted"]);
}

#[test]
fn ctrl_c_ends_it() {
    let Some(site) = site() else { return };
    let mut process = site.start_command(&["plugin", "run", "plugins/demo", "tasks.progress", "1", "0", "600"]);
    process.wait_for("PROGRESS ");
    process.signal("INT");
    assert_eq!(process.wait().code(), Some(130));
    assert!(process.written(Stream::Err).contains("INTERRUPTED in "));
}
