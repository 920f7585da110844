//! Tasks that make signatures, and one that looks at them. Nothing is called.

use serde_json::json;
use taskhost::{Signature, TaskError, chain, chord, group, task};

use crate::replacing::sig;

fn bare() -> Signature {
    sig("add")
}

/// Fails if what it is given, or anything in it, is no signature.
#[task(name = "t.integration.tasks.rebuild_signature")]
pub(crate) fn rebuild_signature(sig_dict: Signature) {
    walk(&sig_dict);
}

fn walk(signature: &Signature) {
    for inner in signature.tasks().iter().chain(signature.body()) {
        walk(inner);
    }
}

/// What Python's `chain(x)` is, which keeps what it is given alone; ours, like `chain([x])` there, takes it apart.
fn chain_of(inner: &Signature) -> Result<Signature, TaskError> {
    let chain = json!({
        "task": "celery.chain",
        "args": [],
        "kwargs": {"tasks": [inner]},
        "options": {},
        "subtask_type": "chain",
        "immutable": false,
    });
    Ok(serde_json::from_value(chain)?)
}

/// A chain of a chain.
#[task(name = "t.integration.tasks.return_nested_signature_chain_chain")]
pub(crate) fn return_nested_signature_chain_chain() -> Result<Signature, TaskError> {
    chain_of(&chain([bare()]))
}

/// A chain of a group.
#[task(name = "t.integration.tasks.return_nested_signature_chain_group")]
pub(crate) fn return_nested_signature_chain_group() -> Result<Signature, TaskError> {
    chain_of(&group([bare()]))
}

/// A chain of a chord.
#[task(name = "t.integration.tasks.return_nested_signature_chain_chord")]
pub(crate) fn return_nested_signature_chain_chord() -> Signature {
    chain([chord([bare()], bare())])
}

/// A group of a chain.
#[task(name = "t.integration.tasks.return_nested_signature_group_chain")]
pub(crate) fn return_nested_signature_group_chain() -> Signature {
    group([chain([bare()])])
}

/// A group of a group, which is a group of its members.
#[task(name = "t.integration.tasks.return_nested_signature_group_group")]
pub(crate) fn return_nested_signature_group_group() -> Signature {
    group(group([bare()]).into_tasks())
}

/// A group of a chord.
#[task(name = "t.integration.tasks.return_nested_signature_group_chord")]
pub(crate) fn return_nested_signature_group_chord() -> Signature {
    group([chord([bare()], bare())])
}

/// A chord after the tasks of a chain.
#[task(name = "t.integration.tasks.return_nested_signature_chord_chain")]
pub(crate) fn return_nested_signature_chord_chain() -> Signature {
    chord(chain([bare()]).into_tasks(), bare())
}

/// A chord after the tasks of a group.
#[task(name = "t.integration.tasks.return_nested_signature_chord_group")]
pub(crate) fn return_nested_signature_chord_group() -> Signature {
    chord(group([bare()]).into_tasks(), bare())
}

/// A chord after a chord.
#[task(name = "t.integration.tasks.return_nested_signature_chord_chord")]
pub(crate) fn return_nested_signature_chord_chord() -> Signature {
    chord([chord([bare()], bare())], bare())
}
