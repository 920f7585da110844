//! Every type with values that it has, and that it has not.

use taskhost_core::Outcome;

use super::{call, echo, random, type_error, world};

/// Named types of the table below.
pub(super) const DEFINITIONS: &[(&str, &str)] = &[
    ("size", r#"(record (field "max-width" u16) (field "title" (option string)))"#),
    ("fit", r#"(enum "cover" "fill-all")"#),
    ("shape", r#"(variant (case "dot") (case "round-one" f32) (case "box" $size) (case "maybe" (option u8)))"#),
    ("marks", r#"(flags "a" "b-c" "d")"#),
    (
        "many",
        r#"(flags "f0" "f1" "f2" "f3" "f4" "f5" "f6" "f7" "f8" "f9" "g0" "g1" "g2" "g3" "g4" "g5" "g6" "g7" "g8" "g9"
        "h0" "h1" "h2" "h3" "h4" "h5" "h6" "h7" "h8" "h9" "i0" "i1")"#,
    ),
];

/// A type in WAT, and values of it: what is given, and what comes back if it is not the same.
const GOOD: &[(&str, &[(&str, &str)])] = &[
    ("bool", &[("true", ""), ("false", "")]),
    ("s8", &[("-128", ""), ("127", ""), ("-0", "0")]),
    ("u8", &[("0", ""), ("255", "")]),
    ("s16", &[("-32768", ""), ("32767", "")]),
    ("u16", &[("65535", "")]),
    ("s32", &[("-2147483648", ""), ("2147483647", "")]),
    ("u32", &[("4294967295", "")]),
    ("s64", &[("-9223372036854775808", ""), ("9223372036854775807", "")]),
    ("u64", &[("18446744073709551615", "")]),
    (
        "f32",
        &[
            ("0.1", ""),
            ("1", "1.0"),
            ("NaN", ""),
            ("-Infinity", ""),
            ("1e30", "1e+30"),
            ("16777217", "16777216.0"),
            ("-0.0", ""),
        ],
    ),
    (
        "f64",
        &[
            ("0.1", ""),
            ("1e300", "1e+300"),
            ("NaN", ""),
            ("Infinity", ""),
            ("12345678901234567890", "1.2345678901234567e+19"),
        ],
    ),
    ("char", &[(r#""x""#, ""), (r#""ü""#, r#""\u00fc""#), (r#""\ud83d\ude00""#, "")]),
    ("string", &[(r#""""#, ""), (r#""a\"\\\nü😀""#, r#""a\"\\\n\u00fc\ud83d\ude00""#)]),
    ("(list u32)", &[("[]", ""), ("[1,2 , 3]", "[1, 2, 3]")]),
    ("(list string)", &[(r#"["a", "", "b"]"#, "")]),
    ("(list (list s16))", &[("[[], [1], [-1, 2]]", "")]),
    (
        "(list u8)",
        &[
            ("[0, 255, 7]", r#"{"__type__": "base64", "__value__": "AP8H"}"#),
            (r#"{"__type__": "base64", "__value__": "AP8H"}"#, ""),
            (r#"{"__value__": "hi", "__type__": "bytes"}"#, r#"{"__type__": "base64", "__value__": "aGk="}"#),
            ("[]", r#"{"__type__": "base64", "__value__": ""}"#),
        ],
    ),
    ("(tuple u8 string f64)", &[(r#"[1, "x", 2.5]"#, "")]),
    (
        "$size",
        &[
            (r#"{"max_width": 1, "title": "x"}"#, ""),
            (r#"{"max-width": 1}"#, r#"{"max_width": 1, "title": null}"#),
            (r#"{"title": null, "max_width": 2}"#, r#"{"max_width": 2, "title": null}"#),
        ],
    ),
    (
        "$fit",
        &[
            (r#""cover""#, ""),
            (r#""fill_all""#, ""),
            (r#""fill-all""#, r#""fill_all""#),
            (r#"{"cover": null}"#, r#""cover""#),
        ],
    ),
    (
        "$shape",
        &[
            (r#""dot""#, ""),
            (r#"{"round_one": 1.5}"#, ""),
            (r#"{"round-one": 2}"#, r#"{"round_one": 2.0}"#),
            (r#"{"box": {"max_width": 3, "title": null}}"#, ""),
            (r#"{"maybe": null}"#, ""),
            (r#"{"maybe": 7}"#, ""),
        ],
    ),
    ("$marks", &[("[]", ""), (r#"["a", "d"]"#, ""), (r#"["b-c", "a", "a"]"#, r#"["a", "b_c"]"#)]),
    ("$many", &[(r#"["f0", "f8", "i1"]"#, "")]),
    ("(option u32)", &[("null", ""), ("5", "")]),
    ("(option (option string))", &[("null", ""), (r#"{"some": null}"#, ""), (r#"{"some": "x"}"#, "")]),
    ("(result u8 (error string))", &[(r#"{"ok": 1}"#, ""), (r#"{"err": "x"}"#, "")]),
    ("(result)", &[(r#""ok""#, ""), (r#""err""#, ""), (r#"{"ok": null}"#, r#""ok""#)]),
    ("(list $shape)", &[(r#"["dot", {"box": {"max_width": 1, "title": "t"}}, {"round_one": 0.5}]"#, "")]),
    ("(map string u32)", &[("{}", ""), (r#"{"a": 1, "ü": 2}"#, r#"{"a": 1, "\u00fc": 2}"#)]),
    ("(map u8 (option string))", &[(r#"[[1, "x"], [2, null]]"#, "")]),
];

/// A type, a value that it does not have, and what is wrong with it.
const BAD: &[(&str, &str, &str)] = &[
    ("bool", "1", "argument 'the_value': expected bool, not 1"),
    ("u16", "70000", "argument 'the_value': 70000 is out of range for u16 (0 to 65535)"),
    ("s8", "-129", "argument 'the_value': -129 is out of range for s8 (-128 to 127)"),
    ("u64", "-1", "argument 'the_value': -1 is out of range for u64 (0 to 18446744073709551615)"),
    (
        "u64",
        "18446744073709551616",
        "argument 'the_value': 18446744073709551616 is out of range for u64 (0 to 18446744073709551615)",
    ),
    ("u32", "3.0", "argument 'the_value': expected u32, not 3.0"),
    ("u32", "1e2", "argument 'the_value': expected u32, not 1e2"),
    ("u32", "true", "argument 'the_value': expected u32, not true"),
    ("u32", "null", "argument 'the_value': expected u32, not null"),
    ("u32", "\"1\"", "argument 'the_value': expected u32, not \"1\""),
    ("f32", "1e39", "argument 'the_value': 1e39 is out of range for f32"),
    ("f64", "1e309", "argument 'the_value': 1e309 is out of range for f64"),
    ("f64", "\"NaN\"", "argument 'the_value': expected f64, not \"NaN\""),
    ("char", "\"ab\"", "argument 'the_value': expected char, not \"ab\""),
    ("char", "\"\"", "argument 'the_value': expected char, not \"\""),
    ("char", r#""\ud800""#, r#"argument 'the_value': expected char, not "\ud800""#),
    ("string", "1", "argument 'the_value': expected string, not 1"),
    (
        "string",
        r#""\ud800""#,
        "argument 'the_value': the text has half of a surrogate pair, which a string cannot have",
    ),
    ("(list u32)", "{}", "argument 'the_value': expected list<u32>, not {}"),
    ("(list u32)", "[1, -1]", "argument 'the_value[1]': -1 is out of range for u32 (0 to 4294967295)"),
    ("(list u8)", "[1, 256]", "argument 'the_value[1]': 256 is out of range for u8 (0 to 255)"),
    ("(list u8)", "\"AP8H\"", "argument 'the_value': expected list<u8>, not \"AP8H\""),
    (
        "(list u8)",
        r#"{"__type__": "base64", "__value__": "?"}"#,
        r#"argument 'the_value': expected list<u8>, not {"__type__": "base64", "__value__": "?"}"#,
    ),
    ("(tuple u8 string f64)", "[1, \"x\"]", "argument 'the_value': expected tuple<u8, string, f64>, not [1, \"x\"]"),
    (
        "(tuple u8 string f64)",
        "[1, \"x\", 1, 2]",
        "argument 'the_value': expected tuple<u8, string, f64>, not [1, \"x\", 1, 2]",
    ),
    ("$size", "{}", "argument 'the_value': record size misses field 'max_width', which is u16"),
    (
        "$size",
        r#"{"max_width": 1, "colour": 2}"#,
        "argument 'the_value': record size has no field 'colour', it has 'max_width', 'title'",
    ),
    ("$size", r#"{"max_width": 70000}"#, "argument 'the_value.max_width': 70000 is out of range for u16 (0 to 65535)"),
    ("$size", r#"{"max_width": 1, "max-width": 2}"#, "argument 'the_value': field 'max_width' is given twice"),
    ("$size", "[]", "argument 'the_value': expected record size, not []"),
    ("$fit", "\"other\"", "argument 'the_value': enum fit has no case 'other', it has 'cover', 'fill_all'"),
    ("$fit", "3", "argument 'the_value': expected enum fit, not 3"),
    ("$shape", "\"box\"", "argument 'the_value': case 'box' has a value of type record size: {\"box\": ..}"),
    ("$shape", r#"{"dot": 1}"#, "argument 'the_value.dot': this case has no value, not 1"),
    (
        "$shape",
        r#"{"dot": null, "maybe": 1}"#,
        r#"argument 'the_value': expected variant shape, not {"dot": null, "maybe": 1}"#,
    ),
    ("$shape", "{}", "argument 'the_value': expected variant shape, not {}"),
    ("$shape", r#"{"box": {"max_width": "x"}}"#, "argument 'the_value.box.max_width': expected u16, not \"x\""),
    ("$marks", r#"["a", "e"]"#, "argument 'the_value[1]': flags marks has no flag \"e\", it has 'a', 'b_c', 'd'"),
    ("$marks", r#""a""#, "argument 'the_value': expected flags marks, not \"a\""),
    ("(option (option string))", "\"x\"", "argument 'the_value': expected option<option<string>>, not \"x\""),
    ("(result u8 (error string))", r#"{"ok": 256}"#, "argument 'the_value.ok': 256 is out of range for u8 (0 to 255)"),
    ("(map string u32)", r#"{"a": -1}"#, "argument 'the_value.a': -1 is out of range for u32 (0 to 4294967295)"),
    ("(map u8 (option string))", "{}", "argument 'the_value': expected map<u8, option<string>>, not {}"),
];

#[tokio::test]
async fn every_type_comes_back_as_it_was_given() {
    check_all(echo::Kind::Plain).await;
    // Through wasmtime's own values.
    check_all(echo::Kind::Async).await;
}

async fn check_all(functions: echo::Kind) {
    let types: Vec<String> = GOOD.iter().map(|(kind, _)| (*kind).to_owned()).collect();
    let world = world(echo::component(DEFINITIONS, &types, functions)).await;
    for (number, (kind, values)) in GOOD.iter().enumerate() {
        for (given, expected) in *values {
            let task = format!("test.echo.f{number}");
            let Outcome::Success(result) = call(&world, &task, &echo::arguments(given), "{}").await else {
                panic!("{kind} {given}: {:?}", call(&world, &task, &echo::arguments(given), "{}").await);
            };
            let expected = if expected.is_empty() { given } else { expected };
            assert_eq!(echo::value(result.as_str()), *expected, "{kind} {given}");
        }
    }
}

#[tokio::test]
async fn a_wrong_value_is_a_type_error_with_its_place() {
    let types: Vec<String> = BAD.iter().map(|(kind, ..)| (*kind).to_owned()).collect();
    let world = world(echo::component(DEFINITIONS, &types, echo::Kind::Plain)).await;
    for (number, (kind, value, expected)) in BAD.iter().enumerate() {
        let outcome = call(&world, &format!("test.echo.f{number}"), &echo::arguments(value), "{}").await;
        assert_eq!(outcome, type_error(&format!("f{number}() {expected}")), "{kind} {value}");
    }
    world.check_alive().await;
}

#[tokio::test]
async fn random_values_of_random_types_come_back() {
    let mut random = random::Random::new(20_261_126);
    for functions in [echo::Kind::Plain, echo::Kind::Async] {
        let (mut definitions, mut types) = (random::Definitions::default(), Vec::new());
        for _ in 0..60 {
            types.push(random.kind(3, &mut definitions));
        }
        let texts: Vec<String> = types.iter().map(random::Kind::wat).collect();
        let world = world(echo::component(&definitions.texts(), &texts, functions)).await;
        for (number, kind) in types.iter().enumerate() {
            for _ in 0..10 {
                let value = random.value(kind);
                let outcome = call(&world, &format!("test.echo.f{number}"), &echo::arguments(&value), "{}").await;
                let Outcome::Success(result) = outcome else { panic!("{} {value}: {outcome:?}", kind.wat()) };
                assert_eq!(echo::value(result.as_str()), value, "{}", kind.wat());
            }
        }
    }
}
