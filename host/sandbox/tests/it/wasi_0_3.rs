//! WASI 0.3: behind a setting, with what is granted of streams and environment, and nothing of what is not counted yet.

use std::collections::BTreeMap;

use sandbox::{Config, Limits, Sandbox};
use taskhost_core::{NodeName, Outcome, Trap};
use tempfile::TempDir;
use tracing::Level;

use crate::async_guest::AsyncGuest;
use crate::asynchronous::granted;
use crate::logs::capture;
use crate::world::{World, json, write};

const ANSWER: &str = "(call $ok (i32.const 600) (i32.const 4))";

/// A clock, and a wait by it.
fn clock() -> AsyncGuest {
    AsyncGuest::new(
        "(if (i64.gt_u (call $now) (i64.const 60000000000)) (then unreachable))
         (call $begin (call $wait-for (i64.const 1000000))) (call $wait)",
        &format!("(call $ended (local.get 1)) {ANSWER}"),
    )
    .import(
        r#"(import "wasi:clocks/monotonic-clock@0.3.0" (instance $clock
             (export "now" (func (result u64)))
             (export "wait-for" (func async (param "how-long" u64)))))
           (core func $now (canon lower (func $clock "now")))
           (core func $wait-for (canon lower (func $clock "wait-for") async))"#,
        r#"(with "clock" (instance (export "now" (func $now)) (export "wait-for" (func $wait-for))))"#,
        r#"(import "clock" "now" (func $now (result i64)))
           (import "clock" "wait-for" (func $wait-for (param i64) (result i32)))"#,
    )
}

#[tokio::test]
async fn without_the_setting_a_component_that_imports_it_is_refused() {
    let dir = TempDir::new().expect("a folder");
    write(dir.path(), "clock.wasm", &clock().build());
    let config = Config {
        concurrency: 2,
        hostname: NodeName::parse("taskhost@test").expect("a name"),
        limits: Limits::default(),
        grants: BTreeMap::new(),
        cache: None,
        scratch_dir: None,
        wasi_0_3: false,
    };
    let loaded = Sandbox::new(config).expect("a sandbox").load_folder(dir.path()).await;
    assert_eq!(
        loaded.refused[0].reason,
        "it imports `wasi:clocks/monotonic-clock@0.3.0`: this is WASI 0.3, which wasmtime calls unfinished; set \
         `plugins.wasi_0_3 = true` in host.toml, or build it for WASI 0.2"
    );
}

#[tokio::test]
async fn its_clock_begins_with_the_attempt_and_waits() {
    let world = World::new(&[("clock.wasm", clock().build())]).await;
    assert_eq!(world.loaded.refused, []);
    assert_eq!(world.outcome().await, Outcome::Success(json("true")));
}

#[tokio::test]
async fn a_wait_by_its_clock_ends_early_for_a_task_that_listens() {
    let guest = clock().option("handles_soft_limit", "true").option("soft_time_limit", "0.05");
    let long = guest.replace("(i64.const 1000000)", "(i64.const 3600000000000)");
    let world = World::new(&[("clock.wasm", long.build())]).await;
    assert_eq!(world.outcome().await, Outcome::Success(json("true")));
}

#[tokio::test]
async fn what_is_printed_goes_to_the_log() {
    let guest = AsyncGuest::new(
        &format!(
            "(local $ends i64)
             (local.set $ends (call $new-stream))
             (drop (call $write-via-stream (i32.wrap_i64 (local.get $ends))))
             (drop (call $write (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))) (i32.const 700) (i32.const 6)))
             {ANSWER}"
        ),
        "unreachable",
    )
    .import(
        r#"(import "wasi:cli/types@0.3.0" (instance $cli-types
             (type $code-def (enum "io" "illegal-byte-sequence" "pipe"))
             (export "error-code" (type $code (eq $code-def)))))
           (alias export $cli-types "error-code" (type $error-code))
           (import "wasi:cli/stdout@0.3.0" (instance $out
             (alias outer $C $error-code (type $e'))
             (export "error-code" (type $e (eq $e')))
             (export "write-via-stream" (func (param "data" (stream u8)) (result (future (result (error $e))))))))
           (core func $write-via-stream (canon lower (func $out "write-via-stream")))
           (type $bytes (stream u8))
           (core func $new-stream (canon stream.new $bytes))
           (core func $write (canon stream.write $bytes async (memory $memory)))"#,
        r#"(with "out" (instance (export "write-via-stream" (func $write-via-stream)) (export "new" (func $new-stream))
             (export "write" (func $write))))"#,
        r#"(import "out" "write-via-stream" (func $write-via-stream (param i32) (result i32)))
           (import "out" "new" (func $new-stream (result i64)))
           (import "out" "write" (func $write (param i32 i32 i32) (result i32)))
           (data (i32.const 700) "hello\n")"#,
    );
    let world = World::new(&[("print.wasm", guest.build())]).await;
    assert_eq!(world.loaded.refused, []);
    let (outcome, lines) = capture(Level::INFO, world.run(world.attempt("t"))).await;
    assert_eq!(outcome.outcome, Outcome::Success(json("true")));
    assert!(lines.iter().any(|line| line.contains("hello") && line.contains("task.id=id-1")), "{lines:?}");
}

/// Imports `get-directories`, and answers with how many folders there are.
fn folders() -> AsyncGuest {
    AsyncGuest::new(
        "(call $directories (i32.const 400))
         (i32.store8 (i32.const 512) (i32.add (i32.const 48) (i32.load (i32.const 404))))
         (call $ok (i32.const 512) (i32.const 1))",
        "unreachable",
    )
    .import(
        r#"(import "wasi:filesystem/types@0.3.0" (instance $fs (export "descriptor" (type $d (sub resource)))))
           (alias export $fs "descriptor" (type $descriptor))
           (import "wasi:filesystem/preopens@0.3.0" (instance $preopens
             (alias outer $C $descriptor (type $d')) (export "descriptor" (type $d (eq $d')))
             (export "get-directories" (func (result (list (tuple (own $d) string)))))))
           (core func $directories (canon lower (func $preopens "get-directories") (memory $memory) (realloc $realloc)))"#,
        r#"(with "fs" (instance (export "directories" (func $directories))))"#,
        r#"(import "fs" "directories" (func $directories (param i32)))"#,
    )
}

#[tokio::test]
async fn it_has_no_folders_whatever_is_granted() {
    let world = granted(&folders(), "scratch", "1MiB").await;
    assert_eq!(world.outcome().await, Outcome::Success(json("0")));
}

/// A descriptor of WASI 0.2 that is declared to be one of WASI 0.3 as well leads nowhere there.
#[tokio::test]
async fn a_folder_of_wasi_0_2_is_none_of_wasi_0_3() {
    let guest = AsyncGuest::new(
        "(call $directories (i32.const 400))
         (if (i32.ne (i32.load (i32.const 404)) (i32.const 1)) (then (return (call $ok (i32.const 608) (i32.const 5)))))
         (call $begin (call $same (i32.load (i32.load (i32.const 400))) (i32.load (i32.load (i32.const 400))) (i32.const 420)))
         (if (result i32) (global.get $open) (then (call $wait)) (else (call $ok (i32.const 600) (i32.const 4))))",
        "(call $ended (local.get 1)) (call $ok (i32.const 600) (i32.const 4))",
    )
    .import(
        r#"(import "wasi:filesystem/types@0.2.0" (instance $fs2 (export "descriptor" (type $d (sub resource)))))
           (alias export $fs2 "descriptor" (type $descriptor))
           (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
             (alias outer $C $descriptor (type $d')) (export "descriptor" (type $d (eq $d')))
             (export "get-directories" (func (result (list (tuple (own $d) string)))))))
           (import "wasi:filesystem/types@0.3.0" (instance $fs3
             (alias outer $C $descriptor (type $d')) (export "descriptor" (type $d (eq $d')))
             (export "[method]descriptor.is-same-object" (func async (param "self" (borrow $d)) (param "other" (borrow $d))
               (result bool)))))
           (core func $directories (canon lower (func $preopens "get-directories") (memory $memory) (realloc $realloc)))
           (core func $same (canon lower (func $fs3 "[method]descriptor.is-same-object") async (memory $memory)))"#,
        r#"(with "fs" (instance (export "directories" (func $directories)) (export "same" (func $same))))"#,
        r#"(import "fs" "directories" (func $directories (param i32)))
           (import "fs" "same" (func $same (param i32 i32 i32) (result i32)))"#,
    );
    let world = granted(&guest, "scratch", "1MiB").await;
    let outcome = world.outcome().await;
    assert!(matches!(outcome, Outcome::Trapped(Trap::Instruction(_) | Trap::InvalidResult(_))), "{outcome:?}");
}

#[tokio::test]
async fn it_has_no_sockets_whatever_is_granted() {
    let guest = AsyncGuest::new(
        "(call $create (i32.const 0) (i32.const 400))
         (i32.store8 (i32.const 512) (i32.add (i32.const 48) (i32.load8_u (i32.const 400))))
         (call $ok (i32.const 512) (i32.const 1))",
        "unreachable",
    )
    .import(
        r#"(import "wasi:sockets/types@0.3.0" (instance $sockets
             (export "tcp-socket" (type $s (sub resource)))
             (type $code-def (variant (case "access-denied") (case "not-supported") (case "invalid-argument")
               (case "out-of-memory") (case "timeout") (case "invalid-state") (case "address-not-bindable")
               (case "address-in-use") (case "remote-unreachable") (case "connection-refused") (case "connection-broken")
               (case "connection-reset") (case "connection-aborted") (case "datagram-too-large")
               (case "other" (option string))))
             (export "error-code" (type $code (eq $code-def)))
             (type $family-def (enum "ipv4" "ipv6"))
             (export "ip-address-family" (type $family (eq $family-def)))
             (export "[static]tcp-socket.create" (func (param "address-family" $family)
               (result (result (own $s) (error $code)))))))
           (core func $create (canon lower (func $sockets "[static]tcp-socket.create") (memory $memory) (realloc $realloc)))"#,
        r#"(with "net" (instance (export "create" (func $create))))"#,
        r#"(import "net" "create" (func $create (param i32 i32)))"#,
    );
    let world = granted(&guest, "sockets", "tcp://127.0.0.1:80").await;
    assert_eq!(world.outcome().await, Outcome::Success(json("1")), "an error");
}
