//! What a running guest tells monitors.

use std::sync::{Arc, Mutex};

use sandbox::{EventSink, Limits};
use taskhost_core::Outcome;
use taskhost_core::event::CustomEvent;

use crate::guest::{Guest, TELL};
use crate::world::{World, json};

/// Notes events.
#[derive(Default)]
struct Sink(Mutex<Vec<String>>);

impl EventSink for Sink {
    fn send(&self, event: &CustomEvent) {
        let line = format!("{} {} {}", event.id(), event.kind(), event.fields());
        self.0.lock().expect("no panics").push(line);
    }
}

/// A guest that sends an event twice, and returns 0 if the second time went well, else the text it was told.
fn teller(kind: &str, fields: &str) -> Guest {
    let (kind_at, fields_at) = (300, 600);
    let escape = |text: &str| text.bytes().map(|byte| format!("\\{byte:02x}")).collect::<String>();
    let tell = format!(
        "(call $tell (i32.const {kind_at}) (i32.const {}) (i32.const {fields_at}) (i32.const {}) (i32.const 64))",
        kind.len(),
        fields.len()
    );
    Guest::new(&format!(
        "{tell} {tell}
         (if (result i32) (i32.load8_u (i32.const 64))
           (then
             (local.set 0 (i32.load (i32.const 72))) (local.set 1 (i32.load (i32.const 76)))
             (i32.store8 (i32.sub (local.get 0) (i32.const 1)) (i32.const 0x22))
             (i32.store8 (i32.add (local.get 0) (local.get 1)) (i32.const 0x22))
             (call $ok (i32.sub (local.get 0) (i32.const 1)) (i32.add (local.get 1) (i32.const 2))))
           (else (i32.store8 (i32.const 100) (i32.const 0x30)) (call $ok (i32.const 100) (i32.const 1))))"
    ))
    .import(TELL)
    .memory("(import \"shared\" \"memory\" (memory 32)) (export \"memory\" (memory 0))")
    .field(&format!("(data (i32.const {kind_at}) \"{}\")", escape(kind)))
    .field(&format!("(data (i32.const {fields_at}) \"{}\")", escape(fields)))
}

async fn told(kind: &str, fields: &str, limits: Limits) -> (Outcome, Vec<String>) {
    let sink = Arc::new(Sink::default());
    let world = World::with_limits(limits, &[("guest.wasm", teller(kind, fields).build())]).await;
    assert_eq!(world.loaded.refused, [], "{:?}", world.loaded.refused);
    world.sandbox.send_events_to(sink.clone());
    let outcome = world.outcome().await;
    let events = sink.0.lock().expect("no panics").clone();
    (outcome, events)
}

#[tokio::test]
async fn an_event_and_its_fields_are_handed_over_as_they_are() {
    let (outcome, events) = told("task-indexed", "{\"pages\": NaN}", Limits::default()).await;
    assert_eq!(outcome, Outcome::Success(json("0")));
    assert_eq!(events, ["id-1 task-indexed {\"pages\": NaN}", "id-1 task-indexed {\"pages\": NaN}"]);
}

#[tokio::test]
async fn what_cannot_be_an_event_is_an_error_that_says_why() {
    for (kind, fields, expected) in [
        ("task-failed", "{}", "the worker itself says `task-failed`"),
        ("indexed", "{}", "is no type of an event"),
        ("task-x", "{", "the fields are not JSON"),
        ("task-x", "[1]", "the fields are no JSON object"),
    ] {
        let (outcome, events) = told(kind, fields, Limits::default()).await;
        let Outcome::Success(text) = outcome else { panic!("no answer: {outcome:?}") };
        assert!(text.as_str().contains(expected), "{text}");
        assert_eq!(events, Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_attempt_says_only_so_much() {
    for (limits, expected) in [
        (Limits { events: 1, ..Limits::default() }, "the task has sent 1 events; limits.events is 1"),
        (Limits { event_bytes: 15, ..Limits::default() }, "have 16 bytes; limits.event_bytes is 15 bytes"),
    ] {
        let (outcome, events) = told("task-x", "{}", limits).await;
        let Outcome::Success(text) = outcome else { panic!("no answer: {outcome:?}") };
        assert!(text.as_str().contains(expected), "{text}");
        assert_eq!(events, ["id-1 task-x {}"]);
    }
}

#[tokio::test]
async fn where_nobody_listens_a_task_is_told_the_same() {
    let world = World::guest(&teller("task-x", "{}")).await;
    assert_eq!(world.outcome().await, Outcome::Success(json("0")));
}
