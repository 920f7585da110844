//! What is special to the file system: leases, several owners, odd files, and kombu itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use taskhost_core::{HeaderValue, Message, Timestamp};
use tempfile::TempDir;

use super::*;
use crate::conformance::{self, Capabilities as Suite, expect_quiet, settle, take, texts};
use crate::port::{Acknowledgement, DELIVERY_COUNT_HEADER, Delivery, PutBack};

mod kombu;

/// Queues are made by publishing, and kombu knows no priorities here. Envelopes are JSON: no bytes.
const CAPABILITIES: Suite =
    Suite { knows_unroutable: false, priorities: false, typed_headers: false, knows_taken: false, ..Suite::ALL };

/// One folder for both directions, as a worker needs it that publishes for itself.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        Self { folder }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn ours(&self, name: &str) -> PathBuf {
        self.data().join(".taskhost").join(name)
    }

    fn options(&self) -> FilesystemOptions {
        FilesystemOptions {
            data_folder_in: self.data(),
            data_folder_out: self.data(),
            control_folder: self.folder.path().join("control"),
            ..FilesystemOptions::default()
        }
    }

    async fn broker(&self) -> FilesystemBroker {
        connect(&self.options()).await
    }

    /// Publishes as kombu does.
    fn put(&self, name: &str, body: &str) {
        fs::write(self.data().join(name), crate::kombu::envelope(body, "", "")).unwrap();
    }
}

async fn connect(options: &FilesystemOptions) -> FilesystemBroker {
    FilesystemBroker::connect("filesystem://", options).await.unwrap()
}

fn celery() -> QueueName {
    QueueName::parse("celery").unwrap()
}

fn publication(body: &str) -> Publication {
    conformance::publication(&celery(), body)
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect(),
        Err(_) => Vec::new(),
    };
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filesystem_passes_the_suite() {
    let bench = Bench::new();
    let options = bench.options();
    conformance::run(CAPABILITIES, async || {
        FilesystemBroker::connect("filesystem://", &options).await.map(|broker| Arc::new(broker) as Arc<dyn Broker>)
    })
    .await;
    assert_eq!(names(&bench.ours("claimed")), [""; 0], "whoever is gone leaves nothing");
    assert_eq!(names(&bench.ours("drafts")), [""; 0]);
}

#[tokio::test]
async fn what_a_dead_owner_had_comes_again_marked_and_counted_and_that_of_a_living_one_does_not() {
    let bench = Bench::new();
    // Somebody who was killed: a folder with what it had, and nobody who writes its sign of life.
    let dead = bench.ours("claimed").join("dead");
    fs::create_dir_all(&dead).unwrap();
    fs::write(dead.join("beat"), "00000000000000000007").unwrap();
    bench.put("1_a.celery.msg", "orphan");
    fs::rename(bench.data().join("1_a.celery.msg"), dead.join("1_a.celery.msg")).unwrap();

    let options = FilesystemOptions { lease: Duration::from_millis(600), ..bench.options() };
    let (living, other) = (connect(&options).await, connect(&options).await);
    living.publish(&[publication("held")]).await.unwrap();
    let holder = living.consume(&celery().into(), 1).await.unwrap();
    let held = take(&*holder, 1).await;
    assert_eq!(texts(&held), ["held"]);
    let consumer = other.consume(&celery().into(), 5).await.unwrap();
    for count in 1..3 {
        let again = take(&*consumer, 1).await;
        assert_eq!(texts(&again), ["orphan"]);
        assert!(again[0].info.redelivered);
        let counted = again[0].message.headers.get(DELIVERY_COUNT_HEADER);
        assert_eq!(counted, Some(&HeaderValue::Int(count)));
        assert!(!dead.exists());
        match count {
            1 => settle(&*consumer, again, Acknowledgement::Requeue).await,
            _ => settle(&*consumer, again, Acknowledgement::Ack).await,
        }
    }
    // Three leases later it is still held.
    tokio::time::sleep(options.lease * 3).await;
    expect_quiet(&*consumer).await;
    settle(&*holder, held, Acknowledgement::Ack).await;
    other.close().await;
    living.close().await;
    assert_eq!((names(&bench.data()), names(&bench.ours("claimed"))), (vec![".taskhost".to_owned()], Vec::new()));
}

#[tokio::test]
async fn whoever_was_taken_for_dead_goes_on() {
    let bench = Bench::new();
    let options = FilesystemOptions { lease: Duration::from_millis(300), ..bench.options() };
    let broker = connect(&options).await;
    broker.publish(&[publication("taken away")]).await.unwrap();
    let consumer = broker.consume(&celery().into(), 5).await.unwrap();
    let held = take(&*consumer, 1).await;
    // As another does who has not seen it for long.
    let owner = names(&bench.ours("claimed")).remove(0);
    let folder = bench.ours("claimed").join(&owner);
    let file = names(&folder).into_iter().find(|name| name.ends_with(".msg")).unwrap();
    fs::rename(folder.join(&file), bench.data().join(&file)).unwrap();
    // At once: its owner may be about to write its sign of life into it.
    let gone = bench.ours("gone");
    fs::rename(&folder, &gone).unwrap();
    fs::remove_dir_all(&gone).unwrap();
    let again = take(&*consumer, 1).await;
    assert_eq!(texts(&again), ["taken away"]);
    // What is gone is settled.
    settle(&*consumer, held, Acknowledgement::Ack).await;
    settle(&*consumer, again, Acknowledgement::Ack).await;
    assert_eq!(broker.depth(&celery()).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_put_back_waits_in_a_folder_of_its_own() {
    let bench = Bench::new();
    let broker = bench.broker().await;
    bench.put("7_a.celery.msg", "later");
    let consumer = broker.consume(&celery().into(), 1).await.unwrap();
    let Delivery { message, receipt, .. } = take(&*consumer, 1).await.remove(0);
    let publication = Publication { message, route: Route::queue(&celery()) };
    let until = Timestamp::from_micros(0) + Duration::from_millis(4_000_000_000_123);
    consumer.put_back(vec![PutBack { receipt, publication, until }]).await.unwrap();
    assert_eq!(names(&bench.ours("later")), ["4000000000123~7_a.celery.msg"]);
    assert_eq!(names(&bench.data()), [".taskhost"]);
    assert_eq!(broker.depth(&celery()).await.unwrap(), 1, "it is not lost");
    assert_eq!(broker.purge(&celery()).await.unwrap(), 1);
    assert_eq!(names(&bench.ours("later")), [""; 0]);
}

#[tokio::test]
async fn what_is_no_message_is_set_aside_and_blocks_nothing() {
    let bench = Bench::new();
    fs::write(bench.data().join("1_a.celery.msg"), "not JSON").unwrap();
    fs::write(bench.data().join("2_a.celery.msg"), "[]").unwrap();
    fs::create_dir(bench.data().join("3_a.celery.msg")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", bench.data().join("4_a.celery.msg")).unwrap();
    // Somebody is writing it, or has given up: that is known later.
    fs::write(bench.data().join("5_a.celery.msg"), "").unwrap();
    fs::write(bench.data().join("notes.txt"), "nobody's").unwrap();
    bench.put("6_a.celery.msg", "good");
    bench.put("7_a.other.msg", "for another queue");
    let broker = bench.broker().await;
    let consumer = broker.consume(&celery().into(), 1).await.unwrap();
    // The prefetch is one: the unreadable ones must not keep it.
    let taken = take(&*consumer, 1).await;
    assert_eq!(texts(&taken), ["good"]);
    settle(&*consumer, taken, Acknowledgement::Ack).await;
    expect_quiet(&*consumer).await;
    broker.close().await;
    assert_eq!(names(&bench.ours("unreadable")), ["1_a", "2_a", "3_a", "4_a"].map(|name| format!("{name}.celery.msg")));
    assert_eq!(names(&bench.data()), [".taskhost", "5_a.celery.msg", "7_a.other.msg", "notes.txt"]);
}

#[tokio::test]
async fn a_file_is_taken_when_it_is_complete() {
    use std::io::Write;
    let bench = Bench::new();
    let broker = bench.broker().await;
    let consumer = broker.consume(&celery().into(), 1).await.unwrap();
    bench.put("draft", "slow");
    let text = fs::read(bench.data().join("draft")).unwrap();
    // As kombu does, with pauses.
    let mut file = fs::File::create(bench.data().join("1_a.celery.msg")).unwrap();
    expect_quiet(&*consumer).await;
    file.lock().unwrap();
    file.write_all(&text[..20]).unwrap();
    expect_quiet(&*consumer).await;
    file.write_all(&text[20..]).unwrap();
    drop(file);
    let taken = take(&*consumer, 1).await;
    assert_eq!(texts(&taken), ["slow"]);
    settle(&*consumer, taken, Acknowledgement::Ack).await;
}

#[tokio::test]
async fn processed_messages_are_kept_if_that_is_wanted() {
    let bench = Bench::new();
    let processed = bench.folder.path().join("processed");
    fs::create_dir(&processed).unwrap();
    let options = FilesystemOptions { store_processed: true, processed_folder: processed.clone(), ..bench.options() };
    let broker = connect(&options).await;
    bench.put("1_a.celery.msg", "done");
    let consumer = broker.consume(&celery().into(), 1).await.unwrap();
    let taken = take(&*consumer, 1).await;
    assert_eq!(names(&processed), [""; 0]);
    settle(&*consumer, taken, Acknowledgement::Ack).await;
    assert_eq!(names(&processed), ["1_a.celery.msg"]);
}

#[tokio::test]
async fn folders_that_are_not_there_are_named() {
    let bench = Bench::new();
    let missing = FilesystemOptions { data_folder_in: bench.folder.path().join("nowhere"), ..bench.options() };
    let error = FilesystemBroker::connect("filesystem://", &missing).await.err().unwrap();
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains("there is no folder /") && reason.contains("nowhere (data_folder_in"), "{reason}");
    fs::write(bench.folder.path().join("file"), "").unwrap();
    let file = FilesystemOptions { data_folder_out: bench.folder.path().join("file"), ..bench.options() };
    let error = FilesystemBroker::connect("filesystem://", &file).await.err().unwrap();
    assert!(!error.is_transient());
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("is not a folder"));

    // While somebody works: all is lost, and the next connection says why.
    let broker = bench.broker().await;
    let consumer = broker.consume(&celery().into(), 1).await.unwrap();
    fs::remove_dir_all(bench.data()).unwrap();
    let end = tokio::time::timeout(Duration::from_secs(20), consumer.next()).await.expect("it ends");
    assert!(matches!(end, Err(BrokerError::Lost { .. })), "{end:?}");
    assert!(broker.publish(&[publication("lost")]).await.unwrap_err().is_transient());
}

#[tokio::test]
async fn names_that_no_file_can_have_are_refused() {
    let bench = Bench::new();
    let broker = bench.broker().await;
    let mut queue = Queue::named(QueueName::parse("a/b").unwrap());
    let error = broker.declare(&queue).await.unwrap_err();
    assert!(!error.is_transient() && std::error::Error::source(&error).unwrap().to_string().contains("has a `/`"));
    queue = Queue::named(celery());
    queue.exchange.name = "../outside".to_owned();
    let error = broker.declare(&queue).await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("cannot be a file"));
    assert_eq!(names(bench.folder.path()), ["data"]);
}

#[tokio::test]
async fn each_of_several_takes_what_no_other_has_taken() {
    let bench = Bench::new();
    let options = bench.options();
    let mut brokers = Vec::new();
    for _ in 0..3 {
        brokers.push(connect(&options).await);
    }
    let sent: Vec<_> = (0..300).map(|number| publication(&number.to_string())).collect();
    brokers[0].publish(&sent).await.unwrap();
    let mut seen = Vec::new();
    let mut consumers = Vec::new();
    for broker in &brokers {
        consumers.push(broker.consume(&celery().into(), 7).await.unwrap());
    }
    while seen.len() < 300 {
        for consumer in &consumers {
            let next = tokio::time::timeout(Duration::from_millis(20), consumer.next());
            let Ok(taken) = next.await else { continue };
            let taken = taken.unwrap().unwrap();
            seen.extend(texts(&taken));
            settle(&**consumer, taken, Acknowledgement::Ack).await;
        }
    }
    seen.sort_by_key(|body| body.parse::<u32>().unwrap());
    assert_eq!(seen, (0..300).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(brokers[0].depth(&celery()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_topic_and_a_fanout_reach_the_queues_that_are_bound() {
    let bench = Bench::new();
    let broker = bench.broker().await;
    let bound = |name: &str, kind, exchange: &str, key: &str| {
        let mut queue = Queue::named(QueueName::parse(name).unwrap());
        queue.exchange.kind = kind;
        queue.exchange.name = exchange.to_owned();
        queue.routing_key = key.to_owned();
        queue
    };
    for queue in [
        bound("large", ExchangeKind::Topic, "images", "*.large"),
        bound("all", ExchangeKind::Topic, "images", "#"),
        bound("one", ExchangeKind::Fanout, "news", "x"),
        bound("two", ExchangeKind::Fanout, "news", ""),
        bound("direct", ExchangeKind::Direct, "plain", "key"),
    ] {
        broker.declare(&queue).await.unwrap();
        broker.declare(&queue).await.unwrap();
    }
    let send = async |exchange: &str, key: &str| {
        let route = Route { exchange: exchange.to_owned(), routing_key: key.to_owned() };
        broker.publish(&[Publication { message: Message::default(), route }]).await
    };
    send("images", "png.large").await.unwrap();
    send("images", "png.small").await.unwrap();
    send("news", "whatever").await.unwrap();
    send("plain", "key").await.unwrap();
    assert!(matches!(send("plain", "other").await, Err(BrokerError::Unroutable { .. })));
    let mut depths = Vec::new();
    for queue in ["large", "all", "one", "two", "direct"] {
        depths.push(broker.depth(&QueueName::parse(queue).unwrap()).await.unwrap());
    }
    assert_eq!(depths, [1, 2, 1, 1, 1]);
    let table = fs::read_to_string(bench.folder.path().join("control/images.exchange")).unwrap();
    assert_eq!(table, r##"[["#", "^.*?$", "all"], ["*.large", "^[^\\.]+\\.large$", "large"]]"##);
}

#[tokio::test]
async fn a_monitor_that_was_killed_is_unbound_with_its_owner() {
    let bench = Bench::new();
    let dead = bench.ours("claimed").join("dead");
    fs::create_dir_all(&dead).unwrap();
    fs::write(
        dead.join("bound"),
        r##"[["celeryev", ["#", "^.*?$", "celeryev.gone"]], ["celery.pidbox", ["", "", "a@box.celery.pidbox"]]]"##,
    )
    .unwrap();
    fs::create_dir(bench.folder.path().join("control")).unwrap();
    let control = |name: &str| bench.folder.path().join("control").join(name);
    fs::write(control("celeryev.exchange"), r##"[["#", "^.*?$", "celeryev.gone"]]"##).unwrap();
    fs::write(control("celery.pidbox.exchange"), r#"[["", "", "a@box.celery.pidbox"]]"#).unwrap();
    bench.put("1_a.celeryev.gone.msg", "an event");
    let options = FilesystemOptions { lease: Duration::from_millis(300), ..bench.options() };
    let broker = connect(&options).await;
    // The node is there again.
    let _inbox = broker.subscribe(&Subscription::mailbox("celery", "a@box")).await.unwrap();
    let gone = async {
        while dead.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the dead one is swept");
    assert_eq!(fs::read_to_string(control("celeryev.exchange")).unwrap(), "[]");
    assert_eq!(fs::read_to_string(control("celery.pidbox.exchange")).unwrap(), r#"[["", "", "a@box.celery.pidbox"]]"#);
    assert_eq!(names(&bench.data()), [".taskhost"]);
}

#[tokio::test]
async fn what_nobody_reads_does_not_pile_up() {
    let bench = Bench::new();
    let broker = bench.broker().await;
    let folders = &broker.shared.folders;
    let binding = |queue: &str| Binding { routing_key: "#".into(), pattern: "^.*?$".into(), queue: queue.to_owned() };
    for queue in ["celeryev.gone", "celeryev.reading"] {
        table::bind(folders, "celeryev", &binding(queue)).unwrap();
    }
    let age = |name: &str, age: u64| {
        bench.put(name, "an event");
        let file = fs::File::options().write(true).open(bench.data().join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
    };
    age("1_a.celeryev.gone.msg", 70);
    age("2_a.celeryev.gone.msg", 10);
    age("3_a.celeryev.reading.msg", 10);
    assert_eq!(janitor::sweep_letters(folders, &[("celeryev".to_owned(), Topic::Events)]).unwrap(), 1);
    assert_eq!(names(&bench.data()), [".taskhost", "3_a.celeryev.reading.msg"]);
    assert_eq!(table::read(folders, "celeryev").unwrap(), [binding("celeryev.reading")]);
}
