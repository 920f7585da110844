//! Composes signatures by the rules of Celery's operators (celery/canvas.py `_fold_chain` and the `__or__` of each
//! class), so that what a guest builds is what a Python client would have built.

use std::ops::BitOr;

use serde::Serialize;

use crate::json::Json;

use super::{Kind, Shape, Signature};

/// Tasks one after the other, each called with the result of the one before. A group in it makes a chord with what
/// follows; a group of one is its member, an empty one is left out.
///
/// ```
/// # use taskhost::{Kind, Signature, chain};
/// let [fetch, parse, store] = ["fetch", "parse", "store"].map(Signature::new);
/// let both = chain([fetch.clone(), parse.clone(), store.clone()]);
/// assert_eq!(both, fetch | parse | store);
/// assert_eq!((both.kind(), both.tasks().len()), (Kind::Chain, 3));
/// ```
pub fn chain(tasks: impl IntoIterator<Item = Signature>) -> Signature {
    let mut steps = Vec::new();
    let mut tasks = tasks.into_iter();
    while let Some(task) = tasks.next() {
        if let Some(no_chain) = append(&mut steps, task) {
            return tasks.fold(no_chain, BitOr::bitor);
        }
    }
    composed(Kind::Chain, Shape::Chain(steps))
}

/// Tasks beside each other.
///
/// ```
/// # use taskhost::{Signature, group};
/// let pages = group((1..=3).map(|page| Signature::new("tasks.fetch").args((page,))));
/// assert_eq!(pages.tasks().len(), 3);
/// ```
pub fn group(tasks: impl IntoIterator<Item = Signature>) -> Signature {
    composed(Kind::Group, Shape::Group(tasks.into_iter().collect()))
}

/// Tasks beside each other, and one that is called with the list of all of their results once they have succeeded.
///
/// ```
/// # use taskhost::{Signature, chord};
/// let pages = (1..=3).map(|page| Signature::new("tasks.fetch").args((page,)));
/// let book = chord(pages, Signature::new("tasks.bind"));
/// assert_eq!(book.body().map(Signature::task), Some("tasks.bind"));
/// ```
pub fn chord(header: impl IntoIterator<Item = Signature>, body: Signature) -> Signature {
    let (header, body) = (header.into_iter().collect(), Some(Box::new(body)));
    let others = vec![("kwargs".to_owned(), Json::from_text("{}"))];
    composed(Kind::Chord, Shape::Chord { header, body, others })
}

/// Calls of one task, each with its list of arguments, so many of them to a message: Celery's `task.chunks(it, n)`.
///
/// ```
/// # use taskhost::{Signature, chunks};
/// // Three messages, whose tasks return [3, 7], [11, 15] and [19].
/// chunks(Signature::new("tasks.add"), [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10)], 2);
/// ```
pub fn chunks(task: Signature, it: impl Serialize, n: usize) -> Signature {
    let n = Json::from_text(n.to_string());
    over(Kind::Chunks, task, &it, |task, it| Shape::Chunks { task, it, n })
}

/// Calls of one task in one message, each with one argument; it returns the list of their results: Celery's
/// `task.map(it)`.
pub fn xmap(task: Signature, it: impl Serialize) -> Signature {
    over(Kind::Map, task, &it, |task, it| Shape::Map { task, it })
}

/// Calls of one task in one message, each with its list of arguments; it returns the list of their results: Celery's
/// `task.starmap(it)`.
pub fn xstarmap(task: Signature, it: impl Serialize) -> Signature {
    over(Kind::Starmap, task, &it, |task, it| Shape::Starmap { task, it })
}

fn over(
    kind: Kind,
    task: Signature,
    it: &impl Serialize,
    shape: impl FnOnce(Box<Signature>, Json) -> Shape,
) -> Signature {
    let (it, why) = match Json::from_value(it) {
        Ok(it) if it.as_str().starts_with('[') => (it, None),
        Ok(_) => (Json::from_text("[]"), Some("what it is called with is no list".to_owned())),
        Err(error) => (Json::from_text("[]"), Some(format!("not JSON serializable: {error}"))),
    };
    Signature { immutable: true, broken: why, ..composed(kind, shape(Box::new(task), it)) }
}

fn composed(kind: Kind, shape: Shape) -> Signature {
    let (task, _) = kind.names().expect("only a plain task has none");
    Signature::of(task.to_owned(), shape)
}

impl BitOr for Signature {
    type Output = Self;

    /// The chain of both, as Celery's operator makes it.
    fn bitor(self, other: Self) -> Self {
        if is_empty_group(&other) {
            return self;
        }
        match (self.kind(), other.kind()) {
            (Kind::Chain, _) => {
                let mut steps = unchain(self);
                append(&mut steps, other).unwrap_or_else(|| composed(Kind::Chain, Shape::Chain(steps)))
            }
            (Kind::Group, _) => chord(self.into_tasks(), other),
            (Kind::Chord, Kind::Group) if other.tasks().len() == 1 => into_body(self, unroll(other)),
            (Kind::Chord, kind) if !matches!(kind, Kind::Group | Kind::Chain) => into_body(self, other),
            (_, Kind::Chain) => {
                let mut steps = vec![self];
                steps.extend(unchain(other));
                composed(Kind::Chain, Shape::Chain(steps))
            }
            _ => composed(Kind::Chain, Shape::Chain(vec![self, unroll(other)])),
        }
    }
}

/// Adds to the steps of a chain; gives what is no chain any more, and has taken the steps.
fn append(steps: &mut Vec<Signature>, other: Signature) -> Option<Signature> {
    if is_empty_group(&other) {
        return None;
    }
    match other.kind() {
        Kind::Group if other.tasks().len() == 1 => append(steps, unroll(other)),
        Kind::Group if steps.is_empty() => Some(other),
        Kind::Group => {
            match steps.pop() {
                Some(last) if last.kind() == Kind::Chord => steps.push(into_body(last, other)),
                last => steps.extend(last.into_iter().chain([other])),
            }
            None
        }
        Kind::Chain => {
            let mut rest = unchain(other).into_iter();
            while let Some(step) = rest.next() {
                if let Some(no_chain) = append(steps, step) {
                    return Some(rest.fold(no_chain, BitOr::bitor));
                }
            }
            None
        }
        kind => {
            match steps.pop() {
                Some(last) if last.kind() == Kind::Group => steps.push(chord(last.into_tasks(), other)),
                Some(last) if last.kind() == Kind::Chord && kind != Kind::Chord => steps.push(into_body(last, other)),
                last => steps.extend(last.into_iter().chain([other])),
            }
            None
        }
    }
}

/// The steps of a chain, with what hangs on the chain hung on them.
fn unchain(chain: Signature) -> Vec<Signature> {
    let Signature { shape, links, errbacks, broken, .. } = chain;
    let Shape::Chain(mut steps) = shape else { unreachable!("only chains are taken apart") };
    if let Some(last) = steps.last_mut() {
        for link in &links {
            last.add_link(link);
        }
    }
    for step in &mut steps {
        for errback in &errbacks {
            step.add_errback(errback);
        }
    }
    if let (Some(why), Some(first)) = (broken, steps.first_mut()) {
        first.break_by(&why);
    }
    steps
}

/// The only member of a group that has one.
fn unroll(other: Signature) -> Signature {
    match other.shape {
        Shape::Group(mut members) if members.len() == 1 => members.remove(0),
        _ => other,
    }
}

/// What follows a chord follows its body.
fn into_body(mut chord: Signature, other: Signature) -> Signature {
    if let Shape::Chord { body, .. } = &mut chord.shape {
        *body = Some(Box::new(match body.take() {
            Some(body) => *body | other,
            None => other,
        }));
    }
    chord
}

fn is_empty_group(signature: &Signature) -> bool {
    signature.kind() == Kind::Group && signature.tasks().is_empty()
}
