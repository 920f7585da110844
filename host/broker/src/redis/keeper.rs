//! Says that we are alive, and that what we hold is being worked on.
//!
//! Two clocks run for each message: ours, by which another host takes over what a dead one held within
//! seconds, and kombu's visibility timeout, by which any worker restores what has an old score. Both are
//! those of the server.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tracing::warn;

use super::failure::Failure;
use super::intake::Intake;
use super::link::Link;
use super::script;

/// How many times in a lease we say that we are alive.
const BEATS_PER_LEASE: u32 = 4;
/// Longest time between renewals of scores: others may have a shorter visibility timeout than we.
const RENEWAL_INTERVAL_MAX: Duration = Duration::from_secs(10);
/// How long a settlement may take to be noted here when the server has done it.
const SETTLING_TIME: Duration = Duration::from_millis(100);
/// Most tags in one renewal.
const RENEWAL_TAGS_MAX: usize = 1000;

/// Registers us as an owner.
pub(super) async fn register(link: &Link) -> Result<(), Failure> {
    beat(link, false).await.map(drop)
}

/// Takes us from the owners: nothing of ours is left.
pub(super) async fn deregister(link: &Link) -> Result<(), Failure> {
    let mut command = redis::cmd("ZREM");
    command.arg(&link.layout.owners).arg(&link.owner);
    link.connection.run(&command).await.map(drop)
}

/// Keeps us alive until the connection is lost.
pub(super) async fn run(link: Arc<Link>) {
    let renewal_interval = RENEWAL_INTERVAL_MAX.min(link.options.visibility_timeout / 3);
    let mut ticks = tokio::time::interval(renewal_interval.min(link.lease() / BEATS_PER_LEASE));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renewed = Instant::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = link.signals.until_lost() => return,
        }
        match beat(&link, true).await {
            Ok(true) => {}
            Ok(false) => return link.signals.lose("our lease was over, or was evicted"),
            Err(failure) => trouble(&link, failure),
        }
        if renewed.elapsed() >= renewal_interval {
            renewed = Instant::now();
            if let Err(failure) = renew(&link).await {
                trouble(&link, failure);
            }
        }
    }
}

fn trouble(link: &Link, failure: Failure) {
    let failure = link.note(failure);
    if !failure.lost {
        warn!(error = %failure, "cannot renew our lease at Redis: {failure}");
    }
}

/// False if we are not among the owners and should be.
async fn beat(link: &Link, must_be_there: bool) -> Result<bool, Failure> {
    let mut call = script::call(&script::BEAT, &[&link.layout.owners]);
    call.arg(&link.owner).arg(link.lease().as_secs_f64()).arg(u8::from(must_be_there));
    link.connection.call(&script::BEAT, &call).await
}

async fn renew(link: &Link) -> Result<(), Failure> {
    for intake in link.signals.intakes() {
        let held = intake.shelf.held_where(|_| true);
        for numbers in held.chunks(RENEWAL_TAGS_MAX) {
            let mut call = script::call(&script::RENEW, &[&link.layout.unacked, &link.layout.index]);
            for number in numbers {
                call.arg(link.tag(*number));
            }
            let gone: Vec<usize> = link.connection.call(&script::RENEW, &call).await?;
            if !gone.is_empty() {
                let gone = gone.into_iter().filter_map(|place| numbers.get(place.checked_sub(1)?).copied()).collect();
                report(link, &intake, gone).await;
            }
        }
    }
    Ok(())
}

/// Somebody else has what we thought was ours. It is settled no more: that would be of no use.
async fn report(link: &Link, intake: &Intake, gone: Vec<u64>) {
    // Some are just being settled.
    tokio::time::sleep(SETTLING_TIME).await;
    let gone = intake.shelf.held(gone);
    if gone.is_empty() {
        return;
    }
    intake.shelf.release(gone.iter().copied());
    let (queue, count) = (&intake.queue, gone.len());
    warn!(
        queue.name = %queue,
        "{count} messages that we took from queue `{queue}` are in `{}` no more: they may run twice",
        link.layout.unacked
    );
}
