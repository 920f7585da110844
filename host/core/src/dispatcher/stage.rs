//! Where a delivery is on its way through the worker.
//!
//! Only data: the dispatcher moves deliveries from stage to stage.

use std::sync::Arc;

use crate::message::Acknowledgement;
use crate::name::{PluginName, TaskName};
use crate::outcome::{Attempt, DeliveryId, Policy};
use crate::protocol::content::Json;
use crate::request::Request;
use crate::settle::Settlement;
use crate::task::{PluginVersion, TaskSpec};
use crate::timestamp::Timestamp;

use super::gates::Turn;
use super::identity::Identity;

/// One delivery.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) stage: Stage,
    /// Its receipt is void, since the connection that it came by is gone.
    pub(super) lost: bool,
}

/// A request with its spec: an assignment.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) request: Arc<Request>,
    pub(super) spec: Arc<TaskSpec>,
    pub(super) policy: Policy,
    /// The turn that it has, if its task has a concurrency limit.
    pub(super) turn: Option<Turn>,
    /// The rate limit of its task has let it through.
    pub(super) let_through: bool,
    pub(super) received: Timestamp,
}

/// An attempt that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) delivery: DeliveryId,
    pub(super) turn: Option<Turn>,
    /// Its plugin, if that may have only so many at a time.
    pub(super) crowd: Option<PluginName>,
}

/// What the timetable is for.
#[derive(Debug)]
pub(super) enum Due {
    /// A hold ends, or a commit is tried again.
    Delivery(DeliveryId),
    /// Somebody may pass the rate limit of this task.
    Gate(TaskName),
    /// Look whether the credit has lapsed.
    Credit,
    /// The pause of a plugin in quarantine is over.
    Breaker(PluginName, PluginVersion),
    /// A version has been tried for long enough.
    Trial(PluginName),
    /// Look whether all slots are needed.
    Slots,
    /// Look whether the store takes results again.
    Spool,
    /// A worker that ends has waited long enough for its store.
    SpoolEnds,
    /// A soft shutdown has waited long enough.
    Cold,
}

/// Whose settlement is carried out.
#[derive(Debug)]
pub(super) struct Commit {
    /// None for a refusal.
    pub(super) attempt: Option<Attempt>,
    /// None for what could not be read.
    pub(super) identity: Option<Identity>,
    /// How often it failed.
    pub(super) failures: u32,
    /// Something of it goes to the result store.
    pub(super) stores: bool,
    /// Bytes of it that are on their way there for the first time.
    pub(super) first_try: Option<usize>,
    /// The message is kept aside.
    pub(super) shelved: bool,
    /// What it is kept aside for.
    pub(super) parked: Option<Parked>,
    /// The request of a refusal that is a member of a chord.
    pub(super) member: Option<Arc<Request>>,
    /// The chord whose body is being published, and the body.
    pub(super) body: Option<(String, Json)>,
}

impl Commit {
    /// Of what has not been carried out yet.
    pub(super) fn new(identity: Option<Identity>) -> Self {
        Self {
            attempt: None,
            identity,
            failures: 0,
            stores: false,
            first_try: None,
            shelved: false,
            parked: None,
            member: None,
            body: None,
        }
    }

    /// Whose it is, if that is known.
    pub(super) fn request(&self) -> Option<&Arc<Request>> {
        self.attempt.as_ref().map(|attempt| &attempt.request).or(self.member.as_ref())
    }
}

/// What a message is kept aside for.
#[derive(Debug)]
pub(super) enum Parked {
    /// The end of this plugin's quarantine.
    Quarantine(PluginName),
    /// A plugin with this task.
    Unknown(TaskName),
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The store is being asked whether this redelivery has succeeded before.
    LookingUp(Box<Request>),
    /// It has a slot, and is being counted before it starts.
    Counting(Work),
    /// It waits for its eta.
    Held(Work),
    /// It waits at a gate, for its rate limit or its concurrency limit.
    Waiting(Work),
    /// It is being given back to the broker until its time has come.
    PuttingBack {
        work: Work,
        until: Timestamp,
    },
    /// It waits for a slot.
    Ready(Work),
    /// It waits until the attempt that published it is committed.
    Behind(Work),
    Running(Attempt),
    Committing {
        commit: Commit,
        acknowledgement: Option<Acknowledgement>,
        /// A new receipt came while this was being committed.
        adopted: bool,
    },
    /// The commit failed and is tried again later, or the message is to go back to its queue and waits for that.
    CommitDelayed {
        commit: Commit,
        settlement: Box<Settlement>,
        requeues: bool,
    },
}

impl Stage {
    /// The identity of what has not started: it can be given back without loss.
    pub(super) fn identity_if_not_started(&self) -> Option<Identity> {
        match self {
            Self::LookingUp(request) => Some(Identity::of(request)),
            Self::Held(work)
            | Self::Waiting(work)
            | Self::Counting(work)
            | Self::Ready(work)
            | Self::Behind(work)
            | Self::PuttingBack { work, .. } => Some(Identity::of(&work.request)),
            Self::Running(_) | Self::Committing { .. } | Self::CommitDelayed { .. } => None,
        }
    }

    /// True if the broker was told, when the attempt started, that this is done with.
    pub(super) fn is_acknowledged(&self) -> bool {
        match self {
            Self::Running(attempt) => !attempt.policy.acks_late,
            Self::Committing { acknowledgement, .. } => acknowledgement.is_none(),
            Self::CommitDelayed { settlement, .. } => settlement.acknowledgement.is_none(),
            Self::LookingUp(_)
            | Self::Counting(_)
            | Self::Held(_)
            | Self::Waiting(_)
            | Self::PuttingBack { .. }
            | Self::Ready(_)
            | Self::Behind(_) => false,
        }
    }
}
