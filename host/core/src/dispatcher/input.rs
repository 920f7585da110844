//! Everything that can happen to the dispatcher, everything that it can want, and its settings.
//!
//! Both enums are closed: the list of what can happen is a type.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::breaker::BreakerRule;
use crate::canvas::SendSettings;
use crate::catalog::Catalog;
use crate::chord::ClaimedChord;
use crate::control::{Command, Signal};
use crate::event::Event;
use crate::message::{Acknowledgement, DeliveryInfo, Message, Publication};
use crate::name::{NodeName, PluginName, QueueName, TaskId, TaskName};
use crate::outcome::{Attempt, AttemptId, DeliveryId, Finished, Policy};
use crate::protocol::content::Json;
use crate::queue::Queue;
use crate::rate::Rate;
use crate::record::{ResultRecord, State};
use crate::request::{DecodeError, Request};
use crate::revoke::Revocation;
use crate::rollout::Verdict;
use crate::settle::Settlement;
use crate::task::{Disposition, PluginVersion, TaskOptions};
use crate::timestamp::Timestamp;

use super::PREFETCH_MAX;
use super::pool::Autoscale;
use super::spool::{SpoolEvent, SpoolLimits};

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// The broker handed us a message.
    Received(DeliveryId, Result<Box<Request>, DecodeError>),
    /// A message that an earlier process of this worker left in its journal.
    Resumed(DeliveryId, Result<Box<Request>, DecodeError>),
    /// The answer to [`Action::LookUp`].
    LookedUp(DeliveryId, Lookup),
    /// The answer to [`Action::Count`]: so often, this time included; zero if nobody knows.
    Counted(DeliveryId, u32),
    /// The time of an earlier [`Action::WakeAt`] has come.
    Due,
    /// An attempt ended.
    Finished(AttemptId, Box<Finished>),
    /// The answer to [`Action::PutBack`]: the broker has it, or it is still ours.
    PutBack(DeliveryId, bool),
    /// A settlement was carried out.
    Committed(DeliveryId),
    /// A step of a settlement failed.
    CommitFailed(DeliveryId, Box<CommitFailure>),
    /// A part of a chord was the last, and the body is ours to publish.
    ChordReady(DeliveryId, Box<ReadyChord>),
    /// The connection to the broker is gone, and every receipt with it.
    BrokerLost,
    /// There is a new connection; it can, or cannot, keep messages until a later time, and does, or does
    /// not, take back what stays unsettled for too long. Its clock may be far from ours.
    BrokerBack { puts_back: bool, times_out: bool, clock_is_wrong: bool },
    /// The answer to [`Action::Journal`]: the message is kept there and its receipt replaced, or neither.
    Journaled(DeliveryId, bool),
    /// The answer to [`Action::Acquire`]: how long until it may start, or that nobody knows now.
    Permit(DeliveryId, TaskName, Option<Duration>),
    /// A queue of [`Action::Consume`] can never be consumed.
    CannotConsume(QueueName),
    /// Somebody asks or tells something; answered by [`Action::Reply`] or [`Action::StoreThenReply`].
    Control(QuestionId, Box<Command>),
    /// The answer to [`Action::LookUpStates`], as far as there is one.
    States(QuestionId, Vec<(TaskId, State)>),
    /// Plugins came, went or changed.
    CatalogChanged(Arc<Catalog>),
    /// The worker is to come to an end.
    Stop(Shutdown),
}

/// Something to be done.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Ask what is known about a redelivery; answered by [`Input::LookedUp`].
    LookUp(DeliveryId, TaskId),
    /// This execution starts although it was delivered before, and its broker does not count: count it before
    /// it does; answered by [`Input::Counted`].
    Count(DeliveryId, String),
    /// Run this; answered by [`Input::Finished`].
    Start(Attempt),
    /// Settle this delivery and forget it. Nothing to do if its receipt is void or spent.
    Settle(DeliveryId, Acknowledgement),
    /// Give this back to the broker until its time has come; answered by [`Input::PutBack`].
    PutBack { delivery: DeliveryId, publication: Box<Publication>, until: Timestamp },
    /// Ask those who share the rate limit of this task when this may start; answered by [`Input::Permit`].
    Acquire { delivery: DeliveryId, task: TaskName, rate: Rate },
    /// Keep this message in the journal, and tell the broker that it is done with; answered by
    /// [`Input::Journaled`].
    Journal(DeliveryId, Box<Kept>),
    /// The receipt of `redelivered` becomes that of `known`.
    Adopt { known: DeliveryId, redelivered: DeliveryId },
    /// Store this, before anything that is committed later.
    Record(ResultRecord),
    /// Carry this out; answered by [`Input::Committed`] or [`Input::CommitFailed`].
    Commit(DeliveryId, Settlement),
    /// The answer to a command.
    Reply(QuestionId, Json),
    /// Ask which states are stored for these; answered by [`Input::States`].
    LookUpStates(QuestionId, Vec<TaskId>),
    /// Store these, and answer then.
    StoreThenReply { question: QuestionId, records: Vec<ResultRecord>, answer: Json },
    /// A client wants this task to be stopped: for the log.
    Terminating(TaskId, Signal),
    /// Stop this attempt; it finishes as interrupted.
    Terminate(AttemptId),
    /// Keep these for the next start of this worker.
    Remember(Vec<Revocation>),
    /// Forget that these are revoked.
    Unremember(Vec<Revocation>),
    /// The deliveries of this execution need no longer be counted.
    ForgetCount(String),
    /// Send [`Input::Due`] at this time. Takes the place of a later one.
    WakeAt(Timestamp),
    /// Take so many unsettled deliveries from now on.
    SetPrefetch(u32),
    /// Take messages from these queues, and from no others.
    Consume(Vec<Queue>),
    /// Take no more messages.
    StopConsuming,
    /// Tell whoever watches.
    Announce(Event),
    /// Tell the operator.
    Spool(SpoolEvent),
    /// Tell whoever has the plugins.
    Plugin(PluginEvent),
    /// Parked messages may go back to their queues: those of this plugin, or all if there is none; no more
    /// than so many.
    BringHome { plugin: Option<PluginName>, at_most: Option<u64> },
    /// What runs may go on for so long.
    SoftShutdown(Duration),
    /// What runs is stopped.
    ColdShutdown,
    /// Everything is settled: the worker may end.
    Stopped,
}

/// Identifies a question of remote control within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuestionId(pub u64);

/// What became of a plugin by the way its attempts end.
#[derive(Debug, Clone, PartialEq)]
pub enum PluginEvent {
    /// Its tasks are parked, and nothing of it runs until then.
    Quarantined { plugin: PluginName, version: PluginVersion, rule: BreakerRule, first: bool },
    /// One attempt may show how it is.
    HalfOpen { plugin: PluginName, version: PluginVersion },
    /// Its tasks run again.
    Recovered { plugin: PluginName, version: PluginVersion },
    /// A version on trial has shown itself.
    Judged(Verdict),
}

/// What is known about a redelivery. The default is what counts when nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lookup {
    /// The store says that it has succeeded before, with this result.
    pub succeeded: Option<Json>,
}

/// A message as the journal keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub message: Message,
    pub info: DeliveryInfo,
}

/// A chord all of whose parts are there.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadyChord {
    pub claimed: ClaimedChord,
    /// The signature of its body.
    pub body: Json,
    /// What else is to be done for the delivery that brought the last part.
    pub remaining: Settlement,
}

/// How a commit failed.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitFailure {
    /// What has not been done, the failed step included.
    pub remaining: Settlement,
    /// It may work later.
    pub transient: bool,
    /// It cannot work before this time has passed; none leaves it to the dispatcher when to try again.
    pub wait: Option<Duration>,
    /// For people.
    pub reason: String,
}

/// How to come to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Finish what runs and give back the rest.
    Warm,
    /// Stop what runs, after [`Limits::soft_shutdown_timeout`] if there is one, and give back everything.
    Cold,
}

/// The bounds within which the dispatcher works, from the configuration.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Slots: how many attempts run at a time.
    pub concurrency: usize,
    /// How many there may be, when the pool grows.
    pub concurrency_max: usize,
    /// The number of slots follows the load.
    pub autoscale: Option<Autoscale>,
    /// Prefetch is this times the slots; zero is no bound (`worker_prefetch_multiplier`).
    pub prefetch_multiplier: u32,
    /// How far the prefetch may grow while tasks are short; zero: not at all.
    pub prefetch_max: u32,
    /// Take no more messages than there are slots (`worker_disable_prefetch`).
    pub disable_prefetch: bool,
    /// Longest wait for an ETA in this worker's memory; for longer ones the broker keeps the message.
    pub eta_hold: Duration,
    /// How often a message may be delivered before it is kept aside; none is no limit.
    pub delivery_limit: Option<u32>,
    /// How long a delivery may stay unsettled at a broker that takes it back then; none: without end.
    pub consumer_timeout: Option<Duration>,
    /// There is a journal that outlives this process.
    pub journals: bool,
    /// How many held deliveries may raise the prefetch.
    pub held_max: u32,
    /// The same for those that wait for a rate limit or a concurrency limit.
    pub limited_max: u32,
    /// How many deliveries may wait for their commit before no more are started.
    pub committing_max: usize,
    /// How many outcomes may wait for the result store.
    pub spool: SpoolLimits,
    /// How many committed executions are remembered for redeliveries.
    pub remembered_max: NonZeroUsize,
    /// How long a cold shutdown waits for what runs (`worker_soft_shutdown_timeout`).
    pub soft_shutdown_timeout: Option<Duration>,
    /// What becomes of a task that no plugin had since this node exists.
    pub unknown_task: Disposition,
    /// What becomes of a task that a plugin had before.
    pub removed_task: Disposition,
    /// Ceiling of every hard time limit.
    pub time_limit_max: Duration,
    /// When a plugin comes into quarantine; never, without it.
    pub quarantine: Option<BreakerRule>,
    /// Ask the store about redeliveries.
    pub look_up: bool,
    /// Store with each result what the call was, and this worker's name (`result_extended`).
    pub result_extended: Option<NodeName>,
    /// What STARTED stores: `{"pid": .., "hostname": ..}`.
    pub started_meta: Json,
    /// How what follows tasks is published.
    pub sending: Arc<SendSettings>,
    pub task: TaskDefaults,
}

impl Limits {
    /// The prefetch while so many deliveries are held and wait for limits, with this credit, and while so many are
    /// only here since their results cannot be stored.
    pub(super) fn prefetch(&self, held: u32, limited: u32, credit: u32, spooled: u32) -> u32 {
        // As in Celery, for the slots that there may be: those that come do not wait for messages.
        let slots = self.autoscale.map_or(self.concurrency, |bounds| bounds.max);
        let slots = u32::try_from(slots).unwrap_or(PREFETCH_MAX);
        let base = if self.disable_prefetch { slots } else { slots.saturating_mul(self.prefetch_multiplier) };
        if base == 0 {
            return 0;
        }
        let waiting = held.min(self.held_max).saturating_add(limited.min(self.limited_max));
        base.max(credit).saturating_add(waiting).saturating_add(spooled).min(PREFETCH_MAX)
    }

    /// The largest credit beyond the multiple.
    pub(super) fn credit_max(&self) -> u32 {
        if self.disable_prefetch { 0 } else { self.prefetch_max }
    }

    /// Hard and soft limit of an attempt: the message's, else the task's, else the worker's, and never
    /// beyond the ceiling. A soft limit that would come after the hard one is none.
    pub(super) fn time_limits(
        &self,
        request: &Request,
        (task_hard, task_soft): (Option<Duration>, Option<Duration>),
    ) -> (Duration, Option<Duration>) {
        let given = |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero());
        let hard = given(request.time_limit).or(given(task_hard)).or(given(self.task.time_limit));
        let hard = hard.unwrap_or(self.time_limit_max).min(self.time_limit_max);
        let soft = given(request.soft_time_limit).or(given(task_soft)).or(given(self.task.soft_time_limit));
        (hard, soft.filter(|soft| *soft < hard))
    }
}

/// What holds for a task unless its plugin, or the message, says otherwise (Celery's `task_*` settings).
#[derive(Debug, Clone)]
pub struct TaskDefaults {
    pub acks_late: bool,
    /// None is as `acks_on_failure_or_timeout`.
    pub acks_on_failure: Option<bool>,
    pub acks_on_timeout: Option<bool>,
    pub acks_on_failure_or_timeout: bool,
    pub reject_on_worker_lost: bool,
    pub retry_on_worker_lost: bool,
    pub ignore_result: bool,
    pub store_errors_even_if_ignored: bool,
    pub track_started: bool,
    pub store_usage: bool,
    pub time_limit: Option<Duration>,
    pub soft_time_limit: Option<Duration>,
    pub rate_limit: Option<Rate>,
}

impl TaskDefaults {
    pub(super) fn policy(&self, request: &Request, options: &TaskOptions) -> Policy {
        // celery/app/task.py `Task.bind`: a worker's word on one of both counts more than a task's on both.
        let both = options.acks_on_failure_or_timeout.unwrap_or(self.acks_on_failure_or_timeout);
        Policy {
            acks_late: options.acks_late.unwrap_or(self.acks_late),
            acks_on_failure: options.acks_on_failure.or(self.acks_on_failure).unwrap_or(both),
            acks_on_timeout: options.acks_on_timeout.or(self.acks_on_timeout).unwrap_or(both),
            reject_on_worker_lost: options.reject_on_worker_lost.unwrap_or(self.reject_on_worker_lost),
            retry_on_worker_lost: options.retry_on_worker_lost.unwrap_or(self.retry_on_worker_lost),
            ignore_result: request.ignore_result.or(options.ignore_result).unwrap_or(self.ignore_result),
            store_errors: options.store_errors_even_if_ignored.unwrap_or(self.store_errors_even_if_ignored),
            track_started: options.track_started.unwrap_or(self.track_started),
            store_usage: self.store_usage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::fixture::{limits, request};

    /// The task's and then the worker's word on (failure, time-out, both).
    #[track_caller]
    fn check(task: [Option<bool>; 3], worker: (Option<bool>, Option<bool>, bool), failure: bool, timeout: bool) {
        let [acks_on_failure, acks_on_timeout, acks_on_failure_or_timeout] = task;
        let options =
            TaskOptions { acks_on_failure, acks_on_timeout, acks_on_failure_or_timeout, ..TaskOptions::default() };
        let (acks_on_failure, acks_on_timeout, acks_on_failure_or_timeout) = worker;
        let defaults = TaskDefaults { acks_on_failure, acks_on_timeout, acks_on_failure_or_timeout, ..limits(1).task };
        let policy = defaults.policy(&request("tasks.add", "id"), &options);
        assert_eq!((policy.acks_on_failure, policy.acks_on_timeout), (failure, timeout));
    }

    #[test]
    fn the_nearest_word_on_an_acknowledgement_counts() {
        const NO: Option<bool> = Some(false);
        const YES: Option<bool> = Some(true);
        check([None, None, None], (None, None, true), true, true);
        check([None, None, None], (None, None, false), false, false);
        check([None, None, NO], (None, None, true), false, false);
        check([YES, None, NO], (None, None, true), true, false);
        check([None, NO, None], (None, None, true), true, false);
        check([None, None, None], (NO, None, true), false, true);
        check([YES, None, None], (NO, NO, true), true, false);
        check([None, None, YES], (NO, None, false), false, true);
    }
}
