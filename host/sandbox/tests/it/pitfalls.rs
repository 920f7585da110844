//! Guests that misbehave where nobody looks at first: after they have answered, in destructors, with handles, with
//! memory that others had.

use std::time::Duration;

use sandbox::Limits;
use taskhost_core::{Attempt, Limit, Outcome, Trap};

use crate::guest::{Answer, CONTEXT, Guest, OUTPUT, SLEEP, THING, THING_THAT_SPINS};
use crate::world::{World, json};

const SHORT: Duration = Duration::from_millis(100);
const OK: &str = "(call $ok (local.get 4) (local.get 5))";
const MIB: usize = 1 << 20;

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

#[tokio::test]
async fn an_endless_loop_after_the_answer_ends() {
    let guest = Guest::new(OK)
        .field("(func (export \"after\") (param i32) (loop $l (br $l)))")
        .post_return("(post-return (core func $i \"after\"))");
    assert_eq!(World::guest(&guest).await.outcome_within(SHORT).await, Outcome::TimedOut(Limit::Hard(SHORT)));
}

#[tokio::test]
async fn an_endless_loop_in_a_destructor_ends() {
    let guest = Guest::new(&format!("(call $drop (call $new (i32.const 1))) {OK}"));
    let world = World::guest(&guest.import(THING_THAT_SPINS)).await;
    assert_eq!(world.outcome_within(SHORT).await, Outcome::TimedOut(Limit::Hard(SHORT)));
    let harmless = Guest::new(&format!("(call $drop (call $new (i32.const 1))) {OK}"));
    assert!(matches!(outcome(harmless.import(THING)).await, Outcome::Success(_)));
}

#[tokio::test]
async fn sleeping_for_a_nanosecond_again_and_again_is_counted_and_ends() {
    let guest = Guest::new(
        "(local $p i32) (loop $l (local.set $p (call $subscribe (i64.const 1))) (call $block (local.get $p))
           (call $forget (local.get $p)) (br $l)) unreachable",
    );
    let limits = Limits { host_calls: 30_000, ..Limits::default() };
    let world = World::with_limits(limits, &[("guest.wasm", guest.import(SLEEP).build())]).await;
    assert_eq!(world.outcome().await, Outcome::Trapped(Trap::HostCallLimit { limit: 30_000 }));
}

#[tokio::test]
async fn who_is_told_to_end_and_goes_on_ends_at_the_hard_limit() {
    let guest = Guest::new("(loop $l (drop (call $cancelled)) (br $l)) unreachable")
        .task("t", &[("handles-soft-limit", "true"), ("soft_time_limit", "0.05")])
        .import(CONTEXT);
    let limits = Limits { host_calls: u64::MAX, ..Limits::default() };
    let world = World::with_limits(limits, &[("guest.wasm", guest.build())]).await;
    let limit = Duration::from_millis(300);
    assert_eq!(world.outcome_within(limit).await, Outcome::TimedOut(Limit::Hard(limit)));
}

#[tokio::test]
async fn one_function_that_is_too_much_for_the_compiler_is_refused() {
    let block = "(block (br_if 0 (i32.eqz (local.get 0))) (local.set 0 (i32.mul (local.get 0) (i32.const 3))))";
    let bomb = Guest::echo("t").field(&format!("(func (param i32) {})", block.repeat(300_000))).build();
    let limits = Limits { compile_time: Duration::from_millis(150), ..Limits::default() };
    let world = World::with_limits(limits, &[("bomb.wasm", bomb)]).await;
    let reason = world.refused();
    // The format has limits of its own for one function, which may come first.
    let refused = reason.contains("raise limits.compile_time") || reason.starts_with("compile it: ");
    assert!(refused, "{reason}");
    world.check_alive().await;
}

#[tokio::test]
async fn a_component_of_many_instances_is_refused_and_takes_nothing_from_the_others() {
    let many = |count: usize| {
        let instances: String = (0..count).map(|n| format!("(core instance $e{n} (instantiate $empty))")).collect();
        let component = Guest::echo("t").wat().replacen(
            "(component $C",
            &format!("(component $C (core module $empty (memory 1)) {instances}"),
            1,
        );
        wat::parse_str(component).expect("a component")
    };
    let world = World::new(&[("many.wasm", many(40))]).await;
    assert!(world.refused().contains("instances"), "{}", world.refused());
    world.check_alive().await;
    // As many as there may be, again and again: the pool gets them back.
    let world = World::new(&[("few.wasm", many(6))]).await;
    for _ in 0..50 {
        assert!(matches!(world.outcome().await, Outcome::Success(_)));
    }
}

#[tokio::test]
async fn a_list_of_a_million_things_is_not_read() {
    let describe =
        "(i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 1000000)) (i32.const 0)";
    let guest = Guest::echo("t").describe(describe).memory("(memory (export \"memory\") 600)");
    let world = World::new(&[("list.wasm", guest.build())]).await;
    assert!(world.refused().contains("its answer is longer than 4194304 bytes"), "{}", world.refused());
    world.check_alive().await;
}

#[tokio::test]
async fn an_answer_of_hundreds_of_megabytes_is_not_copied() {
    // Memory is no issue here, so only the length is.
    let limits = Limits { memory_bytes: 512 * MIB, ..Limits::default() };
    let guest = Guest::new("(call $ok (i32.const 65536) (i32.const 209715200))");
    let guest = guest.memory("(memory (export \"memory\") 3400)").build();
    let world = World::with_limits(limits, &[("guest.wasm", guest)]).await;
    assert_eq!(world.outcome().await, Outcome::Trapped(Trap::ResultTooLarge { limit_bytes: 16 * MIB as u64 }));
}

#[tokio::test]
async fn an_allocator_that_lies_hurts_only_its_guest() {
    let realloc = |body: &str| {
        let field = format!("(func (export \"lie\") (param i32 i32 i32 i32) (result i32) {body})");
        Guest::new(OK).field(&field).realloc("lie")
    };
    for outside in ["(i32.const -8)", "(i32.const 131071)"] {
        let outcome = outcome(realloc(outside)).await;
        assert!(matches!(outcome, Outcome::Trapped(_)), "{outcome:?}");
    }
    // All texts in one place: it reads the last that was written, cut to the length that it asks for.
    let outcome = outcome(realloc("(i32.const 2048)")).await;
    assert!(matches!(outcome, Outcome::Trapped(Trap::InvalidResult(_)) | Outcome::Success(_)), "{outcome:?}");
}

#[tokio::test]
async fn json_that_is_deep_huge_or_strange_is_judged_without_recursion() {
    let nested = |depth: u32| {
        Guest::new(&format!(
            "(memory.fill (i32.const 65536) (i32.const 0x5b) (i32.const {depth}))
             (memory.fill (i32.add (i32.const 65536) (i32.const {depth})) (i32.const 0x5d) (i32.const {depth}))
             (call $ok (i32.const 65536) (i32.const {}))",
            2 * depth
        ))
        .memory("(memory (export \"memory\") 300)")
    };
    assert!(matches!(outcome(nested(400)).await, Outcome::Success(_)));
    for depth in [1_000, 1_000_000, 8_000_000] {
        let outcome = outcome(nested(depth)).await;
        assert!(matches!(outcome, Outcome::Trapped(Trap::InvalidResult(_))), "{depth}: {outcome:?}");
    }
    // These are passed on as they are: whoever reads them knows better than we do.
    for text in ["9".repeat(300), "1e999".to_owned(), r#"{"a": 1, "a": 2}"#.to_owned(), "NaN".to_owned()] {
        assert_eq!(outcome(Guest::answer(&text)).await, Outcome::Success(json(&text)));
    }
    assert!(matches!(outcome(Answer::failure(200).guest()).await, Outcome::Trapped(Trap::InvalidResult(_))));
}

#[tokio::test]
async fn a_million_handles_are_a_thousand() {
    let guest = Guest::new("(loop $l (drop (call $new (i32.const 1))) (br $l)) unreachable").import(THING);
    assert_eq!(outcome(guest).await, Outcome::Trapped(Trap::HandleLimit { limit: 1000 }));
    let guest = Guest::new("(loop $l (drop (call $stdout)) (br $l)) unreachable").import(OUTPUT);
    assert_eq!(outcome(guest).await, Outcome::Trapped(Trap::HandleLimit { limit: 1000 }));
}

#[tokio::test]
async fn handles_that_are_gone_or_were_never_there_trap() {
    let twice = "(local $h i32) (local.set $h (call $new (i32.const 1))) (call $drop (local.get $h))
        (call $drop (local.get $h)) unreachable";
    trapped(&outcome(Guest::new(twice).import(THING)).await, "handle");
    for handle in [0, 1, 77, -1] {
        let foreign = Guest::new(&format!("(call $block (i32.const {handle})) unreachable")).import(SLEEP);
        trapped(&outcome(foreign).await, "handle");
    }
    let after = "(local $h i32) (local.set $h (call $subscribe (i64.const 1))) (call $forget (local.get $h))
        (call $block (local.get $h)) unreachable";
    trapped(&outcome(Guest::new(after).import(SLEEP)).await, "handle");
}

#[tokio::test]
async fn nobody_reads_what_another_task_left_in_memory() {
    let writer = Guest::new(&format!(
        "(memory.fill (i32.const 65536) (i32.const 0x53) (i32.const 6000000))
         (drop (memory.grow (i32.const 10)))
         (memory.fill (i32.const 6553600) (i32.const 0x53) (i32.const 655360)) {OK}"
    ))
    .task("write", &[])
    .memory("(memory (export \"memory\") 100)");
    // Every word of memory that it did not write itself, also of what it grows by.
    let reader = Guest::new(&format!(
        "(local $at i32) (local.set $at (i32.const 65536)) (drop (memory.grow (i32.const 10)))
         (loop $l (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
           (local.set $at (i32.add (local.get $at) (i32.const 8)))
           (br_if $l (i32.lt_u (local.get $at) (i32.const 7208960)))) {OK}"
    ))
    .task("read", &[])
    .memory("(memory (export \"memory\") 100)");
    let world = World::new(&[("w.wasm", writer.build()), ("r.wasm", reader.build())]).await;
    for _ in 0..20 {
        for task in ["write", "read"] {
            let finished = world.run(world.attempt(task)).await;
            assert!(matches!(finished.outcome, Outcome::Success(_)), "{task}: {:?}", finished.outcome);
        }
    }
}

#[tokio::test]
async fn a_task_with_a_name_that_plays_tricks_is_refused() {
    for name in ["a\nb", "a\u{1b}[31m", ""] {
        let world = World::new(&[("trick.wasm", Guest::echo(name).build())]).await;
        let reason = world.refused();
        assert!(reason.starts_with("task 1 of `describe`: ") && !reason.contains(char::is_control), "{reason:?}");
    }
    // A path is a name like any other: nothing is opened by it.
    let world = World::new(&[("path.wasm", Guest::echo("../../etc/passwd").build())]).await;
    assert_eq!(world.loaded.refused, []);
}

#[tokio::test]
async fn a_file_of_half_a_gigabyte_is_not_read() {
    let world = World::new(&[("huge.wasm", Vec::new())]).await;
    let file = std::fs::File::options().write(true).open(world.dir.path().join("huge.wasm")).expect("it is there");
    file.set_len(500 * MIB as u64).expect("a file with a hole");
    let before = resident_bytes();
    let loaded = world.sandbox.load_folder(world.dir.path()).await;
    assert_eq!(loaded.refused[0].reason, "it is larger than 67108864 bytes; raise limits.component");
    assert!(resident_bytes() < before + 200 * MIB);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_a_component_that_others_can_replace_is_not_loaded() {
    use std::os::unix::fs::PermissionsExt;
    let elsewhere = tempfile::TempDir::new().expect("a temporary folder");
    let target = elsewhere.path().join("real.wasm");
    std::fs::write(&target, Guest::echo("t").build()).expect("a file");
    let world = World::new(&[]).await;
    std::os::unix::fs::symlink(&target, world.dir.path().join("link.wasm")).expect("a link");
    let loaded = world.sandbox.load_folder(world.dir.path()).await;
    assert_eq!(loaded.refused, []);
    std::fs::set_permissions(elsewhere.path(), PermissionsExt::from_mode(0o777)).expect("it is ours");
    let loaded = world.sandbox.load_folder(world.dir.path()).await;
    assert!(loaded.refused[0].reason.contains("can be written by every user"), "{:?}", loaded.refused);
}

/// What this process has in memory.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: usize = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0);
    kib << 10
}

#[tokio::test]
async fn memory_comes_back_whatever_took_it() {
    let grow = "(loop $l (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
        (memory.fill (i32.mul (i32.sub (memory.size) (i32.const 16)) (i32.const 65536)) (i32.const 1) (i32.const 1048576))
        (br $l)) unreachable";
    let answer = "(memory.fill (i32.const 65536) (i32.const 0x20) (i32.const 60000000))
        (call $ok (i32.const 65536) (i32.const 60000000))";
    let recursion = "(func $f (call $f) (call $f))";
    let guests = [
        ("grow", Guest::new(grow)),
        ("answer", Guest::new(answer).memory("(memory (export \"memory\") 1000)")),
        ("recurse", Guest::new("(call $f) unreachable").field(recursion)),
        ("hold", Guest::new("(loop $l (drop (call $subscribe (i64.const 1))) (br $l)) unreachable").import(SLEEP)),
    ];
    let files: Vec<(String, Vec<u8>)> =
        guests.into_iter().map(|(name, guest)| (format!("{name}.wasm"), guest.task(name, &[]).build())).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let world = World::new(&files).await;
    let round = async || {
        for task in ["grow", "answer", "recurse", "hold"] {
            let finished = world.run(world.attempt(task)).await;
            assert!(matches!(finished.outcome, Outcome::Trapped(_)), "{task}: {:?}", finished.outcome);
            assert!(finished.usage.memory_bytes_peak <= 128 * MIB as u64);
        }
        world.check_alive().await;
    };
    // The pool keeps a part of what the first ones needed.
    for _ in 0..3 {
        round().await;
    }
    let before = resident_bytes();
    for _ in 0..25 {
        round().await;
    }
    // A hundred attempts had up to 128 MiB each; other tests of this process run meanwhile.
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 300 * MIB, "{} MiB more than before", grown / MIB);
}

#[tokio::test]
async fn a_well_behaved_task_gets_its_turns_beside_every_hog() {
    // A task that computes for many ticks; how often it is interrupted is what a neighbour costs it.
    let work = Guest::new(&format!(
        "(local $n i64) (loop $l (local.set $n (i64.add (local.get $n) (i64.const 1)))
           (br_if $l (i64.lt_u (local.get $n) (i64.const 150000000)))) {OK}"
    ))
    .task("work", &[]);
    let fill = "(loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 100000000)) (br $l)) unreachable";
    let hogs = [
        ("spin", Guest::new("(loop $l (br $l)) unreachable")),
        ("fill", Guest::new(fill).memory("(memory (export \"memory\") 1600)")),
        ("call", Guest::new("(loop $l (drop (call $cancelled)) (br $l)) unreachable").import(CONTEXT)),
        (
            "poll",
            Guest::new(
                "(local $p i32) (loop $l (local.set $p (call $subscribe (i64.const 0))) (call $block (local.get $p))
                   (call $forget (local.get $p)) (br $l)) unreachable",
            )
            .import(SLEEP),
        ),
    ];
    let mut files: Vec<(String, Vec<u8>)> =
        hogs.into_iter().map(|(name, guest)| (format!("{name}.wasm"), guest.task(name, &[]).build())).collect();
    files.push(("work.wasm".to_owned(), work.build()));
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let world = World::with_limits(Limits { host_calls: u64::MAX, ..Limits::default() }, &files).await;
    for hog in ["spin", "fill", "call", "poll"] {
        // One thread has both. The hog has no end of its own, and is stopped when the work is done.
        let (done, stop) = tokio::sync::oneshot::channel::<()>();
        let hogging = world
            .sandbox
            .invoke(Attempt { time_limit: Duration::from_secs(600), ..world.attempt(hog) }, async { drop(stop.await) });
        let working = async {
            let finished = world.run(world.attempt("work")).await;
            drop(done);
            finished
        };
        let (hogged, worked) = tokio::join!(Box::pin(hogging), Box::pin(working));
        assert_eq!(hogged.outcome, Outcome::Interrupted, "{hog}");
        assert!(matches!(worked.outcome, Outcome::Success(_)), "{hog}: {:?}", worked.outcome);
        // Each has a tick at a time; one that fills its whole memory keeps it for some ticks.
        let share = worked.usage.wall.as_secs_f64() / worked.usage.cpu.as_secs_f64();
        assert!(share < 30.0, "beside {hog} it took {share:.1} times as long as it ran");
    }
}
