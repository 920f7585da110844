//! Header values to and from JSON.
//!
//! What JSON cannot say is written as kombu writes it (kombu/utils/json.py); what a header value
//! cannot hold is kept as JSON text, so that a value always comes back as it went.

use crate::message::HeaderValue;
use crate::protocol::content::{Json, Kind, Raw, ToJson, push_bytes, push_typed};
use crate::timestamp::Timestamp;

/// More decimal digits than this cannot be told apart by a double.
const DOUBLE_DIGITS_MAX: usize = 17;

impl ToJson for HeaderValue {
    fn write_json(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => value.write_json(out),
            Self::Int(value) => value.write_json(out),
            Self::Double(value) => value.write_json(out),
            Self::Text(value) => value.write_json(out),
            Self::Bytes(bytes) => push_bytes(out, bytes),
            Self::Timestamp(seconds) => {
                // py-amqp reads it as a naive datetime in UTC.
                let at = Timestamp::from_micros(i64::try_from(*seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000));
                push_typed(out, "datetime", &at.isoformat_naive('T'));
            }
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { ", " });
                    item.write_json(out);
                }
                out.push(']');
            }
            Self::Map(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { ", " });
                    key.write_json(out);
                    out.push_str(": ");
                    value.write_json(out);
                }
                out.push('}');
            }
            Self::Json(raw) => out.push_str(raw),
        }
    }
}

impl From<&HeaderValue> for Json {
    fn from(value: &HeaderValue) -> Self {
        Self::of(value)
    }
}

impl From<&Json> for HeaderValue {
    fn from(json: &Json) -> Self {
        header_value(json.raw())
    }
}

/// The header value that writes itself as this JSON again.
pub(crate) fn header_value(raw: Raw<'_>) -> HeaderValue {
    let as_it_is = || HeaderValue::Json(raw.str().to_owned());
    match raw.kind() {
        Kind::Null => HeaderValue::Null,
        Kind::Bool => HeaderValue::Bool(raw.as_bool().unwrap_or_default()),
        Kind::Number => number(raw).unwrap_or_else(as_it_is),
        Kind::Text => raw.as_text().map_or_else(as_it_is, |text| HeaderValue::Text(text.into_owned())),
        Kind::List => HeaderValue::List(raw.elements().map(header_value).collect()),
        Kind::Map => {
            let members = raw.members();
            let typed = members.map(|(key, value)| Some((key.as_text()?.into_owned(), header_value(value))));
            typed.collect::<Option<Vec<_>>>().map_or_else(as_it_is, HeaderValue::Map)
        }
    }
}

fn number(raw: Raw<'_>) -> Option<HeaderValue> {
    if let Some(integer) = raw.as_i64() {
        return Some(HeaderValue::Int(integer));
    }
    let is_float = raw.bytes().iter().any(|byte| matches!(byte, b'.' | b'e' | b'E' | b'N' | b'I'));
    let mantissa = raw.bytes().iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
    if !is_float || mantissa.filter(|byte| byte.is_ascii_digit()).count() > DOUBLE_DIGITS_MAX {
        return None;
    }
    let double = raw.as_f64()?;
    let overflowed = double.is_infinite() && !raw.bytes().ends_with(b"Infinity");
    (!overflowed).then_some(HeaderValue::Double(double))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_back_from_a_header_as_it_went() {
        for text in [
            "null",
            "[true, false]",
            "-9223372036854775808",
            "9223372036854775808",
            "1.5",
            "1e+300",
            "1e999",
            "0.1000000000000000055511151231257827",
            "[NaN, -Infinity]",
            r#""gr\u00fcn""#,
            r#"{"a": {"b": [1, "\ud800"]}, "": null}"#,
            r#"{"\udc00": 1}"#,
        ] {
            let json = Json::parse(text).expect("JSON");
            assert_eq!(Json::from(&HeaderValue::from(&json)).as_str(), text);
        }
    }

    #[test]
    fn only_what_has_no_typed_form_stays_text() {
        let value = |text: &'static str| HeaderValue::from(&Json::parse(text).expect("JSON"));
        assert_eq!(value("12"), HeaderValue::Int(12));
        assert_eq!(value("12.0"), HeaderValue::Double(12.0));
        assert_eq!(value("99999999999999999999"), HeaderValue::Json("99999999999999999999".into()));
        assert_eq!(value("[null]"), HeaderValue::List(vec![HeaderValue::Null]));
        assert_eq!(value(r#""\ud800""#), HeaderValue::Json(r#""\ud800""#.into()));
    }

    #[test]
    fn values_of_amqp_are_written_in_kombus_types() {
        let written = |value| Json::from(&value).to_string();
        assert_eq!(written(HeaderValue::Bytes(b"abc".into())), r#"{"__type__": "bytes", "__value__": "abc"}"#);
        assert_eq!(written(HeaderValue::Bytes(vec![0xff, 0])), r#"{"__type__": "base64", "__value__": "/wA="}"#);
        assert_eq!(
            written(HeaderValue::Timestamp(1_795_343_528)),
            r#"{"__type__": "datetime", "__value__": "2026-11-22T10:32:08"}"#
        );
    }
}
