//! Redis in kombu's layout: our workers, Python workers and all clients share queues.
//!
//! Taking a message and recording it as unacknowledged is one step at the server. What we hold is leased:
//! it stays ours while we live, however long that takes, and goes to others some seconds after we die.
//! One server is meant, or the master that Sentinels name; not Cluster. Makes no second connection when one is lost.

mod address;
mod bindings;
mod connection;
mod consumer;
mod failure;
mod give_back;
mod inbox;
mod intake;
mod keeper;
mod layout;
mod link;
mod publisher;
mod pump;
mod reconcile;
mod script;
mod sweeper;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use dial::redis::Dialer;
use redis::Value;
use taskhost_core::{ExchangeKind, Publication, Queue, QueueName, RedactedUrl};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tracing::{info, warn};

use self::connection::Connection;
use self::consumer::RedisConsumer;
use self::failure::Failure;
use self::inbox::RedisInbox;
use self::intake::Intake;
use self::layout::Layout;
use self::link::{Link, Signals};
use self::publisher::{Publisher, Unpublished};
use crate::broadcast::{Inbox, Subscription, Topic};
use crate::port::{Broker, BrokerError, Capabilities, Consumer};

pub(crate) use self::address::{SCHEMES, check_redis_options, check_redis_tls, check_redis_url, has_tls};

/// How long closing may take until the rest is left to the leases.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unconfirmed message may take to be on its way.
const UNCONFIRMED_TIMEOUT: Duration = Duration::from_millis(250);
/// How long the server may take over what is broadcast.
const BROADCAST_TIMEOUT: Duration = Duration::from_secs(2);

/// How to use the server. The names are those of kombu's transport options; a URL may set them, too.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisOptions {
    /// The name of this node, which the server shows to its operators.
    pub node: String,
    /// How long connecting may take.
    pub timeout: Duration,
    /// How long an answer may take until the server is lost. A batch has some megabytes.
    pub socket_timeout: Duration,
    /// How long a host of ours may be silent until its messages are given to another.
    pub lease: Duration,
    /// After what time kombu, and we, restore what a Python worker has taken and not acknowledged. Should
    /// be the same for all who share the queues.
    pub visibility_timeout: Duration,
    /// Put before every key and channel.
    pub global_keyprefix: String,
    /// Between the parts of a binding, and before the step in the name of a list (`sep`).
    pub separator: String,
    /// The priorities that have a list, rising from 0. Smaller ones are served first.
    pub priority_steps: Vec<u8>,
    /// Before the channels of fanout exchanges; `/DB.` if there is none.
    pub fanout_prefix: Option<String>,
    /// Whether the routing key is part of these channels.
    pub fanout_patterns: bool,
    /// How the server is found and spoken to.
    pub server: dial::redis::Options,
}

impl RedisOptions {
    /// Sets options by the names that they have in kombu.
    pub(crate) fn set(&mut self, url: &str, pairs: &[(String, String)]) -> Result<(), BrokerError> {
        let refused = |reason| BrokerError::Url { url: RedactedUrl::new(url), reason };
        address::set_options(pairs, self).map_err(refused)
    }
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            node: "taskhost".to_owned(),
            timeout: Duration::from_secs(10),
            socket_timeout: Duration::from_secs(10),
            lease: Duration::from_secs(10),
            visibility_timeout: Duration::from_secs(3600),
            global_keyprefix: String::new(),
            separator: "\u{6}\u{16}".to_owned(),
            priority_steps: vec![0, 3, 6, 9],
            fanout_prefix: None,
            fanout_patterns: true,
            server: dial::redis::Options::default(),
        }
    }
}

/// A connected Redis server.
pub struct RedisBroker {
    dialer: Dialer,
    link: Arc<Link>,
    publisher: Publisher,
    /// Filled when we are an owner and keep our lease: from the first consumer on.
    keeping: OnceCell<()>,
    /// Takers, keeper and sweeper. Dropping them without closing is what a crash is.
    takers: Mutex<JoinSet<()>>,
    keepers: Mutex<JoinSet<()>>,
    closed: AtomicBool,
    /// As it was when we connected.
    clock_is_wrong: bool,
}

impl RedisBroker {
    /// Connects to the server that a URL names.
    pub async fn connect(url: &str, options: &RedisOptions) -> Result<Self, BrokerError> {
        let mut options = options.clone();
        let target = address::parse(url, &mut options)?;
        let opened = match Dialer::new(target) {
            Ok(dialer) => Self::open(dialer, options).await,
            Err(error) => Err(error.into()),
        };
        opened.map_err(|failure| {
            let transient = failure.transient;
            BrokerError::Connect { url: RedactedUrl::new(url), source: failure.into(), transient }
        })
    }

    async fn open(dialer: Dialer, options: RedisOptions) -> Result<Self, Failure> {
        let signals = Arc::<Signals>::default();
        let listening = Arc::downgrade(&signals);
        let hear = move |info| {
            if let Some(signals) = listening.upgrade() {
                signals.hear(info);
            }
        };
        let connection = Connection::open(&dialer, &options, hear.clone()).await?;
        let publisher = Publisher { connection: Connection::open(&dialer, &options, hear).await? };
        check_version(&connection).await?;
        let clock_is_wrong = check_clock(&connection).await?;
        check_eviction(&connection).await?;
        let mut tracking = redis::cmd("CLIENT");
        let is_told = match connection.run(tracking.arg("TRACKING").arg("ON")).await {
            Ok(_) => true,
            Err(failure) if failure.lost => return Err(failure),
            Err(failure) => {
                warn!(error = %failure, "Redis does not tell us of new messages ({failure}): we ask again and again");
                false
            }
        };
        for script in [&*script::TAKE, &*script::BEAT, &*script::DUE] {
            connection.load(script).await?;
        }
        let layout = Layout::new(&options, dialer.target().db);
        Ok(Self {
            dialer,
            link: Arc::new(Link::new(connection, layout, options, signals, is_told)),
            publisher,
            keeping: OnceCell::new(),
            takers: Mutex::default(),
            keepers: Mutex::default(),
            closed: AtomicBool::new(false),
            clock_is_wrong,
        })
    }

    fn usable(&self) -> Result<(), Failure> {
        self.link.signals.lost().map_or(Ok(()), Err)
    }

    /// From now on we are an owner.
    async fn keep(&self) -> Result<(), Failure> {
        let start = async || {
            keeper::register(&self.link).await?;
            let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
            keepers.spawn(keeper::run(Arc::clone(&self.link)));
            keepers.spawn(sweeper::run(Arc::clone(&self.link)));
            Ok(())
        };
        self.keeping.get_or_try_init(start).await.map(|_| ())
    }

    async fn start(&self, queue: &Queue, prefetch: u32) -> Result<Arc<Intake>, Failure> {
        self.usable()?;
        let link = &self.link;
        link.bindings.declare(&link.connection, queue).await?;
        let is_fanout = queue.broadcast || queue.exchange.kind == ExchangeKind::Fanout;
        let channels = is_fanout.then(|| link.layout.channel_patterns(queue));
        let intake = Arc::new(Intake::new(queue.name.clone(), &link.layout, prefetch, channels));
        if intake.channels.is_none() {
            self.keep().await?;
        }
        link.signals.add(&intake);
        // Closing sees the intake, or we see that it has begun: nothing is taken that nobody gives back.
        if self.closed.load(Ordering::SeqCst) {
            return Err(Failure::lost("it was closed"));
        }
        // One by one: the server answers each pattern, and the client library expects one answer a command.
        for channels in intake.channels.iter().flatten() {
            link.connection.run(redis::cmd("PSUBSCRIBE").arg(channels)).await?;
        }
        let mut takers = self.takers.lock().unwrap_or_else(PoisonError::into_inner);
        while takers.try_join_next().is_some() {}
        takers.spawn(pump::run(Arc::clone(link), Arc::clone(&intake)));
        Ok(intake)
    }

    async fn count(&self, queue: &QueueName, and_delete: bool) -> Result<u64, Failure> {
        self.usable()?;
        let mut commands = redis::Pipeline::new();
        commands.atomic();
        for list in self.link.layout.lists(queue.as_str()) {
            commands.cmd("LLEN").arg(&list);
            if and_delete {
                commands.cmd("DEL").arg(&list).ignore();
            }
        }
        let answers = self.publisher.connection.run_all(&commands).await?;
        let count = |answer| if let Value::Int(count) = answer { u64::try_from(count).unwrap_or(0) } else { 0 };
        Ok(answers.into_iter().map(count).sum())
    }

    fn queue_error(&self, operation: &'static str, queue: &QueueName, failure: Failure) -> BrokerError {
        let queue = queue.clone();
        self.link.note(failure).into_error(|source, transient| BrokerError::Queue {
            operation,
            queue,
            source,
            transient,
        })
    }
}

#[async_trait]
impl Broker for RedisBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities { puts_back: true, times_out: false, clock_is_wrong: self.clock_is_wrong, broadcasts: true }
    }

    async fn consume(&self, queue: &Queue, prefetch: u32) -> Result<Box<dyn Consumer>, BrokerError> {
        match self.start(queue, prefetch).await {
            Ok(intake) => Ok(Box::new(RedisConsumer { link: Arc::clone(&self.link), intake })),
            Err(failure) => Err(self.link.note(failure).into_error(|source, transient| BrokerError::Consume {
                queue: queue.name.clone(),
                source,
                transient,
            })),
        }
    }

    /// As in kombu, publishing to the default exchange creates the queue if it is missing.
    async fn publish(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        self.usable().map_err(|failure| BrokerError::Lost { reason: failure.to_string() })?;
        let published = self.publisher.publish(publications, &self.link.layout, &self.link.bindings).await;
        published.map_err(|unpublished| match unpublished {
            Unpublished::Failed(route, failure) => Unpublished::Failed(route, self.link.note(failure)).into_error(),
            unroutable => unroutable.into_error(),
        })
    }

    async fn send_unconfirmed(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        match tokio::time::timeout(UNCONFIRMED_TIMEOUT, self.publish(publications)).await {
            Ok(Err(BrokerError::Unroutable { .. })) | Err(_) => Ok(()),
            Ok(sent) => sent,
        }
    }

    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        let declared = match self.usable() {
            Ok(()) => self.link.bindings.declare(&self.publisher.connection, queue).await,
            unusable => unusable,
        };
        declared.map_err(|failure| {
            self.link.note(failure).into_error(|source, transient| BrokerError::Declare {
                queue: queue.name.clone(),
                source,
                transient,
            })
        })
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Inbox>, BrokerError> {
        let opened = match self.usable() {
            Ok(()) => RedisInbox::open(&self.dialer, &self.link, subscription).await,
            Err(failure) => Err(failure),
        };
        match opened {
            Ok(inbox) => Ok(Box::new(inbox)),
            Err(failure) => Err(failure.into_error(|source, transient| BrokerError::Subscribe {
                exchange: subscription.exchange.clone(),
                source,
                transient,
            })),
        }
    }

    async fn broadcast(&self, topic: Topic, publications: Vec<Publication>) -> Result<(), BrokerError> {
        let Some(first) = publications.first() else { return Ok(()) };
        self.usable().map_err(|failure| BrokerError::Lost { reason: failure.to_string() })?;
        let sending = self.publisher.broadcast(topic, &publications, &self.link.layout, &self.link.bindings);
        let sent = match tokio::time::timeout(BROADCAST_TIMEOUT, sending).await {
            Ok(sent) => sent,
            Err(_) => Err(Failure::slow(BROADCAST_TIMEOUT)),
        };
        sent.map_err(|failure| Unpublished::Failed(&first.route, self.link.note(failure)).into_error())
    }

    /// Counts neither what workers hold nor what waits for its time.
    async fn depth(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        self.count(queue, false).await.map_err(|failure| self.queue_error("count messages of", queue, failure))
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        self.count(queue, true).await.map_err(|failure| self.queue_error("purge", queue, failure))
    }

    async fn close(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        for intake in self.link.signals.intakes() {
            intake.shelf.end();
        }
        let takers = std::mem::take(&mut *self.takers.lock().unwrap_or_else(PoisonError::into_inner));
        if tokio::time::timeout(CLOSE_TIMEOUT, takers.join_all()).await.is_ok()
            && self.keeping.initialized()
            && self.usable().is_ok()
            && let Ok(Err(failure)) = tokio::time::timeout(CLOSE_TIMEOUT, keeper::deregister(&self.link)).await
        {
            info!(error = %failure, "cannot sign off from Redis: {failure}");
        }
        self.link.signals.lose("it was closed");
        let keepers = std::mem::take(&mut *self.keepers.lock().unwrap_or_else(PoisonError::into_inner));
        // They end when the connection is lost, which it is now.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, keepers.join_all()).await;
    }
}

impl Drop for RedisBroker {
    fn drop(&mut self) {
        self.link.signals.lose("it was dropped");
    }
}

/// The oldest server that knows what we use: `RPOP` of several.
const VERSION_MIN: (u32, u32) = (6, 2);

/// Refuses a server that is too old.
async fn check_version(connection: &Connection) -> Result<(), Failure> {
    let server = info(connection, "server").await?;
    let Some(version) = info_value(&server, "redis_version") else { return Ok(()) };
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < VERSION_MIN => {
            Err(Failure::permanent(format!("Redis 6.2 or newer is needed, and this is {version}")))
        }
        _ => Ok(()),
    }
}

/// A difference between our clock and the server's that is worth a word.
const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// Leases follow the server's clock. What clients say of ETAs and expiry is judged by ours: true if it cannot be.
async fn check_clock(connection: &Connection) -> Result<bool, Failure> {
    let theirs: (u64, u64) = match connection.ask(&redis::cmd("TIME")).await {
        Err(failure) if failure.lost => return Err(failure),
        // It may be forbidden to us.
        Err(_) => return Ok(false),
        Ok(time) => time,
    };
    let theirs = Duration::from_secs(theirs.0) + Duration::from_micros(theirs.1);
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (skew, direction) = if ours > theirs { (ours - theirs, "ahead of") } else { (theirs - ours, "behind") };
    if skew > CLOCK_SKEW {
        let seconds = skew.as_secs();
        warn!(
            seconds,
            "the clock of this machine is {seconds} s {direction} that of Redis: tasks with an ETA run at the wrong time, and none is refused as expired"
        );
    }
    Ok(skew > CLOCK_SKEW)
}

/// Messages must not be evicted; says so if they may be.
async fn check_eviction(connection: &Connection) -> Result<(), Failure> {
    let memory = info(connection, "memory").await?;
    if let (Some(policy), Some(maximum)) = (info_value(&memory, "maxmemory_policy"), info_value(&memory, "maxmemory"))
        && policy != "noeviction"
        && maximum != "0"
    {
        warn!(policy, "Redis may throw away messages: its maxmemory-policy is `{policy}` and must be `noeviction`");
    }
    Ok(())
}

/// What the server says about itself: nothing, if it is forbidden to us.
async fn info(connection: &Connection, section: &str) -> Result<String, Failure> {
    match connection.ask(redis::cmd("INFO").arg(section)).await {
        Err(failure) if failure.lost => Err(failure),
        answer => Ok(answer.unwrap_or_default()),
    }
}

fn info_value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
