//! `host config`: every setting in effect, and where its value came from.

use std::process::ExitCode;

use serde_json::{Map, Value as Json, json};

use crate::args::ConfigArgs;
use crate::config::{self, Row};
use crate::exit::Failure;
use crate::logging::print;

/// Prints a table, or one JSON object.
pub(crate) fn run(args: &ConfigArgs) -> Result<ExitCode, Failure> {
    let settings = &args.worker.settings;
    let config = config::load(settings.config.as_deref(), &settings.sets, args.worker.flags())?;
    let rows = config.rows();
    print(&if args.json { as_json(&rows) } else { as_table(&rows) })?;
    Ok(ExitCode::SUCCESS)
}

fn as_table(rows: &[Row<'_>]) -> String {
    let cells: Vec<[String; 3]> = std::iter::once(["SETTING", "VALUE", "FROM"].map(str::to_owned))
        .chain(rows.iter().map(|row| [row.key.clone(), row.value.to_string(), row.origin.to_string()]))
        .collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (keys, values) = (width(0), width(1));
    cells.iter().map(|[key, value, origin]| format!("{key:keys$}  {value:values$}  {origin}\n")).collect()
}

fn as_json(rows: &[Row<'_>]) -> String {
    let object: Map<String, Json> = rows
        .iter()
        .map(|row| (row.key.clone(), json!({"value": row.value.to_json(), "from": row.origin.to_string()})))
        .collect();
    format!("{:#}\n", Json::Object(object))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::config::{Config, Flag, Machine, Sources};

    fn config() -> Config {
        let sources = Sources {
            file: Some(("host.toml".into(), "[tasks.\"images.resize\"]\nrate_limit = \"5/s\"\n".into())),
            environment: vec![("CELERY_BROKER_URL".into(), "amqp://me:secret@box//".into())],
            sets: vec!["task_acks_late=false".into()],
            flags: vec![Flag { name: "--queues", key: "task.queues", text: "a,b".into() }],
            machine: Machine { host_name: "box.example.org".into(), cpus: 8, ..Machine::default() },
        };
        Config::resolve(&sources).unwrap()
    }

    #[test]
    fn the_table_shows_every_setting_with_its_origin_and_no_secret() {
        expect![[r#"
            SETTING                                    VALUE                                   FROM
            broker.url                                 amqp://me:**@box//                      CELERY_BROKER_URL
            broker.read_url                            none                                    default
            broker.write_url                           none                                    default
            broker.failover_strategy                   round-robin                             default
            broker.connection_retry                    true                                    default
            broker.connection_retry_on_startup         none                                    default
            broker.connection_max_retries              none                                    default
            broker.consumer_timeout                    30m                                     default
            broker.connection_timeout                  4s                                      default
            broker.transport_options                   none                                    default
            broker.native_delayed_delivery_queue_type  quorum                                  default
            broker.use_ssl                             none                                    default
            broker.ssl_ca_certs                        none                                    default
            broker.ssl_certfile                        none                                    default
            broker.ssl_keyfile                         none                                    default
            broker.ssl_cert_reqs                       required                                default
            broker.ssl_check_hostname                  true                                    default
            result.backend                             rpc://                                  default
            result.backend_transport_options           none                                    default
            result.use_ssl                             none                                    default
            result.ssl_ca_certs                        none                                    default
            result.ssl_certfile                        none                                    default
            result.ssl_keyfile                         none                                    default
            result.ssl_cert_reqs                       required                                default
            result.ssl_check_hostname                  true                                    default
            result.expires                             1d                                      default
            result.failure_expires                     none                                    default
            result.chord_expires                       none                                    default
            result.chord_join_timeout                  3s                                      default
            result.chord_retry_interval                1s                                      default
            result.spool_limit                         1000                                    default
            result.spool_bytes                         64MiB                                   default
            result.write_timeout                       30s                                     default
            result.serializer                          json                                    default
            result.extended                            false                                   default
            result.usage                               false                                   default
            database.engine_options                    none                                    default
            database.table_names                       none                                    default
            database.table_schemas                     none                                    default
            database.create_tables_at_setup            true                                    default
            database.short_lived_sessions              false                                   default
            task.acks_late                             false                                   --set task_acks_late
            task.acks_on_failure_or_timeout            true                                    default
            task.acks_on_failure                       none                                    default
            task.acks_on_timeout                       none                                    default
            task.reject_on_worker_lost                 false                                   default
            task.retry_on_worker_lost                  false                                   default
            task.track_started                         false                                   default
            task.ignore_result                         false                                   default
            task.store_errors_even_if_ignored          false                                   default
            task.send_sent_event                       false                                   default
            task.time_limit                            none                                    default
            task.soft_time_limit                       none                                    default
            task.default_rate_limit                    none                                    default
            task.delivery_limit                        20                                      default
            task.default_queue                         celery                                  default
            task.queues                                a,b                                     --queues
            task.exclude_queues                        none                                    default
            task.create_missing_queues                 true                                    default
            task.inherit_parent_priority               false                                   default
            task.allow_error_cb_on_chord_header        false                                   default
            task.default_queue_type                    classic                                 default
            task.queue_max_priority                    none                                    default
            worker.concurrency                         8                                       default
            worker.autoscale                           none                                    default
            worker.concurrency_max                     64                                      default
            worker.prefetch_multiplier                 4                                       default
            worker.prefetch_max                        256                                     default
            worker.disable_prefetch                    false                                   default
            worker.limited_task_limit                  10000                                   default
            worker.eta_task_limit                      none                                    default
            worker.eta_hold                            1m                                      default
            worker.rate_limit_store                    none                                    default
            worker.direct                              false                                   default
            worker.unknown_task                        reject                                  default
            worker.removed_task                        park                                    default
            worker.soft_shutdown_timeout               none                                    default
            worker.hostname                            taskhost@box.example.org                default
            worker.state_db                            taskhost@box.example.org.state.db       default
            worker.control_socket                      taskhost@box.example.org.state.db.sock  default
            worker.metrics                             none                                    default
            worker.send_task_events                    false                                   default
            worker.heartbeat_interval                  2s                                      default
            worker.enable_remote_control               true                                    default
            worker.mingle                              true                                    default
            worker.pool_restarts                       true                                    default
            event.exchange                             celeryev                                default
            event.queue_prefix                         celeryev                                default
            event.queue_ttl                            5s                                      default
            event.queue_expires                        1m                                      default
            control.exchange                           celery                                  default
            control.queue_ttl                          5m                                      default
            control.queue_expires                      10s                                     default
            otel.endpoint                              none                                    default
            otel.traces_endpoint                       none                                    default
            otel.headers                               none                                    default
            otel.service_name                          taskhost                                default
            otel.resource_attributes                   none                                    default
            otel.traces_sampler                        parentbased_always_on                   default
            otel.traces_sampler_arg                    1                                       default
            accept.content                             json                                    default
            security.key                               none                                    default
            security.key_password                      none                                    default
            security.certificate                       none                                    default
            security.cert_store                        none                                    default
            security.digest                            sha256                                  default
            limits.memory                              128MiB                                  default
            limits.time                                30m                                     default
            limits.stack                               1MiB                                    default
            limits.handles                             1000                                    default
            limits.host_calls                          1000000                                 default
            limits.plugin_concurrency                  none                                    default
            limits.publish                             1000                                    default
            limits.events                              1000                                    default
            limits.event_bytes                         64KiB                                   default
            limits.keyvalue_value                      1MiB                                    default
            limits.host_call_bytes                     32MiB                                   default
            limits.cpu_time                            none                                    default
            limits.body                                64MiB                                   default
            limits.result                              16MiB                                   default
            limits.log                                 64KiB                                   default
            limits.log_line                            8KiB                                    default
            limits.state                               64KiB                                   default
            limits.state_interval                      0.1s                                    default
            limits.component                           64MiB                                   default
            limits.compile_time                        1m                                      default
            limits.describe_time                       5s                                      default
            limits.sockets                             64                                      default
            limits.http_requests                       16                                      default
            limits.http_header                         32KiB                                   default
            limits.http_request_body                   16MiB                                   default
            limits.http_response_body                  16MiB                                   default
            limits.http_timeout                        1m                                      default
            sandbox.scratch_dir                        none                                    default
            keyvalue.url                               sqlite:///host-keyvalue.db              default
            plugins.dir                                plugins                                 default
            plugins.watch                              true                                    default
            plugins.cache                              none                                    default
            plugins.cache_key                          none                                    default
            plugins.wasi_0_3                           false                                   default
            quarantine.violations                      10                                      default
            quarantine.window                          1m                                      default
            quarantine.pause                           1m                                      default
            log.level                                  info                                    default
            log.format                                 text                                    default
            tasks."images.resize".rate_limit           5/s                                     host.toml:2
        "#]]
        .assert_eq(&as_table(&config().rows()));
    }

    #[test]
    fn json_has_numbers_where_text_has_units() {
        let json: Json = serde_json::from_str(&as_json(&config().rows())).unwrap();
        assert_eq!(json["limits.memory"], json!({"value": 134_217_728, "from": "default"}));
        assert_eq!(json["limits.time"]["value"], json!(1800.0));
        assert_eq!(json["task.queues"], json!({"value": ["a", "b"], "from": "--queues"}));
        assert_eq!(json["task.time_limit"]["value"], Json::Null);
        assert_eq!(json["broker.url"], json!({"value": "amqp://me:**@box//", "from": "CELERY_BROKER_URL"}));
    }
}
