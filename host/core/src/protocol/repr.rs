//! Python's `repr` of JSON values, for log lines, exception texts and `argsrepr`.
//!
//! For people only: nobody parses it. Stops reading where the text is cut off, so that a value of
//! megabytes costs no more than a short one.

use std::borrow::Cow;
use std::fmt::Write;

use crate::protocol::content::{Json, Kind, Raw, push_float};

/// Characters of `argsrepr` and `kwargsrepr` (`AMQP.argsrepr_maxsize` in celery/app/amqp.py).
pub const ARGUMENTS_CHARS_MAX: usize = 1024;

const ELLIPSIS: &str = "...";

/// The value as Python would print it, cut to `chars_max` characters with `...`.
pub fn repr(value: &Json, chars_max: usize) -> String {
    let mut page = Page::new(chars_max);
    page.value(value.raw());
    page.finish()
}

/// The same for positional arguments, which Celery shows as a tuple: `(2, 2)`.
pub fn repr_args(args: &Json, chars_max: usize) -> String {
    let mut page = Page::new(chars_max);
    page.tuple(args.raw());
    page.finish()
}

/// A text that somebody else wrote, cut in the same way.
pub fn cut(text: &str, chars_max: usize) -> Cow<'_, str> {
    if text.len() <= chars_max {
        return Cow::Borrowed(text);
    }
    let mut page = Page::new(chars_max);
    page.push_str(text);
    Cow::Owned(page.finish())
}

/// A text of limited length. Holds one character more than it may show, to know that it is cut.
struct Page {
    text: String,
    chars: usize,
    chars_max: usize,
}

impl Page {
    fn new(chars_max: usize) -> Self {
        Self { text: String::new(), chars: 0, chars_max }
    }

    fn is_full(&self) -> bool {
        self.chars > self.chars_max
    }

    fn finish(mut self) -> String {
        if self.is_full() {
            let shown = self.chars_max.saturating_sub(ELLIPSIS.len());
            let end = self.text.char_indices().nth(shown).map_or(self.text.len(), |(at, _)| at);
            self.text.truncate(end);
            self.text.push_str(&ELLIPSIS[..ELLIPSIS.len().min(self.chars_max)]);
        }
        self.text
    }

    fn push(&mut self, character: char) {
        if !self.is_full() {
            self.text.push(character);
            self.chars += 1;
        }
    }

    fn push_str(&mut self, text: &str) {
        for character in text.chars() {
            if self.is_full() {
                return;
            }
            self.push(character);
        }
    }

    fn value(&mut self, value: Raw<'_>) {
        match value.kind() {
            Kind::Null => self.push_str("None"),
            Kind::Bool => self.push_str(if value.as_bool() == Some(true) { "True" } else { "False" }),
            Kind::Number => self.number(value),
            Kind::Text => self.string(value.inside_quotes().unwrap_or_default()),
            Kind::List => {
                self.push('[');
                self.elements(value);
                self.push(']');
            }
            Kind::Map => self.map(value),
        }
    }

    fn tuple(&mut self, value: Raw<'_>) {
        self.push('(');
        if self.elements(value) == 1 {
            self.push(',');
        }
        self.push(')');
    }

    fn elements(&mut self, value: Raw<'_>) -> usize {
        let mut count = 0;
        for element in value.elements() {
            if self.is_full() {
                break;
            }
            self.push_str(if count == 0 { "" } else { ", " });
            self.value(element);
            count += 1;
        }
        count
    }

    fn map(&mut self, value: Raw<'_>) {
        self.push('{');
        for (index, (key, value)) in value.members().enumerate() {
            if self.is_full() {
                break;
            }
            self.push_str(if index == 0 { "" } else { ", " });
            self.value(key);
            self.push_str(": ");
            self.value(value);
        }
        self.push('}');
    }

    fn number(&mut self, value: Raw<'_>) {
        let is_integer = value.bytes().iter().all(|byte| byte.is_ascii_digit() || *byte == b'-');
        match value.as_f64() {
            Some(number) if !is_integer => match number {
                f64::INFINITY => self.push_str("inf"),
                f64::NEG_INFINITY => self.push_str("-inf"),
                number if number.is_nan() => self.push_str("nan"),
                number => {
                    let mut text = String::new();
                    push_float(&mut text, number);
                    self.push_str(&text);
                }
            },
            _ if value.bytes() == b"-0" => self.push('0'),
            _ => self.push_str(value.str()),
        }
    }

    fn string(&mut self, inside: &str) {
        // Of a text that is cut off only the part that is shown decides about the quotes.
        let (mut single, mut double) = (false, false);
        for unit in (Units { rest: inside }).take(self.chars_max + 1) {
            single |= unit == u32::from('\'');
            double |= unit == u32::from('"');
        }
        let quote = if single && !double { '"' } else { '\'' };
        self.push(quote);
        for unit in (Units { rest: inside }) {
            if self.is_full() {
                return;
            }
            match char::from_u32(unit) {
                Some(character) if character == quote || character == '\\' => {
                    self.push('\\');
                    self.push(character);
                }
                Some('\n') => self.push_str("\\n"),
                Some('\r') => self.push_str("\\r"),
                Some('\t') => self.push_str("\\t"),
                Some(character) if is_printable(character) => self.push(character),
                _ => self.push_str(&match unit {
                    0..=0xff => format!("\\x{unit:02x}"),
                    0x100..=0xffff => format!("\\u{unit:04x}"),
                    _ => format!("\\U{unit:08x}"),
                }),
            }
        }
        self.push(quote);
    }
}

/// The characters of a JSON string, escapes resolved; lone surrogates are what they are.
struct Units<'a> {
    rest: &'a str,
}

impl Iterator for Units<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let mut characters = self.rest.chars();
        let first = characters.next()?;
        if first != '\\' {
            self.rest = characters.as_str();
            return Some(u32::from(first));
        }
        let escape = characters.next()?;
        self.rest = characters.as_str();
        let plain = match escape {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.unicode(),
            other => other,
        };
        Some(u32::from(plain))
    }
}

impl Units<'_> {
    fn unicode(&mut self) -> Option<u32> {
        let unit = |text: &str| u32::from_str_radix(text.get(..4)?, 16).ok();
        let first = unit(self.rest)?;
        self.rest = &self.rest[4..];
        let second = self.rest.strip_prefix("\\u").and_then(unit);
        match second {
            Some(second @ 0xdc00..=0xdfff) if (0xd800..=0xdbff).contains(&first) => {
                self.rest = &self.rest[6..];
                Some(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
            }
            _ => Some(first),
        }
    }
}

/// Python's `str.isprintable`. Rust's `escape_debug` follows the same definition; the letter in front
/// keeps it from escaping combining characters as well.
fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    let mut text = String::from('a');
    let _ = text.write_char(character);
    text.escape_debug().nth(1) != Some('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.to_owned()).expect("JSON")
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(repr(&json(text), 1000), expected);
    }

    #[test]
    fn values_are_shown_as_python_shows_them() {
        check("null", "None");
        check(
            "[true, false, 1, -0, -0.5, 1e5, 1E400, NaN, -Infinity]",
            "[True, False, 1, 0, -0.5, 100000.0, inf, nan, -inf]",
        );
        check(r#"{"a":[],"b":{}}"#, "{'a': [], 'b': {}}");
        check(&"7".repeat(300), &"7".repeat(300));
    }

    #[test]
    fn texts_are_quoted_as_python_quotes_them() {
        check(r#""plain""#, "'plain'");
        check(r#""it's""#, r#""it's""#);
        check(r#""\"it's\"""#, r#"'"it\'s"'"#);
        check(r#""a\\b\n\r\t\u0000\u007f\u0085""#, r"'a\\b\n\r\t\x00\x7f\x85'");
        check(r#""gr\u00fcn \ud83d\ude00 \u00a0\u2028\ue000\udbff\udfff""#, r"'grün 😀 \xa0\u2028\ue000\U0010ffff'");
        check(r#""\ud800 \u0939\u093f e\u0301""#, "'\\ud800 हि e\u{301}'");
    }

    #[test]
    fn arguments_are_a_tuple() {
        for (args, expected) in [("[2, 2]", "(2, 2)"), ("[[1]]", "([1],)"), ("[]", "()")] {
            assert_eq!(repr_args(&json(args), 100), expected);
        }
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(repr(&json("[1, 2, 3]"), 9), "[1, 2, 3]");
        assert_eq!(repr(&json("[1, 2, 3]"), 8), "[1, 2...");
        assert_eq!(repr(&json("\"ééééé\""), 6), "'éé...");
        assert_eq!(repr(&json("[1, 2, 3]"), 2), "..");
        let long = json(&format!("[{}]", "\"xxxx\", ".repeat(100_000) + "1"));
        assert_eq!(repr(&long, 12), "['xxxx', ...");
    }
}
