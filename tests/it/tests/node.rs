//! A client in another language that knows AMQP and no Celery: names, ids and JSON are all it sends.

use std::path::Path;
use std::process::Command;

use it::process::Stream;
use it::{Engine, Process, Site, settings};
use serde_json::{Value, json};

#[test]
fn a_node_client_reads_results_from_its_own_queue() {
    check(Engine::RabbitMqRpc);
}

#[test]
fn a_node_client_reads_results_from_redis() {
    check(Engine::RabbitMqRedis);
}

#[track_caller]
fn check(engine: Engine) {
    let (Some(site), Some(modules)) = (Site::open(engine), settings::required_path(settings::NODE)) else { return };
    let _host = site.host(&[]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/node/client.js");
    let mut node = Command::new("node");
    node.arg(script).env("NODE_PATH", modules).env("QUEUE", &site.queue);
    node.env("BROKER", &site.broker).env("BACKEND", &site.backend);
    let mut client = Process::start("node", &mut node);
    let status = client.wait();
    assert!(status.success(), "the client ended with {status}");
    let emitted: Value = serde_json::from_str(client.written(Stream::Out).trim()).expect("a line of JSON");
    let expected = json!([
        ["SUCCESS", 5],
        ["SUCCESS", 42],
        ["SUCCESS", 2.5],
        ["SUCCESS", "naïve ☃ 🦀"],
        ["SUCCESS", 1],
        ["FAILURE", "ValueError"],
        ["FAILURE", "NotRegistered"],
        ["SUCCESS", 42],
        ["REVOKED", "TaskRevokedError"],
        ["SUCCESS", 7],
    ]);
    assert_eq!(emitted, expected);
}
