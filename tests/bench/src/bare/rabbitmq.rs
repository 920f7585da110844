//! Over AMQP: acknowledges what arrived together with one frame.

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};

use super::{Results, told_to_stop};
use crate::publish::QUEUE;
use crate::{BareArgs, Result};

/// Most messages that are answered together.
const BATCH_MAX: usize = 256;

pub(super) async fn serve(args: &BareArgs) -> Result<()> {
    let mut results = Results::connect(args.results.as_deref()).await?;
    let connection = Connection::connect(&args.broker, ConnectionProperties::default()).await?;
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
        results.store(batch.iter().map(id)).await?;
        if let Some(last) = batch.last() {
            // The first poll queues the frame; nobody needs to know when it has been written.
            channel.basic_ack(last.delivery_tag, BasicAckOptions { multiple: true }).now_or_never().transpose()?;
        }
    }
    connection.close(200, "OK".into()).await?;
    Ok(())
}

/// From a property that lapin has parsed anyway.
fn id(delivery: &Delivery) -> Result<&str> {
    let id = delivery.properties.correlation_id().as_ref().ok_or("a message has no correlation id")?;
    Ok(id.as_str())
}
