//! What follows a task: its callbacks and the next step of its chain, the failure of all that can never run, the
//! body of a chord (celery/app/trace.py, celery/backends/base.py `mark_as_done`, `mark_as_failure`,
//! `chord_error_from_stack`).
//!
//! Only says it: [`crate::settle`] puts it into settlements. How signatures become messages is known to
//! [`crate::canvas`].

mod chord;
mod failure;
mod success;
#[cfg(test)]
mod tests;

use crate::canvas::SendSettings;
use crate::catalog::Catalog;
use crate::chord::ChordPart;
use crate::message::HeaderValue;
use crate::protocol::content::{Json, Kind};
use crate::record::{ResultRecord, ResultValue, State};
use crate::request::Request;
use crate::settle::{ChordStep, Step};

pub use chord::Broken;
pub(crate) use chord::{Body, fail as fail_body, unlocked, unpublished};
pub(crate) use failure::{Failed, failed};
pub(crate) use success::succeeded;

/// What a worker sends with, and what it knows about its own tasks.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    pub settings: &'a SendSettings,
    pub catalog: &'a Catalog,
    /// Results tell what was called (`result_extended`).
    pub tells_calls: bool,
}

/// What a failure leads to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Aftermath {
    /// Of those that will never run.
    pub(crate) records: Vec<ResultRecord>,
    /// Chords that had their part in one of them.
    pub(crate) chord: Vec<ChordStep>,
    /// Errbacks.
    pub(crate) after: Vec<Step>,
    /// Errbacks that nobody can publish, and why.
    pub(crate) remarks: Vec<String>,
}

/// The third part of a body, of protocol 2.
#[derive(Debug, Default)]
pub(crate) struct Embedded {
    pub(crate) callbacks: Vec<Json>,
    pub(crate) errbacks: Vec<Json>,
    /// What is left of its chain; the next step is the last one here.
    pub(crate) chain: Vec<Json>,
    /// The body of the chord that it is a member of.
    pub(crate) chord: Option<Json>,
}

impl Embedded {
    /// In one pass: nearly all messages have these keys, and nothing under them.
    pub(crate) fn of(embed: &Json) -> Self {
        let mut read = Self::default();
        if embed.kind() != Kind::Map {
            return read;
        }
        for (key, value) in embed.members() {
            match &*key {
                _ if value.is_null() => {}
                "callbacks" => read.callbacks = list(&value),
                "errbacks" => read.errbacks = list(&value),
                "chain" => read.chain = list(&value),
                "chord" => read.chord = Some(value),
                _ => {}
            }
        }
        read
    }
}

/// Signatures, or the only one (`maybe_list`).
fn list(value: &Json) -> Vec<Json> {
    match value.kind() {
        Kind::List => value.elements().collect(),
        Kind::Map => vec![value.clone()],
        _ => Vec::new(),
    }
}

/// The part that a task has in the chord that it is a member of.
pub(crate) fn part(request: &Request, chord: Option<Json>, state: State, result: ResultValue) -> Option<ChordStep> {
    let (body, group) = chord.zip(request.group_id.clone().filter(|group| !group.is_empty()))?;
    let index = match request.message.headers.get("group_index") {
        Some(HeaderValue::Int(index)) => Some(*index),
        _ => None,
    };
    let is_new = !request.may_have_come_before();
    Some(ChordStep::Count(ChordPart { group, task: request.id.clone(), index, state, result, is_new, body }))
}

/// As [`part`], of one that will not run, or was not wanted any more.
pub(crate) fn part_of(request: &Request, state: State, result: &ResultValue) -> Option<ChordStep> {
    // Nearly no task is a member of a chord.
    request.group_id.as_ref()?;
    part(request, Embedded::of(&request.embed).chord, state, result.clone())
}
