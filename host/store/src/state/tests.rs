//! The state file: what is remembered beyond the end of a process, and whose the file is.

use std::path::Path;

use taskhost_core::revoke::Revocation;
use taskhost_core::{DeliveryInfo, HeaderValue, Message, QueueName, TaskId, TaskName, Timestamp};

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_795_343_528_000_000);

fn id(text: &str) -> Revocation {
    Revocation::Id(TaskId::parse(text).expect("a name"))
}

fn stamp() -> Revocation {
    Revocation::stamp("tenant", &HeaderValue::Text("acme".to_owned()))
}

fn task(text: &str) -> TaskName {
    TaskName::parse(text).expect("a name")
}

fn entry(body: &'static str) -> JournalEntry {
    let queue = QueueName::parse("celery").expect("a name");
    let info = DeliveryInfo { queue, exchange: String::new(), routing_key: "celery".to_owned(), redelivered: false };
    JournalEntry { message: Message { body: body.into(), ..Message::default() }, info, resumed: 0 }
}

async fn open(folder: &Path) -> StateFile {
    StateFile::open(folder.join("w.state.db")).await.expect("it can be opened")
}

#[tokio::test]
async fn a_file_of_before_there_was_a_clock_gets_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = open(folder.path()).await;
    state.revoke(vec![(id("a"), NOW)]).await.expect("kept");
    drop(state);
    let older = rusqlite::Connection::open(folder.path().join("w.state.db")).expect("opened");
    older.execute_batch("DROP TABLE clock; PRAGMA user_version = 1").expect("as it was");
    drop(older);
    for clock in [0, 5] {
        let state = open(folder.path()).await;
        assert_eq!(state.clock().await.expect("read"), clock);
        assert_eq!(state.revocations().await.expect("read"), [(id("a"), NOW)]);
        state.keep_clock(5).await.expect("kept");
    }
}

/// What every state does while its process lives.
async fn remembers(state: &dyn NodeState) {
    assert_eq!(state.count("a".to_owned(), NOW).await.expect("counted"), 1);
    assert_eq!(state.count("a".to_owned(), NOW).await.expect("counted"), 2);
    assert_eq!(state.count("b".to_owned(), NOW).await.expect("counted"), 1);
    state.forget_counts(vec!["a".to_owned(), "unknown".to_owned()]).await.expect("forgotten");
    assert_eq!(state.count("a".to_owned(), NOW).await.expect("counted"), 1);

    state.revoke(vec![(id("x"), NOW), (stamp(), NOW), (id("y"), NOW)]).await.expect("kept");
    state.unrevoke(vec![id("x"), stamp(), id("unknown")]).await.expect("forgotten");
    assert_eq!(state.revocations().await.expect("read"), [(id("y"), NOW)]);
    state.unrevoke(vec![id("y")]).await.expect("forgotten");

    assert_eq!(state.clock().await.expect("read"), 0);
    state.keep_clock(7).await.expect("kept");
    state.keep_clock(9).await.expect("kept");
    assert_eq!(state.clock().await.expect("read"), 9);

    state.serve(vec![task("tasks.add"), task("tasks.mul")]).await.expect("kept");
    state.serve(vec![task("tasks.add"), task("tasks.sub")]).await.expect("kept");
    let mut served = state.served().await.expect("read");
    served.sort();
    assert_eq!(served, [task("tasks.add"), task("tasks.mul"), task("tasks.sub")]);

    let ids = state.write_journal(vec![entry("1"), entry("2"), entry("3")]).await.expect("kept");
    state.delete_journal(vec![ids[1], JournalId(999)]).await.expect("deleted");
    let resumed = |times| {
        vec![
            (ids[0], JournalEntry { resumed: times, ..entry("1") }),
            (ids[2], JournalEntry { resumed: times, ..entry("3") }),
        ]
    };
    assert_eq!(state.resume_journal().await.expect("read"), resumed(1));
    assert_eq!(state.resume_journal().await.expect("read"), resumed(2));
    let read = state.read_journal(ids[0]).await.expect("read");
    assert_eq!(read, Some(JournalEntry { resumed: 2, ..entry("1") }));
    assert_eq!(state.read_journal(ids[1]).await.expect("read"), None);
    let later = state.write_journal(vec![entry("4")]).await.expect("kept");
    assert!(later[0] > ids[2], "an id never comes again");
}

#[tokio::test]
async fn memory_remembers_while_it_lives() {
    let state = StateMemory::default();
    assert!(!state.is_durable());
    remembers(&state).await;
}

#[tokio::test]
async fn a_file_remembers_beyond_the_end_of_its_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = open(folder.path()).await;
    assert!(state.is_durable());
    remembers(&state).await;
    let stamp = Revocation::stamp("tenant", &HeaderValue::Text("acme".to_owned()));
    state.revoke(vec![(id("1"), NOW), (stamp.clone(), NOW), (id("2"), NOW)]).await.expect("kept");
    let later = Timestamp::from_micros(NOW.as_micros() + 5);
    state.revoke(vec![(id("1"), later)]).await.expect("kept");
    drop(state);

    let state = open(folder.path()).await;
    assert_eq!(state.revocations().await.expect("read"), [(stamp, NOW), (id("2"), NOW), (id("1"), later)]);
    assert_eq!(state.count("b".to_owned(), NOW).await.expect("counted"), 2);
    assert_eq!(state.served().await.expect("read").len(), 3);
    let bodies: Vec<_> =
        state.resume_journal().await.expect("read").into_iter().map(|(_, it)| it.message.body).collect();
    assert_eq!(bodies, ["1", "3", "4"]);
}

#[tokio::test]
async fn the_oldest_counts_go_when_there_are_too_many() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = open(folder.path()).await;
    for execution in ["old", "new"] {
        state.count(execution.to_owned(), NOW).await.expect("counted");
    }
    // As if so many had been counted in between.
    state
        .work("test", |file| {
            file.execute("UPDATE delivery_count SET seq = seq + ?1 WHERE execution = 'new'", [COUNTS_MAX - 1])
        })
        .await
        .expect("changed");
    state.count("newest".to_owned(), NOW).await.expect("counted");
    assert_eq!(state.count("new".to_owned(), NOW).await.expect("counted"), 2);
    assert_eq!(state.count("old".to_owned(), NOW).await.expect("counted"), 1);
}

#[tokio::test]
async fn two_workers_never_share_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = open(folder.path()).await;
    let second = StateFile::open(folder.path().join("w.state.db")).await;
    assert!(matches!(second, Err(StateError::InUse { .. })), "{:?}", second.err());
    drop(first);
    open(folder.path()).await;
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let state = open(folder.path()).await;
    state.serve(vec![task("tasks.add")]).await.expect("kept");
    for file in std::fs::read_dir(folder.path()).expect("a folder") {
        let file = file.expect("an entry");
        let mode = file.metadata().expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
}

#[tokio::test]
async fn what_is_no_state_file_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = async |name: &str, expected: &str| {
        let error = StateFile::open(folder.path().join(name)).await.err().expect("refused").to_string();
        assert!(error.contains(expected) && error.contains(name), "{error}");
    };
    std::fs::write(folder.path().join("text"), "x".repeat(4096)).expect("written");
    check("text", "it is not an SQLite file").await;
    assert_eq!(std::fs::read(folder.path().join("text")).expect("read"), "x".repeat(4096).as_bytes());
    let other = rusqlite::Connection::open(folder.path().join("other.db")).expect("opened");
    other.execute_batch("CREATE TABLE kombu_queue (id INTEGER)").expect("made");
    drop(other);
    check("other.db", "it belongs to something else").await;
    let later = rusqlite::Connection::open(folder.path().join("later.db")).expect("opened");
    later.pragma_update(None, "user_version", 99).expect("set");
    drop(later);
    check("later.db", "another version").await;
    check("missing/w.state.db", "open state file").await;
}
