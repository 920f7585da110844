//! Questions to workers and their answers, through the broker.
//!
//! Where that reaches only queues, `here` asks.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, anyhow};
use broker::{Broker, Subscription, Topic};
use taskhost_core::control::{Answer, Question as Wire};
use taskhost_core::protocol::content::Json;
use taskhost_core::{Message, Publication, Route};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::super::wiring;
use super::{here, show};
use crate::args::RemoteArgs;
use crate::config::Config;
use crate::exit::Failure;

/// Names of workers with what they answered.
pub(super) type Replies = BTreeMap<String, Json>;

/// Something to ask.
pub(super) struct Question<'a> {
    pub(super) method: &'a str,
    pub(super) arguments: &'a Json,
    /// All workers if it names none.
    pub(super) destination: &'a [String],
    pub(super) timeout: Duration,
}

/// Asks, and waits for answers: until all have answered that were named, or the time is over. No answer at
/// all is a failure.
pub(super) async fn ask(config: &Config, remote: &RemoteArgs, question: &Question<'_>) -> Result<Replies, Failure> {
    let Some(broker) = broker_that_broadcasts(config).await? else {
        return here::ask(config, remote, question).await;
    };
    let replies = ask_all(&*broker, config, question).await;
    broker.close().await;
    let replies = replies?;
    if replies.is_empty() {
        return Err(nobody(config, question));
    }
    for node in question.destination.iter().filter(|node| !replies.contains_key(*node)) {
        eprintln!("warning: {} did not answer in time", show::line(node));
    }
    Ok(replies)
}

/// Says something to these workers, or to all if none is named; they answer nothing.
pub(in crate::command) async fn tell(
    broker: &dyn Broker,
    config: &Config,
    method: &str,
    arguments: &Json,
    nodes: &[String],
) -> Result<(), Failure> {
    let destination = Some(nodes).filter(|nodes| !nodes.is_empty());
    let wire = Wire { method, arguments, destination, reply_to: None, clock: CLOCK, expires: None };
    send(broker, config, &wire).await
}

/// The same, by a connection of its own or the worker's socket.
pub(super) async fn tell_through(
    config: &Config,
    remote: &RemoteArgs,
    method: &str,
    arguments: &Json,
    nodes: &[String],
) -> Result<(), Failure> {
    match broker_that_broadcasts(config).await? {
        None => {
            let question = Question { method, arguments, destination: nodes, timeout: Duration::ZERO };
            here::ask(config, remote, &question).await.map(drop)
        }
        Some(broker) => {
            let told = tell(&*broker, config, method, arguments, nodes).await;
            broker.close().await;
            told
        }
    }
}

/// A connection to the broker; `None` if it cannot reach workers.
pub(in crate::command) async fn broker_that_broadcasts(
    config: &Config,
) -> Result<Option<std::sync::Arc<dyn Broker>>, Failure> {
    // Connecting would make the file.
    if matches!(config.broker.url.scheme().as_str(), "sqlite" | "sqla+sqlite" | "memory") {
        return Ok(None);
    }
    let broker = wiring::broker(config).await?;
    if broker.capabilities().broadcasts {
        return Ok(Some(broker));
    }
    broker.close().await;
    Ok(None)
}

/// This program's logical clock: it has seen nothing yet.
pub(super) const CLOCK: u64 = 1;

async fn ask_all(broker: &dyn Broker, config: &Config, question: &Question<'_>) -> Result<Replies, Failure> {
    let (oid, ticket) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    let mut subscription = Subscription::replies(&config.control.exchange, &oid);
    subscription.message_ttl = config.control.queue_ttl;
    subscription.expires = config.control.queue_expires;
    let inbox = broker.subscribe(&subscription).await.context("cannot wait for answers")?;
    let reply_to = Route { exchange: subscription.exchange, routing_key: subscription.routing_key };
    let wire = Wire {
        method: question.method,
        arguments: question.arguments,
        destination: Some(question.destination).filter(|nodes| !nodes.is_empty()),
        reply_to: Some((&reply_to, &ticket)),
        clock: CLOCK,
        expires: Some(wiring::now() + question.timeout),
    };
    send(broker, config, &wire).await?;
    let codec = wiring::codec(config)?;
    let deadline = Instant::now() + question.timeout;
    let mut replies = Replies::new();
    while !is_complete(&replies, question.destination) {
        let Ok(came) = timeout_at(deadline, inbox.next()).await else { break };
        for publication in came.context("cannot wait for answers")?.unwrap_or_default() {
            let Some(answer) = Answer::decode(&publication.message, &codec) else {
                eprintln!("warning: an answer cannot be read; `accept.content` says which bodies are");
                continue;
            };
            if answer.ticket.is_some_and(|found| found != ticket) {
                continue;
            }
            for (node, reply) in answer.nodes {
                if replies.contains_key(&node) {
                    eprintln!("warning: more than one worker is called {}", show::line(&node));
                }
                replies.insert(node, reply);
            }
        }
    }
    if replies.is_empty() {
        // Where the broker blocks whoever publishes, the question is still on its way; what is sent now is refused.
        let echo = Publication { message: Message::default(), route: reply_to };
        broker.broadcast(Topic::Replies, vec![echo]).await.context("cannot reach workers")?;
    }
    inbox.close().await;
    Ok(replies)
}

/// All have answered that were named.
fn is_complete(replies: &Replies, destination: &[String]) -> bool {
    !destination.is_empty() && destination.iter().all(|node| replies.contains_key(node))
}

async fn send(broker: &dyn Broker, config: &Config, wire: &Wire<'_>) -> Result<(), Failure> {
    let exchange = Topic::Mailboxes.exchange(&config.control.exchange);
    let route = Route { exchange, routing_key: String::new() };
    let publication = Publication { message: wire.message(), route };
    Ok(broker.broadcast(Topic::Mailboxes, vec![publication]).await.context("cannot reach workers")?)
}

fn nobody(config: &Config, question: &Question<'_>) -> Failure {
    let who = if question.destination.is_empty() { "no worker answered" } else { "none of these workers answered" };
    let error = anyhow!("{who} within {} s at {}", question.timeout.as_secs_f64(), config.broker.url);
    let hint = match question.destination.is_empty() {
        true => "are workers running on this broker, with the same `control.exchange`? -t waits longer",
        false => "`host status` shows who is there; -t waits longer",
    };
    Failure::unavailable(error).hint(hint)
}
