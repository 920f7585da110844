//! Reads and writes JSON as Python does, where serde_json would refuse.
//!
//! Text is parsed strictly first. Only when that fails, odd tokens are rewritten and it is parsed again:
//! `NaN`, `Infinity` and `-Infinity` become `null`, an unpaired surrogate escape becomes U+FFFD. Numbers stay as
//! they are. A whole parameter or result of type `f64`, `f32` or an `Option` of them keeps NaN and infinities, and
//! one of type `Json` keeps everything; so does the inside of a `Signature`.

use std::any::Any;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::canvas::Signature;
use crate::json::Json;

/// Parses the text of one argument; the error says what is wrong as serde puts it, without line and column.
pub(crate) fn parse<T: DeserializeOwned + 'static>(text: &str) -> Result<T, String> {
    if let Some(value) = parse_odd(text) {
        return Ok(value);
    }
    let strict = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let Some(rewritten) = rewrite(text) else { return Err(describe(&strict)) };
    serde_json::from_str(&rewritten).map_err(|error| describe(&error))
}

/// Writes a result.
pub(crate) fn write<T: Serialize + 'static>(value: T) -> Result<String, serde_json::Error> {
    let mut value = Some(value);
    if let Some(json) = (&mut value as &mut dyn Any).downcast_mut::<Option<Json>>() {
        return Ok(json.take().expect("was put in above").into_string());
    }
    let value = value.expect("was put in above");
    let any = &value as &dyn Any;
    if any.is::<()>() {
        return Ok("null".to_owned()); // serde_json would begin with 128 bytes, to be given back at once
    }
    let float = any.downcast_ref::<f64>().copied().or_else(|| any.downcast_ref::<f32>().map(|float| f64::from(*float)));
    if let Some(text) = float.and_then(odd_text) {
        return Ok(text.to_owned());
    }
    serde_json::to_string(&value)
}

/// The types that take more than serde_json gives.
fn parse_odd<T: 'static>(text: &str) -> Option<T> {
    fn give<T: 'static>(value: impl Any) -> Option<T> {
        (&mut Some(value) as &mut dyn Any).downcast_mut::<Option<T>>()?.take()
    }
    fn is<T: 'static, U: 'static>() -> bool {
        std::any::TypeId::of::<T>() == std::any::TypeId::of::<U>()
    }
    if is::<T, Json>() {
        return give(Json::from_text(text));
    }
    if is::<T, Option<Json>>() {
        return give((text != "null").then(|| Json::from_text(text)));
    }
    // A signature keeps the arguments that are in it; what is none is told by the ordinary way.
    if is::<T, Signature>() {
        return give(Signature::read(text).ok()?);
    }
    if is::<T, Option<Signature>>() && text != "null" {
        return give(Some(Signature::read(text).ok()?));
    }
    let (float, length) = odd_float(text)?;
    if length != text.len() {
        return None;
    }
    give::<T>(float).or_else(|| give(Some(float))).or_else(|| give(float as f32)).or_else(|| give(Some(float as f32)))
}

/// The float that a text starts with, if it is one that JSON does not know.
fn odd_float(text: &str) -> Option<(f64, usize)> {
    const TOKENS: [(&str, f64); 3] = [("NaN", f64::NAN), ("Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY)];
    let (token, float) = TOKENS.into_iter().find(|(token, _)| text.starts_with(token))?;
    Some((float, token.len()))
}

fn odd_text(float: f64) -> Option<&'static str> {
    match float {
        _ if float.is_nan() => Some("NaN"),
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        _ => None,
    }
}

/// The text without odd tokens, if it has any.
fn rewrite(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut rewritten = String::new();
    let mut copied = 0;
    let mut replace = |start: usize, end: usize, by: &str| {
        rewritten.push_str(&text[copied..start]);
        rewritten.push_str(by);
        copied = end;
    };
    let mut in_string = false;
    let mut at = 0;
    while at < bytes.len() {
        let mut length = 1;
        match bytes[at] {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                length = 2;
                match (unit(text, at), unit(text, at + 6)) {
                    (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => length = 12,
                    (Some(0xD800..=0xDFFF), _) => {
                        length = 6;
                        replace(at, at + length, "\\ufffd");
                    }
                    _ => {}
                }
            }
            b'N' | b'I' | b'-' if !in_string => {
                if let Some((_, found)) = odd_float(&text[at..]) {
                    length = found;
                    replace(at, at + length, "null");
                }
            }
            _ => {}
        }
        at += length;
    }
    if copied == 0 {
        return None;
    }
    rewritten.push_str(&text[copied..]);
    Some(rewritten)
}

/// The UTF-16 unit of the escape `\uXXXX` at this place.
fn unit(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    u16::from_str_radix(digits, 16).ok()
}

fn describe(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    if let Some(end) = text.rfind(" at line ") {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(text: &str, expected: Value) {
        assert_eq!(parse::<Value>(text), Ok(expected), "{text}");
    }

    #[test]
    fn odd_tokens_are_rewritten() {
        check("NaN", json!(null));
        check("[1, NaN, -Infinity, Infinity, -1]", json!([1, null, null, null, -1]));
        check(r#"{"NaN": "NaN \"NaN\"", "x": NaN}"#, json!({"NaN": "NaN \"NaN\"", "x": null}));
        check(r#""a\ud800b""#, json!("a\u{fffd}b"));
        check(r#""\udc00\ud800""#, json!("\u{fffd}\u{fffd}"));
        check(r#"["\ud83d\ude00", "\ud83d", "\\ud800"]"#, json!(["😀", "\u{fffd}", "\\ud800"]));
        check(r#"["ä\ud800", "€"]"#, json!(["ä\u{fffd}", "€"]));
    }

    #[test]
    fn a_text_without_odd_tokens_is_not_rewritten() {
        for text in ["", "[1, 2", "\"NaN\"", "{\"a\": -1}", "nope", "\"\\", "\"\\u12"] {
            assert_eq!(rewrite(text), None, "{text}");
        }
    }

    #[test]
    fn floats_keep_nan_and_infinities() {
        assert!(parse::<f64>("NaN").is_ok_and(f64::is_nan));
        assert_eq!(parse::<f64>("-Infinity"), Ok(f64::NEG_INFINITY));
        assert_eq!(parse::<f32>("Infinity"), Ok(f32::INFINITY));
        assert_eq!(parse::<Option<f64>>("Infinity"), Ok(Some(f64::INFINITY)));
        assert_eq!(parse::<Option<f64>>("null"), Ok(None));
        assert_eq!(parse::<f64>("2"), Ok(2.0));
        assert_eq!(write(f64::NAN).expect("is written"), "NaN");
        assert_eq!(write(f32::NEG_INFINITY).expect("is written"), "-Infinity");
        assert_eq!(write(1.5).expect("is written"), "1.5");
    }

    #[test]
    fn json_is_passed_on_byte_for_byte() {
        for text in ["NaN", "[ 1,  NaN ]", "\"\\ud800\"", &"1".repeat(300), "{\"a\":-Infinity}"] {
            let json = parse::<Json>(text).expect("anything is taken");
            assert_eq!(write(json).expect("is written"), text);
        }
        assert_eq!(parse::<Option<Json>>("null"), Ok(None));
        assert_eq!(parse::<Option<Json>>("NaN"), Ok(Some(Json::from_text("NaN"))));
    }

    #[test]
    fn errors_tell_what_was_found_and_expected() {
        for (text, expected) in [
            ("\"a\"", "invalid type: string \"a\", expected i64"),
            ("1.5", "invalid type: floating point `1.5`, expected i64"),
            ("null", "invalid type: null, expected i64"),
            ("NaN", "invalid type: null, expected i64"),
            ("99999999999999999999", "number out of range"),
        ] {
            let message = parse::<i64>(text).expect_err("is no i64");
            assert!(message.starts_with(expected) || text.starts_with("999"), "{text}: {message}");
        }
    }
}
