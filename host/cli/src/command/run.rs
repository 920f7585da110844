//! `host run`: prepares everything, says what it found, and hands over to the worker.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use sandbox::Loaded;
use store::SharedRates;
use taskhost_core::builtin::{self, Builtin};
use taskhost_core::canvas::SendSettings;
use taskhost_core::dispatcher::{Autoscale, Limits, Shutdown, TaskDefaults};
use taskhost_core::protocol::content::Json;
use taskhost_core::rate::RateScope;
use taskhost_core::{Catalog, PluginName, Queue, TaskName, TaskSpec};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};
use worker::{Announcer, BuiltinSettings, Builtins, Connection, Desk, Ports, Reports, RunError, Settings, Watchers};

use super::{banner, plugin, purge, wiring};
use crate::args::RunArgs;
use crate::config::{self, Config, Format, TaskOverrides};
use crate::desk::{Doors, ProcessFacts};
use crate::exit::{Failure, OrHint};
#[cfg(unix)]
use crate::local;
use crate::logging::{self, print};
use crate::metrics;
use crate::otel;
use crate::reload::{self, Board, ReadGrants, Reloader};
use crate::signals::{Signals, Stop};
use crate::watch_build::Builder;

/// Wishes to stop that the worker has not heard yet: there are only two.
const SHUTDOWNS_MAX: usize = 2;

/// Deliveries that may wait for their commit: enough for full batches, little enough to bound memory
/// while the broker or the store is away.
const COMMITTING_MAX: usize = 4096;

/// Executions remembered for redeliveries: more than can be unsettled when a connection is lost.
const REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("10000 is not zero");

/// How long the mailbox may take to close its connection in good order.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Runs a worker until it is told to stop.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let settings = &args.worker.settings;
    let config = Arc::new(config::load(settings.config.as_deref(), &settings.sets, args.worker.flags())?);
    plugin::check_folder(&config)?;
    if args.watch_build && !config.plugins.watch {
        let error = anyhow!("--watch-build: plugins.watch is off, so nobody would take what is built");
        return Err(Failure::usage(error).hint(format!("it comes from: {}", config.origin("plugins.watch"))));
    }
    logging::start(config.log);
    warn_of_root();
    raise_open_files();

    let host = wiring::host_runtime()?;
    let guests = wiring::guest_runtime()?;
    let sets = settings.sets.clone();
    let (file, flags) = (settings.config.clone(), args.worker.flags());
    let read_grants: ReadGrants = Box::new(move || {
        let config = config::load(file.as_deref(), &sets, flags.clone());
        config.map(|config| config.grants).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            format!("the configuration is wrong, grants stay as they are: {}", errors.join("; "))
        })
    });
    let builder = args.watch_build.then(|| Builder::new(config.clone()));
    let result = host.block_on(serve(&config, args.purge, builder, guests.handle().clone(), read_grants));
    // A guest that ignores everything must not keep the process alive.
    guests.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

async fn serve(
    config: &Config,
    purge: bool,
    builder: Option<Builder>,
    guests: Handle,
    read_grants: ReadGrants,
) -> Result<(), Failure> {
    let signals = Signals::listen().context("cannot listen for signals")?;
    let (stop, shutdowns) = mpsc::channel(SHUTDOWNS_MAX);
    // From the beginning: whoever stops a worker that compiles plugins is heard when it is done.
    let listening = tokio::spawn(forward(signals, stop.clone()));
    let result = work(config, purge, builder, guests, read_grants, (stop, shutdowns)).await;
    listening.abort();
    result
}

async fn work(
    config: &Config,
    purge: bool,
    mut builder: Option<Builder>,
    guests: Handle,
    read_grants: ReadGrants,
    (stop, shutdowns): (mpsc::Sender<Shutdown>, mpsc::Receiver<Shutdown>),
) -> Result<(), Failure> {
    let started = Instant::now();
    if let Some(builder) = &mut builder {
        builder.begin().await;
    }
    let sandbox = wiring::sandbox(config)?;
    let loaded = plugin::load(config, &sandbox).await;
    warn_of_options(config, &loaded.catalog);
    let catalog = adjusted(&config.tasks, config.result.chord_retry_interval, &loaded.catalog);
    warn_of_grants(config, &loaded);
    announce(config, &loaded)?;
    if loaded.catalog.is_empty() {
        // A worker without tasks would take every message and reject it.
        return Err(anyhow!("there are no tasks to run")).or_hint("the lines above say what to do");
    }

    let state = wiring::state(config).await?;
    if let Err(error) = state.serve(catalog.tasks().map(|task| task.name.clone()).collect()).await {
        warn!("cannot remember which tasks this worker has: {:#}", anyhow!(error));
    }
    let once_served = state.served().await.unwrap_or_else(|error| {
        warn!("cannot recall which tasks this worker had: {:#}", anyhow!(error));
        Vec::new()
    });
    let connection = Arc::new(Connection::default());
    let store = wiring::store(config, Some(connection.clone())).await?;
    if config.result.usage && !store.keeps_usage() {
        warn!("result.usage is on, and {} has no place for what tasks used", config.result.backend);
    }
    if purge {
        let broker = wiring::broker(config).await?;
        let deleted = purge::purge(&*broker, &config.task.queues).await?;
        broker.close().await;
        info!("deleted {} before starting", purge::messages(deleted));
    }
    let sending = Arc::new(wiring::send_settings(config, store.chords())?);
    let settings = Settings {
        node: config.worker.hostname.clone(),
        queues: queues(config)?,
        known_queues: config.queues.clone(),
        retry: config.broker.retry,
        codec: wiring::codec(config)?,
        limits: limits(config, sending.clone(), store.is_durable(), state.is_durable()),
        results_expire: config.result.expires,
        join_timeout: config.result.chord_join_timeout,
        write_timeout: config.result.write_timeout,
        once_served,
        seed: uuid::Uuid::new_v4().as_u64_pair().0,
    };
    let board = Arc::new(Board::new(config.worker.hostname.to_string(), sandbox.clone(), loaded));
    let rates = shared_rates(config, &catalog).await?;
    let (catalogs, catalogs_out) = watch::channel(Arc::new(catalog));
    let (questions, questions_out) = mpsc::channel(reload::QUESTIONS_MAX);
    let (overrides, chord_retry_interval) = (config.tasks.clone(), config.result.chord_retry_interval);
    let reloader = Reloader {
        sandbox: sandbox.clone(),
        board: board.clone(),
        dir: config.plugins.dir.clone(),
        watches: config.plugins.watch,
        read_grants,
        adjust: Box::new(move |catalog| adjusted(&overrides, chord_retry_interval, catalog)),
        catalogs,
        questions: questions_out,
    };
    // Sets, since they end their tasks when they are dropped. Where guests run, since plugins are asked what
    // their tasks are.
    let mut beside = JoinSet::new();
    beside.spawn_on(reloader.run(), &guests);
    if let Some(builder) = builder {
        beside.spawn(builder.run());
    }
    let mut watchers = match config.worker.metrics {
        Some(_) => Watchers { pulse: Some(Arc::default()), tally: Some(Arc::default()), tracing: None },
        None => Watchers::default(),
    };
    let mut exporting = JoinSet::new();
    let traces = wiring::tracing(config)?.map(|(tracing, exporter, counts)| {
        watchers.tracing = Some(tracing);
        exporting.spawn(exporter.run());
        counts
    });
    let announcer = wiring::announcer(config, watchers.tally.clone());
    let (to_dispatcher, questions_to_dispatcher) = mpsc::channel(worker::QUESTIONS_MAX);
    let endpoint = wiring::endpoint(config, true);
    let desk = Arc::new(Desk {
        node: config.worker.hostname.clone(),
        announcer: announcer.clone(),
        facts: Arc::new(ProcessFacts::new(config, endpoint.clone(), questions.clone())),
        questions: to_dispatcher,
        shutdowns: stop,
        started,
    });
    listen(config, Doors { reloader: questions, desk: desk.clone() }, &mut beside).await;
    serve_metrics(config, &board, &announcer, &watchers, traces, &mut beside).await?;
    let reports = Arc::new(Reports::default());
    let plugins = wiring::SandboxInvoker::new(
        config,
        sandbox.clone(),
        reports.clone(),
        connection.clone(),
        store.clone(),
        announcer.clone(),
    )?;
    let invoker = Builtins {
        settings: BuiltinSettings {
            results_expire: config.result.expires,
            result_bytes_max: config.limits.result_bytes,
            chord_join_timeout: config.result.chord_join_timeout,
        },
        inner: Arc::new(plugins),
        store: store.clone(),
        catalogs: catalogs_out.clone(),
        sending,
        clock: wiring::now,
    };
    let pulse = watchers.pulse.clone();
    let ports = Ports {
        announcer,
        connector: wiring::connector(endpoint.clone()),
        connection,
        store,
        state,
        invoker: Arc::new(invoker),
        reports,
        rates,
        catalogs: catalogs_out,
        plugins: board,
        watchers,
        questions: questions_to_dispatcher,
        guests,
        clock: wiring::now,
    };
    let (end_listening, ending) = oneshot::channel();
    let listening = wiring::mailbox(config, endpoint, desk, pulse)?.map(|mailbox| tokio::spawn(mailbox.run(ending)));
    let ran = worker::run(settings, ports, shutdowns).await;
    if timeout(otel::FLUSH_MAX, exporting.join_next()).await.is_err() {
        warn!("the collector did not take the last traces in time");
    }
    drop(end_listening);
    if let Some(listening) = listening
        && timeout(CLOSE_MAX, listening).await.is_err()
    {
        debug!("the broker did not close the connection of the mailbox in time");
    }
    sandbox.clean_up();
    match ran {
        Err(error @ RunError::Broker(_)) => {
            Err(error).or_hint(format!("the broker's URL comes from: {}", config.broker_origin()))
        }
        ran => Ok(ran?),
    }
}

/// Answers Prometheus and whoever asks how this worker is.
async fn serve_metrics(
    config: &Config,
    board: &Arc<Board>,
    announcer: &Arc<Announcer>,
    watchers: &Watchers,
    traces: Option<Arc<otel::Counts>>,
    beside: &mut JoinSet<()>,
) -> Result<(), Failure> {
    let (Some(address), Some(pulse), Some(tally)) = (config.worker.metrics, &watchers.pulse, &watchers.tally) else {
        return Ok(());
    };
    let listener = metrics::listen(address).await.with_context(|| format!("cannot serve metrics at {address}"));
    let origin = config.origin("worker.metrics");
    let listener = listener.or_hint(format!("the address comes from: {origin}"))?;
    info!("metrics at http://{}/metrics", listener.local_addr().unwrap_or(address));
    let sources = metrics::Sources {
        board: board.clone(),
        announcer: announcer.clone(),
        pulse: pulse.clone(),
        tally: tally.clone(),
        traces,
    };
    beside.spawn(metrics::serve(listener, sources));
    Ok(())
}

/// Answers commands on this machine. A worker that cannot do so works all the same.
#[cfg(unix)]
async fn listen(config: &Config, doors: Doors, beside: &mut JoinSet<()>) {
    let Some(path) = &config.worker.control_socket else { return };
    match local::Socket::open(path).await {
        Ok(socket) => drop(beside.spawn(socket.serve(Arc::new(doors)))),
        Err(error) => {
            let (path, origin) = (path.display(), config.origin("worker.control_socket"));
            warn!(
                "`host plugin reload` and commands on this machine cannot reach this worker: {path}: {error}; the path comes from: {origin}"
            );
        }
    }
}

#[cfg(not(unix))]
async fn listen(_config: &Config, _doors: Doors, _beside: &mut JoinSet<()>) {}

fn queues(config: &Config) -> Result<Vec<Queue>, Failure> {
    let mut queues: Vec<Queue> = config.task.queues.iter().map(|name| config.queues.get(name)).collect();
    if config.worker.direct {
        let direct = Queue::direct(&config.worker.hostname).context("cannot name the queue of this worker's own");
        queues.push(direct.or_hint(format!("its name comes from: {}", config.origin("worker.hostname")))?);
    }
    Ok(queues)
}

/// Where starts are counted, if a task shares its rate limit with other workers.
async fn shared_rates(config: &Config, catalog: &Catalog) -> Result<Option<Arc<dyn SharedRates>>, Failure> {
    let shares = |spec: &&Arc<TaskSpec>| {
        let is_limited = spec.options.rate_limit.unwrap_or(config.task.default_rate_limit).is_some();
        is_limited && spec.options.rate_limit_scope == RateScope::Cluster
    };
    let Some(spec) = catalog.tasks().find(shares) else { return Ok(None) };
    match wiring::shared_rates(config).await? {
        Some(rates) => Ok(Some(rates)),
        None => {
            let error = anyhow!("`{}` has rate_limit_scope = \"cluster\", and there is nowhere to count", spec.name);
            Err(error).or_hint("set worker.rate_limit_store to the URL of a Redis server or an SQLite file")
        }
    }
}

/// Options for a task that is not there may be for one that comes.
fn warn_of_options(config: &Config, catalog: &Catalog) {
    for name in config.tasks.keys().filter(|name| catalog.get(name).is_none() && Builtin::named(name).is_none()) {
        warn!(task.name = %name, "[tasks.\"{name}\"] is configured, but no plugin has a task of this name");
    }
}

/// With Celery's own tasks beside those of plugins. The operator's options come last and win.
pub(super) fn adjusted(
    tasks: &BTreeMap<TaskName, TaskOverrides>,
    chord_retry_interval: Duration,
    catalog: &Catalog,
) -> Catalog {
    catalog.clone().with_builtins(builtin::specs(chord_retry_interval)).map(|spec| {
        let mut spec = TaskSpec::clone(spec);
        if let Some(overrides) = tasks.get(&spec.name) {
            overrides.apply(&mut spec.options);
        }
        if spec.options.concurrency_key.is_some() && spec.options.concurrency.is_none() {
            let name = &spec.name;
            warn!(task.name = %name, "`{name}` has a concurrency_key, which limits nothing without concurrency");
        }
        spec
    })
}

/// A grant to nobody is a name that is spelled wrongly, or a plugin that is gone.
fn warn_of_grants(config: &Config, loaded: &Loaded) {
    let is_there = |plugin: &PluginName| loaded.plugins.iter().any(|report| report.name == plugin.as_str());
    for plugin in config.grants.keys().filter(|plugin| !is_there(plugin)) {
        warn!(plugin = %plugin, "[grants.\"{plugin}\"] is configured, but no plugin of this name is loaded");
    }
}

/// Text on stdout for people; for machines the same facts as log lines.
fn announce(config: &Config, loaded: &Loaded) -> Result<(), Failure> {
    if config.log.format == Format::Text {
        print(&banner::text(config, loaded))?;
        return Ok(());
    }
    let queues = banner::queues(config);
    info!(node = %config.worker.hostname, broker = %config.broker.url, results = %config.result.backend,
        queues, concurrency = config.worker.concurrency, "starting {}", config.worker.hostname);
    for plugin in &loaded.plugins {
        let tasks: Vec<&str> = plugin.tasks.iter().map(|task| task.spec.name.as_str()).collect();
        info!(plugin = %plugin.name, tasks = tasks.join(","), "plugin `{}` has {} tasks", plugin.name, tasks.len());
    }
    for refused in &loaded.refused {
        warn!(path = %refused.path.display(), "refused {}: {}", refused.path.display(), refused.reason);
    }
    Ok(())
}

pub(super) fn limits(config: &Config, sending: Arc<SendSettings>, look_up: bool, journals: bool) -> Limits {
    let started_meta = Json::object([
        ("pid", Json::int(i64::from(std::process::id()))),
        ("hostname", Json::text(config.worker.hostname.as_str())),
    ]);
    let autoscale = config.worker.autoscale.map(|(max, min)| Autoscale { max: max as usize, min: min as usize });
    Limits {
        concurrency: config.worker.slots() as usize,
        concurrency_max: config.worker.concurrency_max as usize,
        autoscale,
        prefetch_multiplier: config.worker.prefetch_multiplier,
        prefetch_max: config.worker.prefetch_max,
        disable_prefetch: config.worker.disable_prefetch,
        eta_hold: config.worker.eta_hold,
        delivery_limit: config.task.delivery_limit,
        consumer_timeout: config.broker.consumer_timeout,
        journals,
        held_max: config.worker.eta_task_limit.unwrap_or(u32::MAX),
        limited_max: config.worker.limited_task_limit,
        unknown_task: config.worker.unknown_task,
        removed_task: config.worker.removed_task,
        soft_shutdown_timeout: config.worker.soft_shutdown_timeout,
        committing_max: COMMITTING_MAX,
        spool: config.result.spool,
        remembered_max: REMEMBERED_MAX,
        time_limit_max: config.limits.time,
        quarantine: config.quarantine,
        look_up,
        result_extended: config.result.extended.then(|| config.worker.hostname.clone()),
        started_meta,
        sending,
        task: TaskDefaults {
            acks_late: config.task.acks_late,
            acks_on_failure: config.task.acks_on_failure,
            acks_on_timeout: config.task.acks_on_timeout,
            acks_on_failure_or_timeout: config.task.acks_on_failure_or_timeout,
            reject_on_worker_lost: config.task.reject_on_worker_lost,
            retry_on_worker_lost: config.task.retry_on_worker_lost,
            ignore_result: config.task.ignore_result,
            store_errors_even_if_ignored: config.task.store_errors_even_if_ignored,
            track_started: config.task.track_started,
            store_usage: config.result.usage,
            time_limit: config.task.time_limit,
            soft_time_limit: config.task.soft_time_limit,
            rate_limit: config.task.default_rate_limit,
        },
    }
}

/// Passes the operator's wish on; the rudest one is granted here.
async fn forward(mut signals: Signals, stop: mpsc::Sender<Shutdown>) {
    loop {
        let shutdown = match signals.next().await {
            Stop::Warm => Shutdown::Warm,
            Stop::Cold => Shutdown::Cold,
            Stop::Now => std::process::exit(1),
        };
        // The worker has ended by itself if nobody hears this; a later signal still ends the process.
        let _ = stop.send(shutdown).await;
    }
}

/// Each running task may have `limits.handles` files open, and the sockets to broker and store come out of the same
/// number, which is a thousand on many machines.
#[cfg(unix)]
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            debug!("cannot raise the number of open files: {error}");
        }
    }
}

#[cfg(not(unix))]
fn raise_open_files() {}

#[cfg(unix)]
fn warn_of_root() {
    if rustix::process::geteuid().is_root() {
        warn!(
            "RUNNING AS ROOT: whoever breaks out of the sandbox owns this machine; \
             start the worker as a user of its own (systemd: User=taskhost, Docker: USER taskhost)"
        );
    }
}

#[cfg(not(unix))]
fn warn_of_root() {}
