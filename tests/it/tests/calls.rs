//! Tasks that call other tasks, have one run in their place, or wait for one.

use it::{Engine, Host, Site};
use serde_json::json;

const COMPONENT: &str = "name = \"demo\"\ncomponent = \"demo.wasm\"\n[needs]\n";

/// Gives the demo plugin these powers.
fn empower(site: &Site, powers: &str) {
    site.write("plugins/demo/plugin.toml", &format!("{COMPONENT}{powers}\n"));
    site.write("host.toml", &format!("[grants.demo]\n{powers}\n"));
}

/// A worker whose tasks call others by its own queue unless they say otherwise.
fn host(site: &Site, options: &[&str]) -> Host {
    let queue = format!("task.default_queue={}", site.queue());
    site.host(&[&["--set", &queue], options].concat())
}

mod everywhere {
    on_every_engine! {
        a_replaced_task_gives_its_client_the_result_of_the_other
    }
    use super::*;

    fn a_replaced_task_gives_its_client_the_result_of_the_other(site: &Site) {
        empower(site, "publish = [\"tasks.*\"]");
        let host = host(site, &[]);
        let code = r#"
first = send("tasks.replace", {"task": "tasks.request"})
facts = get(first)
emit([facts["id"] == first.id, facts["root_id"] == first.id, facts["parent_id"], facts["replaced_task_nesting"],
      call("tasks.replace", {"task": "tasks.add", "args": [2, 3]})])
"#;
        assert_eq!(site.client(code), json!([true, true, null, 1, 5]));
        host.wait_for("] ignored");
    }
}

on_every_store! {
    a_task_calls_others_that_are_its_children
    a_task_that_fails_calls_nobody_unless_it_did_so_at_once
    what_is_called_again_after_a_crash_has_the_same_id_and_runs_once
    a_task_waits_for_one_that_it_called
}

fn a_task_calls_others_that_are_its_children(site: &Site) {
    empower(site, "publish = [\"tasks.*\", \"tasks.add@*\"]");
    let _host = host(site, &[]);
    let code = r#"
parent = send("tasks.publish", [{"task": "tasks.request"}, {"task": "tasks.add", "args": [2, 3], "options": {"queue": QUEUE}}])
ids = get(parent)
facts, total = [get(app.AsyncResult(id)) for id in ids]
same = [facts["id"] == ids[0], facts["root_id"] == parent.id, facts["parent_id"] == parent.id]
grandchild = send("tasks.publish", [{"task": "tasks.publish", "args": [[{"task": "tasks.request"}]]}])
middle = get(grandchild)[0]
facts = get(app.AsyncResult(get(app.AsyncResult(middle))[0]))
emit([same, total, facts["root_id"] == grandchild.id, facts["parent_id"] == middle])
"#;
    assert_eq!(site.client(code), json!([[true, true, true], 5, true, true]));
}

fn a_task_that_fails_calls_nobody_unless_it_did_so_at_once(site: &Site) {
    empower(site, "publish = [\"tasks.*\"]");
    let _host = host(site, &["-c", "1"]);
    // With one slot, a call would have been run before the task that is sent afterwards.
    let code = r#"
end = fails("tasks.publish", [{"task": "tasks.add", "args": [2, 3]}], kwargs={"fail": True})
call("tasks.add", 1, 1)
at_once = fails("tasks.publish", [{"task": "tasks.add", "args": [2, 3]}], kwargs={"fail": True, "now": True})
emit([end["type"], app.AsyncResult(end["args"][0]).state, get(app.AsyncResult(at_once["args"][0])),
      until(lambda: depth() == 0, "an empty queue")])
"#;
    assert_eq!(site.client(code), json!(["ValueError", "PENDING", 5, true]));
}

fn what_is_called_again_after_a_crash_has_the_same_id_and_runs_once(site: &Site) {
    empower(site, "publish = [\"tasks.*\"]");
    let options = ["-c", "2"];
    let mut first = host(site, &options);
    let client = site.start_client(
        r#"
emit("go")
emit(call("tasks.publish", [{"task": "tasks.log", "args": ["here I am"]}], kwargs={"now": True, "pause": 3}))
"#,
    );
    let called = |host: &Host| {
        let line = host.wait_for("made calls ");
        line.split_once("made calls ")
            .expect("it was waited for")
            .1
            .split_whitespace()
            .next()
            .expect("an id")
            .to_owned()
    };
    let id = called(&first);
    first.wait_for(&format!("[{id}] succeeded in "));
    first.kill();
    let second = host(site, &options);
    assert_eq!(called(&second), id);
    assert_eq!(client.finish(), json!([id]));
    // Whatever was published twice has been looked at before this one is done.
    site.client("emit(call('tasks.add', 1, 1))");
    site.client("emit(until(lambda: depth() == 0, 'an empty queue'))");
    assert_eq!(second.transcript().matches("here I am").count(), 0, "it ran again");
}

fn a_task_waits_for_one_that_it_called(site: &Site) {
    empower(site, "publish = [\"tasks.*\"]\nresults = [\"own\"]");
    let _host = host(site, &["-c", "3"]);
    let code = r#"
foreign = send("tasks.add", 1, 1)
get(foreign)
own = call("tasks.relay", {"task": "tasks.sleep", "args": [0.3]})
failed = call("tasks.relay", {"task": "tasks.fail"})
never = fails("tasks.relay", {"task": "tasks.add", "args": [1, 1]}, kwargs={"now": False})
late = fails("tasks.relay", {"task": "tasks.sleep", "args": [2]}, kwargs={"timeout": 0.2})
nobody = fails("tasks.result", foreign.id)
emit([own, failed["exc_type"], never["args"][0].partition(" is ")[2], late["args"][0].partition(" was ")[2],
      nobody["args"][0].replace(foreign.id, "ID")])
"#;
    let never =
        "published when this one has succeeded, so waiting for it would never end; publish it with `immediately`";
    let nobody = "task ID is not known to descend from this one; results `any` is denied: the plugin does not declare it; \
                  add `results = [\"any\"]` to [needs] of plugin.toml and grant it in [grants.\"demo\"] of host.toml";
    assert_eq!(site.client(code), json!([0.3, "ValueError", never, "not done after 0.2 s", nobody]));
}

#[test]
fn a_call_that_is_not_granted_is_denied_with_the_line_to_add() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    empower(&site, "publish = [\"tasks.add\"]");
    let _host = host(&site, &["--set", "limits.publish=2"]);
    let code = r#"
def denied(*calls):
    return fails("tasks.publish", list(calls))["args"][0]

add = {"task": "tasks.add", "args": [1, 1]}
emit([
    denied(add, {"task": "tasks.noop"}),
    denied(dict(add, options={"queue": "other"})),
    denied(dict(add, options={"link": {"task": "tasks.noop"}})),
    denied({"task": "celery.group"}),
    denied(add, add, add),
    fails("tasks.replace", {"task": "tasks.noop"})["args"][0],
    fails("tasks.result", "x")["args"][0],
    until(lambda: depth() == 0, "an empty queue"),
])
"#;
    let denied = |option: &str, name: &str| {
        format!(
            "{option} `{name}` is denied: the plugin does not declare it; add `{option} = [\"{name}\"]` to [needs] of \
             plugin.toml and grant it in [grants.\"demo\"] of host.toml"
        )
    };
    let expected = json!([
        denied("publish", "tasks.noop"),
        denied("publish", "tasks.add@other"),
        denied("publish", "tasks.noop"),
        "task `celery.group` calls what is in its arguments: only as an immutable signature with it under `kwargs.task`",
        "the task has published 2 others; limits.publish is 2",
        denied("publish", "tasks.noop"),
        denied("results", "own"),
        true,
    ]);
    assert_eq!(site.client(code), expected);
}

#[test]
fn a_plugin_that_wants_to_call_more_than_it_is_granted_is_refused() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    site.write("plugins/demo/plugin.toml", &format!("{COMPONENT}publish = [\"tasks.*\", \"mail.send\"]\n"));
    site.write("host.toml", "[grants.demo]\npublish = [\"mail.*\"]\n");
    let checked = site.bare_command(&["plugin", "check", "plugins/demo"]);
    let line =
        "it declares publish `tasks.*`, not granted: add `publish = [\"tasks.*\"]` to [grants.\"demo\"] of host.toml";
    for text in ["publish `mail.send`  declared and granted", "publish `tasks.*`    declared, NOT GRANTED", line] {
        assert!(checked.out.contains(text), "no `{text}` in\n{}", checked.out);
    }
    site.bare_command(&["plugin", "grant", "demo", "-f"]).success();
    let written = std::fs::read_to_string(site.path("host.toml")).expect("it is there");
    assert!(written.contains("\"tasks.*\""), "{written}");
    let listed = site.bare_command(&["plugin", "list", "--plugins", "plugins"]).success();
    assert!(
        listed.out.contains("its calls of other tasks are granted to whatever file has the name"),
        "{}",
        listed.out
    );
}
