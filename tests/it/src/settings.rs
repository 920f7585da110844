//! Where the tests find what they need: the environment that `cargo xtask test` makes.

use std::env;
use std::path::PathBuf;

/// The `host` binary.
pub const HOST: &str = "TASKHOST_TEST_HOST";
/// The demo plugin's component; its manifest lies beside it.
pub const DEMO: &str = "TASKHOST_TEST_DEMO";
/// The component of the guest that talks to the network.
pub const NET: &str = "TASKHOST_TEST_NET";
/// The component without an SDK.
pub const TYPED: &str = "TASKHOST_TEST_TYPED";
/// The component of the guest that works with files.
pub const FILES: &str = "TASKHOST_TEST_FILES";
/// The component of the guest with the tasks of the differential test; its manifest lies beside it.
pub const CANVAS: &str = "TASKHOST_TEST_CANVAS";
/// The component of the guest with asynchronous tasks; its manifest lies beside it.
pub const WAITING: &str = "TASKHOST_TEST_WAITING";
/// A Python with Celery.
pub const PYTHON: &str = "TASKHOST_TEST_PYTHON";
/// The modules of npm for a client in Node.js; `node` itself is on the PATH.
pub const NODE: &str = "TASKHOST_TEST_NODE";
/// The modules of npm with the Celery clients that people have.
pub const NODE_CLIENTS: &str = "TASKHOST_TEST_NODE_CLIENTS";
/// The modules of npm of the example of a producer in TypeScript.
pub const TS_PRODUCER: &str = "TASKHOST_TEST_TS_PRODUCER";
/// The program of `tests/clients/rust`.
pub const RUST_CLIENT: &str = "TASKHOST_TEST_RUST_CLIENT";
/// Chromium.
pub const BROWSER: &str = "TASKHOST_TEST_BROWSER";
/// The `xtask` binary, which starts a test's own servers.
pub const XTASK: &str = "TASKHOST_TEST_XTASK";
/// The URLs of servers that all tests share.
pub const AMQP: &str = "TASKHOST_TEST_AMQP";
pub const AMQPS: &str = "TASKHOST_TEST_AMQPS";
pub const QPID: &str = "TASKHOST_TEST_QPID";
pub const REDIS: &str = "TASKHOST_TEST_REDIS";
pub const REDISS: &str = "TASKHOST_TEST_REDISS";
pub const SENTINEL: &str = "TASKHOST_TEST_SENTINEL";
pub const POSTGRESQL: &str = "TASKHOST_TEST_POSTGRESQL";
/// A pgbouncer in front of a PostgreSQL of its own.
pub const PGBOUNCER: &str = "TASKHOST_TEST_PGBOUNCER";
pub const MARIADB: &str = "TASKHOST_TEST_MARIADB";
pub const MEMCACHED: &str = "TASKHOST_TEST_MEMCACHED";
pub const SQS: &str = "TASKHOST_TEST_SQS";
pub const SQS_TLS: &str = "TASKHOST_TEST_SQS_TLS";

/// The folder of certificates that these servers and their tests have in common: `ca.pem`, `client.pem`, `client.key`,
/// `other-ca.pem`.
pub const CERTIFICATES: &str = "TASKHOST_TEST_CERTIFICATES";

/// Set by hand: the first seed of the differential test and how many follow.
pub const SEED: &str = "TASKHOST_TEST_SEED";
pub const SEEDS: &str = "TASKHOST_TEST_SEEDS";

/// Set by hand: print what processes wrote even if their test passes.
pub const VERBOSE: &str = "TASKHOST_TEST_VERBOSE";

pub fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// The value, or none with the line that `cargo xtask test` counts.
pub fn required(name: &str) -> Option<String> {
    let value = env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        skip(&format!("{name} is not set; run `cargo xtask test`"));
    }
    value
}

/// As [`required`], for a file.
pub fn required_path(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(required(name)?);
    if !path.exists() {
        skip(&format!("{name} names {}, which does not exist", path.display()));
        return None;
    }
    Some(path)
}

/// Says that a test cannot run here.
#[expect(clippy::print_stdout, reason = "libtest shows it and `cargo xtask test` counts it")]
pub fn skip(reason: &str) {
    println!("skipped: {reason}");
}
