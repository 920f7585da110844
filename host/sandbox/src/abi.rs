//! The interface between host and guest, generated from `wit/`.
//!
//! What every call needs is written by hand, so that its texts go straight from the request into the
//! guest.

use wasmtime::component::{ComponentType, Lower};

use crate::capability::{CONFIG_VERSIONS, KEYVALUE_VERSIONS, LOGGING_VERSION};
use crate::engine::Kind;

use self::exports::taskhost::task::tasks::Failure;

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "plugin",
    imports: {
        "taskhost:task/context.update-state": async,
        "taskhost:task/publish.add-to-chord": async,
        "taskhost:task/publish.apply": async,
        "taskhost:task/publish.immediately": async,
        "taskhost:task/results.get": async,
        "taskhost:task/results.wait": async,
    },
    exports: { default: async },
});

/// The record `invocation`, borrowed.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Invocation<'a> {
    pub(crate) id: &'a str,
    pub(crate) task: &'a str,
    pub(crate) args: &'a str,
    pub(crate) kwargs: &'a str,
    pub(crate) retries: u32,
}

/// What `run` gives back.
pub(crate) type Answer = Result<String, Failure>;

/// The export that makes a component a plugin, as this host knows it.
pub(crate) const TASKS: &str = "taskhost:task/tasks@0.1.0";
/// The same without its last number: interfaces only grow within it.
pub(crate) const TASKS_SERIES: &str = "taskhost:task/tasks@0.1.";
/// The same without any version.
pub(crate) const TASKS_NAME: &str = "taskhost:task/tasks";

/// The same for asynchronous tasks.
pub(crate) const TASKS_ASYNC: &str = "taskhost:task/tasks-async@0.1.0";
pub(crate) const TASKS_ASYNC_SERIES: &str = "taskhost:task/tasks-async@0.1.";
pub(crate) const TASKS_ASYNC_NAME: &str = "taskhost:task/tasks-async";
/// What only these can use.
pub(crate) const WAITING_SERIES: &str = "taskhost:task/waiting@0.1.";

/// The interfaces that are linked for every component: name, and the version that they grow within.
const LINKED: &[(&str, &str)] = &[
    ("taskhost:task/context", "0.1"),
    ("taskhost:task/publish", "0.1"),
    ("taskhost:task/results", "0.1"),
    ("taskhost:task/secrets", "0.1"),
    ("taskhost:task/types", "0.1"),
    ("wasi:cli/environment", "0.2"),
    ("wasi:cli/exit", "0.2"),
    ("wasi:cli/stderr", "0.2"),
    ("wasi:cli/stdin", "0.2"),
    ("wasi:cli/stdout", "0.2"),
    ("wasi:cli/terminal-input", "0.2"),
    ("wasi:cli/terminal-output", "0.2"),
    ("wasi:cli/terminal-stderr", "0.2"),
    ("wasi:cli/terminal-stdin", "0.2"),
    ("wasi:cli/terminal-stdout", "0.2"),
    ("wasi:clocks/monotonic-clock", "0.2"),
    ("wasi:clocks/wall-clock", "0.2"),
    ("wasi:filesystem/preopens", "0.2"),
    ("wasi:filesystem/types", "0.2"),
    ("wasi:http/outgoing-handler", "0.2"),
    ("wasi:http/types", "0.2"),
    ("wasi:io/error", "0.2"),
    ("wasi:io/poll", "0.2"),
    ("wasi:io/streams", "0.2"),
    ("wasi:random/insecure", "0.2"),
    ("wasi:random/insecure-seed", "0.2"),
    ("wasi:random/random", "0.2"),
    ("wasi:sockets/instance-network", "0.2"),
    ("wasi:sockets/ip-name-lookup", "0.2"),
    ("wasi:sockets/network", "0.2"),
    ("wasi:sockets/tcp", "0.2"),
    ("wasi:sockets/tcp-create-socket", "0.2"),
    ("wasi:sockets/udp", "0.2"),
    ("wasi:sockets/udp-create-socket", "0.2"),
];

/// The interfaces that are linked besides for those which can wait for several things at a time.
const LINKED_CONCURRENT: &[(&str, &str)] = &[("taskhost:task/waiting", "0.1")];

/// The interfaces of WASI 0.3, which are linked for those where the operator says so.
const LINKED_WASI_0_3: &[(&str, &str)] = &[
    ("wasi:cli/environment", "0.3"),
    ("wasi:cli/exit", "0.3"),
    ("wasi:cli/stderr", "0.3"),
    ("wasi:cli/stdin", "0.3"),
    ("wasi:cli/stdout", "0.3"),
    ("wasi:cli/terminal-input", "0.3"),
    ("wasi:cli/terminal-output", "0.3"),
    ("wasi:cli/terminal-stderr", "0.3"),
    ("wasi:cli/terminal-stdin", "0.3"),
    ("wasi:cli/terminal-stdout", "0.3"),
    ("wasi:cli/types", "0.3"),
    ("wasi:clocks/monotonic-clock", "0.3"),
    ("wasi:clocks/system-clock", "0.3"),
    ("wasi:clocks/types", "0.3"),
    ("wasi:filesystem/preopens", "0.3"),
    ("wasi:filesystem/types", "0.3"),
    ("wasi:random/insecure", "0.3"),
    ("wasi:random/insecure-seed", "0.3"),
    ("wasi:random/random", "0.3"),
    ("wasi:sockets/ip-name-lookup", "0.3"),
    ("wasi:sockets/types", "0.3"),
];

/// True if the import is of WASI 0.3, which wasmtime calls unfinished.
pub(crate) fn is_wasi_0_3(import: &str) -> bool {
    import.starts_with("wasi:") && import.split_once('@').is_some_and(|(_, version)| version.starts_with("0.3."))
}

/// True if an import of that name finds its match in the linker of such an engine.
pub(crate) fn is_linked(import: &str, kind: Kind, wasi_0_3: bool) -> bool {
    let Some((name, version)) = import.split_once('@') else { return false };
    let is_in = |list: &[(&str, &str)]| {
        list.iter().any(|(linked, series)| {
            *linked == name && version.strip_prefix(series).is_some_and(|patch| patch.starts_with('.'))
        })
    };
    if kind == Kind::Concurrent && (is_in(LINKED_CONCURRENT) || (wasi_0_3 && is_in(LINKED_WASI_0_3))) {
        return true;
    }
    // Drafts do not grow: each is a version of its own.
    match name {
        "wasi:config/store" => return CONFIG_VERSIONS.contains(&version),
        "wasi:keyvalue/store" | "wasi:keyvalue/atomics" => return KEYVALUE_VERSIONS.contains(&version),
        "wasi:logging/logging" => return version == LOGGING_VERSION,
        _ => {}
    }
    is_in(LINKED)
}
