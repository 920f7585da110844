//! Measures what an attempt costs: instantiate, call and drop, through the public interface.
//!
//! `cargo run --release -p sandbox --example measure [component.wasm [task [args]]]`; with `async` in place of a component that
//! of an asynchronous task, and with `typed` that of a plain function without an SDK.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::{Config, Limits, Sandbox};
use taskhost_core::protocol::v2;
use taskhost_core::{
    Attempt, AttemptId, Codec, DeliveryId, DeliveryInfo, Json, NodeName, Outcome, Policy, QueueName, Request, TaskId,
    TaskName, Timestamp,
};

#[path = "../tests/it/guest.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod guest;

#[path = "../tests/it/async_guest.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod async_guest;

const WARM_UP: usize = 2_000;
const ROUNDS: usize = 50_000;
/// `add: func(x: u32, y: u32) -> u64`
const TYPED: &str = r#"(component
    (core module $m (func (export "add") (param i32 i32) (result i64)
      (i64.add (i64.extend_i32_u (local.get 0)) (i64.extend_i32_u (local.get 1)))))
    (core instance $i (instantiate $m))
    (func $add (param "x" u32) (param "y" u32) (result u64) (canon lift (core func $i "add")))
    (instance $e (export "add" (func $add)))
    (export "acme:measured/sums" (instance $e)))"#;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let bytes = match args.next() {
        Some(kind) if kind == "async" => {
            async_guest::AsyncGuest::new("(call $ok (local.get 4) (local.get 5))", "unreachable").build()
        }
        Some(name) if name == "typed" => wat::parse_str(TYPED).expect("valid WAT"),
        Some(path) => std::fs::read(path).expect("the component"),
        None => guest::Guest::echo("noop").build(),
    };
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    std::fs::write(dir.path().join("measured.wasm"), bytes).expect("a file");
    let hostname = NodeName::parse("taskhost@here").expect("a name");
    let sandbox = Sandbox::new(Config {
        concurrency: 16,
        hostname,
        limits: Limits::default(),
        grants: Default::default(),
        cache: None,
        scratch_dir: None,
        wasi_0_3: false,
    })
    .expect("a sandbox");
    let loaded = sandbox.load_folder(dir.path()).await;
    assert!(loaded.refused.is_empty(), "{:?}", loaded.refused);
    let compiled = loaded.plugins[0].compile_time;
    let name = args.next().unwrap_or_else(|| loaded.plugins[0].tasks[0].spec.name.to_string());
    let given = args.next().unwrap_or_else(|| "[1, 2]".to_owned());
    let attempt = attempt(&loaded, &name, given);

    for _ in 0..WARM_UP {
        sandbox.invoke(attempt.clone(), pending()).await;
    }
    let mut times = Vec::with_capacity(ROUNDS);
    let mut ends = (0, 0);
    let mut cpu = Duration::ZERO;
    let whole = Instant::now();
    for _ in 0..ROUNDS {
        let attempt = attempt.clone();
        let started = Instant::now();
        let finished = sandbox.invoke(attempt, pending()).await;
        times.push(started.elapsed());
        cpu += finished.usage.cpu;
        match finished.outcome {
            Outcome::Success(_) => ends.0 += 1,
            _ => ends.1 += 1,
        }
    }
    let mean = whole.elapsed() / u32::try_from(ROUNDS).expect("few rounds");
    times.sort();
    let at = |part: f64| times[(part * (ROUNDS - 1) as f64) as usize];
    let pooled = sandbox.is_pooled();
    eprintln!(
        "task `{name}`, pooled {pooled}, compiled in {compiled:?}, {} succeeded, {} did not\n\
         per attempt: min {:?}, median {:?}, 90 % {:?}, 99 % {:?}, mean {mean:?}, of which {:?} in the guest",
        ends.0,
        ends.1,
        at(0.0),
        at(0.5),
        at(0.9),
        at(0.99),
        cpu / u32::try_from(ROUNDS).expect("few rounds"),
    );
}

fn attempt(loaded: &sandbox::Loaded, name: &str, args: String) -> Attempt {
    let name = TaskName::parse(name).expect("a name");
    let spec = Arc::clone(loaded.catalog.get(&name).expect("the task is served"));
    let id = TaskId::parse("2b0d1a5e-3b4f-4b7e-9e0c-0f1a2b3c4d5e").expect("an id");
    let mut call = v2::Call::new(name, id, "client@here");
    call.args = Json::parse(args).expect("JSON");
    let started = Timestamp::from_micros(1_795_343_528_000_000);
    let queue = QueueName::parse("celery").expect("a name");
    let delivery = DeliveryInfo { queue, exchange: String::new(), routing_key: "celery".into(), redelivered: false };
    let request = Request::decode(v2::message(&call, started), delivery, &Codec::default()).expect("a task message");
    Attempt {
        id: AttemptId(1),
        delivery: DeliveryId(1),
        request: Arc::new(request),
        spec,
        call: None,
        started,
        time_limit: Duration::from_secs(60),
        soft_time_limit: None,
        pinned: None,
        policy: Policy::default(),
    }
}
