//! The task that takes messages for one consumer: as many as are wanted, in one step at the server.
//!
//! It waits without asking: the server tells a connection that looked at a list when the list changes
//! (`CLIENT TRACKING`). Where the server does not, it asks, ever more seldom.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use taskhost_core::protocol::envelope::{self, EnvelopeError};
use taskhost_core::{DeliveryInfo, Message};
use tracing::error;

use super::failure::Failure;
use super::give_back::Manner;
use super::intake::Intake;
use super::link::Link;
use super::script;
use crate::port::{Delivery, Receipt, Token};
use crate::stock::Step;

/// How long we believe that we would be told. The question that follows has a deadline, so that a silent
/// connection is noticed.
const TOLD_INTERVAL: Duration = Duration::from_secs(2);
/// How often we ask where nobody tells us: at first, and at last.
const ASK_INTERVAL_MIN: Duration = Duration::from_millis(2);
const ASK_INTERVAL_MAX: Duration = Duration::from_millis(50);
/// How many texts are kept that were found in a queue and are no messages.
const UNREADABLE_MAX: usize = 1000;

/// Takes until the consumer is gone or the connection is lost.
pub(super) async fn run(link: Arc<Link>, intake: Arc<Intake>) {
    let mut interval = ASK_INTERVAL_MIN;
    loop {
        let done = match intake.step() {
            Step::Take(wanted) => match take(&link, &intake, wanted).await {
                Ok(0) => Ok(()),
                Ok(_) => {
                    interval = ASK_INTERVAL_MIN;
                    Ok(())
                }
                Err(failure) => Err(failure),
            },
            Step::Wait(_) => {
                let patience = if link.is_told { TOLD_INTERVAL } else { interval };
                if tokio::time::timeout(patience, intake.shelf.changed()).await.is_err() {
                    interval = ASK_INTERVAL_MAX.min(2 * interval);
                    intake.wake();
                }
                Ok(())
            }
            Step::Return(numbers) => {
                let done = give_back(&link, numbers, Manner::Unseen).await;
                intake.shelf.returned();
                done
            }
            Step::End { seen, unseen } => {
                let done = match give_back(&link, unseen, Manner::Unseen).await {
                    Ok(()) => give_back(&link, seen, Manner::Restored).await,
                    failed => failed,
                };
                if let Err(failure) = done {
                    link.signals.lose(&failure.to_string());
                }
                return;
            }
            Step::Stop => return,
        };
        if let Err(failure) = done {
            // Whatever it was: what we hold goes to others, and the worker connects anew.
            link.signals.lose(&failure.to_string());
            return;
        }
    }
}

/// Takes so many messages, or fewer, and says how many.
async fn take(link: &Link, intake: &Intake, wanted: usize) -> Result<usize, Failure> {
    let layout = &link.layout;
    let first = link.numbers(wanted);
    let mut keys = vec![layout.owners.as_str(), &layout.unacked, &layout.index];
    keys.extend(intake.lists.iter().map(String::as_str));
    let mut call = script::call(&script::TAKE, &keys);
    call.arg(&link.owner).arg(wanted).arg(first).arg(&intake.tail);
    // Looking at the lists is what makes the server tell us of changes.
    let mut look = redis::cmd("EXISTS");
    look.arg(&intake.lists);
    let mut commands = redis::Pipeline::with_capacity(2);
    commands.add_command(call).add_command(look);
    let answers = match link.connection.run_all(&commands).await {
        Err(failure) if failure.unknown_script => {
            link.connection.load(&script::TAKE).await?;
            link.connection.run_all(&commands).await?
        }
        answers => answers?,
    };
    let mut answers = answers.into_iter();
    let (Some(taken), Some(Value::Int(left))) = (answers.next(), answers.next()) else {
        return Err(Failure::strange("EVALSHA"));
    };
    let Value::Array(taken) = taken else {
        // Redis was silent, or we were, for longer than the lease.
        return Err(Failure::lost("our lease was over and others have taken what we held"));
    };
    let count = taken.len();
    let mut received = Vec::with_capacity(count);
    let mut unreadable = Vec::new();
    for (number, text) in (first..).zip(taken) {
        let Value::BulkString(text) = text else { return Err(Failure::strange("EVALSHA")) };
        match deliver(intake, number, &text) {
            Ok(delivery) => received.push((number, Some(delivery))),
            Err(reason) => {
                received.push((number, None));
                unreadable.push((number, text, reason));
            }
        }
    }
    intake.receive(received, left == 0);
    for (number, text, reason) in unreadable {
        set_aside(link, intake, number, &text, &reason).await?;
    }
    Ok(count)
}

fn deliver(intake: &Intake, number: u64, text: &[u8]) -> Result<Delivery, EnvelopeError> {
    let envelope = envelope::decode(text)?;
    let message: Message = envelope.message;
    let info = DeliveryInfo::found(intake.queue.clone(), envelope.route, envelope.redelivered);
    Ok(Delivery { message, info, receipt: Receipt::new(Token::Number(number)) })
}

/// What is no message can be neither run nor rejected with a reason: it is kept, out of everybody's way.
async fn set_aside(
    link: &Link,
    intake: &Intake,
    number: u64,
    text: &[u8],
    reason: &EnvelopeError,
) -> Result<(), Failure> {
    let (layout, queue, tag) = (&link.layout, &intake.queue, link.tag(number));
    let mut commands = redis::Pipeline::with_capacity(4);
    commands.atomic();
    commands.cmd("LPUSH").arg(&layout.unreadable).arg(text).ignore();
    commands.cmd("LTRIM").arg(&layout.unreadable).arg(0).arg(UNREADABLE_MAX - 1).ignore();
    commands.cmd("HDEL").arg(&layout.unacked).arg(&tag).ignore();
    commands.cmd("ZREM").arg(&layout.index).arg(&tag).ignore();
    link.connection.run_all(&commands).await?;
    intake.shelf.release([number]);
    error!(
        queue.name = %queue, error = %reason,
        "what was in queue `{queue}` is no message ({reason}) and is set aside in `{}`", layout.unreadable
    );
    Ok(())
}

/// Gives these back; the newest first, so that they stand in their old order.
async fn give_back(link: &Link, mut numbers: Vec<u64>, manner: Manner) -> Result<(), Failure> {
    numbers.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
    let tags: Vec<String> = numbers.into_iter().map(|number| link.tag(number)).collect();
    link.give_back(&tags, manner, None).await.map(drop)
}
