//! Guests that publish chains, groups and chords, answer with one in their place, or add to the chord that they are in.

use std::sync::Arc;

use sandbox::Limits;
use taskhost_core::settle::Step;
use taskhost_core::{Exception, Finished, Json, Outcome, Trap};

use crate::guest::{Answer, CANVAS, Guest};
use crate::publish::{Sink, Source, caller_of, describe, told, world};
use crate::world::json;

const POWERS: &[(&str, &[&str])] = &[("publish", &["tasks.*"]), ("results", &["own"])];

fn chain(steps: &[&str]) -> String {
    composed("chain", &format!("\"tasks\": [{}]", steps.join(", ")))
}

fn group(members: &[&str]) -> String {
    composed("group", &format!("\"tasks\": [{}]", members.join(", ")))
}

fn chord(header: &[&str], body: &str) -> String {
    composed("chord", &format!("\"header\": [{}], \"body\": {body}, \"kwargs\": {{}}", header.join(", ")))
}

fn composed(kind: &str, kwargs: &str) -> String {
    format!(r#"{{"task": "celery.{kind}", "kwargs": {{{kwargs}}}, "options": {{}}, "subtask_type": "{kind}"}}"#)
}

const ADD: &str = r#"{"task": "tasks.add", "args": [1, NaN]}"#;

/// A guest that calls `apply`, and returns what it is told.
fn applier(canvas: &str, args: &str, kwargs: &str, immediately: bool) -> Guest {
    let call = apply(canvas, args, kwargs, immediately);
    caller_of(CANVAS, &call, &[canvas], 1).field(&data(100, args)).field(&data(200, kwargs))
}

/// The call, with the canvas as the first text and the arguments where there is room.
fn apply(canvas: &str, args: &str, kwargs: &str, immediately: bool) -> String {
    let (canvas, args, kwargs, now) = (canvas.len(), args.len(), kwargs.len(), u32::from(immediately));
    format!(
        "(call $apply (i32.const 300) (i32.const {canvas}) (i32.const 100) (i32.const {args})
           (i32.const 200) (i32.const {kwargs}) (i32.const {now}) (i32.const 64))"
    )
}

fn data(at: u32, text: &str) -> String {
    let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    format!("(data (i32.const {at}) \"{escaped}\")")
}

/// What comes of the task of a guest, what was published at once, and what it was told.
struct Told {
    finished: Finished,
    published: Vec<String>,
    text: String,
}

impl Told {
    async fn by(guest: &Guest, limits: Limits) -> Self {
        let sink = Arc::new(Sink::default());
        let world = world(guest, limits, POWERS, &sink).await;
        let finished = world.run(world.attempt("t")).await;
        world.check_alive().await;
        // The guest cannot quote, and says it with other quotes.
        let text = told(&finished.outcome).replace('\'', "\"");
        Self { finished, published: sink.published(), text }
    }

    async fn of(canvas: &str, immediately: bool) -> Self {
        Self::by(&applier(canvas, "[]", "{}", immediately), Limits::default()).await
    }

    fn effects(&self) -> Vec<String> {
        self.finished.effects.iter().map(describe).collect()
    }
}

fn message(step: &Step) -> String {
    let (Step::Send(publication) | Step::SendTo(_, publication)) = step else { panic!("no message: {step:?}") };
    String::from_utf8(publication.message.body.to_vec()).expect("JSON is a text")
}

fn text_at(tuple: &Json, path: &[usize]) -> String {
    let mut at = tuple.clone();
    for index in path {
        let next = at.elements().nth(*index);
        at = next.unwrap_or_else(|| panic!("{path:?} of {tuple}"));
    }
    at.as_text().unwrap_or_else(|| panic!("{path:?} of {tuple}")).into_owned()
}

#[tokio::test]
async fn a_chain_sends_its_first_step_and_promises_the_last() {
    let end = Told::of(&chain(&[ADD, ADD, ADD]), false).await;
    let tuple = json(&end.text);
    let steps = [text_at(&tuple, &[0, 1, 0, 1, 0, 0]), text_at(&tuple, &[0, 1, 0, 0]), text_at(&tuple, &[0, 0])];
    assert_eq!(end.effects(), [steps[0].as_str()]);
    let sent = message(&end.finished.effects[0]);
    assert!(sent.contains(&steps[1]) && sent.contains(&steps[2]), "the rest knows its ids: {sent}");
    assert_eq!((end.finished.children.len(), end.finished.children[0].published), (1, false));
    assert_eq!(
        text_at(&end.finished.children[0].result, &[0, 0]),
        steps[0],
        "it has called that one, as Celery sees it"
    );
    assert_eq!(end.published, Vec::<String>::new());
}

#[tokio::test]
async fn a_group_goes_out_at_once_if_it_is_to() {
    let end = Told::of(&group(&[ADD, ADD]), true).await;
    let tuple = json(&end.text);
    assert_eq!(end.published, [text_at(&tuple, &[1, 0, 0, 0]), text_at(&tuple, &[1, 1, 0, 0])]);
    assert_eq!((end.effects(), end.finished.children[0].published), (Vec::new(), true));
}

#[tokio::test]
async fn the_store_knows_the_size_of_a_chord_before_its_members_go_out() {
    let end = Told::of(&chord(&[ADD, ADD, &chain(&[ADD, ADD])], ADD), true).await;
    assert_eq!((end.published.len(), end.published[0].as_str()), (4, "size 3, again: false"));
}

#[tokio::test]
async fn partial_arguments_come_before_those_of_the_signature() {
    let end = Told::by(&applier(ADD, "[7, -Infinity]", r#"{"z": 3}"#, false), Limits::default()).await;
    let sent = message(&end.finished.effects[0]);
    assert!(sent.starts_with(r#"[[7, -Infinity, 1, NaN], {"z": 3}, "#), "{sent}");
    for (args, kwargs, expected) in [
        ("{}", "{}", "the args are not a JSON array"),
        ("[]", "[]", "the kwargs are not a JSON object"),
        ("[", "{}", "the args are not JSON: "),
    ] {
        let end = Told::by(&applier(ADD, args, kwargs, false), Limits::default()).await;
        assert!(end.text.starts_with(expected), "{}", end.text);
        assert_eq!(end.effects().len(), 0);
    }
}

#[tokio::test]
async fn every_message_counts() {
    let few = Limits { publish: 3, ..Limits::default() };
    for immediately in [false, true] {
        let four = applier(&group(&[r#"{"task":"tasks.a"}"#; 4]), "[]", "{}", immediately);
        let end = Told::by(&four, few).await;
        assert_eq!(end.text, "the task would have published 4 others; limits.publish is 3");
        assert_eq!((end.effects().len(), end.published.len()), (0, 0));
    }
    // Of the arguments as well.
    let (args, group) = ("[0.5, 0.25]", group(&[ADD]));
    let short = Limits { result_bytes: group.len() + 5, ..Limits::default() };
    let end = Told::by(&applier(&group, args, "{}", false), short).await;
    assert!(end.text.ends_with(&format!("bytes; limits.result is {} bytes", short.result_bytes)), "{}", end.text);
}

#[tokio::test]
async fn every_task_that_a_canvas_would_publish_passes_the_gate() {
    let foreign = r#"{"task": "mail.send"}"#;
    let hung = |option: &str| format!(r#"{{"task": "tasks.add", "options": {{"{option}": {foreign}}}}}"#);
    let mapped = |kind: &str| {
        let kwargs = format!(r#"{{"task": {foreign}, "it": [[1]], "n": 1}}"#);
        format!(r#"{{"task": "celery.{kind}", "kwargs": {kwargs}, "subtask_type": "x{kind}"}}"#)
    };
    for (canvas, name) in [
        (chain(&[ADD, foreign]), "mail.send"),
        (chain(&[ADD, &group(&[ADD, foreign])]), "mail.send"),
        (chord(&[ADD], foreign), "mail.send"),
        (chord(&[ADD, foreign], ADD), "mail.send"),
        (chain(&[ADD, &hung("link")]), "mail.send"),
        (group(&[ADD, &hung("link_error")]), "mail.send"),
        (group(&[&hung("chord")]), "mail.send"),
        (mapped("map"), "celery.map"),
        (mapped("starmap"), "celery.starmap"),
    ] {
        let end = Told::of(&canvas, true).await;
        assert!(end.text.starts_with(&format!("publish `{name}` is denied")), "{canvas}: {}", end.text);
        assert_eq!((end.effects().len(), end.published.len()), (0, 0));
    }
}

#[tokio::test]
async fn a_guest_may_see_the_results_of_all_that_it_published() {
    let canvas = chord(&[ADD, ADD], ADD);
    let end = Told::of(&canvas, true).await;
    let tuple = json(&end.text);
    // The same execution gives the same ids.
    for id in [text_at(&tuple, &[0, 0]), end.published[1].clone(), end.published[2].clone()] {
        let get = format!("(call $get (i32.const 700) (i32.const {}) (i32.const 64))", id.len());
        let call = format!("{} {get}", apply(&canvas, "[]", "{}", true));
        let guest = caller_of(CANVAS, &call, &[&canvas, &id], 1).field(&data(100, "[]")).field(&data(200, "{}"));
        let sink = Arc::new(Sink::default());
        let world = world(&guest, Limits::default(), POWERS, &sink).await;
        world.sandbox.read_results_from(Arc::new(Source::default()));
        let finished = world.run(world.attempt("t")).await;
        assert!(told(&finished.outcome).contains("'state': 'PENDING'"), "{finished:?}");
    }
}

/// What a member of a chord is told that adds to it.
async fn added(embed: Json) -> (Finished, String) {
    let call = format!("(call $add-to-chord (i32.const 300) (i32.const {}) (i32.const 0) (i32.const 64))", ADD.len());
    let sink = Arc::new(Sink::default());
    let world = world(&caller_of(CANVAS, &call, &[ADD], 1), Limits::default(), POWERS, &sink).await;
    let finished = world.run(world.member("t", "[]", embed)).await;
    let text = told(&finished.outcome);
    (finished, text)
}

#[tokio::test]
async fn a_member_of_a_chord_adds_to_it_when_it_has_succeeded() {
    let body = json(r#"{"callbacks": null, "errbacks": null, "chain": null, "chord": {"task": "tasks.body"}}"#);
    let (finished, text) = added(body).await;
    let id = text_at(&json(&text.replace('\'', "\"")), &[0, 0]);
    let effects: Vec<String> = finished.effects.iter().map(describe).collect();
    assert_eq!(effects, [format!("extend g by {id}"), id]);
    assert!(message(&finished.effects[1]).contains(r#""chord": {"task": "tasks.body"}"#));
    let (finished, text) = added(json(r#"{"chord": null}"#)).await;
    assert_eq!((text.as_str(), finished.effects.len()), ("Current task is not member of any chord", 0));
}

#[tokio::test]
async fn a_canvas_takes_the_place_of_a_task() {
    let replaced = async |canvas: String| {
        let (sink, few) = (Arc::new(Sink::default()), Limits { publish: 1, ..Limits::default() });
        let world = world(&Answer::failure(4).text(16, &canvas).guest(), few, POWERS, &sink).await;
        world.run(world.attempt("t")).await.outcome
    };
    let Outcome::Replaced(steps) = replaced(chain(&[ADD, ADD])).await else { panic!("not replaced") };
    assert_eq!(steps.len(), 1);
    assert!(message(&steps[0]).contains("\"id-1\""), "its last step has the id");
    let Outcome::Replaced(steps) = replaced(group(&[ADD, ADD])).await else { panic!("not replaced") };
    assert_eq!((steps.len(), describe(&steps[0]).as_str()), (3, "size 2, again: false"));
    assert!(message(&steps[1]).contains("celery.accumulate"), "the list of results is that of the task");
    for (canvas, why) in [
        (chain(&[]), "Cannot replace with an empty chain"),
        (
            r#"{"task": "tasks.add", "options": {"chord": {"task": "tasks.add"}}}"#.to_owned(),
            "A signature replacing a task must not be part of a chord",
        ),
    ] {
        let expected = Exception::new("celery.exceptions", "ImproperlyConfigured", [Json::text(why)]);
        let outcome = replaced(canvas).await;
        assert!(matches!(&outcome, Outcome::Failure(exception, None) if *exception == expected), "{outcome:?}");
    }
    let Outcome::Trapped(trap) = replaced(group(&[ADD, ADD, ADD])).await else { panic!("not trapped") };
    assert_eq!(trap, Trap::InvalidResult("the task would have published 2 others; limits.publish is 1".to_owned()));
}
