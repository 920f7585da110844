//! Tasks that send others: canvases that they are given, or that they put together.

use serde_json::{Value, json};
use taskhost::{Context, Signature, TaskError, chain, chord, group, task, xmap, xstarmap};

use crate::record::{keep_args, shown_inside};

/// Has a canvas run in its place, which may be given its own arguments.
#[task(name = "diff.replace")]
pub(crate) fn replace(
    context: &Context,
    #[args] args: Vec<Value>,
    label: String,
    canvas: Signature,
    #[default] given: bool,
) -> Result<(), TaskError> {
    keep_args(context, &label, &args)?;
    Err(TaskError::replace(&if given { canvas.partial(args) } else { canvas }))
}

/// Adds a canvas to the chord that it is part of.
#[task(name = "diff.extend")]
pub(crate) fn extend(
    context: &Context,
    #[args] args: Vec<Value>,
    label: String,
    canvas: Signature,
) -> Result<String, TaskError> {
    keep_args(context, &label, &args)?;
    context.add_to_chord(&canvas)?;
    Ok(format!("{label}({})", shown_inside(args)))
}

/// Sends a canvas besides.
#[task(name = "diff.spread")]
pub(crate) fn spread(
    context: &Context,
    #[args] args: Vec<Value>,
    label: String,
    canvas: Signature,
) -> Result<String, TaskError> {
    keep_args(context, &label, &args)?;
    context.apply(&canvas)?;
    Ok(format!("{label}({})", shown_inside(args)))
}

/// Puts a canvas together.
#[task(name = "diff.compose")]
pub(crate) fn compose(
    context: &Context,
    #[args] args: Vec<Value>,
    label: String,
    shape: String,
) -> Result<(), TaskError> {
    keep_args(context, &label, &args)?;
    let name = |end: &str| format!("{label}.{end}");
    let task = |task: &str, end: &str| Signature::new(task).kwargs(json!({"label": name(end)}));
    let put = |end: &str| task("diff.put", end);
    let item = || Signature::new("diff.item");
    let [a, b, c, d] = ["a", "b", "c", "d"].map(put);
    let canvas = match &*shape {
        "chain" => chain([a, b, c, d]),
        "pipe" => a | group([b, c]) | d,
        "group" => group([a, b | c, d]),
        "chord" => chord([a, b], c | d),
        "nested" => chord([a, chord([b, c], d)], put("e")),
        "linked" => chain([a, b]).link_error(&task("diff.old_errback", "f")) | c,
        "immutable" => chain([a, put("g").immutable(), group([b, c])]) | d,
        "chunks" => {
            let first = xstarmap(item(), json!([[name("h"), 1], [name("i"), 2]]));
            group([first, xstarmap(item(), json!([[name("j"), 3]]))]) | d
        }
        "map" => xmap(item(), json!([name("k"), name("l")])) | d,
        _ => return Err(TaskError::new("ValueError", format!("there is no shape {shape}"))),
    };
    Err(TaskError::replace(&canvas))
}
