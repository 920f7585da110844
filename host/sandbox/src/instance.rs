//! What the host keeps beside one instance of a plugin: its limits, its clock, its output.
//!
//! Made anew for every call, so nothing here costs anything before the guest asks for it: a guest
//! that uses no WASI never pays for a WASI context.

use std::sync::Arc;
use std::time::Duration;

use taskhost_core::settle::Step;
use taskhost_core::{Child, Json, State, settle};
use wasmtime::Store;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use crate::abi::taskhost::task::context::{EventError, UpdateError};
use crate::abi::taskhost::task::{context, types};
use crate::asynchronous::Wasi03;
use crate::calls::{self, Calls};
use crate::capability::{self, Capabilities, CapabilityError, Http, Remarks, Scratch, Sockets, Traffic, TrafficMeter};
use crate::clock::{Deadlines, Ending, Notice, Patience};
use crate::engine::Engine;
use crate::events::Told;
use crate::limits::{Limits, RANDOM_BYTES_MAX};
use crate::logs::{Output, Speaker};
use crate::memory::MemoryMeter;
use crate::publish::Sent;
use crate::sandbox::Surroundings;
use crate::states::States;

/// The data of a store.
pub(crate) struct Guest {
    pub(crate) memory: MemoryMeter,
    pub(crate) calls: Calls,
    deadlines: Deadlines,
    /// For a task that handles being told to end.
    notice: Option<Arc<Notice>>,
    speaker: Speaker,
    limits: Limits,
    /// What an answer may hand over, counted as the host has to store it.
    answer_bytes_max: usize,
    surroundings: Arc<Surroundings>,
    /// What the plugin was granted; whether this task may use it is another question.
    granted: Option<Arc<Capabilities>>,
    states: Option<Box<States>>,
    told: Told,
    pub(crate) sent: Option<Box<Sent>>,
    output: Option<Output>,
    wasi: Option<WasiCtx>,
    scratch: Option<Arc<Scratch>>,
    http: Option<Box<Http>>,
    sockets: Option<Arc<Sockets>>,
    /// What was said about what the guest did not get.
    remarks: Option<Arc<Remarks>>,
    /// Counts what goes over the network, once something does.
    traffic: Option<Arc<TrafficMeter>>,
    table: ResourceTable,
    /// What it has of WASI 0.3, once it uses that.
    wasi_0_3: Option<Box<Wasi03>>,
}

impl Guest {
    pub(crate) fn new(
        deadlines: Deadlines,
        speaker: Speaker,
        limits: Limits,
        surroundings: Arc<Surroundings>,
        granted: Option<Arc<Capabilities>>,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        let memory = MemoryMeter::new(limits.memory_bytes);
        let calls = Calls::new(limits.host_calls);
        let notice = deadlines.handles_soft.then(Arc::default);
        Self {
            memory,
            calls,
            deadlines,
            notice,
            speaker,
            limits,
            answer_bytes_max: 0,
            surroundings,
            granted,
            states: None,
            told: Told::default(),
            sent: None,
            output: None,
            wasi: None,
            scratch: None,
            http: None,
            sockets: None,
            remarks: None,
            traffic: None,
            table,
            wasi_0_3: None,
        }
    }

    /// A store around this, with every bound set.
    pub(crate) fn into_store(mut self, engine: &Engine, answer_bytes_max: usize) -> Store<Self> {
        let handles = self.limits.handles;
        self.answer_bytes_max = answer_bytes_max;
        let mut store = Store::new(&engine.wasm, self);
        store.limiter(|guest| &mut guest.memory);
        store.set_max_component_handles(handles);
        store.set_epoch_deadline(1);
        // Functions and not closures with something in them: boxing these allocates nothing.
        store.epoch_deadline_callback(calls::tick);
        store.call_hook(calls::watch);
        store
    }

    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// Takes the place of the one before in a store whose instance goes on. What that has is what it had;
    /// everything else is as for a new one.
    pub(crate) fn take_over(mut self, store: &mut Store<Self>) {
        let before = store.data_mut();
        self.memory = before.memory.for_next();
        self.answer_bytes_max = before.answer_bytes_max;
        if let Some(output) = before.output.take().filter(|output| output.streams() > 0) {
            output.pass_on(self.speaker.clone(), &self.limits);
            self.output = Some(output);
            self.table = std::mem::take(&mut before.table);
        }
        *before = self;
        store.set_epoch_deadline(1);
    }

    /// True if there is nothing in the way of another attempt: no limit was met, nobody wanted the guest to end,
    /// and it holds nothing of the host's but what leads to its log.
    pub(crate) fn is_as_good_as_new(&mut self) -> bool {
        let streams = self.output.as_ref().map_or(0, Output::streams);
        self.memory.denied().is_none()
            && self.calls.exceeded().is_none()
            && !self.is_cancelled()
            && self.table.iter_mut().count() == streams
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn speaker(&self) -> &Speaker {
        &self.speaker
    }

    pub(crate) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    pub(crate) fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    /// What the guest has published so far.
    pub(crate) fn sent(&mut self) -> &mut Sent {
        self.sent.get_or_insert_default()
    }

    /// What waits to be published when the attempt has ended well, and the results of all that it sent.
    pub(crate) fn take_sent(&mut self) -> (Vec<Step>, Vec<Child>) {
        self.sent.take().map(|sent| (sent.effects, sent.children)).unwrap_or_default()
    }

    /// For host functions that keep the guest waiting.
    pub(crate) fn waiting(&self) -> Patience {
        Patience::new(self.deadlines, self.notice.clone())
    }

    /// True once the guest should come to an end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.deadlines.cancelled() || self.notice.as_ref().is_some_and(|notice| notice.is_given())
    }

    /// What one call into the host may hand over.
    pub(crate) fn call_bytes_max(&self) -> usize {
        self.limits.host_call_bytes
    }

    /// What the answer may hand over, which is lifted without an interruption.
    pub(crate) fn answer_bytes_max(&self) -> usize {
        self.answer_bytes_max
    }

    /// Gives the guest what it cannot get when it asks: folders, whose opening may fail.
    pub(crate) fn prepare(&mut self) -> Result<(), CapabilityError> {
        if !self.capabilities().is_some_and(Capabilities::needs_preparation) {
            return Ok(());
        }
        if self.capabilities().is_some_and(Capabilities::has_scratch) {
            let remarks = self.remarks();
            let made = self.capabilities().map(|capabilities| capabilities.make_scratch(remarks)).transpose()?;
            self.scratch = made.flatten().map(Arc::new);
        }
        self.wasi = Some(self.make_wasi()?);
        Ok(())
    }

    /// What the guest may use now.
    pub(crate) fn capabilities(&self) -> Option<&Capabilities> {
        let Speaker::Task(attempt, _) = &self.speaker else { return None };
        self.granted.as_deref().filter(|granted| granted.covers(attempt.request.task.as_str()))
    }

    /// Why the guest may not use this.
    pub(crate) fn denied(&self, option: &str, name: &str) -> String {
        capability::denied(&self.speaker, self.granted.as_deref(), option, name)
    }

    /// Where the host says what the guest did not get.
    pub(crate) fn remarks(&mut self) -> Arc<Remarks> {
        let make =
            || Arc::new(Remarks::new(self.speaker.clone(), self.granted.clone(), Arc::clone(&self.surroundings)));
        Arc::clone(self.remarks.get_or_insert_with(make))
    }

    /// Who decides about the addresses of its sockets.
    pub(crate) fn socket_rules(&mut self) -> Arc<Sockets> {
        if self.sockets.is_none() {
            self.sockets = Some(Arc::new(Sockets::new(self.remarks())));
        }
        Arc::clone(self.sockets.as_ref().expect("it was made above"))
    }

    pub(crate) fn http_header_bytes_max(&self) -> usize {
        self.limits.http_header_bytes
    }

    /// How many of them it may have.
    pub(crate) fn sockets_max(&self) -> usize {
        self.limits.sockets
    }

    /// How long a host function may keep it.
    pub(crate) fn patience(&self) -> Duration {
        self.deadlines.patience()
    }

    pub(crate) fn traffic_meter(&mut self) -> Arc<TrafficMeter> {
        Arc::clone(self.traffic.get_or_insert_default())
    }

    /// What the guest sent and received over the network.
    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic.as_ref().map_or_else(Traffic::default, |meter| meter.read())
    }

    fn make_wasi(&mut self) -> Result<WasiCtx, CapabilityError> {
        let output = self.output();
        let (stdout, stderr) = (output.stdout(), output.stderr());
        let mut builder = WasiCtx::builder();
        builder.stdout(stdout).stderr(stderr).max_random_size(RANDOM_BYTES_MAX);
        if let Some(capabilities) = self.capabilities() {
            capabilities.furnish(&mut builder, self.scratch.as_deref())?;
        }
        if self.capabilities().is_some_and(Capabilities::has_sockets) {
            self.socket_rules().furnish(&mut builder);
        }
        Ok(builder.build())
    }

    /// Its WASI context, and what it has of WASI 0.3 apart from it.
    pub(crate) fn wasi_0_3(&mut self) -> (&mut WasiCtx, &mut Wasi03) {
        self.ctx();
        let handles_max = self.limits.handles;
        let Self { wasi, wasi_0_3, .. } = self;
        let apart = wasi_0_3.get_or_insert_with(|| Box::new(Wasi03::new(handles_max)));
        (wasi.as_mut().expect("it was made above"), apart)
    }

    /// Where the guest's words go.
    pub(crate) fn output(&mut self) -> &Output {
        let Self { output, speaker, limits, granted, .. } = self;
        output.get_or_insert_with(|| Output::new(speaker.clone(), limits, granted.clone()))
    }

    /// When it should come to an end, if it is one that listens.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.notice.clone().map(|notice| Ending::new(self.deadlines, notice))
    }

    /// The private folder of this attempt, if it has one.
    pub(crate) fn scratch(&self) -> Option<Arc<Scratch>> {
        self.scratch.clone()
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
        if let Some(limit) = self.output.as_ref().and_then(Output::finish) {
            self.surroundings.reached.count(self.speaker.plugin(), limit);
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
        if self.wasi.is_none() {
            // What can fail was done before the guest was there.
            self.wasi = Some(self.make_wasi().expect("without folders nothing can fail"));
        }
        let Self { wasi, table, .. } = self;
        let ctx = wasi.as_mut().expect("it was made above");
        WasiCtxView { ctx, table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        if self.http.is_none() {
            let (meter, remarks) = (self.traffic_meter(), self.remarks());
            let http = Http::new(self.limits, self.deadlines, self.notice.clone(), meter, remarks);
            self.http = Some(Box::new(http));
        }
        let Self { http, table, .. } = self;
        http.as_mut().expect("it was made above").view(table)
    }
}

impl types::Host for Guest {}

impl context::Host for Guest {
    fn request(&mut self) -> String {
        match &self.speaker {
            Speaker::Task(attempt, _) => {
                let request = &attempt.request;
                // The limit in force may be the operator's ceiling, which is nobody's business.
                let time_limit = request.time_limit.or(attempt.spec.options.time_limit);
                let facts = request.facts(&self.surroundings.hostname, time_limit, attempt.soft_time_limit);
                facts.as_str().to_owned()
            }
            Speaker::Plugin(..) => "{}".to_owned(),
        }
    }

    fn cancelled(&mut self) -> bool {
        self.is_cancelled()
    }

    fn remaining_ms(&mut self) -> u64 {
        u64::try_from(self.deadlines.remaining().as_millis()).unwrap_or(u64::MAX)
    }

    async fn update_state(&mut self, state: String, meta: String) -> Result<(), UpdateError> {
        let limit = self.limits.state_bytes;
        if meta.len() > limit {
            let (bytes, key) = (meta.len(), "limits.state");
            self.surroundings.reached.count(self.speaker.plugin(), "state");
            return Err(UpdateError::Limited(format!("the meta has {bytes} bytes; {key} is {limit} bytes")));
        }
        let state = State::of_task(&state).map_err(|error| UpdateError::Invalid(error.to_string()))?;
        let meta = Json::parse(meta).map_err(|error| UpdateError::Invalid(format!("the meta is not JSON: {error}")))?;
        let Speaker::Task(attempt, _) = &self.speaker else {
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

    fn send_event(&mut self, kind: String, fields: String) -> Result<(), EventError> {
        let Speaker::Task(attempt, _) = &self.speaker else {
            return Err(EventError::Invalid("no task is running".to_owned()));
        };
        match self.told.admit(&attempt.request.id, &kind, fields, &self.limits) {
            Ok(event) => {
                if let Some(sink) = self.surroundings.events.get() {
                    sink.send(&event);
                }
                Ok(())
            }
            Err((error, limit)) => {
                if let Some(limit) = limit {
                    self.surroundings.reached.count(self.speaker.plugin(), limit);
                }
                Err(error)
            }
        }
    }
}
