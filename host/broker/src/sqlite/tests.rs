//! What is special to the embedded broker: clients' rows, leases, ETAs, several processes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::{Connection, params};
use taskhost_core::protocol::envelope;
use taskhost_core::{HeaderValue, Route, Timestamp};
use tempfile::TempDir;

use super::*;
use crate::conformance::{self, Capabilities, expect_quiet, settle, take, texts};
use crate::kombu;
use crate::port::{Acknowledgement, DELIVERY_COUNT_HEADER, Delivery, PutBack, Receipt, Token};

/// What SQLAlchemy 2.0 emits for kombu 5.7, as it stands in `sqlite_master`.
const SQLALCHEMY: &str = r#"
CREATE TABLE kombu_queue (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name VARCHAR(200), 
	UNIQUE (name)
);
CREATE TABLE kombu_message (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	visible BOOLEAN, 
	timestamp DATETIME, 
	payload TEXT NOT NULL, 
	version SMALLINT NOT NULL, 
	queue_id INTEGER, 
	CONSTRAINT "FK_kombu_message_queue" FOREIGN KEY(queue_id) REFERENCES kombu_queue (id)
);
CREATE INDEX ix_kombu_message_visible ON kombu_message (visible);
CREATE INDEX ix_kombu_message_timestamp_id ON kombu_message (timestamp, id);
CREATE INDEX ix_kombu_message_timestamp ON kombu_message (timestamp);
"#;

/// A file, and another connection to it, as a client has one.
struct Bench {
    _folder: TempDir,
    path: PathBuf,
    client: Connection,
}

impl Bench {
    /// A file whose tables a client has made.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("host.db");
        let client = Connection::open(&path).unwrap();
        client.busy_timeout(Duration::from_secs(5)).unwrap();
        client.execute_batch(SQLALCHEMY).unwrap();
        Self { _folder: folder, path, client }
    }

    fn broker(&self) -> SqliteBroker {
        self.broker_with_lease(Duration::from_secs(30))
    }

    fn broker_with_lease(&self, lease: Duration) -> SqliteBroker {
        SqliteBroker::alone(&self.path, &SqliteOptions { lease, ..SqliteOptions::default() })
    }

    /// Publishes as kombu does.
    fn put(&self, body: &str, headers: &str, properties: &str) {
        self.put_raw(&kombu::envelope(body, headers, properties));
    }

    fn put_raw(&self, payload: &str) {
        self.client.execute("INSERT OR IGNORE INTO kombu_queue (name) VALUES ('celery')", []).unwrap();
        let sql = "INSERT INTO kombu_message (visible, timestamp, payload, version, queue_id)
                   SELECT 1, NULL, ?1, 1, id FROM kombu_queue WHERE name = 'celery'";
        self.client.execute(sql, [payload]).unwrap();
    }

    fn count(&self, condition: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM kombu_message WHERE {condition}");
        self.client.query_row(&sql, [], |row| row.get(0)).unwrap()
    }
}

fn celery() -> QueueName {
    QueueName::parse("celery").unwrap()
}

fn publication(body: &str) -> Publication {
    conformance::publication(&celery(), body)
}

/// Queues are made by publishing, so that nothing is unroutable. Envelopes are JSON: no bytes.
const CAPABILITIES: Capabilities =
    Capabilities { knows_unroutable: false, typed_headers: false, knows_taken: false, ..Capabilities::ALL };

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_passes_the_suite() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:///{}", folder.path().join("host.db").display());
    let options = SqliteOptions::default();
    conformance::run(CAPABILITIES, async || {
        SqliteBroker::connect(&url, &options).await.map(|broker| Arc::new(broker) as Arc<dyn Broker>)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_passes_the_suite_when_each_connection_is_a_process() {
    let bench = Bench::new();
    conformance::run(CAPABILITIES, async || Ok(Arc::new(bench.broker()) as Arc<dyn Broker>)).await;
}

#[tokio::test]
async fn rows_of_clients_are_delivered_by_priority_and_order() {
    let bench = Bench::new();
    bench.put("a", "", r#""priority": 0,"#);
    bench.put("b", "", "");
    bench.put("c", "", r#""priority": 5,"#);
    let broker = bench.broker();
    let mut urgent = publication("d");
    urgent.message.properties.priority = Some(9);
    broker.publish(&[urgent, publication("e")]).await.unwrap();
    bench.put("f", r#""ratio": NaN"#, r#""priority": 5,"#);

    // One at a time, so that the urgent ones overtake rows that were read before.
    let consumer = broker.consume(&celery().into(), 1).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..6 {
        let taken = take(&*consumer, 1).await;
        seen.extend(texts(&taken));
        settle(&*consumer, taken, Acknowledgement::Ack).await;
    }
    assert_eq!(seen.concat(), "dcfabe");
    assert_eq!(bench.count("1"), 0);
}

#[tokio::test]
async fn what_came_by_an_exchange_of_a_client_can_be_published_again() {
    let bench = Bench::new();
    let broker = bench.broker();
    broker.declare(&celery().into()).await.unwrap();
    let delivery_info = r#"{"exchange": "topics", "routing_key": "a.b"}"#;
    bench.put_raw(&format!(
        r#"{{"body": "x", "headers": {{}}, "properties": {{"body_encoding": "utf-8", "delivery_info": {delivery_info}}}}}"#
    ));
    let consumer = broker.consume(&celery().into(), 0).await.unwrap();
    let taken = take(&*consumer, 1).await.remove(0);
    let route = Route { exchange: taken.info.exchange.clone(), routing_key: taken.info.routing_key.clone() };
    broker.publish(&[Publication { message: taken.message.clone(), route }]).await.unwrap();
    settle(&*consumer, vec![taken], Acknowledgement::Ack).await;
    let again = take(&*consumer, 1).await;
    assert_eq!(texts(&again), ["x"]);
    settle(&*consumer, again, Acknowledgement::Ack).await;
}

#[tokio::test]
async fn what_is_put_back_keeps_its_place_and_its_count() {
    let bench = Bench::new();
    let broker = bench.broker();
    broker.publish(&[publication("later")]).await.unwrap();
    let consumer = broker.consume(&celery().into(), 0).await.unwrap();
    settle(&*consumer, take(&*consumer, 1).await, Acknowledgement::Requeue).await;
    let Delivery { message, info, receipt } = take(&*consumer, 1).await.remove(0);
    let row = format!("id = {}", receipt_row(&receipt));
    let publication = Publication { message, route: Route::queue(&info.queue) };
    let until = Timestamp::from_micros(0) + Duration::from_secs(4_000_000_000);
    consumer.put_back(vec![PutBack { receipt, publication, until }]).await.unwrap();
    assert_eq!(bench.count(&format!("{row} AND visible = 1 AND lease_until IS NULL AND owner IS NULL")), 1);
    assert_eq!(bench.count(&format!("{row} AND eta = 4000000000000 AND delivery_count = 1 AND redelivered = 1")), 1);
    expect_quiet(&*consumer).await;
    // Time passes.
    bench.client.execute("UPDATE kombu_message SET eta = 1", []).unwrap();
    let again = take(&*consumer, 1).await;
    assert_eq!(again[0].message.headers.get(DELIVERY_COUNT_HEADER), Some(&HeaderValue::Int(1)));
    settle(&*consumer, again, Acknowledgement::Ack).await;
    assert_eq!(bench.count("1"), 0);
}

fn receipt_row(receipt: &Receipt) -> u64 {
    match receipt.token() {
        Token::Number(row) => *row,
        Token::Text(text) => panic!("{text}"),
    }
}

#[tokio::test]
async fn a_client_sees_our_rows_as_its_own() {
    let bench = Bench::new();
    let broker = bench.broker();
    broker.publish(&[publication("ours")]).await.unwrap();
    let row =
        "SELECT visible, timestamp, version, payload, name FROM kombu_message m, kombu_queue q WHERE q.id = queue_id";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
    let (visible, timestamp, version, payload, queue): (bool, Option<String>, i64, String, String) =
        bench.client.query_row(row, [], read).unwrap();
    assert_eq!((visible, timestamp, version, queue.as_str()), (true, None, 1, "celery"));
    assert_eq!(envelope::decode(payload.as_bytes()).unwrap().message.body, "ours");

    // A Python worker takes it, and leaves it behind.
    bench.client.execute("UPDATE kombu_message SET visible = 0, timestamp = '2026-11-22 13:06:03.493278'", []).unwrap();
    let consumer = broker.consume(&celery().into(), 1).await.unwrap();
    expect_quiet(&*consumer).await;
    assert_eq!(bench.count("visible = 0 AND lease_until IS NULL AND owner IS NULL"), 1);
}

#[tokio::test]
async fn an_eta_waits_in_the_file() {
    let bench = Bench::new();
    let now = || Timestamp::from_micros(now_micros());
    let eta = now() + Duration::from_millis(900);
    bench.put("theirs", &format!(r#""eta": "{}""#, eta.isoformat()), "");
    bench.put("naive", &format!(r#""eta": "{}""#, (now() + Duration::from_secs(3600)).isoformat_naive('T')), "");
    bench.put("far", &format!(r#""eta": "{}""#, (now() + Duration::from_secs(3600)).isoformat()), "");
    let broker = bench.broker();
    let mut ours = publication("ours");
    ours.message.headers.set("eta", HeaderValue::Text((eta + Duration::from_millis(300)).isoformat()));
    broker.publish(&[ours, publication("now")]).await.unwrap();

    let consumer = broker.consume(&celery().into(), 0).await.unwrap();
    // In no time zone that we know: the worker shall see to it.
    assert_eq!(texts(&take(&*consumer, 2).await), ["naive", "now"]);
    assert_eq!(texts(&take(&*consumer, 1).await), ["theirs"]);
    assert!(now() >= eta);
    assert_eq!(texts(&take(&*consumer, 1).await), ["ours"]);
    assert!(now() >= eta + Duration::from_millis(300));
    expect_quiet(&*consumer).await;
    assert_eq!(bench.count("visible = 1 AND eta IS NOT NULL"), 1);
    assert_eq!(broker.depth(&celery()).await.unwrap(), 1);
}

fn now_micros() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64
}

#[tokio::test]
async fn what_is_no_message_is_set_aside() {
    let bench = Bench::new();
    bench.put_raw("not JSON");
    bench.put_raw("[]");
    bench.put("good", "", "");
    let broker = bench.broker();
    let consumer = broker.consume(&celery().into(), 1).await.unwrap();
    // The prefetch is one: the unreadable ones must not keep it.
    let taken = take(&*consumer, 1).await;
    assert_eq!(texts(&taken), ["good"]);
    settle(&*consumer, taken, Acknowledgement::Ack).await;
    broker.close().await;
    assert_eq!(bench.count("visible = 0 AND owner = 'unreadable' AND lease_until IS NULL"), 2);
}

#[tokio::test]
async fn a_lease_of_a_clock_that_was_set_back_since_is_taken_over() {
    let bench = Bench::new();
    let broker = bench.broker();
    broker.publish(&[publication("orphan")]).await.unwrap();
    let claim = "UPDATE kombu_message SET visible = 0, owner = 'dead', lease_until = ?1";
    bench.client.execute(claim, [now_micros() / 1000 + 3_600_000]).unwrap();
    let consumer = broker.consume(&celery().into(), 5).await.unwrap();
    assert_eq!(texts(&take(&*consumer, 1).await), ["orphan"]);
}

#[tokio::test]
async fn an_expired_lease_is_taken_over_and_a_living_one_is_not() {
    let bench = Bench::new();
    let lease = Duration::from_millis(600);
    let living = bench.broker_with_lease(lease);
    living.publish(&[publication("held"), publication("orphan")]).await.unwrap();
    let holder = living.consume(&celery().into(), 1).await.unwrap();
    let held = take(&*holder, 1).await;
    // Somebody claimed the other one and died.
    let claim = "UPDATE kombu_message SET visible = 0, owner = 'dead', lease_until = ?1 WHERE visible = 1";
    bench.client.execute(claim, [now_micros() / 1000 + 300]).unwrap();

    let other = bench.broker_with_lease(lease);
    let consumer = other.consume(&celery().into(), 5).await.unwrap();
    let taken = take(&*consumer, 1).await;
    assert_eq!(texts(&taken), ["orphan"]);
    assert!(taken[0].info.redelivered);
    assert_eq!(taken[0].message.headers.get(DELIVERY_COUNT_HEADER), Some(&HeaderValue::Int(1)));
    settle(&*consumer, taken, Acknowledgement::Ack).await;
    // Several leases long nothing comes: the holder renews.
    let next = tokio::time::timeout(lease * 3, consumer.next()).await;
    assert!(next.is_err());
    settle(&*holder, held, Acknowledgement::Ack).await;
    assert_eq!(bench.count("1"), 0);
}

#[tokio::test]
async fn a_process_that_was_killed_loses_what_it_held_and_nothing_else() {
    let bench = Bench::new();
    let broker = bench.broker_with_lease(Duration::from_millis(600));
    broker.publish(&[publication("a"), publication("b"), publication("c")]).await.unwrap();
    let test = "sqlite::tests::a_process_that_claims_everything_and_is_killed";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env("TASKHOST_TEST_CHILD_DB", &bench.path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let claimed = async {
        while bench.count("visible = 0") < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), claimed).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let consumer = broker.consume(&celery().into(), 0).await.unwrap();
    let taken = take(&*consumer, 3).await;
    assert_eq!(texts(&taken), ["a", "b", "c"]);
    assert!(taken.iter().all(|delivery| delivery.info.redelivered));
    settle(&*consumer, taken, Acknowledgement::Ack).await;
    assert_eq!(bench.count("1"), 0);
}

/// The child of the test above; does nothing by itself.
#[tokio::test]
async fn a_process_that_claims_everything_and_is_killed() {
    let Some(path) = std::env::var_os("TASKHOST_TEST_CHILD_DB") else { return };
    let options = SqliteOptions { lease: Duration::from_millis(600), ..SqliteOptions::default() };
    let broker = SqliteBroker::alone(Path::new(&path), &options);
    let consumer = broker.consume(&celery().into(), 0).await.unwrap();
    let _held = take(&*consumer, 3).await;
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hosts_and_a_client_share_a_file() {
    const EACH: usize = 150;
    let bench = Bench::new();
    let hosts = [Arc::new(bench.broker()), Arc::new(bench.broker())];
    let publishers: Vec<_> = (0..2)
        .map(|host| {
            let broker = Arc::clone(&hosts[host]);
            tokio::spawn(async move {
                for number in 0..EACH {
                    broker.publish(&[publication(&format!("host {host}, {number}"))]).await.unwrap();
                }
            })
        })
        .collect();
    let path = bench.path.clone();
    let client = tokio::task::spawn_blocking(move || {
        let db = Connection::open(path).unwrap();
        db.busy_timeout(Duration::from_secs(5)).unwrap();
        db.execute("INSERT OR IGNORE INTO kombu_queue (name) VALUES ('celery')", []).unwrap();
        for number in 0..EACH {
            let payload = format!(r#"{{"body": "client, {number}", "properties": {{"body_encoding": "utf-8"}}}}"#);
            let sql = "INSERT INTO kombu_message (visible, payload, version, queue_id)
                       SELECT 1, ?1, 1, id FROM kombu_queue WHERE name = 'celery'";
            db.execute(sql, params![payload]).unwrap();
        }
    });
    let consumers =
        [hosts[0].consume(&celery().into(), 20).await.unwrap(), hosts[1].consume(&celery().into(), 20).await.unwrap()];
    let mut seen = BTreeSet::new();
    let mut count = 0;
    while count < 3 * EACH {
        let (batch, consumer) = tokio::select! {
            batch = consumers[0].next() => (batch, &consumers[0]),
            batch = consumers[1].next() => (batch, &consumers[1]),
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("only {count} arrived"),
        };
        let batch = batch.unwrap().unwrap();
        count += batch.len();
        seen.extend(texts(&batch));
        settle(&**consumer, batch, Acknowledgement::Ack).await;
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    client.await.unwrap();
    assert_eq!((count, seen.len()), (3 * EACH, 3 * EACH));
    assert_eq!(bench.count("1"), 0);
}

#[tokio::test]
async fn dropping_everything_gives_back_what_was_held() {
    let bench = Bench::new();
    let broker = bench.broker();
    broker.publish(&[publication("a"), publication("b")]).await.unwrap();
    let consumer = broker.consume(&celery().into(), 1).await.unwrap();
    let held = take(&*consumer, 1).await;
    drop((consumer, broker, held));
    assert_eq!(bench.count("visible = 1 AND owner IS NULL AND lease_until IS NULL"), 2);
    assert_eq!(bench.count("redelivered = 1 AND delivery_count = 1"), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_private_and_trouble_with_it_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("host.db");
    let url = format!("sqlite:///{}", path.display());
    let broker = SqliteBroker::connect(&url, &SqliteOptions::default()).await.unwrap();
    broker.publish(&[publication("secret")]).await.unwrap();
    for name in ["host.db", "host.db-wal", "host.db-shm"] {
        let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let missing = format!("sqlite:///{}", folder.path().join("no/host.db").display());
    let error = SqliteBroker::connect(&missing, &SqliteOptions::default()).await.err().unwrap();
    assert!(matches!(&error, BrokerError::Connect { .. }));
    let text = folder.path().join("text.db");
    std::fs::write(&text, "this is no database, whatever its name says".repeat(50)).unwrap();
    let url = format!("sqlite:///{}", text.display());
    let error = SqliteBroker::connect(&url, &SqliteOptions::default()).await.err().unwrap();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("not a database"), "{cause}");
}

#[test]
fn claims_use_our_indexes() {
    let bench = Bench::new();
    drop(bench.broker());
    let check = |sql: &str, index: &str| {
        let mut statement = bench.client.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> = statement.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        let plan = plan.join("; ");
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    };
    let waiting = "FROM kombu_message WHERE queue_id = 1 AND visible = 1 AND eta IS NULL";
    check(
        &format!("SELECT id {waiting} AND priority IS NOT NULL ORDER BY priority DESC, id LIMIT 9"),
        "ix_taskhost_ready",
    );
    check(&format!("SELECT id {waiting} AND priority IS NULL ORDER BY id LIMIT 9"), "ix_taskhost_ready");
    check(&format!("SELECT 1 {waiting} LIMIT 1"), "ix_taskhost_ready");
    check("SELECT min(eta) FROM kombu_message WHERE queue_id = 1 AND eta IS NOT NULL", "ix_taskhost_eta");
    check(
        "SELECT 1 FROM kombu_message WHERE lease_until IS NOT NULL AND (lease_until < 9 OR lease_until > 99)",
        "ix_taskhost_lease",
    );
}
