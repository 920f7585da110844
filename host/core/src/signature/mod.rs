//! A task call that somebody wants to be published: the options of a plain signature, read and checked, and the
//! message and the way that come of them (celery/app/base.py `send_task`).
//!
//! What signatures are made of, and what of theirs is sent, is the business of [`crate::canvas`]. Who may publish
//! what is not known here.

mod error;
mod ids;
mod options;
mod send;

use crate::name::TaskName;
use crate::route::Destination;

pub use error::SignatureError;
pub use ids::{Ids, was_sent_before};
pub(crate) use options::Manner;
pub(crate) use send::Plain;
pub use send::{SendSettings, Sender};

/// A task that a signature publishes, and a way that it may go.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    pub task: TaskName,
    destination: Destination,
    replies: bool,
}

impl Signature {
    pub(crate) fn new(task: TaskName, destination: Destination, replies: bool) -> Self {
        Self { task, destination, replies }
    }

    /// What is said about where it goes.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// True if it is said where its result goes.
    pub fn has_reply_to(&self) -> bool {
        self.replies
    }
}
