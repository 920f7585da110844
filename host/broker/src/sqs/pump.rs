//! The task that takes messages for one consumer, by polls that SQS keeps waiting while its queue is empty.
//!
//! A poll is never given up: what SQS hands to it would be hidden from everybody until its lease is over. It ends
//! by itself, and what it brings too late goes back.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_sqs::types::{Message as Received, MessageSystemAttributeName};
use taskhost_core::{DeliveryInfo, HeaderValue, Message};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use super::batch::{self, DUE, Outgoing};
use super::failure::{Failure, Kind};
use super::intake::{Held, Intake};
use super::link::Link;
use super::queues::QueueAt;
use super::{delay, text};
use crate::kombu;
use crate::port::{DELIVERY_COUNT_HEADER, Delivery, Receipt, Token};
use crate::stock::Step;

/// How long to wait after a poll that failed: at first, and at last.
const TROUBLE_PAUSE_MIN: Duration = Duration::from_millis(200);
const TROUBLE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What a poll brought.
struct Polled {
    asked: usize,
    began: Instant,
    answer: Result<Vec<Received>, Failure>,
}

/// Takes until the consumer is gone or the connection is lost.
pub(super) async fn run(link: Arc<Link>, intake: Arc<Intake>, queue: Arc<QueueAt>) {
    let mut polls = JoinSet::new();
    let mut trouble = Trouble::default();
    loop {
        match intake.step() {
            Step::Take(wanted) => {
                polls.spawn(poll(Arc::clone(&link), Arc::clone(&queue), wanted));
            }
            Step::Wait(until) => {
                let pause = async {
                    match until {
                        Some(until) => tokio::time::sleep_until(until).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = intake.shelf.changed() => {}
                    () = pause => {}
                    Some(polled) = polls.join_next() => {
                        let polled = match polled {
                            Ok(polled) => polled,
                            Err(panic) => return link.lose(&panic.to_string()),
                        };
                        if let Err(failure) = receive(&link, &intake, &queue, polled, &mut trouble).await {
                            return link.lose(&failure.to_string());
                        }
                    }
                }
            }
            Step::Return(held) => {
                give_back(&queue, &held).await;
                intake.shelf.returned();
            }
            Step::End { seen, unseen } => {
                give_back(&queue, &[seen, unseen].concat()).await;
                while let Some(polled) = polls.join_next().await {
                    let Ok(Polled { answer: Ok(late), .. }) = polled else { continue };
                    let held: Vec<Held> = late.into_iter().filter_map(|late| held_of(&late, &link)).collect();
                    give_back(&queue, &held).await;
                }
                return;
            }
            Step::Stop => return,
        }
    }
}

async fn poll(link: Arc<Link>, queue: Arc<QueueAt>, wanted: usize) -> Polled {
    let began = Instant::now();
    let options = link.queues.options();
    let mut call = queue.clients.poll.receive_message().queue_url(&queue.url);
    call = call
        .max_number_of_messages(i32::try_from(wanted).unwrap_or(1))
        .wait_time_seconds(batch::whole_seconds(options.wait_time))
        .visibility_timeout(batch::whole_seconds(options.lease()))
        .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
        .message_attribute_names(DUE);
    if queue.is_fifo {
        call = call.message_system_attribute_names(MessageSystemAttributeName::MessageGroupId);
    }
    let answer = call.send().await.map(|answer| answer.messages.unwrap_or_default()).map_err(Failure::from);
    Polled { asked: wanted, began, answer }
}

/// How long polls have failed.
#[derive(Default)]
struct Trouble {
    since: Option<Instant>,
    pause: Duration,
}

/// Hands on what a poll brought. An error means that there is no use in going on.
async fn receive(
    link: &Link,
    intake: &Intake,
    queue: &QueueAt,
    Polled { asked, began, answer }: Polled,
    trouble: &mut Trouble,
) -> Result<(), Failure> {
    let messages = match answer {
        Ok(messages) => messages,
        Err(failure) => {
            if failure.kind == Kind::NoQueue {
                // Whoever consumes again makes it.
                link.queues.forget(queue);
            }
            let since = *trouble.since.get_or_insert(began);
            let is_over = !failure.transient || since.elapsed() > link.patience();
            if is_over {
                return Err(failure);
            }
            let name = &intake.queue;
            warn!(queue.name = %name, error = %failure, "cannot take messages of queue `{name}`, trying again: {failure}");
            trouble.pause = (2 * trouble.pause).clamp(TROUBLE_PAUSE_MIN, TROUBLE_PAUSE_MAX);
            intake.receive(asked, Vec::new(), trouble.pause);
            return Ok(());
        }
    };
    if trouble.since.take().is_some() {
        info!(queue.name = %intake.queue, "taking messages of queue `{}` again", intake.queue);
    }
    trouble.pause = Duration::ZERO;
    // Asked for once in minutes.
    let keeps_bodies = !messages.is_empty() && link.queues.dead_letters(queue).await.is_some();
    let mut taken = Vec::with_capacity(messages.len());
    let mut early = Vec::new();
    for message in messages {
        let Some(mut held) = held_of(&message, link) else { continue };
        match due_in(&message) {
            Some((due, left)) => early.push((held, message, due, left)),
            None => {
                let mut delivery = deliver(intake, held.number, &message);
                held.again = again(link, queue, &delivery.message);
                // To come again is its way of being tried again, not of coming home from a worker that was lost.
                delivery.info.redelivered &= held.again.is_none();
                if keeps_bodies {
                    held.body = message.body;
                }
                taken.push((held, delivery));
            }
        }
    }
    intake.receive(asked, taken, link.queues.options().pause());
    match early.is_empty() {
        true => Ok(()),
        false => delay_again(queue, early).await,
    }
}

fn held_of(message: &Received, link: &Link) -> Option<Held> {
    let now = Instant::now();
    let attribute = |name| message.attributes().and_then(|all| all.get(&name)).cloned();
    Some(Held {
        number: link.number(),
        handle: message.receipt_handle()?.to_owned(),
        since: now,
        until: now + link.queues.options().lease(),
        group: attribute(MessageSystemAttributeName::MessageGroupId),
        body: None,
        again: None,
    })
}

fn deliver(intake: &Intake, number: u64, message: &Received) -> Delivery {
    let envelope = text::decode(message.body().unwrap_or_default(), &intake.queue);
    let receives = message.attributes().and_then(|all| all.get(&MessageSystemAttributeName::ApproximateReceiveCount));
    let before = receives.and_then(|count| count.parse::<i64>().ok()).unwrap_or(1) - 1;
    let mut message = envelope.message;
    if before > 0 {
        message.headers.set(DELIVERY_COUNT_HEADER, HeaderValue::Int(before));
    }
    let route = match kombu::is_routable(&envelope.route) {
        true => envelope.route,
        // Clients know exchanges that SQS knows nothing of: what is published again goes to the queue.
        false => taskhost_core::Route::queue(&intake.queue),
    };
    let info = DeliveryInfo::found(intake.queue.clone(), route, before > 0 || envelope.redelivered);
    Delivery { message, info, receipt: Receipt::new(Token::Number(number)) }
}

/// When it comes again if it is refused, by the backoff of its queue (kombu's `QoS.apply_backoff_policy`). After more
/// deliveries than there are in the policy it stays hidden for the visibility timeout.
fn again(link: &Link, queue: &QueueAt, message: &Message) -> Option<Duration> {
    let backoff = queue.backoff.as_ref()?;
    let Some(HeaderValue::Text(task)) = message.headers.get("task") else { return None };
    let wait = backoff.policy.get(&(message.headers.delivery_count() + 1)).copied();
    backoff.tasks.contains(task).then(|| wait.unwrap_or(link.queues.options().visibility_timeout))
}

/// The time in micros, and how long that is from now, of a message that came too early: its delay was longer than
/// SQS can delay at once.
fn due_in(message: &Received) -> Option<(i64, Duration)> {
    let due_ms: i64 = message.message_attributes()?.get(DUE)?.string_value()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_millis(u64::try_from(due_ms).ok()?).checked_sub(now)?;
    (left > delay::EARLY_MAX).then_some((due_ms.saturating_mul(1000), left))
}

/// Delays these once more, as what they are. If that fails they come again when their leases are over.
async fn delay_again(queue: &QueueAt, early: Vec<(Held, Received, i64, Duration)>) -> Result<(), Failure> {
    let mut outgoing = Vec::with_capacity(early.len());
    let mut handles = Vec::with_capacity(early.len());
    for (held, message, due, left) in early {
        let (delay, due) = delay::parts(due, left);
        outgoing.push(Outgoing { body: message.body.unwrap_or_default(), delay, due, group: None });
        handles.push(held.handle);
    }
    let sent = batch::send(queue, &outgoing).await;
    let safe = handles.iter().zip(&sent).filter(|(_, sent)| sent.is_ok()).map(|(handle, _)| handle.as_str());
    batch::delete(queue, &safe.collect::<Vec<_>>()).await?;
    sent.into_iter().collect()
}

/// Makes these visible again. What cannot be given back comes back when its lease is over.
async fn give_back(queue: &QueueAt, held: &[Held]) {
    let handles: Vec<_> = held.iter().map(|held| (held.handle.as_str(), 0)).collect();
    if let Err(failure) = batch::hide(queue, &handles).await {
        info!(error = %failure, "cannot give back messages, whose leases will end by themselves: {failure}");
    }
}
