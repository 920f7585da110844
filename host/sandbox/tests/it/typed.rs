//! Tasks straight from WIT: values both ways, arguments in Python's words, and what is refused.

mod asynchronous;
mod echo;
mod random;
mod values;

use std::time::Duration;

use sandbox::Limits;
use taskhost_core::protocol::v2;
use taskhost_core::{Attempt, Codec, Exception, Json, Outcome, Request, TaskId, Trap};

use crate::world::{T0, World, json};

use self::values::DEFINITIONS;

async fn world(component: Vec<u8>) -> World {
    let world = World::new(&[("typed.wasm", component)]).await;
    assert_eq!(world.loaded.refused, [], "{:?}", world.loaded.refused);
    world
}

/// Runs a task with these.
async fn call(world: &World, task: &str, args: &str, kwargs: &str) -> Outcome {
    let attempt = world.attempt(task);
    let mut call = v2::Call::new(attempt.spec.name.clone(), TaskId::parse("id-1").expect("an id"), "client@test");
    (call.args, call.kwargs) = (json(args), json(kwargs));
    let delivery = attempt.request.delivery.clone();
    let request = Request::decode(v2::message(&call, T0), delivery, &Codec::default()).expect("a task message");
    world.run(Attempt { request: request.into(), ..attempt }).await.outcome
}

fn type_error(text: &str) -> Outcome {
    Outcome::Failure(Exception::new("builtins", "TypeError", [Json::text(text)]), None)
}

/// `add(x-one: u32, y: option<s8>) -> u64` and others, with arguments and results that are core values.
fn small() -> Vec<u8> {
    let text = format!(
        r#"(component (core module $m {REALLOC}
        (func (export "add") (param i32 i32 i32) (result i64)
          (i64.add (i64.extend_i32_u (local.get 0))
            (if (result i64) (local.get 1) (then (i64.extend_i32_s (local.get 2))) (else (i64.const 0)))))
        (func (export "join") (param i32 i32 i64 i32 i32) (result i32)
          (i64.store (i32.const 0) (i64.extend_i32_s (local.get 0)))
          (i64.store (i32.const 8) (i64.extend_i32_u (local.get 1)))
          (i64.store (i32.const 16) (local.get 2))
          (i64.store (i32.const 24) (i64.extend_i32_u (local.get 3)))
          (i64.store (i32.const 32) (i64.extend_i32_u (local.get 4)))
          (i32.const 0))
        (func (export "nothing"))
        (func (export "is") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 256)))
        (func (export "test") (param i32) (result i32) (local.get 0))
        (func (export "check") (param i32 i32) (result i32)
          (i32.store (i32.const 0) (i32.ne (local.get 1) (i32.const 0)))
          (i32.store (i32.const 4) (local.get 0))
          (i32.store (i32.const 8) (local.get 1))
          (i32.const 0))
        (func (export "bad-pointer") (result i32) (i32.const -8))
        (func (export "trap") unreachable)
        (func (export "spin") (loop $l (br $l)))
        (func (export "flood") (param i32) (result i32)
          (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (local.get 0)) (i32.const 0))
        (func (export "count") (result i32)
          (i32.store (i32.const 512) (i32.add (i32.load (i32.const 512)) (i32.const 1)))
          (i32.load (i32.const 512)))
        (func (export "after") (i32.store (i32.const 512) (i32.add (i32.load (i32.const 512)) (i32.const 10))))
        (func (export "after-count") (param i32) (i32.store (i32.const 512) (i32.add (i32.load (i32.const 512)) (i32.const 10)))))
        (core instance $i (instantiate $m))
        (type $choice-def (variant (case "x" f32) (case "y" u64) (case "z"))) (export $choice "choice" (type $choice-def))
        (func $add (param "x-one" u32) (param "y" (option s8)) (result u64) (canon lift (core func $i "add")))
        (func $join (param "a" s8) (param "b" $choice) (param "c" (option bool)) (result (tuple s64 s64 s64 s64 s64))
          (canon lift (core func $i "join") (memory (core memory $i "memory"))))
        (func $nothing (canon lift (core func $i "nothing")))
        (func $is (param "x" u32) (result bool) (canon lift (core func $i "is")))
        (func $test (param "x" u32) (result (result)) (canon lift (core func $i "test")))
        (func $check (param "text" string) (result (result (error string)))
          (canon lift (core func $i "check") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
        (func $bad (result string) (canon lift (core func $i "bad-pointer") (memory (core memory $i "memory"))))
        (func $trap (canon lift (core func $i "trap")))
        (func $spin (canon lift (core func $i "spin")))
        (func $flood (param "bytes" u32) (result string) (canon lift (core func $i "flood") (memory (core memory $i "memory"))))
        (func $count (result u32) (canon lift (core func $i "count") (post-return (core func $i "after-count"))))
        (instance $e (export "add" (func $add)) (export "join" (func $join)) (export "nothing" (func $nothing))
          (export "is-so" (func $is)) (export "test" (func $test)) (export "check-text" (func $check))
          (export "bad" (func $bad)) (export "trap" (func $trap)) (export "spin" (func $spin)) (export "flood" (func $flood))
          (export "count" (func $count)) (export "choice" (type $choice)))
        (export "acme:small-tasks/all" (instance $e))
        (export "at-root" (func $add))
        (instance $inline (export "add" (func $add)))
        (export "inline" (instance $inline)))"#,
        REALLOC = echo::REALLOC
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[tokio::test]
async fn arguments_are_given_by_place_and_by_either_name() {
    let world = world(small()).await;
    for (args, kwargs, expected) in [
        ("[40, 2]", "{}", "42"),
        ("[40]", "{}", "40"),
        ("[40]", r#"{"y": -2}"#, "38"),
        ("[]", r#"{"x_one": 1, "y": null}"#, "1"),
        ("[]", r#"{"y": 1, "x-one": 4294967295}"#, "4294967296"),
    ] {
        let outcome = call(&world, "small_tasks.all.add", args, kwargs).await;
        assert_eq!(outcome, Outcome::Success(json(expected)), "{args} {kwargs}");
    }
    for (args, kwargs, expected) in [
        ("[]", "{}", "missing 1 required positional argument: 'x_one'"),
        ("[1, 2, 3]", "{}", "takes from 1 to 2 positional arguments but 3 were given"),
        ("[1]", r#"{"z": 1}"#, "got an unexpected keyword argument 'z'"),
        ("[1]", r#"{"x_one": 1}"#, "got multiple values for argument 'x_one'"),
        ("[1]", r#"{"y": 128}"#, "argument 'y': 128 is out of range for s8 (-128 to 127)"),
    ] {
        let outcome = call(&world, "small_tasks.all.add", args, kwargs).await;
        assert_eq!(outcome, type_error(&format!("add() {expected}")), "{args} {kwargs}");
    }
}

#[tokio::test]
async fn core_values_are_as_wide_as_the_interface_says() {
    let world = world(small()).await;
    for (args, expected) in [
        (r#"[-1, {"x": 1.5}, true]"#, "[-1, 0, 1069547520, 1, 1]"),
        (r#"[5, {"y": 18446744073709551615}, false]"#, "[5, 1, -1, 1, 0]"),
        (r#"[-128, "z"]"#, "[-128, 2, 0, 0, 0]"),
    ] {
        let outcome = call(&world, "small_tasks.all.join", args, "{}").await;
        assert_eq!(outcome, Outcome::Success(json(expected)), "{args}");
    }
    assert_eq!(call(&world, "small_tasks.all.nothing", "[]", "{}").await, Outcome::Success(Json::null()));
    // A truth value is one, however a guest says it.
    assert_eq!(call(&world, "small_tasks.all.is_so", "[3]", "{}").await, Outcome::Success(Json::bool(true)));
    assert_eq!(call(&world, "small_tasks.all.is_so", "[0]", "{}").await, Outcome::Success(Json::bool(false)));
}

#[tokio::test]
async fn an_err_is_a_failure_and_what_is_wrong_in_the_answer_is_not_the_tasks() {
    let world = world(small()).await;
    let failed = |value: Option<Json>| Outcome::Failure(Exception::new("taskhost.errors", "TaskError", value), None);
    assert_eq!(call(&world, "small_tasks.all.test", "[0]", "{}").await, Outcome::Success(Json::null()));
    assert_eq!(call(&world, "small_tasks.all.test", "[1]", "{}").await, failed(None));
    assert_eq!(call(&world, "small_tasks.all.check_text", r#"["no"]"#, "{}").await, failed(Some(Json::text("no"))));
    assert_eq!(call(&world, "small_tasks.all.check_text", r#"[""]"#, "{}").await, Outcome::Success(Json::null()));
    for (task, args, text) in
        [("test", "[257]", "invalid discriminant"), ("bad", "[]", "pointer out of bounds of memory")]
    {
        let outcome = call(&world, &format!("small_tasks.all.{task}"), args, "{}").await;
        assert_eq!(outcome, Outcome::Trapped(Trap::InvalidResult(text.to_owned())));
    }
    world.check_alive().await;
}

#[tokio::test]
async fn limits_hold_as_for_other_tasks() {
    let limits = Limits { result_bytes: 1000, memory_bytes: 1 << 20, ..Limits::default() };
    let component = echo::component(&[], &["(list u8)".to_owned(), "(list string)".to_owned()], echo::Kind::Plain);
    let world = World::with_limits(limits, &[("small.wasm", small()), ("echo.wasm", component)]).await;
    assert_eq!(world.loaded.refused, []);
    let spin = world.attempt("small_tasks.all.spin");
    let (no_args, time_limit) = (call(&world, "small_tasks.all.spin", "[1]", "{}").await, Duration::from_millis(50));
    assert_eq!(no_args, type_error("spin() takes 0 positional arguments but 1 was given"));
    let request = world.call("small_tasks.all.spin", "[]").request;
    let outcome = world.run(Attempt { request, time_limit, ..spin }).await.outcome;
    assert!(matches!(outcome, Outcome::TimedOut(_)), "{outcome:?}");
    let trapped = call(&world, "small_tasks.all.trap", "[]", "{}").await;
    assert!(
        matches!(&trapped, Outcome::Trapped(Trap::Instruction(text)) if text.contains("unreachable")),
        "{trapped:?}"
    );

    let too_large = Outcome::Trapped(Trap::ResultTooLarge { limit_bytes: 1000 });
    let flood = async |bytes: u32| call(&world, "small_tasks.all.flood", &format!("[{bytes}]"), "{}").await;
    // Zero bytes are written as six letters each.
    assert!(matches!(flood(100).await, Outcome::Success(_)));
    assert_eq!(flood(200).await, too_large);
    assert_eq!(flood(100_000).await, too_large);

    let no_memory = Outcome::Trapped(Trap::MemoryLimit { limit_bytes: 1 << 20 });
    let bytes = format!(r#"{{"__type__": "bytes", "__value__": "{}"}}"#, "x".repeat(2 << 20));
    assert_eq!(call(&world, "test.echo.f0", &echo::arguments(&bytes), "{}").await, no_memory);
    let texts = format!("[\"\"{}]", ", \"\"".repeat(100_000));
    assert_eq!(call(&world, "test.echo.f1", &echo::arguments(&texts), "{}").await, no_memory);
    world.check_alive().await;
}

#[tokio::test]
async fn an_instance_is_reused_and_what_follows_a_return_is_called() {
    let manifest = "name = \"small\"\n[instance]\nreuse = 3\n";
    let files = [("small/small.wasm", small()), ("small/plugin.toml", manifest.as_bytes().to_vec())];
    let world = World::new(&files).await;
    assert_eq!(world.loaded.refused, []);
    let mut counts = Vec::new();
    for _ in 0..4 {
        counts.push(call(&world, "small_tasks.all.count", "[]", "{}").await);
        // Wrong arguments cost no instance.
        call(&world, "small_tasks.all.count", "[1]", "{}").await;
    }
    let expected = ["1", "12", "23", "1"].map(|count| Outcome::Success(json(count)));
    assert_eq!(counts, expected);
}

#[tokio::test]
async fn the_manifest_names_functions_and_sets_options_of_them() {
    let manifest = r#"
        name = "small"
        [exports]
        "acme:small-tasks/all.add" = "sums.add"
        "at-root" = "sums.root"
        "inline.add" = "sums.inline"
        [tasks."sums.add"]
        max_retries = 7
    "#;
    let files = [("small/small.wasm", small()), ("small/plugin.toml", manifest.as_bytes().to_vec())];
    let world = World::new(&files).await;
    assert_eq!(world.loaded.refused, []);
    for task in ["sums.add", "sums.root", "sums.inline"] {
        assert_eq!(call(&world, task, "[1, 2]", "{}").await, Outcome::Success(json("3")), "{task}");
    }
    let report = &world.loaded.plugins[world.loaded.plugins.iter().position(|it| it.name == "small").expect("served")];
    assert_eq!(report.warnings, [""; 0]);
    let task = report.tasks.iter().find(|task| task.spec.name.as_str() == "sums.add").expect("it is there");
    assert_eq!(task.spec.options.max_retries, Some(7));
    assert_eq!(task.signature.as_deref(), Some("add(x_one: u32, y: option<s8>) -> u64"));
    assert!(report.tasks.iter().any(|task| task.spec.name.as_str() == "small_tasks.all.join"));
}

#[tokio::test]
async fn a_task_has_its_signature_and_a_schema() {
    let types = ["$shape", "(list u8)", "(option (tuple u8 $marks))"].map(str::to_owned);
    let world = world(echo::component(DEFINITIONS, &types, echo::Kind::Plain)).await;
    let report = world.loaded.plugins.iter().find(|plugin| plugin.name == "typed").expect("it is served");
    let task = &report.tasks[0];
    let padding = format!("tuple<u8{}>", ", u8".repeat(16));
    let expected = format!("f0(the_value: shape, padding: {padding}) -> tuple<shape, {padding}>");
    assert_eq!(task.signature.as_deref(), Some(expected.as_str()));
    assert_eq!(
        task.types,
        [
            "record size { max-width: u16, title: option<string> }",
            "variant shape { dot, round-one(f32), box(size), maybe(option<u8>) }"
        ]
    );
    let schema = |index: usize| {
        let schema = json(report.tasks[index].schema.as_deref().expect("it has one"));
        schema.get("properties").and_then(|properties| properties.get("the_value")).expect("it is there").to_string()
    };
    assert_eq!(
        schema(0),
        r#"{"title": "shape", "anyOf": [{"enum": ["dot"]}, {"type": "object", "properties": {"round_one": {"type": "number"}}, "required": ["round_one"], "additionalProperties": false}, {"type": "object", "properties": {"box": {"type": "object", "title": "size", "properties": {"max_width": {"type": "integer", "minimum": 0, "maximum": 65535}, "title": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, "required": ["max_width"], "additionalProperties": false}}, "required": ["box"], "additionalProperties": false}, {"type": "object", "properties": {"maybe": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 255}, {"type": "null"}]}}, "required": ["maybe"], "additionalProperties": false}]}"#
    );
    assert_eq!(
        schema(1),
        r#"{"anyOf": [{"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}, {"type": "object", "properties": {"__type__": {"enum": ["base64", "bytes"]}, "__value__": {"type": "string"}}, "required": ["__type__", "__value__"], "additionalProperties": false}]}"#
    );
    assert_eq!(
        schema(2),
        r#"{"anyOf": [{"type": "array", "prefixItems": [{"type": "integer", "minimum": 0, "maximum": 255}, {"type": "array", "title": "marks", "items": {"enum": ["a", "b_c", "d"]}, "uniqueItems": true}], "items": false, "minItems": 2, "maxItems": 2}, {"type": "null"}], "default": null}"#
    );
    let arity = report.tasks[2].spec.takes.clone().expect("it says which arguments it takes");
    assert!(arity.takes_more_than(1, &Json::empty_list(), &Json::empty_map()));
    assert!(!arity.takes_more_than(2, &Json::empty_list(), &Json::empty_map()));
}

async fn refusal(component: &str, manifest: &str) -> String {
    let bytes = wat::parse_str(component).unwrap_or_else(|error| panic!("{error}\n{component}"));
    let files = [("bad/bad.wasm", bytes), ("bad/plugin.toml", format!("name = \"bad\"\n{manifest}").into_bytes())];
    let world = World::new(&files).await;
    world.check_alive().await;
    world.refused().to_owned()
}

const ONE: &str = r#"(core module $m (func (export "f"))) (core instance $i (instantiate $m))
    (func $f (canon lift (core func $i "f"))) (instance $e (export "f" (func $f)))"#;

#[tokio::test]
async fn what_cannot_be_a_task_is_refused_with_the_reason() {
    let resource = r#"(component (type $r' (resource (rep i32))) (export $r "r" (type $r'))
        (core module $m (func (export "f") (param i32))) (core instance $i (instantiate $m))
        (func $f (param "x" (own $r)) (canon lift (core func $i "f"))) (instance $e (export "r" (type $r)) (export "f" (func $f)))
        (export "acme:a/b@1.0.0" (instance $e)))"#;
    assert_eq!(
        refusal(resource, "").await,
        "none of the functions that it exports can be a task: `acme:a/b@1.0.0.f`: its parameter `x` cannot be JSON: it has a \
         resource"
    );
    let twice = format!(r#"(component {ONE} (export "acme:a/b" (instance $e)) (export "other:a/b" (instance $e)))"#);
    assert_eq!(
        refusal(&twice, "").await,
        "its exports `acme:a/b.f` and `other:a/b.f` are both the task `a.b.f`: give one of them another name under [exports] \
         in plugin.toml"
    );
    let once = format!(r#"(component {ONE} (export "acme:a/b" (instance $e)))"#);
    assert_eq!(
        refusal(&once, "[exports]\n\"acme:a/b.g\" = \"t\"\n").await,
        "plugin.toml names the export `acme:a/b.g`, and its functions are: `acme:a/b.f`"
    );
    let versions =
        format!(r#"(component {ONE} (export "acme:a/b@1.0.0" (instance $e)) (export "acme:a/b@2.0.0" (instance $e)))"#);
    assert_eq!(
        refusal(&versions, "[exports]\n\"acme:a/b.f\" = \"t\"\n").await,
        "plugin.toml names the export `acme:a/b.f`, of which there are two versions: add the version, as in `a:b/c@1.0.0.d`"
    );
    let none = format!(r#"(component {ONE} (export "f" (func $f)) (export "wasi:cli/run@0.2.0" (instance $e)))"#);
    assert!(refusal(&none, "").await.starts_with("it exports neither `taskhost:task/tasks@0.1.x` nor functions"));
    assert!(
        refusal(&none, "[exports]\nf = \"t\"\n\"wasi:cli/run.f\" = \"t\"\n")
            .await
            .contains("two exports are the task `t`")
    );
    let broken = r#"(component (core module $m (func $start unreachable) (start $start) (func (export "f")))
        (core instance $i (instantiate $m)) (func $f (canon lift (core func $i "f"))) (instance $e (export "f" (func $f)))
        (export "acme:a/b" (instance $e)))"#;
    let reason = refusal(broken, "").await;
    assert!(reason.starts_with("instantiate it: ") && reason.contains("unreachable"), "{reason}");
}

#[tokio::test]
async fn a_function_that_cannot_be_a_task_does_not_keep_the_others_from_it() {
    let text = r#"(component (type $r' (resource (rep i32))) (export $r "r" (type $r'))
        (core module $m (func (export "f") (param i32)) (func (export "g") (result i32) (i32.const 7))) (core instance $i (instantiate $m))
        (func $f (param "x" (borrow $r)) (canon lift (core func $i "f"))) (func $g (result u8) (canon lift (core func $i "g")))
        (instance $e (export "r" (type $r)) (export "f" (func $f)) (export "g" (func $g)))
        (export "acme:a/b@1.0.0" (instance $e)))"#;
    let world = world(wat::parse_str(text).expect("valid WAT")).await;
    assert_eq!(call(&world, "a.b.g", "[]", "{}").await, Outcome::Success(json("7")));
    let report = world.loaded.plugins.iter().find(|plugin| plugin.name == "typed").expect("it is served");
    assert_eq!(
        report.warnings,
        [
            "the exported function `acme:a/b@1.0.0.f`: its parameter `x` cannot be JSON: it borrows a resource; it is no task"
        ]
    );
}

#[tokio::test]
async fn an_interface_that_is_imported_for_its_types_needs_nobody() {
    let text = format!(
        r#"(component (import "acme:a/types@1.0.0" (instance (type $s' (record (field "x" u8))) (export "s" (type (eq $s')))))
        {ONE} (export "acme:a/b" (instance $e)))"#
    );
    let world = world(wat::parse_str(&text).expect("valid WAT")).await;
    assert_eq!(call(&world, "a.b.f", "[]", "{}").await, Outcome::Success(Json::null()));
}
