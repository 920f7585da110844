//! Tasks that make signatures, and one that looks at them. Nothing is called.

use taskhost::{Signature, chain, chord, group, task};

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

/// A chain of a chain.
#[task(name = "t.integration.tasks.return_nested_signature_chain_chain")]
pub(crate) fn return_nested_signature_chain_chain() -> Signature {
    chain([chain([bare()])])
}

/// A chain of a group.
#[task(name = "t.integration.tasks.return_nested_signature_chain_group")]
pub(crate) fn return_nested_signature_chain_group() -> Signature {
    chain([group([bare()])])
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

/// A group of a group.
#[task(name = "t.integration.tasks.return_nested_signature_group_group")]
pub(crate) fn return_nested_signature_group_group() -> Signature {
    group([group([bare()])])
}

/// A group of a chord.
#[task(name = "t.integration.tasks.return_nested_signature_group_chord")]
pub(crate) fn return_nested_signature_group_chord() -> Signature {
    group([chord([bare()], bare())])
}

/// A chord after a chain.
#[task(name = "t.integration.tasks.return_nested_signature_chord_chain")]
pub(crate) fn return_nested_signature_chord_chain() -> Signature {
    chord([chain([bare()])], bare())
}

/// A chord after a group.
#[task(name = "t.integration.tasks.return_nested_signature_chord_group")]
pub(crate) fn return_nested_signature_chord_group() -> Signature {
    chord([group([bare()])], bare())
}

/// A chord after a chord.
#[task(name = "t.integration.tasks.return_nested_signature_chord_chord")]
pub(crate) fn return_nested_signature_chord_chord() -> Signature {
    chord([chord([bare()], bare())], bare())
}
