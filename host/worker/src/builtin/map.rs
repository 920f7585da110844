//! `celery.map` and `celery.starmap`: attempts of another task, one after the other, in place of one of their own.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use taskhost_core::builtin::{Builtin, Mapping};
use taskhost_core::protocol::content::ListWriter;
use taskhost_core::{Attempt, Exception, Finished, Limit, Outcome, TaskSpec, Trap, Usage};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::Builtins;
use crate::invoker::{Cancel, Invoker};

impl Builtins {
    /// The first call that does not succeed is what the whole comes to. What all sent goes out with the whole.
    pub(super) async fn map(&self, builtin: Builtin, whole: &Attempt, started: Instant, cancel: Cancel) -> Finished {
        let mut finished = Finished::alone(Outcome::Ignored, Usage::default());
        let outcome = self.map_into(builtin, whole, started, cancel, &mut finished).await;
        finished.outcome = outcome.unwrap_or_else(|exception| Outcome::Failure(exception, None));
        finished
    }

    async fn map_into(
        &self,
        builtin: Builtin,
        whole: &Attempt,
        started: Instant,
        cancel: Cancel,
        finished: &mut Finished,
    ) -> Result<Outcome, Exception> {
        let mapping = Mapping::read(builtin, &whole.request)?;
        let spec = self.catalogs.borrow().get(&mapping.task).cloned();
        let spec = spec.ok_or_else(|| Exception::not_registered(&mapping.task))?;
        let mut cancelled = pin!(cancel.requested());
        let mut results = ListWriter::new();
        let mut bytes = 0;
        for index in 0..mapping.count() {
            let attempt = match part(whole, started, &spec) {
                Ok(attempt) => attempt,
                Err(limit) => return Ok(Outcome::TimedOut(limit)),
            };
            let attempt = Attempt { request: Arc::new(mapping.call(&whole.request, index)?), ..attempt };
            let (stop, stopped) = oneshot::channel();
            let mut call = self.invoke(attempt, Cancel(stopped));
            let (part, is_cancelled) = tokio::select! {
                biased;
                part = &mut call => (part, false),
                () = &mut cancelled => {
                    let _ = stop.send(());
                    (call.await, true)
                }
            };
            add(&mut finished.usage, &part.usage);
            finished.effects.extend(part.effects);
            finished.children.extend(part.children);
            match part.outcome {
                _ if is_cancelled => return Ok(Outcome::Interrupted),
                Outcome::Success(result) => {
                    bytes += result.byte_len() as u64;
                    results.push(&result);
                }
                other => return Ok(mapping.end(other, whole.time_limit, whole.soft_time_limit)),
            }
            let limit_bytes = self.settings.result_bytes_max;
            if bytes > limit_bytes {
                return Ok(Outcome::Trapped(Trap::ResultTooLarge { limit_bytes }));
            }
            // Calls that wait for nothing would keep the thread to themselves.
            yield_now().await;
        }
        Ok(Outcome::Success(results.finish()))
    }
}

/// An attempt that has what is left of the time of the whole; the limit that is over, if there is nothing left.
fn part(whole: &Attempt, started: Instant, spec: &Arc<TaskSpec>) -> Result<Attempt, Limit> {
    let left = |limit: Duration| limit.checked_sub(started.elapsed()).filter(|left| !left.is_zero());
    let time_limit = left(whole.time_limit).ok_or(Limit::Hard(whole.time_limit))?;
    let soft_time_limit = match whole.soft_time_limit {
        Some(limit) => Some(left(limit).ok_or(Limit::Soft(limit))?),
        None => None,
    };
    Ok(Attempt { spec: spec.clone(), call: None, pinned: None, time_limit, soft_time_limit, ..whole.clone() })
}

fn add(sum: &mut Usage, part: &Usage) {
    sum.cpu += part.cpu;
    sum.memory_bytes_peak = sum.memory_bytes_peak.max(part.memory_bytes_peak);
    sum.host_calls += part.host_calls;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_adds_up_but_memory_is_held_one_after_the_other() {
        let usage = |memory_bytes_peak| Usage {
            cpu: Duration::from_millis(3),
            memory_bytes_peak,
            host_calls: 2,
            ..Usage::default()
        };
        let mut sum = Usage::default();
        [7, 9, 8].iter().for_each(|peak| add(&mut sum, &usage(*peak)));
        assert_eq!((sum.cpu, sum.memory_bytes_peak, sum.host_calls), (Duration::from_millis(9), 9, 6));
    }
}
