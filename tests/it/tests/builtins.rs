//! Celery's own tasks, called as Python clients call them.

use it::Site;
use serde_json::json;

on_every_engine! {
    a_client_maps_a_task_over_a_list
    the_tasks_of_celery_answer_without_a_plugin
}

fn a_client_maps_a_task_over_a_list(site: &Site) {
    let host = site.host(&[]);
    let code = r#"
from celery.canvas import xmap, xstarmap
def over(kind, task, it):
    return kind(app.signature(task), it, app=app).delay()
emit([get(over(xmap, "tasks.echo", [1, "two", [3]])), get(over(xstarmap, "tasks.add", zip(range(20), range(20)))),
      get(over(xmap, "tasks.echo", [])), outcome(over(xstarmap, "tasks.add", [[1, 2], [1]]))["type"],
      outcome(over(xmap, "tasks.nobodys", [1]))["type"], outcome(over(xmap, "tasks.fail", ["no"]))])
"#;
    let sums: Vec<i64> = (0..20).map(|number| number * 2).collect();
    let failed = json!({"state": "FAILURE", "type": "ValueError", "module": "builtins", "args": ["no"], "is_celery_class": false});
    let expected = json!([[1, "two", [3]], sums, [], "TypeError", "NotRegistered", failed]);
    assert_eq!(site.client(code), expected);
    host.wait_for("Task celery.map[");
}

fn the_tasks_of_celery_answer_without_a_plugin(site: &Site) {
    let _host = site.host(&[]);
    let code = r#"
emit([call("celery.ping"), call("celery.accumulate", 1, 2), call("celery.accumulate", 1, 2, kwargs={"index": 0}),
      get(app.tasks["celery.backend_cleanup"].delay()), fails("celery.chain")["type"], fails("celery.accumulate", kwargs={"index": 3})["type"]])
"#;
    assert_eq!(site.client(code), json!(["pong", [1, 2], 1, null, "NotImplementedError", "IndexError"]));
}
