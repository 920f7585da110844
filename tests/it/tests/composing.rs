//! Tasks that publish chains, groups and chords, have one run in their place, or add to the chord that they are in.

use it::{Engine, Host, Site};
use serde_json::json;

const COMPONENT: &str = "name = \"demo\"\ncomponent = \"demo.wasm\"\n[needs]\n";
const POWERS: &str = "publish = [\"tasks.*\", \"celery.starmap\", \"celery.chunks\"]\nresults = [\"own\"]";

/// What the clients build with.
const BUILD: &str = r#"
from celery import chain, chord, group
from celery.result import result_from_tuple

def s(name, *args, **options):
    return app.signature(name, args=args, options=options)

def add(*args):
    return s("tasks.add", *args)

def error(end):
    return [end["module"], end["type"], end["args"]]

def result(value):
    return get(result_from_tuple(value, app=app))
"#;

/// A worker that has the demo plugin, with the powers to call tasks by its own queue.
fn host(site: &Site, options: &[&str]) -> Host {
    site.write("plugins/demo/plugin.toml", &format!("{COMPONENT}{POWERS}\n"));
    site.write("host.toml", &format!("[grants.demo]\n{POWERS}\n"));
    let queue = format!("task.default_queue={}", site.queue());
    site.host(&[&["--set", &queue], options].concat())
}

#[track_caller]
fn check(site: &Site, code: &str, expected: serde_json::Value) {
    assert_eq!(site.client(&format!("{BUILD}{code}")), expected);
}

on_every_store! {
    a_task_publishes_any_canvas_and_returns_where_its_results_will_be
    a_task_waits_for_all_members_of_a_group
    a_canvas_runs_in_the_place_of_a_task
    a_task_adds_to_the_chord_that_it_is_in
    every_task_of_a_canvas_passes_the_gate
}

fn a_task_publishes_any_canvas_and_returns_where_its_results_will_be(site: &Site) {
    let _host = host(site, &[]);
    let code = r#"
many = add(1, 1) | add(2) | group(add(3), add(4)) | s("tasks.echo")
parent = send("tasks.apply", many)
where = get(parent)
members = []
step = where
while step is not None:
    (first, before), children = step
    members.append(children and len(children))
    step = before
both = call("tasks.apply", group(add(1, 2), add(3, 4)), kwargs={"now": True})
chunks = call("tasks.apply", {"task": "celery.chunks", "subtask_type": "chunks", "immutable": True, "args": [], "options": {},
                              "kwargs": {"task": add(), "it": [[1, 2], [3, 4], [5, 6]], "n": 2}})
emit([result(where), members, result(both), result(chunks), [child.id for child in parent.children] == [first]])
"#;
    let members = json!([null, 2, null, null]);
    check(site, code, json!([[7, 8], members, [3, 7], [[3, 7], [11]], true]));
}

fn a_task_waits_for_all_members_of_a_group(site: &Site) {
    let _host = host(site, &["-c", "3"]);
    let code = r#"
emit([call("tasks.join", group(add(1, 1), add(2, 2) | add(10), add(3, 3))), call("tasks.join", add(1, 1) | add(2)),
      call("tasks.join", chord([add(1, 1), add(2, 2)], s("tasks.echo")))])
"#;
    check(site, code, json!([[2, 14, 6], [4], [[2, 4]]]));
}

fn a_canvas_runs_in_the_place_of_a_task(site: &Site) {
    let _host = host(site, &[]);
    let code = r#"
emit([call("tasks.fan_out", "tasks.echo", [1, "two", None]), call("tasks.become", add(1, 1) | add(3)),
      get((s("tasks.become", add(1, 1) | add(2)) | add(4)).apply_async()),
      get(chord([s("tasks.become", add(1, 1) | add(2)), add(5, 5)], s("tasks.echo")).apply_async()),
      error(fails("tasks.become", chain()))])
"#;
    let empty = json!(["celery.exceptions", "ImproperlyConfigured", ["Cannot replace with an empty chain"]]);
    check(site, code, json!([[1, "two", null], 5, 8, [4, 10], empty]));
}

fn a_task_adds_to_the_chord_that_it_is_in(site: &Site) {
    let _host = host(site, &[]);
    let code = r#"
more = [add(1, 1), add(2, 2) | add(10), chord([add(1, 2), add(3, 4)], s("tasks.echo"))]
end = outcome(chord([s("tasks.extend", more, 0), add(5, 5)], s("tasks.echo")).apply_async())
emit([sorted(map(str, end["value"])) if "value" in end else [end["type"], end["args"]],
      error(fails("tasks.extend", [add(1, 1)]))])
"#;
    let none = json!(["builtins", "ValueError", ["Current task is not member of any chord"]]);
    // As with Celery, whose other stores cannot either.
    let joined = match site.engine {
        Engine::Embedded => json!(["PublishError", ["Backend does not support add_to_chord"]]),
        _ => json!(["0", "10", "14", "2", "[3, 7]"]),
    };
    check(site, code, json!([joined, none]));
}

fn every_task_of_a_canvas_passes_the_gate(site: &Site) {
    let _host = host(site, &["--set", "limits.publish=3"]);
    let code = r#"
def denied(canvas):
    return fails("tasks.apply", canvas)["args"][0].partition(":")[0]

foreign = s("mail.send")
emit([denied(add(1, 1) | foreign), denied(group(add(1, 1), foreign)), denied(chord([add(1, 1)], add() | foreign)),
      denied(chord([add(1, 1)], add().on_error(foreign))), denied(chain(add(1, 1), group(add(1), s("tasks.add", link=[foreign])))),
      denied({"task": "celery.map", "subtask_type": "xmap", "args": [], "options": {}, "kwargs": {"task": foreign, "it": [1]}}),
      fails("tasks.apply", group(add(1, 1) for _ in range(4)))["args"][0], until(lambda: depth() == 0, "an empty queue")])
"#;
    let (denied, map) = ("publish `mail.send` is denied", "publish `celery.map` is denied");
    let many = "the task would have published 4 others; limits.publish is 3";
    check(site, code, json!([denied, denied, denied, denied, denied, map, many, true]));
}
