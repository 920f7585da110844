//! What happens to tasks, as log lines with Celery's texts (celery/worker/strategy.py, celery/app/trace.py).

use taskhost_core::dead;
use taskhost_core::protocol::repr::repr;
use taskhost_core::{Event, Happening, Limit};
use tracing::{debug, error, info, warn};

/// How much of a result is shown, in characters (celery/app/task.py `resultrepr_maxsize`).
const RESULT_CHARS_MAX: usize = 1024;

/// Writes one event.
pub(crate) fn event(event: &Event) {
    let Event { id, task, what, .. } = event;
    match what {
        Happening::Received { .. } => info!(task.id = %id, task.name = %task, "Task {task}[{id}] received"),
        Happening::Started { .. } => debug!(task.id = %id, task.name = %task, "Task {task}[{id}] started"),
        Happening::Succeeded { result, usage } => {
            // The text of the result is not made for nobody.
            if tracing::enabled!(tracing::Level::INFO) {
                let (seconds, result) = (usage.wall.as_secs_f64(), repr(result, RESULT_CHARS_MAX));
                info!(
                    { task.id = %id, task.name = %task, runtime = seconds, cpu = usage.cpu.as_secs_f64(),
                      memory = usage.memory_bytes_peak, host_calls = usage.host_calls,
                      bytes_in = usage.bytes_in, bytes_out = usage.bytes_out },
                    "Task {task}[{id}] succeeded in {seconds:.6}s: {result}"
                );
            }
        }
        Happening::Failed { exception, traceback, limit, usage } => match limit {
            Some(Limit::Soft(limit)) => {
                let seconds = limit.as_secs_f64();
                warn!(task.id = %id, task.name = %task, "Soft time limit ({seconds}s) exceeded for {task}[{id}]");
            }
            Some(Limit::Hard(limit)) => {
                let seconds = limit.as_secs_f64();
                error!(task.id = %id, task.name = %task, "Hard time limit ({seconds}s) exceeded for {task}[{id}]");
            }
            None => {
                let traceback = traceback.as_deref().map(|text| format!("\n{}", text.trim_end())).unwrap_or_default();
                error!(
                    { task.id = %id, task.name = %task, runtime = usage.wall.as_secs_f64(), cpu = usage.cpu.as_secs_f64(),
                      memory = usage.memory_bytes_peak, host_calls = usage.host_calls,
                      bytes_in = usage.bytes_in, bytes_out = usage.bytes_out },
                    "Task {task}[{id}] raised unexpected: {}{traceback}", exception.repr()
                );
            }
        },
        Happening::Retried { cause, delay, .. } => {
            let cause = cause.as_ref().map(|cause| format!(": {}", cause.repr())).unwrap_or_default();
            let seconds = delay.as_secs_f64();
            info!(task.id = %id, task.name = %task, "Task {task}[{id}] retry: Retry in {seconds}s{cause}");
        }
        Happening::Rejected { requeue } => {
            warn!(task.id = %id, task.name = %task, requeue, "Task {task}[{id}] rejected");
        }
        Happening::Lost { exception } => {
            warn!(task.id = %id, task.name = %task, "Task {task}[{id}] was lost, and is given back: {}", exception.repr());
        }
        Happening::Ignored => info!(task.id = %id, task.name = %task, "Task {task}[{id}] ignored"),
        Happening::Revoked { terminated: Some(_), .. } => {
            warn!(task.id = %id, task.name = %task, terminated = true, "Task {task}[{id}] terminated: it was revoked while it ran");
        }
        Happening::Revoked { expired, .. } => {
            info!(task.id = %id, task.name = %task, expired, "Discarding revoked task: {task}[{id}]");
        }
        Happening::Unregistered { .. } => {
            error!(task.id = %id, task.name = %task, "Received unregistered task of type '{task}'");
        }
        Happening::Parked { quarantined: true } => {
            warn!(task.id = %id, task.name = %task, "Task {task}[{id}] is kept in the queue with the suffix {}: its plugin is in quarantine", dead::PARKED_SUFFIX);
        }
        Happening::Parked { quarantined: false } => {
            warn!(task.id = %id, task.name = %task, "Received unregistered task of type '{task}': it is kept in the queue with the suffix {} until a plugin brings it", dead::PARKED_SUFFIX);
        }
        Happening::DeadLettered { deliveries } => {
            error!(task.id = %id, task.name = %task, deliveries, "Task {task}[{id}] was delivered {deliveries} times and never finished: it is kept aside in the queue with the suffix {}", dead::SUFFIX);
        }
        Happening::Interrupted => {
            warn!(task.id = %id, task.name = %task, "Task {task}[{id}] interrupted: the worker stops; it is given back");
        }
    }
}
