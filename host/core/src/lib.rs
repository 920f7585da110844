//! The vocabulary of Taskhost, the Celery protocol, and every decision about a message.
//!
//! Pure: no async, no clock, no randomness and no I/O. Time and chance are arguments, and whatever
//! has to be done is returned as a value for another crate to do.

pub mod admit;
pub mod arity;
pub mod breaker;
pub mod builtin;
pub mod canvas;
pub mod catalog;
pub mod chord;
pub mod concurrency;
pub mod control;
pub mod dead;
pub mod dispatcher;
pub mod event;
pub mod exception;
pub mod flow;
pub mod message;
pub mod name;
pub mod outcome;
pub mod protocol;
pub mod queue;
pub mod rate;
pub mod record;
pub mod redacted;
pub mod request;
pub mod retry;
pub mod revoke;
pub mod rollout;
pub mod route;
pub mod settle;
pub mod signature;
pub mod task;
pub mod timestamp;
pub mod timetable;
pub mod trace;
mod usage;

pub use arity::Arity;
pub use canvas::{Applied, Canvas, PartialCall};
pub use catalog::{Catalog, Rollout, RolloutTerms};
pub use chord::{ChordPart, ChordStyle, ClaimedChord, Progress};
pub use event::{Event, Happening};
pub use exception::Exception;
pub use message::{Acknowledgement, DeliveryInfo, HeaderValue, Headers, Message, Properties, Publication, Route};
pub use name::{NameError, NodeName, PluginName, QueueName, TaskId, TaskName};
pub use outcome::{
    Attempt, AttemptId, Child, DeliveryId, Finished, Limit, Outcome, Policy, RetryDelay, RetryRequest, Trap, Unlocked,
    Violation,
};
pub use protocol::codec::Codec;
pub use protocol::content::Json;
pub use queue::{Exchange, ExchangeKind, Queue, QueueKind, Queues};
pub use record::{ResultRecord, State, StateNameError, StoredResult};
pub use redacted::RedactedUrl;
pub use request::{DecodeError, Request};
pub use route::{Destination, QueueNotFound, Routed, Router};
pub use signature::{Ids, SendSettings, Sender, Signature, SignatureError};
pub use task::{Disposition, PluginVersion, RetryOn, TaskOptions, TaskSpec};
pub use timestamp::{Jitter, Timestamp};
pub use usage::Usage;
