//! Guests that misbehave: each gets a typed end, and the sandbox serves the next task as before.

use std::time::{Duration, Instant};

use sandbox::Limits;
use taskhost_core::{Limit, Outcome, Trap};

use crate::guest::{CONTEXT, EXIT, Guest, RANDOM, UPDATE};
use crate::world::World;

const MIB: u64 = 1 << 20;
const SHORT: Duration = Duration::from_millis(100);
/// How late a guest may be stopped on a busy machine.
const LATE: Duration = Duration::from_secs(10);

async fn outcome(guest: Guest) -> Outcome {
    World::guest(&guest).await.outcome().await
}

#[track_caller]
fn trapped(outcome: &Outcome, text: &str) {
    match outcome {
        Outcome::Trapped(Trap::Instruction(why)) if why.contains(text) => {}
        other => panic!("no trap with `{text}`: {other:?}"),
    }
}

const MEMORY_LIMIT: Outcome = Outcome::Trapped(Trap::MemoryLimit { limit_bytes: 128 * MIB });

#[tokio::test]
async fn an_endless_loop_ends_at_the_hard_limit() {
    let world = World::guest(&Guest::new("(loop $l (br $l)) unreachable")).await;
    let started = Instant::now();
    assert_eq!(world.outcome_within(SHORT).await, Outcome::TimedOut(Limit::Hard(SHORT)));
    assert!(started.elapsed() < LATE);
}

#[tokio::test]
async fn a_guest_that_computes_too_long_ends_whatever_its_time_limit_is() {
    let limit = Duration::from_millis(200);
    let spin = Guest::new("(loop $l (br $l)) unreachable").build();
    let manifest = b"name = \"p\"\n[limits]\ncpu_time = 0.2".to_vec();
    let lowered = World::new(&[("p/plugin.toml", manifest), ("p/p.wasm", spin.clone())]).await;
    assert_eq!(lowered.outcome().await, Outcome::Trapped(Trap::CpuTimeLimit { limit }));
    let limits = Limits { cpu_time: Some(limit), ..Limits::default() };
    let world = World::with_limits(limits, &[("guest.wasm", spin)]).await;
    assert_eq!(world.outcome().await, Outcome::Trapped(Trap::CpuTimeLimit { limit }));
}

#[tokio::test]
async fn a_component_that_takes_too_long_to_compile_is_refused_and_the_others_are_served() {
    // Thousands of functions, each with many blocks: seconds of work, where the others take milliseconds.
    let block = "(block (br_if 0 (i32.eqz (local.get 0))) (local.set 0 (i32.mul (local.get 0) (i32.const 3))))";
    let function = format!("(func (param i32) (result i32) {} (local.get 0))", block.repeat(40));
    let bomb = Guest::echo("t").field(&function.repeat(5000)).build();
    let limits = Limits { compile_time: Duration::from_millis(150), ..Limits::default() };
    let world = World::with_limits(limits, &[("bomb.wasm", bomb)]).await;
    assert_eq!(world.refused(), "compiling it took longer than 0.15 s; raise limits.compile_time");
    world.check_alive().await;
}

#[tokio::test]
async fn waiting_is_not_computing() {
    let sleeper =
        Guest::new("(call $block (call $subscribe (i64.const 300000000))) (call $ok (local.get 4) (local.get 5))");
    let limits = Limits { cpu_time: Some(Duration::from_millis(200)), ..Limits::default() };
    let world = World::with_limits(limits, &[("guest.wasm", sleeper.import(crate::guest::SLEEP).build())]).await;
    assert!(matches!(world.outcome().await, Outcome::Success(_)));
}

#[tokio::test]
async fn an_endless_loop_ends_at_the_soft_limit() {
    let guest = Guest::new("(loop $l (br $l)) unreachable").task("t", &[("soft_time_limit", "0.1")]);
    let world = World::guest(&guest).await;
    assert_eq!(world.outcome().await, Outcome::TimedOut(Limit::Soft(SHORT)));
}

#[tokio::test]
async fn an_endless_loop_while_arguments_are_passed_ends() {
    let guest = Guest::new("unreachable")
        .field("(func (export \"cabi_realloc2\") (param i32 i32 i32 i32) (result i32) (loop $l (br $l)) unreachable)");
    let wat_like = guest.realloc("cabi_realloc2");
    let world = World::guest(&wat_like).await;
    assert_eq!(world.outcome_within(SHORT).await, Outcome::TimedOut(Limit::Hard(SHORT)));
}

#[tokio::test]
async fn filling_memory_is_bounded_by_the_memory_limit() {
    let guest =
        Guest::new("(loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 100000000)) (br $l)) unreachable")
            .memory("(memory (export \"memory\") 1600)");
    let world = World::guest(&guest).await;
    let started = Instant::now();
    assert_eq!(world.outcome_within(SHORT).await, Outcome::TimedOut(Limit::Hard(SHORT)));
    assert!(started.elapsed() < LATE);
}

#[tokio::test]
async fn recursion_without_end_overflows_its_own_stack() {
    let outcome = outcome(Guest::new("(call $f) unreachable").field("(func $f (call $f) (call $f))")).await;
    assert_eq!(outcome, Outcome::Trapped(Trap::StackOverflow));
}

#[tokio::test]
async fn growing_memory_without_end_is_a_memory_limit() {
    let grow =
        "(loop $l (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) (br $l)) unreachable";
    let world = World::guest(&Guest::new(grow)).await;
    let finished = world.run(world.attempt("t")).await;
    assert_eq!(finished.outcome, MEMORY_LIMIT);
    assert!(finished.usage.memory_bytes_peak > 126 * MIB && finished.usage.memory_bytes_peak <= 128 * MIB);
    world.check_alive().await;
}

#[tokio::test]
async fn growing_beyond_the_guests_own_maximum_is_its_own_trouble() {
    let guest =
        Guest::new("(if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) (i32.const 0)")
            .memory("(memory (export \"memory\") 2 4)");
    trapped(&outcome(guest).await, "unreachable");
}

#[tokio::test]
async fn growing_tables_without_end_is_a_memory_limit() {
    let grow = "(loop $l (if (i32.eq (table.grow $t (ref.null func) (i32.const 50000)) (i32.const -1)) (then unreachable)) (br $l)) unreachable";
    let limit_bytes = 512 << 10;
    let limits = Limits { memory_bytes: limit_bytes, ..Limits::default() };
    let guest = Guest::new(grow).field("(table $t 1 funcref)").build();
    let world = World::with_limits(limits, &[("guest.wasm", guest)]).await;
    assert_eq!(world.outcome().await, Outcome::Trapped(Trap::MemoryLimit { limit_bytes: limit_bytes as u64 }));
}

#[tokio::test]
async fn a_table_of_ten_million_elements_is_not_had() {
    let grow = "(if (i32.eq (table.grow $t (ref.null func) (i32.const 10000000)) (i32.const -1)) (then unreachable)) (i32.const 0)";
    let outcome = outcome(Guest::new(grow).field("(table $t 1 funcref)")).await;
    assert_eq!(outcome, Outcome::Trapped(Trap::TableLimit { elements: 100_000 }));
    let world = World::new(&[("large.wasm", Guest::echo("t").field("(table 10000000 funcref)").build())]).await;
    assert!(world.refused().contains("table"), "{}", world.refused());
    world.check_alive().await;
}

#[tokio::test]
async fn the_stack_is_as_deep_as_the_operator_says() {
    // Two thousand frames.
    let guest = Guest::new("(drop (call $f (i32.const 2000))) (call $ok (local.get 4) (local.get 5))").field(
        "(func $f (param i32) (result i32)
           (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
             (else (i32.add (local.get 0) (call $f (i32.sub (local.get 0) (i32.const 1)))))))",
    );
    let world = World::guest(&guest).await;
    assert!(matches!(world.outcome().await, Outcome::Success(_)));
    let limits = Limits { stack_bytes: 32 << 10, ..Limits::default() };
    let world = World::with_limits(limits, &[("guest.wasm", guest.build())]).await;
    assert_eq!(world.outcome().await, Outcome::Trapped(Trap::StackOverflow));
}

#[tokio::test]
async fn a_manifest_lowers_the_memory_limit() {
    let grow = "(if (i32.eq (memory.grow (i32.const 32)) (i32.const -1)) (then unreachable)) (i32.const 0)";
    let world = World::new(&[
        ("small/plugin.toml", b"name = \"small\"\n[limits]\nmemory = \"1MiB\"".to_vec()),
        ("small/small.wasm", Guest::new(grow).build()),
    ])
    .await;
    assert_eq!(world.outcome().await, Outcome::Trapped(Trap::MemoryLimit { limit_bytes: MIB }));
}

#[tokio::test]
async fn traps_name_the_instruction_and_the_function() {
    trapped(&outcome(Guest::new("unreachable")).await, "wasm `unreachable` instruction executed in ");
    trapped(
        &outcome(Guest::new("(call $boom) unreachable").field("(func $boom unreachable)")).await,
        "boom, called by ",
    );
    trapped(&outcome(Guest::new("(i32.div_u (i32.const 1) (i32.const 0))")).await, "integer divide by zero");
    trapped(&outcome(Guest::new("(i32.load (i32.const -4))")).await, "out of bounds memory access");
}

#[tokio::test]
async fn a_result_that_claims_to_be_longer_than_memory_is_invalid() {
    let outcome = outcome(Guest::new("(call $ok (i32.const 0) (i32.const -1))")).await;
    assert!(matches!(outcome, Outcome::Trapped(Trap::InvalidResult(_))), "{outcome:?}");
}

#[tokio::test]
async fn an_answer_outside_of_memory_is_invalid() {
    for pointer in ["-8", "3"] {
        let outcome = outcome(Guest::new(&format!("(i32.const {pointer})"))).await;
        assert!(matches!(outcome, Outcome::Trapped(Trap::InvalidResult(_))), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_text_that_is_not_utf8_is_invalid() {
    let guest = Guest::new("(call $ok (i32.const 512) (i32.const 2))").field("(data (i32.const 512) \"\\ff\\fe\")");
    let outcome = outcome(guest).await;
    assert!(matches!(outcome, Outcome::Trapped(Trap::InvalidResult(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_result_has_a_longest_length() {
    // Blanks around a number are JSON, so only the length is wrong.
    let blanks = |bytes: u32| {
        Guest::new(&format!(
            "(memory.fill (i32.const 65536) (i32.const 0x20) (i32.const {bytes}))
             (i32.store8 (i32.const 65536) (i32.const 0x31))
             (call $ok (i32.const 65536) (i32.const {bytes}))"
        ))
        .memory("(memory (export \"memory\") 1000)")
    };
    let limit_bytes = 16 * MIB;
    assert!(matches!(outcome(blanks(16 << 20)).await, Outcome::Success(_)));
    for bytes in [(16 << 20) + 1, 33 << 20, 60 << 20] {
        assert_eq!(outcome(blanks(bytes)).await, Outcome::Trapped(Trap::ResultTooLarge { limit_bytes }), "{bytes}");
    }
}

#[tokio::test]
async fn exit_is_an_outcome_and_not_the_end_of_the_host() {
    for code in [0, 1, 77] {
        let guest = Guest::new(&format!("(call $exit (i32.const {code})) unreachable")).import(EXIT);
        assert_eq!(outcome(guest).await, Outcome::Trapped(Trap::Exited { code, words: None }));
    }
}

#[tokio::test]
async fn random_bytes_come_in_bounded_portions() {
    let guest = |count: u64| {
        Guest::new(&format!("(call $random (i64.const {count}) (i32.const 0)) (call $ok (local.get 4) (local.get 5))"))
            .import(RANDOM)
    };
    assert!(matches!(outcome(guest(64 << 10)).await, Outcome::Success(_)));
    let outcome = outcome(guest(1 << 40)).await;
    assert!(matches!(outcome, Outcome::Trapped(Trap::Instruction(_))), "{outcome:?}");
}

#[tokio::test]
async fn handles_have_a_bound() {
    let guest =
        Guest::new("(loop $l (drop (call $subscribe (i64.const 1))) (br $l)) unreachable").import(crate::guest::SLEEP);
    let limits = Limits { handles: 50, ..Limits::default() };
    let world = World::with_limits(limits, &[("guest.wasm", guest.build())]).await;
    assert_eq!(world.outcome().await, Outcome::Trapped(Trap::HandleLimit { limit: 50 }));
    assert_eq!(outcome(guest).await, Outcome::Trapped(Trap::HandleLimit { limit: 1000 }));
}

/// Calls the host so many times.
fn caller(calls: u64) -> Guest {
    Guest::new(&format!(
        "(local $n i64) (loop $l (drop (call $cancelled)) (local.set $n (i64.add (local.get $n) (i64.const 1)))
           (br_if $l (i64.lt_u (local.get $n) (i64.const {calls})))) (call $ok (local.get 4) (local.get 5))"
    ))
    .import(CONTEXT)
}

#[tokio::test]
async fn calls_into_the_host_are_counted() {
    let limits = Limits { host_calls: 1_000, ..Limits::default() };
    let within = World::with_limits(limits, &[("guest.wasm", caller(1_000).build())]).await;
    let finished = within.run(within.attempt("t")).await;
    assert!(matches!(finished.outcome, Outcome::Success(_)));
    assert_eq!(finished.usage.host_calls, 1_000);
    let beyond = World::with_limits(limits, &[("guest.wasm", caller(1_001).build())]).await;
    assert_eq!(beyond.outcome().await, Outcome::Trapped(Trap::HostCallLimit { limit: 1_000 }));
    assert_eq!(outcome(caller(10_000_000)).await, Outcome::Trapped(Trap::HostCallLimit { limit: 1_000_000 }));
}

#[tokio::test]
async fn a_manifest_lowers_the_limits_of_its_tasks() {
    let manifest = b"name = \"p\"\n[limits]\nhost_calls = 10\nhandles = 5".to_vec();
    let world = World::new(&[("p/plugin.toml", manifest.clone()), ("p/p.wasm", caller(11).build())]).await;
    assert_eq!(world.outcome().await, Outcome::Trapped(Trap::HostCallLimit { limit: 10 }));
    let holder = Guest::new("(loop $l (drop (call $subscribe (i64.const 1))) (br $l)) unreachable");
    let world =
        World::new(&[("p/plugin.toml", manifest), ("p/p.wasm", holder.import(crate::guest::SLEEP).build())]).await;
    assert_eq!(world.outcome().await, Outcome::Trapped(Trap::HandleLimit { limit: 5 }));
}

#[tokio::test]
async fn computing_for_long_is_no_call_into_the_host() {
    // Many ticks, at each of which the guest is stopped for a moment.
    let long = "(local $n i64) (loop $l (local.set $n (i64.add (local.get $n) (i64.const 1)))
        (br_if $l (i64.lt_u (local.get $n) (i64.const 100000000)))) (call $ok (local.get 4) (local.get 5))";
    let limits = Limits { host_calls: 1, ..Limits::default() };
    let world = World::with_limits(limits, &[("guest.wasm", Guest::new(long).build())]).await;
    assert!(matches!(world.outcome().await, Outcome::Success(_)));
}

#[tokio::test]
async fn what_one_call_hands_over_has_a_bound_of_its_own() {
    let hand_over = |bytes: u32| {
        let body = format!(
            "(call $update (i32.const 0) (i32.const 1) (i32.const 0) (i32.const {bytes}) (i32.const 0))
             (call $ok (local.get 4) (local.get 5))"
        );
        Guest::new(&body).import(UPDATE).build()
    };
    let limits = Limits { host_call_bytes: 64 << 10, ..Limits::default() };
    let within = World::with_limits(limits, &[("guest.wasm", hand_over(60 << 10))]).await;
    assert!(matches!(within.outcome().await, Outcome::Success(_)));
    let beyond = World::with_limits(limits, &[("guest.wasm", hand_over(1 << 20))]).await;
    assert_eq!(beyond.outcome().await, Outcome::Trapped(Trap::HostCallTooLarge { limit_bytes: 64 << 10 }));
}

#[tokio::test]
async fn a_guest_that_polls_in_a_tight_loop_still_ends() {
    let guest = Guest::new("(loop $l (call $block (call $subscribe (i64.const 0))) (br $l)) unreachable")
        .import(crate::guest::SLEEP);
    let world = World::guest(&guest).await;
    // Either the time is up first or the handles, which the guest does not give back.
    let outcome = world.outcome_within(SHORT).await;
    assert!(matches!(outcome, Outcome::TimedOut(_) | Outcome::Trapped(Trap::HandleLimit { .. })), "{outcome:?}");
}

#[tokio::test]
async fn many_memories_of_just_under_the_limit_are_refused() {
    let memories: String = (0..40).map(|_| "(memory 1900)").collect();
    let world = World::new(&[("many.wasm", Guest::echo("t").field(&memories).build())]).await;
    assert!(world.refused().contains("memor"), "{}", world.refused());
    // Few enough to be compiled, but together too much.
    let memories: String = (0..4).map(|_| "(memory 1900)").collect();
    let world = World::new(&[("many.wasm", Guest::echo("t").field(&memories).build())]).await;
    assert!(world.refused().contains("MemoryLimitExceeded: 128 MiB; raise limits.memory"), "{}", world.refused());
    world.check_alive().await;
}

#[tokio::test]
async fn memory_that_is_too_large_from_the_start_is_refused_with_the_limit() {
    let guest = Guest::echo("t").memory("(memory (export \"memory\") 3000)");
    let world = World::new(&[("large.wasm", guest.build())]).await;
    assert!(world.refused().contains("MemoryLimitExceeded: 128 MiB; raise limits.memory"), "{}", world.refused());
    world.check_alive().await;
}

#[tokio::test]
async fn features_that_are_off_are_refused() {
    for field in ["(memory i64 1)", "(tag)", "(type (struct (field i32)))", "(memory 1 2 shared)"] {
        let world = World::new(&[("feature.wasm", Guest::echo("t").field(field).build())]).await;
        assert!(world.refused().starts_with("compile it: "), "{field}: {}", world.refused());
    }
}

#[tokio::test]
async fn endless_loading_is_refused() {
    let limits = Limits { describe_time: SHORT, ..Limits::default() };
    let start = Guest::echo("t").field("(func $endless (loop $l (br $l))) (start $endless)");
    let describe = Guest::echo("t").describe("(loop $l (br $l)) unreachable");
    for guest in [start, describe] {
        let world = World::with_limits(limits, &[("endless.wasm", guest.build())]).await;
        assert_eq!(world.refused(), "`describe` took longer than 0.1 s; raise limits.describe_time");
        world.check_alive().await;
    }
}

#[tokio::test]
async fn an_endless_start_function_ends_at_the_time_limit() {
    // Short enough to be loaded, too long for the attempt.
    let guest = Guest::echo("t").field(
        "(func $long (local $n i64) (loop $l (local.set $n (i64.add (local.get $n) (i64.const 1)))
           (br_if $l (i64.lt_u (local.get $n) (i64.const 400000000))))) (start $long)",
    );
    let world = World::guest(&guest).await;
    let limit = Duration::from_millis(20);
    assert_eq!(world.outcome_within(limit).await, Outcome::TimedOut(Limit::Hard(limit)));
}
