//! Asynchronous tasks: guests that wait for several things at a time, under the limits of all others.

use std::collections::BTreeMap;
use std::future::{pending, ready};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sandbox::{Grant, Limits, ResultSource};
use taskhost_core::{Attempt, Limit, Outcome, PluginName, State, StoredResult, TaskId, Trap};
use tokio::sync::{Barrier, Notify};

use crate::async_guest::AsyncGuest;
use crate::guest::Guest;
use crate::world::{World, json};

const SHORT: Duration = Duration::from_millis(100);
const SPIN: &str = "(loop $l (br $l)) unreachable";
/// Longer than any test.
const LONG_MS: u64 = 3_600_000;
const OK: &str = "(call $ok (local.get 4) (local.get 5))";

async fn world(guest: &AsyncGuest) -> World {
    with_limits(Limits::default(), guest).await
}

async fn with_limits(limits: Limits, guest: &AsyncGuest) -> World {
    let world = World::with_limits(limits, &[("guest.wasm", guest.build())]).await;
    assert_eq!(world.loaded.refused, []);
    world
}

/// Serves a guest that declares this power and is granted it.
pub(crate) async fn granted(guest: &AsyncGuest, power: &str, entry: &str) -> World {
    let mut grant = Grant::default();
    grant.set(power, &[entry.to_owned()]).expect("a power");
    let grants = BTreeMap::from([(PluginName::parse("p").expect("a name"), grant)]);
    let manifest = format!("name = \"p\"\n[needs]\n{power} = [\"{entry}\"]").into_bytes();
    let files = [("p/plugin.toml", manifest), ("p/p.wasm", guest.build())];
    let world = World::with_grants(Limits::default(), grants, &files).await;
    assert_eq!(world.loaded.refused, []);
    world
}

async fn outcome(guest: &AsyncGuest) -> Outcome {
    world(guest).await.outcome().await
}

fn success(text: &str) -> Outcome {
    Outcome::Success(json(text))
}

#[track_caller]
fn trapped(outcome: &Outcome, text: &str) {
    match outcome {
        Outcome::Trapped(Trap::Instruction(why)) if why.contains(text) => {}
        other => panic!("no trap with `{text}`: {other:?}"),
    }
}

/// Waits for the result of the task `id-2`, and answers with what it is told.
fn waiter() -> AsyncGuest {
    let before = r#"
        (import "taskhost:task/results@0.1.0" (instance $results
          (type $error-def (variant (case "denied" string) (case "invalid" string) (case "unpublished" string)
            (case "timed-out" string) (case "cancelled" string) (case "unavailable" string)))
          (export "result-error" (type $error (eq $error-def)))))
        (alias export $results "result-error" (type $result-error))"#;
    let function = r#"
        (alias outer $C $result-error (type $e'))
        (export "result-error" (type $e (eq $e')))
        (export "wait-result" (func async (param "id" string) (param "timeout-ms" u64)
          (result (result string (error $e)))))"#;
    let lowered = r#"(core func $wait-result
        (canon lower (func $waiting "wait-result") async (memory $memory) (realloc $realloc)))"#;
    let with = r#"(with "more" (instance (export "wait-result" (func $wait-result))))"#;
    let core = r#"(import "more" "wait-result" (func $wait-result (param i32 i32 i64 i32) (result i32)))
        (data (i32.const 700) "id-2")"#;
    // The answer at 400: which case, and for a success pointer and length 4 bytes after it.
    let answer = "(if (i32.load8_u (i32.const 400)) (then unreachable))
        (call $ok (i32.load (i32.const 404)) (i32.load (i32.const 408)))";
    let run = format!(
        "(call $begin (call $wait-result (i32.const 700) (i32.const 4) (i64.const {LONG_MS}) (i32.const 400)))
         (if (result i32) (global.get $open) (then (call $wait)) (else {answer}))"
    );
    AsyncGuest::new(&run, &format!("(call $ended (local.get 1)) {answer}"))
        .waiting(before, function)
        .import(lowered, with, core)
}

/// Tells a result when as many have asked for it as there are to be.
struct Gate(Barrier);

#[sandbox::async_trait]
impl ResultSource for Gate {
    async fn get(&self, _id: &TaskId) -> Result<Option<StoredResult>, String> {
        self.0.wait().await;
        Ok(Some(StoredResult {
            state: State::Success,
            result: json("7"),
            traceback: None,
            date_done: None,
            children: json("null"),
            parent_id: None,
            call: Vec::new(),
        }))
    }

    async fn changed(&self, _id: &TaskId, _within: Duration) {}
}

#[tokio::test]
async fn a_task_answers_at_once_or_after_it_has_waited() {
    assert_eq!(outcome(&AsyncGuest::new(OK, "unreachable")).await, success("[1, 2]"));
    assert_eq!(outcome(&AsyncGuest::sleeps(1, 1)).await, success("true"));
}

#[tokio::test]
async fn a_task_waits_for_many_things_at_a_time() {
    // One after the other, these take longer than the test.
    let world = world(&AsyncGuest::sleeps(900, 2_000)).await;
    let finished = world.run(world.attempt("t")).await;
    assert_eq!(finished.outcome, success("true"));
    assert!(finished.usage.host_calls > 900);
}

#[tokio::test]
async fn tasks_wait_beside_each_other() {
    let world = granted(&waiter(), "results", "any").await;
    // As many as there is room for; none is told before all have asked.
    world.sandbox.read_results_from(Arc::new(Gate(Barrier::new(10))));
    for finished in join_all((0..10).map(|_| world.run(world.attempt("t")))).await {
        let Outcome::Success(told) = &finished.outcome else { panic!("{:?}", finished.outcome) };
        assert!(told.as_str().contains("\"result\": 7"), "{told:?}");
    }
}

#[tokio::test]
async fn a_guest_that_waits_too_long_ends_at_its_limits() {
    let sleeper = world(&AsyncGuest::sleeps(3, LONG_MS)).await;
    assert_eq!(sleeper.outcome_within(SHORT).await, Outcome::TimedOut(Limit::Hard(SHORT)));
    let guest = AsyncGuest::sleeps(3, LONG_MS).option("soft_time_limit", "0.1");
    assert_eq!(outcome(&guest).await, Outcome::TimedOut(Limit::Soft(SHORT)));
}

#[tokio::test]
async fn a_guest_that_computes_too_long_ends_wherever_it_does() {
    for guest in [
        AsyncGuest::new(SPIN, "unreachable"),
        AsyncGuest::new("(call $sleep (i64.const 1)) (call $wait)", SPIN),
        // It has answered, and goes on.
        AsyncGuest::new(&format!("(drop {OK}) {SPIN}"), "unreachable"),
    ] {
        let world = world(&guest).await;
        assert_eq!(world.outcome_within(SHORT).await, Outcome::TimedOut(Limit::Hard(SHORT)));
        let limits = Limits { cpu_time: Some(SHORT), ..Limits::default() };
        let world = with_limits(limits, &guest).await;
        assert_eq!(world.outcome().await, Outcome::Trapped(Trap::CpuTimeLimit { limit: SHORT }));
    }
}

#[tokio::test]
async fn a_guest_that_yields_for_ever_ends_and_lets_others_run() {
    let world = world(&AsyncGuest::new("(i32.const 1)", "(i32.const 1)")).await;
    assert_eq!(world.outcome_within(SHORT).await, Outcome::TimedOut(Limit::Hard(SHORT)));
}

#[tokio::test]
async fn a_guest_that_computes_keeps_no_other_from_its_turn() {
    let world = World::new(&[
        ("spin.wasm", AsyncGuest::new(SPIN, "unreachable").build()),
        ("nap.wasm", AsyncGuest::sleeps(1, 10).named("nap").build()),
    ])
    .await;
    assert_eq!(world.loaded.refused, []);
    // All on one thread.
    let napped = Notify::new();
    let spin = world.sandbox.invoke(world.attempt("t"), napped.notified());
    let nap = async {
        let finished = world.run(world.attempt("nap")).await;
        napped.notify_one();
        finished
    };
    let (spin, nap) = tokio::join!(spin, nap);
    assert_eq!((spin.outcome, nap.outcome), (Outcome::Interrupted, success("true")));
}

#[tokio::test]
async fn a_task_that_handles_its_soft_limit_is_told_by_a_sleep_that_ends_early() {
    let guest = AsyncGuest::sleeps(1, LONG_MS).option("soft_time_limit", "0.1").option("handles_soft_limit", "true");
    assert_eq!(outcome(&guest).await, success("false"));
}

#[tokio::test]
async fn a_task_that_is_cancelled_ends_at_once_or_is_told() {
    let deaf = world(&AsyncGuest::sleeps(2, LONG_MS)).await;
    assert_eq!(deaf.sandbox.invoke(deaf.attempt("t"), ready(())).await.outcome, Outcome::Interrupted);
    deaf.check_alive().await;
    let listens = world(&AsyncGuest::sleeps(2, LONG_MS).option("handles_soft_limit", "true")).await;
    assert_eq!(listens.sandbox.invoke(listens.attempt("t"), ready(())).await.outcome, success("false"));
}

#[tokio::test]
async fn an_attempt_that_is_given_up_leaves_nothing_behind() {
    let world = world(&AsyncGuest::sleeps(5, LONG_MS)).await;
    for _ in 0..30 {
        // More often than there is room for.
        let attempt = world.sandbox.invoke(world.attempt("t"), pending());
        drop(tokio::time::timeout(Duration::from_millis(2), attempt).await);
    }
    world.check_alive().await;
}

#[tokio::test]
async fn a_trap_is_a_failure_wherever_it_happens() {
    for guest in [
        AsyncGuest::new("unreachable", "unreachable"),
        AsyncGuest::new("(call $sleep (i64.const 1)) (call $wait)", "unreachable"),
        AsyncGuest::new(&format!("(drop {OK}) unreachable"), "unreachable"),
    ] {
        trapped(&outcome(&guest).await, "unreachable");
    }
}

#[tokio::test]
async fn a_task_that_never_answers_is_told_apart_from_one_that_waits() {
    trapped(&outcome(&AsyncGuest::new("(i32.const 0)", "unreachable")).await, "failed to produce a result");
    // It waits for nothing that could ever happen.
    let stuck = outcome(&AsyncGuest::new("(global.set $set (call $new-set)) (call $wait)", "unreachable")).await;
    trapped(&stuck, "deadlock");
}

#[tokio::test]
async fn memory_handles_and_calls_are_bounded() {
    let grow = "(if (i32.eq (memory.grow (i32.const 4000)) (i32.const -1)) (then unreachable)) unreachable";
    let memory = outcome(&AsyncGuest::new(grow, "unreachable")).await;
    assert_eq!(memory, Outcome::Trapped(Trap::MemoryLimit { limit_bytes: 128 << 20 }));
    let handles = outcome(&AsyncGuest::sleeps(2_000, LONG_MS)).await;
    assert_eq!(handles, Outcome::Trapped(Trap::HandleLimit { limit: 1_000 }));
    let limits = Limits { host_calls: 50, ..Limits::default() };
    let calls = with_limits(limits, &AsyncGuest::sleeps(60, 1)).await.outcome().await;
    assert_eq!(calls, Outcome::Trapped(Trap::HostCallLimit { limit: 50 }));
}

#[tokio::test]
async fn answers_are_bounded() {
    let answer =
        |bytes: u32| AsyncGuest::new(&format!("(call $ok (i32.const 65536) (i32.const {bytes}))"), "unreachable");
    let limits = Limits { result_bytes: 100, ..Limits::default() };
    let long = with_limits(limits, &answer(101)).await.outcome().await;
    assert_eq!(long, Outcome::Trapped(Trap::ResultTooLarge { limit_bytes: 100 }));
    // It is handed over by a call into the host.
    let limits = Limits { host_call_bytes: 1_000, ..Limits::default() };
    let longer = with_limits(limits, &answer(60_000)).await.outcome().await;
    assert_eq!(longer, Outcome::Trapped(Trap::HostCallTooLarge { limit_bytes: 1_000 }));
}

#[tokio::test]
async fn each_attempt_has_an_instance_of_its_own_whatever_the_manifest_says() {
    let count = "(i32.store8 (i32.const 512) (i32.add (i32.load8_u (i32.const 512)) (i32.const 49)))
        (call $ok (i32.const 512) (i32.const 1))";
    let manifest = b"name = \"p\"\n[instance]\nreuse = 5".to_vec();
    let guest = AsyncGuest::new(count, "unreachable").build();
    let world = World::new(&[("p/plugin.toml", manifest), ("p/p.wasm", guest)]).await;
    let report = world.loaded.plugins.iter().find(|plugin| plugin.name == "p").expect("it is served");
    assert!(report.is_async);
    assert_eq!(
        report.warnings,
        [
            "the manifest lets an instance run 5 attempts, which is not for asynchronous tasks: each attempt has an instance \
          of its own"
        ]
    );
    for _ in 0..2 {
        assert_eq!(world.outcome().await, success("1"));
    }
    assert_eq!(world.sandbox.idle_instances(), 0);
}

#[tokio::test]
async fn a_component_is_one_kind_of_plugin() {
    let both = AsyncGuest::new(OK, "unreachable").export("taskhost:task/tasks@0.1.0").build();
    let world = World::new(&[("both.wasm", both)]).await;
    assert_eq!(
        world.refused(),
        "it exports both `taskhost:task/tasks@0.1.x` and `taskhost:task/tasks-async@0.1.x`, and it is not clear which of \
         them runs a task: export one of the two (in the second, tasks that never wait are fine as well)"
    );
    let import = crate::guest::WAITING;
    let world = World::new(&[("sync.wasm", Guest::echo("t").import(import).build())]).await;
    assert_eq!(
        world.refused(),
        "it imports `taskhost:task/waiting@0.1.0`, which only a component can use that exports \
         `taskhost:task/tasks-async@0.1.x` in place of `taskhost:task/tasks@0.1.x`"
    );
}

#[tokio::test]
async fn what_is_not_granted_is_denied_to_those_that_wait_as_well() {
    let world = world(&waiter()).await;
    trapped(
        &world.run(Attempt { time_limit: Duration::from_secs(60), ..world.attempt("t") }).await.outcome,
        "unreachable",
    );
}
