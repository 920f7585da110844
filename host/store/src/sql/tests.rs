//! The SQLite store: its tables, its locks, and files that others made.

mod django;
mod servers;

use std::path::Path;

use rusqlite::Connection;
use taskhost_core::State;
use tempfile::TempDir;

use super::value::Value;
use super::*;
use crate::conformance::{self, fresh, record};

async fn open(path: &Path) -> SqlStore {
    let url = RedactedUrl::new("sqlite:///x.db");
    SqlStore::sqlite(url, path.to_owned(), &DatabaseOptions::default(), Format::default()).await.unwrap()
}

/// A file in a folder that is deleted with it.
fn file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host.db");
    (folder, path)
}

fn count(path: &Path, table: &str) -> i64 {
    let client = Connection::open(path).unwrap();
    client.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn the_sqlite_store_conforms() {
    let (_folder, path) = file();
    conformance::run(Arc::new(open(&path).await)).await;
}

#[test]
fn rows_are_written_in_one_order_and_each_finds_its_answer() {
    let layout = CeleryTables::new(&DatabaseOptions::default().names);
    let row = |key: &str, width: usize| {
        let rest = std::iter::repeat_n(Value::Null, width - 1);
        Row { values: std::iter::once(Value::Text(key.to_owned())).chain(rest).collect() }
    };
    let rows = vec![row("d", 3), row("b", 6), row("c", 3), row("a", 6), row("c", 3)];
    let (left, became) = layout.table(Which::Tasks).collapse(rows);
    let keys: Vec<&str> = left.iter().map(Row::key).collect();
    assert_eq!(keys, ["c", "d", "a", "b"]);
    assert_eq!(became, [1, 3, 0, 2, 0]);
}

#[tokio::test]
async fn a_row_is_what_sqlalchemy_would_write() {
    let (_folder, path) = file();
    let store = open(&path).await;
    let (id, started) = (fresh("row"), fresh("row"));
    let done =
        ResultRecord { date_done: Some(Timestamp::from_micros(0)), ..record(&id, State::Success, "{\"a\": NaN}") };
    assert!(store.put(&[done, record(&started, State::Started, "null")]).await.iter().all(Result::is_ok));

    type Shown = (String, String, String, Option<String>, Option<String>, Option<Vec<u8>>);
    let shown = |id: &TaskId| -> Shown {
        let client = Connection::open(&path).unwrap();
        let sql = "SELECT status, typeof(result), CAST(result AS TEXT), date_done, traceback, children \
                   FROM celery_taskmeta WHERE task_id = ?1";
        let row = |row: &rusqlite::Row<'_>| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        };
        client.query_row(sql, [id.as_str()], row).unwrap()
    };
    let date = Some("1970-01-01 00:00:00.000000".to_owned());
    assert_eq!(shown(&id), ("SUCCESS".into(), "blob".into(), "{\"a\": NaN}".into(), date, None, None));
    assert_eq!(shown(&started), ("STARTED".into(), "blob".into(), "null".into(), None, None, None));
}

#[tokio::test]
async fn columns_that_an_older_client_did_not_make_are_added() {
    let (_folder, path) = file();
    let client = Connection::open(&path).unwrap();
    client
        .execute_batch(
            "CREATE TABLE celery_taskmeta (id INTEGER NOT NULL, task_id VARCHAR(155), status VARCHAR(50),
                result BLOB, date_done DATETIME, traceback TEXT, PRIMARY KEY (id), UNIQUE (task_id));
             INSERT INTO celery_taskmeta (task_id, status, result) VALUES ('old', 'SUCCESS', x'80049500');",
        )
        .unwrap();
    let store = open(&path).await;
    assert!(store.put(&[record(&fresh("new"), State::Success, "1")]).await[0].is_ok());
    let added: i64 = client
        .query_row(
            "SELECT COUNT(*) FROM pragma_table_info('celery_taskmeta') WHERE name IN ('children', 'stamps', 'args')",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(added, 3);
    let error = store.get(&TaskId::parse("old").unwrap()).await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("pickle"), "{error:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = file();
    let _store = open(&path).await;
    for name in ["host.db", "host.db-wal", "host.db-shm"] {
        let mode = std::fs::metadata(path.with_file_name(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_says_why() {
    let (folder, _) = file();
    let path = folder.path().join("no/such/folder.db");
    let url = RedactedUrl::new("sqlite:///no.db");
    let opened = SqlStore::sqlite(url, path, &DatabaseOptions::default(), Format::default()).await;
    let Err(error) = opened else { panic!() };
    assert_eq!(error.to_string(), "connect to sqlite:///no.db");
    assert!(!error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn what_expired_is_deleted_and_what_is_not_final_stays() {
    let (_folder, path) = file();
    let store = open(&path).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = Timestamp::from_micros(0) + now;
    let done = |at| ResultRecord { date_done: Some(at), ..record(&fresh("old"), State::Success, "1") };
    let old: Vec<_> = (0..1_300).map(|_| done(now - Duration::from_secs(7_200))).collect();
    assert!(store.put(&old).await.iter().all(Result::is_ok));
    let young = [done(now), record(&fresh("running"), State::Started, "null")];
    assert!(store.put(&young).await.iter().all(Result::is_ok));
    assert_eq!(store.delete_expired(Duration::from_secs(3_600)).await.unwrap(), 1_300);
    assert_eq!(count(&path, "celery_taskmeta"), 2);
    assert_eq!(store.delete_expired(Duration::from_secs(3_600)).await.unwrap(), 0);
}

#[tokio::test]
async fn children_and_groups_are_what_sqlalchemy_would_write() {
    let (_folder, path) = file();
    let store = open(&path).await;
    let (parent, childless) = (fresh("parent"), fresh("parent"));
    let children = Json::parse(r#"[[["c", null], null]]"#).unwrap();
    let records = [
        ResultRecord { children, ..record(&parent, State::Success, "1") },
        ResultRecord { children: Json::empty_list(), ..record(&childless, State::Success, "1") },
    ];
    assert!(store.put(&records).await.iter().all(Result::is_ok));
    let group = fresh("group").to_string();
    let tuple = format!(r#"[["{group}", null], [[["a", null], null]]]"#);
    store.save_group(&group, &Json::parse(tuple.clone()).unwrap()).await.unwrap();

    let client = Connection::open(&path).unwrap();
    let children = |id: &TaskId| -> (String, Option<String>) {
        let sql = "SELECT typeof(children), CAST(children AS TEXT) FROM celery_taskmeta WHERE task_id = ?1";
        client.query_row(sql, [id.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    assert_eq!(children(&parent), ("blob".into(), Some(r#"[[["c", null], null]]"#.into())));
    assert_eq!(children(&childless), ("null".into(), None));
    let sql = "SELECT typeof(result), CAST(result AS TEXT), date_done FROM celery_tasksetmeta WHERE taskset_id = ?1";
    let shown: (String, String, String) =
        client.query_row(sql, [&group], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    assert_eq!((shown.0.as_str(), shown.1), ("blob", tuple));
    assert!(Timestamp::parse(&shown.2).is_ok() && shown.2.len() == "2026-11-26 04:35:10.000000".len(), "{}", shown.2);

    // Groups expire with results.
    assert_eq!(store.delete_expired(Duration::from_secs(3_600)).await.unwrap(), 2, "their results are of last week");
    assert_eq!(count(&path, "celery_tasksetmeta"), 1);
    client.execute("UPDATE celery_tasksetmeta SET date_done = '2026-01-01 00:00:00.000000'", []).unwrap();
    assert_eq!(store.delete_expired(Duration::from_secs(3_600)).await.unwrap(), 1);
    assert_eq!(count(&path, "celery_tasksetmeta"), 0);
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
async fn python_reads_children_and_groups() {
    const PYTHON: &str = "TASKHOST_TEST_PYTHON";
    let Some(python) = std::env::var_os(PYTHON).filter(|python| !python.is_empty()) else {
        return println!("skipped: {PYTHON} is not set");
    };
    let (_folder, path) = file();
    let store = open(&path).await;
    let children = Json::parse(r#"[[["c", null], null]]"#).unwrap();
    let parent = fresh("parent");
    let parent = ResultRecord { children, ..record(&parent, State::Success, "1") };
    assert!(store.put(std::slice::from_ref(&parent)).await[0].is_ok());
    store.save_group("ours", &Json::parse(r#"[["ours", null], [[["a", null], null]]]"#).unwrap()).await.unwrap();
    let client = r"
import sys
from celery import Celery
from celery.result import GroupResult
app = Celery(backend='db+sqlite:///' + sys.argv[1])
print([child.as_tuple() for child in app.AsyncResult(sys.argv[2]).children])
print(GroupResult.restore('ours', app=app).as_tuple())
GroupResult('theirs', [app.AsyncResult('b')]).save(backend=app.backend)
";
    let mut command = std::process::Command::new(python);
    command.args(["-c", client]).arg(&path).arg(parent.id.as_str());
    let said = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = (String::from_utf8_lossy(&said.stdout).into_owned(), String::from_utf8_lossy(&said.stderr).into_owned());
    assert_eq!(said.0, "[(('c', None), None)]\n(('ours', None), [(('a', None), None)])\n", "{}", said.1);
    let theirs = store.group("theirs").await.unwrap().map(|tuple| tuple.to_string());
    assert_eq!(theirs.as_deref(), Some(r#"[["theirs", null], [[["b", null], null]]]"#));
}

#[tokio::test]
async fn another_process_wakes_who_waits() {
    let (_folder, path) = file();
    // Two stores on one file share nothing else, as two processes.
    let (near, far) = (open(&path).await, open(&path).await);
    let id = fresh("far");
    let put = async {
        for state in [State::Started, State::Success] {
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert!(far.put(&[record(&id, state, "1")]).await[0].is_ok());
        }
    };
    let began = std::time::Instant::now();
    tokio::join!(near.changed(&id, Duration::from_secs(60)), put);
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(near.is_final(&id).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_finds_the_file_locked() {
    let (_folder, path) = file();
    let store = Arc::new(open(&path).await);
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let client = std::thread::spawn({
        let (path, ended) = (path.clone(), Arc::clone(&ended));
        move || {
            // As Python's sqlite3 is: SQLite's own way of waiting, for five seconds.
            let client = Connection::open(&path).unwrap();
            client.busy_timeout(Duration::from_secs(5)).unwrap();
            client.execute_batch("CREATE TABLE kombu (payload TEXT)").unwrap();
            let mut longest = Duration::ZERO;
            let mut writes = 0;
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                let began = std::time::Instant::now();
                client.execute("INSERT INTO kombu VALUES ('x')", []).expect("the client is never locked out");
                longest = longest.max(began.elapsed());
                writes += 1;
            }
            (writes, longest)
        }
    });
    let puts: Vec<_> = (0..4)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let began = std::time::Instant::now();
                while began.elapsed() < Duration::from_secs(3) {
                    let batch: Vec<_> = (0..100).map(|_| record(&fresh("busy"), State::Success, "1")).collect();
                    assert!(store.put(&batch).await.iter().all(Result::is_ok));
                }
            })
        })
        .collect();
    for put in puts {
        put.await.unwrap();
    }
    ended.store(true, std::sync::atomic::Ordering::Relaxed);
    let (writes, longest) = client.join().unwrap();
    assert!(writes > 10, "the client wrote {writes} times");
    assert!(longest < Duration::from_secs(3), "the client waited {longest:?}");
}
