//! What the host keeps beside one instance of a plugin: its limits, its clock, its output.
//!
//! Made anew for every call, so nothing here costs anything before the guest asks for it: a guest
//! that uses no WASI never pays for a WASI context.

use taskhost_core::NodeName;
use wasmtime::Store;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::abi::taskhost::task::{context, types};
use crate::clock::Deadlines;
use crate::engine::Engine;
use crate::limits::{HANDLES_MAX, Limits, RANDOM_BYTES_MAX, RESOURCES_MAX};
use crate::logs::{Output, Speaker};
use crate::memory::MemoryMeter;

/// The data of a store.
pub(crate) struct Guest {
    pub(crate) memory: MemoryMeter,
    deadlines: Deadlines,
    speaker: Speaker,
    limits: Limits,
    hostname: NodeName,
    output: Option<Output>,
    wasi: Option<WasiCtx>,
    table: ResourceTable,
}

impl Guest {
    pub(crate) fn new(deadlines: Deadlines, speaker: Speaker, limits: Limits, hostname: NodeName) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let memory = MemoryMeter::new(limits.memory_bytes);
        Self { memory, deadlines, speaker, limits, hostname, output: None, wasi: None, table }
    }

    /// A store around this, with every bound set.
    pub(crate) fn into_store(self, engine: &Engine, transfer_bytes_max: usize) -> Store<Self> {
        let mut store = Store::new(&engine.wasm, self);
        store.limiter(|guest| &mut guest.memory);
        // Also bounds what is lifted out of a result, which cannot be interrupted.
        store.set_hostcall_fuel(transfer_bytes_max);
        store.set_max_component_handles(HANDLES_MAX);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store
    }

    /// What the guest's clock is made of.
    pub(crate) fn clock(&mut self) -> (Deadlines, &mut ResourceTable) {
        (self.deadlines, &mut self.table)
    }

    /// Writes what the guest printed without ending the line, and says what was dropped.
    pub(crate) fn finish_output(&self) {
        if let Some(output) = &self.output {
            output.finish();
        }
    }

    /// The last lines that the guest wrote to stderr: why it panicked, if it did.
    pub(crate) fn last_words(&self) -> Option<String> {
        self.output.as_ref().and_then(Output::last_words)
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Self { wasi, output, speaker, limits, table, .. } = self;
        let ctx = wasi.get_or_insert_with(|| {
            let output = output.insert(Output::new(speaker.clone(), limits));
            // Nothing is granted: no environment, arguments, directories, sockets or names.
            WasiCtx::builder().stdout(output.stdout()).stderr(output.stderr()).max_random_size(RANDOM_BYTES_MAX).build()
        });
        WasiCtxView { ctx, table }
    }
}

impl types::Host for Guest {}

impl context::Host for Guest {
    fn request(&mut self) -> String {
        match &self.speaker {
            Speaker::Task(attempt) => {
                let request = &attempt.request;
                // The limit in force may be the operator's ceiling, which is nobody's business.
                let time_limit = request.time_limit.or(attempt.spec.options.time_limit);
                let facts = request.facts(&self.hostname, time_limit, attempt.soft_time_limit);
                facts.as_str().to_owned()
            }
            Speaker::Plugin(_) => "{}".to_owned(),
        }
    }

    fn cancelled(&mut self) -> bool {
        self.deadlines.cancelled()
    }

    fn remaining_ms(&mut self) -> u64 {
        u64::try_from(self.deadlines.remaining().as_millis()).unwrap_or(u64::MAX)
    }
}
