//! JSON as Python writes it, kept as text.
//!
//! Checks and splits without building a tree: a body may hold NaN, Infinity, numbers of any size and
//! lone surrogate escapes, all of which a strict parser refuses, and nobody here needs the values.

mod cursor;
mod header;
mod scan;
mod split;
mod write;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

pub use cursor::Cursor;
pub(crate) use header::header_value;
pub use scan::DEPTH_MAX;
pub(crate) use scan::WRAPPED_DEPTH_MAX;
pub use split::Kind;
pub(crate) use split::Raw;
pub use write::{ListWriter, MapWriter, ToJson};
pub(crate) use write::{push_bytes, push_float, push_typed, typed_bytes};

/// A checked piece of JSON text (UTF-8, one value, Python's dialect). Cheap to clone and to cut.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Bytes);

/// Why a text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("not UTF-8 at byte {0}")]
    Utf8(usize),
    #[error("{what} at byte {at}")]
    Syntax { what: &'static str, at: usize },
    #[error("nested deeper than {0} levels")]
    TooDeep(usize),
}

impl Json {
    /// Checks the text. White space around the value is cut off.
    pub fn parse(text: impl Into<Bytes>) -> Result<Self, JsonError> {
        let text = text.into();
        let value = scan::check(&text, DEPTH_MAX)?;
        Ok(Self(text.slice(value)))
    }

    /// Checks a text that wraps values, and so may be nested deeper than each of them.
    pub(crate) fn parse_wrapped(text: Bytes) -> Result<Self, JsonError> {
        let value = scan::check(&text, WRAPPED_DEPTH_MAX)?;
        Ok(Self(text.slice(value)))
    }

    /// JSON `null`.
    pub const fn null() -> Self {
        Self(Bytes::from_static(b"null"))
    }

    /// An empty array.
    pub const fn empty_list() -> Self {
        Self(Bytes::from_static(b"[]"))
    }

    /// An empty object.
    pub const fn empty_map() -> Self {
        Self(Bytes::from_static(b"{}"))
    }

    /// Any value that has a form in JSON: texts, numbers, truth values, and options of them.
    pub fn of(value: &(impl ToJson + ?Sized)) -> Self {
        let mut text = String::new();
        value.write_json(&mut text);
        Self(Bytes::from(text))
    }

    /// A string, escaped to ASCII as Python's `json.dumps` does.
    pub fn text(text: &str) -> Self {
        Self::of(text)
    }

    /// `true` or `false`.
    pub fn bool(value: bool) -> Self {
        Self(Bytes::from_static(if value { b"true" } else { b"false" }))
    }

    /// An integer.
    pub fn int(number: i64) -> Self {
        Self::of(&number)
    }

    /// A float as Python writes it: `1.0`, `1e+16`, `NaN`, `-Infinity`.
    pub fn float(number: f64) -> Self {
        Self::of(&number)
    }

    /// An array of these.
    pub fn array<T: ToJson>(items: impl IntoIterator<Item = T>) -> Self {
        let mut list = ListWriter::new();
        for item in items {
            list.push(&item);
        }
        list.finish()
    }

    /// An object of these.
    pub fn object<K: AsRef<str>, T: ToJson>(members: impl IntoIterator<Item = (K, T)>) -> Self {
        let mut map = MapWriter::new();
        for (key, value) in members {
            map.put(key.as_ref(), &value);
        }
        map.finish()
    }

    /// The text. Costs a pass over it, as its UTF-8 is checked again.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a Json was checked to be UTF-8 when it was made")
    }

    /// The text as bytes, sharing them.
    pub fn bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// Length of the text in bytes.
    pub fn byte_len(&self) -> usize {
        self.0.len()
    }

    /// What sort of value it is.
    pub fn kind(&self) -> Kind {
        self.raw().kind()
    }

    /// True for `null`.
    pub fn is_null(&self) -> bool {
        self.kind() == Kind::Null
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        self.raw().as_bool()
    }

    /// The integer, if it is one without fraction and exponent, and fits.
    pub fn as_i64(&self) -> Option<i64> {
        self.raw().as_i64()
    }

    /// The number as Python's `float` of it, if it is one. NaN and the infinities are numbers.
    pub fn as_f64(&self) -> Option<f64> {
        self.raw().as_f64()
    }

    /// The decoded string, if it is one and every surrogate in it has its other half.
    pub fn as_text(&self) -> Option<Cow<'_, str>> {
        self.raw().as_text()
    }

    /// The decoded string, if it is one, with U+FFFD for each lone surrogate.
    pub fn text_lossy(&self) -> Option<Cow<'_, str>> {
        self.raw().text_lossy()
    }

    /// The elements of an array, sharing the bytes; nothing for any other value.
    pub fn elements(&self) -> impl Iterator<Item = Self> + '_ {
        self.raw().elements().map(|element| self.share(element))
    }

    /// The members of an object, sharing the bytes; nothing for any other value. A lone surrogate in
    /// a key is read as U+FFFD; a repeated key comes repeatedly.
    pub fn members(&self) -> impl Iterator<Item = (Cow<'_, str>, Self)> + '_ {
        self.raw().members().map(|(key, value)| (key.text_lossy().unwrap_or_default(), self.share(value)))
    }

    /// The member under `key`, if it is an object and has one; of several the last, as in Python.
    pub fn get(&self, key: &str) -> Option<Self> {
        self.raw().get(key).map(|value| self.share(value))
    }

    /// The text to look into, without sharing it.
    pub(crate) fn raw(&self) -> Raw<'_> {
        Raw::of_checked(&self.0)
    }

    /// A piece of this text as a value that shares it.
    pub(crate) fn share(&self, piece: Raw<'_>) -> Self {
        Self(self.0.slice_ref(piece.bytes()))
    }

    /// A text that was written by code that writes nothing but JSON.
    fn of_written(text: String) -> Self {
        debug_assert!(
            !matches!(scan::check(text.as_bytes(), DEPTH_MAX), Err(JsonError::Syntax { .. })),
            "written JSON is JSON: {text}"
        );
        Self(Bytes::from(text))
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &'static str) -> Json {
        Json::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn pieces_share_the_text_they_were_cut_from() {
        let body = json(r#" [[2, "x"], {"k": [1]}, null] "#);
        let pieces: Vec<Json> = body.elements().collect();
        assert_eq!(pieces.iter().map(Json::as_str).collect::<Vec<_>>(), [r#"[2, "x"]"#, r#"{"k": [1]}"#, "null"]);
        let whole = body.bytes();
        assert!(whole.as_ptr_range().contains(&pieces[1].bytes().as_ptr()));
    }

    #[test]
    fn members_are_found_by_their_decoded_key() {
        let map = json(r#"{"a": 1, "\u00e9": {"a": 2}, "a": 3, "\ud800": 4}"#);
        assert_eq!(map.get("é").and_then(|inner| inner.get("a")), Some(json("2")));
        assert_eq!(map.get("a"), Some(json("3")), "the last of equal keys counts, as in Python");
        assert_eq!(map.get("b"), None);
        let keys: Vec<String> = map.members().map(|(key, _)| key.into_owned()).collect();
        assert_eq!(keys, ["a", "é", "a", "\u{fffd}"]);
        assert_eq!(json("[1]").members().count(), 0);
        assert_eq!(json("{\"a\": 1}").elements().count(), 0);
    }

    #[test]
    fn empty_and_spaced_containers_are_split() {
        assert_eq!(json(" [ ] ").elements().count(), 0);
        assert_eq!(json("{\n}").members().count(), 0);
        let spaced: Vec<Json> = json("[ 1 ,\t[ ] , {\"]\": \"}\\\"\"}\r\n]").elements().collect();
        assert_eq!(spaced, [json("1"), json("[ ]"), json(r#"{"]": "}\""}"#)]);
    }

    #[test]
    fn values_are_read_by_type() {
        assert_eq!(json("-12").as_i64(), Some(-12));
        assert_eq!(json("1.0").as_i64(), None);
        assert_eq!(json("99999999999999999999").as_i64(), None);
        assert_eq!(json("1e3").as_f64(), Some(1000.0));
        assert_eq!(json("-Infinity").as_f64(), Some(f64::NEG_INFINITY));
        assert!(json("NaN").as_f64().is_some_and(f64::is_nan));
        assert_eq!(json("\"1\"").as_f64(), None);
        assert_eq!(json("true").as_bool(), Some(true));
        assert_eq!(json("null").as_bool(), None);
        assert_eq!(json(r#""\ud83d\ude00 \n\/\u0041""#).as_text().as_deref(), Some("😀 \n/A"));
        assert_eq!(json(r#""a\ude00b""#).as_text(), None);
        assert_eq!(json(r#""a\ud83dA\ud83d\u0041""#).text_lossy().as_deref(), Some("a\u{fffd}A\u{fffd}A"));
        assert_eq!(json("{}").kind(), Kind::Map);
        assert!(Json::null().is_null());
    }
}
