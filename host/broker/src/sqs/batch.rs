//! Requests for many messages at once: ten in one, some of them at the same time, and those that failed again.
//!
//! A batch that is answered may still have failed in part; here it has not, or says so.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
    SendMessageBatchRequestEntry,
};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::failure::{Failure, Kind};
use super::queues::QueueAt;

/// Most messages of one request.
pub(super) const BATCH_MAX: usize = 10;
/// Most bytes of one request with several messages: what old queues and emulators take. A larger one goes alone.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// Requests of one batch that are under way at a time.
const REQUESTS_MAX: usize = 8;
/// How long what can be tried again is tried again.
const TRYING_MAX: Duration = Duration::from_secs(20);
/// How long to wait before: at first, and at last.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What is to be sent.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) body: String,
    pub(super) delay: Duration,
    /// Micros since the epoch until which it is to be kept on its way.
    pub(super) due: Option<i64>,
    pub(super) group: Option<String>,
}

/// What became of each that was sent.
pub(super) type Sent = Vec<Result<(), Failure>>;

/// The name of the attribute in which [`Outgoing::due`] travels: milliseconds since the epoch.
pub(super) const DUE: &str = "taskhost-due";

/// Deletes these. Those that are gone already are gone.
pub(super) async fn delete(queue: &QueueAt, handles: &[&str]) -> Result<(), Failure> {
    let requests: Vec<_> = handles.chunks(BATCH_MAX).map(|handles| delete_batch(queue, handles)).collect();
    stream::iter(requests).buffer_unordered(REQUESTS_MAX).try_collect().await
}

async fn delete_batch(queue: &QueueAt, handles: &[&str]) -> Result<(), Failure> {
    let failed = retried(handles, |places| {
        let entries = places.iter().map(|place| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(place.to_string());
            entry.receipt_handle(handles[*place]).build().expect("it has an id and a handle")
        });
        let call = queue.clients.call.delete_message_batch().queue_url(&queue.url);
        let call = call.set_entries(Some(entries.collect()));
        async move { call.send().await.map(|answer| answer.failed).map_err(Failure::from) }
    });
    // A receipt that is void, or a queue that is gone, is as good as one that was spent.
    let is_real = |failure: &Failure| failure.transient || failure.kind == Kind::Denied;
    failed.await.into_iter().map(|(_, failure)| failure).find(is_real).map_or(Ok(()), Err)
}

/// Hides these for so many seconds from now on; none makes them visible. Returns the places of those that are
/// ours no more.
pub(super) async fn hide(queue: &QueueAt, handles: &[(&str, i32)]) -> Result<Vec<usize>, Failure> {
    let chunks = handles.chunks(BATCH_MAX).enumerate();
    let requests: Vec<_> = chunks.map(|(chunk, handles)| hide_batch(queue, chunk * BATCH_MAX, handles)).collect();
    let gone: Vec<Vec<usize>> = stream::iter(requests).buffer_unordered(REQUESTS_MAX).try_collect().await?;
    Ok(gone.into_iter().flatten().collect())
}

async fn hide_batch(queue: &QueueAt, first: usize, handles: &[(&str, i32)]) -> Result<Vec<usize>, Failure> {
    let failed = retried(handles, |places| {
        let entries = places.iter().map(|place| {
            let (handle, time) = handles[*place];
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(place.to_string());
            entry.receipt_handle(handle).visibility_timeout(time).build().expect("it has an id and a handle")
        });
        let call = queue.clients.call.change_message_visibility_batch().queue_url(&queue.url);
        let call = call.set_entries(Some(entries.collect()));
        async move { call.send().await.map(|answer| answer.failed).map_err(Failure::from) }
    });
    let mut gone = Vec::new();
    for (place, failure) in failed.await {
        // Whatever SQS has against one entry and will not forget: it is not in flight, or its time is over.
        if failure.transient || failure.kind != Kind::Other {
            return Err(failure);
        }
        gone.push(first + place);
    }
    Ok(gone)
}

/// Sends these and says what became of each. In order where the queue keeps one.
pub(super) async fn send(queue: &QueueAt, messages: &[Outgoing]) -> Sent {
    let mut starts = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (place, message) in messages.iter().enumerate() {
        if place > start && (place - start == BATCH_MAX || bytes + message.body.len() > BATCH_BYTES_MAX) {
            starts.push(start..place);
            (start, bytes) = (place, 0);
        }
        bytes += message.body.len();
    }
    starts.push(start..messages.len());
    let width = if queue.is_fifo { 1 } else { REQUESTS_MAX };
    let ranges = starts.into_iter().filter(|range| !range.is_empty());
    let requests: Vec<_> = ranges.map(|range| send_batch(queue, &messages[range])).collect();
    let sent: Vec<Sent> = stream::iter(requests).buffered(width).collect().await;
    sent.into_iter().flatten().collect()
}

async fn send_batch(queue: &QueueAt, messages: &[Outgoing]) -> Sent {
    // The same ids in every attempt, so that what arrived without our hearing of it is not there twice.
    let ids: Vec<Option<String>> =
        messages.iter().map(|_| queue.is_fifo.then(|| uuid::Uuid::new_v4().hyphenated().to_string())).collect();
    let failed = retried(messages, |places: Vec<usize>| {
        let entries = places.iter().map(|place| entry(queue, *place, &messages[*place], ids[*place].clone()));
        let call = queue.clients.call.send_message_batch().queue_url(&queue.url);
        let call = call.set_entries(Some(entries.collect()));
        async move { call.send().await.map(|answer| answer.failed).map_err(Failure::from) }
    });
    let mut sent: Sent = messages.iter().map(|_| Ok(())).collect();
    for (place, failure) in failed.await {
        sent[place] = Err(failure);
    }
    sent
}

fn entry(queue: &QueueAt, place: usize, message: &Outgoing, id: Option<String>) -> SendMessageBatchRequestEntry {
    let mut entry = SendMessageBatchRequestEntry::builder().id(place.to_string()).message_body(&message.body);
    if queue.is_fifo {
        // kombu's group, where a client names none.
        entry = entry.message_group_id(message.group.as_deref().unwrap_or("default")).set_message_deduplication_id(id);
    } else {
        entry = entry.set_message_group_id(message.group.clone());
        if !message.delay.is_zero() {
            entry = entry.delay_seconds(whole_seconds(message.delay));
        }
    }
    if let Some(due) = message.due {
        let value = aws_sdk_sqs::types::MessageAttributeValue::builder().data_type("Number");
        let value = value.string_value((due / 1000).to_string()).build().expect("it has a type");
        entry = entry.message_attributes(DUE, value);
    }
    entry.build().expect("it has an id and a body")
}

/// As SQS counts time, rounded up.
pub(super) fn whole_seconds(time: Duration) -> i32 {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

/// Asks until nothing is left that might still work. Returns the places that failed.
async fn retried<T, F>(all: &[T], request: impl Fn(Vec<usize>) -> F) -> Vec<(usize, Failure)>
where
    F: Future<Output = Result<Vec<BatchResultErrorEntry>, Failure>>,
{
    retried_for(TRYING_MAX, all.len(), request).await
}

async fn retried_for<F>(patience: Duration, count: usize, request: impl Fn(Vec<usize>) -> F) -> Vec<(usize, Failure)>
where
    F: Future<Output = Result<Vec<BatchResultErrorEntry>, Failure>>,
{
    let began = Instant::now();
    let mut pause = PAUSE_MIN;
    let mut open: Vec<usize> = (0..count).collect();
    let mut failed = Vec::new();
    loop {
        let mut again: Vec<(usize, Failure)> = match request(open.clone()).await {
            Ok(refused) => {
                refused.iter().filter_map(|entry| Some((entry.id().parse().ok()?, refusal(entry)))).collect()
            }
            Err(failure) => open.iter().map(|place| (*place, failure.clone())).collect(),
        };
        failed.extend(again.extract_if(.., |(_, failure)| !failure.transient));
        if again.is_empty() || began.elapsed() + pause > patience {
            failed.extend(again);
            return failed;
        }
        tokio::time::sleep(pause).await;
        pause = PAUSE_MAX.min(2 * pause);
        let places: HashSet<usize> = again.into_iter().map(|(place, _)| place).collect();
        open.retain(|place| places.contains(place));
    }
}

fn refusal(entry: &BatchResultErrorEntry) -> Failure {
    Failure::entry(entry.code(), entry.message(), entry.sender_fault())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(id: usize, sender_fault: bool) -> BatchResultErrorEntry {
        let entry = BatchResultErrorEntry::builder().id(id.to_string()).code("Some").sender_fault(sender_fault);
        entry.build().expect("complete")
    }

    #[tokio::test]
    async fn only_what_failed_is_tried_again_and_only_what_may_still_work() {
        let asked = std::cell::RefCell::new(Vec::new());
        let failed = retried(&["a", "b", "c"], |places| {
            let first = asked.borrow().is_empty();
            asked.borrow_mut().push(places);
            // One is wrong for good, one has bad luck.
            let refused = if first { vec![refused(0, true), refused(2, false)] } else { Vec::new() };
            async move { Ok(refused) }
        })
        .await;
        assert_eq!(failed.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0]);
        assert_eq!(*asked.borrow(), [vec![0, 1, 2], vec![2]]);
    }

    #[tokio::test]
    async fn trying_ends() {
        let patience = Duration::from_millis(300);
        let failed = retried_for(patience, 1, |_| async { Err(Failure::lost("nobody is there")) }).await;
        assert_eq!(failed.len(), 1);
        assert!(failed[0].1.transient);
    }

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!(whole_seconds(Duration::from_millis(2001)), 3);
        assert_eq!(whole_seconds(Duration::ZERO), 0);
    }
}
