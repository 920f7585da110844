//! Looking into checked JSON: its kind, its pieces, and plain values.
//!
//! Checks nothing: whoever makes a [`Raw`] has checked the text, or cut it out of checked text.

use std::borrow::Cow;

use crate::protocol::content::{JsonError, scan};

/// What sort of value a JSON text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Null,
    Bool,
    Number,
    Text,
    List,
    Map,
}

/// One JSON value within a checked text, without white space around it.
#[derive(Clone, Copy)]
pub(crate) struct Raw<'a>(&'a [u8]);

impl<'a> Raw<'a> {
    /// Checks a text that wraps values and that nobody wants to share.
    pub(crate) fn parse_wrapped(text: &'a [u8]) -> Result<Self, JsonError> {
        Ok(Self(&text[scan::check(text, scan::WRAPPED_DEPTH_MAX)?]))
    }

    pub(super) fn of_checked(text: &'a [u8]) -> Self {
        Self(text)
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn str(self) -> &'a str {
        std::str::from_utf8(self.0).expect("the text was checked and is cut at ASCII characters only")
    }

    pub(crate) fn kind(self) -> Kind {
        match self.0.first() {
            Some(b'n') => Kind::Null,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'"') => Kind::Text,
            Some(b'[') => Kind::List,
            Some(b'{') => Kind::Map,
            _ => Kind::Number,
        }
    }

    pub(crate) fn as_bool(self) -> Option<bool> {
        match self.0 {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    pub(crate) fn as_i64(self) -> Option<i64> {
        if self.kind() != Kind::Number {
            return None;
        }
        self.str().parse().ok()
    }

    pub(crate) fn as_f64(self) -> Option<f64> {
        if self.kind() != Kind::Number {
            return None;
        }
        // Rust reads `NaN` and `Infinity` as well.
        self.str().parse().ok()
    }

    pub(crate) fn as_text(self) -> Option<Cow<'a, str>> {
        self.text(false)
    }

    pub(crate) fn text_lossy(self) -> Option<Cow<'a, str>> {
        self.text(true)
    }

    /// What stands between the quotes, escapes and all.
    pub(crate) fn inside_quotes(self) -> Option<&'a str> {
        if self.kind() != Kind::Text {
            return None;
        }
        let text = self.str();
        Some(&text[1..text.len() - 1])
    }

    /// The elements of an array; nothing for any other value.
    pub(crate) fn elements(self) -> Elements<'a> {
        Elements(Pieces::inside(self, Kind::List))
    }

    /// The members of an object; nothing for any other value.
    pub(crate) fn members(self) -> Members<'a> {
        Members(Pieces::inside(self, Kind::Map))
    }

    pub(crate) fn get(self, key: &str) -> Option<Self> {
        let is_it = |name: Self| match name.0.contains(&b'\\') {
            true => name.as_text().is_some_and(|name| name == key),
            false => name.0[1..name.0.len() - 1] == *key.as_bytes(),
        };
        self.members().filter(|(name, _)| is_it(*name)).last().map(|(_, value)| value)
    }

    fn text(self, lossy: bool) -> Option<Cow<'a, str>> {
        let inside = self.inside_quotes()?;
        match inside.contains('\\') {
            true => unescape(inside, lossy).map(Cow::Owned),
            false => Some(Cow::Borrowed(inside)),
        }
    }
}

/// The elements of an array.
pub(crate) struct Elements<'a>(Pieces<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// The members of an object, keys first.
pub(crate) struct Members<'a>(Pieces<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (Raw<'a>, Raw<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next()?;
        let value = self.0.next().expect("a checked object has a value for each key");
        Some((key, value))
    }
}

/// The values directly inside a container, whatever separates them.
struct Pieces<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Pieces<'a> {
    fn inside(container: Raw<'a>, wanted: Kind) -> Self {
        let text = if container.kind() == wanted { container.0 } else { b"" };
        Self { text, at: text.len().min(1) }
    }

    fn next(&mut self) -> Option<Raw<'a>> {
        let mut start = scan::skip_space(self.text, self.at);
        if matches!(self.text.get(start), Some(b',' | b':')) {
            start = scan::skip_space(self.text, start + 1);
        }
        if matches!(self.text.get(start), None | Some(b']' | b'}')) {
            return None;
        }
        self.at = skip_value(self.text, start);
        Some(Raw(&self.text[start..self.at]))
    }
}

pub(super) fn skip_value(text: &[u8], start: usize) -> usize {
    match text[start] {
        b'"' => skip_string(text, start),
        b'[' | b'{' => skip_container(text, start),
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
            text[start..].iter().position(ends).map_or(text.len(), |length| start + length)
        }
    }
}

pub(super) fn skip_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        at = scan::find_special(text, at);
        match text.get(at) {
            Some(b'\\') => at += 2,
            Some(_) => return at + 1,
            None => return text.len(),
        }
    }
}

fn skip_container(text: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < text.len() {
        match text[at] {
            b'"' => {
                at = skip_string(text, at);
                continue;
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// Resolves the escapes. A lone surrogate is U+FFFD if `lossy`, else the end of it.
pub(super) fn unescape(inside: &str, lossy: bool) -> Option<String> {
    let mut decoded = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find('\\') {
        decoded.push_str(&rest[..at]);
        let escape = rest.as_bytes()[at + 1];
        rest = &rest[at + 2..];
        match escape {
            b'b' => decoded.push('\u{8}'),
            b'f' => decoded.push('\u{c}'),
            b'n' => decoded.push('\n'),
            b'r' => decoded.push('\r'),
            b't' => decoded.push('\t'),
            b'u' => {
                let (character, after) = unescape_unicode(rest);
                if character.is_none() && !lossy {
                    return None;
                }
                decoded.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
                rest = after;
            }
            other => decoded.push(char::from(other)),
        }
    }
    decoded.push_str(rest);
    Some(decoded)
}

/// The character behind `\u`, with the second half of a surrogate pair; none for a lone surrogate.
fn unescape_unicode(text: &str) -> (Option<char>, &str) {
    let unit = |digits: &str| u32::from_str_radix(digits, 16).expect("four hexadecimal digits were checked");
    let (first, rest) = (unit(&text[..4]), &text[4..]);
    if !(0xd800..0xdc00).contains(&first) {
        return (char::from_u32(first), rest);
    }
    if let Some(second) = rest.strip_prefix("\\u").map(|digits| unit(&digits[..4]))
        && (0xdc00..0xe000).contains(&second)
    {
        return (char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)), &rest[6..]);
    }
    (None, rest)
}
