//! A worker in this process that has one plugin, a broker and a result store of its own, and nothing to do but what it
//! is given: how `host plugin run` and `host plugin test` run tasks.
//!
//! What becomes of a message is decided where it always is. Here is only what a worker on a server has besides:
//! nobody else who publishes or consumes, and no time to wait for.

mod audience;
mod loopback;
mod values;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use async_trait::async_trait;
use broker::{Broker, BrokerError};
use sandbox::{Declared, EventSink, Grant, Need, PluginReport, StateSink};
use store::ResultStore;
use store::state::StateMemory;
use taskhost_core::builtin;
use taskhost_core::dispatcher::{PluginEvent, Shutdown};
use taskhost_core::event::CustomEvent;
use taskhost_core::protocol::codec::Serializer;
use taskhost_core::protocol::v2::{self, Call};
use taskhost_core::{Attempt, Catalog, Finished, PluginName, Publication, Queue, ResultRecord, Route, StoredResult};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use worker::{
    BuiltinSettings, Builtins, Cancel, Connection, Connector, Invoker, Plugins, Ports, Question, Reports, Retry,
    RunError, Settings, Watchers,
};

use super::{run, wiring};
use crate::config::{Config, Origin, SecretUrl};
use crate::exit::Failure;
use crate::watch_build;

pub(super) use audience::{Audience, Called, Fate, Record, Recorder, ending, meta};
use loopback::Loopback;
use values::LocalValues;

/// Attempts at a time: a task may wait for others, and those for others again.
const SLOTS_MIN: u32 = 16;

/// What there is in a broker of the process.
const MEMORY: &str = "memory://";

/// Entries of a grant, by option.
pub(super) type Entries = Vec<(String, Vec<String>)>;

/// How it differs from what a worker does.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms {
    /// Countdowns, ETAs and delays of retries are waited for.
    pub(super) waits: bool,
    /// Calls of tasks that the plugin has are run as well.
    pub(super) follows: bool,
}

/// A worker with one plugin.
pub(super) struct Rehearsal {
    report: PluginReport,
    catalog: Arc<Catalog>,
    queue: Queue,
    loopback: Arc<Loopback>,
    values: Arc<LocalValues>,
    store: Arc<dyn ResultStore>,
    stop: mpsc::Sender<Shutdown>,
    /// None once it has ended.
    worker: Option<JoinHandle<Result<(), RunError>>>,
    /// The worker would take their end for that of whoever asks.
    _ends: (watch::Sender<Arc<Catalog>>, mpsc::Sender<Question>),
}

/// Changes what would reach out of the process, or would make somebody wait.
pub(super) fn confine(config: &mut Config) {
    config.broker.url = SecretUrl::new(MEMORY);
    config.result.backend = SecretUrl::new(MEMORY);
    config.result.expires = None;
    // Nothing travels, so nothing is signed.
    config.security = None;
    config.accept.content = vec![Serializer::Json];
    config.result.serializer = Serializer::Json;
    config.worker.state_db = None;
    config.worker.send_task_events = false;
    config.worker.heartbeat_interval = None;
    config.worker.concurrency = config.worker.concurrency.max(SLOTS_MIN);
    config.worker.concurrency_max = config.worker.concurrency_max.max(config.worker.concurrency);
    config.worker.autoscale = None;
    config.worker.soft_shutdown_timeout = None;
    config.quarantine = None;
    // Whoever looks at a task wants to see every state that it gives itself.
    if *config.origin("limits.state_interval") == Origin::Default {
        config.limits.state_interval = std::time::Duration::ZERO;
    }
}

/// Gives a plugin that the operator has granted nothing what stays in this process: calls, results, values and
/// scratch folders. What reaches out of it, or only a person can know, has to be granted as for a worker.
pub(super) fn grant(config: &mut Config, path: &Path, entries: &Entries) -> Result<(), Failure> {
    // What is wrong with it, loading it says.
    let Ok(declared) = Declared::read(path) else { return Ok(()) };
    let is_granted = config.grants.contains_key(&declared.name);
    let grant = config.grants.entry(declared.name).or_default();
    if !is_granted {
        grant_what_stays(grant, &declared.needs);
    }
    for (option, entries) in entries {
        grant.set(option, entries).map_err(|problem| Failure::usage(anyhow!("{option}: {problem}")))?;
    }
    Ok(())
}

/// The entry of a grant as if it was written in that folder: a folder that it grants may be named from there.
pub(super) fn seen_from(folder: &Path, option: &str, entry: &str) -> std::io::Result<String> {
    match entry.split_once('=') {
        Some((guest, host)) if option == "fs" && !host.is_empty() && Path::new(host).is_relative() => {
            Ok(format!("{guest}={}", std::path::absolute(folder.join(host))?.display()))
        }
        _ => Ok(entry.to_owned()),
    }
}

fn grant_what_stays(grant: &mut Grant, needs: &[Need]) {
    let stays =
        |need: &&Need| matches!(need, Need::Publish(_) | Need::Results(_) | Need::KeyValue(_) | Need::Scratch(_));
    for option in ["publish", "results", "keyvalue", "scratch"] {
        let of_option = needs.iter().filter(stays).filter(|need| need.capability() == option);
        let entries: Vec<String> = of_option.filter_map(Need::entry).collect();
        if !entries.is_empty() {
            grant.set(option, &entries).expect("a need gives its own entry");
        }
    }
}

impl Rehearsal {
    /// Loads the plugin and starts the worker. `config` was confined.
    pub(super) async fn open(
        config: &Config,
        path: &Path,
        audience: Arc<dyn Audience>,
        guests: Handle,
    ) -> Result<Self, Failure> {
        let sandbox = wiring::sandbox(config)?;
        let loaded = sandbox.load_one(path).await;
        let Some(report) = loaded.plugins.first().cloned() else {
            let reason = loaded.refused.first().map_or("it is no plugin", |refused| &refused.reason);
            return Err(refused(path, reason));
        };
        let adjusted = run::adjusted(&config.tasks, config.result.chord_retry_interval, &loaded.catalog);
        let catalog = Arc::new(adjusted.map(|spec| {
            let mut spec = spec.clone();
            // A message is done with when its task is, and nobody waits for a turn.
            spec.options.acks_late = Some(true);
            spec.options.rate_limit = Some(None);
            spec
        }));
        let store = wiring::store(config, None).await?;
        let sending = Arc::new(wiring::send_settings(config, store.chords())?);
        let queue = config.queues.get(&config.task.default_queue);
        let codec = wiring::codec(config)?;
        let loopback = Arc::new(Loopback::new(catalog.clone(), queue.name.clone(), codec, audience.clone()));
        let reports = Arc::new(Reports::default());
        // Of two, the first stays.
        sandbox.report_states_to(Arc::new(States { reports: reports.clone(), audience: audience.clone() }));
        sandbox.send_events_to(Arc::new(Events(audience.clone())));
        let values = Arc::new(LocalValues::new(config));
        sandbox.keep_values_in(values.clone());
        let connection = Arc::new(Connection::default());
        let announcer = wiring::announcer(config, None);
        let plugins = wiring::SandboxInvoker::new(
            config,
            sandbox,
            reports.clone(),
            connection.clone(),
            store.clone(),
            announcer.clone(),
        )?;
        let (catalogs, catalogs_out) = watch::channel(catalog.clone());
        let invoker = Builtins {
            settings: BuiltinSettings {
                results_expire: config.result.expires,
                result_bytes_max: config.limits.result_bytes,
                chord_join_timeout: config.result.chord_join_timeout,
            },
            inner: Arc::new(Watched { inner: plugins, audience }),
            store: store.clone(),
            catalogs: catalogs_out.clone(),
            sending: sending.clone(),
            clock: wiring::now,
        };
        let settings = Settings {
            node: config.worker.hostname.clone(),
            queues: vec![queue.clone()],
            known_queues: config.queues.clone(),
            retry: Retry::default(),
            codec: wiring::codec(config)?,
            limits: run::limits(config, sending, false, false),
            results_expire: None,
            join_timeout: config.result.chord_join_timeout,
            write_timeout: config.result.write_timeout,
            once_served: Vec::new(),
            seed: uuid::Uuid::new_v4().as_u64_pair().0,
        };
        let (questions, questions_out) = mpsc::channel(worker::QUESTIONS_MAX);
        let ports = Ports {
            connector: Arc::new(Rejoin(loopback.clone())),
            announcer,
            connection,
            store: store.clone(),
            rates: None,
            state: Arc::new(StateMemory::default()),
            invoker: Arc::new(invoker),
            reports,
            catalogs: catalogs_out,
            plugins: Arc::new(Nobody),
            watchers: Watchers::default(),
            questions: questions_out,
            guests,
            clock: wiring::now,
        };
        let (stop, shutdowns) = mpsc::channel(1);
        let worker = tokio::spawn(worker::run(settings, ports, shutdowns));
        Ok(Self {
            report,
            catalog,
            queue,
            loopback,
            values,
            store,
            stop,
            worker: Some(worker),
            _ends: (catalogs, questions),
        })
    }

    /// Says what is dubious about the plugin, but for what concerns whoever runs a worker.
    pub(super) fn warn(&self) {
        let folder = self.report.path.parent().unwrap_or(Path::new("."));
        if let Some(why) = watch_build::staleness(folder) {
            eprintln!("warning: {why}; to build it: host plugin build {}", folder.display());
        }
        let concerns_us = |warning: &&String| !warning.contains("granted to whatever file has the name");
        for warning in self.report.warnings.iter().filter(concerns_us) {
            eprintln!("warning: {warning}");
        }
    }

    /// What it can run.
    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Publishes the call, and gives its result when all that came of it is done.
    pub(super) async fn play(&mut self, call: &Call, terms: Terms) -> Result<Option<StoredResult>, Failure> {
        self.loopback.begin(terms);
        let broker = self.loopback.connect()?;
        broker.declare(&self.queue).await.context("cannot begin")?;
        let route = Route::queue(&self.queue.name);
        let publication = Publication { message: v2::message(call, wiring::now()), route };
        broker.publish(&[publication]).await.context("cannot begin")?;
        let ended = match &mut self.worker {
            None => None,
            Some(worker) => tokio::select! {
                biased;
                () = self.loopback.idle() => None,
                ended = worker => Some(ended),
            },
        };
        if let Some(ended) = ended {
            self.worker = None;
            ended.context("the worker of this process panicked")??;
        }
        Ok(self.store.get(&call.id).await.context("cannot read the result")?)
    }

    /// Forgets what tasks have kept so far.
    pub(super) fn forget_values(&self) {
        self.values.forget();
    }

    /// What asks the tasks that run to end, and gives back their messages.
    pub(super) fn stopper(&self) -> mpsc::Sender<Shutdown> {
        self.stop.clone()
    }

    /// Ends the worker.
    pub(super) async fn end(self) {
        let Some(worker) = self.worker else { return };
        // It may end by itself.
        let _ = self.stop.send(Shutdown::Cold).await;
        let _ = worker.await;
    }
}

fn refused(path: &Path, reason: &str) -> Failure {
    let failure = Failure::from(anyhow!("cannot load {}: {reason}", path.display()));
    let missing = Declared::read(path).is_ok_and(|declared| !declared.component.exists());
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    if missing && folder.join("plugin.toml").exists() {
        return failure.hint(format!("build it first: host plugin build {}", folder.display()));
    }
    match reason.contains("not granted") {
        true => failure.hint("or for this command alone: --grant OPTION=ENTRY, such as --grant config=region=eu"),
        false => failure,
    }
}

/// Connects the worker to what it is alone with.
struct Rejoin(Arc<Loopback>);

#[async_trait]
impl Connector for Rejoin {
    async fn connect(&self) -> Result<Arc<dyn Broker>, BrokerError> {
        self.0.connect()
    }
}

/// Shows how attempts end.
struct Watched {
    inner: wiring::SandboxInvoker,
    audience: Arc<dyn Audience>,
}

#[async_trait]
impl Invoker for Watched {
    async fn invoke(&self, attempt: Attempt, cancel: Cancel) -> Finished {
        let shown = attempt.clone();
        let finished = self.inner.invoke(attempt, cancel).await;
        self.audience.ended(&shown, &finished);
        finished
    }
}

/// Shows the states that tasks give themselves.
struct States {
    reports: Arc<Reports>,
    audience: Arc<dyn Audience>,
}

impl StateSink for States {
    fn put(&self, record: ResultRecord) -> oneshot::Receiver<Result<(), String>> {
        self.audience.state(&record);
        self.reports.put(record)
    }
}

/// Shows the events that tasks send.
struct Events(Arc<dyn Audience>);

impl EventSink for Events {
    fn send(&self, event: &CustomEvent) {
        self.0.event(event);
    }
}

/// Nothing is reloaded, tried or put into quarantine.
struct Nobody;

impl Plugins for Nobody {
    fn happened(&self, _event: PluginEvent) {}
}

/// True for tasks that no plugin brings.
fn is_builtin(plugin: &PluginName) -> bool {
    plugin.as_str() == builtin::PLUGIN
}
