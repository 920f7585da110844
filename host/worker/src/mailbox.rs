//! This node's mailbox (celery/worker/pidbox.py): hears what is asked of all nodes, and answers through the desk.
//!
//! Has a connection of its own, which disturbs no task, whatever becomes of it. What is answered is decided at the
//! [desk](crate::control).

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, BrokerError, Inbox, Subscription, Topic};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use taskhost_core::control::{Answer, CLOCK_MAX, Command, Mail, Question as Wire};
use taskhost_core::protocol::content::MapWriter;
use taskhost_core::{Codec, Json, Publication, Route, TaskId, Timestamp};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, error, info, warn};

use crate::commit::chain;
use crate::connection::Connector;
use crate::control::Desk;
use crate::pulse::Pulse;

/// How many questions are answered at a time. While there are more none is read.
const ANSWERING_MAX: usize = 32;

/// Wait before a lost connection is made anew: grows by the first up to the second.
const RECONNECT_STEP: Duration = Duration::from_secs(1);
const RECONNECT_MAX: Duration = Duration::from_secs(30);

/// How often a mailbox is asked for that another has, before this worker goes on without. One that crashed leaves
/// its own for about as long.
const TAKEN_TRIES: u32 = 5;
/// How soon, and then how seldom.
const TAKEN_WAIT: Duration = Duration::from_secs(2);
const TAKEN_WAIT_LONG: Duration = Duration::from_secs(60);

/// Why a connection is given up that works.
const MOVED: &str = "tasks come by another server";

/// How long neighbours may take to answer (celery/worker/consumer/mingle.py).
const MINGLE: Duration = Duration::from_secs(1);

/// How the mailbox is set up.
pub struct MailboxSettings {
    /// Celery's `control_exchange`.
    pub exchange: String,
    /// `control_queue_ttl` and `control_queue_expires`.
    pub queue_ttl: Option<Duration>,
    pub queue_expires: Option<Duration>,
    /// Ask other workers what is revoked, and how far their clocks are.
    pub mingles: bool,
    /// The forms in which bodies are read.
    pub codec: Codec,
    /// Unlike that of every other process.
    pub oid: String,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
}

/// Reads the mailbox of a node.
pub struct Mailbox {
    pub settings: MailboxSettings,
    pub connector: Arc<dyn Connector>,
    pub desk: Arc<Desk>,
    /// Where it is written down whether anybody can reach it.
    pub pulse: Option<Arc<Pulse>>,
}

/// Why nobody listens any more.
enum Ended {
    Lost(BrokerError),
    /// Another node of the same name listens.
    Taken,
    /// The broker does not let us have a mailbox.
    Refused(BrokerError),
    /// This broker has no mailboxes.
    CannotBroadcast,
}

impl Mailbox {
    /// Listens until the other end of `ending` is gone. Returns before only if the broker cannot ever reach it.
    pub async fn run(self, mut ending: oneshot::Receiver<()>) {
        let (mut wait, mut taken, mut told) = (Duration::ZERO, 0, false);
        loop {
            let began = Instant::now();
            let mut moves = self.connector.moves();
            let connected = tokio::select! {
                connected = self.connector.follow() => connected,
                _ = &mut ending => return,
            };
            let ended = match connected {
                Ok(broker) => {
                    let ended = tokio::select! {
                        ended = self.serve(&*broker, taken) => ended,
                        () = moves.moved() => Ended::Lost(BrokerError::Lost { reason: MOVED.to_owned() }),
                        _ = &mut ending => return broker.close().await,
                    };
                    self.listens(false);
                    broker.close().await;
                    ended
                }
                Err(error) => Ended::Lost(error),
            };
            if began.elapsed() >= RECONNECT_MAX {
                (wait, taken) = (Duration::ZERO, 0);
            }
            match ended {
                Ended::CannotBroadcast => {
                    return info!("no remote control through this broker; commands on this machine reach the worker");
                }
                Ended::Taken => {
                    taken += 1;
                    wait = self.say_that_it_is_taken(taken);
                }
                Ended::Refused(error) => {
                    if !std::mem::replace(&mut told, true) {
                        error!("RUNNING WITHOUT REMOTE CONTROL: cannot {}", chain(&error));
                    }
                    wait = TAKEN_WAIT_LONG;
                }
                Ended::Lost(error) => {
                    wait = (wait + RECONNECT_STEP).min(RECONNECT_MAX);
                    let seconds = wait.as_secs_f64();
                    debug!("pidbox: no connection, trying again in {seconds:.2} seconds: {}", chain(&error));
                }
            }
            tokio::select! {
                () = sleep(wait) => {}
                _ = &mut ending => return,
            }
        }
    }

    /// Tells it, and how long to wait.
    fn say_that_it_is_taken(&self, tries: u32) -> Duration {
        let node = &self.desk.node;
        match tries {
            ..TAKEN_TRIES => {
                warn!("A node named {node} is already using this process mailbox! Trying again.");
                TAKEN_WAIT
            }
            TAKEN_TRIES => {
                error!(
                    "RUNNING WITHOUT REMOTE CONTROL: another node is called {node}, and has its mailbox; \
                     give each worker a name of its own with -n"
                );
                TAKEN_WAIT_LONG
            }
            _ => TAKEN_WAIT_LONG,
        }
    }

    fn listens(&self, listens: bool) {
        if let Some(pulse) = &self.pulse {
            pulse.listens(listens);
        }
    }

    async fn serve(&self, broker: &dyn Broker, taken: u32) -> Ended {
        if !broker.capabilities().broadcasts {
            return Ended::CannotBroadcast;
        }
        let subscription = Subscription {
            message_ttl: self.settings.queue_ttl,
            expires: self.settings.queue_expires,
            ..Subscription::mailbox(&self.settings.exchange, self.desk.node.as_str())
        };
        let inbox = match broker.subscribe(&subscription).await {
            Ok(inbox) => inbox,
            Err(error) if error.is_taken() => return Ended::Taken,
            Err(error) if !error.is_transient() => return Ended::Refused(error),
            Err(error) => return Ended::Lost(error),
        };
        if taken >= TAKEN_TRIES {
            info!("pidbox: the mailbox is free, remote control works");
        }
        debug!("pidbox: listening as {}", self.desk.node);
        self.listens(true);
        let mingling = async {
            if self.settings.mingles
                && let Err(error) = self.mingle(broker).await
            {
                debug!("mingle: {}", chain(&error));
            }
            // The other one goes on.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = self.listen(broker, &*inbox) => ended,
            () = mingling => unreachable!("it is pending"),
        }
    }

    async fn listen(&self, broker: &dyn Broker, inbox: &dyn Inbox) -> Ended {
        // In the order in which they came, as far as answering does not wait: each is begun before the next.
        let mut answering = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(()) = answering.next() => {}
                came = inbox.next(), if answering.len() < ANSWERING_MAX => match came {
                    Ok(Some(mail)) => {
                        answering.extend(mail.into_iter().map(|mail| self.handle(mail, broker)));
                    }
                    Ok(None) => return Ended::Lost(BrokerError::Lost { reason: "the mailbox was closed".to_owned() }),
                    Err(error) => return Ended::Lost(error),
                },
            }
        }
    }

    async fn handle(&self, mail: Publication, broker: &dyn Broker) {
        let lamport = self.desk.announcer.lamport();
        let mail = match Mail::decode(&mail.message, &self.settings.codec) {
            Ok(mail) => mail,
            Err(error) => return error!("pidbox: Cannot decode message: {}", chain(&error)),
        };
        lamport.adjust(mail.clock.unwrap_or(0));
        if !mail.is_for(&self.desk.node) {
            return;
        }
        if mail.has_expired((self.settings.clock)()) {
            return debug!("pidbox: `{}` came too late", mail.method);
        }
        let Some(answer) = self.desk.answer(&mail.method, &mail.arguments).await else { return };
        let seal = self.settings.codec.seal.clone();
        let Some(reply) = mail.reply(&self.desk.node, &answer, lamport.forward(), seal) else { return };
        if let Err(error) = broker.broadcast(Topic::Replies, vec![reply]).await {
            debug!("pidbox: cannot answer `{}`: {}", mail.method, chain(&error));
        }
    }

    /// Tells other workers what is revoked here and hears what is there (celery/worker/consumer/mingle.py).
    async fn mingle(&self, broker: &dyn Broker) -> Result<(), BrokerError> {
        info!("mingle: searching for neighbors");
        let replies = Subscription {
            message_ttl: self.settings.queue_ttl,
            expires: self.settings.queue_expires,
            ..Subscription::replies(&self.settings.exchange, &self.settings.oid)
        };
        let inbox = broker.subscribe(&replies).await?;
        let asked = self.ask_neighbours(broker, &*inbox, &replies).await;
        inbox.close().await;
        match asked? {
            0 => info!("mingle: all alone"),
            nodes => {
                info!("mingle: sync with {nodes} nodes");
                info!("mingle: sync complete");
            }
        }
        Ok(())
    }

    /// How many have answered.
    async fn ask_neighbours(
        &self,
        broker: &dyn Broker,
        inbox: &dyn Inbox,
        replies: &Subscription,
    ) -> Result<usize, BrokerError> {
        let desk = &self.desk;
        let node = desk.node.as_str();
        let ours = desk.ask(Command::Hello { from: node.to_owned(), revoked: Vec::new() }).await;
        // As many as there are, or nothing if the worker is stopping.
        let ours = Json::array(ours.elements());
        let mut arguments = MapWriter::new();
        arguments.put("from_node", node).put("revoked", &ours);
        let reply_to = Route { exchange: replies.exchange.clone(), routing_key: replies.routing_key.clone() };
        let wire = Wire {
            method: "hello",
            arguments: &arguments.finish(),
            destination: None,
            reply_to: Some((&reply_to, &self.settings.oid)),
            clock: desk.announcer.lamport().forward(),
            expires: Some((self.settings.clock)() + MINGLE),
        };
        let route = Route { exchange: Topic::Mailboxes.exchange(&self.settings.exchange), routing_key: String::new() };
        broker.broadcast(Topic::Mailboxes, vec![Publication { message: wire.message(), route }]).await?;
        let deadline = Instant::now() + MINGLE;
        let mut nodes = 0;
        while let Ok(came) = timeout_at(deadline, inbox.next()).await {
            for publication in came?.unwrap_or_default() {
                let Some(answer) = Answer::decode(&publication.message, &self.settings.codec) else { continue };
                for (from, reply) in answer.nodes {
                    if from != node && reply.get("error").is_none() && !reply.is_null() {
                        nodes += 1;
                        self.merge(from, &reply).await;
                    }
                }
            }
        }
        Ok(nodes)
    }

    async fn merge(&self, from: String, reply: &Json) {
        debug!("mingle: processing reply from {from}");
        let clock = reply.get("clock").and_then(|clock| u64::try_from(clock.as_i64()?).ok());
        self.desk.announcer.lamport().adjust(clock.filter(|clock| *clock <= CLOCK_MAX).unwrap_or(0));
        let revoked = reply.get("revoked").unwrap_or_else(Json::null);
        let ids = revoked.elements().filter_map(|id| TaskId::parse(&id.as_text()?).ok());
        let revoked: Vec<TaskId> = ids.collect();
        if !revoked.is_empty() {
            self.desk.ask(Command::Hello { from, revoked }).await;
        }
    }
}
