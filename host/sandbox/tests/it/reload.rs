//! Plugins that change, break, come and go while their tasks run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sandbox::{CacheConfig, Config, Limits, Loaded, Look, Refreshed, Sandbox};
use taskhost_core::{Attempt, Json, NodeName, Outcome, PluginName, PluginVersion, TaskName};
use tempfile::TempDir;

use crate::guest::{Guest, SLEEP};
use crate::world::{World, write};

fn answers(text: &str) -> Vec<u8> {
    Guest::answer(&format!("\"{text}\"")).build()
}

/// With a time limit that does not stand in the way.
fn attempt(world: &World, loaded: &Loaded, task: &str) -> Attempt {
    let spec = loaded.catalog.get(&TaskName::parse(task).expect("a name")).expect("it is served");
    Attempt { spec: Arc::clone(spec), ..world.attempt("good") }
}

async fn answer(world: &World, loaded: &Loaded) -> Outcome {
    world.run(attempt(world, loaded, "t")).await.outcome
}

fn text(text: &str) -> Outcome {
    Outcome::Success(Json::text(text))
}

async fn look(world: &World) -> Refreshed {
    world.sandbox.refresh(world.dir.path(), Look::Settled).await
}

/// What has changed, once it has stayed as it is for two looks.
async fn settled(world: &World) -> Refreshed {
    assert!(look(world).await.look_again.is_some(), "something has changed");
    look(world).await
}

#[tokio::test]
async fn a_new_file_takes_the_place_of_the_one_before_once_it_has_settled() {
    let world = World::new(&[("p.wasm", answers("one"))]).await;
    assert_eq!(answer(&world, &world.loaded).await, text("one"));
    let same = look(&world).await;
    assert_eq!((same.changed, same.look_again), (false, None));

    write(world.dir.path(), "p.wasm", &answers("two"));
    let first = look(&world).await;
    assert!(!first.changed && first.look_again.is_some());
    assert_eq!(answer(&world, &first.loaded).await, text("one"));
    let second = look(&world).await;
    assert!(second.changed);
    assert_eq!(answer(&world, &second.loaded).await, text("two"));
    // An attempt that was assigned to the version before runs on what there is.
    assert_eq!(answer(&world, &world.loaded).await, text("two"));
    assert!(!look(&world).await.changed);
}

#[tokio::test]
async fn a_file_that_was_only_touched_is_not_loaded_again() {
    let world = World::new(&[("p.wasm", answers("one"))]).await;
    write(world.dir.path(), "p.wasm", &answers("one"));
    let touched = settled(&world).await;
    assert!(!touched.changed);
    assert_eq!(touched.loaded.refused, []);
}

#[tokio::test]
async fn what_is_broken_leaves_the_version_before_in_service() {
    let manifest = |rest: &str| format!("name = \"p\"\n{rest}").into_bytes();
    let files = [("p/plugin.toml", manifest("")), ("p/p.wasm", answers("one"))];
    let world = World::new(&files).await;
    let good = answers("two");
    for (file, bytes, reason) in [
        ("p/p.wasm", Vec::new(), "it is empty"),
        ("p/p.wasm", good[..good.len() / 2].to_vec(), "compile it: "),
        ("p/p.wasm", b"PK\x03\x04".to_vec(), "it is not WebAssembly"),
        ("p/plugin.toml", manifest("[limits]\nmemry = 1"), "unknown key `memry`"),
        ("p/plugin.toml", manifest("[needs]\nenv = [\"HOME\"]"), "not granted: add `env = [\"HOME\"]`"),
        ("p/plugin.toml", manifest("[tasks.t]\ntime_limit = \"long\""), "expected seconds"),
    ] {
        write(world.dir.path(), file, &bytes);
        let mut refreshed = look(&world).await;
        if refreshed.look_again.is_some() {
            refreshed = look(&world).await;
        }
        let [refused] = &refreshed.loaded.refused[..] else { panic!("{file}: {:?}", refreshed.loaded.refused) };
        assert!(refused.reason.contains(reason), "{}", refused.reason);
        assert_eq!(refused.kept.as_ref().map(|(name, _)| name.as_str()), Some("p"), "{reason}");
        assert_eq!(answer(&world, &refreshed.loaded).await, text("one"), "{reason}");
        for (file, bytes) in &files {
            write(world.dir.path(), file, bytes);
        }
        look(&world).await;
        assert_eq!(look(&world).await.loaded.refused, [], "after {reason}");
    }
    world.check_alive().await;
}

#[tokio::test]
async fn of_two_with_one_task_the_one_that_serves_keeps_it_until_it_is_gone() {
    let world = World::new(&[("zz.wasm", answers("old"))]).await;
    write(world.dir.path(), "aa.wasm", &answers("new"));
    let clash = settled(&world).await.loaded;
    assert_eq!(clash.refused[0].reason, "its task `t` is served by the plugin `zz` already");
    assert_eq!(answer(&world, &clash).await, text("old"));
    std::fs::remove_file(world.dir.path().join("zz.wasm")).expect("it was there");
    let now = world.sandbox.refresh(world.dir.path(), Look::Now).await;
    assert_eq!(now.loaded.refused, []);
    assert_eq!(answer(&world, &now.loaded).await, text("new"));
}

#[tokio::test]
async fn a_file_that_is_gone_for_a_moment_is_not_missed() {
    let world = World::new(&[("p.wasm", answers("one"))]).await;
    std::fs::remove_file(world.dir.path().join("p.wasm")).expect("it was there");
    let gone = look(&world).await;
    assert!(!gone.changed && gone.look_again.is_some());
    assert_eq!(answer(&world, &gone.loaded).await, text("one"));
    write(world.dir.path(), "p.wasm", &answers("one"));
    look(&world).await;
    assert!(!look(&world).await.changed);

    std::fs::remove_file(world.dir.path().join("p.wasm")).expect("it was there");
    let gone = world.sandbox.refresh(world.dir.path(), Look::Now).await;
    assert!(gone.changed);
    assert!(gone.loaded.catalog.get(&TaskName::parse("t").expect("a name")).is_none());
}

#[tokio::test]
async fn an_attempt_ends_on_the_version_that_it_has() {
    let slow =
        Guest::new("(call $block (call $subscribe (i64.const 300000000))) (call $ok (i32.const 512) (i32.const 5))")
            .field("(data (i32.const 512) \"\\22one\\22\")")
            .import(SLEEP);
    let world = World::new(&[("p.wasm", slow.build())]).await;
    let running = world.run(attempt(&world, &world.loaded, "t"));
    let reloading = async {
        write(world.dir.path(), "p.wasm", &answers("two"));
        world.sandbox.refresh(world.dir.path(), Look::Now).await.loaded
    };
    let (finished, loaded) = tokio::join!(running, reloading);
    assert_eq!(finished.outcome, text("one"));
    assert_eq!(answer(&world, &loaded).await, text("two"));
}

fn tried(version: &str) -> [(&'static str, Vec<u8>); 2] {
    let manifest = b"name = \"p\"\n[rollout]\npercent = 10\nfor = \"5m\"\nmax_failure_rate = 0.02".to_vec();
    [("p/plugin.toml", manifest), ("p/p.wasm", answers(version))]
}

async fn on_trial() -> (World, Loaded, PluginVersion) {
    let world = World::new(&tried("one")).await;
    write(world.dir.path(), "p/p.wasm", &answers("two"));
    let loaded = world.sandbox.refresh(world.dir.path(), Look::Now).await.loaded;
    let name = TaskName::parse("t").expect("a name");
    let version = loaded.catalog.candidate(&name).expect("it is on trial").version.clone();
    (world, loaded, version)
}

#[tokio::test]
async fn a_version_on_trial_runs_beside_the_one_that_serves() {
    let (world, loaded, version) = on_trial().await;
    assert_eq!(answer(&world, &loaded).await, text("one"));
    let name = TaskName::parse("t").expect("a name");
    let spec = loaded.catalog.candidate(&name).expect("it is on trial").clone();
    let finished = world.run(Attempt { spec, ..world.attempt("good") }).await;
    assert_eq!(finished.outcome, text("two"));

    let demo = PluginName::parse("p").expect("a name");
    let promoted = world.sandbox.end_trial(&demo, &version, None).await.expect("it was on trial");
    assert!(promoted.catalog.is_settled());
    assert_eq!(answer(&world, &promoted).await, text("two"));
    assert!(world.sandbox.end_trial(&demo, &version, None).await.is_none());
    assert!(!look(&world).await.changed);
}

#[tokio::test]
async fn a_version_that_was_taken_back_is_not_tried_again_until_its_file_changes() {
    let (world, _, version) = on_trial().await;
    let (demo, why) = (PluginName::parse("p").expect("a name"), "2 of 10 attempts failed".to_owned());
    let back = world.sandbox.end_trial(&demo, &version, Some(why)).await.expect("it was on trial");
    assert_eq!(answer(&world, &back).await, text("one"));
    assert!(back.refused[0].reason.starts_with("2 of 10 attempts failed; "), "{}", back.refused[0].reason);
    let again = world.sandbox.refresh(world.dir.path(), Look::Now).await.loaded;
    assert!(again.catalog.is_settled());
    assert_eq!(again.refused.len(), 1);
    write(world.dir.path(), "p/p.wasm", &answers("three"));
    let next = settled(&world).await.loaded;
    assert!(!next.catalog.is_settled());
    assert_eq!(next.refused, []);
    // Back to what serves: nothing is left to try.
    write(world.dir.path(), "p/p.wasm", &answers("one"));
    let back = settled(&world).await;
    assert!(back.changed && back.loaded.catalog.is_settled());
}

#[tokio::test]
async fn a_version_is_kept_for_retries_that_are_pinned_to_it() {
    for (pin, expected) in [("true", "one"), ("false", "two")] {
        let manifest = format!("name = \"p\"\n[tasks.t]\npin_retries = {pin}").into_bytes();
        let world = World::new(&[("p/plugin.toml", manifest), ("p/p.wasm", answers("one"))]).await;
        let one = attempt(&world, &world.loaded, "t").spec.version.clone();
        write(world.dir.path(), "p/p.wasm", &answers("two"));
        let loaded = world.sandbox.refresh(world.dir.path(), Look::Now).await.loaded;
        let retry = Attempt { pinned: Some(one), ..attempt(&world, &loaded, "t") };
        assert_eq!(world.run(retry).await.outcome, text(expected), "pin_retries = {pin}");
    }
}

#[tokio::test]
async fn what_is_granted_no_more_is_not_served_any_more() {
    let files =
        [("p/plugin.toml", b"name = \"p\"\n[needs]\nconfig = [\"region\"]".to_vec()), ("p/p.wasm", answers("one"))];
    let world = World::new(&files).await;
    let demo = PluginName::parse("p").expect("a name");
    let name = TaskName::parse("t").expect("a name");
    assert!(world.loaded.catalog.get(&name).is_none());
    let mut grant = sandbox::Grant::default();
    grant.set("config", &["region=eu".to_owned()]).expect("a grant");
    world.sandbox.grant(BTreeMap::from([(demo, grant)]));
    assert!(look(&world).await.loaded.catalog.get(&name).is_some());
    world.sandbox.grant(BTreeMap::new());
    let taken = look(&world).await.loaded;
    assert!(taken.catalog.get(&name).is_none());
    assert!(taken.refused[0].reason.contains("not granted"), "{:?}", taken.refused);
    assert_eq!(taken.refused[0].kept, None);
}

#[tokio::test]
async fn old_code_is_freed_and_memory_stays_as_it_is_over_many_reloads() {
    if in_a_process_of_its_own("reload::old_code_is_freed_and_memory_stays_as_it_is_over_many_reloads") {
        return;
    }
    let world = World::new(&[("p.wasm", answers("0"))]).await;
    let mut after_some = 0;
    for turn in 1..=1_000 {
        // Every third one is broken.
        let bytes = if turn % 3 == 0 { b"\0asm broken".to_vec() } else { answers(&turn.to_string()) };
        write(world.dir.path(), "p.wasm", &bytes);
        let loaded = world.sandbox.refresh(world.dir.path(), Look::Now).await.loaded;
        let serves = if turn % 3 == 0 { turn - 1 } else { turn };
        if turn % 50 == 0 {
            assert_eq!(answer(&world, &loaded).await, text(&serves.to_string()));
        }
        if turn == 200 {
            after_some = resident_kib();
        }
    }
    let grown = resident_kib().saturating_sub(after_some);
    // A version of this guest takes some hundred KiB: eight hundred of them would be far more.
    assert!(grown < 32 * 1024, "{grown} KiB more after 800 reloads");
}

/// Runs the test once more where no other one allocates. True if this is not there.
fn in_a_process_of_its_own(test: &str) -> bool {
    const ALONE: &str = "TASKHOST_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return false;
    }
    let this = std::env::current_exe().expect("it runs");
    let status = std::process::Command::new(this).args(["--exact", test]).env(ALONE, "1").status();
    assert!(status.expect("it starts").success(), "in a process of its own");
    true
}

/// Memory of this process that is in use. Zero where the system does not tell.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

async fn start(dir: &Path, cache: &Path) -> Loaded {
    let sandbox = Sandbox::new(Config {
        concurrency: 1,
        hostname: NodeName::parse("taskhost@test").expect("a name"),
        limits: Limits::default(),
        grants: BTreeMap::new(),
        cache: Some(CacheConfig { dir: cache.join("compiled"), key: cache.join("cache.key") }),
        scratch_dir: None,
        wasi_0_3: false,
    });
    sandbox.expect("a sandbox").load_folder(dir).await
}

#[tokio::test]
async fn a_second_start_does_not_compile_again() {
    let (dir, cache) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    // Large enough to take its time.
    let body: String = (0..2_000)
        .map(|n| format!("(func (param i32) (result i32) (i32.mul (local.get 0) (i32.const {n})))"))
        .collect();
    write(dir.path(), "large.wasm", &Guest::echo("t").field(&body).build());
    let cold = start(dir.path(), cache.path()).await.plugins[0].compile_time;
    let warm = start(dir.path(), cache.path()).await.plugins[0].compile_time;
    assert!(warm * 4 < cold, "cold {cold:?}, warm {warm:?}");
    // Without what it was compiled from nothing is served, whatever the cache has.
    write(dir.path(), "large.wasm", b"");
    assert!(start(dir.path(), cache.path()).await.plugins.is_empty());
}
