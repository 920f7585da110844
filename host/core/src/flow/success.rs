//! What a task that has succeeded leads to: its callbacks and the next step of its chain, each with its result as
//! the first argument (celery/app/trace.py, at `callbacks = task.request.callbacks`).

use crate::canvas::{Canvas, Ids, PartialCall, Sender};
use crate::protocol::content::Json;
use crate::record::{ResultValue, State};
use crate::request::Request;
use crate::settle::{ChordStep, Step};
use crate::signature::SignatureError;
use crate::timestamp::Timestamp;

use super::{Embedded, Means, part};

/// What follows, and what of it is told with the result.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Next {
    pub(crate) steps: Vec<Step>,
    pub(crate) children: Vec<Json>,
    pub(crate) chord: Option<ChordStep>,
}

/// What follows this result.
pub(crate) fn succeeded(
    means: Means<'_>,
    request: &Request,
    result: &Json,
    now: Timestamp,
) -> Result<Next, SignatureError> {
    let mut next = Next::default();
    if request.embed.is_null() {
        return Ok(next);
    }
    let Embedded { callbacks, mut chain, chord, .. } = Embedded::of(&request.embed);
    let step = chain.pop();
    if !callbacks.is_empty() || step.is_some() {
        let sender = Sender { request, settings: means.settings };
        let mut ids = Ids::of_callbacks(request);
        let args = [result.clone()];
        let call = |chain| PartialCall {
            args: &args,
            chain,
            parent_id: Some(request.id.to_string()),
            root_id: Some(request.root_id.clone().unwrap_or_else(|| request.id.to_string())),
            priority: request.message.properties.priority.filter(|_| means.settings.inherit_parent_priority),
            follows: true,
            ..PartialCall::default()
        };
        let mut add = |applied: crate::canvas::Applied| {
            next.steps.extend(applied.steps);
            next.children.extend(applied.children);
        };
        match &*callbacks {
            [] => {}
            [only] => add(sender.apply(&Canvas::read(only)?, call(&[]), &mut ids, now)?),
            several => {
                let (groups, tasks): (Vec<Json>, Vec<Json>) = several.iter().cloned().partition(is_group);
                for group in &groups {
                    add(sender.apply(&Canvas::read(group)?, call(&[]), &mut ids, now)?);
                }
                if !tasks.is_empty() {
                    add(sender.apply_group(&tasks, call(&[]), &mut ids, now)?);
                }
            }
        }
        if let Some(step) = step {
            add(sender.apply(&Canvas::read(&step)?, call(&chain), &mut ids, now)?);
        }
    }
    next.chord = part(request, chord, State::Success, ResultValue::Json(result.clone()));
    Ok(next)
}

fn is_group(signature: &Json) -> bool {
    signature.get("subtask_type").is_some_and(|kind| kind.as_text().as_deref() == Some("group"))
}
