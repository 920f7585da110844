//! Core modules as compilers make them become components, and what is none is told why.

use expect_test::{Expect, expect};
use wit_component::DecodedWasm;

use super::*;

/// The exports of a plugin, as a compiler would make them.
const TASKS: &str = r#"
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "taskhost:task/tasks@0.1.0#describe") (result i32) unreachable)
    (func (export "taskhost:task/tasks@0.1.0#run") (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) unreachable)
"#;

fn module(imports: &str, rest: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {imports} {rest})")).unwrap()
}

/// What the component of this module imports and exports.
#[track_caller]
fn check(module: Vec<u8>, expected: Expect) {
    let component = componentise(module, &World::ours(None).unwrap()).unwrap();
    assert_eq!(Kind::of(&component), Kind::Component);
    let DecodedWasm::Component(resolve, world) = wit_component::decode(&component).unwrap() else {
        panic!("it should be a component");
    };
    let world = &resolve.worlds[world];
    let mut text = String::new();
    for (word, keys) in [("imports", world.imports.keys()), ("exports", world.exports.keys())] {
        keys.for_each(|key| text.push_str(&format!("{word} {}\n", resolve.name_world_key(key))));
    }
    expected.assert_eq(&text);
}

#[track_caller]
fn check_refused(module: Vec<u8>, expected: Expect) {
    let error = componentise(module, &World::ours(None).unwrap()).unwrap_err();
    expected.assert_eq(&format!("{error:#}"));
}

#[test]
fn a_component_imports_only_what_its_module_does() {
    check(
        module(r#"(import "taskhost:task/context@0.1.0" "cancelled" (func (result i32)))"#, TASKS),
        expect![[r#"
            imports taskhost:task/types@0.1.0
            imports taskhost:task/context@0.1.0
            exports taskhost:task/tasks@0.1.0
        "#]],
    );
}

#[test]
fn what_was_written_for_preview_1_gets_an_adapter() {
    let imports = r#"
        (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
        (import "wasi:random/random@0.2.0" "get-random-u64" (func (result i64)))
    "#;
    check(
        module(imports, TASKS),
        expect![[r#"
            imports wasi:io/error@0.2.12
            imports wasi:io/streams@0.2.12
            imports taskhost:task/types@0.1.0
            imports wasi:cli/stderr@0.2.12
            imports wasi:random/random@0.2.12
            exports taskhost:task/tasks@0.1.0
        "#]],
    );
}

#[test]
fn what_only_debuggers_read_is_left_out() {
    let plain = module("", TASKS);
    let mut debuggable = plain.clone();
    debuggable.extend(b"\0\x10\x0b.debug_infoABCD");
    debuggable.extend(b"\0\x07\x05extraX");
    let mut expected = plain.clone();
    expected.extend(b"\0\x07\x05extraX");
    assert_eq!(without_debugging(&debuggable).unwrap(), expected);
    assert_eq!(without_debugging(&plain).unwrap(), plain);
}

#[test]
fn a_module_without_an_sdk_is_told_what_it_lacks() {
    check_refused(
        module("", r#"(memory (export "memory") 1) (func (export "add") (result i32) unreachable)"#),
        expect![
            "it does not export `taskhost:task/tasks@0.1.0#describe`, `taskhost:task/tasks@0.1.0#run`: is the SDK linked into it?"
        ],
    );
}

#[test]
fn functions_that_nobody_defines_are_named() {
    check_refused(
        module(r#"(import "env" "resize" (func)) (import "env" "crop" (func))"#, TASKS),
        expect!["nothing defines `resize`, `crop`: is a source file or a library missing?"],
    );
}

#[test]
fn interfaces_of_another_world_are_named() {
    check_refused(
        module(r#"(import "acme:gpu/device" "run" (func)) (import "acme:gpu/device" "stop" (func))"#, TASKS),
        expect!["it imports `acme:gpu/device`, which the world `sdk` does not have"],
    );
}

#[test]
fn a_module_may_bring_its_own_world() {
    let mut resolve = Resolve::default();
    let package =
        resolve.push_source("mine.wit", "package acme:mine; world mine { export add: func() -> u32; }").unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut module = module("", r#"(memory (export "memory") 1) (func (export "add") (result i32) unreachable)"#);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    check(
        module,
        expect![[r#"
        exports add
    "#]],
    );
}

#[test]
fn a_projects_world_may_use_our_interface_without_a_copy_of_it() {
    let folder = std::env::temp_dir().join(format!("taskhost-world-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let text = "package acme:mine;\nworld mine { include taskhost:task/sdk@0.1.0; export add: func() -> u32; }\n";
    std::fs::write(folder.join("mine.wit"), text).unwrap();
    let world = World::read(&folder, Some("mine"));
    let unknown = World::read(&folder, Some("other")).map(drop);
    std::fs::remove_dir_all(&folder).unwrap();
    let world = world.unwrap();
    assert!(world.imports().contains("taskhost:task/publish@0.1.0"));
    assert!(world.exports().contains(&"add".to_owned()));
    assert!(unknown.unwrap_err().to_string().contains("other"));
}
