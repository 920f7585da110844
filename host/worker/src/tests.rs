//! The driver with a memory broker, a memory store, a scripted invoker and a paused clock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use broker::{
    Broker, BrokerError, Capabilities, Consumer, Delivery, Inbox, MemoryBroker, PutBack, PutBackFailed, Subscription,
    Topic,
};
use store::state::StateMemory;
use store::{MemoryStore, ResultStore, StoreError};
use taskhost_core::builtin;
use taskhost_core::canvas::SendSettings;
use taskhost_core::dispatcher::{Limits, PluginEvent, Shutdown, SpoolLimits, TaskDefaults};
use taskhost_core::settle::Step;
use taskhost_core::{
    Attempt, Catalog, ChordPart, ChordStyle, Codec, Disposition, Finished, HeaderValue, Headers, Json, Limit, Message,
    NodeName, Outcome, PluginName, PluginVersion, Progress, Publication, Queue, QueueName, Queues, Request,
    ResultRecord, RetryDelay, RetryRequest, Route, State, StoredResult, TaskId, TaskName, TaskOptions, TaskSpec,
    Timestamp, Usage, dead, settle,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Announcer, BuiltinSettings, Builtins, Cancel, Connection, Connector, EventSettings, Invoker, Plugins, Ports,
    QUESTIONS_MAX, Question, Reports, Retry, RunError, Settings, Watchers, run,
};

mod answers;
mod builtins;
mod canvas;
mod events;
mod mailbox;
mod spool;
mod state;
mod watchers;

/// Longer than anything here takes on a clock that stands still.
const PATIENCE: Duration = Duration::from_secs(600);

/// After two thirds of this the worker does something about an unsettled delivery.
const CONSUMER_TIMEOUT: Duration = Duration::from_secs(1_800);

/// The wall clock of these tests: it moves with tokio's paused one.
fn clock() -> Timestamp {
    static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    Timestamp::from_micros(1_795_343_528_000_000) + Instant::now().into_std().saturating_duration_since(*START)
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    fn note(&self, line: String) {
        self.0.lock().expect("no panics").push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no panics").clone()
    }

    fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|other| *other == line).count()
    }
}

/// Runs tasks by their name.
struct Script {
    journal: Journal,
    gate: Arc<Notify>,
    reports: Arc<Reports>,
}

#[async_trait]
impl Invoker for Script {
    async fn invoke(&self, attempt: Attempt, cancel: Cancel) -> Finished {
        let Request { id, task, retries, .. } = &*attempt.request;
        self.journal.note(format!("run {id} #{retries}"));
        let mut effects = Vec::new();
        let outcome = match task.as_str() {
            "call" => {
                effects = (0..2).map(call).collect();
                Outcome::Success(Json::int(4))
            }
            "gate" => tokio::select! {
                () = self.gate.notified() => Outcome::Success(Json::int(1)),
                () = cancel.requested() => Outcome::Interrupted,
            },
            "slow" => {
                let takes = Duration::from_millis(1500);
                sleep(takes.min(attempt.time_limit)).await;
                match attempt.time_limit < takes {
                    true => Outcome::TimedOut(Limit::Hard(attempt.time_limit)),
                    false => Outcome::Success(Json::int(4)),
                }
            }
            "retry" if *retries == 0 => Outcome::Retry(RetryRequest {
                cause: None,
                delay: RetryDelay::Countdown(Duration::ZERO),
                max_retries: None,
                args: None,
                kwargs: None,
            }),
            "report" => {
                let state = State::of_task("HALFWAY").expect("a state");
                let report = settle::updated(&attempt, state, Json::null());
                let answer = self.reports.put(report).await.expect("the worker does not stop");
                // One whose answer nobody waits for.
                drop(self.reports.put(settle::updated(&attempt, State::Custom("NEARLY".into()), Json::null())));
                Outcome::Success(Json::text(&format!("{answer:?}")))
            }
            "panic" => panic!("scripted"),
            _ => Outcome::Success(Json::int(4)),
        };
        Finished { outcome, effects, children: Vec::new(), usage: Usage::default() }
    }
}

/// A message for a queue that nobody has made.
fn call(number: u32) -> Step {
    let queue = QueueName::parse("calls").expect("valid");
    let message = Message { body: format!("[[{number}], {{}}, {{}}]").into(), ..Message::default() };
    let route = Route::queue(&queue);
    Step::SendTo(Box::new(queue.into()), Publication { message, route })
}

/// Notes what is published and settled.
struct NotingConnector {
    broker: MemoryBroker,
    journal: Journal,
}

struct NotingBroker {
    inner: Arc<dyn Broker>,
    journal: Journal,
}

struct NotingConsumer {
    inner: Box<dyn Consumer>,
    journal: Journal,
}

#[async_trait]
impl Connector for NotingConnector {
    async fn connect(&self) -> Result<Arc<dyn Broker>, BrokerError> {
        let inner: Arc<dyn Broker> = self.broker.connect()?;
        Ok(Arc::new(NotingBroker { inner, journal: self.journal.clone() }))
    }
}

#[async_trait]
impl Broker for NotingBroker {
    fn capabilities(&self) -> Capabilities {
        // As if it did; what the worker does about it is all that is tested here.
        Capabilities { times_out: true, ..self.inner.capabilities() }
    }

    async fn consume(&self, queue: &Queue, prefetch: u32) -> Result<Box<dyn Consumer>, BrokerError> {
        let inner = self.inner.consume(queue, prefetch).await?;
        Ok(Box::new(NotingConsumer { inner, journal: self.journal.clone() }))
    }

    async fn publish(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        self.inner.publish(publications).await?;
        publications.iter().for_each(|_| self.journal.note("publish".to_owned()));
        Ok(())
    }

    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.journal.note(format!("declare {}", queue.name));
        self.inner.declare(queue).await
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Inbox>, BrokerError> {
        self.inner.subscribe(subscription).await
    }

    async fn broadcast(&self, topic: Topic, publications: Vec<Publication>) -> Result<(), BrokerError> {
        self.inner.broadcast(topic, publications).await
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        self.inner.depth(queue).await
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        self.inner.purge(queue).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[async_trait]
impl Consumer for NotingConsumer {
    async fn next(&self) -> Result<Option<Vec<Delivery>>, BrokerError> {
        self.inner.next().await
    }

    async fn settle(&self, receipts: broker::Receipts) -> Result<(), BrokerError> {
        for (_, acknowledgement) in &receipts {
            self.journal.note(format!("{acknowledgement:?}").to_lowercase());
        }
        self.inner.settle(receipts).await
    }

    async fn put_back(&self, deliveries: Vec<PutBack>) -> Result<(), PutBackFailed> {
        deliveries.iter().for_each(|_| self.journal.note("put back".to_owned()));
        self.inner.put_back(deliveries).await
    }

    async fn set_prefetch(&self, prefetch: u32) -> Result<(), BrokerError> {
        self.inner.set_prefetch(prefetch).await
    }

    async fn cancel(&self) -> Result<(), BrokerError> {
        self.inner.cancel().await
    }
}

/// Notes what is stored, and is down when told so.
struct NotingStore {
    inner: MemoryStore,
    journal: Journal,
    down: AtomicBool,
    /// Whoever asks waits for ever.
    silent: AtomicBool,
    /// Whoever writes waits for ever.
    deaf: AtomicBool,
}

#[async_trait]
impl ResultStore for NotingStore {
    async fn put(&self, records: &[ResultRecord]) -> Vec<Result<(), StoreError>> {
        if self.down.load(Ordering::Relaxed) {
            let failed = |record: &ResultRecord| {
                let id = record.id.clone();
                Err(StoreError::Operation { operation: "store", id, source: "down".into(), transient: true })
            };
            return records.iter().map(failed).collect();
        }
        if self.deaf.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        records.iter().for_each(|record| self.journal.note(format!("store {}", record.state.as_str())));
        self.inner.put(records).await
    }

    async fn get(&self, id: &TaskId) -> Result<Option<StoredResult>, StoreError> {
        if self.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.inner.get(id).await
    }

    async fn forget(&self, id: &TaskId) -> Result<(), StoreError> {
        self.inner.forget(id).await
    }

    async fn changed(&self, id: &TaskId, within: Duration) {
        self.inner.changed(id, within).await;
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn chords(&self) -> ChordStyle {
        self.inner.chords()
    }

    async fn set_chord_size(&self, group: &str, size: u64, again: bool) -> Result<(), StoreError> {
        self.journal.note(format!("size {group} {size}"));
        self.inner.set_chord_size(group, size, again).await
    }

    async fn count_chord_parts(&self, parts: &[ChordPart]) -> Vec<Result<Progress, StoreError>> {
        parts.iter().for_each(|part| self.journal.note(format!("count {}", part.task)));
        self.inner.count_chord_parts(parts).await
    }

    async fn extend_claim(&self, group: &str, token: &str) -> Result<bool, StoreError> {
        self.inner.extend_claim(group, token).await
    }

    async fn finish_chord(&self, group: &str, token: &str) -> Result<bool, StoreError> {
        self.journal.note(format!("finish {group}"));
        self.inner.finish_chord(group, token).await
    }

    async fn fail_chord(&self, group: &str) -> Result<(), StoreError> {
        self.journal.note(format!("fail {group}"));
        self.inner.fail_chord(group).await
    }

    async fn delete_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.journal.note(format!("delete what is older than {older_than:?}"));
        self.inner.delete_expired(older_than).await
    }

    fn is_durable(&self) -> bool {
        true
    }
}

struct World {
    broker: MemoryBroker,
    client: Arc<dyn Broker>,
    store: Arc<NotingStore>,
    state: Arc<StateMemory>,
    journal: Journal,
    gate: Arc<Notify>,
    shutdowns: mpsc::Sender<Shutdown>,
    catalogs: watch::Sender<Arc<Catalog>>,
    questions: mpsc::Sender<Question>,
    announcer: Arc<Announcer>,
    worker: JoinHandle<Result<(), RunError>>,
}

fn queue() -> QueueName {
    QueueName::parse("celery").expect("valid")
}

fn limits() -> Limits {
    Limits {
        prefetch_max: 0,
        disable_prefetch: false,
        limited_max: 100,
        soft_shutdown_timeout: None,
        unknown_task: Disposition::Reject,
        removed_task: Disposition::Park,
        concurrency: 2,
        concurrency_max: 4,
        autoscale: None,
        prefetch_multiplier: 4,
        eta_hold: Duration::from_secs(60),
        delivery_limit: Some(3),
        consumer_timeout: Some(CONSUMER_TIMEOUT),
        journals: true,
        held_max: 100,
        committing_max: 10,
        spool: SpoolLimits { outcomes: 20, bytes: 1 << 20 },
        remembered_max: std::num::NonZeroUsize::new(100).expect("not zero"),
        time_limit_max: Duration::from_secs(60),
        quarantine: None,
        look_up: true,
        result_extended: None,
        started_meta: Json::null(),
        sending: Arc::new(SendSettings {
            node: NodeName::parse("taskhost@box").expect("a name"),
            router: taskhost_core::Router::default(),
            signs: false,
            chords: ChordStyle::Native,
            error_cb_on_chord_header: false,
            inherit_parent_priority: false,
        }),
        task: TaskDefaults {
            acks_late: true,
            acks_on_failure: None,
            acks_on_timeout: None,
            acks_on_failure_or_timeout: true,
            reject_on_worker_lost: false,
            retry_on_worker_lost: false,
            ignore_result: false,
            store_errors_even_if_ignored: false,
            track_started: true,
            store_usage: false,
            time_limit: None,
            soft_time_limit: None,
            rate_limit: None,
        },
    }
}

fn catalog(names: &[&str]) -> Arc<Catalog> {
    let spec = |name: &&str| TaskSpec {
        name: TaskName::parse(name).expect("valid"),
        plugin: PluginName::parse("script").expect("valid"),
        version: PluginVersion::of("a"),
        plugin_concurrency: None,
        summary: String::new(),
        takes: None,
        options: TaskOptions::default(),
    };
    Arc::new(Catalog::new(names.iter().map(spec)))
}

fn silent() -> EventSettings {
    EventSettings {
        node: NodeName::parse("test@host").expect("valid"),
        exchange: "celeryev".to_owned(),
        task_events: false,
        sent_events: false,
        heartbeat: None,
    }
}

/// Hears nothing.
struct Nobody;

impl Plugins for Nobody {
    fn happened(&self, _event: PluginEvent) {}
}

impl World {
    async fn start() -> Self {
        Self::start_with(Arc::new(StateMemory::default())).await
    }

    async fn start_with(state: Arc<StateMemory>) -> Self {
        Self::start_telling(state, silent()).await
    }

    async fn start_telling(state: Arc<StateMemory>, events: EventSettings) -> Self {
        Self::start_watched(state, events, Watchers::default()).await
    }

    async fn start_watched(state: Arc<StateMemory>, events: EventSettings, watchers: Watchers) -> Self {
        let (journal, gate) = (Journal::default(), Arc::new(Notify::new()));
        let broker = MemoryBroker::with_clock(clock);
        let client: Arc<dyn Broker> = broker.connect().expect("not told to refuse");
        client.declare(&queue().into()).await.expect("memory");
        let store = Arc::new(NotingStore {
            inner: MemoryStore::new(),
            journal: journal.clone(),
            down: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
        });
        let plugins = catalog(&["add", "call", "gate", "retry", "panic", "report", "slow"]);
        let (catalogs, catalogs_out) =
            watch::channel(Arc::new(Catalog::clone(&plugins).with_builtins(builtin::specs(Duration::from_secs(1)))));
        let (shutdowns, shutdowns_out) = mpsc::channel(2);
        let (questions, questions_out) = mpsc::channel(QUESTIONS_MAX);
        let settings = Settings {
            node: NodeName::parse("test@host").expect("valid"),
            queues: vec![queue().into()],
            known_queues: Queues::default(),
            retry: Retry::default(),
            codec: Codec::default(),
            limits: limits(),
            results_expire: None,
            join_timeout: taskhost_core::chord::JOIN_TIMEOUT,
            write_timeout: Duration::from_secs(30),
            once_served: Vec::new(),
            seed: 1,
        };
        let reports = Arc::new(Reports::default());
        let announcer = Arc::new(Announcer::new(events, clock).counting(watchers.tally.clone()));
        let ports = Ports {
            announcer: announcer.clone(),
            connector: Arc::new(NotingConnector { broker: broker.clone(), journal: journal.clone() }),
            connection: Arc::new(Connection::default()),
            store: store.clone(),
            state: state.clone(),
            invoker: Arc::new(Builtins {
                settings: BuiltinSettings {
                    results_expire: Some(Duration::from_secs(60)),
                    result_bytes_max: 1000,
                    chord_join_timeout: Duration::from_secs(3),
                },
                inner: Arc::new(Script { journal: journal.clone(), gate: gate.clone(), reports: reports.clone() }),
                store: store.clone(),
                catalogs: catalogs_out.clone(),
                sending: limits().sending,
                clock,
            }),
            reports,
            catalogs: catalogs_out,
            plugins: Arc::new(Nobody),
            watchers,
            rates: None,
            questions: questions_out,
            guests: Handle::current(),
            clock,
        };
        let worker = tokio::spawn(run(settings, ports, shutdowns_out));
        Self { broker, client, store, state, journal, gate, shutdowns, catalogs, questions, announcer, worker }
    }

    async fn send(&self, task: &str, id: &str) {
        self.send_with(task, id, |_| {}).await;
    }

    async fn send_with(&self, task: &str, id: &str, change: impl FnOnce(&mut Headers)) {
        let text = |text: &str| HeaderValue::Text(text.to_owned());
        let mut headers = Headers(vec![("task".to_owned(), text(task)), ("id".to_owned(), text(id))]);
        change(&mut headers);
        self.publish(Message { headers, body: "[[], {}, {}]".into(), ..Message::default() }).await;
    }

    async fn publish(&self, message: Message) {
        // A worker that reconnects takes the client's connection with it.
        let client = self.broker.connect().expect("not told to refuse");
        client.publish(&[Publication { message, route: Route::queue(&queue()) }]).await.expect("memory");
    }

    async fn until(&self, what: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !what(self) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            panic!("it never came so far: {:?}", self.journal.lines());
        }
    }

    async fn until_state(&self, id: &str, state: State) {
        let id = TaskId::parse(id).expect("valid");
        let waiting = async {
            loop {
                match self.store.get(&id).await.expect("memory") {
                    Some(stored) if stored.state == state => return,
                    _ => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            panic!("{id} never became {}: {:?}", state.as_str(), self.journal.lines());
        }
    }

    async fn stop(self, shutdown: Shutdown) -> Journal {
        self.shutdowns.send(shutdown).await.expect("the worker listens");
        timeout(PATIENCE, self.worker).await.expect("it stops").expect("no panic").expect("no error");
        self.journal
    }

    async fn depth(&self) -> u64 {
        self.broker.connect().expect("not told to refuse").depth(&queue()).await.expect("memory")
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_publishes_then_stores_then_acknowledges() {
    let world = World::start().await;
    world.send("retry", "a").await;
    world.until_state("a", State::Success).await;
    let journal = world.stop(Shutdown::Warm).await;
    let expected = [
        "run a #0",
        "store STARTED",
        "publish",
        "store RETRY",
        "ack",
        "run a #1",
        "store STARTED",
        "store SUCCESS",
        "ack",
    ];
    // STARTED is stored beside the run, in whatever order, but before what the run leads to.
    let sorted = |lines: Vec<String>| {
        let mut lines = lines;
        for pair in 0..lines.len().saturating_sub(1) {
            if lines[pair] == "store STARTED" && lines[pair + 1].starts_with("run") {
                lines.swap(pair, pair + 1);
            }
        }
        lines
    };
    assert_eq!(sorted(journal.lines()), expected);
}

#[tokio::test(start_paused = true)]
async fn what_a_task_sent_is_published_before_its_result_is_stored_and_its_queue_is_made_once() {
    let world = World::start().await;
    world.send("call", "a").await;
    world.until_state("a", State::Success).await;
    world.send("call", "b").await;
    world.until_state("b", State::Success).await;
    world.until(|world| world.journal.count("ack") == 2).await;
    let calls = QueueName::parse("calls").expect("valid");
    assert_eq!(world.broker.connect().expect("not told to refuse").depth(&calls).await.expect("memory"), 4);
    let lines = world.stop(Shutdown::Warm).await.lines();
    let lines: Vec<_> = lines.into_iter().filter(|line| line != "store STARTED").collect();
    let once = ["publish", "publish", "store SUCCESS", "ack"];
    assert_eq!(lines, [&["run a #0", "declare calls"][..], &once, &["run b #0"], &once].concat());
}

#[tokio::test(start_paused = true)]
async fn a_state_that_a_task_reports_is_stored_after_started_and_before_the_result() {
    let world = World::start().await;
    world.send("report", "a").await;
    world.until_state("a", State::Success).await;
    let stored = world.store.get(&TaskId::parse("a").expect("valid")).await.expect("memory").expect("is there");
    assert_eq!(stored.result, Json::text("Ok(())"));
    let journal = world.stop(Shutdown::Warm).await;
    let lines: Vec<_> = journal.lines().into_iter().filter(|line| line.starts_with("store")).collect();
    assert_eq!(lines, ["store STARTED", "store HALFWAY", "store NEARLY", "store SUCCESS"]);
}

#[tokio::test(start_paused = true)]
async fn a_task_is_told_that_its_state_could_not_be_stored() {
    let world = World::start().await;
    world.store.down.store(true, Ordering::Relaxed);
    world.send("report", "a").await;
    world.until(|world| world.journal.count("run a #0") == 1).await;
    sleep(Duration::from_secs(1)).await;
    world.store.down.store(false, Ordering::Relaxed);
    world.until_state("a", State::Success).await;
    let stored = world.store.get(&TaskId::parse("a").expect("valid")).await.expect("memory").expect("is there");
    assert!(stored.result.as_str().contains("Err("), "{}", stored.result);
    assert_eq!(world.stop(Shutdown::Warm).await.count("store HALFWAY"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_eta_is_kept() {
    let world = World::start().await;
    let eta = clock() + Duration::from_secs(30);
    let due = Instant::now() + Duration::from_secs(30);
    world.send_with("add", "a", |headers| headers.set("eta", HeaderValue::Text(eta.isoformat()))).await;
    world.until_state("a", State::Success).await;
    assert!(Instant::now() >= due, "early");
    assert!(Instant::now() < due + Duration::from_secs(2), "late");
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_running_task_survives_a_lost_connection_and_does_not_run_twice() {
    let world = World::start().await;
    world.send("gate", "a").await;
    world.until(|world| world.journal.count("run a #0") == 1).await;
    world.broker.lose_connections();
    // The redelivery is here before the task ends: adopted.
    world.send("add", "b").await;
    world.until_state("b", State::Success).await;
    world.gate.notify_one();
    world.until_state("a", State::Success).await;
    world.until(|world| world.journal.count("ack") >= 2).await;
    assert_eq!(world.journal.count("run a #0"), 1);
    assert_eq!(world.depth().await, 0);
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_while_the_broker_is_away_is_recognised_when_it_comes_again() {
    let world = World::start().await;
    world.send("gate", "a").await;
    world.until(|world| world.journal.count("run a #0") == 1).await;
    world.broker.refuse_connections(true);
    world.broker.lose_connections();
    world.gate.notify_one();
    world.until_state("a", State::Success).await;
    sleep(Duration::from_secs(20)).await;
    world.broker.refuse_connections(false);
    world.send("add", "b").await;
    world.until_state("b", State::Success).await;
    let journal = world.stop(Shutdown::Warm).await;
    assert_eq!(journal.count("run a #0"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_the_broker_to_come_back() {
    let world = World::start().await;
    world.send("gate", "hold").await;
    world.send("retry", "a").await;
    world.until(|world| world.journal.count("run a #0") == 1).await;
    world.until_state("a", State::Success).await;
    world.broker.refuse_connections(true);
    world.broker.lose_connections();
    sleep(Duration::from_secs(60)).await;
    world.broker.refuse_connections(false);
    world.gate.notify_one();
    world.until_state("hold", State::Success).await;
    let journal = world.stop(Shutdown::Warm).await;
    assert_eq!((journal.count("run a #0"), journal.count("run a #1")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_while_the_store_is_down() {
    let world = World::start().await;
    world.store.down.store(true, Ordering::Relaxed);
    world.send("add", "a").await;
    world.until(|world| world.journal.count("run a #0") == 1).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.journal.count("ack"), 0);
    world.store.down.store(false, Ordering::Relaxed);
    world.until_state("a", State::Success).await;
    world.until(|world| world.journal.count("ack") == 1).await;
    let journal = world.stop(Shutdown::Warm).await;
    assert_eq!(journal.count("run a #0"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_warm_shutdown_finishes_what_runs_and_gives_back_the_rest() {
    let world = World::start().await;
    for id in ["a", "b", "c", "d"] {
        world.send("gate", id).await;
    }
    world.until(|world| world.journal.lines().iter().filter(|line| line.starts_with("run")).count() == 2).await;
    world.shutdowns.send(Shutdown::Warm).await.expect("the worker listens");
    sleep(Duration::from_secs(5)).await;
    assert!(!world.worker.is_finished(), "two tasks still run");
    world.gate.notify_waiters();
    let client = world.client.clone();
    timeout(PATIENCE, world.worker).await.expect("it stops").expect("no panic").expect("no error");
    assert_eq!(client.depth(&queue()).await.expect("memory"), 2);
    assert_eq!(world.journal.count("ack"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cold_shutdown_interrupts_what_runs_and_gives_it_back() {
    let world = World::start().await;
    world.send("gate", "a").await;
    world.until(|world| world.journal.count("run a #0") == 1).await;
    let client = world.client.clone();
    let journal = world.stop(Shutdown::Cold).await;
    assert_eq!(client.depth(&queue()).await.expect("memory"), 1);
    assert_eq!((journal.count("requeue"), journal.count("ack")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cold_shutdown_does_not_wait_for_a_store_that_is_down() {
    let world = World::start().await;
    world.store.down.store(true, Ordering::Relaxed);
    world.send("add", "a").await;
    world.until(|world| world.journal.count("run a #0") == 1).await;
    world.stop(Shutdown::Cold).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_invoker_costs_one_task() {
    let world = World::start().await;
    world.send("panic", "a").await;
    world.until_state("a", State::Failure).await;
    world.send("add", "b").await;
    world.until_state("b", State::Success).await;
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_message_disturbs_nobody() {
    let world = World::start().await;
    let rubbish = Message { body: "rubbish".into(), ..Message::default() };
    let rubbish = Publication { message: rubbish, route: Route::queue(&queue()) };
    world.client.publish(&[rubbish]).await.expect("memory");
    world.send("add", "a").await;
    world.until_state("a", State::Success).await;
    world
        .until(|world| {
            world.journal.lines().iter().filter(|line| ["ack", "reject"].contains(&line.as_str())).count() == 2
        })
        .await;
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn many_tasks_are_each_run_and_settled_once() {
    let world = World::start().await;
    for index in 0..500 {
        world.send(if index % 5 == 0 { "retry" } else { "add" }, &format!("id-{index}")).await;
    }
    for index in 0..500 {
        world.until_state(&format!("id-{index}"), State::Success).await;
    }
    world.until(|world| world.journal.count("ack") == 600).await;
    let journal = world.stop(Shutdown::Warm).await;
    let mut runs: BTreeMap<String, u32> = BTreeMap::new();
    for line in journal.lines().into_iter().filter(|line| line.starts_with("run")) {
        *runs.entry(line).or_default() += 1;
    }
    assert_eq!(runs.len(), 600);
    assert!(runs.values().all(|&times| times == 1));
}

/// A broker that lets nobody in.
struct Refusing {
    transient: bool,
    tries: AtomicU32,
}

#[async_trait]
impl Connector for Refusing {
    async fn connect(&self) -> Result<Arc<dyn Broker>, BrokerError> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        let url = taskhost_core::RedactedUrl::new("amqp://me:secret@box");
        Err(BrokerError::Connect { url, source: "access refused".into(), transient: self.transient })
    }
}

/// A worker that is refused ends; with what it says, and how often it tried.
async fn refused(transient: bool, retry: Retry) -> (String, u32) {
    let refusing = Arc::new(Refusing { transient, tries: AtomicU32::new(0) });
    let world = World::start().await;
    let settings = Settings {
        node: NodeName::parse("x@y").expect("valid"),
        queues: vec![queue().into()],
        known_queues: Queues::default(),
        retry,
        codec: Codec::default(),
        limits: limits(),
        results_expire: None,
        join_timeout: taskhost_core::chord::JOIN_TIMEOUT,
        write_timeout: Duration::from_secs(30),
        once_served: Vec::new(),
        seed: 1,
    };
    let reports = Arc::new(Reports::default());
    let ports = Ports {
        announcer: Arc::new(Announcer::new(silent(), clock)),
        connector: refusing.clone(),
        connection: Arc::new(Connection::default()),
        store: world.store.clone(),
        state: world.state.clone(),
        invoker: Arc::new(Script { journal: Journal::default(), gate: Arc::default(), reports: reports.clone() }),
        reports,
        rates: None,
        catalogs: watch::channel(Arc::default()).1,
        plugins: Arc::new(Nobody),
        watchers: Watchers::default(),
        questions: mpsc::channel(1).1,
        guests: Handle::current(),
        clock,
    };
    let (_keep, shutdowns) = mpsc::channel(1);
    let error = timeout(PATIENCE, run(settings, ports, shutdowns)).await.expect("it ends").expect_err("it fails");
    world.stop(Shutdown::Warm).await;
    (crate::commit::chain(&error), refusing.tries.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_can_never_work_ends_the_worker() {
    let (error, tries) = refused(false, Retry::default()).await;
    assert_eq!(error, "cannot consume: connect to amqp://me:**@box: access refused");
    assert_eq!(tries, 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_tries_no_more_often_than_its_operator_says() {
    let said = "cannot consume: connect to amqp://me:**@box: access refused".to_owned();
    assert_eq!(refused(true, Retry { most: Some(3), ..Retry::default() }).await, (said.clone(), 4));
    assert_eq!(refused(true, Retry { on_startup: false, ..Retry::default() }).await, (said, 1));
}

#[tokio::test(start_paused = true)]
async fn a_parked_message_comes_home_when_its_task_is_there() {
    let world = World::start().await;
    let parked = QueueName::parse(&format!("{}.parked", queue())).expect("valid");
    let message = |task: &str, id: &str| {
        let text = |text: &str| HeaderValue::Text(text.to_owned());
        let headers = Headers(vec![("task".to_owned(), text(task)), ("id".to_owned(), text(id))]);
        let message = Message { headers, body: "[[], {}, {}]".into(), ..Message::default() };
        let why = dead::Reason { reason: "removed_task", error: "gone", count: 0 };
        Publication { message: dead::letter(&message, &queue(), &why), route: Route::queue(&parked) }
    };
    let client = world.broker.connect().expect("not told to refuse");
    client.declare(&Queue::named(parked.clone())).await.expect("memory");
    client.publish(&[message("nosuch", "stays"), message("add", "a")]).await.expect("memory");
    world.broker.lose_connections();
    world.until_state("a", State::Success).await;
    let depth = world.broker.connect().expect("not told to refuse").depth(&parked).await.expect("memory");
    assert_eq!(depth, 1);
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_eta_waits_at_the_broker() {
    let world = World::start().await;
    let eta = clock() + Duration::from_secs(3_600);
    let due = Instant::now() + Duration::from_secs(3_600);
    world.send_with("add", "a", |headers| headers.set("eta", HeaderValue::Text(eta.isoformat()))).await;
    world.until(|world| world.journal.count("put back") == 1).await;
    // The worker that put it back need not be there any more.
    world.broker.lose_connections();
    let waiting = async {
        while world.journal.count("run a #0") == 0 {
            sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(Duration::from_secs(4_000), waiting).await.expect("it runs");
    assert!(Instant::now() >= due, "early");
    world.until_state("a", State::Success).await;
    let journal = world.stop(Shutdown::Warm).await;
    assert_eq!(journal.count("run a #0"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_loses_worker_after_worker_is_kept_aside() {
    let world = World::start().await;
    world.send_with("add", "b", |headers| headers.set("x-delivery-count", HeaderValue::Int(3))).await;
    world.until_state("b", State::Failure).await;
    let dead = QueueName::parse("celery.dead").expect("valid");
    let client = world.broker.connect().expect("not told to refuse");
    assert_eq!(client.depth(&dead).await.expect("memory"), 1);
    assert_eq!(world.journal.count("run b #0"), 0);
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_plugin_goes_waits_aside_and_runs_when_it_is_back() {
    let world = World::start().await;
    world.send("add", "a").await;
    world.until_state("a", State::Success).await;
    world.catalogs.send_replace(catalog(&["gate"]));
    world.send("add", "b").await;
    let parked = QueueName::parse("celery.parked").expect("valid");
    let depth = async || world.broker.connect().expect("not told to refuse").depth(&parked).await.unwrap_or(0);
    while depth().await == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    world.catalogs.send_replace(catalog(&["gate", "add"]));
    world.until_state("b", State::Success).await;
    assert_eq!(depth().await, 0);
    world.stop(Shutdown::Warm).await;
}
