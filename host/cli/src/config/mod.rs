//! The configuration: plain typed data, complete and correct before anything connects.
//!
//! What it is resolved from comes from [`gather`], which value wins is decided in [`resolve`], and [`build`] makes these types
//! of it.

mod assignment;
mod build;
mod database;
mod error;
mod file;
mod gather;
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
mod typed;
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

#[cfg(test)]
pub(crate) use error::ConfigError;
pub(crate) use error::{ConfigErrors, nearest};
pub(crate) use kind::parse_duration;
pub(crate) use origin::Origin;
pub(crate) use overrides::TaskOverrides;
#[cfg(test)]
pub(crate) use resolve::Machine;
pub(crate) use resolve::{Flag, Sources};
pub(crate) use secret::{SecretText, SecretUrl};
pub(crate) use setting::help;
pub(crate) use value::{Format, Level, Value, show_duration, shown_option};

use resolve::Resolved;

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
    let sources = Sources {
        file: gather::read_file(file)?,
        environment: gather::environment(),
        sets: sets.to_vec(),
        flags,
        machine: gather::machine(),
    };
    let config = Config::resolve(&sources)?;
    tls::check(&config)?;
    Ok(config)
}

impl Config {
    /// Reads all sources.
    pub(crate) fn resolve(sources: &Sources) -> Result<Self, ConfigErrors> {
        build::config(resolve::resolve(sources)?)
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
