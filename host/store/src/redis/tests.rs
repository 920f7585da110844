//! The Redis store against servers that misbehave, and against a real one if there is one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::conformance::{self, fresh, record};
use crate::target::Target;

const SERVER: &str = "TASKHOST_TEST_REDIS";

/// The URL of the real server, if there is one; says so if there is none.
pub(super) fn server() -> Option<String> {
    server_of(SERVER)
}

#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn server_of(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        println!("skipped: {variable} is not set");
    }
    url
}

pub(super) fn target(url: &str) -> dial::redis::Target {
    match Target::parse(url) {
        Ok(Target::Redis(target)) => *target,
        other => panic!("{url} is no Redis URL: {other:?}"),
    }
}

pub(super) fn store_with(url: &str, options: &StoreOptions) -> RedisStore {
    RedisStore::new(RedactedUrl::new(url), &target(url), options).unwrap()
}

pub(super) fn store(url: &str) -> RedisStore {
    store_with(url, &StoreOptions::default())
}

pub(super) async fn raw<T: redis::FromRedisValue>(store: &RedisStore, command: &[&str]) -> T {
    let (name, arguments) = command.split_first().unwrap();
    let mut command = redis::cmd(name);
    command.arg(arguments);
    let Ok(reply) = store.connection.run(Exchange::Command(&command)).await else { panic!("{name} is answered") };
    redis::from_redis_value(reply).unwrap()
}

#[tokio::test]
async fn the_redis_store_conforms() {
    let Some(url) = server() else { return };
    conformance::run(Arc::new(store(&url))).await;
}

#[tokio::test]
async fn the_redis_store_conforms_with_tls() {
    let Some(url) = server_of("TASKHOST_TEST_REDISS") else { return };
    conformance::run(Arc::new(store(&url))).await;
}

#[tokio::test]
async fn the_redis_store_conforms_behind_sentinels() {
    let Some(url) = server_of("TASKHOST_TEST_SENTINEL") else { return };
    conformance::run(Arc::new(store(&url))).await;
}

#[tokio::test]
async fn strangers_are_permanent_and_sentinels_that_are_gone_are_transient() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = store(&format!("sentinel://:secret@{closed}?master_name=m")).ping().await.unwrap_err();
    assert!(gone.is_transient(), "{gone:?}");
    let Some(url) = server_of("TASKHOST_TEST_REDISS") else { return };
    let error = store(&url.replace("/ca.pem", "/other-ca.pem")).ping().await.unwrap_err();
    assert!(!error.is_transient());
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("certificate is signed by nobody who is believed"), "{cause}");
}

#[tokio::test]
async fn keys_and_documents_are_celerys_and_expire() {
    let Some(url) = server() else { return };
    let options = StoreOptions {
        expires: Duration::from_millis(99_001),
        failure_expires: Some(Duration::from_secs(10)),
        key_prefix: Some("app".into()),
        node: None,
        ..StoreOptions::default()
    };
    let store = store_with(&url, &options);
    let (good, bad) = (fresh("good"), fresh("bad"));
    let records = [record(&good, State::Success, "1"), record(&bad, State::Failure, "null")];
    assert!(store.put(&records).await.iter().all(Result::is_ok));

    let key = format!("app_celery-task-meta-{good}");
    let stored: String = raw(&store, &["GET", &key]).await;
    assert_eq!(stored, document::encode(&records[0]));
    let left: u64 = raw(&store, &["TTL", &key]).await;
    assert!((90..=100).contains(&left), "{left} s left of 100");
    let left: u64 = raw(&store, &["TTL", &format!("app_celery-task-meta-{bad}")]).await;
    assert!((1..=10).contains(&left), "{left} s left of 10");
}

#[tokio::test]
async fn results_may_be_kept_for_ever() {
    let Some(url) = server() else { return };
    let store = store_with(&url, &StoreOptions { expires: Duration::ZERO, ..StoreOptions::default() });
    let id = fresh("ever");
    assert!(store.put(&[record(&id, State::Success, "1")]).await[0].is_ok());
    let left: i64 = raw(&store, &["TTL", &store.keys.of(&id)]).await;
    assert_eq!(left, -1);
    store.forget(&id).await.unwrap();
}

#[tokio::test]
async fn a_success_of_any_other_writer_is_sticky() {
    let Some(url) = server() else { return };
    let store = store(&url);
    for document in [
        r#"{"task_id": "x", "result": 1, "status": "SUCCESS", "traceback": null}"#,
        r#"{"status":"SUCCESS","result":1,"traceback":null}"#,
    ] {
        let id = fresh("other");
        let () = raw(&store, &["SET", &store.keys.of(&id), document]).await;
        assert!(store.put(&[record(&id, State::Failure, "null")]).await[0].is_ok());
        assert_eq!(store.get(&id).await.unwrap().map(|stored| stored.state), Some(State::Success), "{document}");
        store.forget(&id).await.unwrap();
    }
}

#[test]
fn the_state_is_found_without_reading_the_document() {
    assert!(is_success_document(br#"{"status": "SUCCESS", "result": oops"#, &Format::default()));
    assert!(!is_success_document(br#"{"status": "SUCCESSFUL", "result": 1}"#, &Format::default()));
    assert!(!is_success_document(br#"{"status": "FAILURE", "result": "\"status\": \"SUCCESS\""}"#, &Format::default()));
    assert!(!is_success_document(b"not a document", &Format::default()));
    assert!(is_final_document(br#"{"status": "REVOKED"}"#, &Format::default()));
    assert!(!is_final_document(br#"{"status": "STARTED"}"#, &Format::default()));
}

/// A server in front of the real one whose connections can be cut.
struct Proxy {
    url: String,
    accepted: Arc<AtomicUsize>,
    connections: Arc<tokio::sync::Mutex<JoinSet<()>>>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    async fn start(behind: dial::redis::Target) -> Self {
        let dial::redis::Address::Tcp(host, port) = behind.address else { panic!("{SERVER} names a TCP port") };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}/{}", listener.local_addr().unwrap(), behind.db);
        let (accepted, connections) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let mut accepting = JoinSet::new();
        let (count, open): (_, Arc<tokio::sync::Mutex<JoinSet<()>>>) =
            (Arc::clone(&accepted), Arc::clone(&connections));
        accepting.spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let host = host.clone();
                open.lock().await.spawn(async move {
                    let mut far = TcpStream::connect((host, port)).await.unwrap();
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { url, accepted, connections, _accepting: accepting }
    }

    async fn cut(&self) {
        self.connections.lock().await.shutdown().await;
    }
}

#[tokio::test]
async fn a_lost_connection_is_made_anew() {
    let Some(url) = server() else { return };
    let proxy = Proxy::start(target(&url)).await;
    let store = store(&proxy.url);
    let id = fresh("cut");
    assert!(store.put(&[record(&id, State::Started, "1")]).await[0].is_ok());
    assert!(store.put(&[record(&id, State::Started, "2")]).await[0].is_ok());
    assert_eq!(proxy.accepted.load(Ordering::SeqCst), 1, "one connection for all");

    proxy.cut().await;
    assert!(store.put(&[record(&id, State::Success, "3")]).await[0].is_ok(), "repeated on a new connection");
    assert_eq!(proxy.accepted.load(Ordering::SeqCst), 2);
    assert_eq!(store.get(&id).await.unwrap().unwrap().result.as_str(), "3");
}

#[tokio::test]
async fn a_wait_survives_the_loss_of_its_subscription() {
    let Some(url) = server() else { return };
    let proxy = Proxy::start(target(&url)).await;
    let far = store(&url);
    let near = store(&proxy.url);
    let id = fresh("deaf");
    let put = async {
        // One connection is the subscription, the other the first look.
        while proxy.accepted.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        proxy.cut().await;
        assert!(far.put(&[record(&id, State::Success, "1")]).await[0].is_ok());
    };
    let began = Instant::now();
    tokio::join!(near.changed(&id, Duration::from_secs(60)), put);
    assert!(began.elapsed() < Duration::from_secs(30));
}

/// A server that answers what it reads in this way and counts its connections.
pub(super) async fn refusing(answer: fn(&str) -> &'static str) -> (String, Arc<AtomicUsize>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            open.spawn(async move {
                let mut command = [0; 4096];
                while let Ok(bytes) = client.read(&mut command).await
                    && bytes > 0
                {
                    let answer = answer(&String::from_utf8_lossy(&command[..bytes]));
                    client.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (url, accepted, serving)
}

#[tokio::test]
async fn after_a_failover_the_server_is_looked_up_again() {
    let (url, accepted, _serving) = refusing(|_| "-READONLY You can't write against a read only replica.\r\n").await;
    let store = store(&url);
    for attempt in 1..=2 {
        let error = store.put(&[record(&fresh("x"), State::Success, "1")]).await.remove(0).unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert_eq!(accepted.load(Ordering::SeqCst), attempt);
    }
}

#[tokio::test]
async fn a_full_server_is_asked_again_on_the_same_connection() {
    let (url, accepted, _serving) = refusing(|_| "-OOM command not allowed when used memory > 'maxmemory'.\r\n").await;
    let store = store(&url);
    for _ in 0..2 {
        let answers =
            store.put(&[record(&fresh("x"), State::Success, "1"), record(&fresh("y"), State::Success, "1")]).await;
        assert!(
            answers.len() == 2 && answers.iter().all(|answer| answer.as_ref().is_err_and(StoreError::is_transient))
        );
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_transaction_fails_for_the_reason_of_its_commands() {
    let (url, _, _serving) = refusing(|command| match command.contains("MULTI") {
        true => "+OK\r\n-OOM out of memory\r\n-OOM out of memory\r\n-EXECABORT discarded because of errors\r\n",
        false => "*1\r\n$-1\r\n",
    })
    .await;
    let error = store(&url).put(&[record(&fresh("x"), State::Success, "1")]).await.remove(0).unwrap_err();
    assert!(error.is_transient());
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("OOM"), "{error:?}");
}

#[tokio::test]
async fn a_wrong_password_is_permanent_and_not_shown() {
    let (url, _, _serving) = refusing(|_| "-WRONGPASS invalid username-password pair or user is disabled.\r\n").await;
    let store = store(&url.replace("redis://", "redis://me:secret@"));
    let error = store.ping().await.unwrap_err();
    assert!(!error.is_transient());
    assert!(error.to_string().starts_with("connect to redis://me:**@127.0.0.1:"), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("WRONGPASS"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_down_is_transient() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    drop(listener);
    let store = store(&url);
    assert!(store.ping().await.unwrap_err().is_transient());
    assert!(store.get(&fresh("x")).await.unwrap_err().is_transient());
    assert!(
        store.put(&[record(&fresh("x"), State::Success, "1")]).await[0].as_ref().is_err_and(StoreError::is_transient)
    );
}
