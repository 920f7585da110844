//! What a scalar means (yaml/resolver.py, yaml/constructor.py of PyYAML).

use base64::Engine;
use jiff::civil;

use super::YamlError;
use crate::protocol::content::{ToJson, push_bytes, push_typed};
use crate::protocol::envelope::LIBERAL;

const CORE: &str = "tag:yaml.org,2002:";

/// A value without parts.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    /// Decimal digits, of any number.
    Int(String),
    Float(f64),
    Text(String),
    /// As Python's `isoformat` writes it.
    Date(String),
    Time(String),
    Bytes(Vec<u8>),
    /// `<<`, which is a command where it is a key.
    Merge,
}

impl ToJson for Scalar {
    fn write_json(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => value.write_json(out),
            Self::Int(digits) => out.push_str(digits),
            Self::Float(number) => number.write_json(out),
            Self::Text(text) => text.write_json(out),
            Self::Date(date) => push_typed(out, "date", date),
            Self::Time(time) => push_typed(out, "datetime", time),
            Self::Bytes(bytes) => push_bytes(out, bytes),
            Self::Merge => "<<".write_json(out),
        }
    }
}

/// The meaning of a text with this tag; a plain one without tag speaks for itself.
pub(super) fn resolve(text: &str, is_plain: bool, tag: Option<&str>) -> Result<Scalar, YamlError> {
    let no = |kind| YamlError::Scalar { text: text.to_owned(), kind };
    let Some(tag) = tag else {
        return match is_plain {
            true => plain(text),
            false => Ok(Scalar::Text(text.to_owned())),
        };
    };
    match tag.strip_prefix(CORE) {
        None if tag == "!" => Ok(Scalar::Text(text.to_owned())),
        Some("str") => Ok(Scalar::Text(text.to_owned())),
        Some("null") => Ok(Scalar::Null),
        Some("bool") => boolean(text).map(Scalar::Bool).ok_or_else(|| no("truth value")),
        Some("int") => integer(text).ok_or_else(|| no("number"))?,
        Some("float") => {
            let number = float(text).or_else(|| text.replace('_', "").parse().ok());
            number.map(Scalar::Float).ok_or_else(|| no("number"))
        }
        Some("timestamp") => timestamp(text).ok_or_else(|| no("time"))?,
        Some("binary") => {
            let packed: String = text.chars().filter(|character| !character.is_ascii_whitespace()).collect();
            LIBERAL.decode(packed).map(Scalar::Bytes).map_err(|_| no("text in base64"))
        }
        _ => Err(YamlError::Tag(tag.to_owned())),
    }
}

fn plain(text: &str) -> Result<Scalar, YamlError> {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Ok(Scalar::Null);
    }
    if text == "<<" {
        return Ok(Scalar::Merge);
    }
    if let Some(value) = boolean(text) {
        return Ok(Scalar::Bool(value));
    }
    if text.starts_with(|first: char| matches!(first, '-' | '+' | '.' | '0'..='9')) {
        if let Some(number) = float(text) {
            return Ok(Scalar::Float(number));
        }
        if let Some(value) = integer(text).or_else(|| timestamp(text)) {
            return value;
        }
    }
    Ok(Scalar::Text(text.to_owned()))
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// None if the text is no integer; an error if it is one that is not read.
fn integer(text: &str) -> Option<Result<Scalar, YamlError>> {
    let digits = unsigned(text);
    let magnitude = match digits.contains(':') {
        true => Some(sexagesimal(digits)?.0.to_string()),
        false => magnitude(digits)?,
    };
    let Some(magnitude) = magnitude else {
        return Some(Err(YamlError::Scalar { text: text.to_owned(), kind: "number of at most 128 bits" }));
    };
    let sign = if text.starts_with('-') && magnitude != "0" { "-" } else { "" };
    Some(Ok(Scalar::Int(format!("{sign}{magnitude}"))))
}

/// The number in decimal digits: of any number if it is written so, up to 128 bits in another base.
fn magnitude(text: &str) -> Option<Option<String>> {
    let (base, digits) = match text.as_bytes() {
        [b'0', b'b', ..] => (2, &text[2..]),
        [b'0', b'x', ..] => (16, &text[2..]),
        [b'0', _, ..] => (8, &text[1..]),
        [b'_', ..] | [] => return None,
        _ => (10, text),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit == '_' || digit.is_digit(base)) {
        return None;
    }
    let digits = digits.replace('_', "");
    match base {
        10 => Some(Some(digits)),
        _ => Some(u128::from_str_radix(&digits, base).ok().map(|number| number.to_string())),
    }
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

/// `1:30` is 90. Answers the whole part, and what follows the point if there is one.
fn sexagesimal(digits: &str) -> Option<(u128, Option<String>)> {
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_') => {
            (whole, Some(fraction.replace('_', "")))
        }
        Some(_) => return None,
        None => (digits, None),
    };
    let mut parts = whole.split(':');
    let first = parts.next()?;
    let starts = if fraction.is_some() { u8::is_ascii_digit } else { |byte: &u8| matches!(byte, b'1'..=b'9') };
    if !first.as_bytes().first().is_some_and(starts) {
        return None;
    }
    let mut total: u128 = first.replace('_', "").parse().ok()?;
    for part in parts {
        let is_part = matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
        let digits: u128 = part.parse().ok().filter(|_| is_part)?;
        total = total.checked_mul(60)?.checked_add(digits)?;
    }
    Some((total, fraction))
}

fn float(text: &str) -> Option<f64> {
    let digits = unsigned(text);
    let is_signed = digits.len() < text.len();
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    match digits {
        ".inf" | ".Inf" | ".INF" => return Some(sign * f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" if !is_signed => return Some(f64::NAN),
        _ => {}
    }
    if digits.contains(':') {
        let (whole, fraction) = sexagesimal(digits)?;
        let fraction: f64 = format!("0.{}0", fraction?).parse().ok()?;
        return Some(sign * (whole as f64 + fraction));
    }
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let is_begun = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    let has_digits = is_begun(whole) || (whole.is_empty() && is_begun(fraction) && !is_signed);
    let is_exponent = |text: &str| {
        text.strip_prefix(['-', '+'])
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if !has_digits || !is_number(whole) || !is_number(fraction) || !exponent.is_none_or(is_exponent) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// None if the text has not the form of a time; an error if there is no such time.
fn timestamp(text: &str) -> Option<Result<Scalar, YamlError>> {
    let no = |kind| Some(Err(YamlError::Scalar { text: text.to_owned(), kind }));
    let mut rest = Cursor(text);
    let year = rest.number(4, 4)?;
    let (month, has_long_month) = rest.after('-')?.short()?;
    let (day, has_long_day) = rest.after('-')?.short()?;
    let date = civil::Date::new(year as i16, month as i8, day as i8).ok().filter(|_| year > 0);
    if rest.0.is_empty() {
        if !has_long_month || !has_long_day {
            return None;
        }
        let Some(date) = date else { return no("date") };
        return Some(Ok(Scalar::Date(date.to_string())));
    }
    if rest.after('T').is_none() && rest.after('t').is_none() && !rest.skip_space() {
        return None;
    }
    let (hour, _) = rest.short()?;
    let minute = rest.after(':')?.number(2, 2)?;
    let second = rest.after(':')?.number(2, 2)?;
    let fraction = match rest.after('.') {
        Some(rest) => rest.digits(),
        None => "",
    };
    let micros: u32 = format!("{fraction:0<6}")[..6].parse().ok()?;
    let zone = zone(&mut rest)?;
    let time = civil::Time::new(hour as i8, minute as i8, second as i8, 0);
    let (Some(date), Ok(time)) = (date, time) else { return no("time") };
    let micros = if micros == 0 { String::new() } else { format!(".{micros:06}") };
    Some(Ok(Scalar::Time(format!("{date}T{time}{micros}{zone}"))))
}

/// The offset as `isoformat` writes it, at the end of the text.
fn zone(rest: &mut Cursor<'_>) -> Option<String> {
    let has_space = rest.skip_space();
    if rest.0.is_empty() && !has_space {
        return Some(String::new());
    }
    if rest.after('Z').is_some() {
        return rest.0.is_empty().then(|| "+00:00".to_owned());
    }
    let is_west = rest.after('-').is_some();
    if !is_west {
        rest.after('+')?;
    }
    let (hours, _) = rest.short()?;
    let minutes = match rest.after(':') {
        Some(rest) => rest.number(2, 2)?,
        None => 0,
    };
    let sign = if is_west && hours + minutes > 0 { '-' } else { '+' };
    (rest.0.is_empty() && hours < 24 && minutes < 60).then(|| format!("{sign}{hours:02}:{minutes:02}"))
}

/// What is left of a text.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn after(&mut self, character: char) -> Option<&mut Self> {
        self.0 = self.0.strip_prefix(character)?;
        Some(self)
    }

    fn digits(&mut self) -> &'a str {
        let end = self.0.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at(end);
        self.0 = rest;
        digits
    }

    fn number(&mut self, length_min: usize, length_max: usize) -> Option<u32> {
        let digits = self.digits();
        if !(length_min..=length_max).contains(&digits.len()) {
            return None;
        }
        digits.parse().ok()
    }

    /// A number of one or two digits, and whether it has two.
    fn short(&mut self) -> Option<(u32, bool)> {
        let before = self.0.len();
        let number = self.number(1, 2)?;
        Some((number, before - self.0.len() == 2))
    }

    fn skip_space(&mut self) -> bool {
        let rest = self.0.trim_start_matches([' ', '\t']);
        let skipped = rest.len() < self.0.len();
        self.0 = rest;
        skipped
    }
}
