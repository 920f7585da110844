//! What the operator sets for the sandbox, and the bounds that nobody sets.
//!
//! Every number that holds a guest back has its name here; how it is enforced is the business of the
//! module that meets the guest.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use taskhost_core::{NodeName, PluginName};

use crate::cache::CacheConfig;
use crate::grant::Grant;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Core wasm instances in one component: composed and adapted components have three to seven.
pub(crate) const CORE_INSTANCES_MAX: u32 = 32;
/// Linear memories in one component. The pool reserves 4 GiB of addresses for each.
pub(crate) const MEMORIES_MAX: u32 = 8;
/// Tables in one component.
pub(crate) const TABLES_MAX: u32 = 32;
/// Elements in one table.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;
/// What a table element costs the host.
pub(crate) const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();
/// Random bytes that a guest gets in one call.
pub(crate) const RANDOM_BYTES_MAX: u64 = 64 * KIB as u64;
/// Bytes that one call of `describe` may hand over.
pub(crate) const DESCRIBE_BYTES_MAX: usize = 4 * MIB;
/// Longest manifest that is read.
pub(crate) const MANIFEST_BYTES_MAX: u64 = MIB as u64;
/// Stack of the host functions that a guest calls, on top of its own.
pub(crate) const HOST_STACK_BYTES: usize = MIB;
/// How long a guest waits for the result store when it reports a state.
pub(crate) const STATE_WAIT: Duration = Duration::from_secs(3);
/// How long the result store is left alone after that went wrong.
pub(crate) const STATE_PAUSE: Duration = Duration::from_secs(10);
/// How long a guest waits until the broker has what it publishes at once.
pub(crate) const PUBLISH_WAIT: Duration = Duration::from_secs(5);
/// How long it waits for the result store when it asks for a result.
pub(crate) const RESULT_WAIT: Duration = Duration::from_secs(3);
/// How long a guest that waits for a result lets it be between two looks: at first, and at last.
pub(crate) const RESULT_PAUSE_MIN: Duration = Duration::from_millis(20);
pub(crate) const RESULT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How many calls of an earlier execution are thought of when a task asks for a result.
pub(crate) const DERIVED_MAX: u32 = 1_000;
/// How long a guest waits for what it keeps in buckets.
pub(crate) const KEYVALUE_WAIT: Duration = Duration::from_secs(5);
/// Longest key in a bucket.
pub(crate) const KEY_BYTES_MAX: usize = KIB;
/// How many parents of a task are looked at to see whether it descends from another.
pub(crate) const ANCESTORS_MAX: usize = 16;
/// How long a task that handles its soft limit may take to come to an end when the worker stops at once.
/// Longer than it can wait for the result store, shorter than the worker waits for it.
pub(crate) const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// How long an instance waits for the next attempt of its plugin, if that lets it run several.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(10);
/// How often a running guest is looked at.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// How the sandbox is set up. It does not change while the process lives.
#[derive(Debug, Clone)]
pub struct Config {
    /// Attempts that may ever run at once. The pool is made for these and a few more, for loading meanwhile; whoever
    /// exceeds that waits for his turn.
    pub concurrency: usize,
    /// The node's name, told to tasks that ask for it.
    pub hostname: NodeName,
    /// The operator's ceiling for every attempt.
    pub limits: Limits,
    /// What the operator grants, by plugin. Nobody else is granted anything.
    pub grants: BTreeMap<PluginName, Grant>,
    /// Where compiled code is kept from one start to the next.
    pub cache: Option<CacheConfig>,
    /// Whether asynchronous plugins get WASI 0.3, which wasmtime calls unfinished.
    pub wasi_0_3: bool,
    /// Where attempts have their scratch folders; none is a folder of this user among the temporary ones.
    pub scratch_dir: Option<PathBuf>,
}

/// The ceiling for an attempt. A manifest can only lower these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sum of an instance's memories and tables.
    pub memory_bytes: usize,
    /// Stack of wasm frames, for recursion. It is the same for all plugins.
    pub stack_bytes: usize,
    /// Handles that an attempt holds at once: WASI's streams, timers and files, and resources of its own.
    pub handles: usize,
    /// Calls of an attempt into the host.
    pub host_calls: u64,
    /// What one of those may hand over, counted as the host has to store it.
    pub host_call_bytes: usize,
    /// How long an attempt may keep a processor; none is as long as it runs.
    pub cpu_time: Option<Duration>,
    /// Longest result, or failure with all its texts.
    pub result_bytes: usize,
    /// What one attempt may print.
    pub log_bytes: usize,
    /// Longest line of it.
    pub log_line_bytes: usize,
    /// Longest meta of a state that a running task reports.
    pub state_bytes: usize,
    /// Of the states that a task reports within this time only the last is stored.
    pub state_interval: Duration,
    /// Events that an attempt may send, and how long they may be together.
    pub events: u32,
    pub event_bytes: usize,
    /// Tasks that an attempt may publish.
    pub publish: u32,
    /// Attempts of one plugin that run at a time; none is as many as the worker runs.
    pub plugin_concurrency: Option<NonZeroU32>,
    /// Longest value in a bucket.
    pub keyvalue_value_bytes: usize,
    /// Largest component that is loaded.
    pub component_bytes: usize,
    /// Time for compiling a component.
    pub compile_time: Duration,
    /// Time for one call of `describe` when a plugin is loaded.
    pub describe_time: Duration,
    /// Sockets that an attempt holds at once.
    pub sockets: usize,
    /// HTTP requests that an attempt has at once; more wait for their turn.
    pub http_requests: usize,
    /// Longest header of a request, counted as the host has to store it, and of a response.
    pub http_header_bytes: usize,
    /// Longest body of a request.
    pub http_request_bytes: usize,
    /// Longest body of a response, as far as the guest reads it.
    pub http_response_bytes: usize,
    /// Longest wait for a connection, for a response, and for each part of its body.
    pub http_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 128 * MIB,
            stack_bytes: MIB,
            handles: 1_000,
            host_calls: 1_000_000,
            host_call_bytes: 32 * MIB,
            cpu_time: None,
            result_bytes: 16 * MIB,
            log_bytes: 64 * KIB,
            log_line_bytes: 8 * KIB,
            state_bytes: 64 * KIB,
            state_interval: Duration::from_millis(100),
            events: 1_000,
            event_bytes: 64 * KIB,
            publish: 1_000,
            plugin_concurrency: None,
            keyvalue_value_bytes: MIB,
            component_bytes: 64 * MIB,
            compile_time: Duration::from_secs(60),
            describe_time: Duration::from_secs(5),
            sockets: 64,
            http_requests: 16,
            http_header_bytes: 32 * KIB,
            http_request_bytes: 16 * MIB,
            http_response_bytes: 16 * MIB,
            http_timeout: Duration::from_secs(60),
        }
    }
}
