//! The configuration: plain typed data, complete and correct before anything connects.
//!
//! Reads files and environment here and nowhere else; which value wins is decided in [`resolve`].

mod assignment;
mod database;
mod error;
mod file;
mod grants;
mod kind;
mod node;
mod origin;
mod overrides;
mod queues;
mod resolve;
mod secret;
mod setting;
#[cfg(test)]
mod tests;
mod tls;
mod value;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::FailoverStrategy;
use dial::tls::TlsOptions;
use sandbox::Grant;
use taskhost_core::breaker::BreakerRule;
use taskhost_core::dispatcher::SpoolLimits;
use taskhost_core::protocol::auth::Digest;
use taskhost_core::protocol::codec::Serializer;
use taskhost_core::rate::Rate;
use taskhost_core::trace::Sampling;
use taskhost_core::{Disposition, NodeName, PluginName, QueueKind, QueueName, Queues, Router, TaskName};
use worker::Retry;

pub(crate) use error::{ConfigError, ConfigErrors, nearest};
pub(crate) use kind::parse_duration;
pub(crate) use origin::Origin;
pub(crate) use overrides::TaskOverrides;
pub(crate) use resolve::{Flag, Machine, Sources};
pub(crate) use secret::{SecretText, SecretUrl};
pub(crate) use setting::help;
pub(crate) use value::{Format, Level, Value, show_duration, shown_option};

use resolve::Resolved;

use crate::otel;
use crate::reach;

/// The file that is read if it is there and no other is named.
pub(crate) const FILE: &str = "host.toml";

/// What the host is to do, resolved.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) broker: BrokerConfig,
    pub(crate) result: ResultConfig,
    pub(crate) task: TaskConfig,
    /// How results are kept in a database.
    pub(crate) database: store::DatabaseOptions,
    pub(crate) worker: WorkerConfig,
    /// The exchange of events.
    pub(crate) event_exchange: QueueName,
    pub(crate) control: ControlConfig,
    /// The queues of monitors.
    pub(crate) event_queue: EventQueueConfig,
    /// Where traces go, if anywhere.
    pub(crate) otel: Option<OtelConfig>,
    pub(crate) accept: AcceptConfig,
    /// The keys, where anything is signed.
    pub(crate) security: Option<SecurityConfig>,
    pub(crate) limits: LimitsConfig,
    pub(crate) sandbox: SandboxConfig,
    /// Where plugins keep values.
    pub(crate) keyvalue: SecretUrl,
    pub(crate) plugins: PluginsConfig,
    pub(crate) log: LogConfig,
    pub(crate) tasks: BTreeMap<TaskName, TaskOverrides>,
    /// When a plugin comes into quarantine; never, without it.
    pub(crate) quarantine: Option<BreakerRule>,
    /// What plugins may do.
    pub(crate) grants: BTreeMap<PluginName, Grant>,
    /// What queues look like.
    pub(crate) queues: Queues,
    resolved: Resolved,
}

/// Group `[broker]`.
#[derive(Debug)]
pub(crate) struct BrokerConfig {
    /// Where tasks come from: one or several servers.
    pub(crate) url: SecretUrl,
    /// Where messages are published, if not there.
    pub(crate) write_url: Option<SecretUrl>,
    pub(crate) failover_strategy: FailoverStrategy,
    pub(crate) retry: Retry,
    pub(crate) connection_timeout: Duration,
    pub(crate) transport_options: Vec<(String, String)>,
    /// `None` is as long as one likes.
    pub(crate) consumer_timeout: Option<Duration>,
    pub(crate) native_delayed_delivery_queue_type: QueueKind,
    /// TLS though the URL does not say so, and how.
    pub(crate) tls: Option<TlsOptions>,
}

/// Group `[result]`.
#[derive(Debug)]
pub(crate) struct ResultConfig {
    pub(crate) backend: SecretUrl,
    pub(crate) options: ResultOptions,
    /// `None` keeps results for ever.
    pub(crate) expires: Option<Duration>,
    pub(crate) failure_expires: Option<Duration>,
    /// `None` keeps chords as long as results.
    pub(crate) chord_expires: Option<Duration>,
    pub(crate) chord_join_timeout: Duration,
    pub(crate) chord_retry_interval: Duration,
    /// How many outcomes wait for the store while it is away.
    pub(crate) spool: SpoolLimits,
    pub(crate) write_timeout: Duration,
    pub(crate) serializer: Serializer,
    pub(crate) extended: bool,
    pub(crate) usage: bool,
    /// TLS though the URL does not say so, and how.
    pub(crate) tls: Option<TlsOptions>,
}

/// What we know of the options of Celery's backends.
#[derive(Debug, PartialEq)]
pub(crate) struct ResultOptions {
    /// Before the keys of Celery's Redis backend.
    pub(crate) key_prefix: Option<String>,
    /// Results of a chord come in the order of its header, and not in that in which they were there.
    pub(crate) chord_ordered: bool,
    /// How Redis is found.
    pub(crate) redis: dial::redis::Options,
}

/// Group `[task]`.
#[derive(Debug)]
pub(crate) struct TaskConfig {
    pub(crate) acks_late: bool,
    pub(crate) acks_on_failure_or_timeout: bool,
    /// `None` is as `acks_on_failure_or_timeout`.
    pub(crate) acks_on_failure: Option<bool>,
    pub(crate) acks_on_timeout: Option<bool>,
    pub(crate) reject_on_worker_lost: bool,
    pub(crate) retry_on_worker_lost: bool,
    pub(crate) track_started: bool,
    pub(crate) ignore_result: bool,
    pub(crate) store_errors_even_if_ignored: bool,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) soft_time_limit: Option<Duration>,
    pub(crate) default_rate_limit: Option<Rate>,
    pub(crate) send_sent_event: bool,
    /// `None` is no limit.
    pub(crate) delivery_limit: Option<u32>,
    pub(crate) default_queue: QueueName,
    pub(crate) create_missing_queues: bool,
    pub(crate) inherit_parent_priority: bool,
    pub(crate) allow_error_cb_on_chord_header: bool,
    /// Those to take tasks from; at least one.
    pub(crate) queues: Vec<QueueName>,
}

/// Group `[worker]`.
#[derive(Debug)]
pub(crate) struct WorkerConfig {
    pub(crate) concurrency: u32,
    /// How far the pool may grow.
    pub(crate) concurrency_max: u32,
    /// The most and the fewest slots; `None` leaves them as they are.
    pub(crate) autoscale: Option<(u32, u32)>,
    /// Zero is no bound.
    pub(crate) prefetch_multiplier: u32,
    /// Zero grows nothing.
    pub(crate) prefetch_max: u32,
    pub(crate) disable_prefetch: bool,
    pub(crate) limited_task_limit: u32,
    /// `None` is no bound.
    pub(crate) eta_task_limit: Option<u32>,
    pub(crate) eta_hold: Duration,
    /// `None` if there is nothing that could count.
    pub(crate) rate_limit_store: Option<SecretUrl>,
    pub(crate) direct: bool,
    pub(crate) unknown_task: Disposition,
    pub(crate) removed_task: Disposition,
    pub(crate) soft_shutdown_timeout: Option<Duration>,
    pub(crate) hostname: NodeName,
    /// `None` keeps nothing.
    pub(crate) state_db: Option<PathBuf>,
    /// `None` serves no metrics.
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) send_task_events: bool,
    /// `None` says nothing.
    pub(crate) heartbeat_interval: Option<Duration>,
    /// `None` answers nobody.
    pub(crate) control_socket: Option<PathBuf>,
    pub(crate) enable_remote_control: bool,
    pub(crate) mingle: bool,
    pub(crate) pool_restarts: bool,
}

impl WorkerConfig {
    /// How many tasks run at a time to begin with.
    pub(crate) fn slots(&self) -> u32 {
        self.autoscale.map_or(self.concurrency, |(_, min)| min)
    }
}

/// Group `[control]`.
#[derive(Debug)]
pub(crate) struct ControlConfig {
    /// What its exchanges are named after.
    pub(crate) exchange: String,
    /// `None` is for ever.
    pub(crate) queue_ttl: Option<Duration>,
    pub(crate) queue_expires: Option<Duration>,
}

/// Of group `[event]`.
#[derive(Debug)]
pub(crate) struct EventQueueConfig {
    pub(crate) prefix: String,
    /// `None` is for ever.
    pub(crate) ttl: Option<Duration>,
    pub(crate) expires: Option<Duration>,
}

/// Group `[otel]`: where traces go, and who they say they are from.
#[derive(Debug)]
pub(crate) struct OtelConfig {
    /// With its path.
    pub(crate) endpoint: SecretUrl,
    /// `key=value` with commas between.
    pub(crate) headers: Option<SecretText>,
    pub(crate) service_name: String,
    pub(crate) resource_attributes: Vec<(String, String)>,
    pub(crate) sampling: Sampling,
}

/// Group `[accept]`.
#[derive(Debug)]
pub(crate) struct AcceptConfig {
    pub(crate) content: Vec<Serializer>,
}

/// Group `[security]`: all that is needed for signatures.
#[derive(Debug, Clone)]
pub(crate) struct SecurityConfig {
    pub(crate) key: PathBuf,
    pub(crate) key_password: Option<SecretText>,
    pub(crate) certificate: PathBuf,
    /// A folder, or a pattern for files in one.
    pub(crate) cert_store: PathBuf,
    pub(crate) digest: Digest,
}

/// Group `[limits]`.
#[derive(Debug)]
pub(crate) struct LimitsConfig {
    pub(crate) memory_bytes: u64,
    pub(crate) time: Duration,
    pub(crate) stack_bytes: u64,
    pub(crate) handles: u32,
    pub(crate) host_calls: u32,
    /// `None` is as many as the worker runs.
    pub(crate) plugin_concurrency: Option<u32>,
    pub(crate) publish: u32,
    pub(crate) events: u32,
    pub(crate) event_bytes: u64,
    pub(crate) keyvalue_value_bytes: u64,
    pub(crate) host_call_bytes: u64,
    /// `None` is no limit.
    pub(crate) cpu_time: Option<Duration>,
    pub(crate) body_bytes: u64,
    pub(crate) result_bytes: u64,
    pub(crate) log_bytes: u64,
    pub(crate) log_line_bytes: u64,
    pub(crate) state_bytes: u64,
    pub(crate) state_interval: Duration,
    pub(crate) component_bytes: u64,
    pub(crate) compile_time: Duration,
    pub(crate) describe_time: Duration,
    pub(crate) sockets: u32,
    pub(crate) http_requests: u32,
    pub(crate) http_header_bytes: u64,
    pub(crate) http_request_bytes: u64,
    pub(crate) http_response_bytes: u64,
    pub(crate) http_timeout: Duration,
}

/// Group `[sandbox]`.
#[derive(Debug)]
pub(crate) struct SandboxConfig {
    /// `None` is the usual place.
    pub(crate) scratch_dir: Option<PathBuf>,
}

/// Group `[plugins]`.
#[derive(Debug)]
pub(crate) struct PluginsConfig {
    pub(crate) dir: PathBuf,
    /// Somebody named the folder, so it should exist.
    pub(crate) dir_is_given: bool,
    pub(crate) watch: bool,
    /// Where compiled code is kept, and the key that seals it.
    pub(crate) cache: Option<(PathBuf, PathBuf)>,
    pub(crate) wasi_0_3: bool,
}

/// Group `[log]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogConfig {
    pub(crate) level: Level,
    pub(crate) format: Format,
}

/// One line of `host config`.
#[derive(Debug, PartialEq)]
pub(crate) struct Row<'a> {
    pub(crate) key: String,
    pub(crate) value: &'a Value,
    pub(crate) origin: &'a Origin,
}

/// Reads file and environment and resolves them together with what the command line said.
pub(crate) fn load(file: Option<&Path>, sets: &[String], flags: Vec<Flag>) -> Result<Config, ConfigErrors> {
    let sources =
        Sources { file: read_file(file)?, environment: environment(), sets: sets.to_vec(), flags, machine: machine() };
    let config = Config::resolve(&sources)?;
    tls::check(&config)?;
    Ok(config)
}

impl Config {
    /// Reads all sources.
    pub(crate) fn resolve(sources: &Sources) -> Result<Self, ConfigErrors> {
        let resolved = resolve::resolve(sources)?;
        let queues = queues::read(&resolved)?;
        let selected = queues::select(&queues, &resolved)?;
        let of = Typed(&resolved);
        Ok(Self {
            broker: BrokerConfig {
                url: read_url(&resolved),
                write_url: Some(write_url(&resolved)).filter(|url| *url != read_url(&resolved)),
                failover_strategy: FailoverStrategy::parse(&of.text("broker.failover_strategy"))
                    .expect("it was checked when it was read"),
                retry: Retry {
                    on_startup: of
                        .optional_bool("broker.connection_retry_on_startup")
                        .unwrap_or_else(|| of.bool("broker.connection_retry")),
                    afterwards: of.bool("broker.connection_retry"),
                    // As in Celery, zero is for ever.
                    most: of.optional_count("broker.connection_max_retries").filter(|most| *most > 0),
                },
                connection_timeout: of.duration("broker.connection_timeout"),
                transport_options: broker_options(&resolved)?,
                consumer_timeout: of.optional_duration("broker.consumer_timeout"),
                native_delayed_delivery_queue_type: of.queue_kind("broker.native_delayed_delivery_queue_type"),
                tls: tls::of_broker(&resolved)?,
            },
            database: database::options(&resolved)?,
            result: ResultConfig {
                backend: of.url("result.backend"),
                options: result_options(&resolved)?,
                expires: of.optional_duration("result.expires"),
                failure_expires: of.optional_duration("result.failure_expires"),
                chord_expires: of.optional_duration("result.chord_expires"),
                chord_join_timeout: of.duration("result.chord_join_timeout"),
                chord_retry_interval: of.duration("result.chord_retry_interval"),
                spool: SpoolLimits {
                    outcomes: of.count("result.spool_limit") as usize,
                    bytes: usize::try_from(of.bytes("result.spool_bytes")).unwrap_or(usize::MAX),
                },
                write_timeout: of.duration("result.write_timeout"),
                serializer: of.serializer("result.serializer"),
                extended: of.bool("result.extended"),
                usage: of.bool("result.usage"),
                tls: tls::of_results(&resolved)?,
            },
            task: TaskConfig {
                acks_late: of.bool("task.acks_late"),
                acks_on_failure_or_timeout: of.bool("task.acks_on_failure_or_timeout"),
                acks_on_failure: of.optional_bool("task.acks_on_failure"),
                acks_on_timeout: of.optional_bool("task.acks_on_timeout"),
                reject_on_worker_lost: of.bool("task.reject_on_worker_lost"),
                retry_on_worker_lost: of.bool("task.retry_on_worker_lost"),
                track_started: of.bool("task.track_started"),
                ignore_result: of.bool("task.ignore_result"),
                store_errors_even_if_ignored: of.bool("task.store_errors_even_if_ignored"),
                time_limit: of.optional_duration("task.time_limit"),
                soft_time_limit: of.optional_duration("task.soft_time_limit"),
                default_rate_limit: of.rate("task.default_rate_limit"),
                send_sent_event: of.bool("task.send_sent_event"),
                delivery_limit: of.optional_count("task.delivery_limit"),
                default_queue: of.queue("task.default_queue"),
                create_missing_queues: of.bool("task.create_missing_queues"),
                inherit_parent_priority: of.bool("task.inherit_parent_priority"),
                allow_error_cb_on_chord_header: of.bool("task.allow_error_cb_on_chord_header"),
                queues: selected,
            },
            worker: WorkerConfig {
                concurrency: of.count("worker.concurrency"),
                concurrency_max: concurrency_max(&resolved)?,
                autoscale: of.autoscale("worker.autoscale"),
                prefetch_multiplier: of.count("worker.prefetch_multiplier"),
                prefetch_max: of.count("worker.prefetch_max"),
                disable_prefetch: of.bool("worker.disable_prefetch"),
                limited_task_limit: of.count("worker.limited_task_limit"),
                eta_task_limit: of.optional_count("worker.eta_task_limit"),
                eta_hold: of.duration("worker.eta_hold"),
                rate_limit_store: of.optional_url("worker.rate_limit_store"),
                direct: of.bool("worker.direct"),
                unknown_task: of.disposition("worker.unknown_task"),
                removed_task: of.disposition("worker.removed_task"),
                soft_shutdown_timeout: of.optional_duration("worker.soft_shutdown_timeout"),
                hostname: of.node("worker.hostname"),
                state_db: of.optional_text("worker.state_db").map(PathBuf::from),
                metrics: of.optional_text("worker.metrics").and_then(|text| text.parse().ok()),
                send_task_events: of.bool("worker.send_task_events"),
                heartbeat_interval: of.optional_duration("worker.heartbeat_interval"),
                control_socket: of.optional_text("worker.control_socket").map(PathBuf::from),
                enable_remote_control: of.bool("worker.enable_remote_control"),
                mingle: of.bool("worker.mingle"),
                pool_restarts: of.bool("worker.pool_restarts"),
            },
            event_exchange: of.queue("event.exchange"),
            otel: otel(&of),
            control: ControlConfig {
                exchange: of.text("control.exchange"),
                queue_ttl: of.optional_duration("control.queue_ttl"),
                queue_expires: of.optional_duration("control.queue_expires"),
            },
            event_queue: EventQueueConfig {
                prefix: of.text("event.queue_prefix"),
                ttl: of.optional_duration("event.queue_ttl"),
                expires: of.optional_duration("event.queue_expires"),
            },
            accept: AcceptConfig { content: of.serializers("accept.content") },
            security: security(&of)?,
            limits: LimitsConfig {
                memory_bytes: of.bytes("limits.memory"),
                time: of.duration("limits.time"),
                stack_bytes: of.bytes("limits.stack"),
                handles: of.count("limits.handles"),
                host_calls: of.count("limits.host_calls"),
                plugin_concurrency: of.optional_count("limits.plugin_concurrency"),
                publish: of.count("limits.publish"),
                events: of.count("limits.events"),
                event_bytes: of.bytes("limits.event_bytes"),
                keyvalue_value_bytes: of.bytes("limits.keyvalue_value"),
                host_call_bytes: of.bytes("limits.host_call_bytes"),
                cpu_time: of.optional_duration("limits.cpu_time"),
                body_bytes: of.bytes("limits.body"),
                result_bytes: of.bytes("limits.result"),
                log_bytes: of.bytes("limits.log"),
                log_line_bytes: of.bytes("limits.log_line"),
                state_bytes: of.bytes("limits.state"),
                state_interval: of.duration("limits.state_interval"),
                component_bytes: of.bytes("limits.component"),
                compile_time: of.duration("limits.compile_time"),
                describe_time: of.duration("limits.describe_time"),
                sockets: of.count("limits.sockets"),
                http_requests: of.count("limits.http_requests"),
                http_header_bytes: of.bytes("limits.http_header"),
                http_request_bytes: of.bytes("limits.http_request_body"),
                http_response_bytes: of.bytes("limits.http_response_body"),
                http_timeout: of.duration("limits.http_timeout"),
            },
            sandbox: SandboxConfig { scratch_dir: of.optional_text("sandbox.scratch_dir").map(PathBuf::from) },
            keyvalue: of.url("keyvalue.url"),
            plugins: PluginsConfig {
                dir: of.text("plugins.dir").into(),
                dir_is_given: *resolved.origin("plugins.dir") != Origin::Default,
                watch: of.bool("plugins.watch"),
                cache: of
                    .optional_text("plugins.cache")
                    .zip(of.optional_text("plugins.cache_key"))
                    .map(|(dir, key)| (PathBuf::from(dir), PathBuf::from(key))),
                wasi_0_3: of.bool("plugins.wasi_0_3"),
            },
            quarantine: of.optional_count("quarantine.violations").map(|violations| BreakerRule {
                violations,
                window: of.duration("quarantine.window"),
                pause: of.duration("quarantine.pause"),
            }),
            log: LogConfig { level: of.level("log.level"), format: of.format("log.format") },
            tasks: resolved.options.iter().map(|(task, of)| (task.clone(), TaskOverrides::new(of))).collect(),
            grants: grants::read(&resolved)?,
            queues,
            resolved,
        })
    }

    /// Every value with its origin, as `host config` shows them.
    pub(crate) fn rows(&self) -> Vec<Row<'_>> {
        let settings = self.resolved.settings().map(|(key, value, origin)| Row { key: key.to_owned(), value, origin });
        let options = self.resolved.options.iter().flat_map(|(task, options)| {
            options.iter().map(move |(name, (value, origin))| Row {
                key: format!("tasks.\"{task}\".{name}"),
                value,
                origin,
            })
        });
        let queues = self.resolved.queue_options.iter().flat_map(|(queue, options)| {
            options.iter().map(move |(name, (value, origin))| Row { key: queues::key(queue, name), value, origin })
        });
        let grants = self.resolved.grant_options.iter().flat_map(|(plugin, options)| {
            options.iter().map(move |(name, (value, origin))| Row { key: grants::key(plugin, name), value, origin })
        });
        settings.chain(options).chain(queues).chain(grants).collect()
    }

    /// How calls of tasks find their way.
    pub(crate) fn router(&self) -> Router {
        Router {
            queues: self.queues.clone(),
            default_queue: self.task.default_queue.clone(),
            creates_missing: self.task.create_missing_queues,
        }
    }

    /// Where the value of a setting came from.
    pub(crate) fn origin(&self, key: &str) -> &Origin {
        self.resolved.origin(key)
    }

    /// Where the URL of the broker came from by which tasks come.
    pub(crate) fn broker_origin(&self) -> &Origin {
        match self.resolved.value("broker.read_url") {
            Value::None => self.origin("broker.url"),
            _ => self.origin("broker.read_url"),
        }
    }
}

/// The keys, if there is anything to sign or to verify; then all of them.
fn security(of: &Typed<'_>) -> Result<Option<SecurityConfig>, ConfigErrors> {
    let signs_messages = of.serializers("accept.content").contains(&Serializer::Auth);
    let wants_it = match (signs_messages, of.serializer("result.serializer")) {
        (true, _) => "accept.content",
        (false, Serializer::Auth) => "result.serializer",
        (false, _) => return Ok(None),
    };
    let path = |key: &str| {
        of.optional_text(key).map(PathBuf::from).ok_or_else(|| {
            let problem = format!("\"auth\" needs `{key}` as well");
            ConfigErrors::new(vec![ConfigError::value(of.0.origin(wants_it), wants_it, &problem)])
        })
    };
    Ok(Some(SecurityConfig {
        key: path("security.key")?,
        key_password: of.secret("security.key_password"),
        certificate: path("security.certificate")?,
        cert_store: path("security.cert_store")?,
        digest: of.digest("security.digest"),
    }))
}

/// The values of the table under the types that the table says they have.
struct Typed<'a>(&'a Resolved);

macro_rules! typed {
    ($(fn $name:ident -> $type:ty { $($pattern:pat => $value:expr),+ })+) => {
        impl Typed<'_> {
            $(fn $name(&self, key: &str) -> $type {
                match self.0.value(key) {
                    $($pattern => $value,)+
                    other => unreachable!("the table of settings gives `{key}` another type: {other:?}"),
                }
            })+
        }
    };
}

typed! {
    fn bool -> bool { Value::Bool(value) => *value }
    fn optional_bool -> Option<bool> { Value::Bool(value) => Some(*value), Value::None => None }
    fn count -> u32 { Value::Count(value) => *value }
    fn optional_count -> Option<u32> { Value::Count(value) => Some(*value), Value::None => None }
    fn autoscale -> Option<(u32, u32)> { Value::Autoscale { max, min } => Some((*max, *min)), Value::None => None }
    fn duration -> Duration { Value::Duration(value) => *value }
    fn optional_duration -> Option<Duration> { Value::Duration(value) => Some(*value), Value::None => None }
    fn factor -> f64 { Value::Factor(value) => *value }
    fn bytes -> u64 { Value::Bytes(value) => *value }
    fn rate -> Option<Rate> { Value::Rate(rate, _) => Some(*rate), Value::None => None }
    fn url -> SecretUrl { Value::Url(url) => url.clone() }
    fn optional_url -> Option<SecretUrl> { Value::Url(url) => Some(url.clone()), Value::None => None }
    fn queue -> QueueName { Value::Queue(queue) => queue.clone() }
    fn disposition -> Disposition { Value::Disposition(disposition) => *disposition }
    fn queue_kind -> QueueKind { Value::QueueKind(kind) => *kind }
    fn serializer -> Serializer { Value::Serializer(serializer) => *serializer }
    fn serializers -> Vec<Serializer> { Value::Serializers(serializers) => serializers.clone() }
    fn text -> String { Value::Text(text) => text.clone() }
    fn pairs -> Vec<(String, String)> {
        Value::Texts(pairs) =>
            pairs.iter().filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        Value::None => Vec::new()
    }
    fn optional_text -> Option<String> { Value::Text(text) => Some(text.clone()), Value::None => None }
    fn secret -> Option<SecretText> { Value::Secret(secret) => Some(secret.clone()), Value::None => None }
    fn digest -> Digest { Value::Digest(digest) => *digest }
    fn node -> NodeName { Value::Text(text) => NodeName::parse(text).expect("the name was parsed when it was resolved") }
    fn level -> Level { Value::Level(level) => *level }
    fn format -> Format { Value::Format(format) => *format }
}

/// None, if traces go nowhere.
fn otel(of: &Typed<'_>) -> Option<OtelConfig> {
    let endpoint = of.optional_url("otel.endpoint").map(|url| otel::traces_below(&url));
    let headers = of.secret("otel.headers");
    Some(OtelConfig {
        endpoint: of.optional_url("otel.traces_endpoint").or(endpoint)?,
        headers,
        service_name: of.text("otel.service_name"),
        resource_attributes: of.pairs("otel.resource_attributes"),
        sampling: Sampling::parse(&of.text("otel.traces_sampler"), of.factor("otel.traces_sampler_arg"))
            .expect("both were checked when they were read"),
    })
}

/// No less than what runs without the pool being grown.
fn concurrency_max(resolved: &Resolved) -> Result<u32, ConfigErrors> {
    const KEY: &str = "worker.concurrency_max";
    let of = Typed(resolved);
    let (needed, by) = match of.autoscale("worker.autoscale") {
        Some((max, _)) => (max, "worker.autoscale"),
        None => (of.count("worker.concurrency"), "worker.concurrency"),
    };
    match of.count(KEY) {
        max if max >= needed => Ok(max),
        max => {
            let problem = format!("expected {needed} or more, since {by} wants so many; found {max}");
            Err(ConfigErrors::new(vec![ConfigError::value(resolved.origin(KEY), KEY, &problem)]))
        }
    }
}

/// Where tasks come from (celery/app/utils.py `Settings.broker_read_url`).
fn read_url(resolved: &Resolved) -> SecretUrl {
    let of = Typed(resolved);
    of.optional_url("broker.read_url").unwrap_or_else(|| of.url("broker.url"))
}

/// Where messages are published (`broker_write_url`).
fn write_url(resolved: &Resolved) -> SecretUrl {
    let of = Typed(resolved);
    of.optional_url("broker.write_url").unwrap_or_else(|| of.url("broker.url"))
}

/// The options of the broker's transport, if it has such.
fn broker_options(resolved: &Resolved) -> Result<Vec<(String, String)>, ConfigErrors> {
    const KEY: &str = "broker.transport_options";
    let options = Typed(resolved).pairs(KEY);
    for url in [read_url(resolved), write_url(resolved)] {
        if let Err(error) = broker::check_transport_options(url.expose(), &options) {
            return Err(ConfigErrors::new(vec![ConfigError::value(resolved.origin(KEY), KEY, &error.to_string())]));
        }
    }
    Ok(options)
}

fn result_options(resolved: &Resolved) -> Result<ResultOptions, ConfigErrors> {
    const KEY: &str = "result.backend_transport_options";
    let mut redis = dial::redis::Options::default();
    // Where nobody named a backend it is the broker, and found as that is.
    let (backend, broker) = (Typed(resolved).url("result.backend"), Typed(resolved).url("broker.url"));
    if *resolved.origin("result.backend") == Origin::Default && backend == broker {
        redis = reach::of_redis(&Typed(resolved).pairs("broker.transport_options"));
    }
    let mut options = ResultOptions { key_prefix: None, chord_ordered: true, redis };
    let wrong = |problem: &str| ConfigErrors::new(vec![ConfigError::value(resolved.origin(KEY), KEY, problem)]);
    for (name, value) in Typed(resolved).pairs(KEY) {
        let problem = match (&*name, &*value) {
            ("global_keyprefix", _) => {
                options.key_prefix = Some(value);
                continue;
            }
            ("result_chord_ordered", "true" | "false") => {
                options.chord_ordered = value == "true";
                continue;
            }
            ("result_chord_ordered", _) => format!("expected true or false for result_chord_ordered, found `{value}`"),
            _ => match options.redis.set(&name, &value) {
                Ok(true) => continue,
                Ok(false) => {
                    let known = dial::redis::OPTIONS.join(", ");
                    format!("there is no option `{name}`; there are: global_keyprefix, result_chord_ordered, {known}")
                }
                Err(problem) => problem,
            },
        };
        return Err(wrong(&problem));
    }
    store::check_redis_options(backend.expose(), &options.redis).map_err(|error| wrong(&error.to_string()))?;
    Ok(options)
}

fn read_file(named: Option<&Path>) -> Result<Option<(String, String)>, ConfigErrors> {
    let path = named.unwrap_or(Path::new(FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.display().to_string(), text))),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let error = ConfigError::elsewhere(path.display().to_string(), error.to_string());
            Err(ConfigErrors::new(vec![error]))
        }
    }
}

/// Variables that are text. One that is not cannot be one of ours: all of them are names and URLs.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn machine() -> Machine {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
    let host_name = gethostname::gethostname().to_string_lossy().into_owned();
    // The XDG base directory specification, which all our users' systems can follow.
    let folder = |variable: &str, at_home: &str| {
        let given = std::env::var(variable).ok().filter(|path| Path::new(path).is_absolute());
        given.or_else(|| std::env::home_dir().map(|home| home.join(at_home).to_string_lossy().into_owned()))
    };
    let (cache_dir, state_dir) = (folder("XDG_CACHE_HOME", ".cache"), folder("XDG_STATE_HOME", ".local/state"));
    Machine { host_name, cpus, cache_dir, state_dir }
}
