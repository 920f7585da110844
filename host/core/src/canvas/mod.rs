//! Signatures of every shape, and what is published when one is applied: chains, groups, chords and chunks are
//! taken apart as Celery takes them apart (celery/canvas.py of 5.7).
//!
//! Publishes nothing and stores nothing: what is to be done comes back as steps, in order. What becomes of a
//! single task's options is written in [`crate::signature`].

mod apply;
mod chord;
mod freeze;
mod gate;
#[cfg(test)]
mod golden;
mod join;
mod links;
mod node;
mod options;
mod read;
mod replace;
mod results;
mod run;
#[cfg(test)]
mod tests;
mod write;

use crate::protocol::content::Json;
use crate::settle::Step;
use crate::signature::SignatureError;
use crate::timestamp::Timestamp;

pub use crate::signature::{Ids, SendSettings, Sender, Signature};

use node::Node;
use options::Options;
use run::Run;

/// A signature of any shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Canvas(Node);

/// What a signature is applied with: the partial arguments and options of Celery's `apply_async`.
#[derive(Debug, Clone, Default)]
pub struct PartialCall<'a> {
    /// Put before the arguments of whatever is not immutable.
    pub args: &'a [Json],
    /// Put over the keyword arguments of whatever is not immutable: a JSON object.
    pub kwargs: Option<&'a Json>,
    /// What follows, as the message of a chain's step carries it: the last one first.
    pub chain: &'a [Json],
    /// The running task, if none is given.
    pub parent_id: Option<String>,
    /// The running task's root, if none is given.
    pub root_id: Option<String>,
    pub priority: Option<u8>,
    /// It follows a task that has succeeded, as its callback or as the next step of its chain. Celery's worker then
    /// says of parent, root and priority that there is none where there is none, and what a composite signature says
    /// itself does not count. Of the body of a chord it does.
    pub follows: bool,
}

/// What comes of applying a signature.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// In this order.
    pub steps: Vec<Step>,
    /// The result tuple of the whole; null of a chain without steps, of which nothing comes.
    pub result: Json,
    /// The result tuples that become children of the running task: of a chain that of its first step, of a chord
    /// that of its header.
    pub children: Vec<Json>,
}

impl Canvas {
    /// Reads a text.
    pub fn parse(text: String) -> Result<Self, SignatureError> {
        Self::read(&Json::parse(text)?)
    }

    /// Reads a map.
    pub fn read(signature: &Json) -> Result<Self, SignatureError> {
        Ok(Self(read::lenient(signature)?))
    }

    /// As Celery writes it.
    pub fn to_json(&self) -> Json {
        write::signature(&self.0)
    }

    /// Every task that may be published because of it, links and all, each with every way that it may go; or
    /// what is wrong with it. For whoever decides about signatures that are not to be trusted: it is an error to
    /// ask for what is not known, and not only without effect.
    pub fn signatures(&self) -> Result<Vec<Signature>, SignatureError> {
        gate::signatures(&self.0)
    }
}

impl Sender<'_> {
    /// `Signature.apply_async`, inside of the running task.
    pub fn apply(
        &self,
        canvas: &Canvas,
        call: PartialCall<'_>,
        ids: &mut Ids,
        now: Timestamp,
    ) -> Result<Applied, SignatureError> {
        let mut run = Run::new(*self, ids, now);
        let result = run.apply(canvas.0.clone(), call.args, call.kwargs, &given(&call))?;
        Ok(run.finish(result))
    }

    /// `group(members).apply_async`.
    pub fn apply_group(
        &self,
        members: &[Json],
        call: PartialCall<'_>,
        ids: &mut Ids,
        now: Timestamp,
    ) -> Result<Applied, SignatureError> {
        let read = |(index, member)| {
            read::lenient(member).map_err(|error: SignatureError| error.within(&format!("[{index}]")))
        };
        let members = members.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        let mut run = Run::new(*self, ids, now);
        let result = run.apply(Node::group(members), call.args, call.kwargs, &given(&call))?;
        Ok(run.finish(result))
    }
}

/// The options that a call is made with, as Celery's worker gives them.
fn given(call: &PartialCall<'_>) -> Options {
    let mut given = Options::default();
    if !call.chain.is_empty() {
        given.set_json("chain", Json::array(call.chain));
    }
    let text = |text: &Option<String>| text.as_deref().map(Json::text);
    let options = [
        ("parent_id", text(&call.parent_id)),
        ("root_id", text(&call.root_id)),
        ("priority", call.priority.map(|it| Json::of(&it))),
    ];
    for (key, value) in options {
        if let Some(value) = value.or(call.follows.then(Json::null)) {
            given.set_json(key, value);
        }
    }
    given
}
