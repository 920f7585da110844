//! One engine for the life of the process: compiler settings, the pool, the ticker and the linker.
//!
//! Knows nothing of plugins or attempts.

use std::error::Error;
use std::sync::Arc;
use std::thread;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy, WasmFeatures};

use crate::abi;
use crate::cache::CompileCache;
use crate::capability;
use crate::clock::GuestClock;
use crate::instance::Guest;
use crate::limits::{self, CORE_INSTANCES_MAX, HOST_STACK_BYTES, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX, TICK};
use crate::reuse::Rooms;

/// Instances beyond the configured concurrency, for loading and checking plugins meanwhile.
const HEADROOM: usize = 8;
/// Room for the host's own record of an instance. Only a limit; big Python components need it.
const INSTANCE_BYTES_MAX: usize = 16 << 20;
/// How much of an instance's memory stays mapped between attempts, where the kernel tells which pages
/// were touched. Without that it would be cleared as a whole each time, which is slower than no pool.
const MEMORY_RESIDENT_BYTES: usize = 1 << 20;
const TABLE_RESIDENT_BYTES: usize = 64 << 10;

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("set up the wasm engine")]
    Setup(#[source] wasmtime::Error),
    #[error("start the ticker thread")]
    Ticker(#[source] std::io::Error),
    #[error("environment variable HOST_POOLING is `{0}`, which is neither 0 nor 1")]
    Pooling(String),
}

/// Compiles and instantiates.
pub(crate) struct Engine {
    pub(crate) wasm: wasmtime::Engine,
    pub(crate) linker: Linker<Guest>,
    /// True if instances come from a pool of reserved addresses.
    pub(crate) pooled: bool,
    /// Compiled code from earlier.
    pub(crate) cache: Option<Arc<CompileCache>>,
    /// Threads that compile one plugin: half of the machine, since tasks run meanwhile.
    pub(crate) compiler_threads: usize,
    /// Room for instances, as many as there are in the pool.
    pub(crate) rooms: Rooms,
}

impl Engine {
    /// Builds the engine, and the pool if the machine has the addresses for it.
    pub(crate) fn new(config: &limits::Config) -> Result<Self, EngineError> {
        let forced = match std::env::var("HOST_POOLING").ok().as_deref() {
            None | Some("") => None,
            Some("0") => Some(false),
            Some("1") => Some(true),
            Some(other) => return Err(EngineError::Pooling(other.to_owned())),
        };
        let instances = config.concurrency.max(1).saturating_add(HEADROOM);
        let (wasm, pooled) = build(instances, config.limits.stack_bytes, forced).map_err(EngineError::Setup)?;
        start_ticker(&wasm).map_err(EngineError::Ticker)?;
        let linker = link(&wasm).map_err(EngineError::Setup)?;
        let rooms = Rooms::new(instances, config.concurrency.max(1));
        let cache = config.cache.as_ref().and_then(|config| match CompileCache::open(config) {
            Ok(cache) => Some(Arc::new(cache)),
            Err(error) => {
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                tracing::warn!("plugins are compiled anew at every start, compiled code is not kept: {error}{cause}");
                None
            }
        });
        let compiler_threads = thread::available_parallelism().map_or(1, |cpus| cpus.get().div_ceil(2));
        Ok(Self { wasm, linker, pooled, cache, compiler_threads, rooms })
    }

    /// Waits until there is room for one more instance.
    pub(crate) async fn room(&self) -> OwnedSemaphorePermit {
        self.rooms.room().await
    }
}

fn build(instances: usize, stack_bytes: usize, forced: Option<bool>) -> wasmtime::Result<(wasmtime::Engine, bool)> {
    if forced == Some(false) {
        return Ok((wasmtime::Engine::new(&settings(stack_bytes))?, false));
    }
    // Building the engine reserves the addresses of the whole pool, so it is the probe as well: it
    // fails under `ulimit -v`, on 39-bit address spaces and in some containers.
    match wasmtime::Engine::new(settings(stack_bytes).allocation_strategy(pool(instances))) {
        Ok(wasm) => Ok((wasm, true)),
        Err(error) if forced.is_none() => {
            tracing::warn!("no address space for a pool of instances, tasks start more slowly: {error:#}");
            Ok((wasmtime::Engine::new(&settings(stack_bytes))?, false))
        }
        Err(error) => Err(error),
    }
}

/// What guests do not need: most advisories of wasmtime are about such features.
const UNWANTED: WasmFeatures = WasmFeatures::MEMORY64
    .union(WasmFeatures::GC)
    .union(WasmFeatures::FUNCTION_REFERENCES)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::THREADS);

fn settings(stack_bytes: usize) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .wasm_features(UNWANTED, false)
        .shared_memory(false)
        .max_wasm_stack(stack_bytes)
        .async_stack_size(stack_bytes.saturating_add(HOST_STACK_BYTES));
    config
}

fn pool(instances: usize) -> InstanceAllocationStrategy {
    let instances = u32::try_from(instances).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_MAX))
        .total_memories(instances.saturating_mul(MEMORIES_MAX))
        .total_tables(instances.saturating_mul(TABLES_MAX))
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_component_instance_size(INSTANCE_BYTES_MAX);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Auto)
            .linear_memory_keep_resident(MEMORY_RESIDENT_BYTES)
            .table_keep_resident(TABLE_RESIDENT_BYTES);
    }
    InstanceAllocationStrategy::Pooling(pool)
}

/// Advances the epoch at a constant rate, on a thread of its own because a busy runtime would stop
/// time itself. Ends with the engine.
fn start_ticker(wasm: &wasmtime::Engine) -> std::io::Result<()> {
    let engine = wasm.weak();
    let tick = move || {
        loop {
            thread::sleep(TICK);
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
        }
    };
    thread::Builder::new().name("wasm-ticker".into()).spawn(tick).map(drop)
}

fn link(wasm: &wasmtime::Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(wasm);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    GuestClock::link(&mut linker)?;
    linker.allow_shadowing(false);
    abi::Plugin::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    capability::link(&mut linker)?;
    Ok(linker)
}
