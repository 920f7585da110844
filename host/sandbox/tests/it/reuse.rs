//! Plugins that let one instance run several attempts, one after the other.

use std::collections::BTreeMap;
use std::future::{pending, ready};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sandbox::{Grant, Limits, Look};
use taskhost_core::{Attempt, Json, Outcome, PluginName, TaskId, Trap};
use tokio::sync::Semaphore;
use tracing::Level;

use crate::guest::{DROPPED_SLEEP, Guest, OUTPUT, SLEEP};
use crate::logs::capture;
use crate::world::{World, write};

/// Counts the attempts that its instance has run, in a variable of its own.
const COUNT: &str = "(global.set $n (i32.add (global.get $n) (i32.const 1)))";
/// Answers with what it has counted.
const ANSWER: &str = "(i32.store8 (i32.const 512) (i32.add (i32.const 48) (global.get $n)))
    (call $ok (i32.const 512) (i32.const 1))";

fn counter(body: &str) -> Guest {
    Guest::new(&format!("{COUNT} {body} {ANSWER}")).field("(global $n (mut i32) (i32.const 0))")
}

fn manifest(rest: &str) -> Vec<u8> {
    format!("name = \"p\"\n{rest}").into_bytes()
}

const REUSE: &str = "[instance]\nreuse = 5\n";

async fn world(rest: &str, guest: &Guest) -> World {
    let world = World::new(&[("p/plugin.toml", manifest(rest)), ("p/p.wasm", guest.build())]).await;
    assert_eq!(world.loaded.refused, []);
    world
}

async fn counted(world: &World, task: &str) -> i64 {
    number(world.run(world.attempt(task)).await.outcome)
}

#[track_caller]
fn number(outcome: Outcome) -> i64 {
    let Outcome::Success(result) = &outcome else { panic!("no result: {outcome:?}") };
    result.as_str().parse().expect("a number")
}

#[tokio::test]
async fn without_a_word_in_the_manifest_each_attempt_has_an_instance_of_its_own() {
    for rest in ["", "[instance]\n", "[instance]\nreuse = 1\n"] {
        let world = world(rest, &counter("")).await;
        for _ in 0..3 {
            assert_eq!(counted(&world, "t").await, 1, "{rest}");
        }
        assert_eq!(world.sandbox.idle_instances(), 0, "{rest}");
    }
}

/// What the plugin keeps in its memory is seen by its next attempts on purpose: that is what a slow start is
/// spared with. Whoever runs tasks for others that must not see each other does not ask for it.
#[tokio::test]
async fn an_instance_runs_as_many_attempts_as_the_manifest_says() {
    let world = world("[instance]\nreuse = 3\n", &counter("")).await;
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(counted(&world, "t").await);
    }
    assert_eq!(seen, [1, 2, 3, 1, 2, 3, 1]);
    assert_eq!(world.sandbox.idle_instances(), 1);
    world.check_alive().await;
}

#[tokio::test]
async fn two_attempts_at_a_time_have_two_instances() {
    let sleep = "(call $block (call $subscribe (i64.const 20000000)))";
    // The handle is given back, as every language does.
    let guest = counter(&format!("{sleep} (call $drop (i32.const 1))")).import(DROPPED_SLEEP);
    let world = world(REUSE, &guest).await;
    let run = || world.run(world.attempt("t"));
    let (one, other) = tokio::join!(run(), run());
    assert_eq!([number(one.outcome), number(other.outcome)], [1, 1]);
    assert_eq!(world.sandbox.idle_instances(), 2);
    let (one, other) = tokio::join!(run(), run());
    assert_eq!([number(one.outcome), number(other.outcome)], [2, 2]);
}

/// What an attempt does by the length of its arguments.
const BY_LENGTH: &str = "
    (if (i32.eq (local.get 5) (i32.const 2)) (then unreachable))
    (if (i32.eq (local.get 5) (i32.const 4)) (then (loop $spin (br $spin))))
    (if (i32.eq (local.get 5) (i32.const 5)) (then (drop (memory.grow (i32.const 60000)))))
    (if (i32.eq (local.get 5) (i32.const 6)) (then (return (call $ok (i32.const 0) (i32.const 0)))))
    (if (i32.eq (local.get 5) (i32.const 7)) (then
      (i32.store8 (i32.const 0) (i32.const 1)) (i32.store8 (i32.const 8) (i32.const 2))
      (i32.store8 (i32.const 16) (i32.const 0)) (return (i32.const 0))))";
const COUNTS: &str = "[1]";
const TRAPS: &str = "[]";
const SPINS: &str = "[11]";
const MEETS_A_LIMIT: &str = "[111]";
const IS_INVALID: &str = "[1111]";
const REJECTS: &str = "[11111]";

#[tokio::test]
async fn after_anything_but_an_ordinary_end_the_instance_is_gone() {
    let world = world(REUSE, &counter(BY_LENGTH)).await;
    let count = async || number(world.run(world.call("t", COUNTS)).await.outcome);
    for args in [TRAPS, SPINS, IS_INVALID, MEETS_A_LIMIT] {
        assert_eq!([count().await, count().await], [1, 2], "before {args}");
        let mut attempt = world.call("t", args);
        if args == SPINS {
            attempt.time_limit = Duration::from_millis(30);
        }
        let outcome = world.run(attempt).await.outcome;
        match args {
            TRAPS => assert!(matches!(outcome, Outcome::Trapped(Trap::Instruction(_))), "{outcome:?}"),
            SPINS => assert!(matches!(outcome, Outcome::TimedOut(_)), "{outcome:?}"),
            IS_INVALID => assert!(matches!(outcome, Outcome::Trapped(Trap::InvalidResult(_))), "{outcome:?}"),
            // It can do without the memory, and its result counts; but the next one shall have that it wants.
            _ => assert_eq!(number(outcome), 3),
        }
        assert_eq!(world.sandbox.idle_instances(), 0, "{args}");
    }
    assert_eq!(count().await, 1);
    let cancelled = world.sandbox.invoke(world.call("t", SPINS), ready(())).await;
    assert_eq!(cancelled.outcome, Outcome::Interrupted);
    assert_eq!(count().await, 1);
    // To reject a message is an ordinary end.
    let rejected = world.run(world.call("t", REJECTS)).await.outcome;
    assert_eq!(rejected, Outcome::Rejected { requeue: false });
    assert_eq!(count().await, 3);
    world.check_alive().await;
}

#[tokio::test]
async fn the_memory_that_earlier_attempts_took_counts() {
    let grow = "(if (i32.eq (memory.grow (i32.const 6)) (i32.const -1)) (then unreachable))";
    let world = world(&format!("limits.memory = \"1MiB\"\n{REUSE}"), &counter(grow)).await;
    let first = world.run(world.attempt("t")).await;
    let second = world.run(world.attempt("t")).await;
    assert_eq!([number(first.outcome), number(second.outcome)], [1, 2]);
    assert_eq!([first.usage.memory_bytes_peak, second.usage.memory_bytes_peak].map(|bytes| bytes >> 16), [8, 14]);
    let third = world.run(world.attempt("t")).await.outcome;
    assert_eq!(third, Outcome::Trapped(Trap::MemoryLimit { limit_bytes: 1 << 20 }));
    assert_eq!(counted(&world, "t").await, 1);
}

#[tokio::test]
async fn what_a_task_is_granted_is_not_seen_by_one_that_is_not() {
    let mut grant = Grant::default();
    grant.set("env", &["COLOUR=blue".to_owned()]).expect("an entry");
    grant.set("tasks", &["a".to_owned()]).expect("a name");
    let grants = BTreeMap::from([(PluginName::parse("p").expect("a name"), grant)]);
    let guest = counter("").task("a", &[]).and_task("b", &[]).and_task("c", &[]);
    let files =
        [("p/plugin.toml", manifest(&format!("needs.env = [\"COLOUR\"]\n{REUSE}"))), ("p/p.wasm", guest.build())];
    let world = World::with_grants(Limits::default(), grants, &files).await;
    let mut seen = Vec::new();
    for task in ["a", "a", "b", "a", "b", "c"] {
        seen.push(counted(&world, task).await);
    }
    assert_eq!(seen, [1, 2, 1, 3, 2, 3]);
}

#[tokio::test]
async fn what_an_attempt_prints_is_its_own_even_through_a_stream_of_an_earlier_one() {
    let text = "line\n";
    let puts: String =
        text.bytes().enumerate().map(|(at, byte)| format!("(call $put (i32.const {at}) (i32.const {byte}))")).collect();
    let body = format!(
        "(if (i32.eqz (global.get $out)) (then (global.set $out (call $stdout)))) {puts}
         (local.set 0 (i32.const 0))
         (loop $more (call $write (global.get $out) (i32.const 0) (i32.const {}) (i32.const 8192))
           (local.set 0 (i32.add (local.get 0) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get 0) (i32.const 1000))))",
        text.len()
    );
    let guest = counter(&body).field("(global $out (mut i32) (i32.const 0))").import(OUTPUT);
    let world = world(&format!("version = \"1.2\"\nlimits.log = \"100B\"\n{REUSE}"), &guest).await;
    for n in 1..=2 {
        let mut attempt = world.attempt("t");
        Arc::make_mut(&mut attempt.request).id = TaskId::parse(&format!("id-{n}")).expect("an id");
        let (outcome, lines) = capture(Level::INFO, async { world.run(attempt).await.outcome }).await;
        assert_eq!(number(outcome), n, "the instance is used again");
        let fields = format!("task.id=id-{n} task.name=t plugin=p version=1.2");
        let lines: Vec<&str> =
            lines.iter().map(|line| line.trim_start()).filter(|line| line.contains("task:")).collect();
        // Each may say as much as if it were alone.
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert_eq!(lines[0], format!("INFO task: line {fields}"));
        assert!(lines[3].contains("bytes of output dropped") && lines[3].ends_with(&fields), "{}", lines[3]);
    }
}

#[tokio::test]
async fn an_instance_that_holds_something_of_the_host_is_not_used_again() {
    let guest = counter("(drop (call $subscribe (i64.const 1)))").import(SLEEP);
    let world = world(REUSE, &guest).await;
    assert_eq!([counted(&world, "t").await, counted(&world, "t").await], [1, 1]);
    assert_eq!(world.sandbox.idle_instances(), 0);
}

#[tokio::test]
async fn instances_of_a_version_that_is_gone_are_dropped() {
    let world = world(REUSE, &counter("")).await;
    assert_eq!([counted(&world, "t").await, counted(&world, "t").await], [1, 2]);
    let look = || world.sandbox.refresh(world.dir.path(), Look::Settled);
    look().await;
    assert_eq!(world.sandbox.idle_instances(), 1, "nothing has changed");
    write(world.dir.path(), "p/p.wasm", &counter("(nop)").build());
    look().await;
    assert_eq!(world.sandbox.idle_instances(), 1, "it has not settled");
    assert!(look().await.changed);
    assert_eq!(world.sandbox.idle_instances(), 0);
    assert_eq!([counted(&world, "t").await, counted(&world, "t").await], [1, 2]);
    // What was granted is fetched again as well, so this is another one.
    world.sandbox.refresh(world.dir.path(), Look::Now).await;
    assert_eq!(world.sandbox.idle_instances(), 0);
    assert_eq!(counted(&world, "t").await, 1);
}

#[tokio::test]
async fn an_attempt_that_ends_after_its_version_leaves_no_instance() {
    const HOUR: Duration = Duration::from_secs(3600);
    let sleep = format!("(call $block (call $subscribe (i64.const {}))) (call $drop (i32.const 1))", HOUR.as_nanos());
    let world = world(REUSE, &counter(&sleep).import(DROPPED_SLEEP)).await;
    let running = world.run(Attempt { time_limit: 2 * HOUR, ..world.attempt("t") });
    let reload = async {
        world.sandbox.refresh(world.dir.path(), Look::Now).await;
        tokio::time::pause();
        tokio::time::advance(HOUR).await;
    };
    let (finished, ()) = tokio::join!(running, reload);
    assert_eq!((number(finished.outcome), world.sandbox.idle_instances()), (1, 0));
}

#[tokio::test]
async fn an_instance_waits_for_ten_seconds() {
    let world = world(REUSE, &counter("")).await;
    tokio::time::pause();
    let run = || counted(&world, "t");
    assert_eq!(run().await, 1);
    tokio::time::advance(Duration::from_millis(9_900)).await;
    tokio::task::yield_now().await;
    assert_eq!(run().await, 2);
    tokio::time::advance(Duration::from_millis(9_900)).await;
    tokio::task::yield_now().await;
    assert_eq!(world.sandbox.idle_instances(), 1);
    tokio::time::advance(Duration::from_millis(200)).await;
    tokio::task::yield_now().await;
    assert_eq!(world.sandbox.idle_instances(), 0);
    assert_eq!(run().await, 1);
    // And the one after the others as well.
    tokio::time::advance(Duration::from_millis(10_100)).await;
    tokio::task::yield_now().await;
    assert_eq!(world.sandbox.idle_instances(), 0);
}

#[tokio::test]
async fn instances_that_wait_make_room_for_those_that_have_work() {
    // Beside two attempts at a time there is room for eight that are loaded.
    const ROOM: usize = 10;
    let sleep = "(if (i32.eq (local.get 5) (i32.const 3)) (then
        (call $block (call $subscribe (i64.const 20000000))) (call $drop (i32.const 1))))";
    let waiting = Guest::new("(call $block (call $subscribe (i64.const -1))) unreachable");
    let files = [
        ("p/plugin.toml", manifest(REUSE)),
        ("p/p.wasm", counter(sleep).import(DROPPED_SLEEP).build()),
        ("w.wasm", waiting.task("w", &[]).import(SLEEP).build()),
    ];
    let world = World::new(&files).await;
    let three = join_all((0..3).map(|_| world.run(world.call("t", "[1]")))).await;
    assert!(three.into_iter().all(|finished| number(finished.outcome) == 1));
    assert_eq!(world.sandbox.idle_instances(), 2, "not more than run at a time");
    tokio::time::pause();
    let end = Semaphore::new(0);
    let attempts = join_all((0..ROOM).map(|_| {
        let cancel = async { drop(end.acquire().await) };
        world.sandbox.invoke(world.attempt("w"), cancel)
    }));
    let watch = async {
        for _ in 0..100_000 {
            if world.sandbox.idle_instances() == 0 {
                end.add_permits(ROOM);
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{} still wait", world.sandbox.idle_instances());
    };
    let (ended, ()) = tokio::join!(attempts, watch);
    assert!(ended.into_iter().all(|finished| finished.outcome == Outcome::Interrupted));
    world.check_alive().await;
}

#[tokio::test]
async fn a_wrong_number_is_refused_with_its_line() {
    for (rest, why) in [("[instance]\nreuse = 0", "line 3: "), ("[instance]\nreus = 2", "the nearest known is `reuse`")]
    {
        let world = World::new(&[("p/plugin.toml", manifest(rest)), ("p/p.wasm", counter("").build())]).await;
        assert!(world.refused().contains(why), "{}", world.refused());
    }
}

#[tokio::test]
async fn an_answer_of_one_attempt_is_not_that_of_the_next() {
    let world = world(REUSE, &Guest::echo("t")).await;
    for args in ["[1]", "[2, 3]", "[]"] {
        let finished = world.sandbox.invoke(world.call("t", args), pending()).await;
        assert_eq!(finished.outcome, Outcome::Success(Json::parse(args.to_owned()).expect("JSON")));
    }
}
