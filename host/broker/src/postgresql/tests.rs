//! The conformance suite on a real server, and what is special to it: clients' rows, leases, ETAs, several workers.

use std::collections::BTreeSet;

use taskhost_core::{Publication, Timestamp};
use tokio_postgres::types::Type;

use super::*;
use crate::conformance::{self, Capabilities, expect_quiet, settle, take, texts};
use crate::kombu;
use crate::port::{Acknowledgement, DELIVERY_COUNT_HEADER, Delivery, PutBack};

const SERVER: &str = "TASKHOST_TEST_POSTGRESQL";
/// A pgbouncer that lends connections by the transaction.
const BOUNCER: &str = "TASKHOST_TEST_PGBOUNCER";

/// What SQLAlchemy 2.0 emits for kombu 5.7.
const SQLALCHEMY: &str = r#"
CREATE SEQUENCE queue_id_sequence;
CREATE SEQUENCE message_id_sequence;
CREATE TABLE kombu_queue (id INTEGER NOT NULL, name VARCHAR(200), PRIMARY KEY (id), UNIQUE (name));
CREATE TABLE kombu_message (
    id INTEGER NOT NULL, visible BOOLEAN, timestamp TIMESTAMP WITHOUT TIME ZONE, payload TEXT NOT NULL,
    version SMALLINT NOT NULL, queue_id INTEGER, PRIMARY KEY (id),
    CONSTRAINT "FK_kombu_message_queue" FOREIGN KEY(queue_id) REFERENCES kombu_queue (id));
CREATE INDEX ix_kombu_message_timestamp_id ON kombu_message (timestamp, id);
CREATE INDEX ix_kombu_message_timestamp ON kombu_message (timestamp);
CREATE INDEX ix_kombu_message_visible ON kombu_message (visible);
"#;

/// A schema of a test's own, and another connection to it, as a client has one.
struct Bench {
    url: String,
    schema: String,
    client: dial::postgresql::Connection,
}

/// The URL of a server as of a broker; none without the server, which is said.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn server(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        println!("skipped: {variable} is not set");
    }
    url.map(|url| url.replacen("db+", "sqla+", 1))
}

async fn connect(url: &str) -> dial::postgresql::Connection {
    let rest = url.split_once("://").unwrap().1;
    dial::postgresql::Target::parse(rest).unwrap().connect().await.expect("connect")
}

impl Bench {
    /// A schema without tables; none without a server.
    async fn empty() -> Option<Self> {
        let url = server(SERVER)?;
        let schema = format!("b{}", Uuid::new_v4().simple());
        let url = format!("{url}?options=-c%20search_path%3D{schema}");
        let client = connect(&url).await;
        client.client.batch_execute(&format!("CREATE SCHEMA {schema}")).await.unwrap();
        Some(Self { url, schema, client })
    }

    /// With the tables that a client has made.
    async fn new() -> Option<Self> {
        let bench = Self::empty().await?;
        bench.client.client.batch_execute(SQLALCHEMY).await.unwrap();
        Some(bench)
    }

    async fn broker(&self) -> PostgresBroker {
        self.broker_with_lease(LEASE).await
    }

    async fn broker_with_lease(&self, lease: Duration) -> PostgresBroker {
        broker_at(&self.url, lease).await
    }

    /// Publishes as kombu does.
    async fn put(&self, body: &str, headers: &str, properties: &str) {
        self.put_raw(&kombu::envelope(body, headers, properties)).await;
    }

    async fn put_raw(&self, payload: &str) {
        let queue = "INSERT INTO kombu_queue (id, name) VALUES (nextval('queue_id_sequence'), 'celery')
                     ON CONFLICT DO NOTHING";
        self.client.client.batch_execute(queue).await.unwrap();
        let sql = "INSERT INTO kombu_message (id, visible, timestamp, payload, version, queue_id)
                   SELECT nextval('message_id_sequence'), true, NULL, $1, 1, id FROM kombu_queue WHERE name = 'celery'";
        self.client.client.execute_typed(sql, &[(&payload, Type::TEXT)]).await.unwrap();
    }

    async fn count(&self, condition: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM kombu_message WHERE {condition}");
        self.client.client.query_typed(&sql, &[]).await.unwrap()[0].get(0)
    }

    async fn gone(self) {
        self.client.client.batch_execute(&format!("DROP SCHEMA {} CASCADE", self.schema)).await.unwrap();
    }
}

async fn broker_at(url: &str, lease: Duration) -> PostgresBroker {
    let address = Address::parse(url, &[], None).unwrap();
    PostgresBroker::with_lease(url, address, "it", Duration::from_secs(10), lease).await.unwrap()
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

#[tokio::test]
async fn kombus_tables_on_postgresql_conform() {
    let Some(bench) = Bench::empty().await else { return };
    let connect = async || Ok(Arc::new(bench.broker().await) as Arc<dyn Broker>);
    conformance::run(CAPABILITIES, connect).await;
    bench.gone().await;
}

/// Sessions say nothing there: a database of its own stands for the schema.
#[tokio::test]
async fn kombus_tables_conform_behind_a_pgbouncer() {
    let Some(url) = server(BOUNCER) else { return };
    let database = format!("b{}", Uuid::new_v4().simple());
    let own = format!("{}/{database}", url.rsplit_once('/').unwrap().0);
    let operator = connect(&url).await;
    operator.client.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
    let connect = async || Ok(Arc::new(broker_at(&own, LEASE).await) as Arc<dyn Broker>);
    conformance::run(CAPABILITIES, connect).await;
    operator.client.batch_execute(&format!("DROP DATABASE {database} WITH (FORCE)")).await.unwrap();
}

#[tokio::test]
async fn tables_that_a_client_has_made_get_our_columns() {
    let Some(bench) = Bench::new().await else { return };
    bench.put("old", "", "").await;
    let brokers = tokio::join!(bench.broker(), bench.broker(), bench.broker());
    let consumer = brokers.0.consume(&celery().into(), 10).await.unwrap();
    assert_eq!(texts(&take(&*consumer, 1).await), ["old"]);
    bench.gone().await;
}

#[tokio::test]
async fn rows_of_clients_are_taken_by_priority_and_in_time() {
    let Some(bench) = Bench::new().await else { return };
    bench.put("low", "", "").await;
    bench.put("later", r#""eta": "2999-01-01T00:00:00+00:00""#, r#""priority": 9,"#).await;
    bench.put("high", "", r#""priority": 5,"#).await;
    bench.put("past", r#""eta": "2000-01-01T00:00:00+00:00""#, r#""priority": 7,"#).await;
    let broker = bench.broker().await;
    broker.publish(&[publication("ours")]).await.unwrap();
    let consumer = broker.consume(&celery().into(), 10).await.unwrap();
    let taken = take(&*consumer, 4).await;
    assert_eq!(texts(&taken), ["past", "high", "low", "ours"]);
    expect_quiet(&*consumer).await;
    assert_eq!(broker.depth(&celery()).await.unwrap(), 1, "what is not due waits");
    settle(&*consumer, taken, Acknowledgement::Ack).await;
    assert_eq!(bench.count("true").await, 1);
    bench.gone().await;
}

#[tokio::test]
async fn a_row_reads_as_kombus() {
    let Some(bench) = Bench::empty().await else { return };
    let broker = bench.broker().await;
    broker.publish(&[publication("one"), publication("two")]).await.unwrap();
    let sql = "SELECT m.payload, m.visible, m.timestamp IS NULL, m.version, q.name
               FROM kombu_message m JOIN kombu_queue q ON q.id = m.queue_id ORDER BY m.id";
    let rows = bench.client.client.query_typed(sql, &[]).await.unwrap();
    assert_eq!(rows.len(), 2);
    let payload: &str = rows[0].get(0);
    assert!(
        payload.contains(r#""body_encoding": "base64""#) && payload.contains(r#""routing_key": "celery""#),
        "{payload}"
    );
    let rest: (bool, bool, i16, &str) = (rows[0].get(1), rows[0].get(2), rows[0].get(3), rows[0].get(4));
    assert_eq!(rest, (true, true, 1, "celery"));
    // As kombu takes one.
    let take = "UPDATE kombu_message SET visible = false, version = version + 1, timestamp = now()
                WHERE id = (SELECT id FROM kombu_message WHERE visible != false ORDER BY timestamp, id LIMIT 1 FOR UPDATE)";
    bench.client.client.batch_execute(take).await.unwrap();
    let consumer = broker.consume(&celery().into(), 10).await.unwrap();
    assert_eq!(texts(&take_all(&*consumer).await), ["two"]);
    bench.gone().await;
}

async fn take_all(consumer: &dyn Consumer) -> Vec<Delivery> {
    let taken = take(consumer, 1).await;
    expect_quiet(consumer).await;
    taken
}

#[tokio::test]
async fn a_worker_that_died_loses_its_messages_and_a_slow_one_keeps_them() {
    let Some(bench) = Bench::empty().await else { return };
    let lease = Duration::from_secs(2);
    let (dead, living) = (bench.broker_with_lease(lease).await, bench.broker_with_lease(lease).await);
    dead.publish(&[publication("a"), publication("b")]).await.unwrap();
    let lost = dead.consume(&celery().into(), 1).await.unwrap();
    let kept = living.consume(&celery().into(), 1).await.unwrap();
    let (one, two) = (take(&*lost, 1).await, take(&*kept, 1).await);
    // As a process that was killed: it neither renews nor gives back.
    dead.shared.keeper.abort();
    let taker = living.consume(&celery().into(), 5).await.unwrap();
    let again = take(&*taker, 1).await;
    assert_eq!(texts(&again), texts(&one));
    assert!(again[0].info.redelivered);
    assert_eq!(again[0].message.headers.get(DELIVERY_COUNT_HEADER), Some(&taskhost_core::HeaderValue::Int(1)));
    expect_quiet(&*taker).await;
    // Who comes too late changes nothing that is not his any more, and what he has done is done.
    settle(&*lost, one, Acknowledgement::Requeue).await;
    assert_eq!(bench.count("visible").await, 0);
    settle(&*kept, two, Acknowledgement::Ack).await;
    settle(&*taker, again, Acknowledgement::Ack).await;
    assert_eq!(bench.count("true").await, 0);
    bench.gone().await;
}

#[tokio::test]
async fn what_is_put_back_comes_when_it_is_due() {
    let Some(bench) = Bench::empty().await else { return };
    let broker = bench.broker().await;
    broker.publish(&[publication("later")]).await.unwrap();
    let consumer = broker.consume(&celery().into(), 5).await.unwrap();
    let delivery = take(&*consumer, 1).await.remove(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let until = Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap() + 1_500_000);
    let publication = publication("later");
    consumer.put_back(vec![PutBack { receipt: delivery.receipt, publication, until }]).await.unwrap();
    assert_eq!(bench.count("visible AND eta IS NOT NULL").await, 1);
    let again = take(&*consumer, 1).await;
    assert!(!again[0].info.redelivered);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(i64::try_from(now.as_micros()).unwrap() >= until.as_micros(), "not early");
    bench.gone().await;
}

#[tokio::test]
async fn what_is_no_message_is_set_aside() {
    let Some(bench) = Bench::new().await else { return };
    bench.put_raw("{}").await;
    bench.put_raw("nonsense").await;
    bench.put("good", "", "").await;
    let broker = bench.broker().await;
    let consumer = broker.consume(&celery().into(), 2).await.unwrap();
    assert_eq!(texts(&take(&*consumer, 1).await), ["good"]);
    while bench.count("owner = 'unreadable' AND NOT visible AND lease_until IS NULL").await < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.gone().await;
}

#[tokio::test]
async fn many_workers_take_each_message_once() {
    const MESSAGES: usize = 3_000;
    let Some(bench) = Bench::empty().await else { return };
    let publisher = bench.broker().await;
    let messages: Vec<Publication> = (0..MESSAGES).map(|n| publication(&n.to_string())).collect();
    publisher.publish(&messages).await.unwrap();
    let mut takers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let broker = bench.broker().await;
        takers.spawn(async move {
            let consumer = broker.consume(&celery().into(), 50).await.unwrap();
            let mut seen = Vec::new();
            while let Ok(next) = tokio::time::timeout(Duration::from_secs(2), consumer.next()).await {
                let deliveries = next.unwrap().unwrap();
                seen.extend(texts(&deliveries));
                settle(&*consumer, deliveries, Acknowledgement::Ack).await;
            }
            seen
        });
    }
    let seen: Vec<String> = takers.join_all().await.into_iter().flatten().collect();
    assert_eq!((seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (MESSAGES, MESSAGES));
    assert_eq!(bench.count("true").await, 0);
    bench.gone().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_transient_and_its_password_is_not_shown() {
    let url = "sqla+postgresql://me:secret@127.0.0.1:1/d";
    let address = Address::parse(url, &[], None).unwrap();
    let error = PostgresBroker::connect(url, address, "it", Duration::from_secs(5)).await.err().unwrap();
    assert!(error.is_transient());
    assert_eq!(error.to_string(), "connect to sqla+postgresql://me:**@127.0.0.1:1/d");
}
