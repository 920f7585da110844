//! `host plugin stubs`: the module that it writes, in the hands of a real Celery client.

use it::{Engine, Site};
use serde_json::json;

const IMPORT: &str = "import sys; sys.path.insert(0, '.'); import taskhost_tasks as stubs\n";

#[test]
fn a_client_calls_tasks_through_the_module() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let _host = site.host(&[]);
    site.bare_command(&["plugin", "stubs", "--python", "-o", "taskhost_tasks.py"]).success();
    let code = "
def refused(*args, **kwargs):
    try:
        return stubs.tasks_add.delay(*args, **kwargs)
    except TypeError as error:
        return str(error)

def runs_here():
    try:
        return stubs.tasks_add(1, 2)
    except NotImplementedError as error:
        return str(error)

import inspect
emit({
    'by_place_and_name': get(stubs.tasks_add.delay(2, y=3)),
    'with_options': get(stubs.tasks_echo.apply_async(kwargs={'payload': [1, None]}, countdown=0.01)),
    'signature': get(stubs.tasks_add.s(40).clone(args=(2,)).apply_async()),
    'refused': refused(1),
    'runs_here': runs_here(),
    'parameters': str(inspect.signature(stubs.tasks_flaky.run)),
    'known': 'tasks.add' in app.tasks and 'tasks.add' in stubs.app.tasks,
    'others_app': stubs.tasks_add.app is app and app.main == 'client',
})";
    let told = site.client(&format!("{IMPORT}{code}"));
    assert_eq!(told["by_place_and_name"], json!(5));
    assert_eq!(told["with_options"], json!([1, null]));
    assert_eq!(told["signature"], json!(42));
    let refused = told["refused"].as_str().expect("the client refuses it");
    assert!(refused.contains("missing 1 required positional argument: 'y'"), "{refused}");
    assert_eq!(told["runs_here"], "tasks.add runs in a Taskhost worker: call it with .delay() or .apply_async()");
    assert_eq!(told["parameters"], "(times: 'int' = 2, countdown: 'float' = None) -> '_Any'");
    assert_eq!((&told["known"], &told["others_app"]), (&json!(true), &json!(true)), "{told}");
}

#[test]
fn the_module_is_written_whole_or_not_at_all() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let first = site.bare_command(&["plugin", "stubs", "--python"]).success().out;
    assert!(first.contains("    host plugin stubs --python\n") && first.contains("def tasks_add("), "{first}");
    assert_eq!(site.bare_command(&["plugin", "stubs", "--python"]).success().out, first);

    site.write("plugins/rubbish.wasm", "this is no WebAssembly");
    site.bare_command(&["plugin", "stubs", "--python", "-o", "out.py"])
        .refused(&["rubbish.wasm", "nothing was written"]);
    assert!(!site.path("out.py").exists());
    site.bare_command(&["plugin", "stubs", "--python", "--plugins", "none"]).refused(&["none", "no such folder"]);
    site.bare_command(&["plugin", "stubs"]).refused(&["--python"]);
}
