//! `host plugin test`: cases written beside a plugin.

use it::{Engine, Site};

const NEEDS: &str = "name = \"demo\"\ncomponent = \"demo.wasm\"\n[needs]\npublish = [\"*@*\"]\nresults = [\"any\"]\n\
                     keyvalue = [\"b\"]\nconfig = [\"region\"]\nsecrets = [\"key\"]\nfs = [\"/in\"]\n";

const GOOD: &str = r#"# What is right.
// This is as well.

{"name": "adds", "task": "tasks.add", "args": [1, 2], "result": 3.0}
{"task": "tasks.add", "kwargs": {"x": 1, "y": 2}, "result": 3}
{"task": "tasks.echo", "args": [{"a": [1, NaN], "b": "ü"}], "result": {"b": "\u00fc", "a": [1.0, NaN]}}
{"task": "tasks.add", "args": [1], "error": "TypeError"}
{"task": "tasks.add", "args": [1], "error": {"type": "builtins.TypeError", "message": "missing 1 required"}}
{"name": "takes nothing", "task": "tasks.noop", "args": [1], "error": {"message": "takes 0 positional arguments"}}
{"task": "tasks.flaky", "args": [2, 3600], "result": 2, "retries": 2}
{"task": "tasks.progress", "args": [2, 0], "states": ["PROGRESS", {"state": "PROGRESS", "meta": {"total": 2, "current": 2}}]}
{"task": "tasks.reject", "args": [true], "state": "REJECTED"}
{"task": "tasks.replace", "args": [{"task": "other.task"}], "state": "REPLACED"}
{"task": "tasks.fan_out", "args": ["tasks.flaky", [1, 0]], "result": [1, 0]}
{"task": "tasks.publish", "args": [[{"task": "other.task", "args": [1], "options": {"queue": "q"}}]], "publishes": [{"task": "other.task", "args": [1.0], "queue": "q"}]}
{"task": "tasks.publish", "args": [[{"task": "tasks.add", "args": [1, 2]}]], "publishes": ["tasks.add"], "follow": false}
{"task": "tasks.add", "args": [1, 2], "publishes": []}
{"task": "tasks.config", "args": ["region"], "config": {"region": "us"}, "result": "us"}
{"task": "tasks.config", "args": ["region"], "result": "eu"}
{"task": "tasks.secret", "args": ["key"], "secrets": {"key": "sesame"}, "result": 6}
{"task": "tasks.read", "args": ["/in/a.txt"], "grant": {"fs": ["/in=testdata"]}, "result": "text"}
{"task": "tasks.keep", "args": ["b", "increment", "n", "1"], "result": 1, "name": "keeps"}
{"task": "tasks.keep", "args": ["b", "increment", "n", "1"], "result": 1, "name": "keeps nothing of another case"}
"#;

const GRANTS: [&str; 6] =
    ["--grant", "config=region=eu", "--grant", "secrets=key=env:HOME", "--grant", "fs=/in=plugins"];

fn site(cases: &str) -> Option<Site> {
    let site = Site::open(Engine::Embedded)?;
    site.write("plugins/demo/plugin.toml", NEEDS);
    site.write("plugins/demo/cases.jsonl", cases);
    site.write("plugins/demo/testdata/a.txt", "text");
    Some(site)
}

#[test]
fn cases_that_come_out_as_they_should_are_ok() {
    let Some(site) = site(GOOD) else { return };
    let tested = site.bare_command(&[&["plugin", "test", "plugins/demo"], &GRANTS[..]].concat()).success();
    assert!(tested.out.ends_with("\n20 passed, 0 failed\n"), "{}", tested.out);
    assert_eq!(tested.out.lines().filter(|line| line.starts_with("ok      ")).count(), 20);
    assert_eq!(tested.err, "", "nothing is said about what is right");
    let filtered = site.bare_command(&[&["plugin", "test", "plugins/demo", "--filter", "keep"], &GRANTS[..]].concat());
    assert!(filtered.success().out.ends_with("\n2 passed, 0 failed, 18 left out\n"));
    assert!(!site.path("host-keyvalue.db").exists());
}

#[test]
fn a_case_that_does_not_says_what_was_expected_and_what_was_found() {
    let cases = r#"{"name": "sum", "task": "tasks.add", "args": [1, 2], "result": 4}
{"task": "tasks.echo", "args": [{"a": [1, {"b": 2}]}], "result": {"a": [1, {"b": 3}]}}
{"task": "tasks.add", "args": [1], "result": 3}
{"task": "tasks.add", "args": [1, 2], "error": "TypeError"}
{"task": "tasks.add", "args": [1], "error": {"type": "ValueError", "message": "one"}}
{"task": "tasks.flaky", "args": [1], "retries": 2}
{"task": "tasks.progress", "args": [1, 0], "states": []}
{"task": "tasks.publish", "args": [[{"task": "x.y", "options": {"queue": "q"}}]], "publishes": [{"task": "x.y", "queue": "p"}]}
{"task": "tasks.log", "args": ["a line of the log"], "result": 1}
{"name": "fine", "task": "tasks.log", "args": ["a quiet line"]}
"#;
    let Some(site) = site(cases) else { return };
    let tested = site.bare_command(&[&["plugin", "test", "plugins/demo"], &GRANTS[..]].concat());
    assert_eq!(tested.status.code(), Some(1), "{}", tested.err);
    for text in [
        "FAILED  sum\n  plugins/demo/cases.jsonl:1: tasks.add\n  expected result: 4\n  found result:    3\n",
        "differs at .a[1].b: expected 3, found 2\n",
        "cases.jsonl:3: tasks.add\n  expected SUCCESS with 3, found FAILURE\n  Traceback (most recent call last):\n",
        "expected FAILURE TypeError, found SUCCESS with 3\n",
        "expected error: ValueError with \"one\"\n  found error:    TypeError: add() missing 1 required",
        "expected 2 retries, found 1\n",
        "expected states: none\n  found states:    PROGRESS {\"current\": 1, \"total\": 1}\n",
        "differs at call 1.queue: expected \"p\", found \"q\"\n",
        "]: a line of the log\n",
        "ok      fine (",
        "\n1 passed, 9 failed\n",
    ] {
        assert!(tested.out.contains(text), "{text}\n--\n{}", tested.out);
    }
    assert!(!tested.out.contains("a quiet line"), "the log of what is right is not shown");
    let loud = site
        .bare_command(&[&["plugin", "test", "plugins/demo", "--filter", "fine", "-l", "info"], &GRANTS[..]].concat());
    assert!(loud.success().out.contains("a quiet line"), "unless somebody asks for it");
}

#[test]
fn a_mistake_in_the_cases_is_named_with_its_line() {
    let Some(site) = site("\n{\"task\": \"tasks.add\", \"resutl\": 1}\n") else { return };
    let run = || {
        let ended = site.bare_command(&[&["plugin", "test", "plugins/demo"], &GRANTS[..]].concat());
        assert_eq!(ended.status.code(), Some(2), "{}", ended.err);
        ended
    };
    run().refused(&["plugins/demo/cases.jsonl:2: a case has no `resutl`; did you mean `result`?"]);
    site.write("plugins/demo/cases.jsonl", "{\"task\": \"tasks.add\", \"args\": [1, 1]}\n{\"task\": \"tasks.ad\"}\n");
    let ended = run().refused(&["cases.jsonl:2: the plugin has no task `tasks.ad`", "did you mean `tasks.add`?"]);
    assert_eq!(ended.out, "", "nothing has run");
    site.write("plugins/demo/cases.jsonl", "# none yet\n");
    run().refused(&["cases.jsonl has no cases"]);
    std::fs::remove_file(site.path("plugins/demo/cases.jsonl")).expect("it is there");
    run().refused(&["there is no such file", "write one with a line such as {\"task\": "]);
}
