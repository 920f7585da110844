//! Canvases as the SDK composes them.

use taskhost::{Signature, TaskError, chain, chord, chunks, group, task, xmap, xstarmap};

fn t(letter: &str) -> Signature {
    Signature::new(format!("t.{letter}"))
}

/// Returns a canvas.
#[task(name = "contract.compose")]
pub(crate) fn compose(name: &str) -> Result<Signature, TaskError> {
    let [a, b, c, d, e, f] = ["a", "b", "c", "d", "e", "f"].map(t);
    let a1 = a.clone().args((1,));
    let a2 = a.clone().args((2,));
    Ok(match name {
        "call" => a.args((1, 2)).kwargs(std::collections::BTreeMap::from([("z", 3)])),
        "options" => a
            .option("queue", "slow")
            .option("priority", 5)
            .countdown(1.5)
            .option("expires", 60)
            .option("task_id", "abc"),
        "immutable" => a1.immutable(),
        "partial" => a2.partial((1,)),
        "link" => a.link(&b).link_error(&c),
        "chain" => a1 | b | c,
        "chain_group" => a1 | group([b, c]) | d,
        "group" => group([a1, a2]),
        "chord" => chord([a1, a2], b),
        "chord_chain" => chord([a1, a2], b) | c,
        "chunks" => chunks(a, [[1, 2], [3, 4], [5, 6]], 2),
        "map" => xmap(a, [1, 2]),
        "starmap" => xstarmap(a, [[1, 2], [3, 4]]),
        "stamp" => group([a1, b.link(&c)]).stamp("tenant", "x"),
        "linked_chain" => (a | b).link(&c).link_error(&d),
        "linked_group" => group([a, b]).link(&c).link_error(&d),
        "linked_chord" => chord([a, b], c).link(&d).link_error(&e),
        "nested" => a | group([b | c, group([d, e])]) | f,
        "single" => chain([group([a]), b]),
        _ => return Err(TaskError::new("ValueError", format!("there is no canvas {name}"))),
    })
}

fn add(x: i64, y: i64) -> Signature {
    Signature::new("contract.add").args((x, y))
}

/// Has a canvas run in its place.
#[task(name = "contract.become")]
pub(crate) fn r#become(name: &str) -> Result<(), TaskError> {
    let sums = (1..=3).map(|i| add(i, i));
    Err(TaskError::replace(&match name {
        "chain" => add(1, 2) | Signature::new("contract.add").args((10,)),
        "group" => group(sums),
        "chord" => chord(sums, Signature::new("contract.sum")),
        _ => return Err(TaskError::new("ValueError", format!("there is no canvas {name}"))),
    }))
}
