//! What is special to the folder: names, Celery's files, expiry and trouble.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use taskhost_core::Json;
use tempfile::TempDir;

use super::*;
use crate::conformance::{self, fresh, record};

async fn open(folder: &Path) -> FilesystemStore {
    open_with(folder, &StoreOptions::default()).await
}

async fn open_with(folder: &Path, options: &StoreOptions) -> FilesystemStore {
    let url = format!("file://{}", folder.display());
    FilesystemStore::open(RedactedUrl::new(&url), folder.to_owned(), options).await.unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn id(text: &str) -> TaskId {
    TaskId::parse(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filesystem_store_conforms() {
    let folder = TempDir::new().unwrap();
    conformance::run(Arc::new(open(folder.path()).await)).await;
    assert!(names(folder.path()).iter().all(|name| name.starts_with("celery-task")), "no draft is left");
}

#[tokio::test]
async fn files_are_called_and_written_as_celery_does() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    store.put(&[record(&id("a-1"), State::Success, "[1, null]")]).await.remove(0).unwrap();
    store.save_group("g-1", &Json::parse(r#"[["g-1", null], []]"#).unwrap()).await.unwrap();
    assert_eq!(names(folder.path()), ["celery-task-meta-a-1", "celery-taskset-meta-g-1"]);
    let text = fs::read_to_string(folder.path().join("celery-task-meta-a-1")).unwrap();
    let expected = r#"{"status": "SUCCESS", "result": [1, null], "traceback": null, "children": [], "date_done": "2026-11-22T10:32:08.348566+00:00", "task_id": "a-1"}"#;
    assert_eq!(text, expected);
    let text = fs::read_to_string(folder.path().join("celery-taskset-meta-g-1")).unwrap();
    assert_eq!(text, r#"{"result": [["g-1", null], []]}"#);
    let prefixed = StoreOptions { key_prefix: Some("app".to_owned()), ..StoreOptions::default() };
    let store = open_with(folder.path(), &prefixed).await;
    store.put(&[record(&id("a-1"), State::Started, "null")]).await.remove(0).unwrap();
    assert!(folder.path().join("app_celery-task-meta-a-1").exists());
}

#[tokio::test]
async fn no_id_leads_out_of_the_folder() {
    let outer = TempDir::new().unwrap();
    let folder = outer.path().join("results");
    // Celery would follow this, if the first part of it were a folder.
    fs::create_dir_all(folder.join("celery-task-meta-x")).unwrap();
    let store = open(&folder).await;
    let (long, outside) = (id(&"i".repeat(240)), id("x/../../outside"));
    for (id, reason) in [(&outside, "has a `/` in it"), (&long, "257 bytes")] {
        let error = store.put(&[record(id, State::Success, "1")]).await.remove(0).unwrap_err();
        assert!(!error.is_transient());
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(reason), "{source}");
        assert!(store.get(id).await.is_err() && store.forget(id).await.is_err());
    }
    assert_eq!((names(outer.path()), names(&folder)), (vec!["results".into()], vec!["celery-task-meta-x".into()]));
    // The others of the batch are stored.
    let batch = [record(&outside, State::Success, "1"), record(&id(".."), State::Success, "2")];
    let answers = store.put(&batch).await;
    assert!(answers[0].is_err() && answers[1].is_ok());
    assert_eq!(store.get(&id("..")).await.unwrap().unwrap().result.as_str(), "2");
}

#[tokio::test]
async fn what_is_old_is_deleted_and_what_is_not_a_result_stays() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    for name in [
        "celery-task-meta-old",
        "celery-taskset-meta-old",
        "chord-unlock-old",
        "celery-task-meta-new",
        "notes",
        ".taskhost-draft-1",
    ] {
        fs::write(folder.path().join(name), "{}").unwrap();
        if !name.ends_with("new") {
            let file = fs::File::options().write(true).open(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(7_200)).unwrap();
        }
    }
    assert_eq!(store.delete_expired(Duration::from_secs(7_000)).await.unwrap(), 3);
    assert_eq!(names(folder.path()), ["celery-task-meta-new", "notes"]);
}

#[tokio::test]
async fn a_document_that_celery_is_writing_is_waited_for_and_a_broken_one_is_an_error() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    let path = folder.path().join("celery-task-meta-a");
    // Of a machine that was lost before it was written.
    fs::write(&path, "").unwrap();
    assert_eq!(store.get(&id("a")).await.unwrap(), None);
    fs::write(&path, r#"{"status": "SUCC"#).unwrap();
    let finishing = async {
        tokio::task::yield_now().await;
        fs::write(&path, r#"{"status": "SUCCESS", "result": 7, "task_id": "a"}"#).unwrap();
    };
    let task = id("a");
    let (stored, ()) = tokio::join!(store.get(&task), finishing);
    assert_eq!(stored.unwrap().unwrap().result.as_str(), "7");
    fs::write(&path, "[]").unwrap();
    let error = store.get(&id("a")).await.unwrap_err();
    assert_eq!(error.to_string(), "understand stored result of task a");
    // It may be overwritten.
    store.put(&[record(&id("a"), State::Failure, "1")]).await.remove(0).unwrap();
    assert_eq!(store.get(&id("a")).await.unwrap().unwrap().state, State::Failure);
}

#[tokio::test]
async fn what_somebody_else_writes_wakes_who_waits() {
    let folder = TempDir::new().unwrap();
    let (store, other) = (open(folder.path()).await, open(folder.path()).await);
    let task = fresh("elsewhere");
    let began = std::time::Instant::now();
    let writing = async {
        while store.watch.begin().is_none() {
            tokio::task::yield_now().await;
        }
        other.put(&[record(&task, State::Success, "1")]).await.remove(0).unwrap();
    };
    tokio::join!(store.changed(&task, Duration::from_secs(20)), writing);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_folder_that_is_gone_is_trouble_that_may_pass() {
    let outer = TempDir::new().unwrap();
    let path = outer.path().join("results");
    let url = RedactedUrl::new("file:///x");
    let error = FilesystemStore::open(url.clone(), path.clone(), &StoreOptions::default()).await.err().unwrap();
    assert!(error.is_transient());
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("there is no folder /"));
    fs::write(outer.path().join("file"), "").unwrap();
    let file = outer.path().join("file");
    assert!(!FilesystemStore::open(url, file, &StoreOptions::default()).await.err().unwrap().is_transient());

    fs::create_dir(&path).unwrap();
    let store = open(&path).await;
    fs::remove_dir(&path).unwrap();
    let result = [record(&id("a"), State::Success, "1")];
    assert!(store.put(&result).await.remove(0).unwrap_err().is_transient());
    assert!(store.ping().await.unwrap_err().is_transient());
    fs::create_dir(&path).unwrap();
    store.ping().await.unwrap();
    store.put(&result).await.remove(0).unwrap();
    assert_eq!(store.get(&id("a")).await.unwrap().unwrap().state, State::Success);
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
async fn celery_reads_ours_and_we_read_celerys() {
    const PYTHON: &str = "TASKHOST_TEST_PYTHON";
    let Some(python) = std::env::var_os(PYTHON).filter(|python| !python.is_empty()) else {
        return println!("skipped: {PYTHON} is not set");
    };
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    let children = Json::parse(r#"[[["c", null], null]]"#).unwrap();
    let parent = ResultRecord { children, ..record(&id("ours"), State::Success, r#"{"größe": NaN}"#) };
    store.put(&[parent]).await.remove(0).unwrap();
    store.save_group("group", &Json::parse(r#"[["group", null], [[["a", null], null]]]"#).unwrap()).await.unwrap();
    let client = r"
import sys
from celery import Celery
from celery.result import GroupResult
app = Celery(backend='file://' + sys.argv[1])
ours = app.AsyncResult('ours')
print(ours.state, ours.result, [child.as_tuple() for child in ours.children], ours.date_done)
print(GroupResult.restore('group', app=app).as_tuple())
app.backend.store_result('theirs', {'n': 1}, 'SUCCESS')
app.backend.store_result('failed', KeyError('x'), 'FAILURE', traceback='text')
app.backend.store_result('ours', 'another', 'FAILURE')
app.backend.store_result('compressed', 'x' * 100, 'SUCCESS')
GroupResult('theirs', [app.AsyncResult('m')], app=app).save(app.backend)
app.conf.result_compression = 'gzip'
packed = Celery(backend='file://' + sys.argv[1], set_as_current=False)
packed.conf.result_compression = 'gzip'
packed.backend.store_result('packed', 'x' * 100, 'SUCCESS')
ours.forget()
print(ours.state)
";
    let run = Command::new(python).args(["-c", client]).arg(folder.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let expected = "SUCCESS {'größe': nan} [(('c', None), None)] 2026-11-22 10:32:08.348566+00:00
(('group', None), [(('a', None), None)])
PENDING
";
    assert_eq!(String::from_utf8(run.stdout).unwrap(), expected);
    let theirs = store.get(&id("theirs")).await.unwrap().unwrap();
    assert_eq!((theirs.state, theirs.result.as_str()), (State::Success, r#"{"n": 1}"#));
    let failed = store.get(&id("failed")).await.unwrap().unwrap();
    assert_eq!((failed.state, failed.traceback.as_deref()), (State::Failure, Some("text")));
    let packed = store.get(&id("packed")).await.unwrap().unwrap();
    assert_eq!(packed.result.as_str(), format!("\"{}\"", "x".repeat(100)));
    let group = store.group("theirs").await.unwrap().unwrap();
    assert_eq!(group.as_str(), r#"[["theirs", null], [[["m", null], null]]]"#);
    assert_eq!(store.get(&id("ours")).await.unwrap(), None);
}
