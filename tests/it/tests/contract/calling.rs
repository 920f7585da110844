//! How a task has others run.

use serde_json::{Value, json};

use super::Contract;

in_every_language! {
    a_task_calls_others_when_it_has_succeeded_or_at_once
    a_task_has_another_run_in_its_place
    a_task_waits_for_the_result_of_another
    canvases_are_composed_as_celery_does
    a_canvas_runs_in_the_place_of_a_task
    a_task_adds_to_the_chord_that_it_is_in
}

fn a_task_calls_others_when_it_has_succeeded_or_at_once(contract: &Contract) {
    let _host = contract.host(&[]);
    let code = r#"
from celery.result import AsyncResult, result_from_tuple

def sum_of(*args):
    return get(AsyncResult(call("contract.publish", "contract.add", *args), app=app))

sums = [sum_of([1, 2]), sum_of([3, 4], True)]
keep = ["cache", "k", "v"]
# What fails has called nobody but those that it called at once.
failed = [fails("contract.publish", "contract.keep", keep, now, True)["type"] for now in (False, True)]
until(lambda: depth() == 0, "all calls have been taken")
group = app.signature("contract.add", (1, 1)) | app.signature("contract.add", (5,))
applied = get(result_from_tuple(call("contract.apply", group), app=app))
until(lambda: call("contract.keep", *keep)[1] >= 4, "the one that was called at once has run")
emit([sums, failed, applied])
"#;
    contract.check(code, json!([[3, 7], ["ValueError", "ValueError"], 7]));
}

fn a_task_has_another_run_in_its_place(contract: &Contract) {
    let _host = contract.host(&[]);
    contract.check(r#"emit(call("contract.replace", "contract.add", [2, 3]))"#, json!(5));
}

fn a_task_waits_for_the_result_of_another(contract: &Contract) {
    let _host = contract.host(&[]);
    let code = r#"emit([call("contract.ask", "contract.add", [2, 3]), call("contract.ask", "contract.echo", [{"ü": [None]}])])"#;
    contract.check(code, json!([5, {"ü": [null]}]));
}

/// Composed by Celery, with `tests/fixtures/contract/compose.py`.
const COMPOSED: &str = include_str!("../../../fixtures/contract/compose.json");

fn canvases_are_composed_as_celery_does(contract: &Contract) {
    let _host = contract.host(&[]);
    let expected: serde_json::Map<String, Value> = serde_json::from_str(COMPOSED).expect("the fixture is JSON");
    let names: Vec<&String> = expected.keys().collect();
    let code = format!("emit({{name: call('contract.compose', name) for name in {}}})", json!(names));
    let composed = contract.site.client(&code);
    for (name, canvas) in &expected {
        assert_eq!(&composed[name], canvas, "{name}");
    }
}

fn a_canvas_runs_in_the_place_of_a_task(contract: &Contract) {
    let _host = contract.host(&[]);
    let code = r#"emit([call("contract.become", name) for name in ("chain", "group", "chord")])"#;
    contract.check(code, json!([13, [2, 4, 6], 12]));
}

fn a_task_adds_to_the_chord_that_it_is_in(contract: &Contract) {
    let _host = contract.host(&[]);
    let code = r#"
from celery import chord
header = [app.signature("contract.extend", ([1, 2, 3],)), app.signature("contract.add", (10, 20))]
alone = fails("contract.extend", [1])
emit([get(chord(header, app.signature("contract.sum")).apply_async()), alone["state"], alone["type"]])
"#;
    contract.check(code, json!([36, "FAILURE", "ValueError"]));
}
