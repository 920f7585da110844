//! The count in Redis: a key for each task, changed by a script in one step, on the server's clock.

use std::time::Duration;

use async_trait::async_trait;
use redis::Value;
use taskhost_core::{NodeName, RedactedUrl, TaskName};

use super::{SLACK, SharedRates, micros};
use crate::cause::Cause;
use crate::port::StoreError;
use crate::redis::connection::{Connection, Exchange, Trouble};

/// Before the name of the task.
const KEY_PREFIX: &str = "taskhost-rate-";

/// The key holds the interval and the time of the next start, both in microseconds.
const NEXT_START: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, slack = tonumber(ARGV[1]), tonumber(ARGV[2])
local start = now - slack
local known, at = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
if known == ARGV[1] then start = math.max(start, tonumber(at)) end
local next = start + interval
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. string.format('%.0f', next),
    'PX', string.format('%.0f', math.ceil((next - now + slack) / 1000) + 1000))
return string.format('%.0f', math.max(start - now, 0))
";

/// Counts in Redis.
pub(super) struct RedisRates(Connection);

impl RedisRates {
    pub(super) fn new(
        url: RedactedUrl,
        target: &dial::redis::Target,
        node: Option<NodeName>,
    ) -> Result<Self, StoreError> {
        Connection::new(url, target, node).map(Self)
    }
}

#[async_trait]
impl SharedRates for RedisRates {
    async fn next_start(&self, task: &TaskName, interval: Duration) -> Result<Duration, StoreError> {
        const OPERATION: &str = "count starts with the";
        let mut command = redis::cmd("EVAL");
        command.arg(NEXT_START).arg(1).arg(format!("{KEY_PREFIX}{task}"));
        command.arg(micros(interval)).arg(micros(SLACK.min(interval)));
        let answer = match self.0.run(Exchange::Command(&command)).await {
            Ok(answer) => answer,
            Err(Trouble::Connect(failure)) => return Err(self.0.connect_error(&failure)),
            Err(Trouble::Operation(failure)) => return Err(failure.cause.store(OPERATION)),
        };
        let text = match &answer {
            Value::BulkString(text) => std::str::from_utf8(text).ok(),
            _ => None,
        };
        let wait = text.and_then(|text| text.parse().ok()).map(Duration::from_micros);
        wait.ok_or_else(|| Cause::permanent(format!("Redis answered {answer:?}")).store(OPERATION))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

    #[tokio::test]
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    async fn workers_share_starts_through_redis() {
        for variable in ["TASKHOST_TEST_REDIS", "TASKHOST_TEST_REDISS", "TASKHOST_TEST_SENTINEL"] {
            let Some(url) = std::env::var(variable).ok().filter(|url| !url.is_empty()) else {
                println!("skipped: {variable} is not set");
                continue;
            };
            let Ok(Target::Redis(target)) = Target::parse(&url) else { panic!("{url} is no Redis URL") };
            let rates = || RedisRates::new(RedactedUrl::new(&url), &target, None).expect("a connection");
            super::super::tests::check(&rates(), &rates(), &format!("tasks.rates.{}", std::process::id())).await;
        }
    }
}
