//! What goes over the announcer, told by a broker that remembers.

use std::sync::Arc;

use async_trait::async_trait;
use broker::{Broker, BrokerError, Capabilities, Consumer, Inbox, MemoryBroker, Subscription, Topic};
use taskhost_core::event::CustomEvent;
use taskhost_core::{Json, Message, Queue, QueueName, Route, TaskId, TaskName, Usage};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;
use crate::connection::Connector;

/// Longer than anything here takes on a clock that stands still.
const PATIENCE: Duration = Duration::from_secs(600);

/// The wall clock of these tests stands still.
fn clock() -> Timestamp {
    Timestamp::from_micros(1_795_343_528_500_000)
}

struct Memory(MemoryBroker);

#[async_trait]
impl Connector for Memory {
    async fn connect(&self) -> Result<Arc<dyn Broker>, BrokerError> {
        Ok(self.0.connect()?)
    }
}

struct World {
    broker: MemoryBroker,
    announcer: Arc<Announcer>,
    end: oneshot::Sender<()>,
    speaking: JoinHandle<()>,
}

/// Somebody who watches.
struct Monitor(Box<dyn Inbox>);

fn settings() -> EventSettings {
    EventSettings {
        node: NodeName::parse("test@box").expect("a name"),
        exchange: "celeryev".to_owned(),
        task_events: true,
        sent_events: false,
        heartbeat: None,
    }
}

fn event(id: &str, what: Happening) -> Event {
    let (id, task) = (TaskId::parse(id).expect("an id"), TaskName::parse("add").expect("a name"));
    Event { id, task, spec: None, what }
}

fn started(id: &str) -> Event {
    event(id, Happening::Started { waited: Duration::ZERO })
}

impl World {
    fn start(settings: EventSettings) -> Self {
        let broker = MemoryBroker::new();
        let connector = Arc::new(Memory(broker.clone()));
        Self::with(settings, broker, connector)
    }

    fn with(settings: EventSettings, broker: MemoryBroker, connector: Arc<dyn Connector>) -> Self {
        let announcer = Arc::new(Announcer::new(settings, clock));
        let (end, ends) = oneshot::channel();
        let speaking = tokio::spawn(speak(announcer.clone(), connector, ends));
        Self { broker, announcer, end, speaking }
    }

    async fn monitor(&self) -> Monitor {
        let connection = self.broker.connect().expect("not told to refuse");
        let subscription = Subscription::events("celeryev", "celeryev", "monitor", "#");
        Monitor(connection.subscribe(&subscription).await.expect("nobody else is called so"))
    }

    async fn end(self) {
        drop(self.end);
        timeout(PATIENCE, self.speaking).await.expect("it ends").expect("no panic");
    }
}

impl Monitor {
    /// The next messages, as `key: [clock type uuid, ..]`.
    async fn hears(&self) -> Vec<String> {
        let heard = timeout(PATIENCE, self.0.next()).await.expect("something is said").expect("connected");
        heard.expect("not closed").iter().map(shown).collect()
    }

    /// Hears so many messages.
    async fn hears_all(&self, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.hears().await);
        }
        all
    }
}

fn shown(publication: &Publication) -> String {
    let body = Json::parse(publication.message.body.clone()).expect("JSON");
    let one = |event: &Json| {
        let text = |key| event.get(key).and_then(|value| value.as_text().map(|text| text.into_owned()));
        let clock = event.get("clock").and_then(|clock| clock.as_i64()).expect("a clock");
        format!("{clock} {} {}", text("type").expect("a type"), text("uuid").unwrap_or_default()).trim_end().to_owned()
    };
    let events: Vec<String> = match body.elements().next() {
        Some(_) => body.elements().map(|event| one(&event)).collect(),
        None => vec![one(&body)],
    };
    format!("{}: {}", publication.route.routing_key, events.join(", "))
}

#[tokio::test(start_paused = true)]
async fn what_happens_in_a_moment_travels_together_and_in_order() {
    let world = World::start(settings());
    let monitor = world.monitor().await;
    world.announcer.event(started("a"));
    world.announcer.event(event("a", Happening::Ignored));
    world.announcer.event(event("a", Happening::Succeeded { result: Json::int(4), usage: Usage::default() }));
    assert_eq!(monitor.hears().await, ["task.multi: 1 task-started a, 3 task-succeeded a"]);
}

#[tokio::test(start_paused = true)]
async fn many_events_are_sent_at_once_and_in_messages_of_bounded_size() {
    let world = World::start(settings());
    let monitor = world.monitor().await;
    let before = Instant::now();
    for _ in 0..2_500 {
        world.announcer.event(started("a"));
    }
    let heard = monitor.hears_all(3).await;
    let counts: Vec<usize> = heard.iter().map(|message| message.matches("task-started").count()).collect();
    assert_eq!(counts, [1_000, 1_000, 500]);
    assert_eq!(before.elapsed(), Duration::ZERO, "nobody waits for more when there is enough");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_until_a_monitor_asks_for_it() {
    let world = World::start(EventSettings { task_events: false, ..settings() });
    let monitor = world.monitor().await;
    world.announcer.event(started("before"));
    assert_eq!((world.announcer.switch_task_events(true), world.announcer.switch_task_events(true)), (true, false));
    world.announcer.event(started("after"));
    assert_eq!(monitor.hears().await, ["task.multi: 1 task-started after"]);
    assert_eq!((world.announcer.switch_task_events(false), world.announcer.switch_task_events(false)), (true, false));
    world.announcer.event(started("much later"));
    world.announcer.heartbeat();
    assert_eq!(monitor.hears().await, ["worker.heartbeat: 2 worker-heartbeat"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_wanted_at_the_start_is_not_switched_off() {
    let announcer = Announcer::new(settings(), clock);
    assert_eq!((announcer.switch_task_events(true), announcer.switch_task_events(false)), (false, false));
    assert!(announcer.tells_of_tasks());
}

#[tokio::test(start_paused = true)]
async fn a_worker_says_hello_that_it_lives_and_goodbye() {
    let world = World::start(EventSettings { heartbeat: Some(Duration::from_secs(2)), ..settings() });
    let monitor = world.monitor().await;
    let began = Instant::now();
    let said = monitor.hears_all(3).await;
    assert_eq!(
        said,
        [
            "worker.online: 1 worker-online",
            "worker.heartbeat: 2 worker-heartbeat",
            "worker.heartbeat: 3 worker-heartbeat"
        ]
    );
    assert_eq!(began.elapsed(), Duration::from_secs(4));
    world.announcer.event(started("last"));
    world.end().await;
    assert_eq!(monitor.hears_all(2).await, ["task.multi: 4 task-started last", "worker.offline: 5 worker-offline"]);
}

#[tokio::test(start_paused = true)]
async fn what_happens_while_the_broker_is_away_is_told_when_it_is_back() {
    let world = World::start(EventSettings { heartbeat: Some(Duration::from_secs(600)), ..settings() });
    assert_eq!(world.monitor().await.hears().await, ["worker.online: 1 worker-online"]);
    world.broker.refuse_connections(true);
    world.broker.lose_connections();
    world.announcer.event(started("a"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.announcer.event(started("b"));
    world.broker.refuse_connections(false);
    let monitor = world.monitor().await;
    assert_eq!(
        monitor.hears_all(3).await,
        ["worker.online: 4 worker-online", "task.multi: 2 task-started a", "task.multi: 3 task-started b"]
    );
    assert_eq!(world.announcer.dropped(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_task_says_travels_with_the_events_of_tasks_or_alone() {
    let world = World::start(settings());
    let monitor = world.monitor().await;
    let custom =
        |kind| CustomEvent::new(TaskId::parse("a").expect("an id"), kind, Json::empty_map()).expect("an event");
    world.announcer.event(started("a"));
    world.announcer.custom(&custom("task-indexed"));
    world.announcer.custom(&custom("image-half-done"));
    let heard = monitor.hears_all(2).await;
    assert_eq!(heard, ["image.half.done: 3 image-half-done a", "task.multi: 1 task-started a, 2 task-indexed a"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_a_client_made_too_long_is_dropped_alone() {
    let world = World::start(settings());
    let monitor = world.monitor().await;
    let fields = Json::object([("long", "x".repeat(200_000))]);
    let long = CustomEvent::new(TaskId::parse("a").expect("an id"), "task-long", fields).expect("an event");
    world.announcer.custom(&long);
    world.announcer.event(started("a"));
    assert_eq!(monitor.hears().await, ["task.multi: 2 task-started a"]);
    assert_eq!(world.announcer.dropped(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_is_told_only_if_that_is_wanted() {
    let text = |text: &str| taskhost_core::HeaderValue::Text(text.to_owned());
    let headers = taskhost_core::Headers(vec![("task".to_owned(), text("add")), ("id".to_owned(), text("b"))]);
    let route = Route::queue(&QueueName::parse("q").expect("a name"));
    let publication = Publication { message: Message { headers, ..Message::default() }, route };
    for (sent_events, expected) in [(false, vec![]), (true, vec!["task.sent: 2 task-sent b".to_owned()])] {
        let world =
            World::start(EventSettings { sent_events, heartbeat: Some(Duration::from_secs(600)), ..settings() });
        let monitor = world.monitor().await;
        assert_eq!(monitor.hears().await, ["worker.online: 1 worker-online"]);
        world.announcer.sent(&publication);
        world.end().await;
        let mut heard = monitor.hears_all(1 + usize::from(sent_events)).await;
        assert!(heard.pop().is_some_and(|last| last.contains("worker-offline")));
        assert_eq!(heard, expected);
    }
}

/// A broker that takes nothing over: never, or by saying so.
struct Deaf {
    broadcasts: bool,
    refuses: bool,
}

#[async_trait]
impl Connector for Deaf {
    async fn connect(&self) -> Result<Arc<dyn Broker>, BrokerError> {
        Ok(Arc::new(Deaf { ..*self }))
    }
}

#[async_trait]
impl Broker for Deaf {
    fn capabilities(&self) -> Capabilities {
        Capabilities { puts_back: false, times_out: false, clock_is_wrong: false, broadcasts: self.broadcasts }
    }

    async fn broadcast(&self, _topic: Topic, _publications: Vec<Publication>) -> Result<(), BrokerError> {
        match self.refuses {
            true => Err(BrokerError::CannotBroadcast),
            false => std::future::pending().await,
        }
    }

    async fn consume(&self, _queue: &Queue, _prefetch: u32) -> Result<Box<dyn Consumer>, BrokerError> {
        unreachable!("nobody takes tasks here")
    }

    async fn publish(&self, _publications: &[Publication]) -> Result<(), BrokerError> {
        unreachable!("nobody publishes here")
    }

    async fn declare(&self, _queue: &Queue) -> Result<(), BrokerError> {
        unreachable!("nobody declares here")
    }

    async fn depth(&self, _queue: &QueueName) -> Result<u64, BrokerError> {
        unreachable!("nobody counts here")
    }

    async fn purge(&self, _queue: &QueueName) -> Result<u64, BrokerError> {
        unreachable!("nobody purges here")
    }

    async fn close(&self) {}
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_takes_nothing_costs_the_oldest_events_and_nothing_else() {
    for refuses in [false, true] {
        let deaf = Arc::new(Deaf { broadcasts: true, refuses });
        let world = World::with(settings(), MemoryBroker::new(), deaf);
        for _ in 0..3 {
            for _ in 0..50_000 {
                world.announcer.event(started("a"));
            }
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        let dropped = world.announcer.dropped();
        assert!((50_000..=100_000).contains(&dropped), "{dropped} of 150000 dropped");
        let announcer = world.announcer.clone();
        world.end().await;
        assert!(announcer.dropped() > dropped, "what is left at the end is counted as well");
    }
}

#[tokio::test(start_paused = true)]
async fn where_no_monitor_can_be_reached_nothing_is_kept_for_them() {
    let world = World::with(settings(), MemoryBroker::new(), Arc::new(Deaf { broadcasts: false, refuses: false }));
    timeout(PATIENCE, world.speaking).await.expect("it ends by itself").expect("no panic");
    world.announcer.event(started("a"));
    assert!(!world.announcer.tells_of_tasks() && !world.announcer.buffer().is_ready());
    assert_eq!(world.announcer.dropped(), 0);
}
