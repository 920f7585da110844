//! Messages that are left for one reader each, in queues of their own.
//!
//! Does not read them.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use taskhost_core::Publication;

use super::Session;
use super::declare::short;
use super::failure::{Failure, timely};
use super::publisher::{PIPELINE_MAX, publish_error};
use crate::port::BrokerError;

/// Publishes each of these by the default exchange. Most readers have made their queue before, so that queues are made only
/// for what the broker returns; and how a queue that exists was made is not fought over.
pub(super) async fn leave(
    session: &Session,
    publications: &[Publication],
    expires: Duration,
) -> Vec<Result<(), BrokerError>> {
    let mut results = Vec::with_capacity(publications.len());
    for part in publications.chunks(PIPELINE_MAX) {
        results.extend(leave_part(session, part, expires).await);
    }
    results
}

async fn leave_part(session: &Session, part: &[Publication], expires: Duration) -> Vec<Result<(), BrokerError>> {
    let first = match session.publisher.publish_each(part).await {
        Ok(results) => results,
        Err(error) => return all_failed(part, &error),
    };
    // Which of them were returned is known by their queues only (see `publish_each`).
    let mut returned = Vec::new();
    let mut results = Vec::with_capacity(first.len());
    for result in first {
        results.push(match result {
            Err(BrokerError::Unroutable { routing_key, .. }) => {
                returned.push(routing_key);
                Ok(())
            }
            result => result,
        });
    }
    if returned.is_empty() {
        return results;
    }
    let again: BTreeMap<usize, &Publication> =
        part.iter().enumerate().filter(|(_, publication)| returned.contains(&publication.route.routing_key)).collect();
    let made = make(session, &returned, expires).await;
    let publications: Vec<Publication> = again.values().map(|publication| (*publication).clone()).collect();
    let second = match made {
        Ok(()) => session.publisher.publish_each(&publications).await,
        Err(failure) => Err(publish_error(&publications[0].route, failure)),
    };
    match second {
        Ok(second) => again.keys().zip(second).for_each(|(index, result)| results[*index] = result),
        Err(error) => {
            again.keys().zip(all_failed(&publications, &error)).for_each(|(index, result)| results[*index] = result)
        }
    }
    results
}

/// Makes queues like those of Celery 4's `amqp` result backend (celery/backends/amqp.py `_create_binding`), which other
/// clients declare as well. One that somebody has made meanwhile stays as it is.
async fn make(session: &Session, names: &[String], expires: Duration) -> Result<(), Failure> {
    let options = QueueDeclareOptions { durable: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    if !expires.is_zero() {
        let milliseconds = i64::try_from(expires.as_millis()).unwrap_or(i64::MAX);
        arguments.insert("x-expires".into(), AMQPValue::LongLongInt(milliseconds));
    }
    let names: Vec<ShortString> = names.iter().map(|name| short(name)).collect::<Result<_, _>>()?;
    let channel = session.channel().await?;
    let declare = |name: &ShortString| channel.queue_declare(name.clone(), options, arguments.clone());
    let made = timely(async { Ok(join_all(names.iter().map(declare)).await) }).await?;
    for (name, made) in names.iter().zip(made) {
        if made.is_ok() {
            continue;
        }
        // A refusal takes the channel with it, and all that was asked on it later.
        let channel = session.channel().await?;
        match timely(channel.queue_declare(name.clone(), options, arguments.clone())).await {
            Err(failure) if !failure.is_conflict() => return Err(failure),
            _ => {}
        }
    }
    Ok(())
}

/// The same error for all of these: nobody knows which of them are there.
fn all_failed(publications: &[Publication], error: &BrokerError) -> Vec<Result<(), BrokerError>> {
    let failed = |publication: &Publication| {
        let (exchange, routing_key) = (publication.route.exchange.clone(), publication.route.routing_key.clone());
        let transient = error.is_transient();
        Err(BrokerError::Publish { exchange, routing_key, source: cause(error).into(), transient })
    };
    publications.iter().map(failed).collect()
}

/// An error with its causes in one line.
fn cause(error: &BrokerError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
