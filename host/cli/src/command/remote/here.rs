//! Asks the workers of this machine through their own sockets, for brokers that reach only queues.
//!
//! Cannot find workers: it knows the usual name, and those that it is told.

use std::time::Duration;

use anyhow::anyhow;
use taskhost_core::control::Question as Wire;
use taskhost_core::protocol::content::Json;
use tokio::time::timeout;

use super::ask::{CLOCK, Question, Replies};
use super::show;
use crate::args::RemoteArgs;
use crate::config::{self, Config, Flag};
use crate::exit::Failure;
use crate::local::{self, LocalError};

/// Least time for an answer. There is no crowd to wait for, and a worker may have to load plugins first.
const PATIENCE_MIN: Duration = Duration::from_secs(30);

/// Asks the worker that has the usual name here, or those that the question names.
pub(super) async fn ask(config: &Config, remote: &RemoteArgs, question: &Question<'_>) -> Result<Replies, Failure> {
    let mut replies = Replies::new();
    let mut missing = Vec::new();
    for node in nodes(config, question) {
        match ask_one(remote, &node, question).await? {
            Some(reply) => drop(replies.insert(node, reply)),
            None => missing.push(show::line(&node)),
        }
    }
    let missing = missing.join(", ");
    if replies.is_empty() {
        let error = anyhow!("no worker {missing} runs here, and the broker {} reaches only queues", config.broker.url);
        let hint = "run it where the worker was started, and name the worker with -d; RabbitMQ, Redis and kombu's \
                    folders reach all workers";
        return Err(Failure::unavailable(error).hint(hint));
    }
    if !missing.is_empty() {
        eprintln!("warning: no worker {missing} runs here");
    }
    Ok(replies)
}

fn nodes(config: &Config, question: &Question<'_>) -> Vec<String> {
    match question.destination {
        [] => vec![config.worker.hostname.to_string()],
        named => named.to_vec(),
    }
}

/// What the worker of that name answers; none if there is no such worker.
async fn ask_one(remote: &RemoteArgs, node: &str, question: &Question<'_>) -> Result<Option<Json>, Failure> {
    let mut flags = remote.flags();
    flags.push(Flag { name: "--destination", key: "worker.hostname", text: node.to_owned() });
    // Where its socket is depends on how it is called.
    let config = config::load(remote.settings.config.as_deref(), &remote.settings.sets, flags)?;
    let Some(path) = &config.worker.control_socket else { return Ok(None) };
    let wire = Wire {
        method: question.method,
        arguments: question.arguments,
        destination: None,
        reply_to: None,
        clock: CLOCK,
        expires: None,
    };
    let body = Json::parse(wire.message().body)?;
    match timeout(question.timeout.max(PATIENCE_MIN), local::ask_control(path, &body)).await {
        Ok(Ok(replies)) => Ok(replies.members().next().map(|(_, reply)| reply)),
        Ok(Err(LocalError::Nobody { .. })) | Err(_) => Ok(None),
        Ok(Err(error)) => Err(error.into()),
    }
}
