//! The bare loop: the I/O of a worker on the same clients, with nothing between taking and acknowledging.
//!
//! What it reaches is the ceiling for a worker built on lapin and redis. It decodes nothing, runs nothing, and takes
//! the id of a task from a property that lapin has parsed anyway.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use redis::aio::MultiplexedConnection;
use taskhost_core::Timestamp;

use crate::publish::QUEUE;
use crate::{BareArgs, Result};

/// Most messages that are answered together.
const BATCH_MAX: usize = 256;
/// Celery's `result_expires`.
const EXPIRES_SECONDS: u32 = 24 * 60 * 60;

/// Runs until it is told to stop.
pub(crate) async fn serve(args: &BareArgs) -> Result<ExitCode> {
    let mut results = match &args.redis {
        Some(url) => Some(redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?),
        None => None,
    };
    let connection = Connection::connect(&args.amqp, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(args.prefetch, BasicQosOptions { global: false }).await?;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(QUEUE.into(), "".into(), options, FieldTable::default()).await?;
    let mut batches = consumer.ready_chunks(BATCH_MAX);
    let mut told_to_stop = std::pin::pin!(told_to_stop());
    loop {
        let batch = tokio::select! {
            // What has arrived is finished before the loop stops.
            biased;
            batch = batches.next() => batch.ok_or("the broker ended the consumer")?,
            () = &mut told_to_stop => break,
        };
        let batch: Vec<Delivery> = batch.into_iter().collect::<lapin::Result<_>>()?;
        if let Some(results) = &mut results {
            store(results, &batch).await?;
        }
        if let Some(last) = batch.last() {
            // The first poll queues the frame; nobody needs to know when it has been written.
            channel.basic_ack(last.delivery_tag, BasicAckOptions { multiple: true }).now_or_never().transpose()?;
        }
    }
    connection.close(200, "OK".into()).await?;
    Ok(ExitCode::SUCCESS)
}

/// Writes what Celery writes for a task that returned None, in one round trip.
async fn store(results: &mut MultiplexedConnection, batch: &[Delivery]) -> Result<()> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let now = Timestamp::from_micros(i64::try_from(since.as_micros())?).isoformat();
    let mut pipeline = redis::Pipeline::with_capacity(2 * batch.len());
    for delivery in batch {
        let id = delivery.properties.correlation_id().as_ref().ok_or("a message has no correlation id")?;
        let key = format!("celery-task-meta-{id}");
        let document = format!(
            r#"{{"status": "SUCCESS", "result": null, "traceback": null, "children": [], "date_done": "{now}", "task_id": "{id}"}}"#
        );
        pipeline.cmd("SETEX").arg(&key).arg(EXPIRES_SECONDS).arg(&document).ignore();
        pipeline.cmd("PUBLISH").arg(&key).arg(&document).ignore();
    }
    Ok(pipeline.exec_async(results).await?)
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
