//! Makes the plain typed data of what was resolved, and checks what concerns several settings at once.

use std::path::PathBuf;

use broker::FailoverStrategy;
use taskhost_core::breaker::BreakerRule;
use taskhost_core::dispatcher::SpoolLimits;
use taskhost_core::protocol::codec::Serializer;
use taskhost_core::trace::Sampling;
use worker::Retry;

use super::error::{ConfigError, ConfigErrors};
use super::origin::Origin;
use super::overrides::TaskOverrides;
use super::resolve::Resolved;
use super::secret::SecretUrl;
use super::typed::Typed;
use super::{
    AcceptConfig, BrokerConfig, Config, ControlConfig, EventQueueConfig, LimitsConfig, LogConfig, OtelConfig,
    PluginsConfig, ResultConfig, ResultOptions, SandboxConfig, SecurityConfig, TaskConfig, WorkerConfig, database,
    grants, queues, tls,
};
use crate::otel;
use crate::reach;

/// All of it. The error names the settings that do not go together.
pub(super) fn config(resolved: Resolved) -> Result<Config, ConfigErrors> {
    let queues = queues::read(&resolved)?;
    let selected = queues::select(&queues, &resolved)?;
    let of = Typed(&resolved);
    Ok(Config {
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
pub(super) fn write_url(resolved: &Resolved) -> SecretUrl {
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
