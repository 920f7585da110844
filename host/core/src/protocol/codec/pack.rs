//! JSON as MessagePack, as Python's msgpack packs it (`use_bin_type=True`).
//!
//! Only writes; [`super::msgpack`] reads.

use rmp::encode;

use crate::protocol::codec::EncodeError;
use crate::protocol::content::{Kind, Raw, typed_bytes};

/// The bytes of a value.
pub(super) fn from_json(json: Raw<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::with_capacity(json.bytes().len());
    value(&mut out, json)?;
    Ok(out)
}

// Writing to a vector cannot fail, so what `encode` answers says nothing.
fn value(out: &mut Vec<u8>, json: Raw<'_>) -> Result<(), EncodeError> {
    match json.kind() {
        Kind::Null => {
            let _ = encode::write_nil(out);
        }
        Kind::Bool => {
            let _ = encode::write_bool(out, json.as_bool().unwrap_or_default());
        }
        Kind::Number => number(out, json)?,
        Kind::Text => text(out, json)?,
        Kind::List => {
            let _ = encode::write_array_len(out, length(json.elements().count())?);
            json.elements().try_for_each(|element| value(out, element))?;
        }
        Kind::Map => match typed_bytes(json) {
            Some(bytes) => {
                let _ = encode::write_bin_len(out, length(bytes.len())?);
                out.extend_from_slice(&bytes);
            }
            None => {
                let _ = encode::write_map_len(out, length(json.members().count())?);
                for (key, member) in json.members() {
                    text(out, key)?;
                    value(out, member)?;
                }
            }
        },
    }
    Ok(())
}

fn number(out: &mut Vec<u8>, json: Raw<'_>) -> Result<(), EncodeError> {
    let digits = json.str();
    if let Ok(number) = digits.parse::<i64>() {
        let _ = encode::write_sint(out, number);
    } else if let Ok(number) = digits.parse::<u64>() {
        let _ = encode::write_uint(out, number);
    } else if digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return Err(EncodeError::Integer);
    } else {
        let _ = encode::write_f64(out, json.as_f64().unwrap_or(f64::NAN));
    }
    Ok(())
}

fn text(out: &mut Vec<u8>, json: Raw<'_>) -> Result<(), EncodeError> {
    let text = json.as_text().ok_or(EncodeError::Surrogate)?;
    let _ = encode::write_str_len(out, length(text.len())?);
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn length(length: usize) -> Result<u32, EncodeError> {
    u32::try_from(length).map_err(|_| EncodeError::Length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::msgpack;

    #[track_caller]
    fn check(json: &str, expected: Result<&[u8], EncodeError>) {
        let raw = Raw::parse_wrapped(json.as_bytes()).expect("JSON");
        let packed = from_json(raw);
        assert_eq!(packed, expected.map(<[u8]>::to_vec), "{json}");
        if let Ok(packed) = packed {
            let again = msgpack::to_json(&packed, 1 << 20).expect("what was packed can be read");
            assert_eq!(again, json);
        }
    }

    #[test]
    fn values_are_packed_as_python_packs_them() {
        check("null", Ok(b"\xc0"));
        check("[true, false]", Ok(b"\x92\xc3\xc2"));
        check("[0, 127, 128, 255, 256, 65536]", Ok(b"\x96\0\x7f\xcc\x80\xcc\xff\xcd\x01\0\xce\0\x01\0\0"));
        check("[-1, -32, -33, -129]", Ok(b"\x94\xff\xe0\xd0\xdf\xd1\xff\x7f"));
        check("18446744073709551615", Ok(b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"));
        check("-9223372036854775808", Ok(b"\xd3\x80\0\0\0\0\0\0\0"));
        check("1.5", Ok(b"\xcb\x3f\xf8\0\0\0\0\0\0"));
        check("NaN", Ok(b"\xcb\x7f\xf8\0\0\0\0\0\0"));
        check("-Infinity", Ok(b"\xcb\xff\xf0\0\0\0\0\0\0"));
        check(r#""\u00fc""#, Ok(b"\xa2\xc3\xbc"));
        check(r#"{"a": [], "b": {}}"#, Ok(b"\x82\xa1a\x90\xa1b\x80"));
        check(r#"{"__type__": "bytes", "__value__": "ab"}"#, Ok(b"\xc4\x02ab"));
        check(r#"{"__type__": "base64", "__value__": "/wA="}"#, Ok(b"\xc4\x02\xff\0"));
        check(r#"{"__type__": "date", "__value__": "x"}"#, Ok(b"\x82\xa8__type__\xa4date\xa9__value__\xa1x"));
    }

    #[test]
    fn what_msgpack_cannot_say_is_refused() {
        check("18446744073709551616", Err(EncodeError::Integer));
        check("[-9223372036854775809]", Err(EncodeError::Integer));
        check(r#""\ud800""#, Err(EncodeError::Surrogate));
        check(r#"{"\ud800": 1}"#, Err(EncodeError::Surrogate));
    }
}
