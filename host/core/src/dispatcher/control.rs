//! What the dispatcher does when it is asked or told something by remote control, and how it answers, in the
//! words of a Python worker (celery/worker/control.py).
//!
//! Answers about requests and tasks are made in `inspect`. What only the process knows is asked elsewhere: such
//! a command never comes here.

use std::time::Duration;

use crate::control::{Command, ControlError, Signal, error, ok};
use crate::name::{TaskId, TaskName};
use crate::protocol::content::Json;
use crate::protocol::repr::repr;
use crate::queue::Queue;
use crate::rate::Rate;
use crate::record::{ResultRecord, State};
use crate::revoke::Revocation;
use crate::settle;
use crate::task::TaskSpec;
use crate::timestamp::Timestamp;

use super::pool::PoolRefusal;
use super::queues::QueueState;
use super::revoking::{Found, Revoke};
use super::{Action, Dispatcher, QuestionId};

/// How many characters of ids an answer holds.
const SHOWN_CHARS_MAX: usize = 65_536;

/// How many questions may wait for the result store. Beyond that they are answered without it.
const MARKING_MAX: usize = 64;

const GROW_UNDER_AUTOSCALE: &str = "is not supported with autoscale. Adjust autoscale range instead.";

impl Dispatcher {
    /// Carries out a command and answers it, now or when the result store has answered.
    pub(super) fn control(
        &mut self,
        question: QuestionId,
        command: Command,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let answer = match command {
            Command::Active { safe } => self.active(safe),
            Command::Reserved => self.reserved_requests(),
            Command::Scheduled => self.scheduled(now),
            Command::Revoked => self.revoked_ids(),
            Command::Registered { attributes, builtins } => self.registered(&attributes, builtins),
            Command::ActiveQueues => self.active_queues(),
            Command::QueryTask(ids) => self.query(&ids, now),
            Command::Stats => self.stats(),
            Command::Hello { revoked, .. } => self.hello(revoked, now, actions),
            Command::Revoke { ids, terminate } => return self.revoke_ids(question, ids, terminate, now, actions),
            Command::RevokeByStamps { stamps, shown, terminate } => {
                self.revoke_stamps(stamps, &shown, terminate, now, actions)
            }
            Command::Unrevoke(ids) => self.unrevoke(ids, actions),
            Command::RateLimit { task, rate, disabled } => self.limit_rate(&task, rate, disabled, now),
            Command::TimeLimit { task, hard, soft } => self.limit_time(&task, hard, soft),
            Command::AddConsumer(queue) => {
                let text = format!("add consumer {}", queue.name);
                let queue = self.as_described(*queue);
                self.add_queue(queue, actions);
                ok(&text)
            }
            Command::CancelConsumer(name) => {
                self.cancel_queue(&name, actions);
                ok(&format!("no longer consuming from {name}"))
            }
            Command::PauseQueue(name) => match self.pause_queue(&name, actions) {
                true => ok(&format!("queue {name} paused")),
                false => self.as_it_was(name.as_str(), QueueState::Paused, "paused already"),
            },
            Command::ResumeQueue(name) => match self.resume_queue(&name, actions) {
                true => ok(&format!("queue {name} resumed")),
                false => self.as_it_was(name.as_str(), QueueState::Consuming, "not paused"),
            },
            Command::Quiet => match self.be_quiet(actions) {
                true => ok("quiet: no more tasks are taken"),
                false => ok("quiet already"),
            },
            Command::Unquiet => match self.end_quiet(actions) {
                true => ok("no longer quiet: tasks are taken again"),
                false => ok("not quiet"),
            },
            Command::PoolGrow(by) => self.resize("pool_grow", by, "pool will grow"),
            Command::PoolShrink(by) => self.resize("pool_shrink", by.saturating_neg(), "pool will shrink"),
            Command::Autoscale { max, min } => {
                let size = |size: Option<u32>| size.map(|size| size as usize);
                match self.autoscale(size(max), size(min), now) {
                    Ok(bounds) => ok(&format!("autoscale now max={} min={}", bounds.max, bounds.min)),
                    Err(refusal) => ControlError::raised("ValueError", refusal.to_string()).reply(),
                }
            }
            // Whoever asks this has asked the wrong one, and shall know it.
            Command::Ping
            | Command::Clock
            | Command::Report
            | Command::Conf { .. }
            | Command::MemorySample
            | Command::MemoryDump
            | Command::ObjectGraph
            | Command::PoolRestart
            | Command::EnableEvents
            | Command::DisableEvents
            | Command::Heartbeat
            | Command::Shutdown { .. }
            | Command::Election => error("not a matter of the dispatcher"),
        };
        actions.push(Action::Reply(question, answer));
    }

    /// Ids that another node has revoked, which are merged with ours; then all of ours.
    fn hello(&mut self, revoked: Vec<TaskId>, now: Timestamp, actions: &mut Vec<Action>) -> Json {
        let news = revoked.into_iter().map(Revocation::Id).filter(|it| !self.revoked.contains(it));
        let revocations: Vec<Revocation> = news.collect();
        if !revocations.is_empty() {
            self.revoke(Revoke { revocations, terminate: None }, now, actions);
        }
        Json::array(self.revoked.recent_ids(now).map(TaskId::as_str))
    }

    /// celery/worker/control.py `_revoke`
    fn revoke_ids(
        &mut self,
        question: QuestionId,
        ids: Vec<TaskId>,
        terminate: Option<Signal>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let revocations = ids.iter().cloned().map(Revocation::Id).collect();
        let found = self.revoke(Revoke { revocations, terminate }, now, actions);
        let answer = match terminate {
            None => ok(&format!("tasks {} flagged as revoked", set(&ids))),
            Some(_) => {
                let known: Vec<&str> = ids
                    .iter()
                    .filter(|id| found.waited.contains(*id) || found.ran.contains(*id))
                    .map(TaskId::as_str)
                    .collect();
                match known.is_empty() {
                    true => ok("terminate: tasks unknown"),
                    false => ok(&format!("terminate: {}", known.join(", "))),
                }
            }
        };
        // Celery stores REVOKED for whatever has not begun anywhere, so that nobody waits for it. What was here
        // is settled, which stores it as well.
        let is_here = |id: &TaskId| found.waited.contains(id) || found.ran.contains(id) || found.ended.contains(id);
        let elsewhere: Vec<TaskId> = ids.into_iter().filter(|id| !is_here(id)).collect();
        for id in &elsewhere {
            self.away.remove(id);
        }
        if elsewhere.is_empty() || !self.limits.look_up || self.marking.len() >= MARKING_MAX {
            return actions.push(Action::Reply(question, answer));
        }
        self.marking.insert(question, answer);
        actions.push(Action::LookUpStates(question, elsewhere));
    }

    /// What is stored about revoked tasks that are not here: those that nobody has begun are revoked there too.
    pub(super) fn states_known(
        &mut self,
        question: QuestionId,
        states: Vec<(TaskId, State)>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let Some(answer) = self.marking.remove(&question) else { return };
        let has_not_begun = |state: &State| match state {
            State::Pending | State::Retry => true,
            State::Custom(name) => name == "RECEIVED" || name == "REJECTED",
            State::Started | State::Success | State::Failure | State::Revoked => false,
        };
        let is_here = |id: &TaskId| self.revoked.contains(&Revocation::Id(id.clone()));
        let records: Vec<ResultRecord> = states
            .into_iter()
            // Un-revoked meanwhile?
            .filter(|(id, state)| has_not_begun(state) && is_here(id))
            .map(|(id, _)| settle::revoked_elsewhere(id, now))
            .collect();
        match records.is_empty() {
            true => actions.push(Action::Reply(question, answer)),
            false => actions.push(Action::StoreThenReply { question, records, answer }),
        }
    }

    /// celery/worker/control.py `revoke_by_stamped_headers`
    fn revoke_stamps(
        &mut self,
        stamps: Vec<Revocation>,
        shown: &str,
        terminate: Option<Signal>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) -> Json {
        let Found { matched, .. } = self.revoke(Revoke { revocations: stamps, terminate }, now, actions);
        let text = match (terminate, matched.is_empty()) {
            (None, _) => format!("headers {shown} flagged as revoked, but not terminated"),
            (Some(_), true) => format!("headers {shown} were not terminated"),
            (Some(_), false) => {
                let matched: Vec<String> = matched
                    .iter()
                    .map(|(header, values)| {
                        let values: Vec<String> = values.iter().map(|value| repr(value, SHOWN_CHARS_MAX)).collect();
                        format!("{}: {{{}}}", repr(&Json::text(header), SHOWN_CHARS_MAX), values.join(", "))
                    })
                    .collect();
                format!("headers {{{}}} revoked", matched.join(", "))
            }
        };
        ok(&text)
    }

    fn unrevoke(&mut self, ids: Vec<TaskId>, actions: &mut Vec<Action>) -> Json {
        let revocations = ids.iter().cloned().map(Revocation::Id);
        let known: Vec<Revocation> = revocations.filter(|it| self.revoked.remove(it)).collect();
        if known.is_empty() {
            return error(&format!("tasks {} are not revoked", set(&ids)));
        }
        let freed: Vec<TaskId> = ids.into_iter().filter(|id| known.contains(&Revocation::Id(id.clone()))).collect();
        let text = format!("tasks {} may run again", set(&freed));
        actions.push(Action::Unremember(known));
        ok(&text)
    }

    fn limit_rate(&mut self, task: &str, rate: Option<Rate>, disabled: bool, now: Timestamp) -> Json {
        let Some(name) = self.serves(task) else { return error("unknown task") };
        self.change_rate(name, rate, now);
        match disabled {
            true => ok("rate limit disabled successfully"),
            false => ok("new rate limit set successfully"),
        }
    }

    fn change_rate(&mut self, task: TaskName, rate: Option<Rate>, now: Timestamp) {
        self.gates.change_rate(&task, rate, now);
        self.rates.insert(task, rate);
    }

    fn limit_time(&mut self, task: &str, hard: Option<Duration>, soft: Option<Duration>) -> Json {
        let Some(name) = self.serves(task) else { return error("unknown task") };
        self.times.insert(name, (hard, soft));
        ok("time limits set successfully")
    }

    /// A queue as it is configured; else as the command describes it, and the configuration all others.
    fn as_described(&self, queue: Queue) -> Queue {
        let described = self.describe_queue(&queue.name);
        let plain = Queue::named(queue.name.clone());
        let is_configured = (&described.exchange, &described.routing_key) != (&plain.exchange, &plain.routing_key);
        match is_configured {
            true => described,
            false => Queue { exchange: queue.exchange, routing_key: queue.routing_key, ..described },
        }
    }

    /// Nothing was to be done, or there is no such queue.
    fn as_it_was(&self, name: &str, state: QueueState, text: &str) -> Json {
        match self.queues().any(|(queue, it)| queue.name.as_str() == name && it == state) {
            true => ok(&format!("queue {name} is {text}")),
            false => error(&format!("not consuming from {name}")),
        }
    }

    fn resize(&mut self, method: &str, by: i64, text: &str) -> Json {
        if self.autoscaled().is_some() {
            return error(&format!("{method} {GROW_UNDER_AUTOSCALE}"));
        }
        match self.grow(by) {
            Ok(_) => ok(text),
            Err(refusal @ (PoolRefusal::TooSmall { .. } | PoolRefusal::TooLarge { .. })) => error(&refusal.to_string()),
            Err(refusal) => ControlError::raised("ValueError", refusal.to_string()).reply(),
        }
    }

    /// The time limits of a task: as they were changed, else as it wants them.
    pub(super) fn task_times(&self, spec: &TaskSpec) -> (Option<Duration>, Option<Duration>) {
        let changed = if self.times.is_empty() { None } else { self.times.get(&spec.name) };
        changed.copied().unwrap_or((spec.options.time_limit, spec.options.soft_time_limit))
    }
}

/// Ids as Python prints a set of texts.
fn set(ids: &[TaskId]) -> String {
    if ids.is_empty() {
        return "set()".to_owned();
    }
    let list = repr(&Json::array(ids.iter().map(TaskId::as_str)), SHOWN_CHARS_MAX);
    match list.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
        Some(inside) => format!("{{{inside}}}"),
        None => list,
    }
}

#[cfg(test)]
mod tests;
