//! The SQLite store: its tables, its locks, and files that others made.

use rusqlite::Connection;
use taskhost_core::State;
use tempfile::TempDir;

use super::*;
use crate::conformance::{self, fresh, record};

async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(RedactedUrl::new("sqlite:///x.db"), path.to_owned(), Format::default()).await.unwrap()
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
    let Err(error) = SqliteStore::open(RedactedUrl::new("sqlite:///no.db"), path, Format::default()).await else {
        panic!()
    };
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
