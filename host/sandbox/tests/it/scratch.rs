//! The private folder of an attempt: what may be done there, and that no trick gets more than the quota.

use taskhost_core::Outcome;
use tempfile::TempDir;
use tracing::Level;

use crate::files::{self, check, names};
use crate::logs::capture;
use crate::world::World;

const KIB: u64 = 1 << 10;

async fn world(size: &str) -> Option<World> {
    let world = files::world(&format!("scratch = [\"{size}\"]"), &[("scratch", &["256MiB"])]).await?;
    assert_eq!(world.loaded.refused, [], "{:?}", world.loaded.refused);
    Some(world)
}

/// Nothing is left of any attempt.
#[track_caller]
fn check_gone(world: &World) {
    let here = names(world.scratch.path());
    let [folder, lock] = here.as_slice() else { panic!("{here:?}") };
    assert_eq!(&format!("{folder}.lock"), lock);
    assert_eq!(names(&world.scratch.path().join(folder)), [""; 0]);
}

#[tokio::test]
async fn each_attempt_has_a_folder_of_its_own_that_is_gone_afterwards() {
    let Some(world) = world("64KiB").await else { return };
    for _ in 0..2 {
        check(
            &world,
            &[
                (r#""do": "list", "path": "/scratch""#, ""),
                (r#""do": "open", "name": "f", "path": "/scratch/f""#, "ok"),
                (r#""do": "write", "name": "f", "bytes": 5"#, "5"),
                (r#""do": "make_folder", "path": "/scratch/d""#, "ok"),
                (r#""do": "rename", "from": "/scratch/f", "to": "/scratch/d/g""#, "ok"),
                (r#""do": "read", "path": "/scratch/d/g""#, "xxxxx"),
                (r#""do": "list", "path": "/scratch""#, "d"),
            ],
        )
        .await;
        check_gone(&world);
    }
    let Outcome::Success(told) = world.run(world.call("files.variables", "[]")).await.outcome else {
        panic!("no list")
    };
    assert_eq!(told.as_str(), r#"["TMPDIR=/scratch",""]"#);
    world.check_alive().await;
}

#[tokio::test]
async fn no_way_of_writing_gets_beyond_the_quota() {
    let Some(world) = world("100KiB").await else { return };
    let quota = 100 * KIB;
    let open = (r#""do": "open", "name": "f", "path": "/scratch/f""#, "ok");
    check(&world, &[open, (r#""do": "fill", "name": "f""#, "98304 quota")]).await;
    // Up to the last byte, and no further.
    let to_the_end = format!(r#""do": "write", "name": "f", "bytes": 1, "at": {}"#, quota - 1);
    let beyond = format!(r#""do": "write", "name": "f", "bytes": 1, "at": {quota}"#);
    check(&world, &[open, (&to_the_end, "1"), (&beyond, "quota"), (&to_the_end, "1")]).await;
    // Holes count.
    for bytes in [quota + 1, 1 << 52, u64::MAX] {
        let sparse = format!(r#""do": "set_size", "name": "f", "bytes": {bytes}"#);
        let far = format!(r#""do": "write", "name": "f", "bytes": 1, "at": {bytes}"#);
        let stream = format!(r#""do": "stream", "name": "s", "file": "f", "at": {bytes}"#);
        let write = (r#""do": "write", "name": "s", "bytes": 1"#, "quota");
        check(&world, &[open, (&sparse, "quota"), (&far, "quota"), (&stream, "ok"), write]).await;
    }
    let full = format!(r#""do": "set_size", "name": "f", "bytes": {quota}"#);
    check(&world, &[open, (&full, "ok"), (r#""do": "size", "path": "/scratch/f""#, &quota.to_string())]).await;
    // Streams, from a place and at the end, and several at once.
    check(
        &world,
        &[
            open,
            (r#""do": "stream", "name": "a", "file": "f", "at": 0"#, "ok"),
            (r#""do": "stream", "name": "b", "file": "f""#, "ok"),
            (r#""do": "write", "name": "a", "bytes": 61440"#, "61440"),
            (r#""do": "write", "name": "b", "bytes": 40960"#, "40960"),
            (r#""do": "write", "name": "b", "bytes": 1"#, "quota"),
            (r#""do": "write", "name": "a", "bytes": 40960"#, "40960"),
            (r#""do": "write", "name": "a", "bytes": 1"#, "quota"),
            (r#""do": "size", "path": "/scratch/f""#, "102400"),
        ],
    )
    .await;
    check_gone(&world);
    world.check_alive().await;
}

#[tokio::test]
async fn what_is_deleted_or_cut_gives_its_room_back() {
    let Some(world) = world("100KiB").await else { return };
    let fill = (r#""do": "fill", "name": "f""#, "98304 quota");
    let open = (r#""do": "open", "name": "f", "path": "/scratch/f""#, "ok");
    let close = (r#""do": "close", "name": "f""#, "ok");
    let unlink = (r#""do": "unlink", "path": "/scratch/f""#, "ok");
    check(&world, &[open, fill, close, unlink, open, fill]).await;
    check(&world, &[open, fill, (r#""do": "set_size", "name": "f", "bytes": 0"#, "ok"), fill]).await;
    let again = (r#""do": "open", "name": "f", "path": "/scratch/f", "truncate": true"#, "ok");
    check(&world, &[open, fill, again, fill]).await;
    // What another file takes the place of is deleted.
    check(
        &world,
        &[
            open,
            fill,
            close,
            (r#""do": "open", "name": "f", "path": "/scratch/g""#, "ok"),
            (r#""do": "rename", "from": "/scratch/g", "to": "/scratch/f""#, "ok"),
            fill,
        ],
    )
    .await;
}

#[tokio::test]
async fn tricks_with_names_and_handles_give_no_room() {
    let Some(world) = world("100KiB").await else { return };
    let fill = (r#""do": "fill", "name": "f""#, "98304 quota");
    let open = (r#""do": "open", "name": "f", "path": "/scratch/f""#, "ok");
    let unlink = (r#""do": "unlink", "path": "/scratch/f""#, "ok");
    let other = (r#""do": "open", "name": "g", "path": "/scratch/g""#, "ok");
    let nothing = (r#""do": "write", "name": "g", "bytes": 8192"#, "quota");
    // Deleted, and open: by itself, by a second handle, by a stream.
    check(&world, &[open, fill, unlink, other, nothing]).await;
    let second = (r#""do": "open", "name": "h", "path": "/scratch/f""#, "ok");
    let close = (r#""do": "close", "name": "f""#, "ok");
    check(&world, &[open, second, fill, unlink, close, other, nothing]).await;
    let reader = (r#""do": "reader", "name": "r", "file": "f""#, "ok");
    check(&world, &[open, reader, fill, unlink, other, nothing]).await;
    // Two names are one file.
    let link = (r#""do": "link", "from": "/scratch/f", "to": "/scratch/l""#, "ok");
    check(&world, &[open, fill, close, link, unlink, other, nothing]).await;
    // Renamed to itself and onto its own other name nothing is gone.
    let itself = (r#""do": "rename", "from": "/scratch/f", "to": "/scratch/f""#, "ok");
    let onto = (r#""do": "rename", "from": "/scratch/f", "to": "/scratch/l""#, "ok");
    check(&world, &[open, fill, close, itself, link, onto, itself, unlink, other, nothing]).await;
    // Through a link, and back from a folder.
    check(
        &world,
        &[
            (r#""do": "symlink", "from": "f", "to": "/scratch/s""#, "ok"),
            (r#""do": "open", "name": "f", "path": "/scratch/s", "follow": true"#, "ok"),
            fill,
            (r#""do": "make_folder", "path": "/scratch/d""#, "ok"),
            (r#""do": "open_folder", "name": "/again", "path": "/scratch/d""#, "ok"),
            (r#""do": "open", "name": "g", "path": "/again/g""#, "ok"),
            nothing,
        ],
    )
    .await;
    // Cut while a stream still writes; over and over, in files that are forgotten.
    let mut racing = vec![open];
    let later = (r#""do": "write_later", "name": "s", "bytes": 65536"#, "ok");
    let stream = (r#""do": "stream", "name": "s", "file": "f", "at": 0"#, "ok");
    let cut = (r#""do": "set_size", "name": "f", "bytes": 0"#, "ok");
    let refused = (r#""do": "write", "name": "g", "bytes": 65536"#, "quota");
    racing.extend([stream, later, cut, other, refused]);
    check(&world, &racing).await;
    check_gone(&world);
}

#[tokio::test]
async fn a_million_names_are_ten_thousand() {
    let Some(world) = world("1MiB").await else { return };
    for kind in ["file", "folder", "symlink"] {
        let many = format!(r#""do": "many", "kind": "{kind}", "path": "/scratch/n", "count": 1000000"#);
        check(&world, &[(&many, "10000 quota")]).await;
        check_gone(&world);
    }
    let open = (r#""do": "open", "name": "f", "path": "/scratch/n""#, "ok");
    let links = (r#""do": "many", "kind": "link", "path": "/scratch/n", "count": 1000000"#, "9999 quota");
    // One more comes when one goes, whatever it is.
    let one = (r#""do": "make_folder", "path": "/scratch/one""#, "quota");
    let unlink = (r#""do": "unlink", "path": "/scratch/n5""#, "ok");
    let then = (r#""do": "make_folder", "path": "/scratch/one""#, "ok");
    let gone = (r#""do": "remove_folder", "path": "/scratch/one""#, "ok");
    let linked = (r#""do": "link", "from": "/scratch/n", "to": "/scratch/n5""#, "ok");
    check(&world, &[open, links, one, unlink, then, one, gone, linked, one]).await;
    world.check_alive().await;
}

#[tokio::test]
async fn folders_nested_without_end_are_removed_all_the_same() {
    let Some(world) = world("1MiB").await else { return };
    check(&world, &[(r#""do": "nest", "path": "/scratch", "depth": 1000000"#, "10000 quota")]).await;
    check_gone(&world);
    world.check_alive().await;
}

#[tokio::test]
async fn that_there_is_no_room_is_said_once_with_the_line_to_raise() {
    let Some(world) = world("64KiB").await else { return };
    let open = r#""do": "open", "name": "f", "path": "/scratch/f""#;
    let fill = r#""do": "fill", "name": "f""#;
    let (_, log) = capture(Level::INFO, files::steps(&world, &[open, fill, fill, fill])).await;
    let [line] = log.as_slice() else { panic!("{log:?}") };
    let text = "the scratch folder is full: 64KiB; raise `scratch = [\"64KiB\"]` in [needs] of plugin.toml and in \
                [grants.\"files\"] of host.toml";
    assert!(line.trim_start().starts_with(&format!("WARN task: {text} task.id=id-1")), "{line}");
}

#[tokio::test]
async fn nothing_moves_between_the_scratch_folder_and_others() {
    let dir = TempDir::new().expect("a temporary folder");
    std::fs::write(dir.path().join("theirs"), "theirs").expect("a file");
    let granted = format!("/out={}:rw", dir.path().display());
    let needs = "scratch = [\"64KiB\"]\nfs = [\"/out:rw\"]";
    let Some(world) = files::world(needs, &[("scratch", &["64KiB"]), ("fs", &[&granted])]).await else { return };
    let cross = "cross-device";
    check(
        &world,
        &[
            (r#""do": "open", "name": "f", "path": "/scratch/f""#, "ok"),
            (r#""do": "rename", "from": "/scratch/f", "to": "/out/f""#, cross),
            (r#""do": "link", "from": "/scratch/f", "to": "/out/f""#, cross),
            (r#""do": "rename", "from": "/out/theirs", "to": "/scratch/theirs""#, cross),
            (r#""do": "link", "from": "/out/theirs", "to": "/scratch/theirs""#, cross),
            // Elsewhere nothing is counted, and all goes on as it did.
            (r#""do": "open", "name": "o", "path": "/out/large""#, "ok"),
            (r#""do": "set_size", "name": "o", "bytes": 1000000"#, "ok"),
            (r#""do": "rename", "from": "/out/large", "to": "/out/larger""#, "ok"),
        ],
    )
    .await;
    assert_eq!(names(dir.path()), ["larger", "theirs"]);
    check_gone(&world);
}

#[tokio::test]
async fn a_scratch_folder_is_declared_and_granted() {
    let scratch = "scratch = [\"64MiB\"]";
    let Some(small) = files::world(scratch, &[("scratch", &["32MiB"])]).await else { return };
    let words =
        "it declares scratch `64MiB`, not granted: add `scratch = [\"64MiB\"]` to [grants.\"files\"] of host.toml";
    assert_eq!(small.refused(), words);
    // Nothing is made for nobody.
    assert_eq!(names(small.scratch.path()), [""; 0]);
    let Some(undeclared) = files::world("", &[("scratch", &["32MiB"])]).await else { return };
    check(&undeclared, &[(r#""do": "list", "path": "/scratch""#, "no-entry")]).await;
    assert_eq!(names(undeclared.scratch.path()), [""; 0]);
    let Some(others) = files::world(scratch, &[("scratch", &["64MiB"]), ("tasks", &["other.*"])]).await else { return };
    check(&others, &[(r#""do": "list", "path": "/scratch""#, "no-entry")]).await;
    let fs = "scratch = [\"1MiB\"]\nfs = [\"/scratch\"]";
    let Some(both) = files::world(fs, &[("scratch", &["1MiB"]), ("fs", &["/scratch=/tmp"])]).await else { return };
    let words =
        "what it is granted cannot be had: `/scratch` is granted as a folder, and is where the scratch folder is";
    assert_eq!(both.refused(), words);
}
