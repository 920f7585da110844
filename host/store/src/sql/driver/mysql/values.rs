//! Values as MySQL sends and takes them, and texts for tables whose character set lacks a character.

use bytes::Bytes;
use taskhost_core::{Json, Timestamp};

use crate::sql::table::Kind;
use crate::sql::value::Value;

/// What is sent.
pub(super) fn parameter(value: &Value) -> mysql_async::Value {
    match value {
        Value::Null => mysql_async::Value::NULL,
        Value::Text(text) => mysql_async::Value::Bytes(text.as_bytes().to_vec()),
        Value::Bytes(bytes) => mysql_async::Value::Bytes(bytes.to_vec()),
        Value::Int(number) => mysql_async::Value::Int(*number),
        Value::Time(at) => mysql_async::Value::Bytes(at.isoformat_naive(' ').into_bytes()),
    }
}

/// The value of a column; text and bytes look the same on the way.
pub(super) fn told_as(value: mysql_async::Value, kind: Kind) -> Value {
    match value {
        mysql_async::Value::Bytes(bytes) => match kind {
            Kind::Varchar(_) | Kind::Text => Value::Text(String::from_utf8_lossy(&bytes).into_owned()),
            Kind::Bytes | Kind::Int | Kind::Time | Kind::Zoned => Value::Bytes(Bytes::from(bytes)),
        },
        mysql_async::Value::Int(number) => Value::Int(number),
        mysql_async::Value::UInt(number) => i64::try_from(number).map_or(Value::Null, Value::Int),
        mysql_async::Value::Date(year, month, day, hour, minute, second, micros) => {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}");
            Timestamp::parse(&text).map_or(Value::Text(text), Value::Time)
        }
        _ => Value::Null,
    }
}

/// In ASCII. What is JSON stays the same JSON.
pub(super) fn escape(value: &mut Value) {
    let Value::Text(text) = value else { return };
    let escaped = if Json::parse(text.clone()).is_ok() { json } else { python };
    let said = |letter: char| if letter.is_ascii() { letter.to_string() } else { escaped(letter) };
    *text = text.chars().map(said).collect();
}

/// As `json.dumps` of Python says it.
fn json(letter: char) -> String {
    letter.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

/// As Python's `backslashreplace`.
fn python(letter: char) -> String {
    match letter as u32 {
        code @ ..=0xFF => format!("\\x{code:02x}"),
        code @ ..=0xFFFF => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json_stays_json() {
        let escaped = |text: &str| {
            let mut value = Value::Text(text.to_owned());
            escape(&mut value);
            value
        };
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(escaped(r#"{"größe": "🦀"}"#), text(r#"{"gr\u00f6\u00dfe": "\ud83e\udd80"}"#));
        assert_eq!(escaped("Traceback: größe 🦀"), text(r"Traceback: gr\xf6\xdfe \U0001f980"));
    }
}
