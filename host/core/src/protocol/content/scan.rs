//! The check that a text is JSON in Python's dialect: one pass, no recursion, no allocation.
//!
//! Accepts what Python's `json.loads` accepts (Lib/json/scanner.py), and nothing else.

use std::ops::Range;

use crate::protocol::content::JsonError;

/// Deepest nesting of arrays and objects that is read.
///
/// Python gives up at its recursion limit, a thousand by default and shared with its own frames.
pub const DEPTH_MAX: usize = 512;

/// The same for a text that wraps such values: a body, an envelope, a result document. Whatever a task
/// may return can be stored, sent on as an argument, and read again.
pub(crate) const WRAPPED_DEPTH_MAX: usize = DEPTH_MAX + 64;

/// Finds the one value of the text, between white space, and checks all of it.
pub(super) fn check(text: &[u8], depth_max: usize) -> Result<Range<usize>, JsonError> {
    if let Err(error) = std::str::from_utf8(text) {
        return Err(JsonError::Utf8(error.valid_up_to()));
    }
    let start = skip_space(text, 0);
    let end = check_value(text, start, depth_max)?;
    let rest = skip_space(text, end);
    if rest != text.len() {
        return Err(syntax("more text after the value", rest));
    }
    Ok(start..end)
}

/// Which containers are open: one bit each, set for objects.
struct Open {
    bits: [u64; WRAPPED_DEPTH_MAX / 64],
    depth: usize,
    depth_max: usize,
}

impl Open {
    fn push(&mut self, object: bool) -> Result<(), JsonError> {
        if self.depth == self.depth_max {
            return Err(JsonError::TooDeep(self.depth_max));
        }
        let bit = 1 << (self.depth % 64);
        match object {
            true => self.bits[self.depth / 64] |= bit,
            false => self.bits[self.depth / 64] &= !bit,
        }
        self.depth += 1;
        Ok(())
    }

    /// True if the innermost container is an object; none if nothing is open.
    fn innermost(&self) -> Option<bool> {
        let last = self.depth.checked_sub(1)?;
        Some(self.bits[last / 64] >> (last % 64) & 1 == 1)
    }
}

fn check_value(text: &[u8], mut at: usize, depth_max: usize) -> Result<usize, JsonError> {
    let mut open = Open { bits: [0; WRAPPED_DEPTH_MAX / 64], depth: 0, depth_max: depth_max.min(WRAPPED_DEPTH_MAX) };
    loop {
        at = match text.get(at) {
            Some(b'"') => check_string(text, at)?,
            Some(b'[') => {
                open.push(false)?;
                at = skip_space(text, at + 1);
                if text.get(at) != Some(&b']') {
                    continue;
                }
                open.depth -= 1;
                at + 1
            }
            Some(b'{') => {
                open.push(true)?;
                at = skip_space(text, at + 1);
                if text.get(at) != Some(&b'}') {
                    at = check_key(text, at)?;
                    continue;
                }
                open.depth -= 1;
                at + 1
            }
            Some(b'0'..=b'9') => check_number(text, at)?,
            Some(b'-') if text.get(at + 1) == Some(&b'I') => check_word(text, at, "-Infinity")?,
            Some(b'-') => check_number(text, at)?,
            Some(b't') => check_word(text, at, "true")?,
            Some(b'f') => check_word(text, at, "false")?,
            Some(b'n') => check_word(text, at, "null")?,
            Some(b'N') => check_word(text, at, "NaN")?,
            Some(b'I') => check_word(text, at, "Infinity")?,
            _ => return Err(syntax("no value", at)),
        };
        // A value has ended: close what ends with it, up to the next value or the end of all.
        loop {
            let Some(object) = open.innermost() else { return Ok(at) };
            at = skip_space(text, at);
            match (text.get(at), object) {
                (Some(b','), false) => {
                    at = skip_space(text, at + 1);
                    break;
                }
                (Some(b','), true) => {
                    at = check_key(text, skip_space(text, at + 1))?;
                    break;
                }
                (Some(b']'), false) | (Some(b'}'), true) => {
                    open.depth -= 1;
                    at += 1;
                }
                (_, false) => return Err(syntax("neither `,` nor `]`", at)),
                (_, true) => return Err(syntax("neither `,` nor `}`", at)),
            }
        }
    }
}

/// A key with its colon; answers where its value starts.
fn check_key(text: &[u8], at: usize) -> Result<usize, JsonError> {
    if text.get(at) != Some(&b'"') {
        return Err(syntax("no key in double quotes", at));
    }
    let colon = skip_space(text, check_string(text, at)?);
    if text.get(colon) != Some(&b':') {
        return Err(syntax("no `:` after the key", colon));
    }
    Ok(skip_space(text, colon + 1))
}

fn check_string(text: &[u8], start: usize) -> Result<usize, JsonError> {
    let mut at = start + 1;
    loop {
        at = find_special(text, at);
        match text.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match text.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                Some(b'u') if text.get(at + 2..at + 6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => {
                    at += 6;
                }
                _ => return Err(syntax("invalid escape", at)),
            },
            Some(_) => return Err(syntax("control character in a string", at)),
            None => return Err(syntax("string without end", start)),
        }
    }
}

fn check_number(text: &[u8], start: usize) -> Result<usize, JsonError> {
    let digits = |from: usize| skip_while(text, from, |byte| byte.is_ascii_digit());
    let whole = start + usize::from(text[start] == b'-');
    let mut at = match text.get(whole) {
        Some(b'0') => whole + 1,
        Some(b'1'..=b'9') => digits(whole + 1),
        _ => return Err(syntax("no digit after `-`", whole)),
    };
    if text.get(at) == Some(&b'.') {
        let end = digits(at + 1);
        if end == at + 1 {
            return Err(syntax("no digit after the point", end));
        }
        at = end;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        let exponent = at + 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let end = digits(exponent);
        if end == exponent {
            return Err(syntax("no digit in the exponent", end));
        }
        at = end;
    }
    Ok(at)
}

fn check_word(text: &[u8], at: usize, word: &str) -> Result<usize, JsonError> {
    match text[at..].starts_with(word.as_bytes()) {
        true => Ok(at + word.len()),
        false => Err(syntax("no value", at)),
    }
}

/// Where the next byte is that a plain run of a string cannot hold: a quote, a backslash or a control
/// character; or the end of the text.
pub(super) fn find_special(text: &[u8], from: usize) -> usize {
    let is_special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    // Most strings are short: those are over before the wide loop would have started.
    let narrow = text.len().min(from + 16);
    if let Some(offset) = text[from..narrow].iter().position(is_special) {
        return from + offset;
    }
    // Without an early exit inside a block the compiler uses vector instructions for it.
    let mut at = narrow;
    for block in text[narrow..].chunks_exact(64) {
        if block.iter().fold(false, |found, byte| found | is_special(byte)) {
            break;
        }
        at += 64;
    }
    at + text[at..].iter().position(is_special).unwrap_or(text.len() - at)
}

pub(super) fn skip_space(text: &[u8], from: usize) -> usize {
    skip_while(text, from, |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
}

fn skip_while(text: &[u8], from: usize, wanted: impl Fn(u8) -> bool) -> usize {
    let mut at = from;
    while text.get(at).is_some_and(|byte| wanted(*byte)) {
        at += 1;
    }
    at
}

fn syntax(what: &'static str, at: usize) -> JsonError {
    JsonError::Syntax { what, at }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8]) -> Result<Range<usize>, JsonError> {
        super::check(text, DEPTH_MAX)
    }

    #[test]
    fn what_python_reads_is_json() {
        let digits = "9".repeat(5000);
        for text in [
            "0",
            "-0",
            "-0.5e+10",
            "1E5",
            &digits,
            "NaN",
            "-Infinity",
            "[Infinity, NaN]",
            " \t\r\n{ } \n",
            r#"{"a": [], "a": {"": ["\"\\\/\b\f\n\r\t\u00Ff", null, true, false]}}"#,
            r#""\ud800 lone \uDC00""#,
            "\"grüße \u{7f} 😀\"",
            &format!("\"{}\"", "x".repeat(1000)),
        ] {
            assert!(check(text.as_bytes()).is_ok(), "{text}: {:?}", check(text.as_bytes()));
        }
    }

    #[test]
    fn what_python_refuses_is_refused_at_its_place() {
        for (text, what, at) in [
            ("", "no value", 0),
            ("  ", "no value", 2),
            ("\u{feff}1", "no value", 0),
            ("nul", "no value", 0),
            ("-", "no digit after `-`", 1),
            ("-NaN", "no digit after `-`", 1),
            ("01", "more text after the value", 1),
            ("1.", "no digit after the point", 2),
            ("1e+", "no digit in the exponent", 3),
            ("+1", "no value", 0),
            ("[1 2]", "neither `,` nor `]`", 3),
            ("[1,]", "no value", 3),
            ("[1", "neither `,` nor `]`", 2),
            ("{\"a\" 1}", "no `:` after the key", 5),
            ("{a: 1}", "no key in double quotes", 1),
            ("{\"a\": 1,}", "no key in double quotes", 8),
            ("{\"a\": 1]", "neither `,` nor `}`", 7),
            ("]", "no value", 0),
            ("1 1", "more text after the value", 2),
            ("'a'", "no value", 0),
            ("\"a", "string without end", 0),
            ("\"a\\", "invalid escape", 2),
            ("\"\\x\"", "invalid escape", 1),
            ("\"\\u12g4\"", "invalid escape", 1),
            ("\"\\u123", "invalid escape", 1),
            ("\"a\nb\"", "control character in a string", 2),
            ("\u{a0}1", "no value", 0),
        ] {
            assert_eq!(check(text.as_bytes()), Err(syntax(what, at)), "{text}");
        }
        assert_eq!(check(b"\"a\xff\""), Err(JsonError::Utf8(2)));
    }

    #[test]
    fn a_special_byte_is_found_wherever_it_stands() {
        for length in [0, 1, 15, 16, 17, 63, 64, 79, 80, 81, 143, 144, 200] {
            for special in [b'"', b'\\', 0x1f, 0] {
                let mut text = vec![b'x'; length];
                text.push(special);
                text.extend([b'y'; 70]);
                assert_eq!(find_special(&text, 0), length);
            }
            assert_eq!(find_special(&vec![b'x'; length], 0), length);
        }
    }

    #[test]
    fn nesting_ends_at_a_named_limit() {
        let nested = |depth: usize| format!("{}{}", "[{\"a\":".repeat(depth / 2), "1") + &"}]".repeat(depth / 2);
        assert!(check(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(check(nested(DEPTH_MAX + 2).as_bytes()), Err(JsonError::TooDeep(DEPTH_MAX)));
        assert!(super::check(nested(WRAPPED_DEPTH_MAX).as_bytes(), WRAPPED_DEPTH_MAX).is_ok());
        assert_eq!(check("[".repeat(1_000_000).as_bytes()), Err(JsonError::TooDeep(DEPTH_MAX)));
    }
}
