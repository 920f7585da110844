//! Numbers and bytes out of JSON, and the words for a value that is something else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use taskhost_core::protocol::content::{Cursor, Kind as JsonKind};

use crate::typed::encode::Problem;
use crate::typed::shape::{Integer, Name, Shape};

/// How much of a wrong value is shown, in characters.
const SHOWN_CHARS_MAX: usize = 60;
/// How many names are shown of those that would be right.
const NAMES_MAX: usize = 12;

/// `u8`
pub(super) static BYTE: Integer = Integer { name: "u8", min: 0, max: u8::MAX as i128 };

pub(super) fn integer(kind: &Integer, shape: &Shape, json: &mut Cursor<'_>) -> Result<i128, Problem> {
    let text = json.clone().skip();
    if json.kind() != JsonKind::Number || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return Err(unexpected(shape, json));
    }
    // The wider type takes several times as long.
    let number = match text.parse::<i64>() {
        Ok(number) => Some(i128::from(number)),
        Err(_) => text.parse::<i128>().ok(),
    };
    let Some(number) = number.filter(|number| (kind.min..=kind.max).contains(number)) else {
        let Integer { name, min, max } = kind;
        return Err(Problem::new(format!("{} is out of range for {name} ({min} to {max})", shown(json))));
    };
    json.skip();
    Ok(number)
}

/// The floats.
pub(super) trait Float: std::str::FromStr + Copy {
    fn is_infinite(self) -> bool;
}

impl Float for f32 {
    fn is_infinite(self) -> bool {
        self.is_infinite()
    }
}

impl Float for f64 {
    fn is_infinite(self) -> bool {
        self.is_infinite()
    }
}

/// A number, NaN and the infinities among them; one that is none of these must be near to one that the type has.
pub(super) fn float<F: Float>(shape: &Shape, json: &mut Cursor<'_>) -> Result<F, Problem> {
    if json.kind() != JsonKind::Number {
        return Err(unexpected(shape, json));
    }
    let text = json.clone().skip();
    let Ok(number) = text.parse::<F>() else {
        return Err(unexpected(shape, json));
    };
    if number.is_infinite() && !text.ends_with("Infinity") {
        return Err(Problem::new(format!("{} is out of range for {shape}", shown(json))));
    }
    json.skip();
    Ok(number)
}

/// The bytes of such an object as kombu makes of Python's `bytes`.
pub(super) fn typed_bytes(mut json: Cursor<'_>) -> Option<Vec<u8>> {
    let (mut kind, mut value) = (None, None);
    json.enter();
    while let Some(key) = json.next_key() {
        if json.kind() != JsonKind::Text {
            return None;
        }
        match &*key {
            "__type__" => kind = json.text(),
            "__value__" => value = json.text(),
            _ => return None,
        }
    }
    match &*kind? {
        "bytes" => Some(value?.into_owned().into_bytes()),
        "base64" => STANDARD.decode(value?.as_bytes()).ok(),
        _ => None,
    }
}

#[cold]
pub(super) fn unexpected(shape: &Shape, json: &Cursor<'_>) -> Problem {
    Problem::new(format!("expected {}, not {}", shape.shown(), shown(json)))
}

/// The next value, as much of it as fits a line.
pub(super) fn shown(json: &Cursor<'_>) -> String {
    let text = json.clone().skip();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_owned(),
    }
}

pub(super) fn listed<'a>(names: impl ExactSizeIterator<Item = &'a Name>) -> String {
    let more = names.len().saturating_sub(NAMES_MAX);
    let names: Vec<String> = names.take(NAMES_MAX).map(|name| format!("'{}'", name.snake)).collect();
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
