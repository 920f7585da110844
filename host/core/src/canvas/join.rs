//! `|` between signatures (celery/canvas.py `__or__`).

use crate::signature::SignatureError;

use super::links::Terms;
use super::node::{Node, Shape};

/// One signature followed by another.
pub(super) fn join(first: Node, next: Node, terms: &Terms) -> Result<Node, SignatureError> {
    match &first.shape {
        Shape::Group(_) if next.is_empty_group() => Ok(first),
        Shape::Group(_) => Ok(chord_of(first, next)),
        Shape::Chain(_) => join_chain(first, next, terms),
        // A task, or a group of one, is attached to the body.
        Shape::Chord(_) if !next.is_chain() && !is_larger_group(&next) => {
            let mut first = first;
            first.renew();
            extend_body(&mut first, next.unrolled(), terms)?;
            Ok(first)
        }
        _ => {
            let mut tasks = vec![first];
            match next.is_chain() {
                true => tasks.extend(next.unchained(terms)?),
                false => tasks.push(next.unrolled()),
            }
            Ok(Node::chain(tasks))
        }
    }
}

fn join_chain(first: Node, next: Node, terms: &Terms) -> Result<Node, SignatureError> {
    if next.is_empty_group() {
        return Ok(first);
    }
    let next = next.unrolled();
    if next.is_chain() {
        let steps = next.unchained(terms)?;
        return steps.into_iter().try_fold(first, |joined, step| join(joined, step, terms));
    }
    let Shape::Chain(tasks) = &first.shape else { return Ok(first) };
    let (ends_in_group, ends_in_chord) = tasks.last().map_or((false, false), |last| (last.is_group(), last.is_chord()));
    if next.is_group() {
        let mut tasks = first.unchained(terms)?;
        match tasks.last_mut() {
            None => return Ok(next),
            Some(last) if last.is_chord() => extend_body(last, next, terms)?,
            Some(_) => tasks.push(next),
        }
        return Ok(Node::chain(tasks));
    }
    if !ends_in_group && (!ends_in_chord || next.is_chord()) {
        let mut tasks = first.unchained(terms)?;
        tasks.push(next);
        return Ok(Node::chain(tasks));
    }
    let mut joined = first;
    joined.renew();
    let Shape::Chain(tasks) = &mut joined.shape else { return Ok(joined) };
    let Some(last) = tasks.pop() else { return Ok(joined) };
    if ends_in_chord {
        tasks.push(last);
        let last = tasks.last_mut().expect("it was pushed");
        extend_body(last, next, terms)?;
        return Ok(joined);
    }
    let chord = chord_of(last, next);
    match tasks.last_mut() {
        // Two chords in a row are one, whose body goes on.
        Some(before) if before.is_chord() => extend_body(before, chord, terms)?,
        _ => tasks.push(chord),
    }
    Ok(joined)
}

/// A group and what is called with its results.
pub(super) fn chord_of(group: Node, body: Node) -> Node {
    match group.shape {
        Shape::Group(tasks) => Node::chord(tasks, body),
        _ => Node::chord(vec![group], body),
    }
}

fn extend_body(chord: &mut Node, next: Node, terms: &Terms) -> Result<(), SignatureError> {
    let chord = chord.as_chord_mut().ok_or(SignatureError::Bodyless)?;
    let body = chord.body.take().ok_or(SignatureError::Bodyless)?;
    chord.body = Some(join(body, next, terms)?);
    Ok(())
}

fn is_larger_group(node: &Node) -> bool {
    matches!(&node.shape, Shape::Group(tasks) if tasks.len() != 1)
}
