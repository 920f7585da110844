//! What well-behaved guests get and what becomes of their answers.

use std::future::{pending, ready};
use std::time::Duration;

use taskhost_core::{Attempt, Exception, Finished, Limit, Outcome, RetryDelay, Timestamp, Trap};

use crate::guest::{Answer, CONTEXT, Guest, REQUEST, SLEEP};
use crate::world::{World, json, write};

async fn check(guest: &Guest, expected: Outcome) {
    assert_eq!(World::guest(guest).await.outcome().await, expected);
}

#[track_caller]
fn invalid(outcome: &Outcome, text: &str) {
    match outcome {
        Outcome::Trapped(Trap::InvalidResult(why)) if why.contains(text) => {}
        other => panic!("not an invalid result because of `{text}`: {other:?}"),
    }
}

#[tokio::test]
async fn an_answer_is_passed_on_as_it_was_written() {
    for text in ["{\"a\": [1, 2.50]}", "NaN", "\"\\ud800\"", "123456789012345678901234567890"] {
        check(&Guest::answer(text), Outcome::Success(json(text))).await;
    }
}

#[tokio::test]
async fn a_task_sees_its_call() {
    let world = World::guest(&Guest::new("(call $ok (local.get 6) (local.get 7))")).await;
    assert_eq!(world.outcome().await, Outcome::Success(json("{}")));
    // The id is `id-1` and the number of retries 3.
    let guest = Guest::new(
        "(if (i32.ne (i32.load8_u offset=3 (local.get 0)) (i32.const 0x31)) (then unreachable))
         (if (i32.ne (local.get 1) (i32.const 4)) (then unreachable))
         (if (i32.ne (local.get 8) (i32.const 3)) (then unreachable))
         (call $ok (local.get 4) (local.get 5))",
    );
    check(&guest, Outcome::Success(json("[1, 2]"))).await;
}

#[tokio::test]
async fn nothing_is_left_of_an_attempt_for_the_next() {
    let guest = Guest::new(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (i32.store8 (i32.const 600) (i32.add (i32.const 0x30) (global.get $calls)))
         (if (i32.load8_u (i32.const 700)) (then unreachable))
         (i32.store8 (i32.const 700) (i32.const 1))
         (call $ok (i32.const 600) (i32.const 1))",
    )
    .field("(global $calls (mut i32) (i32.const 0))");
    let world = World::guest(&guest).await;
    for _ in 0..20 {
        assert_eq!(world.outcome().await, Outcome::Success(json("1")));
    }
}

#[tokio::test]
async fn an_exception_keeps_its_module_only_if_the_plugin_may_speak_for_it() {
    let answer =
        |module| Answer::failure(0).text(16, "ValueError").some(24, module).text(36, "[\"no\"]").some(44, "tb");
    let failure = |module: Option<&str>| {
        let module = module.map(str::to_owned);
        let exception = Exception { kind: "ValueError".into(), module, arguments: json("[\"no\"]") };
        Outcome::Failure(exception, Some("tb".to_owned()))
    };
    check(&answer("builtins").guest(), failure(Some("builtins"))).await;
    check(&answer("celery.exceptions").guest(), failure(Some("celery.exceptions"))).await;
    check(&answer("os").guest(), failure(None)).await;

    let world = World::new(&[
        ("mine/plugin.toml", b"name = \"mine\"\nexception_modules = [\"shop.errors\"]".to_vec()),
        ("mine/mine.wasm", answer("shop.errors").guest().build()),
    ])
    .await;
    assert_eq!(world.outcome().await, failure(Some("shop.errors")));
}

#[tokio::test]
async fn a_retry_is_taken_over() {
    let answer = |delay: u8| Answer::failure(1).byte(64, delay);
    let world = World::guest(&answer(0).guest()).await;
    let Outcome::Retry(wish) = world.outcome().await else { panic!("no retry") };
    assert_eq!((wish.cause, wish.delay, wish.max_retries, wish.args), (None, RetryDelay::Default, None, None));

    let rich = answer(1)
        .float(72, 1.5)
        .byte(16, 1)
        .text(20, "IOError")
        .text(40, "[]")
        .byte(80, 1)
        .byte(84, 9)
        .some(88, "[3]")
        .some(100, "{\"k\": 1}");
    let Outcome::Retry(wish) = World::guest(&rich.guest()).await.outcome().await else { panic!("no retry") };
    assert_eq!(wish.cause.map(|(exception, _)| exception.kind), Some("IOError".to_owned()));
    assert_eq!(wish.delay, RetryDelay::Countdown(Duration::from_millis(1500)));
    assert_eq!((wish.max_retries, wish.args, wish.kwargs), (Some(9), Some(json("[3]")), Some(json("{\"k\": 1}"))));

    let at = answer(2).text(72, "2026-11-22T10:32:08Z").guest();
    let Outcome::Retry(wish) = World::guest(&at).await.outcome().await else { panic!("no retry") };
    assert_eq!(wish.delay, RetryDelay::At(Timestamp::from_micros(1_795_343_528_000_000)));

    let past = answer(1).float(72, -3.0).guest();
    let Outcome::Retry(wish) = World::guest(&past).await.outcome().await else { panic!("no retry") };
    assert_eq!(wish.delay, RetryDelay::Countdown(Duration::ZERO));
}

#[tokio::test]
async fn the_other_failures_are_taken_over() {
    check(&Answer::failure(2).byte(16, 1).guest(), Outcome::Rejected { requeue: true }).await;
    check(&Answer::failure(2).guest(), Outcome::Rejected { requeue: false }).await;
    check(&Answer::failure(3).guest(), Outcome::Ignored).await;
}

#[tokio::test]
async fn an_answer_that_does_not_follow_the_interface_says_how() {
    for (guest, why) in [
        (Guest::answer("{oops"), "result is not JSON"),
        (Guest::answer(""), "result is not JSON"),
        (Guest::answer("1 2"), "result is not JSON"),
        (
            Answer::failure(0).text(16, "E").text(36, "\"no list\"").guest(),
            "arguments of the exception is not a JSON array",
        ),
        (Answer::failure(0).text(36, "[]").guest(), "exc-type is empty"),
        (Answer::failure(1).byte(64, 1).float(72, f64::NAN).guest(), "countdown NaN"),
        (Answer::failure(1).byte(64, 1).float(72, f64::INFINITY).guest(), "countdown inf"),
        (Answer::failure(1).byte(64, 2).text(72, "soon").guest(), "eta"),
        (Answer::failure(1).some(88, "{}").guest(), "args of the retry is not a JSON array"),
        (Answer::failure(1).some(100, "[]").guest(), "kwargs of the retry is not a JSON object"),
        (Answer::failure(9).guest(), "discriminant"),
    ] {
        invalid(&World::guest(&guest).await.outcome().await, why);
    }
}

#[tokio::test]
async fn cancelling_ends_a_guest_that_runs_and_one_that_waits() {
    for guest in [Guest::new("(loop $l (br $l)) unreachable"), sleeper(3600)] {
        let world = World::guest(&guest).await;
        let finished = world.sandbox.invoke(world.attempt("t"), ready(())).await;
        assert_eq!(finished.outcome, Outcome::Interrupted);
        world.check_alive().await;
    }
}

#[tokio::test]
async fn a_task_that_handles_its_soft_limit_is_told_to_end_and_has_a_moment_for_it() {
    let options = [("handles_soft_limit", "true")];
    // The sleep ends when the guest is told, and one that begins later does not.
    let sleeping = Guest::new(
        "(if (call $cancelled) (then unreachable))
         (call $block (call $subscribe (i64.const 3600000000000)))
         (if (i32.eqz (call $cancelled)) (then unreachable))
         (call $block (call $subscribe (i64.const 1000000)))
         (call $ok (local.get 4) (local.get 5))",
    );
    let running = Guest::new("(loop $l (br_if $l (i32.eqz (call $cancelled)))) (call $ok (local.get 4) (local.get 5))");
    for guest in [sleeping.import(SLEEP).import(CONTEXT), running.import(CONTEXT)] {
        let world = World::guest(&guest.task("t", &options)).await;
        let cancel = tokio::time::sleep(Duration::from_millis(30));
        let finished = world.sandbox.invoke(world.attempt("t"), cancel).await;
        assert_eq!(finished.outcome, Outcome::Success(json("[1, 2]")));
        assert!(finished.usage.wall < Duration::from_secs(30));
    }
    // One that does not listen is interrupted in the end.
    for guest in [Guest::new("(loop $l (br $l)) unreachable"), sleeper_twice()] {
        let world = World::guest(&guest.task("t", &options)).await;
        let finished = world.sandbox.invoke(world.attempt("t"), ready(())).await;
        assert_eq!(finished.outcome, Outcome::Interrupted);
        assert!(finished.usage.wall >= Duration::from_secs(5));
        world.check_alive().await;
    }
}

/// The first sleep is cut short, the second is not.
fn sleeper_twice() -> Guest {
    let sleep = "(call $block (call $subscribe (i64.const 3600000000000)))";
    Guest::new(&format!("{sleep} {sleep} unreachable")).import(SLEEP)
}

fn sleeper(seconds: u64) -> Guest {
    let nanoseconds = seconds * 1_000_000_000;
    Guest::new(&format!(
        "(call $block (call $subscribe (i64.const {nanoseconds}))) (call $ok (local.get 4) (local.get 5))"
    ))
    .import(SLEEP)
}

#[tokio::test]
async fn a_guest_can_wait() {
    let guest =
        Guest::new("(call $block (call $subscribe (i64.const 20000000))) (call $ok (local.get 4) (local.get 5))")
            .import(SLEEP);
    let world = World::guest(&guest).await;
    let finished = world.run(world.attempt("t")).await;
    assert_eq!(finished.outcome, Outcome::Success(json("[1, 2]")));
    assert!(finished.usage.wall >= Duration::from_millis(20));
    assert!(finished.usage.cpu < finished.usage.wall);
    assert_eq!(finished.usage.memory_bytes_peak, 2 * 65536);
    let arguments = "[1, 2]".len() + "{}".len();
    assert_eq!((finished.usage.bytes_in, finished.usage.bytes_out), (arguments as u64, 6));
    let usage = world.sandbox.usage();
    let whole = usage.iter().find(|usage| usage.plugin.as_str() == "guest").expect("it is loaded").whole();
    assert_eq!((whole.attempts, whole.failures, whole.bytes_out), (1, 0, 6));
    assert_eq!((whole.cpu, whole.host_calls), (finished.usage.cpu, finished.usage.host_calls));
}

#[tokio::test]
async fn a_waiting_guest_is_stopped_at_its_time_limit() {
    let world = World::guest(&sleeper(3600)).await;
    let limit = Duration::from_millis(50);
    assert_eq!(world.outcome_within(limit).await, Outcome::TimedOut(Limit::Hard(limit)));
    let soft = Some(limit);
    let finished = world.run(Attempt { soft_time_limit: soft, ..world.attempt("t") }).await;
    assert_eq!(finished.outcome, Outcome::TimedOut(Limit::Soft(limit)));
}

#[tokio::test]
async fn a_task_that_handles_its_soft_limit_is_told_and_may_end_by_itself() {
    let options = [("handles_soft_limit", "true"), ("soft_time_limit", "0.05")];
    // The sleep ends at the soft limit, and one that begins later does not.
    let sleeping = Guest::new(
        "(if (call $cancelled) (then unreachable))
         (call $block (call $subscribe (i64.const 3600000000000)))
         (if (i32.eqz (call $cancelled)) (then unreachable))
         (call $block (call $subscribe (i64.const 1000000)))
         (if (i64.eqz (call $remaining)) (then unreachable))
         (call $ok (local.get 4) (local.get 5))",
    );
    let running = Guest::new("(loop $l (br_if $l (i32.eqz (call $cancelled)))) (call $ok (local.get 4) (local.get 5))");
    for guest in [sleeping.import(SLEEP).import(CONTEXT), running.import(CONTEXT)] {
        let world = World::guest(&guest.task("t", &options)).await;
        let finished = world.run(world.attempt("t")).await;
        assert_eq!(finished.outcome, Outcome::Success(json("[1, 2]")));
        assert!(finished.usage.wall >= Duration::from_millis(50));
        assert!(finished.usage.wall < Duration::from_secs(30));
    }
    // One that does not listen has until the hard limit.
    let deaf = Guest::new("(loop $l (br $l)) unreachable").task("t", &options);
    let world = World::guest(&deaf).await;
    let limit = Duration::from_millis(150);
    assert_eq!(world.outcome_within(limit).await, Outcome::TimedOut(Limit::Hard(limit)));
}

#[tokio::test]
async fn guests_take_turns_on_one_thread() {
    let world = World::guest(&Guest::new("(loop $l (br $l)) unreachable")).await;
    // The greedy one is cancelled once the other has had its turn.
    let finished = world.sandbox.invoke(world.attempt("t"), Box::pin(world.check_alive())).await;
    assert_eq!(finished.outcome, Outcome::Interrupted);
}

#[tokio::test]
async fn more_attempts_than_instances_wait_for_their_turn() {
    let world = World::guest(&sleeper(0)).await;
    let attempts = (0..200).map(|_| async {
        let finished = world.sandbox.invoke(world.attempt("t"), pending()).await;
        assert_eq!(finished.outcome, Outcome::Success(json("[1, 2]")));
    });
    let mut attempts: Vec<_> = attempts.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        attempts.retain_mut(|attempt| attempt.as_mut().poll(context).is_pending());
        if attempts.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn an_attempt_of_a_plugin_that_is_gone_says_so() {
    let world = World::guest(&Guest::echo("t")).await;
    let attempt = world.attempt("t");
    let empty = tempfile::TempDir::new().expect("a temporary folder");
    write(empty.path(), "good.wasm", &Guest::echo("good").build());
    world.sandbox.load_folder(empty.path()).await;
    let outcome = world.run(attempt).await.outcome;
    assert_eq!(outcome, Outcome::Trapped(Trap::NotInstantiated("plugin `guest` is not loaded".to_owned())));
}

#[tokio::test]
async fn the_request_is_there_for_those_who_ask() {
    let guest =
        Guest::new("(call $request (i32.const 64)) (call $ok (i32.load (i32.const 64)) (i32.load (i32.const 68)))")
            .import(REQUEST)
            .memory("(import \"shared\" \"memory\" (memory 32)) (export \"memory\" (memory 0))");
    let world = World::guest(&guest).await;
    let Outcome::Success(facts) = world.outcome().await else { panic!("no answer") };
    assert_eq!(facts.get("id"), Some(json("\"id-1\"")));
    assert_eq!(facts.get("hostname"), Some(json("\"taskhost@test\"")));
    assert_eq!(facts.get("time_limit"), Some(json("null")));
}

#[tokio::test]
async fn the_demo_plugin_runs_if_it_was_built() {
    let Some(path) = std::env::var_os("TASKHOST_TEST_DEMO") else {
        eprintln!("skipped: TASKHOST_TEST_DEMO does not name plugins/demo/demo.wasm");
        return;
    };
    let bytes = std::fs::read(path).expect("the demo plugin");
    let world = World::new(&[("demo.wasm", bytes)]).await;
    assert_eq!(world.loaded.refused, []);
    for task in &world.loaded.plugins[0].tasks {
        let finished = world.run(world.attempt(task.spec.name.as_str())).await;
        assert!(!matches!(finished.outcome, Outcome::Trapped(_)), "{}: {finished:?}", task.spec.name);
    }
}

#[test]
fn an_attempt_can_move_between_threads() {
    fn check(world: &World) -> impl Future<Output = Finished> + Send {
        world.sandbox.invoke(world.attempt("t"), pending())
    }
    let _ = check;
}
