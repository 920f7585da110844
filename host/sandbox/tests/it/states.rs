//! What a running guest says about itself, and what it is told.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sandbox::{Limits, StateSink};
use taskhost_core::record::ResultValue;
use taskhost_core::{Attempt, Limit, Outcome, ResultRecord};
use tokio::sync::oneshot;

use crate::guest::{Guest, SLEEP, UPDATE};
use crate::world::{World, json};

/// Notes states; answers each at once, or never.
#[derive(Default)]
struct Sink {
    states: Mutex<Vec<String>>,
    open: Mutex<Vec<oneshot::Sender<Result<(), String>>>>,
    silent: bool,
}

impl StateSink for Sink {
    fn put(&self, record: ResultRecord) -> oneshot::Receiver<Result<(), String>> {
        let ResultValue::Json(meta) = &record.result else { panic!("no meta: {record:?}") };
        assert_eq!((record.id.as_str(), record.date_done), ("id-1", None));
        self.states.lock().expect("no panics").push(format!("{} {meta}", record.state.as_str()));
        let (answer, answered) = oneshot::channel();
        if self.silent {
            self.open.lock().expect("no panics").push(answer);
        } else {
            answer.send(Ok(())).expect("the receiver is here");
        }
        answered
    }
}

impl Sink {
    fn states(&self) -> Vec<String> {
        self.states.lock().expect("no panics").clone()
    }
}

/// A guest that reports a state, and returns 0 if that went well, else the text it was told.
fn reporter(state: &str, meta: &str, rest: &str) -> Guest {
    let (state_at, meta_at) = (300, 600);
    let escape = |text: &str| text.bytes().map(|byte| format!("\\{byte:02x}")).collect::<String>();
    let (state_length, meta_length) = (state.len(), meta.len());
    // The answer: 0 for ok; else 1, the case, and the text, which becomes a JSON string.
    Guest::new(&format!(
        "(call $update (i32.const {state_at}) (i32.const {state_length}) (i32.const {meta_at}) (i32.const {meta_length})
           (i32.const 64))
         {rest}
         (if (result i32) (i32.load8_u (i32.const 64))
           (then
             (local.set 0 (i32.load (i32.const 72))) (local.set 1 (i32.load (i32.const 76)))
             (i32.store8 (i32.sub (local.get 0) (i32.const 1)) (i32.const 0x22))
             (i32.store8 (i32.add (local.get 0) (local.get 1)) (i32.const 0x22))
             (call $ok (i32.sub (local.get 0) (i32.const 1)) (i32.add (local.get 1) (i32.const 2))))
           (else (i32.store8 (i32.const 100) (i32.const 0x30)) (call $ok (i32.const 100) (i32.const 1))))"
    ))
    .import(UPDATE)
    .memory("(import \"shared\" \"memory\" (memory 32)) (export \"memory\" (memory 0))")
    .field(&format!("(data (i32.const {state_at}) \"{}\")", escape(state)))
    .field(&format!("(data (i32.const {meta_at}) \"{}\")", escape(meta)))
}

async fn world(guest: &Guest, limits: Limits, sink: &Arc<Sink>) -> World {
    let world = World::with_limits(limits, &[("guest.wasm", guest.build())]).await;
    assert_eq!(world.loaded.refused, [], "{:?}", world.loaded.refused);
    world.sandbox.report_states_to(sink.clone());
    world
}

async fn told(state: &str, meta: &str, limits: Limits) -> (Outcome, Vec<String>) {
    let sink = Arc::new(Sink::default());
    let world = world(&reporter(state, meta, ""), limits, &sink).await;
    (world.outcome().await, sink.states())
}

#[tokio::test]
async fn a_state_and_its_meta_are_handed_over_as_they_are() {
    let (outcome, states) = told("PROGRESS", "{\"x\": NaN}", Limits::default()).await;
    assert_eq!(outcome, Outcome::Success(json("0")));
    assert_eq!(states, ["PROGRESS {\"x\": NaN}"]);
}

#[tokio::test]
async fn what_cannot_be_a_state_is_an_error_that_says_why() {
    let tight = Limits { state_bytes: 8, ..Limits::default() };
    for (state, meta, limits, expected) in [
        ("SUCCESS", "{}", Limits::default(), "the state SUCCESS is what a task comes to"),
        ("", "{}", Limits::default(), "the state is empty"),
        ("P", "{", Limits::default(), "the meta is not JSON"),
        ("P", "[1, 2, 3]", tight, "the meta has 9 bytes; limits.state is 8 bytes"),
    ] {
        let (outcome, states) = told(state, meta, limits).await;
        let Outcome::Success(text) = outcome else { panic!("no answer: {outcome:?}") };
        assert!(text.as_str().contains(expected), "{text}");
        assert_eq!(states, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_host_without_a_store_says_so() {
    let world = World::guest(&reporter("P", "{}", "")).await;
    assert_eq!(world.outcome().await, Outcome::Success(json("\"there is no result store\"")));
}

#[tokio::test]
async fn a_store_that_never_answers_does_not_keep_a_guest_beyond_its_limits() {
    let sink = Arc::new(Sink { silent: true, ..Sink::default() });
    let limit = Duration::from_millis(50);
    let world = world(&reporter("P", "{}", ""), Limits::default(), &sink).await;
    assert_eq!(world.outcome_within(limit).await, Outcome::TimedOut(Limit::Hard(limit)));
    assert_eq!(sink.states(), ["P {}"]);
}

#[tokio::test]
async fn a_report_returns_early_to_a_guest_that_handles_its_soft_limit() {
    let sink = Arc::new(Sink { silent: true, ..Sink::default() });
    let guest = reporter("P", "{}", "(if (i32.eqz (call $cancelled)) (then unreachable))");
    let guest = guest.task("t", &[("handles_soft_limit", "true"), ("soft_time_limit", "0.05")]);
    let world = world(&guest, Limits::default(), &sink).await;
    let finished = world.run(world.attempt("t")).await;
    let Outcome::Success(text) = &finished.outcome else { panic!("no answer: {finished:?}") };
    assert!(text.as_str().contains("the result store did not answer within 0.0"), "{text}");
}

#[tokio::test]
async fn a_flood_of_reports_is_one_write_an_interval_and_keeps_the_last() {
    // Ten thousand reports whose meta is the last digit of their number.
    let guest = reporter(
        "P",
        "0",
        "(local.set 8 (i32.const 1))
         (loop $l
           (i32.store8 (i32.const 600) (i32.add (i32.const 0x30) (i32.rem_u (local.get 8) (i32.const 10))))
           (call $update (i32.const 300) (i32.const 1) (i32.const 600) (i32.const 1) (i32.const 64))
           (local.set 8 (i32.add (local.get 8) (i32.const 1)))
           (br_if $l (i32.lt_u (local.get 8) (i32.const 10000))))",
    );
    let sink = Arc::new(Sink::default());
    let interval = Duration::from_secs(3600);
    let world = world(&guest, Limits { state_interval: interval, ..Limits::default() }, &sink).await;
    assert_eq!(world.outcome().await, Outcome::Success(json("0")));
    assert_eq!(sink.states(), ["P 0", "P 9"]);
}

#[tokio::test]
async fn the_last_report_is_stored_while_the_guest_goes_on() {
    let guest = reporter(
        "P",
        "0",
        "(i32.store8 (i32.const 600) (i32.const 0x31))
         (call $update (i32.const 300) (i32.const 1) (i32.const 600) (i32.const 1) (i32.const 64))
         (call $block (call $subscribe (i64.const 3600000000000)))",
    );
    let sink = Arc::new(Sink::default());
    let limits = Limits { state_interval: Duration::from_millis(20), ..Limits::default() };
    let world = world(&guest.import(SLEEP), limits, &sink).await;
    let attempt = Attempt { time_limit: Duration::from_secs(60), ..world.attempt("t") };
    // The guest sleeps until it is cancelled, which happens when both are there.
    let both = async {
        let started = Instant::now();
        while sink.states().len() < 2 {
            assert!(started.elapsed() < Duration::from_secs(30), "{:?}", sink.states());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(world.sandbox.invoke(attempt, both).await.outcome, Outcome::Interrupted);
    assert_eq!(sink.states(), ["P 0", "P 1"]);
}
