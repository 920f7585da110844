//! Arguments of all sorts: whatever they are, they are refused in words or become bytes.

use std::collections::BTreeMap;

use bolero::{TypeGenerator, check};
use wasmtime::component::Component;

use super::*;

/// A value, without most of what makes two values of the same sort different.
#[derive(Debug, TypeGenerator)]
enum Value {
    Null,
    Bool(bool),
    Number(i64),
    Word(#[generator(0..WORDS.len())] usize),
    List(#[generator(bolero::generator::produce_with::<Vec<Value>>().len(0usize..4))] Vec<Value>),
    Map(#[generator(bolero::generator::produce_with::<Vec<(Key, Value)>>().len(0usize..4))] Vec<(Key, Value)>),
}

#[derive(Debug, TypeGenerator)]
struct Key(#[generator(0..WORDS.len())] usize);

/// JSON texts, among them names of the types below.
const WORDS: [&str; 12] = [
    r#""a""#,
    r#""b-c""#,
    r#""b_c""#,
    r#""x""#,
    r#""y""#,
    r#""some""#,
    r#""ok""#,
    r#""__type__""#,
    r#""__value__""#,
    r#""base64""#,
    r#""\ud800""#,
    r#""""#,
];

impl Value {
    fn write(&self, text: &mut String) {
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(truth) => text.push_str(if *truth { "true" } else { "false" }),
            Self::Number(number) => text.push_str(&number.to_string()),
            Self::Word(index) => text.push_str(WORDS[*index]),
            Self::List(values) => write_list(values, text),
            Self::Map(members) => write_map(members, text),
        }
    }
}

fn write_list(values: &[Value], text: &mut String) {
    text.push('[');
    for (number, value) in values.iter().enumerate() {
        text.push_str(if number > 0 { "," } else { "" });
        value.write(text);
    }
    text.push(']');
}

fn write_map(members: &[(Key, Value)], text: &mut String) {
    text.push('{');
    for (number, (key, value)) in members.iter().enumerate() {
        text.push_str(if number > 0 { ", " } else { "" });
        text.push_str(WORDS[key.0]);
        text.push_str(" : ");
        value.write(text);
    }
    text.push('}');
}

fn function() -> Arc<Function> {
    let text = r#"(component
        (core module $m (memory (export "memory") 1) (func (export "f") (param i32))
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
        (core instance $i (instantiate $m))
        (type $r' (record (field "a" (option string)) (field "b-c" (list s16)))) (export $r "r" (type $r'))
        (type $v' (variant (case "x") (case "y" $r) (case "a" f32) (case "b-c" (tuple bool char)))) (export $v "v" (type $v'))
        (type $f' (flags "a" "b-c")) (export $f "f" (type $f'))
        (func $g (param "x" (list $v)) (param "y" (option (option $r))) (param "a" (option (result (list u8) (error $f))))
          (param "b-c" (option (list (list u8)))) (param "some" (option (tuple u64 u64 u64 u64 u64)))
          (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
        (instance $e (export "r" (type $r)) (export "v" (type $v)) (export "f" (type $f)) (export "g" (func $g)))
        (export "acme:a/b" (instance $e)))"#;
    let engine = wasmtime::Engine::default();
    let component = Component::new(&engine, wat::parse_str(text).expect("valid WAT")).expect("a component");
    let mut found = find(&engine, &component, false, &BTreeMap::new()).expect("its functions can be tasks");
    Arc::new(found.functions.remove(0).1)
}

#[test]
fn any_arguments_become_bytes_or_a_text() {
    let function = function();
    let arguments = bolero::generator::produce::<(Vec<Value>, Vec<(Key, Value)>)>();
    check!().with_generator(arguments).for_each(|(args, kwargs)| {
        let (mut list, mut map) = (String::new(), String::new());
        write_list(args, &mut list);
        write_map(kwargs, &mut map);
        // What is nested too deeply does not come this far.
        let (Ok(list), Ok(map)) = (Json::parse(list), Json::parse(map)) else { return };
        match function.encode(&list, &map, 1 << 20) {
            Ok(block) => assert_eq!((block.bytes.len(), block.align), (function.shape.size, function.shape.align)),
            Err(Refusal::TypeError(text)) => assert!(text.starts_with("g() "), "{text}"),
            Err(Refusal::TooLarge) => {}
        }
    });
}

#[test]
fn a_function_is_shown_as_it_is_called() {
    let function = function();
    assert_eq!(
        function.signature(),
        "g(x: list<v>, y: option<option<r>>, a: option<result<list<u8>, f>>, b_c: option<list<list<u8>>>, \
         some: option<tuple<u64, u64, u64, u64, u64>>)"
    );
    assert_eq!(
        function.types(),
        [
            "record r { a: option<string>, b-c: list<s16> }",
            "variant v { x, y(r), a(f32), b-c(tuple<bool, char>) }",
            "flags f { a, b-c }"
        ]
    );
}
