//! Splits a JSON array or object into the texts of its elements, without parsing them.
//!
//! Only brackets and quotes are looked at, so `NaN` and numbers of any size pass; whether an element is well
//! formed is found out by whoever parses it.

use std::borrow::Cow;

use crate::lenient;

/// The text is not an array or object.
#[derive(Debug, PartialEq)]
pub(crate) struct Malformed;

/// Calls `visit` with the text of every element of an array.
pub(crate) fn of_array<'a>(text: &'a str, mut visit: impl FnMut(&'a str)) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(text);
    cursor.expect(b'[')?;
    if cursor.accept(b']') {
        return cursor.end();
    }
    loop {
        visit(cursor.value()?);
        if !cursor.accept(b',') {
            cursor.expect(b']')?;
            return cursor.end();
        }
    }
}

/// Calls `visit` with the name and the text of every member of an object.
pub(crate) fn of_object<'a>(text: &'a str, mut visit: impl FnMut(Cow<'a, str>, &'a str)) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(text);
    cursor.expect(b'{')?;
    if cursor.accept(b'}') {
        return cursor.end();
    }
    loop {
        let name = unquote(cursor.value()?)?;
        cursor.expect(b':')?;
        visit(name, cursor.value()?);
        if !cursor.accept(b',') {
            cursor.expect(b'}')?;
            return cursor.end();
        }
    }
}

fn unquote(text: &str) -> Result<Cow<'_, str>, Malformed> {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(Malformed)?;
    if inner.contains('\\') {
        return lenient::parse::<String>(text).map(Cow::Owned).map_err(|_| Malformed);
    }
    Ok(Cow::Borrowed(inner))
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn accept(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.accept(byte) { Ok(()) } else { Err(Malformed) }
    }

    fn end(&mut self) -> Result<(), Malformed> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(Malformed) }
    }

    /// The text of the value that starts here.
    fn value(&mut self) -> Result<&'a str, Malformed> {
        self.skip_space();
        let start = self.at;
        match self.peek() {
            Some(b'"') => self.skip_string()?,
            Some(b'[' | b'{') => self.skip_nested()?,
            _ => self.skip_scalar(),
        }
        match &self.text[start..self.at] {
            "" => Err(Malformed),
            value => Ok(value),
        }
    }

    fn skip_scalar(&mut self) {
        while !matches!(self.peek(), None | Some(b',' | b':' | b']' | b'}' | b'"' | b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn skip_string(&mut self) -> Result<(), Malformed> {
        let start = self.at + 1;
        let mut from = start;
        // Searching for the quote alone is std's fast path; a quote is escaped by an odd run of backslashes.
        while let Some(length) = self.text[from..].find('"') {
            let quote = from + length;
            let backslashes =
                self.text.as_bytes()[start..quote].iter().rev().take_while(|byte| **byte == b'\\').count();
            from = quote + 1;
            if backslashes % 2 == 0 {
                self.at = from;
                return Ok(());
            }
        }
        Err(Malformed)
    }

    fn skip_nested(&mut self) -> Result<(), Malformed> {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_array(text: &str, expected: &[&str]) {
        let mut found = Vec::new();
        assert_eq!(of_array(text, |element| found.push(element)), Ok(()), "{text}");
        assert_eq!(found, expected, "{text}");
    }

    #[track_caller]
    fn check_object(text: &str, expected: &[(&str, &str)]) {
        let mut found = Vec::new();
        assert_eq!(of_object(text, |name, value| found.push((name.into_owned(), value))), Ok(()), "{text}");
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn elements_are_the_texts_between_the_commas() {
        check_array("[]", &[]);
        check_array(" [ ] ", &[]);
        check_array("[1]", &["1"]);
        check_array(
            "[1, -2.5e3 ,\n\"a, b\", [1, [2]], {\"x\": [3]}, null]",
            &["1", "-2.5e3", "\"a, b\"", "[1, [2]]", "{\"x\": [3]}", "null"],
        );
    }

    #[test]
    fn odd_tokens_pass() {
        let huge = "9".repeat(300);
        check_array(&format!("[NaN, -Infinity, {huge}, \"\\ud800\"]"), &["NaN", "-Infinity", &huge, "\"\\ud800\""]);
    }

    #[test]
    fn a_quote_ends_a_string_unless_it_is_escaped() {
        check_array(r#"["a\"b", "\\", "\\\"]", ""]"#, &[r#""a\"b""#, r#""\\""#, r#""\\\"]""#, r#""""#]);
        check_array("[\"ä€😀\", \"]\"]", &["\"ä€😀\"", "\"]\""]);
    }

    #[test]
    fn members_are_names_and_texts() {
        check_object("{}", &[]);
        check_object(r#"{"x": 1, "y" :{"z": "}"}}"#, &[("x", "1"), ("y", r#"{"z": "}"}"#)]);
        check_object(r#"{"a\u0062\"": NaN}"#, &[("ab\"", "NaN")]);
    }

    #[test]
    fn what_is_not_an_array_or_object_is_refused() {
        for text in ["", "1", "[", "[1", "[1,", "[1,]", "[,]", "[1 2]", "[1]]", "[\"a]", "{}", "[[1]", "null"] {
            assert_eq!(of_array(text, |_| {}), Err(Malformed), "{text}");
        }
        for text in ["", "[]", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{1:1}", "{\"a\":1} x"] {
            assert_eq!(of_object(text, |_, _| {}), Err(Malformed), "{text}");
        }
    }
}
