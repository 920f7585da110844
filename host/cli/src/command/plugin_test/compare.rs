//! Compares JSON as people mean it: numbers as numbers, objects in any order.
//!
//! Knows nothing of tasks.

use std::collections::BTreeMap;

use taskhost_core::protocol::content::{Json, Kind};

/// Where two values differ for the first time, and how; none if they are the same.
pub(super) fn difference(expected: &Json, found: &Json) -> Option<String> {
    differ("", expected, found)
}

/// The same, but that an object may have members that are not expected.
pub(super) fn lacks(expected: &Json, found: &Json) -> Option<String> {
    for (key, expected) in expected.members() {
        let path = format!(".{key}");
        match found.get(&key) {
            None => return Some(format!("{path}: expected {expected}, found nothing")),
            Some(found) => {
                if let Some(difference) = differ(&path, &expected, &found) {
                    return Some(difference);
                }
            }
        }
    }
    None
}

fn differ(path: &str, expected: &Json, found: &Json) -> Option<String> {
    let differs = || {
        let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
        Some(format!("{place}expected {expected}, found {found}"))
    };
    if expected.kind() != found.kind() {
        return differs();
    }
    match expected.kind() {
        Kind::Null => None,
        Kind::Bool => (expected.as_bool() != found.as_bool()).then(differs).flatten(),
        Kind::Number => (!same_number(expected, found)).then(differs).flatten(),
        Kind::Text => (!same_text(expected, found)).then(differs).flatten(),
        Kind::List => {
            let (expected, found): (Vec<_>, Vec<_>) = (expected.elements().collect(), found.elements().collect());
            if expected.len() != found.len() {
                return differs();
            }
            let pairs = expected.iter().zip(&found).enumerate();
            pairs
                .map(|(index, (expected, found))| differ(&format!("{path}[{index}]"), expected, found))
                .find_map(|it| it)
        }
        Kind::Map => {
            // Of several with the same key the last counts, as in Python.
            let (expected, found): (BTreeMap<_, _>, BTreeMap<_, _>) =
                (expected.members().collect(), found.members().collect());
            let missing = expected.keys().find(|key| !found.contains_key(*key));
            let more = found.keys().find(|key| !expected.contains_key(*key));
            match (missing, more) {
                (Some(key), _) => Some(format!("{path}.{key}: expected {}, found nothing", expected[key])),
                (None, Some(key)) => Some(format!("{path}.{key}: expected nothing, found {}", found[key])),
                (None, None) => {
                    expected.iter().find_map(|(key, expected)| differ(&format!("{path}.{key}"), expected, &found[key]))
                }
            }
        }
    }
}

/// `1` and `1.0` are the same; of integers every digit counts.
fn same_number(one: &Json, other: &Json) -> bool {
    let is_integer = |json: &Json| json.as_str().bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if is_integer(one) && is_integer(other) {
        let plain = |json: &Json| if json.as_str() == "-0" { "0".to_owned() } else { json.as_str().to_owned() };
        return plain(one) == plain(other);
    }
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other || (one.is_nan() && other.is_nan()),
        _ => false,
    }
}

fn same_text(one: &Json, other: &Json) -> bool {
    match (one.as_text(), other.as_text()) {
        (Some(one), Some(other)) => one == other,
        // A surrogate without its other half is written in one way only.
        (None, None) => one.as_str().eq_ignore_ascii_case(other.as_str()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(compare: fn(&Json, &Json) -> Option<String>, expected: &str, found: &str, difference: Option<&str>) {
        let json = |text: &str| Json::parse(text.to_owned()).expect("JSON");
        assert_eq!(compare(&json(expected), &json(found)).as_deref(), difference, "{expected} {found}");
    }

    #[test]
    fn numbers_are_compared_as_numbers_and_objects_in_any_order() {
        for (one, other) in [
            ("1", "1.0"),
            ("1e2", "100"),
            ("-0", "0"),
            ("NaN", "NaN"),
            ("Infinity", "Infinity"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            (r#"{"a": 1, "b": [2, null]}"#, r#"{"b":[2.0,null],"a":1}"#),
            (r#""\u00fc""#, r#""ü""#),
            (r#""\ud800""#, r#""\uD800""#),
            (r#"{"a": 1, "a": 2}"#, r#"{"a": 2}"#),
        ] {
            check(difference, one, other, None);
        }
        check(difference, "1", "2", Some("expected 1, found 2"));
        check(difference, "1", "\"1\"", Some("expected 1, found \"1\""));
        check(difference, "true", "1", Some("expected true, found 1"));
        check(difference, "true", "false", Some("expected true, found false"));
        check(
            difference,
            "123456789012345678901234567890",
            "123456789012345678901234567891",
            Some("expected 123456789012345678901234567890, found 123456789012345678901234567891"),
        );
    }

    #[test]
    fn a_difference_says_where_it_is() {
        check(difference, r#"{"a": [1, {"b": 2}]}"#, r#"{"a": [1, {"b": 3}]}"#, Some(".a[1].b: expected 2, found 3"));
        check(difference, r#"{"a": 1}"#, "{}", Some(".a: expected 1, found nothing"));
        check(difference, "{}", r#"{"a": 1}"#, Some(".a: expected nothing, found 1"));
        check(difference, "[1]", "[1, 2]", Some("expected [1], found [1, 2]"));
        check(lacks, r#"{"a": 1}"#, r#"{"a": 1, "b": 2}"#, None);
        check(lacks, r#"{"a": {"c": 1}}"#, r#"{"a": {"c": 2}, "b": 2}"#, Some(".a.c: expected 1, found 2"));
        check(lacks, r#"{"x": 1}"#, r#"{"a": 1}"#, Some(".x: expected 1, found nothing"));
    }
}
