//! Builds everything from the configuration: the only place that names concrete adapters.
//!
//! Decides nothing; turns settings into what each crate calls them.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use async_trait::async_trait;
use broker::{Broker, BrokerError, Endpoint};
use sandbox::{CacheConfig, EventSink, Outlet, PublishSink, ResultSource, Sandbox, StateSink};
use store::state::{NodeState, StateFile, StateMemory};
use store::{ReplySender, ResultStore, SharedRates, StoreOptions};
use taskhost_core::canvas::SendSettings;
use taskhost_core::event::CustomEvent;
use taskhost_core::protocol::auth::Seal;
use taskhost_core::protocol::codec::{Format, Serializer};
use taskhost_core::settle::Step;
use taskhost_core::{Attempt, ChordStyle, Codec, Finished, ResultRecord, StoredResult, TaskId, Timestamp};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tracing::warn;
use worker::{
    Announcer, Cancel, Connection, Connector, Desk, EventSettings, Invoker, Mailbox, MailboxSettings, Moves, Publisher,
    Pulse, Reports, Tally, Tracing,
};

use crate::config::{BrokerConfig, Config, LimitsConfig, Origin, SecretUrl};
use crate::exit::{Failure, OrHint};
use crate::otel;
use crate::reach::Reach;
use crate::security;
use crate::values::ValueStores;

/// Threads for brokers, stores and the dispatcher: one waits for the network while the other decides.
const HOST_THREADS: usize = 2;

/// Turns of guests between two looks at timers and sockets.
const GUEST_EVENT_INTERVAL: u32 = 3;

/// The runtime of a worker, which guests cannot starve: they have one of their own.
pub(crate) fn host_runtime() -> Result<Runtime, Failure> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(HOST_THREADS).thread_name("host-io").enable_all();
    Ok(builder.build().context("cannot start threads")?)
}

/// The runtime on which guests run, with a thread for each CPU.
pub(crate) fn guest_runtime() -> Result<Runtime, Failure> {
    let mut builder = Builder::new_multi_thread();
    builder.thread_name("guest").enable_all();
    // A running guest keeps its thread for a whole tick. By default a busy thread looks for timers and
    // sockets after 61 of those, so that a guest that sleeps would be woken half a second late.
    builder.event_interval(GUEST_EVENT_INTERVAL);
    Ok(builder.build().context("cannot start threads")?)
}

/// The runtime of a command that ends soon.
pub(crate) fn client_runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build().context("cannot start")?)
}

/// The wall clock, read here and nowhere else.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// The name of this machine.
pub(crate) fn host_name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// Connects to the configured brokers, each time anew.
struct BrokerConnector(Arc<Endpoint>);

#[async_trait]
impl Connector for BrokerConnector {
    async fn connect(&self) -> Result<Arc<dyn Broker>, BrokerError> {
        self.0.connect().await
    }

    async fn follow(&self) -> Result<Arc<dyn Broker>, BrokerError> {
        self.0.follow().await
    }

    fn leave(&self) {
        self.0.leave();
    }

    fn moves(&self) -> Moves {
        Moves::new(self.0.moves())
    }
}

/// The configured brokers. One for a process, whose connections are to meet at the same server.
pub(crate) fn endpoint(config: &Config, waits_while_blocked: bool) -> Arc<Endpoint> {
    let BrokerConfig { url, write_url, failover_strategy, .. } = &config.broker;
    let options = connect_options(config, waits_while_blocked);
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let write = write_url.as_ref().map(SecretUrl::expose);
    Arc::new(Endpoint::new(url.expose(), write, *failover_strategy, &options, seed))
}

/// What makes a worker's connections to the broker.
pub(crate) fn connector(endpoint: Arc<Endpoint>) -> Arc<dyn Connector> {
    Arc::new(BrokerConnector(endpoint))
}

fn connect_options(config: &Config, waits_while_blocked: bool) -> broker::ConnectOptions {
    broker::ConnectOptions {
        node: config.worker.hostname.to_string(),
        timeout: config.broker.connection_timeout,
        delayed_queue_type: config.broker.native_delayed_delivery_queue_type,
        waits_while_blocked,
        transport_options: config.broker.transport_options.clone(),
        tls: config.broker.tls.clone(),
    }
}

/// Hears what the broker brings for this node. None if the operator does not want that.
pub(crate) fn mailbox(
    config: &Config,
    endpoint: Arc<Endpoint>,
    desk: Arc<Desk>,
    pulse: Option<Arc<Pulse>>,
) -> Result<Option<Mailbox>, Failure> {
    if !config.worker.enable_remote_control {
        return Ok(None);
    }
    let settings = MailboxSettings {
        exchange: config.control.exchange.clone(),
        queue_ttl: config.control.queue_ttl,
        queue_expires: config.control.queue_expires,
        mingles: config.worker.mingle,
        codec: codec(config)?,
        oid: uuid::Uuid::new_v4().to_string(),
        clock: now,
    };
    Ok(Some(Mailbox { settings, connector: connector(endpoint), desk, pulse }))
}

/// Tells monitors what happens.
pub(crate) fn announcer(config: &Config, tally: Option<Arc<Tally>>) -> Arc<Announcer> {
    let settings = EventSettings {
        node: config.worker.hostname.clone(),
        exchange: config.event_exchange.to_string(),
        task_events: config.worker.send_task_events,
        sent_events: config.task.send_sent_event,
        heartbeat: config.worker.heartbeat_interval,
    };
    Arc::new(Announcer::new(settings, now).counting(tally))
}

/// A connection to the broker, for a command that needs one now.
pub(crate) async fn broker(config: &Config) -> Result<Arc<dyn Broker>, Failure> {
    let connected = endpoint(config, false).connect().await.context("cannot reach the broker");
    let origin = config.broker_origin();
    connected.or_hint(format!("the broker's URL comes from: {origin}; `host config` shows all settings"))
}

/// What the worker remembers for itself. Without a file that somebody asked for it does not start.
pub(crate) async fn state(config: &Config) -> Result<Arc<dyn NodeState>, Failure> {
    let Some(path) = &config.worker.state_db else { return Ok(Arc::new(StateMemory::default())) };
    let origin = config.origin("worker.state_db");
    match StateFile::open(path.clone()).await {
        Ok(file) => Ok(Arc::new(file)),
        Err(error) if *origin == Origin::Default => {
            let error = anyhow!(error);
            warn!(
                "RUNNING WITHOUT A STATE FILE: cannot {error:#}; what this worker must remember, such as revoked tasks, \
                 ends with it; name a file that it may write with --statedb"
            );
            Ok(Arc::new(StateMemory::default()))
        }
        Err(error) => {
            let failure = Failure::from(anyhow!(error).context("cannot start"));
            Err(failure.hint(format!("its path comes from: {origin}; each worker needs a file of its own")))
        }
    }
}

/// What makes spans of attempts, who sends them, and what became of them; none, if traces go nowhere.
pub(crate) fn tracing(config: &Config) -> Result<Option<(Tracing, otel::Exporter, Arc<otel::Counts>)>, Failure> {
    let Some(otel) = &config.otel else { return Ok(None) };
    let target = otel::Target::new(otel, config.worker.hostname.as_str());
    let (queue, exporter, counts) = otel::exporter(target.map_err(|problem| Failure::usage(anyhow!(problem)))?);
    let (a, b) = uuid::Uuid::new_v4().as_u64_pair();
    let (c, d) = uuid::Uuid::new_v4().as_u64_pair();
    let system = match config.broker.url.scheme().as_str() {
        scheme if scheme.contains("amqp") => "rabbitmq",
        scheme if scheme.contains("redis") || matches!(scheme, "unix" | "sentinel") => "redis",
        scheme if scheme.contains("sqlite") => "sqlite",
        "filesystem" => "filesystem",
        _ => "memory",
    };
    // Some digits of a UUID always are the same.
    let tracing = Tracing { sink: Arc::new(queue), sampling: otel.sampling, system, seeds: [a ^ d, b ^ c] };
    Ok(Some((tracing, exporter, counts)))
}

/// The result store. `replies` is how results reach clients of rpc:// and amqp://.
pub(crate) async fn store(
    config: &Config,
    replies: Option<Arc<dyn ReplySender>>,
) -> Result<Arc<dyn ResultStore>, Failure> {
    check_left_at_broker(config)?;
    let options = StoreOptions {
        expires: config.result.expires.unwrap_or_default(),
        failure_expires: config.result.failure_expires,
        key_prefix: config.result.options.key_prefix.clone(),
        chord_expires: config.result.chord_expires,
        chord_ordered: config.result.options.chord_ordered,
        chord_join_timeout: Some(config.result.chord_join_timeout),
        format: format(config)?,
        node: Some(config.worker.hostname.clone()),
        tls: config.result.tls.clone(),
        database: config.database.clone(),
        redis: config.result.options.redis.clone(),
    };
    let connected = store::connect(config.result.backend.expose(), &options, replies).await;
    let origin = config.origin("result.backend");
    connected.context("cannot open the result backend").or_hint(format!("its URL comes from: {origin}"))
}

/// True for the result backend that leaves results in queues at the broker.
pub(crate) fn is_left_at_broker(scheme: &str) -> bool {
    matches!(scheme, "amqp" | "amqps" | "pyamqp")
}

/// Results that are left at the broker go by the connection that we have to it, and to no other one.
fn check_left_at_broker(config: &Config) -> Result<(), Failure> {
    let (backend, broker) = (&config.result.backend, &config.broker.url);
    if !is_left_at_broker(&backend.scheme()) {
        return Ok(());
    }
    let is_address = |url: &str| url.split_once("://").is_some_and(|(_, address)| !address.is_empty());
    if is_left_at_broker(&broker.scheme()) && (!is_address(backend.expose()) || backend.expose() == broker.expose()) {
        return Ok(());
    }
    let failure = anyhow!("the result backend {backend} keeps results at the broker, which is {broker}");
    Err(Failure::usage(failure).hint("name `amqp://`, with RabbitMQ as the broker, or another result backend"))
}

/// Where workers count starts of tasks that share a rate limit; `None` if there is no such place.
pub(crate) async fn shared_rates(config: &Config) -> Result<Option<Arc<dyn SharedRates>>, Failure> {
    let Some(url) = &config.worker.rate_limit_store else { return Ok(None) };
    let shared = store::share_rates(url.expose(), &Reach::new(config).options(url.expose())).await;
    let origin = config.origin("worker.rate_limit_store");
    let shared = shared.context("cannot share rate limits").or_hint(format!("the URL comes from: {origin}"))?;
    Ok(Some(Arc::from(shared)))
}

/// The result store for a command that wants to read it; `what` is its name.
pub(crate) async fn readable_store(config: &Config, what: &str) -> Result<Arc<dyn ResultStore>, Failure> {
    let backend = &config.result.backend;
    let unreadable = match backend.scheme().as_str() {
        "rpc" => "rpc:// sends results only to the program that published the task",
        scheme if is_left_at_broker(scheme) => "amqp:// leaves results only for the program that published the task",
        "disabled" => "disabled:// keeps no results",
        "memory" => "memory:// keeps results inside the worker",
        _ => {
            return store(config, None).await;
        }
    };
    let error = Failure::usage(anyhow!("{what} needs results that can be asked for: {unreadable}"));
    Err(error.hint("name the result backend of the worker with -r, such as redis://localhost/0"))
}

/// Which bodies of messages are read.
pub(crate) fn codec(config: &Config) -> Result<Codec, Failure> {
    let body_bytes_max = usize::try_from(config.limits.body_bytes).unwrap_or(usize::MAX);
    Ok(Codec { accept: config.accept.content.clone(), body_bytes_max, seal: seal(config)? })
}

/// How results are written and read.
pub(crate) fn format(config: &Config) -> Result<Format, Failure> {
    Ok(Format { serializer: config.result.serializer, seal: seal(config)? })
}

/// What signs and verifies, where anything is signed.
fn seal(config: &Config) -> Result<Option<Arc<dyn Seal>>, Failure> {
    config.security.as_ref().map(security::load).transpose()
}

/// The sandbox, with the operator's limits.
pub(crate) fn sandbox(config: &Config) -> Result<Arc<Sandbox>, Failure> {
    let sandbox = Sandbox::new(sandbox::Config {
        concurrency: config.worker.concurrency_max as usize,
        hostname: config.worker.hostname.clone(),
        limits: limits(&config.limits),
        grants: config.grants.clone(),
        cache: config.plugins.cache.clone().map(|(dir, key)| CacheConfig { dir, key }),
        scratch_dir: config.sandbox.scratch_dir.clone(),
        wasi_0_3: config.plugins.wasi_0_3,
    });
    Ok(Arc::new(sandbox.context("cannot set up the sandbox")?))
}

fn limits(limits: &LimitsConfig) -> sandbox::Limits {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    sandbox::Limits {
        memory_bytes: size(limits.memory_bytes),
        stack_bytes: size(limits.stack_bytes),
        handles: limits.handles as usize,
        host_calls: limits.host_calls.into(),
        plugin_concurrency: limits.plugin_concurrency.and_then(NonZeroU32::new),
        publish: limits.publish,
        events: limits.events,
        event_bytes: size(limits.event_bytes),
        keyvalue_value_bytes: size(limits.keyvalue_value_bytes),
        host_call_bytes: size(limits.host_call_bytes),
        cpu_time: limits.cpu_time,
        result_bytes: size(limits.result_bytes),
        log_bytes: size(limits.log_bytes),
        log_line_bytes: size(limits.log_line_bytes),
        state_bytes: size(limits.state_bytes),
        state_interval: limits.state_interval,
        component_bytes: size(limits.component_bytes),
        compile_time: limits.compile_time,
        describe_time: limits.describe_time,
        sockets: limits.sockets as usize,
        http_requests: limits.http_requests as usize,
        http_header_bytes: size(limits.http_header_bytes),
        http_request_bytes: size(limits.http_request_bytes),
        http_response_bytes: size(limits.http_response_bytes),
        http_timeout: limits.http_timeout,
    }
}

/// Runs attempts in the sandbox.
pub(crate) struct SandboxInvoker(Arc<Sandbox>);

impl SandboxInvoker {
    /// What running tasks report goes into `reports`, what they publish through the worker's connection,
    /// what they ask about other tasks to the store, and what they tell monitors to `announcer`.
    pub(crate) fn new(
        config: &Config,
        sandbox: Arc<Sandbox>,
        reports: Arc<Reports>,
        connection: Arc<Connection>,
        store: Arc<dyn ResultStore>,
        announcer: Arc<Announcer>,
    ) -> Result<Self, Failure> {
        sandbox.report_states_to(Arc::new(ReportSink(reports)));
        sandbox.send_events_to(Arc::new(MonitorSink(announcer.clone())));
        let seal = seal(config)?;
        let publisher = Publisher::new(connection, store.clone(), seal.clone(), announcer);
        let settings = send_settings(config, store.chords())?;
        sandbox.publish_through(Outlet { sink: Arc::new(BrokerSink(publisher)), settings: Arc::new(settings) });
        sandbox.read_results_from(Arc::new(StoreSource(store)));
        let values = ValueStores::new(config.keyvalue.clone(), Reach::new(config));
        sandbox.keep_values_in(Arc::new(values));
        Ok(Self(sandbox))
    }
}

/// How this worker publishes what its tasks call and what follows them.
pub(crate) fn send_settings(config: &Config, chords: ChordStyle) -> Result<SendSettings, Failure> {
    Ok(SendSettings {
        node: config.worker.hostname.clone(),
        router: config.router(),
        signs: seal(config)?.is_some() && config.accept.content.contains(&Serializer::Auth),
        chords,
        error_cb_on_chord_header: config.task.allow_error_cb_on_chord_header,
        inherit_parent_priority: config.task.inherit_parent_priority,
    })
}

/// Tells monitors what running tasks say.
struct MonitorSink(Arc<Announcer>);

impl EventSink for MonitorSink {
    fn send(&self, event: &CustomEvent) {
        self.0.custom(event);
    }
}

/// Publishes for running tasks.
struct BrokerSink(Publisher);

#[async_trait]
impl PublishSink for BrokerSink {
    async fn publish(&self, steps: Vec<Step>) -> Result<(), String> {
        self.0.publish(&steps).await.map_err(|error| format!("cannot {:#}", anyhow!(error)))
    }
}

/// Looks up results for running tasks.
struct StoreSource(Arc<dyn ResultStore>);

#[async_trait]
impl ResultSource for StoreSource {
    async fn get(&self, id: &TaskId) -> Result<Option<StoredResult>, String> {
        self.0.get(id).await.map_err(|error| format!("cannot {:#}", anyhow!(error)))
    }

    async fn changed(&self, id: &TaskId, within: Duration) {
        self.0.changed(id, within).await;
    }
}

/// Hands states of running tasks to the worker.
struct ReportSink(Arc<Reports>);

impl StateSink for ReportSink {
    fn put(&self, record: ResultRecord) -> oneshot::Receiver<Result<(), String>> {
        self.0.put(record)
    }
}

#[async_trait]
impl Invoker for SandboxInvoker {
    async fn invoke(&self, attempt: Attempt, cancel: Cancel) -> Finished {
        self.0.invoke(attempt, cancel.requested()).await
    }
}

/// The path of the embedded file. `None` if the URL names something else.
fn embedded_path(url: &SecretUrl) -> Option<PathBuf> {
    if !url.scheme().contains("sqlite") {
        return None;
    }
    let (_, path) = url.expose().split_once(":///")?;
    std::path::absolute(path.split(['?', '#']).next().unwrap_or(path)).ok()
}

/// The URL with which Python clients reach the embedded file, with an absolute path: kombu would look
/// for a relative one in the client's folder. `None` if the URL names something else.
pub(crate) fn client_url(dialect: &str, url: &SecretUrl) -> Option<String> {
    Some(format!("{dialect}+sqlite:///{}", embedded_path(url)?.display()))
}

/// What Python clients have to be told besides the URL, if the broker is a folder: Celery's
/// `broker_transport_options`. `None` if it is something else.
pub(crate) fn client_options(config: &Config) -> Option<String> {
    let folders = broker::client_folders(config.broker.url.expose(), &config.broker.transport_options)?;
    let folders: Vec<_> = folders.iter().map(|(name, folder)| format!("{name:?}: {folder:?}")).collect();
    Some(format!("broker_transport_options={{{}}}", folders.join(", ")))
}

/// For commands that only look: they do not make a file that is not there.
pub(crate) fn check_embedded_file(config: &Config, key: &str, url: &SecretUrl) -> Result<(), Failure> {
    let Some(path) = embedded_path(url).filter(|path| !path.exists()) else { return Ok(()) };
    let error = Failure::from(anyhow!("there is no file {}", path.display()));
    let origin = config.origin(key);
    Err(error.hint(format!("name broker and results as for the worker, with -b and -r (`{key}` comes from: {origin})")))
}
