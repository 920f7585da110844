//! The mailbox of a running worker, on a memory broker.

use broker::Inbox;
use taskhost_core::control::{Answer, Question as Wire};

use super::*;
use crate::{Desk, Facts, Mailbox, MailboxSettings, RestartRefused};

/// Knows little, and may be restarted once.
struct FewFacts(AtomicBool);

#[async_trait]
impl Facts for FewFacts {
    fn conf(&self, with_defaults: bool) -> Json {
        Json::object([("with_defaults", with_defaults)])
    }

    fn report(&self) -> String {
        "software -> taskhost".to_owned()
    }

    fn broker(&self) -> Json {
        Json::object([("transport", "memory")])
    }

    fn time_limits(&self) -> [f64; 2] {
        [0.0, 60.0]
    }

    async fn restart_pool(&self) -> Result<(), RestartRefused> {
        match self.0.swap(true, Ordering::Relaxed) {
            false => Ok(()),
            true => Err(RestartRefused::NotEnabled),
        }
    }
}

struct Plain(MemoryBroker);

#[async_trait]
impl Connector for Plain {
    async fn connect(&self) -> Result<Arc<dyn Broker>, BrokerError> {
        Ok(self.0.connect()?)
    }
}

/// A node with a mailbox on this broker, whose questions go to this world.
fn node(world: &World, broker: &MemoryBroker, name: &str, mingles: bool) -> (JoinHandle<()>, Arc<Announcer>) {
    let announcer = Arc::new(Announcer::new(silent(), clock));
    let desk = Desk {
        node: NodeName::parse(name).expect("a name"),
        announcer: announcer.clone(),
        facts: Arc::new(FewFacts(AtomicBool::new(false))),
        questions: world.questions.clone(),
        shutdowns: world.shutdowns.clone(),
        started: Instant::now(),
    };
    let settings = MailboxSettings {
        exchange: "celery".to_owned(),
        queue_ttl: None,
        queue_expires: None,
        mingles,
        codec: Codec::default(),
        oid: format!("oid-of-{name}"),
        clock,
    };
    let mailbox = Mailbox { settings, connector: Arc::new(Plain(broker.clone())), desk: Arc::new(desk), pulse: None };
    let (end, ending) = tokio::sync::oneshot::channel();
    let running = tokio::spawn(async move {
        let _end = end;
        mailbox.run(ending).await;
    });
    (running, announcer)
}

/// Who asks.
struct Client {
    broker: Arc<dyn Broker>,
    inbox: Box<dyn Inbox>,
    reply_to: Route,
}

impl Client {
    async fn new(broker: &MemoryBroker) -> Self {
        let broker: Arc<dyn Broker> = broker.connect().expect("not told to refuse");
        let replies = Subscription::replies("celery", "client");
        let inbox = broker.subscribe(&replies).await.expect("free");
        let reply_to = Route { exchange: replies.exchange, routing_key: replies.routing_key };
        Self { broker, inbox, reply_to }
    }

    async fn send(&self, method: &str, arguments: &str, change: impl FnOnce(&mut Wire<'_>)) {
        let arguments = Json::parse(arguments.to_owned()).expect("JSON");
        let mut wire = Wire {
            method,
            arguments: &arguments,
            destination: None,
            reply_to: Some((&self.reply_to, "ticket")),
            clock: 40,
            expires: None,
        };
        change(&mut wire);
        self.send_message(wire.message()).await;
    }

    async fn ping(&self, node: &str) {
        let arguments = Json::empty_map();
        let wire = Wire {
            method: "ping",
            arguments: &arguments,
            destination: Some(&[node.to_owned()]),
            reply_to: Some((&self.reply_to, "ticket")),
            clock: 40,
            expires: None,
        };
        self.send_message(wire.message()).await;
    }

    async fn send_message(&self, message: Message) {
        let route = Route { exchange: Topic::Mailboxes.exchange("celery"), routing_key: String::new() };
        let sent = self.broker.broadcast(Topic::Mailboxes, vec![Publication { message, route }]).await;
        sent.expect("connected");
    }

    async fn answers(&self) -> Vec<Answer> {
        let came = timeout(PATIENCE, self.inbox.next()).await.expect("in time").expect("connected").expect("open");
        came.iter().map(|it| Answer::decode(&it.message, &Codec::default()).expect("an answer")).collect()
    }

    /// Asks until somebody listens.
    async fn ask(&self, method: &str, arguments: &str) -> String {
        loop {
            self.send(method, arguments, |_| {}).await;
            let Ok(came) = timeout(Duration::from_secs(5), self.inbox.next()).await else { continue };
            let came = came.expect("connected").expect("open");
            let answer = Answer::decode(&came[0].message, &Codec::default()).expect("an answer");
            return format!("{} {}", answer.nodes[0].0, answer.nodes[0].1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_is_answered_by_those_whom_it_is_for() {
    let world = World::start().await;
    let (one, announcer) = node(&world, &world.broker, "w1@box", false);
    let (two, _) = node(&world, &world.broker, "w2@box", false);
    let client = Client::new(&world.broker).await;
    client.ask("ping", "{}").await;
    client.ask("ping", "{}").await;
    while timeout(Duration::from_secs(5), client.inbox.next()).await.is_ok() {}

    client.ping("w1@box").await;
    let answers = client.answers().await;
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].nodes, [("w1@box".to_owned(), taskhost_core::control::ok("pong"))]);
    assert_eq!(answers[0].ticket.as_deref(), Some("ticket"));
    assert!(answers[0].clock > Some(40), "later than what was heard: {:?}", answers[0].clock);
    assert!(announcer.lamport().now() > 40);
    // Nobody answers these, and nobody is hurt by them.
    client.send("ping", "{}", |wire| wire.reply_to = None).await;
    client.ping("w3@box").await;
    client.send("ping", "{}", |wire| wire.expires = Some(clock() - Duration::from_secs(60))).await;
    client.send_message(Message { body: "{".into(), ..Message::default() }).await;
    assert!(timeout(Duration::from_secs(5), client.inbox.next()).await.is_err());
    client.ping("w2@box").await;
    assert_eq!(client.answers().await[0].nodes[0].0, "w2@box");
    one.abort();
    two.abort();
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_process_knows_and_what_the_dispatcher_knows_is_one_answer() {
    let world = World::start().await;
    let (mailbox, _) = node(&world, &world.broker, "w1@box", false);
    let client = Client::new(&world.broker).await;
    let stats = client.ask("stats", "{}").await;
    for part in [
        r#"{"total": {}, "pid": "#,
        r#""clock": ""#,
        r#""uptime": "#,
        r#""max-concurrency": 2"#,
        r#""timeouts": [0.0, 60.0]"#,
        r#""broker": {"transport": "memory"}"#,
        r#""prefetch_count": "#,
        r#""rusage": "#,
    ] {
        assert!(stats.contains(part), "{part}: {stats}");
    }
    assert_eq!(client.ask("conf", r#"{"with_defaults": true}"#).await, r#"w1@box {"with_defaults": true}"#);
    assert_eq!(client.ask("report", "{}").await, r#"w1@box {"ok": "software -> taskhost"}"#);
    assert!(client.ask("registered", "{}").await.contains(r#""add""#));
    assert!(client.ask("clock", "{}").await.starts_with(r#"w1@box {"clock": "#));
    assert_eq!(client.ask("heartbeat", "{}").await, "w1@box null");
    assert_eq!(client.ask("election", r#"{"id": "1", "topic": "t"}"#).await, "w1@box null");
    assert_eq!(client.ask("nosuch", "{}").await, r#"w1@box {"error": "KeyError('nosuch')"}"#);
    assert_eq!(client.ask("enable_events", "{}").await, r#"w1@box {"ok": "task events enabled"}"#);
    assert_eq!(client.ask("enable_events", "{}").await, r#"w1@box {"ok": "task events already enabled"}"#);
    assert_eq!(client.ask("disable_events", "{}").await, r#"w1@box {"ok": "task events disabled"}"#);
    assert_eq!(client.ask("disable_events", "{}").await, r#"w1@box {"ok": "task events already disabled"}"#);
    assert_eq!(client.ask("pool_restart", "{}").await, r#"w1@box {"ok": "reload started"}"#);
    assert_eq!(
        client.ask("pool_restart", "{}").await,
        r#"w1@box {"error": "ValueError('Pool restarts not enabled')"}"#
    );
    mailbox.abort();
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_worker_and_is_not_answered() {
    let world = World::start().await;
    let (mailbox, _) = node(&world, &world.broker, "w1@box", false);
    let client = Client::new(&world.broker).await;
    client.ask("ping", "{}").await;
    client.send("shutdown", "{}", |_| {}).await;
    timeout(PATIENCE, world.worker).await.expect("it ends").expect("no panic").expect("in good order");
    assert!(timeout(Duration::from_secs(5), client.inbox.next()).await.is_err());
    mailbox.abort();
}

#[tokio::test(start_paused = true)]
async fn neighbours_tell_each_other_what_is_revoked_and_how_late_it_is() {
    let (first, second) = (World::start().await, World::start().await);
    let (one, old) = node(&first, &first.broker, "w1@box", true);
    let client = Client::new(&first.broker).await;
    client.ask("revoke", r#"{"task_id": ["a", "b"]}"#).await;
    old.lamport().adjust(1_000);
    // The second joins them on the broker of the first.
    let (two, new) = node(&second, &first.broker, "w2@box", true);
    timeout(PATIENCE, async {
        while new.lamport().now() <= 1_000 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it hears of the clock");
    let asked = |world: &World| {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let question = Question { command: taskhost_core::control::Command::Revoked, answer };
        let sent = world.questions.try_send(question);
        async move {
            sent.expect("room");
            answered.await.expect("an answer").to_string()
        }
    };
    timeout(PATIENCE, async {
        while asked(&second).await != r#"["a", "b"]"# {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it hears what is revoked");
    one.abort();
    two.abort();
    first.stop(Shutdown::Warm).await;
    second.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_made_anew() {
    let world = World::start().await;
    let (mailbox, _) = node(&world, &world.broker, "w1@box", false);
    Client::new(&world.broker).await.ask("ping", "{}").await;
    world.broker.lose_connections();
    assert_eq!(Client::new(&world.broker).await.ask("ping", "{}").await, r#"w1@box {"ok": "pong"}"#);
    mailbox.abort();
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_that_another_has_is_taken_over_when_it_is_free() {
    let world = World::start().await;
    let squatter = world.broker.connect().expect("not told to refuse");
    let taken = squatter.subscribe(&Subscription::mailbox("celery", "w1@box")).await.expect("free");
    let (mailbox, _) = node(&world, &world.broker, "w1@box", false);
    let client = Client::new(&world.broker).await;
    for _ in 0..30 {
        client.send("ping", "{}", |_| {}).await;
        assert!(timeout(Duration::from_secs(1), client.inbox.next()).await.is_err());
    }
    taken.close().await;
    assert_eq!(client.ask("ping", "{}").await, r#"w1@box {"ok": "pong"}"#);
    mailbox.abort();
    world.stop(Shutdown::Warm).await;
}

#[tokio::test(start_paused = true)]
async fn the_logical_clock_goes_on_after_a_restart() {
    let state = Arc::new(StateMemory::default());
    let world = World::start_with(state.clone()).await;
    world.announcer.lamport().adjust(70);
    world.stop(Shutdown::Warm).await;
    let world = World::start_with(state.clone()).await;
    timeout(PATIENCE, async {
        while world.announcer.lamport().now() <= 70 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it goes on from there");
    world.announcer.lamport().adjust(100);
    // It is kept now and then, for a worker that is killed.
    sleep(Duration::from_secs(120)).await;
    assert!(store::state::NodeState::clock(&*state).await.expect("memory") > 100);
    world.stop(Shutdown::Warm).await;
}
