//! Says again and again that what we hold is being worked on: for as long as SQS allows, which is 12 hours.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tracing::warn;

use super::batch;
use super::intake::{Held, Intake};
use super::link::Link;
use super::options::VISIBILITY_MAX;
use super::queues::QueueAt;

/// How often in a lease it is looked what has to be renewed.
const LOOKS_PER_LEASE: u32 = 3;
/// SQS ends a lease that would last for longer than it allows; ours ends a little before.
const BOUND_MARGIN: Duration = Duration::from_secs(60);
/// How long a settlement may take to be noted here when SQS has done it.
const SETTLING_TIME: Duration = Duration::from_millis(100);

/// Keeps what one consumer holds, until there is no such consumer.
pub(super) async fn run(link: Arc<Link>, intake: Weak<Intake>, queue: Arc<QueueAt>) {
    let lease = link.queues.options().lease();
    let mut ticks = tokio::time::interval(lease / LOOKS_PER_LEASE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble_since = None;
    loop {
        ticks.tick().await;
        let Some(intake) = intake.upgrade() else { return };
        if intake.shelf.usable().is_err() {
            return;
        }
        match renew(&intake, &queue, lease).await {
            Ok(()) => trouble_since = None,
            Err(failure) => {
                let since: Instant = *trouble_since.get_or_insert_with(Instant::now);
                let name = &intake.queue;
                warn!(queue.name = %name, error = %failure, "cannot keep the messages of queue `{name}` hidden: {failure}");
                if !failure.transient || since.elapsed() > link.patience() {
                    return link.lose(&failure.to_string());
                }
            }
        }
    }
}

async fn renew(intake: &Intake, queue: &QueueAt, lease: Duration) -> Result<(), super::failure::Failure> {
    let now = Instant::now();
    // A second look comes before what is left out now is over.
    let held = intake.held_until(now + lease * (LOOKS_PER_LEASE - 1) / LOOKS_PER_LEASE);
    let (mut numbers, mut handles) = (Vec::new(), Vec::new());
    for held in &held {
        let left = bound(held).saturating_duration_since(now);
        if left.is_zero() {
            over(intake, held.number);
            continue;
        }
        let time = lease.min(left);
        numbers.push((held.number, now + time));
        handles.push((held.handle.as_str(), batch::whole_seconds(time)));
    }
    if handles.is_empty() {
        return Ok(());
    }
    let gone = batch::hide(queue, &handles).await?;
    let gone: Vec<u64> = gone.into_iter().map(|place| numbers[place].0).collect();
    intake.extend(numbers.into_iter().filter(|(number, _)| !gone.contains(number)));
    if !gone.is_empty() {
        report(intake, gone).await;
    }
    Ok(())
}

/// When SQS takes it away, whatever we do.
fn bound(held: &Held) -> Instant {
    held.since + VISIBILITY_MAX - BOUND_MARGIN
}

fn over(intake: &Intake, number: u64) {
    let queue = &intake.queue;
    if intake.shelf.release([number]) > 0 {
        warn!(
            queue.name = %queue,
            "a message of queue `{queue}` has been here for 12 hours, which is all that SQS allows: it will run again"
        );
    }
}

/// Somebody else has what we thought was ours. It is settled no more: that would be of no use.
async fn report(intake: &Intake, gone: Vec<u64>) {
    // Some are just being settled.
    tokio::time::sleep(SETTLING_TIME).await;
    let (queue, count) = (&intake.queue, intake.shelf.release(gone));
    if count > 0 {
        warn!(
            queue.name = %queue,
            "{count} messages that we took from queue `{queue}` are ours no more: they may run twice"
        );
    }
}
