//! Counts and deletes what waits in a queue.
//!
//! SQS' own purge takes up to a minute, in which it also deletes what comes meanwhile, and may be asked for once a
//! minute. So a queue with few messages is emptied by taking them.

use aws_sdk_sqs::types::QueueAttributeName;
use taskhost_core::QueueName;

use super::batch::{self, BATCH_MAX};
use super::failure::{Failure, Kind};
use super::queues::{QueueAt, Queues};

/// Most messages that are taken one by one; of more, SQS is asked to purge.
const TAKEN_MAX: u64 = 1000;
/// How often a queue must say that it is empty until it is: only some of SQS' servers answer.
const EMPTY_ANSWERS: u32 = 3;
/// How long what is being deleted is hidden meanwhile.
const HIDDEN_S: i32 = 30;

pub(super) async fn depth(queues: &Queues, queue: &QueueName) -> Result<u64, Failure> {
    match queues.find(queue).await? {
        Some(at) => count(queues, &at).await,
        None => Ok(0),
    }
}

pub(super) async fn purge(queues: &Queues, queue: &QueueName) -> Result<u64, Failure> {
    let Some(at) = queues.find(queue).await? else { return Ok(0) };
    let depth = count(queues, &at).await?;
    if depth > TAKEN_MAX {
        let answer = at.clients.call.purge_queue().queue_url(&at.url).send().await;
        match answer.map_err(Failure::from) {
            Ok(_) => return Ok(depth),
            // What was there before the last time is being deleted; the rest is taken.
            Err(failure) if failure.kind == Kind::Purging => {}
            Err(failure) => return Err(failure),
        }
    }
    take_all(&at).await
}

async fn count(queues: &Queues, queue: &QueueAt) -> Result<u64, Failure> {
    let name = QueueAttributeName::ApproximateNumberOfMessages;
    let call = queue.clients.call.get_queue_attributes().queue_url(&queue.url).attribute_names(name.clone());
    match call.send().await.map_err(Failure::from) {
        Ok(answer) => {
            let count = answer.attributes.and_then(|attributes| attributes.get(&name)?.parse().ok());
            count.ok_or_else(|| Failure::permanent("SQS does not say how many messages there are"))
        }
        Err(failure) if failure.kind == Kind::NoQueue => {
            queues.forget(queue);
            Ok(0)
        }
        Err(failure) => Err(failure),
    }
}

async fn take_all(queue: &QueueAt) -> Result<u64, Failure> {
    let (mut deleted, mut empty_answers) = (0, 0);
    while empty_answers < EMPTY_ANSWERS {
        let call = queue.clients.call.receive_message().queue_url(&queue.url).visibility_timeout(HIDDEN_S);
        let call = call.max_number_of_messages(BATCH_MAX as i32).wait_time_seconds(0);
        let messages = call.send().await.map_err(Failure::from)?.messages.unwrap_or_default();
        let handles: Vec<&str> = messages.iter().filter_map(|message| message.receipt_handle()).collect();
        if handles.is_empty() {
            empty_answers += 1;
            continue;
        }
        empty_answers = 0;
        batch::delete(queue, &handles).await?;
        deleted += handles.len() as u64;
    }
    Ok(deleted)
}
