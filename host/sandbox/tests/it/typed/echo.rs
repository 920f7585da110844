//! Components in WAT whose functions give their first argument back, for any WIT type.

use std::fmt::Write as _;

/// What every function takes and gives beside the value, so that arguments and result are in memory.
const PADDING: usize = 17;

/// An allocator that never frees.
pub(crate) const REALLOC: &str = r#"
(memory (export "memory") 2)
(global $heap (mut i32) (i32.const 1024))
(func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32)
  (local $at i32)
  (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
  (global.set $heap (i32.add (local.get $at) (local.get 3)))
  (block $fits (loop $more
    (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
    (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
    (br $more)))
  (local.get $at))
"#;

/// Whether functions take a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Plain,
    Async,
}

/// A component with a function `f0`, `f1`, .. in `acme:test/echo` for each type. `definitions` are those of named types: the
/// name and what it is, in WAT.
pub(crate) fn component(definitions: &[(&str, &str)], types: &[String], kind: Kind) -> Vec<u8> {
    let word = if kind == Kind::Async { "async" } else { "" };
    let padding = format!("(tuple{})", " u8".repeat(PADDING));
    let mut text = format!(
        "(component (core module $m {REALLOC} (func (export \"echo\") (param i32) (result i32) (local.get 0)))
         (core instance $i (instantiate $m))\n"
    );
    let mut instance = String::new();
    for (name, definition) in definitions {
        writeln!(text, "(type ${name}-def {definition}) (export ${name} \"{name}\" (type ${name}-def))").expect("text");
        write!(instance, "(export \"{name}\" (type ${name}))").expect("text");
    }
    for (number, value) in types.iter().enumerate() {
        writeln!(
            text,
            "(func $f{number} {word} (param \"the-value\" {value}) (param \"padding\" {padding}) (result (tuple {value} {padding}))
               (canon lift (core func $i \"echo\") (memory (core memory $i \"memory\")) (realloc (core func $i \"realloc\"))))"
        )
        .expect("text");
        write!(instance, "(export \"f{number}\" (func $f{number}))").expect("text");
    }
    write!(text, "(instance $e {instance}) (export \"acme:test/echo@1.2.0\" (instance $e)))").expect("text");
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The arguments of such a function.
pub(crate) fn arguments(value: &str) -> String {
    format!("[{value}, {}]", padding())
}

/// What it was given, of what it gives back.
pub(crate) fn value(result: &str) -> &str {
    let end = format!(", {}]", padding());
    result.strip_prefix('[').and_then(|text| text.strip_suffix(end.as_str())).unwrap_or_else(|| panic!("{result}"))
}

fn padding() -> String {
    format!("[0{}]", ", 0".repeat(PADDING - 1))
}
