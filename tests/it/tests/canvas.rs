//! Chains, groups, chords and their callbacks, composed by a Python client and carried on by the host.

use it::{Engine, Host, Site};
use serde_json::json;

/// What all of these scenarios build with.
const NAMES: &str = r#"
from celery import chain, chord, group
from celery.result import AsyncResult
def s(name, *args, **options): return app.signature(name, args=args, app=app, **options)
def add(*args, **options): return s("tasks.add", *args, **options)
def fail(*args, **options): return s("tasks.fail", *args, **options)
def collect(**options): return s("celery.accumulate", **options)
"#;

/// What follows a task goes to the same queue, if it names no other.
fn host(site: &Site, concurrency: &str) -> Host {
    let queue = format!("task.default_queue={}", site.queue());
    site.host(&["-c", concurrency, "--set", &queue])
}

on_every_store! {
    each_step_of_a_chain_gets_the_result_of_the_one_before
    callbacks_and_errbacks_are_called
    the_body_of_a_chord_gets_the_results_of_its_header
    a_failure_fails_the_chain_behind_it_and_the_chord_around_it
    a_group_with_something_behind_it_is_a_chord
    a_member_that_is_revoked_fails_its_chord
}

fn each_step_of_a_chain_gets_the_result_of_the_one_before(site: &Site) {
    let _host = host(site, "1");
    let said = site.client(&format!(
        r#"{NAMES}
result = chain(add(1, 1), add(10), add(100, 2, immutable=True), chain(add(1000), add(10000))).delay()
emit([get(result), [get(step) for step in (result.parent, result.parent.parent, result.parent.parent.parent)],
      [AsyncResult(result.parent.parent.id, app=app).children[0].id == result.parent.id]])"#
    ));
    assert_eq!(said, json!([11102, [1102, 102, 12], [true]]));
}

fn callbacks_and_errbacks_are_called(site: &Site) {
    let _host = host(site, "1");
    let said = site.client(&format!(
        r#"{NAMES}
one, other, third = (collect().set(task_id=f"{{QUEUE}}-{{n}}") for n in range(3))
good = add(1, 1).set(link=[one, group(other)]).delay()
emitted = [get(good), get(AsyncResult(one.id, app=app)), get(AsyncResult(other.id, app=app))]
bad = fail("no").set(link_error=third).delay()
emitted += [outcome(bad)["args"], get(AsyncResult(third.id, app=app)) == [bad.id]]
emit(emitted)"#
    ));
    assert_eq!(said, json!([2, [2], [2], ["no"], true]));
}

fn the_body_of_a_chord_gets_the_results_of_its_header(site: &Site) {
    let _host = host(site, "4");
    let said = site.client(&format!(
        r#"{NAMES}
plain = chord([add(n, n) for n in range(20)])(collect())
chained = chord([add(1, 1) | add(1), group(add(2, 2), add(3, 3)), chord([add(4, 4), add(5, 5)], collect())])(collect() | collect())
empty = chord([])(collect())
emit([get(plain), get(chained), get(empty)])"#
    ));
    // Celery's client turns the members of a group in a header round.
    let chained = json!([[[3, 6, 4, [[8, 10]]]]]);
    assert_eq!(said, json!([[(0..20).map(|n| 2 * n).collect::<Vec<_>>()], chained, [[]]]));
}

fn a_failure_fails_the_chain_behind_it_and_the_chord_around_it(site: &Site) {
    let _host = host(site, "2");
    let said = site.client(&format!(
        r#"{NAMES}
chained = chain(add(1, 1), fail("no", immutable=True), add(1), add(1)).delay()
ends = [outcome(step)["args"] for step in (chained, chained.parent, chained.parent.parent)]
caught = collect().set(task_id=f"{{QUEUE}}-caught")
failed = chord([add(1, 1), add(2, 2) | fail("never", immutable=True)])(collect().on_error(caught))
# Past its header, whose failure would be told first.
failure = outcome(AsyncResult(failed.id, app=app))
emit([ends, failure["type"], failure["args"][0].rpartition(" raised ")[2], get(AsyncResult(caught.id, app=app)) == [failed.id]])"#
    ));
    assert_eq!(said, json!([[["no"], ["no"], ["no"]], "ChordError", "ValueError('never')", true]));
}

fn a_group_with_something_behind_it_is_a_chord(site: &Site) {
    let _host = host(site, "2");
    let said = site.client(&format!(
        r#"{NAMES}
result = (add(1, 1) | group(add(10), add(20), add(30)) | collect() | group(collect(), collect())).delay()
emit(get(result))"#
    ));
    assert_eq!(said, json!([[[[12, 22, 32]]], [[[12, 22, 32]]]]));
}

fn a_member_that_is_revoked_fails_its_chord(site: &Site) {
    let _host = host(site, "1");
    let said = site.client(&format!(
        r#"{NAMES}
result = chord([add(1, 1), add(2, 2).set(expires=-5)])(collect())
failure = outcome(AsyncResult(result.id, app=app))
emit([failure["type"], failure["args"][0].rpartition(" raised ")[2]])"#
    ));
    assert_eq!(said, json!(["ChordError", "TaskRevokedError('expired')"]));
}

#[test]
fn a_chord_is_refused_where_results_are_not_kept() {
    let Some(site) = Site::open(Engine::RabbitMqRpc) else { return };
    let _host = host(&site, "1");
    // The client itself refuses chords, so the host is made to build one.
    let said = site.client(&format!(
        r#"{NAMES}
body = dict(collect())
header = [dict(add(1, 1)), dict(add(2, 2))]
step = {{"task": "celery.chord", "args": [], "kwargs": {{"header": header, "body": body, "kwargs": {{}}}}, "options": {{}},
        "subtask_type": "chord", "immutable": False}}
emit(fails("tasks.add", 1, 1, chain=[step])["type"])"#
    ));
    assert_eq!(said, json!("NotImplementedError"));
}
