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

/// Where the store does not count the members of chords, `celery.chord_unlock` looks at their results.
#[test]
fn chords_come_together_in_tables() {
    crate::on(it::Engine::Embedded, |site| {
        let queue = format!("task.default_queue={}", site.queue());
        let host = site.host(&["--set", &queue, "--set", "result.chord_retry_interval=0.1"]);
        let code = r#"
from celery import chain, chord, group
from celery.canvas import chunks
def sig(task, *args):
    return app.signature(task, args=args)
header = [sig("tasks.add", number, 1) for number in range(30)]
plain = chord(header)(sig("tasks.echo"))
nested = chord([sig("tasks.add", 1, 1), group(sig("tasks.add", 2, 2), sig("tasks.add", 3, 3))])(sig("tasks.echo"))
late = chord([sig("tasks.sleep", 1.5), sig("tasks.add", 1, 1)])(sig("tasks.echo"))
failed = chord([sig("tasks.add", 1, 1), sig("tasks.fail", "no")])(sig("tasks.echo"))
# Here the chord is published by the worker.
later = chain(sig("tasks.add", 1, 1), group(sig("tasks.add", 1), sig("tasks.add", 2)), sig("tasks.echo"))()
broken = chain(sig("tasks.add", 1, 1), group(sig("tasks.add", 1), sig("tasks.fail")), sig("tasks.echo"))()
parts = chunks(app.signature("tasks.add"), [[n, n] for n in range(5)], 2, app=app).delay()
asked = app.AsyncResult(send("celery.chunks", {"task": "tasks.add"}, [[1, 1], [2, 2]], 1).id)
ids = [member[0][0] for member in get(asked)[1]]
emit([get(plain), get(nested), get(late), repr(failed.get(timeout=PATIENCE, propagate=False)),
      get(later), type(broken.get(timeout=PATIENCE, propagate=False)).__name__, get(parts), [get(app.AsyncResult(id)) for id in ids]])
"#;
        // The client unrolls the group, from behind.
        let numbers: Vec<i64> = (1..=30).collect();
        let expected = json!([
            numbers,
            [2, 6, 4],
            [1.5, 2],
            "ChordError(\"ValueError('no')\")",
            [3, 4],
            "ChordError",
            [[0, 2], [4, 6], [8]],
            [[2], [4]]
        ]);
        assert_eq!(site.client(code), expected);
        host.wait_for("Task celery.chord_unlock[");
    });
}
