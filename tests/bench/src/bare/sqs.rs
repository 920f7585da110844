//! Over SQS: asks for ten messages several times at once, and deletes them by the ten when their results are written.

use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::try_join_all;

use super::{Results, id_in, told_to_stop};
use crate::sqs::{Queue, told};
use crate::{BareArgs, Result};

/// What SQS gives at most at a time.
const BATCH: u16 = 10;
/// Questions under way at a time.
const ASKS_MAX: u16 = 8;
/// How long SQS waits for a message before it says that there is none.
const WAIT_SECONDS: i32 = 1;

pub(super) async fn serve(args: &BareArgs) -> Result<()> {
    let mut results = Results::connect(args.results.as_deref()).await?;
    let queue = Queue::connect(&args.broker).await?;
    let asks = args.prefetch.div_ceil(BATCH).clamp(1, ASKS_MAX);
    let mut told_to_stop = std::pin::pin!(told_to_stop());
    let mut stopping = false;
    while !stopping {
        let mut taking = std::pin::pin!(try_join_all((0..asks).map(|_| take(&queue))));
        let batches = tokio::select! {
            batches = &mut taking => batches?,
            () = &mut told_to_stop => {
                stopping = true;
                // What they bring is to be done, too.
                taking.await?
            }
        };
        let mut ids = Vec::new();
        for message in batches.iter().flatten() {
            let envelope = STANDARD.decode(message.body().unwrap_or_default())?;
            ids.push(id_in(std::str::from_utf8(&envelope)?)?.to_owned());
        }
        if ids.is_empty() {
            continue;
        }
        results.store(ids.iter().map(|id| Ok(id.as_str()))).await?;
        try_join_all(batches.iter().filter(|batch| !batch.is_empty()).map(|batch| delete(&queue, batch))).await?;
    }
    Ok(())
}

async fn take(queue: &Queue) -> Result<Vec<Message>> {
    let ask = queue.client.receive_message().queue_url(&queue.url).max_number_of_messages(BATCH.into());
    Ok(ask.wait_time_seconds(WAIT_SECONDS).send().await.map_err(told)?.messages.unwrap_or_default())
}

async fn delete(queue: &Queue, messages: &[Message]) -> Result<()> {
    let mut request = queue.client.delete_message_batch().queue_url(&queue.url);
    for (number, message) in messages.iter().enumerate() {
        let entry = DeleteMessageBatchRequestEntry::builder().id(number.to_string());
        request = request.entries(entry.set_receipt_handle(message.receipt_handle.clone()).build()?);
    }
    request.send().await.map_err(told)?;
    Ok(())
}
