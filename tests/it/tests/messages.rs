//! Messages that no Celery client would send: each is dealt with, and none disturbs the worker.

use it::Site;
use serde_json::json;

on_every_engine! {
    rubbish_does_not_disturb_the_worker
    a_pickle_is_refused_with_advice
}

fn rubbish_does_not_disturb_the_worker(site: &Site) {
    let mut host = site.host(&[]);
    let code = r#"
call("tasks.add", 1, 1)
headers = {"task": "tasks.add", "id": "rubbish"}
publish_raw(b"not json", content_type="application/json", content_encoding="utf-8", headers=headers)
publish_raw(b"\xff\xfe\x00", content_type="application/json", content_encoding="utf-8", headers=headers)
publish_raw(b"", content_type="application/json", content_encoding="utf-8", headers=headers)
publish_raw(b"{}", content_type="application/json", content_encoding="utf-8", headers=headers)
publish_raw(b"[[1, 2], [], {}]", content_type="application/json", content_encoding="utf-8", headers=headers)
publish_raw(b"[[1, 2], {}, {}]", content_type="application/json", content_encoding="utf-8")
publish_raw(b"[" * 100_000, content_type="application/json", content_encoding="utf-8", headers=headers)
publish_raw(b"[[1, 2], {}, {}]", content_type="application/x-unknown", content_encoding="utf-8", headers=headers)
publish_raw(b"[[1, 2], {}, {}]", content_type="application/json", content_encoding="utf-8", headers={"task": 5, "id": []})
emit(call("tasks.add", 2, 2))
"#;
    assert_eq!(site.client(code), json!(4));
    assert!(host.stop().success());
    // Nothing was left in the queue either.
    let second = site.host(&[]);
    assert_eq!(site.client("emit(call('tasks.add', 3, 3))"), json!(6));
    assert!(second.lines_with("rubbish").is_empty(), "a message that cannot be read was given back");
}

fn a_pickle_is_refused_with_advice(site: &Site) {
    let host = site.host(&[]);
    let code = r#"
import pickle
body = pickle.dumps(((1, 2), {}, {}))
headers = {"task": "tasks.add", "id": "pickled"}
publish_raw(body, content_type="application/x-python-serialize", content_encoding="binary", headers=headers)
emit(call("tasks.add", 2, 2))
"#;
    assert_eq!(site.client(code), json!(4));
    let line = host.wait_for("pickle");
    assert!(line.contains("task_serializer"), "the line does not name the setting to change: {line}");
}
