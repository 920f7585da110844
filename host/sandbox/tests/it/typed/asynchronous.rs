//! Functions of a plugin's own that take a while.

use taskhost_core::{Exception, Json, Outcome, Trap};

use super::{call, type_error, world};
use crate::world::json;

/// `count: async func(to: u32) -> tuple<u32, string>`, which answers at once, `fail: async func() -> result<_, string>`, and a
/// function that takes no while.
fn component() -> Vec<u8> {
    let text = r#"(component
        (core module $libc (memory (export "memory") 1))
        (core instance $libc (instantiate $libc))
        (alias core export $libc "memory" (core memory $memory))
        (core func $return-count (canon task.return (result (tuple u32 string)) (memory $memory)))
        (core func $return-fail (canon task.return (result (result (error string))) (memory $memory)))
        (core module $m
          (import "libc" "memory" (memory 1))
          (import "return" "count" (func $count (param i32 i32 i32)))
          (import "return" "fail" (func $fail (param i32 i32 i32)))
          (data (i32.const 100) "counted")
          (func (export "count") (param i32) (result i32)
            (if (i32.eqz (local.get 0)) (then unreachable))
            (call $count (local.get 0) (i32.const 100) (i32.const 7)) (i32.const 0))
          (func (export "fail") (result i32) (call $fail (i32.const 1) (i32.const 100) (i32.const 5)) (i32.const 0))
          (func (export "callback") (param i32 i32 i32) (result i32) unreachable)
          (func (export "plain") (param i32) (result i32) (local.get 0)))
        (core instance $i (instantiate $m (with "libc" (instance $libc))
          (with "return" (instance (export "count" (func $return-count)) (export "fail" (func $return-fail))))))
        (func $count async (param "to" u32) (result (tuple u32 string))
          (canon lift (core func $i "count") (memory $memory) async (callback (core func $i "callback"))))
        (func $fail async (result (result (error string)))
          (canon lift (core func $i "fail") (memory $memory) async (callback (core func $i "callback"))))
        (func $plain (param "x" s8) (result s8) (canon lift (core func $i "plain")))
        (instance $e (export "count" (func $count)) (export "fail" (func $fail)) (export "plain" (func $plain)))
        (export "acme:waits/all" (instance $e)))"#;
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn a_function_that_takes_a_while_is_a_task_as_well() {
    let world = world(component()).await;
    assert_eq!(call(&world, "waits.all.count", "[3]", "{}").await, Outcome::Success(json(r#"[3, "counted"]"#)));
    assert_eq!(call(&world, "waits.all.plain", "[-3]", "{}").await, Outcome::Success(json("-3")));
    let error = Exception::new("taskhost.errors", "TaskError", [Json::text("count")]);
    assert_eq!(call(&world, "waits.all.fail", "[]", "{}").await, Outcome::Failure(error, None));
    let refused = type_error("count() argument 'to': -1 is out of range for u32 (0 to 4294967295)");
    assert_eq!(call(&world, "waits.all.count", "[-1]", "{}").await, refused);
    let trapped = call(&world, "waits.all.count", "[0]", "{}").await;
    assert!(
        matches!(&trapped, Outcome::Trapped(Trap::Instruction(text)) if text.contains("unreachable")),
        "{trapped:?}"
    );
    world.check_alive().await;
    let report = world.loaded.plugins.iter().find(|plugin| plugin.name == "typed").expect("it is served");
    assert!(report.is_async);
}
