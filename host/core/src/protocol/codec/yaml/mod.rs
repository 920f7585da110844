//! YAML, as PyYAML's `safe_load` reads it, rewritten as JSON.
//!
//! The parser knows YAML 1.2; what a plain scalar means is decided here, and is YAML 1.1 as in Python.

mod build;
mod emit;
mod scalar;
mod write;

use crate::protocol::content::WRAPPED_DEPTH_MAX;

pub(super) use emit::from_json;

/// Why a text is not YAML that has a form in JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    #[error("not UTF-8 at byte {0}")]
    Utf8(usize),
    #[error("{what} at line {line}")]
    Syntax { what: String, line: usize },
    #[error("tag `{0}` is not one of safe_load's")]
    Tag(String),
    #[error("`{text}` is not a {kind}")]
    Scalar { text: String, kind: &'static str },
    #[error("a key is neither text nor number")]
    Key,
    #[error("what `<<` merges is not a map")]
    Merge,
    #[error("it contains itself")]
    Cycle,
    #[error("there is more than one document")]
    Documents,
    #[error("nested deeper than {WRAPPED_DEPTH_MAX} levels")]
    TooDeep,
    #[error("it is over {bytes_max} bytes when written as JSON")]
    TooLarge { bytes_max: usize },
}

/// The one document of these bytes as JSON text.
pub(super) fn to_json(bytes: &[u8], bytes_max: usize) -> Result<String, YamlError> {
    let text = std::str::from_utf8(bytes).map_err(|error| YamlError::Utf8(error.valid_up_to()))?;
    let tree = build::tree(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    write::json(&tree, bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 1 << 16;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = to_json(text.as_bytes(), BYTES_MAX).unwrap_or_else(|error| error.to_string());
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn plain_scalars_mean_what_yaml_1_1_says() {
        for (text, expected) in [
            ("", "null"),
            ("~", "null"),
            ("Null", "null"),
            ("nULL", "\"nULL\""),
            ("[yes, No, ON, off, true, FALSE]", "[true, false, true, false, true, false]"),
            ("[y, n, yEs]", r#"["y", "n", "yEs"]"#),
            ("[0, -0, +12, -1_000]", "[0, 0, 12, -1000]"),
            ("[017, 0o17, 0x1F, 0b101, 08]", r#"[15, "0o17", 31, 5, "08"]"#),
            ("[190:20:30, -1:30, 1:30.5]", "[685230, -90, 90.5]"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("[1.5, -.5, .5, 1., 1e5, 1.0e5, 1.0e+5]", "[1.5, \"-.5\", 0.5, 1.0, \"1e5\", \"1.0e5\", 100000.0]"),
            ("[.inf, -.INF, +.Inf, .nan, -.nan]", "[Infinity, -Infinity, Infinity, NaN, \"-.nan\"]"),
            ("'12'", "\"12\""),
            ("\"null\"", "\"null\""),
            ("|\n  true\n", "\"true\\n\""),
            ("grüße", "\"gr\\u00fc\\u00dfe\""),
            ("-", "[null]"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn times_are_kombus_typed_values() {
        let typed = |kind: &str, value: &str| format!(r#"{{"__type__": "{kind}", "__value__": "{value}"}}"#);
        for (text, kind, value) in [
            ("2026-11-22", "date", "2026-11-22"),
            ("2026-11-22 10:32:08.348566+00:00", "datetime", "2026-11-22T10:32:08.348566+00:00"),
            ("2026-11-22T10:32:08Z", "datetime", "2026-11-22T10:32:08+00:00"),
            ("2026-1-2 3:04:05.5", "datetime", "2026-01-02T03:04:05.500000"),
            ("2026-11-22 10:32:08 -5", "datetime", "2026-11-22T10:32:08-05:00"),
            ("2026-11-22 10:32:08.1234567 +05:30", "datetime", "2026-11-22T10:32:08.123456+05:30"),
            ("!!timestamp '2026-11-22'", "date", "2026-11-22"),
        ] {
            check(text, &typed(kind, value));
        }
        for text in ["2026-1-2", "2026-11-22 10:32", "2026-11-22T10:32:08X"] {
            check(text, &format!("\"{text}\""));
        }
        check("2026-13-01", "`2026-13-01` is not a date");
        check("2026-12-01 25:00:00", "`2026-12-01 25:00:00` is not a time");
    }

    #[test]
    fn tags_are_those_of_safe_load() {
        check("!!str 12", "\"12\"");
        check("! 12", "\"12\"");
        check("!!int '12'", "12");
        check("!!float 12", "12.0");
        check("!!binary aGk=", r#"{"__type__": "bytes", "__value__": "hi"}"#);
        check("!!binary |\n  /w\n  A=\n", r#"{"__type__": "base64", "__value__": "/wA="}"#);
        check("!!set {a: null, b: null}", r#"["a", "b"]"#);
        check("!!seq []", "[]");
        check("!!map {}", "{}");
        check("!!int x", "`x` is not a number");
        check("!!binary '*'", "`*` is not a text in base64");
        check(
            "!!python/object:os.system x",
            "tag `tag:yaml.org,2002:python/object:os.system` is not one of safe_load's",
        );
        check("!own [1]", "tag `!own` is not one of safe_load's");
    }

    #[test]
    fn keys_are_what_json_makes_of_them() {
        check(
            "{1: a, 1.5: b, true: c, null: d, e: f}",
            r#"{"1": "a", "1.5": "b", "true": "c", "null": "d", "e": "f"}"#,
        );
        check("{.nan: a, .inf: b}", r#"{"NaN": "a", "Infinity": "b"}"#);
        check("{2026-11-22: a}", "a key is neither text nor number");
        check("? [a]\n: b\n", "a key is neither text nor number");
    }

    #[test]
    fn aliases_are_copies_and_maps_merge() {
        check("[&a [1], *a, *a]", "[[1], [1], [1]]");
        check(
            "base: &b {x: 1, y: 2}\nown: {<<: *b, y: 3}\n",
            r#"{"base": {"x": 1, "y": 2}, "own": {"x": 1, "y": 2, "y": 3}}"#,
        );
        check("{<<: [{x: 1}, {x: 2}]}", r#"{"x": 2, "x": 1}"#);
        check("{<<: 1}", "what `<<` merges is not a map");
        check("'<<': 1", r#"{"<<": 1}"#);
        check("&a [*a]", "it contains itself");
        check("[*b]", "while parsing node, found unknown anchor at line 1");
    }

    #[test]
    fn small_texts_do_not_become_large_ones() {
        let mut lists = "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned();
        let mut maps = "a0: &a0 {}\n".to_owned();
        for level in 1..30 {
            let aliases = vec![format!("*a{}", level - 1); 8].join(", ");
            lists.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
            maps.push_str(&format!("a{level}: &a{level} {{<<: [{aliases}]}}\n"));
        }
        check(&lists, "it is over 65536 bytes when written as JSON");
        check(&maps, "it is over 65536 bytes when written as JSON");
        check(&"- ".repeat(1000), "nested deeper than 576 levels");
        let mut chain = "a0: &a0 [1]\n".to_owned();
        for level in 1..1000 {
            chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        assert!(to_json(chain.as_bytes(), 1 << 30).is_err_and(|error| error == YamlError::TooDeep));
    }

    #[test]
    fn other_texts_are_refused() {
        check("a\n--- \nb\n", "there is more than one document");
        assert!(matches!(to_json(b"[1", BYTES_MAX), Err(YamlError::Syntax { .. })));
        assert!(matches!(to_json(b"{a: b: c}", BYTES_MAX), Err(YamlError::Syntax { .. })));
        assert_eq!(to_json(b"ab\xff", BYTES_MAX), Err(YamlError::Utf8(2)));
        check("\u{feff}a", "\"a\"");
    }
}
