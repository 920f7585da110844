//! Engines for the life of the process: compiler settings, the pool, the ticker and the linker of each.
//!
//! There are two at most. The sequential one is there from the start; the concurrent one runs asynchronous tasks, costs
//! each call some microseconds more, and is made when the first plugin is loaded that needs it. Knows nothing of plugins
//! or attempts.

use std::error::Error;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy, WasmFeatures};

use crate::abi;
use crate::asynchronous;
use crate::cache::CompileCache;
use crate::capability;
use crate::clock::GuestClock;
use crate::instance::Guest;
use crate::limits::{self, CORE_INSTANCES_MAX, HOST_STACK_BYTES, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX, TICK};
use crate::reuse::Rooms;

/// Instances beyond the configured concurrency, for loading and checking plugins meanwhile.
const HEADROOM: usize = 8;
/// Stacks for an instance that waits for several things at a time. One is the rule; it takes another when something
/// has to be done for it while it stands in a call that blocks, and one for each of the components in it that does.
const STACKS_PER_INSTANCE: u32 = 4;
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

/// What the guests of an engine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One thing after the other.
    Sequential,
    /// Wait for several things at a time.
    Concurrent,
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

/// All engines of one sandbox.
pub(crate) struct Engines {
    settings: Settings,
    sequential: Arc<Engine>,
    concurrent: OnceLock<Arc<Engine>>,
    /// Held by whoever makes it.
    making: Mutex<()>,
}

/// What the engines have in common.
struct Settings {
    concurrency: usize,
    stack_bytes: usize,
    /// Whether there has to be a pool.
    forced: Option<bool>,
    wasi_0_3: bool,
    cache: Option<Arc<CompileCache>>,
}

impl Engines {
    pub(crate) fn new(config: &limits::Config) -> Result<Self, EngineError> {
        let forced = match std::env::var("HOST_POOLING").ok().as_deref() {
            None | Some("") => None,
            Some("0") => Some(false),
            Some("1") => Some(true),
            Some(other) => return Err(EngineError::Pooling(other.to_owned())),
        };
        let cache = config.cache.as_ref().and_then(|config| match CompileCache::open(config) {
            Ok(cache) => Some(Arc::new(cache)),
            Err(error) => {
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                tracing::warn!("plugins are compiled anew at every start, compiled code is not kept: {error}{cause}");
                None
            }
        });
        let settings = Settings {
            concurrency: config.concurrency.max(1),
            stack_bytes: config.limits.stack_bytes,
            forced,
            wasi_0_3: config.wasi_0_3,
            cache,
        };
        let sequential = Arc::new(Engine::new(Kind::Sequential, &settings)?);
        Ok(Self { settings, sequential, concurrent: OnceLock::new(), making: Mutex::default() })
    }

    /// True if guests of the concurrent engine get WASI 0.3.
    pub(crate) fn has_wasi_0_3(&self) -> bool {
        self.settings.wasi_0_3
    }

    pub(crate) fn sequential(&self) -> &Arc<Engine> {
        &self.sequential
    }

    /// The engine of that kind. Making one reserves addresses, which takes some milliseconds.
    pub(crate) fn of(&self, kind: Kind) -> Result<Arc<Engine>, EngineError> {
        if kind == Kind::Sequential {
            return Ok(Arc::clone(&self.sequential));
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = self.concurrent.get() {
            return Ok(Arc::clone(engine));
        }
        let engine = Arc::new(Engine::new(kind, &self.settings)?);
        Ok(Arc::clone(self.concurrent.get_or_init(|| engine)))
    }

    /// Those that were made.
    pub(crate) fn made(&self) -> impl Iterator<Item = &Engine> {
        std::iter::once(&*self.sequential).chain(self.concurrent.get().map(|engine| &**engine))
    }
}

impl Engine {
    /// Builds the engine, and the pool if the machine has the addresses for it.
    fn new(kind: Kind, settings: &Settings) -> Result<Self, EngineError> {
        let instances = settings.concurrency.saturating_add(HEADROOM);
        let (wasm, pooled) =
            build(kind, instances, settings.stack_bytes, settings.forced).map_err(EngineError::Setup)?;
        start_ticker(&wasm).map_err(EngineError::Ticker)?;
        let mut linker = link(&wasm).map_err(EngineError::Setup)?;
        if kind == Kind::Concurrent {
            asynchronous::link(&mut linker, settings.wasi_0_3).map_err(EngineError::Setup)?;
        }
        let rooms = Rooms::new(instances, settings.concurrency);
        let compiler_threads = thread::available_parallelism().map_or(1, |cpus| cpus.get().div_ceil(2));
        Ok(Self { wasm, linker, pooled, cache: settings.cache.clone(), compiler_threads, rooms })
    }

    /// Waits until there is room for one more instance.
    pub(crate) async fn room(&self) -> OwnedSemaphorePermit {
        self.rooms.room().await
    }
}

fn build(
    kind: Kind,
    instances: usize,
    stack_bytes: usize,
    forced: Option<bool>,
) -> wasmtime::Result<(wasmtime::Engine, bool)> {
    let settings = || settings(kind, stack_bytes);
    if forced == Some(false) {
        return Ok((wasmtime::Engine::new(&settings())?, false));
    }
    // Building the engine reserves the addresses of the whole pool, so it is the probe as well: it
    // fails under `ulimit -v`, on 39-bit address spaces and in some containers.
    match wasmtime::Engine::new(settings().allocation_strategy(pool(kind, instances))) {
        Ok(wasm) => Ok((wasm, true)),
        Err(error) if forced.is_none() => {
            tracing::warn!("no address space for a pool of instances, tasks start more slowly: {error:#}");
            Ok((wasmtime::Engine::new(&settings())?, false))
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

fn settings(kind: Kind, stack_bytes: usize) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .wasm_component_model(true)
        .wasm_component_model_map(true)
        .concurrency_support(kind == Kind::Concurrent)
        .epoch_interruption(true)
        .wasm_features(UNWANTED, false)
        .shared_memory(false)
        .max_wasm_stack(stack_bytes)
        .async_stack_size(stack_bytes.saturating_add(HOST_STACK_BYTES));
    config
}

fn pool(kind: Kind, instances: usize) -> InstanceAllocationStrategy {
    let instances = u32::try_from(instances).unwrap_or(u32::MAX);
    let stacks = match kind {
        Kind::Sequential => instances,
        Kind::Concurrent => instances.saturating_mul(STACKS_PER_INSTANCE),
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(stacks)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hash::{DefaultHasher, Hash, Hasher};

    use taskhost_core::NodeName;

    use super::*;

    #[test]
    fn the_concurrent_engine_is_made_once_when_somebody_needs_it_and_compiles_other_code() {
        let config = limits::Config {
            concurrency: 2,
            hostname: NodeName::parse("taskhost@test").expect("a name"),
            limits: limits::Limits::default(),
            grants: BTreeMap::new(),
            cache: None,
            scratch_dir: None,
            wasi_0_3: true,
        };
        let engines = Engines::new(&config).expect("an engine");
        assert!(Arc::ptr_eq(&engines.of(Kind::Sequential).expect("it is there"), engines.sequential()));
        assert_eq!(engines.made().count(), 1);
        let made = engines.of(Kind::Concurrent).expect("another engine");
        assert!(Arc::ptr_eq(&made, &engines.of(Kind::Concurrent).expect("it is there")));
        assert_eq!(engines.made().count(), 2);
        // Compiled code is kept under names that have this in them.
        let hash = |engine: &Engine| {
            let mut hasher = DefaultHasher::new();
            engine.wasm.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        assert_ne!(hash(&made), hash(engines.sequential()));
    }
}
