//! Brings back what nobody works on any more: what a dead host of ours held, what is overdue by kombu's
//! rules, and what was put away until its time has come.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use super::failure::Failure;
use super::give_back::Manner;
use super::link::{DELAYED, Link};
use super::reconcile::reconcile;
use super::script;

/// Longest time between looks at what is due: others may put something away that is due sooner.
const DUE_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// Shortest: one look finds all that became due in that time.
const DUE_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// How often bindings are written anew: until then, what is published to an exchange whose table was evicted
/// finds no queue.
const BINDINGS_INTERVAL: Duration = Duration::from_secs(10);
/// How often all of `unacked` is looked at, after the first time, which is when we connect.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(300);
/// How many times in a lease we look for dead owners.
const LOOKS_PER_LEASE: u32 = 4;
/// Most dead owners that are cleaned up in one go.
const DEAD_OWNERS_MAX: usize = 4;
/// How many entries of the index one step of a scan looks at.
const SCAN_COUNT: usize = 1000;
/// Most tags that one look returns.
const DUE_MAX: usize = 500;
/// How long our lock on restoring is valid if we die; what we do under it takes much less.
const MUTEX_MS: u64 = 30_000;

/// Sweeps until the connection is lost.
pub(super) async fn run(link: Arc<Link>) {
    let now = Instant::now();
    let mut next = Next { owners: now, reconciliation: now, bindings: now + BINDINGS_INTERVAL };
    let mut is_well = true;
    loop {
        let swept = sweep(&link, &mut next).await;
        let wait = match swept {
            Ok(wait) => {
                is_well = true;
                wait
            }
            Err(failure) => {
                let failure = link.note(failure);
                if !failure.lost && std::mem::take(&mut is_well) {
                    warn!(error = %failure, "cannot restore overdue messages in Redis: {failure}");
                }
                DUE_INTERVAL_MAX
            }
        };
        let wait = wait.min(link.lease() / LOOKS_PER_LEASE);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = link.due.notified() => {}
            () = link.signals.until_lost() => return,
        }
    }
}

/// When to do what is not done each time.
struct Next {
    owners: Instant,
    reconciliation: Instant,
    bindings: Instant,
}

/// Does what there is to do, and says how long nothing will be.
async fn sweep(link: &Link, next: &mut Next) -> Result<Duration, Failure> {
    let now = Instant::now();
    if now >= next.reconciliation {
        next.reconciliation = now + RECONCILE_INTERVAL;
        reconcile(link).await?;
    }
    if now >= next.owners {
        next.owners = now + link.lease() / LOOKS_PER_LEASE;
        restore_of_the_dead(link).await?;
    }
    if now >= next.bindings {
        next.bindings = now + BINDINGS_INTERVAL;
        link.bindings.refresh(&link.connection).await?;
    }
    restore_due(link).await
}

/// Gives back what owners held whose lease is over.
async fn restore_of_the_dead(link: &Link) -> Result<(), Failure> {
    let mut call = script::call(&script::CLAIM_DEAD, &[&link.layout.owners]);
    call.arg(link.lease().as_secs_f64()).arg(DEAD_OWNERS_MAX);
    let dead: Vec<String> = link.connection.call(&script::CLAIM_DEAD, &call).await?;
    for owner in dead {
        let mut restored = 0;
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("ZSCAN");
            // Owners' names have nothing that is special in a pattern.
            scan.arg(&link.layout.index).arg(cursor).arg("MATCH").arg(format!("{owner}*"));
            scan.arg("COUNT").arg(SCAN_COUNT);
            let (next, found): (u64, Vec<Value>) = link.connection.ask(&scan).await?;
            let mut tags: Vec<String> = found.into_iter().step_by(2).filter_map(text).collect();
            // The newest first, so that the oldest stands at the very front.
            tags.sort_by_key(|tag| std::cmp::Reverse(tag[owner.len()..].parse::<u64>().unwrap_or(0)));
            restored += link.give_back(&tags, Manner::Restored, None).await?;
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        let mut forget = redis::cmd("ZREM");
        forget.arg(&link.layout.owners).arg(format!("!{owner}"));
        link.connection.run(&forget).await?;
        if restored > 0 {
            info!(restored, "{restored} messages of a host that is gone are back in their queues");
        }
    }
    Ok(())
}

/// Gives back what has an old score, and says when to look again.
async fn restore_due(link: &Link) -> Result<Duration, Failure> {
    // What others are restoring just now is passed over.
    let mut offset = 0;
    loop {
        let mut call = script::call(&script::DUE, &[&link.layout.index]);
        call.arg(link.options.visibility_timeout.as_secs_f64()).arg(offset).arg(DUE_MAX);
        let (bound, wait, tags): (String, f64, Vec<String>) = link.connection.call(&script::DUE, &call).await?;
        let found = tags.len();
        let (delayed, others): (Vec<String>, Vec<String>) = tags.into_iter().partition(|tag| tag.starts_with(DELAYED));
        // The newest first here, too.
        let delayed: Vec<String> = delayed.into_iter().rev().collect();
        link.give_back(&delayed, Manner::Unseen, Some(&bound)).await?;
        if !others.is_empty() && !restore_under_mutex(link, others.iter().rev(), &bound).await? {
            offset += others.len();
        }
        if found < DUE_MAX {
            let wait = Duration::try_from_secs_f64(wait).unwrap_or(DUE_INTERVAL_MAX);
            return Ok(wait.clamp(DUE_INTERVAL_MIN, DUE_INTERVAL_MAX));
        }
    }
}

/// Restores what everybody may restore, unless somebody else does so now.
async fn restore_under_mutex(link: &Link, tags: impl Iterator<Item = &String>, bound: &str) -> Result<bool, Failure> {
    let token = Uuid::new_v4().simple().to_string();
    let mut lock = redis::cmd("SET");
    lock.arg(&link.layout.mutex).arg(&token).arg("NX").arg("PX").arg(MUTEX_MS);
    if link.connection.run(&lock).await? == Value::Nil {
        return Ok(false);
    }
    let tags: Vec<String> = tags.cloned().collect();
    let restored = link.give_back(&tags, Manner::Restored, Some(bound)).await;
    let mut unlock = script::call(&script::UNLOCK, &[&link.layout.mutex]);
    unlock.arg(&token);
    link.connection.call::<Value>(&script::UNLOCK, &unlock).await?;
    let restored = restored?;
    if restored > 0 {
        warn!(restored, "{restored} messages were unacknowledged for too long and are back in their queues");
    }
    Ok(true)
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(text) => String::from_utf8(text).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
