//! Tasks that call others.

use taskhost::{AsyncResult, Context, Json, Signature, TaskError, chain, chord, group, task};

use crate::replacing::sig;

fn add(x: i64) -> Signature {
    sig("add").args((x,))
}

/// Doubles one number and adds the other, elsewhere.
#[task(name = "t.integration.tasks.chain_add")]
pub(crate) fn chain_add(context: &Context, x: Json, y: Json) -> Result<(), TaskError> {
    context.apply(&chain([sig("add").args((&x, &x)), sig("add").args((y,))]))?;
    Ok(())
}

/// The same by a chord of one.
#[task(name = "t.integration.tasks.chord_add")]
pub(crate) fn chord_add(context: &Context, x: Json, y: Json) -> Result<(), TaskError> {
    context.apply(&chord([sig("add").args((&x, &x))], sig("add").args((y,))))?;
    Ok(())
}

/// Returns what a client knows a chain by.
#[task(name = "t.integration.tasks.build_chain_inside_task")]
pub(crate) fn build_chain_inside_task(context: &Context) -> Result<AsyncResult, TaskError> {
    let chain = chain([sig("add").args((1, 1)), add(2), group([add(3), add(4)]), add(5)]);
    Ok(context.apply(&chain)?)
}

/// Adds a value to each of some, in the chord that it is in.
#[task(name = "t.integration.tasks.add_to_all_to_chord")]
pub(crate) fn add_to_all_to_chord(context: &Context, nums: Vec<Json>, val: Json) -> Result<u32, TaskError> {
    for num in &nums {
        context.add_to_chord(&sig("add").args((num, &val)))?;
    }
    Ok(0)
}

/// The same by a chord in the chord that it is in.
#[task(name = "t.integration.tasks.add_chord_to_chord")]
pub(crate) fn add_chord_to_chord(context: &Context, nums: Vec<Json>, val: Json) -> Result<u32, TaskError> {
    let header = nums.iter().map(|num| sig("add").args((num, &val)));
    context.add_to_chord(&chain([group(header), sig("tsum")]))?;
    Ok(0)
}
