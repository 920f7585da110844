//! Tasks on the page: what happened to them, how long it took, and what the worker is doing now.

use worker::{OCCURRENCES, Pulse, TaskTally, Unready};

use super::page::Page;

/// Stands for all tasks that no plugin has.
const UNKNOWN: &str = "unknown";

/// Every task with its counts and its histograms.
pub(super) fn write(page: &mut Page, tallies: &[TaskTally]) {
    page.family("taskhost_task_events_total", "counter", "What happened to tasks, by the name of the event.");
    for tally in tallies {
        for (event, count) in OCCURRENCES.iter().zip(tally.occurrences).filter(|(_, count)| *count > 0) {
            let [task, plugin, version] = names(tally);
            let labels = [("task", task), ("plugin", plugin), ("version", version), ("event", event)];
            page.sample("taskhost_task_events_total", &labels, count as f64);
        }
    }
    type Read = fn(&TaskTally) -> &worker::Distribution;
    let families: [(&str, &str, Read); 4] = [
        ("taskhost_task_wait_seconds", "From being received, or from the ETA, to the start.", |tally| &tally.waited),
        ("taskhost_task_duration_seconds", "Time of attempts on the wall.", |tally| &tally.wall),
        ("taskhost_task_cpu_seconds", "Time of attempts on a processor.", |tally| &tally.cpu),
        ("taskhost_task_memory_bytes", "Memory of attempts when they had most.", |tally| &tally.memory),
    ];
    for (name, help, read) in families {
        page.family(name, "histogram", help);
        // Of tasks that no plugin has there are no attempts.
        for tally in tallies.iter().filter(|tally| tally.task.is_some()) {
            let [task, plugin, version] = names(tally);
            page.histogram(name, &[("task", task), ("plugin", plugin), ("version", version)], read(tally));
        }
    }
}

fn names(tally: &TaskTally) -> [&str; 3] {
    match &tally.task {
        Some((task, plugin, version)) => [task.as_str(), plugin.as_str(), version.as_str()],
        None => [UNKNOWN, "", ""],
    }
}

/// What the worker does now.
pub(super) fn write_worker(page: &mut Page, pulse: &Pulse) {
    page.family("taskhost_build_info", "gauge", "Which version this worker is of.");
    page.sample("taskhost_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let census = pulse.census();
    let flag = |flag: bool| f64::from(u8::from(flag));
    let gauges = [
        ("taskhost_tasks_running", "Attempts that run.", census.running as f64),
        ("taskhost_tasks_ready", "Tasks that wait for a slot and nothing else.", census.ready as f64),
        ("taskhost_tasks_waiting", "Tasks that wait for a rate or concurrency limit.", census.waiting as f64),
        ("taskhost_tasks_held", "Tasks that wait for their ETA here.", census.held as f64),
        ("taskhost_tasks_committing", "Tasks that ended and are not acknowledged yet.", census.committing as f64),
        (
            "taskhost_results_waiting",
            "Tasks that ended and whose results the store does not take.",
            census.spooled as f64,
        ),
        ("taskhost_results_waiting_bytes", "Bytes of their results.", census.spooled_bytes as f64),
        ("taskhost_slots", "Attempts that may run at a time.", census.slots as f64),
        ("taskhost_prefetch", "Unsettled messages that the broker may hand out.", f64::from(census.prefetch)),
        ("taskhost_queues_consumed", "Queues that messages are taken from.", census.queues as f64),
        ("taskhost_queues_paused", "Queues that are paused.", census.paused as f64),
        ("taskhost_quiet", "1: no messages are taken until the quiet ends.", flag(census.quiet)),
        ("taskhost_broker_connected", "1: there is a connection to the broker.", flag(pulse.is_connected())),
        ("taskhost_remote_control", "1: remote control reaches this worker.", flag(pulse.is_listening())),
        ("taskhost_ready", "1: tasks are taken, as /ready says.", flag(pulse.unready().is_none())),
        ("taskhost_loop_seconds", "Since the worker's loop last turned.", pulse.since_beat().as_secs_f64()),
    ];
    for (name, help, value) in gauges {
        page.gauge(name, help, value);
    }
}

/// Whether the process lives, and what is wrong.
pub(super) fn health(pulse: &Pulse) -> Result<(), String> {
    match pulse.is_alive() {
        true => Ok(()),
        false => {
            let (since, limit) = (pulse.since_beat().as_secs(), worker::BEAT_MAX.as_secs());
            Err(format!("{}: it has not turned for {since} s, the limit is {limit} s", Unready::Hangs.as_str()))
        }
    }
}
