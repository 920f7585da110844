//! MessagePack, as Python's msgpack packs it, rewritten as JSON.
//!
//! Follows `unpackb(raw=False)`: texts must be UTF-8 and keys must be texts. Types of applications (ext)
//! mean nothing without the application and are refused.

use rmp::Marker;

use crate::protocol::content::{ToJson, WRAPPED_DEPTH_MAX, push_bytes};

/// Why bytes are not MessagePack that has a form in JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MsgpackError {
    #[error("it ends too early")]
    Truncated,
    #[error("more bytes after the value")]
    Trailing,
    #[error("a text is not UTF-8")]
    Utf8,
    #[error("a key is not a text")]
    Key,
    #[error("it holds the type {0} of an application")]
    Extension(i8),
    #[error("it holds a byte that begins nothing")]
    Reserved,
    #[error("nested deeper than {WRAPPED_DEPTH_MAX} levels")]
    TooDeep,
    #[error("it is over {bytes_max} bytes when written as JSON")]
    TooLarge { bytes_max: usize },
}

/// The one value of these bytes as JSON text.
pub(super) fn to_json(bytes: &[u8], bytes_max: usize) -> Result<String, MsgpackError> {
    let mut converter = Converter { rest: bytes, out: String::with_capacity(bytes.len()), bytes_max };
    converter.value(0)?;
    match converter.rest {
        [] => Ok(converter.out),
        _ => Err(MsgpackError::Trailing),
    }
}

struct Converter<'a> {
    rest: &'a [u8],
    out: String,
    bytes_max: usize,
}

impl<'a> Converter<'a> {
    fn value(&mut self, depth: usize) -> Result<(), MsgpackError> {
        if self.out.len() > self.bytes_max {
            return Err(MsgpackError::TooLarge { bytes_max: self.bytes_max });
        }
        let [marker] = self.array()?;
        match Marker::from_u8(marker) {
            Marker::Null => self.out.push_str("null"),
            Marker::True => self.put(&true),
            Marker::False => self.put(&false),
            Marker::FixPos(number) => self.put(&number),
            Marker::FixNeg(number) => self.put(&i64::from(number)),
            Marker::U8 => self.integer(u8::from_be_bytes)?,
            Marker::U16 => self.integer(u16::from_be_bytes)?,
            Marker::U32 => self.integer(u32::from_be_bytes)?,
            Marker::U64 => self.integer(u64::from_be_bytes)?,
            Marker::I8 => self.integer(|bytes| i64::from(i8::from_be_bytes(bytes)))?,
            Marker::I16 => self.integer(|bytes| i64::from(i16::from_be_bytes(bytes)))?,
            Marker::I32 => self.integer(i32::from_be_bytes)?,
            Marker::I64 => self.integer(i64::from_be_bytes)?,
            Marker::F32 => self.integer(|bytes| f64::from(f32::from_be_bytes(bytes)))?,
            Marker::F64 => self.integer(f64::from_be_bytes)?,
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => self.text(marker)?,
            Marker::Bin8 => self.bytes(1)?,
            Marker::Bin16 => self.bytes(2)?,
            Marker::Bin32 => self.bytes(4)?,
            Marker::FixArray(count) => self.list(count.into(), depth)?,
            Marker::Array16 => self.counted(2, depth, Self::list)?,
            Marker::Array32 => self.counted(4, depth, Self::list)?,
            Marker::FixMap(count) => self.map(count.into(), depth)?,
            Marker::Map16 => self.counted(2, depth, Self::map)?,
            Marker::Map32 => self.counted(4, depth, Self::map)?,
            Marker::FixExt1 | Marker::FixExt2 | Marker::FixExt4 | Marker::FixExt8 | Marker::FixExt16 => {
                return Err(self.extension(0));
            }
            Marker::Ext8 => return Err(self.extension(1)),
            Marker::Ext16 => return Err(self.extension(2)),
            Marker::Ext32 => return Err(self.extension(4)),
            Marker::Reserved => return Err(MsgpackError::Reserved),
        }
        Ok(())
    }

    fn list(&mut self, count: usize, depth: usize) -> Result<(), MsgpackError> {
        let inside = deeper(depth)?;
        self.out.push('[');
        for index in 0..count {
            self.out.push_str(if index == 0 { "" } else { ", " });
            self.value(inside)?;
        }
        self.out.push(']');
        Ok(())
    }

    fn map(&mut self, count: usize, depth: usize) -> Result<(), MsgpackError> {
        let inside = deeper(depth)?;
        self.out.push('{');
        for index in 0..count {
            self.out.push_str(if index == 0 { "" } else { ", " });
            let [marker] = self.array()?;
            self.text(marker)?;
            self.out.push_str(": ");
            self.value(inside)?;
        }
        self.out.push('}');
        Ok(())
    }

    fn counted(
        &mut self,
        width: usize,
        depth: usize,
        container: fn(&mut Self, usize, usize) -> Result<(), MsgpackError>,
    ) -> Result<(), MsgpackError> {
        let count = self.length(width)?;
        container(self, count, depth)
    }

    /// A text; anything else is where only a text may be, as a key.
    fn text(&mut self, marker: u8) -> Result<(), MsgpackError> {
        let length = match Marker::from_u8(marker) {
            Marker::FixStr(length) => length.into(),
            Marker::Str8 => self.length(1)?,
            Marker::Str16 => self.length(2)?,
            Marker::Str32 => self.length(4)?,
            _ => return Err(MsgpackError::Key),
        };
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| MsgpackError::Utf8)?;
        self.put(text);
        Ok(())
    }

    fn bytes(&mut self, width: usize) -> Result<(), MsgpackError> {
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        push_bytes(&mut self.out, bytes);
        Ok(())
    }

    fn extension(&mut self, width: usize) -> MsgpackError {
        let kind = self.take(width).and_then(|_| self.array());
        kind.map_or_else(|error| error, |[kind]| MsgpackError::Extension(kind as i8))
    }

    fn integer<const N: usize, T: ToJson>(&mut self, read: impl Fn([u8; N]) -> T) -> Result<(), MsgpackError> {
        let number = read(self.array()?);
        self.put(&number);
        Ok(())
    }

    fn put(&mut self, value: &(impl ToJson + ?Sized)) {
        value.write_json(&mut self.out);
    }

    /// A length of so many bytes.
    fn length(&mut self, width: usize) -> Result<usize, MsgpackError> {
        Ok(self.take(width)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MsgpackError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(MsgpackError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], MsgpackError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(MsgpackError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }
}

fn deeper(depth: usize) -> Result<usize, MsgpackError> {
    match depth {
        WRAPPED_DEPTH_MAX => Err(MsgpackError::TooDeep),
        _ => Ok(depth + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let shown = to_json(bytes, 1 << 20).unwrap_or_else(|error| error.to_string());
        assert_eq!(shown, expected);
    }

    #[test]
    fn values_are_written_as_kombu_writes_them() {
        check(b"\xc0", "null");
        check(b"\x92\xc3\xc2", "[true, false]");
        check(b"\x7f", "127");
        check(b"\xff", "-1");
        check(b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615");
        check(b"\xd3\x80\0\0\0\0\0\0\0", "-9223372036854775808");
        check(b"\xd0\x80", "-128");
        check(b"\xca\x3f\xc0\0\0", "1.5");
        check(b"\xcb\x7f\xf8\0\0\0\0\0\0", "NaN");
        check(b"\xca\xff\x80\0\0", "-Infinity");
        check(b"\xa2\xc3\xbc", r#""\u00fc""#);
        check(b"\xd9\x01\"", r#""\"""#);
        check(b"\xc4\x02ab", r#"{"__type__": "bytes", "__value__": "ab"}"#);
        check(b"\xc4\x02\xff\0", r#"{"__type__": "base64", "__value__": "/wA="}"#);
        check(b"\x82\xa1a\x90\xa1b\x80", r#"{"a": [], "b": {}}"#);
        check(b"\xdc\0\x01\x01", "[1]");
        check(b"\xde\0\x01\xa1k\x01", r#"{"k": 1}"#);
    }

    #[test]
    fn what_has_no_form_in_json_is_refused() {
        check(b"", "it ends too early");
        check(b"\x92\x01", "it ends too early");
        check(b"\xdd\xff\xff\xff\xff", "it ends too early");
        check(b"\xdb\xff\xff\xff\xffx", "it ends too early");
        check(b"\x01\x01", "more bytes after the value");
        check(b"\xa1\xff", "a text is not UTF-8");
        check(b"\x81\x01\x01", "a key is not a text");
        check(b"\x81\xc4\x01a\x01", "a key is not a text");
        check(b"\xd6\xff\0\0\0\0", "it holds the type -1 of an application");
        check(b"\xc7\x01\x05x", "it holds the type 5 of an application");
        check(b"\xc1", "it holds a byte that begins nothing");
        check(&[0x91; 1000], "nested deeper than 576 levels");
        assert_eq!(to_json(&[0xdc, 0, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1], 8), Err(MsgpackError::TooLarge { bytes_max: 8 }));
    }
}
