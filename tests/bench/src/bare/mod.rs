//! The bare loops: the I/O of a worker on the same clients, with nothing between taking and acknowledging.
//!
//! What they reach is the ceiling for a worker built on these clients. They run nothing, decode nothing but
//! the id of a task where a result needs it, and look after nothing: no leases, no redelivery, no reconnecting.

mod embedded;
mod rabbitmq;
mod redis;
mod sqs;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use ::redis::aio::MultiplexedConnection;
use taskhost_core::Timestamp;

use crate::database::Database;
use crate::{BareArgs, Result};

/// Celery's `result_expires`.
const EXPIRES_SECONDS: u32 = 24 * 60 * 60;
/// `2026-11-26T10:00:00`, which is what a time begins with.
const NAIVE: usize = 19;

/// Runs until it is told to stop.
pub(crate) async fn serve(args: &BareArgs) -> Result<ExitCode> {
    match args.broker.split_once("://") {
        Some(("amqp", _)) => rabbitmq::serve(args).await?,
        Some(("redis", _)) => redis::serve(args).await?,
        Some(("sqs", _)) => sqs::serve(args).await?,
        Some(("sqlite", path)) => embedded::serve(path, args).await?,
        _ => return Err(format!("there is no bare loop for `{}`", args.broker).into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Where results go, if somebody wants them.
enum Results {
    Nowhere,
    Redis(MultiplexedConnection),
    Database(Database),
}

impl Results {
    async fn connect(url: Option<&str>) -> Result<Self> {
        Ok(match url {
            Some(url) if url.starts_with("redis://") => {
                Self::Redis(::redis::Client::open(url)?.get_multiplexed_async_connection().await?)
            }
            Some(url) => Self::Database(Database::connect(url).await?),
            None => Self::Nowhere,
        })
    }

    /// Writes what Celery writes for tasks that returned None, in one round trip.
    async fn store<'a>(&mut self, ids: impl ExactSizeIterator<Item = Result<&'a str>>) -> Result<()> {
        let now = now()?.isoformat();
        match self {
            Self::Nowhere => Ok(()),
            Self::Database(database) => {
                let ids: Vec<&str> = ids.collect::<Result<_>>()?;
                database.store(&ids, &now[..NAIVE]).await
            }
            Self::Redis(connection) => {
                let mut pipeline = ::redis::Pipeline::with_capacity(2 * ids.len());
                for id in ids {
                    let id = id?;
                    let key = format!("celery-task-meta-{id}");
                    let document = format!(
                        r#"{{"status": "SUCCESS", "result": null, "traceback": null, "children": [], "date_done": "{now}", "task_id": "{id}"}}"#
                    );
                    pipeline.cmd("SETEX").arg(&key).arg(EXPIRES_SECONDS).arg(&document).ignore();
                    pipeline.cmd("PUBLISH").arg(&key).arg(&document).ignore();
                }
                Ok(pipeline.exec_async(connection).await?)
            }
        }
    }
}

fn now() -> Result<Timestamp> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Timestamp::from_micros(i64::try_from(since.as_micros())?))
}

/// The id of the task in kombu's envelope, where it is the correlation id, without reading the rest.
fn id_in(envelope: &str) -> Result<&str> {
    let value = envelope.split_once(r#""correlation_id""#).map(|(_, rest)| rest.trim_start_matches([':', ' ', '"']));
    value.and_then(|value| Some(value.split_once('"')?.0)).ok_or_else(|| "a message has no correlation id".into())
}

#[cfg(unix)]
async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn told_to_stop() {
    let _ = tokio::signal::ctrl_c().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_however_json_is_spaced() {
        for envelope in [r#"{"properties":{"correlation_id":"a-1","x":2}}"#, r#"{"correlation_id" : "a-1"}"#] {
            assert_eq!(id_in(envelope).ok(), Some("a-1"), "{envelope}");
        }
        assert!(id_in(r#"{"properties": {}}"#).is_err());
    }
}
