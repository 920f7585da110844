//! celery-node, celery-ts and node-celery.

use std::path::Path;
use std::process::Command;

use it::{Engine, Site, settings};
use serde_json::{Value, json};

use super::{Results, but, ends, host, run};

/// Runs the program of a client; none if this machine lacks something, which is said.
#[track_caller]
fn outcomes(client: &str, engine: Engine, results: Results, environment: &[(&str, &str)]) -> Option<Value> {
    let (mut site, modules) = (Site::open(engine)?, settings::required_path(settings::NODE_CLIENTS)?);
    let _host = host(&mut site, results);
    let backend = match results {
        Results::Redis => site.backend.clone(),
        Results::Replies => site.broker.replacen("amqp", "rpc", 1),
        Results::Queues => site.broker.clone(),
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/node").join(format!("{client}.js"));
    let mut node = Command::new("node");
    node.arg(script).env("NODE_PATH", modules).envs(environment.iter().copied());
    Some(run(&site, client, &mut node, &backend))
}

fn failed(state: &str, kind: &str, message: &str) -> Value {
    json!(["error", [state, kind, [message]]])
}

#[track_caller]
fn check_celery_node(engine: Engine, results: Results, environment: &[(&str, &str)]) {
    let Some(outcomes) = outcomes("celery-node", engine, results, environment) else { return };
    assert_eq!(outcomes, ends(|kind, message| failed("FAILURE", kind, message)));
}

#[test]
fn celery_node_uses_redis() {
    check_celery_node(Engine::Redis, Results::Redis, &[]);
}

#[test]
fn celery_node_speaks_protocol_1_as_well() {
    check_celery_node(Engine::Redis, Results::Redis, &[("PROTOCOL", "1")]);
}

#[test]
fn celery_node_publishes_to_rabbitmq() {
    check_celery_node(Engine::RabbitMqRedis, Results::Redis, &[]);
}

#[test]
fn celery_node_reads_results_from_rabbitmq() {
    check_celery_node(Engine::RabbitMqRpc, Results::Queues, &[]);
}

#[track_caller]
fn check_celery_ts(engine: Engine, results: Results) {
    let Some(outcomes) = outcomes("celery-ts", engine, results, &[]) else { return };
    // Whatever becomes of a task, it is a value to this client: also the exception of a first attempt.
    let told = |module: &str, kind: &str, message: &str| json!(["value", {"exc_type": kind, "exc_message": [message], "exc_module": module}]);
    let module = |kind: &str| if kind == "ValueError" { "builtins" } else { "celery.exceptions" };
    let expected = but(
        ends(|kind, message| told(module(kind), kind, message)),
        json!({
            "retried": told("builtins", "ConnectionError", "attempt 1 of 2"),
            "omitted": ["value", "alone"],
            "gzip": ["value", "packed ☃"],
            "zlib": ["value", "packed ☃"],
            "yaml": ["value", "written ☃"],
            "eta": ["value", [42, true]],
            "expired": told("celery.exceptions", "TaskRevokedError", "expired"),
        }),
    );
    assert_eq!(outcomes, expected);
}

#[test]
fn celery_ts_uses_redis() {
    check_celery_ts(Engine::Redis, Results::Redis);
}

#[test]
fn celery_ts_listens_for_replies_at_rabbitmq() {
    check_celery_ts(Engine::RabbitMqRpc, Results::Replies);
}

#[track_caller]
fn check_node_celery(engine: Engine, results: Results, retried: Value) {
    let Some(outcomes) = outcomes("node-celery", engine, results, &[]) else { return };
    let others = json!({
        "retried": retried,
        "eta": ["value", [42, true]],
        "expired": failed("REVOKED", "TaskRevokedError", "expired"),
    });
    assert_eq!(outcomes, but(ends(|kind, message| failed("FAILURE", kind, message)), others));
}

#[test]
fn node_celery_uses_redis() {
    // It takes the first state that is published for the last.
    check_node_celery(Engine::Redis, Results::Redis, failed("RETRY", "ConnectionError", "attempt 1 of 2"));
}

#[test]
fn node_celery_reads_results_from_rabbitmq() {
    check_node_celery(Engine::RabbitMqRpc, Results::Queues, json!(["value", 1]));
}
