//! Walks once through checked JSON, from one value to the next, without cutting it up first.
//!
//! Checks nothing, as the text is that of a [`Json`], and remembers nothing: whoever enters a container knows which.

use std::borrow::Cow;

use crate::protocol::content::split::{skip_string, skip_value, unescape};
use crate::protocol::content::{Json, Kind, Raw, scan};

/// A place in a JSON text: before a value that is read or skipped next.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl Json {
    /// Begins at the value. Costs what [`Json::as_str`] does.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor { text: self.as_str(), at: 0 }
    }
}

impl<'a> Cursor<'a> {
    /// What sort of value is next.
    pub fn kind(&self) -> Kind {
        Raw::of_checked(&self.text.as_bytes()[self.at..]).kind()
    }

    /// Steps over the value and gives its text, which is the number if it is one.
    pub fn skip(&mut self) -> &'a str {
        let start = self.at;
        self.at = skip_value(self.text.as_bytes(), start);
        &self.text[start..self.at]
    }

    /// Steps over the value and gives a cursor of its own for it.
    pub fn branch(&mut self) -> Self {
        Self { text: self.skip(), at: 0 }
    }

    /// Steps over a string and gives it decoded, unless it has half of a surrogate pair.
    pub fn text(&mut self) -> Option<Cow<'a, str>> {
        let inside = self.inside_quotes();
        if inside.contains('\\') { unescape(inside, false).map(Cow::Owned) } else { Some(Cow::Borrowed(inside)) }
    }

    /// Steps into an array or an object.
    pub fn enter(&mut self) {
        self.at += 1;
    }

    /// Steps to the next element of the array that was entered, or else behind it.
    pub fn next_element(&mut self) -> bool {
        let text = self.text.as_bytes();
        self.at = scan::skip_space(text, self.at);
        match text[self.at] {
            b']' | b'}' => {
                self.at += 1;
                false
            }
            b',' => {
                self.at = scan::skip_space(text, self.at + 1);
                true
            }
            _ => true,
        }
    }

    /// Steps to the value of the next member of the object that was entered, and gives its key with U+FFFD for a
    /// lone surrogate; or else steps behind the object.
    pub fn next_key(&mut self) -> Option<Cow<'a, str>> {
        if !self.next_element() {
            return None;
        }
        let inside = self.inside_quotes();
        let key = if inside.contains('\\') {
            Cow::Owned(unescape(inside, true).unwrap_or_default())
        } else {
            Cow::Borrowed(inside)
        };
        let text = self.text.as_bytes();
        let colon = scan::skip_space(text, self.at);
        self.at = scan::skip_space(text, colon + 1);
        Some(key)
    }

    fn inside_quotes(&mut self) -> &'a str {
        let start = self.at;
        self.at = skip_string(self.text.as_bytes(), start);
        &self.text[start + 1..self.at - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a value anew, without white space and with keys and strings decoded.
    fn copy(cursor: &mut Cursor<'_>, out: &mut String) {
        match cursor.kind() {
            Kind::List => {
                out.push('[');
                cursor.enter();
                while cursor.next_element() {
                    copy(cursor, out);
                    out.push(',');
                }
                out.push(']');
            }
            Kind::Map => {
                out.push('{');
                cursor.enter();
                while let Some(key) = cursor.next_key() {
                    out.push_str(&format!("<{key}>:"));
                    copy(cursor, out);
                    out.push(',');
                }
                out.push('}');
            }
            Kind::Text => out.push_str(&format!("<{}>", cursor.text().as_deref().unwrap_or("?"))),
            Kind::Number | Kind::Bool | Kind::Null => out.push_str(cursor.skip()),
        }
    }

    #[track_caller]
    fn check(text: &'static str, expected: &str) {
        let json = Json::parse(text).expect("JSON");
        let mut out = String::new();
        copy(&mut json.cursor(), &mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn every_value_is_passed_once() {
        check("-1.5e3", "-1.5e3");
        check(" [ ] ", "[]");
        check("{\n}", "{}");
        check("[[],{},[ [ 1 ] , NaN],true , null]", "[[],{},[[1,],NaN,],true,null,]");
        check(
            r#" { "a" : [1 , "x\"]"] , "\u00e9" :{"b":2},"":-Infinity}"#,
            r#"{<a>:[1,<x"]>,],<é>:{<b>:2,},<>:-Infinity,}"#,
        );
        check(r#"["\ud83d\ude00", "\ud83d", {"\ud83d": "\\"}]"#, "[<😀>,<?>,{<\u{fffd}>:<\\>,},]");
    }

    #[test]
    fn a_branch_ends_with_its_value() {
        let json = Json::parse(r#"[{"a": [1]}, 2]"#).expect("JSON");
        let mut cursor = json.cursor();
        cursor.enter();
        assert!(cursor.next_element());
        let mut branch = cursor.branch();
        assert_eq!(branch.skip(), r#"{"a": [1]}"#);
        assert!(cursor.next_element());
        assert_eq!(cursor.skip(), "2");
        assert!(!cursor.next_element());
    }
}
