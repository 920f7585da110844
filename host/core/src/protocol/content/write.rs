//! Writing JSON as Python's `json.dumps` writes it: `", "` and `": "` between pieces, everything
//! outside ASCII escaped.
//!
//! Only for what the host itself has to say; values of clients and guests are passed on as they are.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::protocol::content::{Json, Raw};

/// What has a form in JSON.
pub trait ToJson {
    /// Appends the value.
    fn write_json(&self, out: &mut String);
}

/// Writes an object, member by member.
#[derive(Debug)]
pub struct MapWriter(String);

impl MapWriter {
    /// An object without members so far.
    #[expect(clippy::new_without_default, reason = "a writer that is half done is no value")]
    pub fn new() -> Self {
        Self("{".to_owned())
    }

    /// Adds a member.
    pub fn put(&mut self, key: &str, value: &(impl ToJson + ?Sized)) -> &mut Self {
        if self.0.len() > 1 {
            self.0.push_str(", ");
        }
        push_text(&mut self.0, key);
        self.0.push_str(": ");
        value.write_json(&mut self.0);
        self
    }

    /// Adds a member if there is a value.
    pub fn put_some(&mut self, key: &str, value: Option<&(impl ToJson + ?Sized)>) -> &mut Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }

    /// The object.
    pub fn finish(self) -> Json {
        Json::of_written(self.finish_text())
    }

    /// The object as text.
    pub fn finish_text(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// Writes an array, element by element.
#[derive(Debug)]
pub struct ListWriter(String);

impl ListWriter {
    /// An array without elements so far.
    #[expect(clippy::new_without_default, reason = "a writer that is half done is no value")]
    pub fn new() -> Self {
        Self("[".to_owned())
    }

    /// Adds an element.
    pub fn push(&mut self, value: &(impl ToJson + ?Sized)) -> &mut Self {
        if self.0.len() > 1 {
            self.0.push_str(", ");
        }
        value.write_json(&mut self.0);
        self
    }

    /// The array.
    pub fn finish(mut self) -> Json {
        self.0.push(']');
        Json::of_written(self.0)
    }
}

impl ToJson for str {
    fn write_json(&self, out: &mut String) {
        push_text(out, self);
    }
}

impl ToJson for String {
    fn write_json(&self, out: &mut String) {
        push_text(out, self);
    }
}

impl ToJson for bool {
    fn write_json(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl ToJson for f64 {
    fn write_json(&self, out: &mut String) {
        match *self {
            f64::INFINITY => out.push_str("Infinity"),
            f64::NEG_INFINITY => out.push_str("-Infinity"),
            number if number.is_nan() => out.push_str("NaN"),
            number => push_float(out, number),
        }
    }
}

macro_rules! integers {
    ($($kind:ty)*) => {$(
        impl ToJson for $kind {
            fn write_json(&self, out: &mut String) {
                let _ = write!(out, "{self}");
            }
        }
    )*};
}
integers!(u8 u16 u32 u64 usize i32 i64);

impl<T: ToJson> ToJson for Option<T> {
    fn write_json(&self, out: &mut String) {
        match self {
            Some(value) => value.write_json(out),
            None => out.push_str("null"),
        }
    }
}

impl<T: ToJson + ?Sized> ToJson for &T {
    fn write_json(&self, out: &mut String) {
        (*self).write_json(out);
    }
}

impl ToJson for Json {
    fn write_json(&self, out: &mut String) {
        out.push_str(self.as_str());
    }
}

/// The string with everything outside printable ASCII escaped (Python's `ensure_ascii`).
fn push_text(out: &mut String, text: &str) {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    out.reserve(text.len() + 2);
    out.push('"');
    let mut rest = text;
    while !rest.is_empty() {
        let plain = rest.bytes().position(|byte| !is_plain(byte)).unwrap_or(rest.len());
        out.push_str(&rest[..plain]);
        rest = &rest[plain..];
        let Some(character) = rest.chars().next() else { break };
        push_escape(out, character);
        rest = &rest[character.len_utf8()..];
    }
    out.push('"');
}

fn push_escape(out: &mut String, character: char) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        other => {
            for unit in other.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
}

/// What JSON cannot say, as kombu says it (kombu/utils/json.py).
pub(crate) fn push_typed(out: &mut String, kind: &str, value: &str) {
    let mut typed = MapWriter::new();
    typed.put("__type__", kind).put("__value__", value);
    out.push_str(&typed.finish_text());
}

/// Bytes, as kombu writes them.
pub(crate) fn push_bytes(out: &mut String, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => push_typed(out, "bytes", text),
        Err(_) => push_typed(out, "base64", &STANDARD.encode(bytes)),
    }
}

/// The bytes that kombu wrote as such a value; `None` if it is another value.
pub(crate) fn typed_bytes(json: Raw<'_>) -> Option<Vec<u8>> {
    let kind = json.get("__type__")?.as_text()?;
    let value = json.get("__value__")?;
    if json.members().count() != 2 {
        return None;
    }
    match &*kind {
        "bytes" => value.as_text().map(|text| text.into_owned().into_bytes()),
        "base64" => STANDARD.decode(&*value.as_text()?).ok(),
        _ => None,
    }
}

/// A finite number as Python's `repr` shows it: the fewest digits that read back as the same number,
/// with an exponent below 1e-4 and from 1e16 on.
pub(crate) fn push_float(out: &mut String, number: f64) {
    let mut shown = format!("{number:e}");
    let digits = shown.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    // Of two texts of that length that are equally near, Rust shows the larger and Python the even one,
    // which is what rounding to that length gives.
    let even = format!("{number:.*e}", digits - 1);
    if even.parse() == Ok(number) {
        shown = even;
    }
    let (mantissa, exponent) = shown.split_once('e').expect("`e` format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{mantissa}e{sign}{:02}", exponent.abs());
        return;
    }
    if number.is_sign_negative() {
        out.push('-');
    }
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    match usize::try_from(exponent + 1) {
        Ok(whole) if whole >= digits.len() => {
            let _ = write!(out, "{digits:0<whole$}.0");
        }
        Ok(whole) if whole > 0 => {
            let _ = write!(out, "{}.{}", &digits[..whole], &digits[whole..]);
        }
        _ => {
            let zeros = exponent.unsigned_abs() as usize - 1;
            let _ = write!(out, "0.{:0<zeros$}{digits}", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_as_python_escapes_them() {
        let written = |text| Json::text(text).to_string();
        assert_eq!(written("a\"b\\c/"), r#""a\"b\\c/""#);
        assert_eq!(written("\n\r\t\u{8}\u{c}\u{0}\u{1f}\u{7f}"), r#""\n\r\t\b\f\u0000\u001f\u007f""#);
        assert_eq!(written("grüße 😀"), r#""gr\u00fc\u00dfe \ud83d\ude00""#);
    }

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (number, expected) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-1.5e16, "-1.5e+16"),
            (198236538630904.0 + 0.625, "198236538630904.62"),
            (0.001953125, "0.001953125"),
            (100.0, "100.0"),
            (-12.5, "-12.5"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (2.5e-7, "2.5e-07"),
            (1e22, "1e+22"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(Json::of(&number).to_string(), expected);
        }
    }

    #[test]
    fn containers_have_pythons_separators() {
        let mut map = MapWriter::new();
        map.put("a", &Some(1u32)).put("b", &None::<bool>).put("é", &Json::array(["x", "y"]));
        map.put_some("no", None::<&str>).put_some("yes", Some("z"));
        assert_eq!(map.finish().to_string(), r#"{"a": 1, "b": null, "\u00e9": ["x", "y"], "yes": "z"}"#);
        assert_eq!(MapWriter::new().finish().to_string(), "{}");
        assert_eq!(ListWriter::new().finish().to_string(), "[]");
    }
}
