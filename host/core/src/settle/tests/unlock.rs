//! What becomes of a chord that `celery.chord_unlock` looked after, and of its body.

use super::*;
use crate::builtin;
use crate::flow::Broken;
use crate::outcome::Unlocked;

/// The task that looks after it, with the options that every worker gives it.
fn looking() -> Attempt {
    let spec = builtin::specs(Duration::from_secs(1)).find(|spec| spec.name.as_str() == "celery.chord_unlock");
    let policy = Policy { ignore_result: true, store_errors: false, ..Policy::default() };
    let args = r#"["g", {"task": "tasks.body", "options": {"task_id": "body"}}]"#;
    let mut request = request("celery.chord_unlock", "id-1");
    request.args = Json::parse(args).expect("JSON");
    request.kwargs = Json::parse(r#"{"result": []}"#).expect("JSON");
    Attempt {
        spec: spec.expect("it is there").into(),
        request: request.into(),
        policy,
        ..attempt(TaskOptions::default())
    }
}

fn unlocked(joined: Result<Json, Exception>, failure: Option<Exception>) -> Outcome {
    let body = r#"{"task": "tasks.body", "options": {"task_id": "body", "queue": "q", "link_error": [{"task": "tasks.error"}]}}"#;
    let broken = |error: Exception| Box::new(Broken { cause: error.clone(), error });
    Outcome::Unlocked(Box::new(Unlocked {
        group: "g".to_owned(),
        body: Json::parse(body).expect("JSON"),
        joined: joined.map_err(broken),
        failure,
    }))
}

fn chord_error() -> Exception {
    Exception::new("celery.exceptions", "ChordError", [Json::text("no")])
}

#[test]
fn the_body_is_published_by_the_task_that_looked() {
    check_attempt(
        &looking(),
        unlocked(Ok(Json::array([1, 2])), None),
        expect![[r#"
        make `q`
        publish body retries=0 in 0 s to `q`
        ack
        event Succeeded
    "#]],
    );
}

#[test]
fn a_broken_chord_fails_its_body_and_calls_its_errbacks() {
    let outcome = unlocked(Err(chord_error()), None);
    let finished = Finished::alone(outcome, Usage::default());
    let settlement = settle(&looking(), finished, NOW, Jitter(0.5), means());
    let stored: Vec<&str> = settlement.records.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(stored, ["body"]);
    let rendered = render(&settlement);
    assert!(rendered.contains("store FAILURE ChordError('no')\n"), "{rendered}");
    assert!(rendered.ends_with("ack\nevent Succeeded\n"), "{rendered}");
    assert_eq!(settlement.after.len() + settlement.before.len(), 1, "its errback: {rendered}");
}

#[test]
fn a_task_that_gives_up_fails_beside_the_body() {
    let outcome = unlocked(Err(chord_error()), Some(exception()));
    let settlement = settle(&looking(), Finished::alone(outcome, Usage::default()), NOW, Jitter(0.5), means());
    let rendered = render(&settlement);
    assert!(rendered.contains("store FAILURE ChordError('no')\n"), "{rendered}");
    assert!(rendered.ends_with("ack\nevent Failed\n"), "{rendered}");
}

#[test]
fn a_body_that_nobody_takes_fails() {
    let attempt = looking();
    let finished = Finished::alone(unlocked(Ok(Json::array([1, 2])), None), Usage::default());
    let remaining = settle(&attempt, finished, NOW, Jitter(0.5), means());
    let settlement = unpublishable(&attempt, &remaining, "no such queue", NOW, means());
    let stored: Vec<&str> = settlement.records.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(stored, ["body"], "and not the task that looked: nobody wants to know");
    assert!(render(&settlement).contains("ChordError"), "{}", render(&settlement));
    // As one whose next look cannot be published.
    let retry = settle(&attempt, Finished::alone(Outcome::Retry(wish()), Usage::default()), NOW, Jitter(0.5), means());
    let settlement = unpublishable(&attempt, &retry, "no such queue", NOW, means());
    assert_eq!(settlement.records.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ["body"]);
}
