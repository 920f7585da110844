//! What a guest tries with folders that it was granted: out of them, around their mode, into what is no file.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use taskhost_core::{Attempt, Outcome, Trap};
use tempfile::TempDir;

use crate::files::{self, check, names, steps};
use crate::world::World;

/// A world whose guest may read `/in` and write `/out`, and the folders that those are, side by side in one.
async fn world() -> Option<(World, TempDir)> {
    let dir = TempDir::new().expect("a temporary folder");
    for folder in ["in", "out"] {
        std::fs::create_dir(dir.path().join(folder)).expect("a folder");
    }
    std::fs::write(dir.path().join("secret"), "secret").expect("a file");
    std::fs::write(dir.path().join("in/given"), "given").expect("a file");
    let (read, written) = (place(&dir, "in"), format!("{}:rw", place(&dir, "out")));
    let granted = [format!("/in={read}"), format!("/out={written}")];
    let needs = "fs = [\"/in\", \"/out:rw\"]";
    let world = files::world(needs, &[("fs", &[&granted[0], &granted[1]])]).await?;
    assert_eq!(world.loaded.refused, [], "{:?}", world.loaded.refused);
    Some((world, dir))
}

fn place(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).display().to_string()
}

/// Nothing came of it: each step is an error, whichever.
async fn all_fail(world: &World, tries: &[&str]) {
    let told = steps(world, tries).await;
    for (step, told) in tries.iter().zip(told) {
        let is_error = told.contains('-') || ["access", "invalid", "overflow", "unsupported", "loop"].contains(&&*told);
        assert!(is_error && !told.contains("secret"), "{step}: {told}");
    }
    world.check_alive().await;
}

#[tokio::test]
async fn no_path_leads_out_of_a_folder() {
    let Some((world, _dir)) = world().await else { return };
    let read = |path: &str| format!(r#""do": "read", "path": "/in/{path}""#);
    let paths = [
        "../secret",
        "./../secret",
        "a/../../secret",
        "given/../../secret",
        "../in/../secret",
        "..//secret",
        "../secret/",
        "given/",
        "./../../../../../../../../proc/self/environ",
        "../../../../../../../../etc/passwd",
        "..",
    ];
    let tries: Vec<String> = paths.iter().map(|path| read(path)).collect();
    all_fail(&world, &tries.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // A path that begins at the root is no path in a folder.
    let absolute = [
        (r#""do": "open_folder", "name": "", "path": "/in""#, "ok"),
        (r#""do": "read", "path": "/in/given""#, "given"),
    ];
    check(&world, &absolute).await;
    let told = steps(&world, &[r#""do": "read", "path": "/proc/self/environ""#, r#""do": "list", "path": "/""#]).await;
    assert_eq!(told, ["no-entry", "no-entry"]);
}

#[tokio::test]
async fn no_link_leads_out_of_a_folder() {
    let Some((world, dir)) = world().await else { return };
    let inside = dir.path().join("in");
    symlink("../secret", inside.join("relative")).expect("a link");
    symlink(dir.path().join("secret"), inside.join("absolute")).expect("a link");
    symlink("..", inside.join("up")).expect("a link");
    symlink("given", inside.join("good")).expect("a link");
    let tries = [
        r#""do": "read", "path": "/in/relative""#,
        r#""do": "read", "path": "/in/absolute""#,
        r#""do": "read", "path": "/in/up/secret""#,
        r#""do": "read", "path": "/in/up/in/given""#,
        r#""do": "list", "path": "/in/up""#,
        r#""do": "symlink", "from": "/etc/passwd", "to": "/out/absolute""#,
    ];
    all_fail(&world, &tries).await;
    check(
        &world,
        &[
            (r#""do": "read", "path": "/in/good""#, "given"),
            // It may make one that leads out, and gets nowhere by it.
            (r#""do": "symlink", "from": "../secret", "to": "/out/own""#, "ok"),
        ],
    )
    .await;
    all_fail(&world, &[r#""do": "read", "path": "/out/own""#]).await;
}

#[tokio::test]
async fn a_link_that_changes_while_another_looks_leads_nowhere_either() {
    let Some((world, dir)) = world().await else { return };
    let out = dir.path().join("out");
    std::fs::create_dir(out.join("folder")).expect("a folder");
    std::fs::write(out.join("folder/secret"), "given").expect("a file");
    symlink("..", out.join("link")).expect("a link");
    // Two attempts over one folder: `here` is by turns a folder of it and a link out of it.
    let swap: Vec<&str> = [
        r#""do": "rename", "from": "/out/folder", "to": "/out/here""#,
        r#""do": "rename", "from": "/out/here", "to": "/out/folder""#,
        r#""do": "rename", "from": "/out/link", "to": "/out/here""#,
        r#""do": "rename", "from": "/out/here", "to": "/out/link""#,
    ]
    .repeat(300);
    let look = [r#""do": "read", "path": "/out/here/secret""#; 600];
    let (_, told) = tokio::join!(Box::pin(steps(&world, &swap)), Box::pin(steps(&world, &look)));
    let mut told: Vec<String> = told;
    told.sort();
    told.dedup();
    assert!(told.iter().all(|told| told != "secret"), "{told:?}");
}

#[tokio::test]
async fn what_is_for_reading_is_not_changed_in_any_way() {
    let Some((world, dir)) = world().await else { return };
    let tries = [
        r#""do": "open", "name": "f", "path": "/in/given""#,
        r#""do": "open", "name": "f", "path": "/in/given", "truncate": true"#,
        r#""do": "open", "name": "f", "path": "/in/new""#,
        r#""do": "make_folder", "path": "/in/new""#,
        r#""do": "unlink", "path": "/in/given""#,
        r#""do": "rename", "from": "/in/given", "to": "/in/taken""#,
        r#""do": "rename", "from": "/in/given", "to": "/out/taken""#,
        r#""do": "link", "from": "/in/given", "to": "/out/taken""#,
        r#""do": "link", "from": "/in/given", "to": "/in/taken""#,
        r#""do": "symlink", "from": "given", "to": "/in/taken""#,
        r#""do": "rename", "from": "/out", "to": "/in/out""#,
    ];
    all_fail(&world, &tries).await;
    assert_eq!(names(&dir.path().join("in")), ["given"]);
    assert_eq!(names(&dir.path().join("out")), [""; 0]);
    assert_eq!(std::fs::read_to_string(dir.path().join("in/given")).expect("it is there"), "given");
}

#[tokio::test]
async fn times_that_no_clock_shows_are_an_error() {
    let Some((world, _dir)) = world().await else { return };
    let open = (r#""do": "open", "name": "f", "path": "/out/f""#, "ok");
    check(&world, &[open, (r#""do": "set_times", "name": "f", "seconds": 1, "nanoseconds": 999999999"#, "ok")]).await;
    for (seconds, nanoseconds) in [(u64::MAX, u32::MAX), (u64::MAX, 0), (i64::MAX as u64, u32::MAX)] {
        let set = format!(r#""do": "set_times", "name": "f", "seconds": {seconds}, "nanoseconds": {nanoseconds}"#);
        let told = steps(&world, &[open.0, &set]).await;
        assert_ne!(told[1], "ok", "{seconds} {nanoseconds}");
        world.check_alive().await;
    }
}

#[tokio::test]
async fn what_is_no_file_is_not_opened() {
    let Some((world, dir)) = world().await else { return };
    let fifo = dir.path().join("in/fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
    assert!(Command::new("mkfifo").arg(dir.path().join("out/fifo")).status().expect("mkfifo runs").success());
    // Whoever opens a pipe that nobody writes waits, in a thread that nobody can stop: that must not happen even once.
    let tries = [
        r#""do": "read", "path": "/in/fifo""#,
        r#""do": "read", "path": "/out/fifo""#,
        r#""do": "open", "name": "f", "path": "/out/fifo""#,
        r#""do": "open", "name": "f", "path": "/out/fifo", "follow": true"#,
    ];
    let attempt = Attempt { time_limit: Duration::from_secs(20), ..call(&world, &tries) };
    let Outcome::Success(told) = world.run(attempt).await.outcome else { panic!("it waited") };
    assert_eq!(told.as_str(), r#"["not-permitted","not-permitted","not-permitted","not-permitted"]"#);
    world.check_alive().await;
}

fn call(world: &World, steps: &[&str]) -> Attempt {
    let steps: Vec<String> = steps.iter().map(|step| format!("{{{step}}}")).collect();
    world.call("files.run", &format!("[[{}]]", steps.join(", ")))
}

#[tokio::test]
async fn open_files_are_bounded_and_closed_afterwards() {
    let Some((world, _dir)) = world().await else { return };
    let open = || Path::new("/proc/self/fd").read_dir().map_or(0, Iterator::count);
    let before = open();
    for _ in 0..3 {
        let many = [r#""do": "many", "kind": "open", "path": "/out/f", "count": 100000"#];
        let outcome = world.run(call(&world, &many)).await.outcome;
        assert_eq!(outcome, Outcome::Trapped(Trap::HandleLimit { limit: 1000 }));
        world.check_alive().await;
    }
    // Other tests of this process have some open meanwhile.
    assert!(open() < before + 500, "{} files open, {before} before", open());
}

#[tokio::test]
async fn a_guest_without_grants_sees_no_environment() {
    let Some(world) = files::world("", &[]).await else { return };
    let Outcome::Success(told) = world.run(world.call("files.variables", "[]")).await.outcome else {
        panic!("no list")
    };
    assert_eq!(told.as_str(), r#"[""]"#);
    check(&world, &[(r#""do": "list", "path": "/""#, "no-entry"), (r#""do": "list", "path": "/tmp""#, "no-entry")])
        .await;
}
