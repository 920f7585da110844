//! Celery clients that people have in other languages: programs with the real packages (`tests/clients`) against a host.
//!
//! What they cannot see, such as failures, they cannot see of any worker; `CLIENTS.md` says what that is.

mod go;
mod node;
mod rust;

use std::process::Command;

use it::process::Stream;
use it::{Host, Process, Site};
use serde_json::{Value, json};

/// The sum of the numbers below a thousand: as many tasks were run, and each once.
const MANY: u64 = 499_500;

/// Where results are, as clients say it that do not think of rpc://.
#[derive(Clone, Copy)]
enum Results {
    Redis,
    /// Where the client listens.
    Replies,
    /// A queue at the broker for each.
    Queues,
}

/// Starts a host for clients whose results are there, and which write in more than one format.
#[track_caller]
fn host(site: &mut Site, results: Results) -> Host {
    if matches!(results, Results::Queues) {
        site.host_backend = Some("amqp://".to_owned());
    }
    site.host(&["--set", "accept_content=json,yaml,msgpack"])
}

/// Runs a client's program to its end and gives what it printed.
#[track_caller]
fn run(site: &Site, name: &str, command: &mut Command, backend: &str) -> Value {
    command.env("BROKER", &site.broker).env("BACKEND", backend).env("QUEUE", &site.queue);
    let mut client = Process::start(name, command);
    let status = client.wait();
    assert!(status.success(), "the client ended with {status}");
    serde_json::from_str(client.written(Stream::Out).trim()).expect("it prints a line of JSON")
}

/// How the calls end that all clients make, where a failure is an error that tells so much.
fn ends(failure: impl Fn(&str, &str) -> Value) -> Value {
    json!({
        "positional": ["value", 5],
        "keyword": ["value", 42],
        "large": ["value", 9_007_199_254_740_991_u64],
        "unicode": ["value", "naïve ☃ 🦀"],
        "nested": ["value", {"list": [1, null, true, 2.5], "empty": {}}],
        "retried": ["value", 1],
        "failure": failure("ValueError", "no luck"),
        "unknown": failure("NotRegistered", "tasks.missing"),
        "many": ["value", MANY],
    })
}

/// The same with these in place of others, or besides.
fn but(mut ends: Value, others: Value) -> Value {
    let Value::Object(others) = others else { unreachable!("the tests write an object") };
    ends.as_object_mut().expect("it is one").extend(others);
    ends
}
