//! What is special to Redis: kombu's keys, and how messages are noticed.

mod broadcasts;
mod leases;
mod trouble;
mod ways;

use std::time::Instant;

use redis::FromRedisValue;
use taskhost_core::protocol::envelope;
use taskhost_core::{Exchange, HeaderValue, Message, Route};

use super::*;
use crate::conformance::{self, settle, take, texts};
use crate::port::{Acknowledgement, Delivery};

/// How long something that must happen may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The URL of the server, if there is one; says so if there is none.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn server(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        println!("skipped: {variable} is not set");
    }
    url
}

/// A server whose keys are those of one test.
struct Bench {
    url: String,
    options: RedisOptions,
    raw: Connection,
}

impl Bench {
    async fn new() -> Option<Self> {
        Self::at("TASKHOST_TEST_REDIS").await
    }

    async fn at(variable: &str) -> Option<Self> {
        let url = server(variable)?;
        let prefix = format!("test-{}:", uuid::Uuid::new_v4().simple());
        let mut options = RedisOptions { global_keyprefix: prefix, ..RedisOptions::default() };
        let target = address::parse(&url, &mut options).unwrap();
        let raw = Connection::open(&Dialer::new(target).unwrap(), &options, drop).await.unwrap();
        Some(Self { url, options, raw })
    }

    fn with_visibility_timeout(mut self, timeout: Duration) -> Self {
        self.options.visibility_timeout = timeout;
        self
    }

    /// For tests in which a host dies.
    fn with_short_lease(mut self) -> Self {
        self.options.lease = Duration::from_secs(2);
        self
    }

    async fn broker(&self) -> RedisBroker {
        RedisBroker::connect(&self.url, &self.options).await.unwrap()
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.options.global_keyprefix)
    }

    /// Sends a command whose first argument is a key.
    async fn ask<T: FromRedisValue>(&self, name: &str, key: &str, arguments: &[&str]) -> T {
        self.raw.ask(redis::cmd(name).arg(self.key(key)).arg(arguments)).await.unwrap()
    }

    /// Scores of what is unacknowledged.
    async fn scores(&self) -> Vec<(String, f64)> {
        self.ask("ZRANGE", "unacked_index", &["0", "-1", "WITHSCORES"]).await
    }
}

fn name() -> QueueName {
    QueueName::parse("q").unwrap()
}

fn queue() -> Queue {
    name().into()
}

fn publication(text: &str, priority: u8) -> Publication {
    let mut message = Message { body: text.to_owned().into(), ..Message::default() };
    message.properties.priority = Some(priority);
    message.headers.set("id", HeaderValue::Text(text.to_owned()));
    Publication { message, route: Route::queue(&name()) }
}

async fn publish(broker: &RedisBroker, texts: &[&str]) {
    let publications: Vec<_> = texts.iter().map(|text| publication(text, 0)).collect();
    broker.publish(&publications).await.unwrap();
}

fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Waits until something is so.
async fn eventually(what: &str, check: impl AsyncFn() -> bool) {
    let waiting = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_passes_the_suite() {
    let Some(bench) = Bench::new().await else { return };
    suite(&bench).await;
}

async fn suite(bench: &Bench) {
    let options = &bench.options;
    let capabilities = conformance::Capabilities {
        knows_unroutable: false,
        priorities: false,
        typed_headers: false,
        knows_taken: false,
        ..conformance::Capabilities::ALL
    };
    conformance::run(capabilities, async || {
        RedisBroker::connect(&bench.url, options).await.map(|broker| Arc::new(broker) as Arc<dyn Broker>)
    })
    .await;
}

#[tokio::test]
async fn keys_are_kombus() {
    let Some(bench) = Bench::new().await else { return };
    let broker = bench.broker().await;
    let consumer = broker.consume(&queue(), 2).await.unwrap();
    assert_eq!(bench.ask::<Vec<String>>("SMEMBERS", "_kombu.binding.q", &[]).await, ["q\u{6}\u{16}\u{6}\u{16}q"]);
    assert_eq!(
        bench.ask::<Vec<String>>("SMEMBERS", "_kombu.binding_permanent.q", &[]).await,
        ["q\u{6}\u{16}\u{6}\u{16}q"]
    );

    let before = now_s();
    let publications: Vec<_> =
        [("a", 0), ("b", 9), ("c", 4), ("d", 8), ("e", 2)].map(|(t, p)| publication(t, p)).into();
    broker.publish(&publications).await.unwrap();
    let taken = take(&*consumer, 2).await;
    assert_eq!(texts(&taken), ["a", "e"], "smaller priorities come first");
    assert_eq!(bench.ask::<u64>("LLEN", "q", &[]).await, 0);
    for (list, text) in [("q\u{6}\u{16}3", "c"), ("q\u{6}\u{16}6", "d"), ("q\u{6}\u{16}9", "b")] {
        let waiting: Vec<Vec<u8>> = bench.ask("LRANGE", list, &["0", "-1"]).await;
        assert_eq!(envelope::decode(&waiting[0]).unwrap().message.body, text);
    }
    assert_eq!(broker.depth(&name()).await.unwrap(), 3);

    let unacked: Vec<(String, Vec<u8>)> = bench.ask("HGETALL", "unacked", &[]).await;
    assert_eq!(unacked.len(), 2);
    for (tag, entry) in unacked {
        let entry = layout::Entry::parse(entry).unwrap();
        assert_eq!((entry.exchange.as_str(), entry.routing_key.as_str()), ("", "q"));
        assert!(envelope::decode(&entry.envelope.bytes()).is_ok());
        let score: f64 = bench.ask("ZSCORE", "unacked_index", &[&tag]).await;
        assert!((before - 1.0..now_s() + 1.0).contains(&score), "{score}");
    }
    settle(&*consumer, taken, Acknowledgement::Ack).await;
    let rest = take(&*consumer, 2).await;
    assert_eq!(texts(&rest), ["c", "d"]);
    settle(&*consumer, rest, Acknowledgement::Reject).await;
    let last = take(&*consumer, 1).await;
    assert_eq!(texts(&last), ["b"]);
    settle(&*consumer, last, Acknowledgement::Ack).await;
    assert_eq!(bench.ask::<u64>("EXISTS", "unacked", &[]).await, 0);
    assert_eq!(bench.ask::<u64>("EXISTS", "unacked_index", &[]).await, 0);
    broker.close().await;
    assert_eq!(bench.ask::<u64>("EXISTS", "_taskhost.owners", &[]).await, 0);
}

#[tokio::test]
async fn named_exchanges_deliver_by_kombus_tables() {
    let Some(bench) = Bench::new().await else { return };
    let broker = bench.broker().await;
    let bound = |queue: &str, kind, key: &str| Queue {
        exchange: Exchange { name: "x".to_owned(), kind },
        routing_key: key.to_owned(),
        ..Queue::named(QueueName::parse(queue).unwrap())
    };
    let to = |key: &str| {
        let route = Route { exchange: "x".to_owned(), routing_key: key.to_owned() };
        [Publication { route, ..publication(key, 0) }]
    };
    broker.declare(&bound("direct", ExchangeKind::Direct, "a.b")).await.unwrap();
    let error = broker.publish(&to("a.c")).await.unwrap_err();
    assert!(matches!(error, BrokerError::Unroutable { .. }), "{error:?}");
    // As a Python worker declares it, on another connection.
    bench.ask::<u64>("SADD", "_kombu.binding.x", &["a.*\u{6}\u{16}^a\\.[^\\.]+$\u{6}\u{16}topic"]).await;
    broker.publish(&to("a.c")).await.unwrap();
    broker.publish(&to("a.b")).await.unwrap();
    let depth = async |queue| broker.depth(&QueueName::parse(queue).unwrap()).await.unwrap();
    assert_eq!((depth("direct").await, depth("topic").await), (1, 2));
    // Evicted tables cost only what others declared, and ours are written anew.
    bench.ask::<u64>("DEL", "_kombu.binding.x", &[]).await;
    let other = bench.broker().await;
    other.declare(&bound("direct", ExchangeKind::Direct, "a.b")).await.unwrap();
    other.publish(&to("a.b")).await.unwrap();
    assert_eq!((depth("direct").await, depth("topic").await), (2, 2));
}

fn name_of(queue: &str) -> Queue {
    QueueName::parse(queue).unwrap().into()
}

#[tokio::test]
async fn every_list_of_the_queue_wakes_a_waiting_consumer_at_once() {
    let Some(bench) = Bench::new().await else { return };
    let broker = bench.broker().await;
    assert!(broker.link.is_told);
    let consumer = broker.consume(&queue(), 1).await.unwrap();
    let mut latencies = Vec::new();
    for n in 0..40 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let began = Instant::now();
        let publish = [publication("a", [0, 3, 6, 9][n % 4])];
        let (taken, published) = tokio::join!(take(&*consumer, 1), broker.publish(&publish));
        published.unwrap();
        latencies.push(began.elapsed());
        settle(&*consumer, taken, Acknowledgement::Ack).await;
    }
    latencies.sort();
    // Asking would take up to two seconds.
    assert!(latencies[20] < Duration::from_millis(200), "{latencies:?}");
    eprintln!("latency p50 {:?}, p95 {:?}", latencies[20], latencies[38]);
}

#[tokio::test]
async fn broadcasts_reach_all_who_listen() {
    let Some(bench) = Bench::new().await else { return };
    let broadcast = Queue {
        exchange: Exchange { name: "news".to_owned(), kind: ExchangeKind::Fanout },
        routing_key: String::new(),
        broadcast: true,
        ..Queue::named(QueueName::parse("bcast").unwrap())
    };
    let (one, two) = (bench.broker().await, bench.broker().await);
    let consumers = [one.consume(&broadcast, 1).await.unwrap(), two.consume(&broadcast, 1).await.unwrap()];
    let route = Route { exchange: "news".to_owned(), routing_key: String::new() };
    one.publish(&[Publication { route, ..publication("to all", 0) }]).await.unwrap();
    for consumer in &consumers {
        let taken = take(&**consumer, 1).await;
        assert_eq!(texts(&taken), ["to all"]);
        settle(&**consumer, taken, Acknowledgement::Ack).await;
        consumer.cancel().await.unwrap();
        assert!(consumer.next().await.unwrap().is_none());
    }
}
