//! What the host keeps beside one instance of a plugin: its limits, its clock, its output.
//!
//! Made anew for every call, so nothing here costs anything before the guest asks for it: a guest
//! that uses no WASI never pays for a WASI context.

use std::sync::Arc;

use taskhost_core::{Json, State, settle};
use wasmtime::Store;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::abi::taskhost::task::context::UpdateError;
use crate::abi::taskhost::task::{context, types};
use crate::clock::{Deadlines, Notice};
use crate::engine::Engine;
use crate::limits::{HANDLES_MAX, Limits, RANDOM_BYTES_MAX, RESOURCES_MAX};
use crate::logs::{Output, Speaker};
use crate::memory::MemoryMeter;
use crate::sandbox::Surroundings;
use crate::states::States;

/// The data of a store.
pub(crate) struct Guest {
    pub(crate) memory: MemoryMeter,
    deadlines: Deadlines,
    /// For a task that handles being told to end.
    notice: Option<Arc<Notice>>,
    speaker: Speaker,
    limits: Limits,
    surroundings: Arc<Surroundings>,
    states: Option<Box<States>>,
    output: Option<Output>,
    wasi: Option<WasiCtx>,
    table: ResourceTable,
}

impl Guest {
    pub(crate) fn new(deadlines: Deadlines, speaker: Speaker, limits: Limits, surroundings: Arc<Surroundings>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let memory = MemoryMeter::new(limits.memory_bytes);
        let notice = deadlines.handles_soft.then(Arc::default);
        Self { memory, deadlines, notice, speaker, limits, surroundings, states: None, output: None, wasi: None, table }
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
    pub(crate) fn clock(&mut self) -> (Deadlines, Option<&Arc<Notice>>, &mut ResourceTable) {
        (self.deadlines, self.notice.as_ref(), &mut self.table)
    }

    /// How the guest is told to end, if it listens.
    pub(crate) fn notice(&self) -> Option<Arc<Notice>> {
        self.notice.clone()
    }

    /// Writes what the guest printed without ending the line, and says what was dropped.
    pub(crate) fn finish_output(&self) {
        if let Some(output) = &self.output {
            output.finish();
        }
    }

    /// Hands over the last state that the guest reported, if that has not been done yet.
    pub(crate) fn finish_states(&self) {
        if let Some(states) = &self.states {
            states.end();
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
                let facts = request.facts(&self.surroundings.hostname, time_limit, attempt.soft_time_limit);
                facts.as_str().to_owned()
            }
            Speaker::Plugin(_) => "{}".to_owned(),
        }
    }

    fn cancelled(&mut self) -> bool {
        self.deadlines.cancelled() || self.notice.as_ref().is_some_and(|notice| notice.is_given())
    }

    fn remaining_ms(&mut self) -> u64 {
        u64::try_from(self.deadlines.remaining().as_millis()).unwrap_or(u64::MAX)
    }

    async fn update_state(&mut self, state: String, meta: String) -> Result<(), UpdateError> {
        let limit = self.limits.state_bytes;
        if meta.len() > limit {
            let (bytes, key) = (meta.len(), "limits.state");
            return Err(UpdateError::Limited(format!("the meta has {bytes} bytes; {key} is {limit} bytes")));
        }
        let state = State::of_task(&state).map_err(|error| UpdateError::Invalid(error.to_string()))?;
        let meta = Json::parse(meta).map_err(|error| UpdateError::Invalid(format!("the meta is not JSON: {error}")))?;
        let Speaker::Task(attempt) = &self.speaker else {
            return Err(UpdateError::Invalid("no task is running".to_owned()));
        };
        let Some(sink) = self.surroundings.states.get() else {
            return Err(UpdateError::Unavailable("there is no result store".to_owned()));
        };
        let record = settle::updated(attempt, state, meta);
        let interval = self.limits.state_interval;
        let states = self.states.get_or_insert_with(|| Box::new(States::new(Arc::clone(sink), interval)));
        states.update(record, self.deadlines.patience()).await.map_err(UpdateError::Unavailable)
    }
}
