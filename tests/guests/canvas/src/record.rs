//! What an execution leaves behind to be compared, and values as short texts.

use serde_json::{Map, Value, json};
use taskhost::{Bucket, Context, TaskError};

/// Facts of a request that both kinds of workers are to agree about.
const FACTS: [&str; 9] = [
    "id",
    "parent_id",
    "root_id",
    "group",
    "group_index",
    "replaced_task_nesting",
    "ignore_result",
    "stamped_headers",
    "stamps",
];
const LENGTH_MAX: usize = 160;
const LENGTH_CUT: usize = 120;

/// Writes down that a task runs.
pub(crate) fn keep<const N: usize>(context: &Context, label: &str, facts: [(&str, Value); N]) -> Result<(), TaskError> {
    let request = context.request();
    let mut kept: Map<String, Value> = FACTS.iter().map(|name| (name.to_string(), request[*name].clone())).collect();
    for (name, value) in facts {
        kept.insert(name.to_owned(), value);
    }
    for name in ["errbacks", "callbacks", "chain"] {
        kept.insert(name.to_owned(), request[name].as_array().map_or(0, Vec::len).into());
    }
    kept.insert("retries".to_owned(), context.retries().into());
    kept.insert("chord".to_owned(), (!request["chord"].is_null()).into());
    for name in ["priority", "redelivered"] {
        kept.insert(name.to_owned(), request["delivery_info"][name].clone());
    }
    write(label, Value::Object(kept))
}

/// As [`keep`], of a task of which nothing but its arguments is special.
pub(crate) fn keep_args(context: &Context, label: &str, args: &[Value]) -> Result<(), TaskError> {
    keep(context, label, [("args", shown(&json!(args)).into())])
}

pub(crate) fn write(label: &str, facts: Value) -> Result<(), TaskError> {
    let runs = Bucket::open("runs")?;
    let number = runs.increment(&format!("n:{label}"), 1)?;
    Ok(runs.set(&format!("r:{label}:{number}"), facts.to_string().as_bytes())?)
}

/// A value as a short text, the same in every language; ids that a worker made are all alike.
pub(crate) fn shown(value: &Value) -> String {
    let text = written(value);
    if text.len() <= LENGTH_MAX {
        return text;
    }
    let digest =
        text.bytes().fold(0x811c_9dc5_u32, |digest, byte| (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{}#{digest:08x}", &text[..LENGTH_CUT])
}

/// The same of a list, without its brackets.
pub(crate) fn shown_inside(list: Vec<Value>) -> String {
    let text = shown(&list.into());
    text[1..text.len() - 1].to_owned()
}

fn written(value: &Value) -> String {
    match value {
        Value::Null => "~".to_owned(),
        Value::Bool(true) => "T".to_owned(),
        Value::Bool(false) => "F".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => without_ids(text),
        Value::Array(list) => format!("[{}]", list.iter().map(written).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let members: Vec<_> = map.iter().map(|(key, value)| format!("{key}:{}", written(value))).collect();
            format!("{{{}}}", members.join(","))
        }
    }
}

/// A value as Python's `repr` writes it, as far as exceptions of these tasks have such.
pub(crate) fn python(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains('\'') => format!("\"{text}\""),
        Value::String(text) => format!("'{text}'"),
        other => other.to_string(),
    }
}

/// The text with `ID` in place of every UUID.
fn without_ids(text: &str) -> String {
    const LENGTH: usize = 36;
    let is_id = |bytes: &[u8]| {
        bytes.iter().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
    };
    let (mut result, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        if rest.len() >= LENGTH && is_id(&rest.as_bytes()[..LENGTH]) {
            result.push_str("ID");
            rest = &rest[LENGTH..];
        } else {
            result.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    result
}
