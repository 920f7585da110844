//! Rate limits that several workers share: when the next start of a task may be, counted in one place.
//!
//! Celery has nothing like it. Only counts: which tasks are limited is decided in `core`, and a start that
//! was given out and does not happen is lost, which makes the cluster slower for a moment and never faster.

mod redis;
mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::{RedactedUrl, TaskName};

use self::redis::RedisRates;
use self::sqlite::SqliteRates;
use crate::connect::StoreOptions;
use crate::port::StoreError;
use crate::target::{self, Target};

/// A start that is asked for so much later than it could have been is not put off for that: the way to
/// the count and back must not add up.
const SLACK: Duration = Duration::from_millis(2);

/// Whoever keeps the count.
#[async_trait]
pub trait SharedRates: Send + Sync {
    /// Takes the next start of a task and says how long it is until then; starts are `interval` apart,
    /// whoever asks. A changed interval begins anew.
    async fn next_start(&self, task: &TaskName, interval: Duration) -> Result<Duration, StoreError>;
}

/// True if workers can share rate limits through what this URL, of a broker or a result backend, names.
pub fn can_share_rates(url: &str) -> bool {
    matches!(target::of_any(url, &dial::redis::Options::default()), Ok(Target::Redis(_) | Target::Sqlite(_)))
}

/// The count at this URL: Redis, or an SQLite file. Redis is connected to at first use. Of the options only those
/// that say how a server is reached are of use.
pub async fn share_rates(url: &str, options: &StoreOptions) -> Result<Box<dyn SharedRates>, StoreError> {
    let shown = RedactedUrl::new(url);
    match target::of_any(url, &options.redis_server())? {
        Target::Redis(target) => Ok(Box::new(RedisRates::new(shown, &target, options.node.clone())?)),
        Target::Sqlite(path) => Ok(Box::new(SqliteRates::open(shown, path).await?)),
        _ => {
            let reason = "rate limits can be shared through Redis or an SQLite file only".to_owned();
            Err(StoreError::Url { url: shown, reason })
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two workers, each with a connection of its own, ask in turns.
    pub(super) async fn check(one: &dyn SharedRates, other: &dyn SharedRates, task: &str) {
        let task = TaskName::parse(task).expect("a name");
        let interval = Duration::from_secs(10);
        let mut waits = Vec::new();
        for _ in 0..3 {
            waits.push(one.next_start(&task, interval).await.expect("it counts"));
            waits.push(other.next_start(&task, interval).await.expect("it counts"));
        }
        assert_eq!(waits[0], Duration::ZERO);
        for (index, wait) in waits.iter().enumerate().skip(1) {
            let latest = interval * u32::try_from(index).expect("few");
            // What has passed since the first one asked is not waited for again.
            assert!(*wait <= latest && *wait > latest - interval, "{index}: {wait:?}");
        }
        // Another task, and another limit, have starts of their own.
        let shorter = one.next_start(&task, Duration::from_secs(1)).await.expect("it counts");
        let elsewhere = TaskName::parse(&format!("{task}.other")).expect("a name");
        assert_eq!(shorter, Duration::ZERO);
        assert_eq!(one.next_start(&elsewhere, interval).await.expect("it counts"), Duration::ZERO);
    }

    #[test]
    fn only_what_all_workers_can_reach_is_shared() {
        for url in ["redis://localhost/1", "sqlite:///host.db", "sqla+sqlite:///host.db", "db+sqlite:////tmp/x.db"] {
            assert!(can_share_rates(url), "{url}");
        }
        for url in ["amqp://localhost//", "rpc://", "memory://", "disabled://"] {
            assert!(!can_share_rates(url), "{url}");
        }
    }
}
