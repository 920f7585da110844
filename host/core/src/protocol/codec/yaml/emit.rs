//! JSON as YAML that PyYAML reads as the same values.
//!
//! In flow style, where PyYAML would write a block: the values are what counts, and every text in quotes
//! cannot be mistaken for anything else.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::to_json;
use crate::protocol::content::{Kind, Raw, push_float, typed_bytes};

/// A key that is longer than this, in characters, is none to PyYAML unless it is marked as one. It says
/// 1024, escapes included.
const KEY_CHARS_MAX: usize = 128;

/// A document with this value.
pub(in crate::protocol::codec) fn from_json(json: Raw<'_>) -> String {
    let mut out = String::with_capacity(json.bytes().len() + 1);
    value(&mut out, json);
    out.push('\n');
    out
}

fn value(out: &mut String, json: Raw<'_>) {
    match json.kind() {
        Kind::Null | Kind::Bool => out.push_str(json.str()),
        Kind::Number => number(out, json),
        Kind::Text => text(out, json.inside_quotes().unwrap_or_default()),
        Kind::List => {
            out.push('[');
            for (index, element) in json.elements().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                value(out, element);
            }
            out.push(']');
        }
        Kind::Map => map(out, json),
    }
}

fn map(out: &mut String, json: Raw<'_>) {
    if let Some(bytes) = typed_bytes(json) {
        let _ = write!(out, "!!binary \"{}\"", STANDARD.encode(bytes));
        return;
    }
    if let Some(time) = time(json) {
        return out.push_str(&time);
    }
    out.push('{');
    for (index, (key, member)) in json.members().enumerate() {
        out.push_str(if index == 0 { "" } else { ", " });
        let inside = key.inside_quotes().unwrap_or_default();
        out.push_str(if inside.chars().count() > KEY_CHARS_MAX { "? " } else { "" });
        text(out, inside);
        out.push_str(": ");
        value(out, member);
    }
    out.push('}');
}

/// kombu's form of a date or a time as YAML's own, if it is read as the same.
fn time(json: Raw<'_>) -> Option<String> {
    let kind = json.get("__type__")?.as_text()?;
    if !matches!(&*kind, "datetime" | "date") {
        return None;
    }
    let mut said = "!!timestamp ".to_owned();
    text(&mut said, json.get("__value__")?.inside_quotes()?);
    let read = to_json(said.as_bytes(), 2 * said.len() + 100).ok()?;
    (read == json.str()).then_some(said)
}

/// YAML 1.1 wants a point in a number with a fraction or an exponent, and a sign in the exponent.
fn number(out: &mut String, json: Raw<'_>) {
    let digits = json.str();
    if digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return out.push_str(digits);
    }
    match json.as_f64().unwrap_or(f64::NAN) {
        number if number.is_nan() => out.push_str(".nan"),
        f64::INFINITY => out.push_str(".inf"),
        f64::NEG_INFINITY => out.push_str("-.inf"),
        number => {
            let start = out.len();
            push_float(out, number);
            if !out[start..].contains('.') {
                let exponent = out[start..].find('e').map_or(out.len(), |at| start + at);
                out.insert_str(exponent, ".0");
            }
        }
    }
}

/// What stands between the quotes of JSON in the quotes of YAML: halves of a character are joined, since
/// PyYAML would keep them apart, and what has no other half stays alone.
fn text(out: &mut String, inside: &str) {
    out.push('"');
    let mut rest = inside;
    while let Some(character) = rest.chars().next() {
        if let Some(unit) = unit(rest) {
            let low = unit_after_high(unit, &rest[6..]);
            match low {
                Some(low) => {
                    let code = 0x10000 + ((u32::from(unit) - 0xd800) << 10) + (u32::from(low) - 0xdc00);
                    let _ = write!(out, "\\U{code:08X}");
                    rest = &rest[12..];
                }
                None => {
                    let _ = write!(out, "\\u{unit:04X}");
                    rest = &rest[6..];
                }
            }
            continue;
        }
        if character == '\\' {
            // The short escapes of JSON are YAML's as well.
            out.push_str(&rest[..2]);
            rest = &rest[2..];
            continue;
        }
        match character {
            ' '..='~' => out.push(character),
            '\u{80}'..='\u{ffff}' => {
                let _ = write!(out, "\\u{:04X}", u32::from(character));
            }
            _ => {
                let _ = write!(out, "\\U{:08X}", u32::from(character));
            }
        }
        rest = &rest[character.len_utf8()..];
    }
    out.push('"');
}

/// The code unit of an escape `\uXXXX` at the start.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

fn unit_after_high(high: u16, rest: &str) -> Option<u16> {
    if !(0xd800..0xdc00).contains(&high) {
        return None;
    }
    unit(rest).filter(|low| (0xdc00..0xe000).contains(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let written = from_json(Raw::parse_wrapped(json.as_bytes()).expect("JSON"));
        assert_eq!(written.trim_end(), expected);
        assert_eq!(to_json(written.as_bytes(), 1 << 20).expect("what was written can be read"), json);
    }

    #[test]
    fn values_are_written_so_that_they_are_read_as_the_same() {
        check("null", "null");
        check("[true, -12, 123456789012345678901234567890]", "[true, -12, 123456789012345678901234567890]");
        check("[1.5, 1e+16, -1e-05, 1.5e+300]", "[1.5, 1.0e+16, -1.0e-05, 1.5e+300]");
        check("[NaN, Infinity, -Infinity]", "[.nan, .inf, -.inf]");
        check(r#"{"yes": "no", "": [], "12": {}}"#, r#"{"yes": "no", "": [], "12": {}}"#);
        check(r#""\u00fc\ud83d\ude00\n\"\\""#, r#""\u00FC\U0001F600\n\"\\""#);
        check(r#"{"__type__": "base64", "__value__": "/wA="}"#, r#"!!binary "/wA=""#);
        check(
            r#"{"__type__": "datetime", "__value__": "2026-11-22T10:32:08+00:00"}"#,
            r#"!!timestamp "2026-11-22T10:32:08+00:00""#,
        );
        check(r#"{"__type__": "date", "__value__": "2026-11-22"}"#, r#"!!timestamp "2026-11-22""#);
        check(r#"{"__type__": "date", "__value__": "soon"}"#, r#"{"__type__": "date", "__value__": "soon"}"#);
    }

    #[test]
    fn a_long_key_is_marked_as_one() {
        let key = "k".repeat(2000);
        check(&format!(r#"{{"{key}": 1}}"#), &format!(r#"{{? "{key}": 1}}"#));
    }

    #[test]
    fn what_json_may_hold_raw_is_escaped() {
        let written = from_json(Raw::parse_wrapped("\"ü😀\u{7f}\\/\\ud800\"".as_bytes()).expect("JSON"));
        assert_eq!(written, "\"\\u00FC\\U0001F600\\U0000007F\\/\\uD800\"\n");
    }
}
