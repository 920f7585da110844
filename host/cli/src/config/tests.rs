//! Which value wins, and what every mistake is answered with.

use dial::tls::{TlsOptions, Verify};
use expect_test::{Expect, expect};
use taskhost_core::{Queue, TaskOptions};

use super::kind::Raw;
use super::setting::{Fallback, SETTINGS, TASK_OPTIONS};
use super::*;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn machine() -> Machine {
    Machine { host_name: "box.example.org".to_owned(), cpus: 8, ..Machine::default() }
}

fn file(text: &str) -> Sources {
    Sources { file: Some(("host.toml".to_owned(), text.to_owned())), machine: machine(), ..Sources::default() }
}

fn set(text: &str) -> Sources {
    Sources { sets: vec![text.to_owned()], machine: machine(), ..Sources::default() }
}

fn environment(variables: &[(&str, &str)]) -> Sources {
    Sources { environment: pairs(variables), machine: machine(), ..Sources::default() }
}

fn flag(name: &'static str, key: &'static str, text: &str) -> Sources {
    Sources { flags: vec![Flag { name, key, text: text.to_owned() }], machine: machine(), ..Sources::default() }
}

/// `value (origin)` of a setting, or all mistakes.
fn shown(sources: &Sources, key: &str) -> String {
    match Config::resolve(sources) {
        Ok(config) => {
            let row = config
                .rows()
                .into_iter()
                .find(|row| row.key == key)
                .map(|row| (row.value.to_string(), row.origin.to_string()));
            row.map_or("not there".to_owned(), |(value, origin)| format!("{value} ({origin})"))
        }
        Err(errors) => errors.to_string(),
    }
}

#[track_caller]
fn check(sources: Sources, key: &str, expected: &str) {
    assert_eq!(shown(&sources, key), expected);
}

#[track_caller]
fn check_errors(sources: Sources, expected: Expect) {
    expected.assert_eq(&Config::resolve(&sources).expect_err("this is a mistake").to_string());
}

#[test]
fn all_defaults_can_be_read() {
    for setting in SETTINGS {
        if let Fallback::Text(text) = setting.default {
            assert!(setting.kind.read(&Raw::Loose(text.to_owned())).is_ok(), "{}", setting.key);
        }
    }
    Config::resolve(&file("")).expect("defaults are right");
}

#[test]
fn flag_beats_set_beats_environment_beats_file_beats_default() {
    let key = "worker.concurrency";
    let mut sources = Sources { machine: machine(), ..Sources::default() };
    check_row(&sources, key, "8 (default)");
    sources.file = Some(("host.toml".to_owned(), "[worker]\nconcurrency = 1".to_owned()));
    check_row(&sources, key, "1 (host.toml:2)");
    sources.environment = pairs(&[("HOST_WORKER_CONCURRENCY", "2")]);
    check_row(&sources, key, "2 (HOST_WORKER_CONCURRENCY)");
    sources.sets = vec!["worker_concurrency=3".to_owned()];
    check_row(&sources, key, "3 (--set worker_concurrency)");
    sources.flags = vec![Flag { name: "--concurrency", key, text: "4".to_owned() }];
    check_row(&sources, key, "4 (--concurrency)");
}

#[track_caller]
fn check_row(sources: &Sources, key: &str, expected: &str) {
    assert_eq!(shown(sources, key), expected);
}

#[test]
fn the_variables_of_celery_are_read_and_ours_beat_them() {
    let celery = ("CELERY_BROKER_URL", "amqp://one//");
    check(environment(&[celery]), "broker.url", "amqp://one// (CELERY_BROKER_URL)");
    check(environment(&[("HOST_BROKER_URL", "amqp://two//"), celery]), "broker.url", "amqp://two// (HOST_BROKER_URL)");
    check(environment(&[("CELERY_BROKER_URL", "")]), "broker.url", "sqlite:///host.db (default)");
    let redis = [("CELERY_RESULT_BACKEND", "redis://:secret@box/1")];
    check(environment(&redis), "result.backend", "redis://:**@box/1 (CELERY_RESULT_BACKEND)");
}

#[test]
fn set_takes_grouped_and_flat_names_and_options_of_tasks() {
    check(set("task_acks_late=false"), "task.acks_late", "false (--set task_acks_late)");
    check(set("task.acks_late=no"), "task.acks_late", "false (--set task.acks_late)");
    check(set("limits.memory = 64 MiB"), "limits.memory", "64MiB (--set limits.memory)");
    let key = "tasks.\"images.resize\".rate_limit";
    check(set("tasks.images.resize.rate_limit=5/s"), key, "5/s (--set tasks.images.resize.rate_limit)");
}

#[test]
fn options_of_the_result_backend_are_celerys() {
    let options = |text: &str| {
        let text = format!("[result]\nbackend_transport_options = {text}\n");
        Config::resolve(&file(&text)).map(|config| config.result.options)
    };
    let read = options(r#"["result_chord_ordered=false", "global_keyprefix=app:"]"#).expect("both are known");
    assert_eq!((read.key_prefix.as_deref(), read.chord_ordered), (Some("app:"), false));
    let read = options(r#"["result_chord_ordered=true"]"#).expect("it is known");
    assert_eq!((read.key_prefix, read.chord_ordered), (None, true));
    let refused = |text: &str| options(text).expect_err("this is a mistake").to_string();
    let place = "host.toml:2:29: result.backend_transport_options:";
    assert_eq!(
        refused(r#"["result_chord_ordered=perhaps"]"#),
        format!("{place} expected true or false for result_chord_ordered, found `perhaps`")
    );
    assert_eq!(
        refused(r#"["master=x"]"#),
        format!(
            "{place} there is no option `master`; there are: global_keyprefix, result_chord_ordered, master_name, \
             min_other_sentinels, sentinel_kwargs"
        )
    );
}

#[test]
fn sentinels_are_named_for_broker_and_results() {
    let config = |text: &str| Config::resolve(&file(text)).map_err(|error| error.to_string());
    let broker = "broker.url = \"sentinel://a;sentinel://b\"\n";
    let named = "broker.transport_options = [\"master_name=m\", 'sentinel_kwargs={\"password\": \"secret\"}']\n";
    // The backend is the broker.
    let read = config(&format!("{broker}{named}")).expect("they are named");
    assert_eq!(read.result.options.redis.master_name.as_deref(), Some("m"));
    let reached = crate::reach::Reach::new(&read).options("sentinel://a;sentinel://b").redis;
    assert_eq!((reached.master_name.as_deref(), reached.sentinel.password.as_deref()), (Some("m"), Some("secret")));
    let rows = read.rows().iter().map(|row| row.value.to_string()).collect::<Vec<_>>().join("\n");
    assert!(!rows.contains("secret") && rows.contains("master_name=m,sentinel_kwargs=**"), "{rows}");
    let needed = "Sentinels know servers by name: set the transport option master_name";
    assert_eq!(
        config(broker).unwrap_err(),
        format!("default: broker.transport_options: broker URL `sentinel://a;sentinel://b`: {needed}")
    );
    let other = "result.backend = \"sentinel://c/1\"\n";
    assert_eq!(
        config(&format!("{broker}{named}{other}")).unwrap_err(),
        format!("default: result.backend_transport_options: result backend URL `sentinel://c/1`: {needed}")
    );
    let named_too = "result.backend_transport_options = [\"master_name=n\"]";
    let read = config(&format!("{broker}{named}{other}{named_too}")).expect("both are named");
    assert_eq!(read.result.options.redis.master_name.as_deref(), Some("n"));
}

#[test]
fn options_of_the_broker_may_be_a_table_and_their_secrets_are_not_shown() {
    let text = "[broker]\nurl = \"sqs://\"\n[broker.transport_options]\nregion = \"eu-west-1\"\nvisibility_timeout = 60\n\
                is_secure = true\n[broker.transport_options.predefined_queues.orders]\n\
                url = \"https://sqs.eu-west-1.amazonaws.com/1/orders\"\naccess_key_id = \"AKIA\"\nsecret_access_key = \"hush\"\n";
    let options = Config::resolve(&file(text)).expect("all are known").broker.transport_options;
    let option = |name: &str| options.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!((option("region"), option("visibility_timeout")), (Some("eu-west-1"), Some("60")));
    assert!(option("predefined_queues").is_some_and(|queues| queues.contains("hush")));
    let shown = shown(&file(text), "broker.transport_options");
    assert!(shown.contains("region=eu-west-1") && shown.contains("orders") && !shown.contains("hush"), "{shown}");
    check_errors(
        file("[broker]\nurl = \"sqs://\"\ntransport_options = { supports_fanout = true }\n"),
        expect![[
            "host.toml:3:21: broker.transport_options: broker URL `sqs://`: option `supports_fanout`: broadcasts by SNS are not in this version: over SQS there are neither remote control nor events"
        ]],
    );
}

#[test]
fn a_database_has_celerys_settings() {
    let read = |text: &str| Config::resolve(&file(&format!("[database]\n{text}\n"))).map(|config| config.database);
    let text = "engine_options = [\"pool_size=2\", \"pool_recycle=-1\"]\ntable_names = [\"task=results\"]\n\
                table_schemas = [\"task=app\", \"group=app\"]\ncreate_tables_at_setup = false\nshort_lived_sessions = true";
    let options = read(text).expect("all are known");
    assert_eq!((options.pool.size, options.pool.overflow, options.pool.recycle), (2, 10, None));
    assert_eq!((options.names.task.as_deref(), options.names.group), (Some("results"), None));
    assert_eq!(
        (options.names.task_schema.as_deref(), options.names.group_schema.as_deref()),
        (Some("app"), Some("app"))
    );
    assert_eq!((options.create_at_setup, options.pool.short_lived), (false, true));
    assert_eq!(read("").expect("nothing is said"), store::DatabaseOptions::default());
    let refused = |text: &str| read(text).expect_err("this is a mistake").to_string();
    assert_eq!(
        refused(r#"engine_options = ["echo=true"]"#),
        "host.toml:2:18: database.engine_options: there is no option `echo`; there are: pool_size, max_overflow, \
         pool_timeout, pool_recycle"
    );
    assert_eq!(
        refused(r#"table_names = ["tasks=x"]"#),
        "host.toml:2:15: database.table_names: there is no table `tasks`; there are: task, group"
    );
    check(
        set("database_short_lived_sessions=true"),
        "database.short_lived_sessions",
        "true (--set database_short_lived_sessions)",
    );
}

#[test]
fn content_is_accepted_by_name_or_mime_type_and_json_always() {
    check(set("accept_content=json,application/x-yaml"), "accept.content", "json,yaml (--set accept_content)");
    check(file("[accept]\ncontent = [\"msgpack\", \"json\"]\n"), "accept.content", "msgpack,json (host.toml:2)");
    check_errors(
        file("[accept]\ncontent = [\"yaml\"]\n"),
        expect![[
            r#"host.toml:2:11: accept.content: "json" must be among them, since this host itself publishes it, or "auth" alone"#
        ]],
    );
    check_errors(
        file("[accept]\ncontent = [\"json\", \"pickle\"]\n"),
        expect![
            "host.toml:2:11: accept.content: pickle runs code while it is read and is never accepted: set `task_serializer = 'json'` in the clients"
        ],
    );
    check_errors(
        file("[accept]\ncontent = [\"auth\", \"yaml\"]\n"),
        expect![[
            r#"host.toml:2:11: accept.content: "json" must be among them, since this host itself publishes it, or "auth" alone"#
        ]],
    );
}

#[test]
fn what_is_signed_needs_all_keys() {
    let keys = "[security]\nkey = \"k.pem\"\ncertificate = \"c.pem\"\n";
    check_errors(
        file(&format!("{keys}[accept]\ncontent = [\"auth\"]\n")),
        expect![[r#"host.toml:5:11: accept.content: "auth" needs `security.cert_store` as well"#]],
    );
    check_errors(
        set("result_serializer=auth"),
        expect![[r#"--set result_serializer: "auth" needs `security.key` as well"#]],
    );
    let all = format!(
        "{keys}cert_store = \"certs\"\nkey_password = \"secret\"\ndigest = \"SHA512\"\n[accept]\ncontent = [\"auth\"]\n"
    );
    let config = Config::resolve(&file(&all)).unwrap();
    let security = config.security.as_ref().unwrap();
    assert_eq!((security.digest.as_str(), security.key.to_str()), ("sha512", Some("k.pem")));
    assert!(!format!("{config:?}").contains("secret\""), "a password is never shown");
    let none = Config::resolve(&file(keys)).unwrap();
    assert!(none.security.is_none(), "nobody asked for signatures");
}

#[test]
fn results_are_kept_beside_the_messages_or_sent_back() {
    check(file(""), "result.backend", "sqlite:///host.db (default)");
    check(set("broker_url=sqla+sqlite:////var/x.db"), "result.backend", "sqlite:////var/x.db (default)");
    let database = "db+postgresql://me:**@box/d (default)";
    check(set("broker_url=sqla+postgresql://me:secret@box/d"), "result.backend", database);
    check(set("broker_url=amqp://box//"), "result.backend", "rpc:// (default)");
    check(set("broker_url=redis://:secret@box/1"), "result.backend", "redis://:**@box/1 (default)");
}

#[test]
fn values_are_read_in_the_ways_people_write_them() {
    let text = |text: &str| Raw::Text(text.to_owned());
    let loose = |text: &str| Raw::Loose(text.to_owned());
    let read = |kind: kind::Kind, raw: Raw| kind.read(&raw).map_or("-".to_owned(), |value| value.to_string());
    use kind::Kind::*;
    for (kind, raw, expected) in [
        (Duration, Raw::Int(90), "90s"),
        (Duration, Raw::Float(0.25), "0.25s"),
        (Duration, text("5m"), "5m"),
        (Duration, loose("1.5h"), "90m"),
        (Duration, text("-1s"), "-"),
        (Duration, text("1w"), "-"),
        (Duration, text("1e400"), "-"),
        (Duration, Raw::Int(-1), "-"),
        (PositiveDuration, Raw::Int(0), "-"),
        (OptionalDuration, Raw::Int(0), "none"),
        (OptionalDuration, text("none"), "none"),
        (Bytes, text("128MiB"), "128MiB"),
        (Bytes, text("1 GiB"), "1GiB"),
        (Bytes, text("10MB"), "10000000"),
        (Bytes, Raw::Int(4096), "4KiB"),
        (Bytes, text("99999999999GiB"), "-"),
        (Bool, Raw::Bool(true), "true"),
        (Bool, text("true"), "-"),
        (Bool, loose("On"), "true"),
        (Positive, Raw::Int(0), "-"),
        (OptionalCount, text("none"), "none"),
        (Count, text("4"), "-"),
        (Count, Raw::Int(5_000_000_000), "-"),
        (Factor, Raw::Bool(true), "1"),
        (Factor, loose("0.5"), "0.5"),
        (Rate, text("100/m"), "100/m"),
        (Rate, Raw::Int(3), "3"),
        (Rate, text("0"), "none"),
        (Queues, loose("a, b"), "a,b"),
        (Queues, Raw::List(vec![text("a"), text("b")]), "a,b"),
        (Queues, Raw::List(vec![]), "-"),
        (Queues, loose(","), "-"),
        (Level, loose("WARN"), "warning"),
        (Format, text("xml"), "-"),
    ] {
        assert_eq!(read(kind, raw.clone()), expected, "{kind:?} {raw:?}");
    }
}

#[test]
fn every_mistake_in_a_file_is_named_with_its_place() {
    check_errors(
        file(
            r#"
task_acks_late = true
speed = 3

[task]
acks_lat = true
track_started = "yes"
default_queue = ""
queues = [1]

[limit]
memory = 1

[limits]
memory = "lots"
time = 0

[worker]
concurrency = 0
hostname = "me@%x"

[tasks."images.resize"]
max_retires = 3
rate_limit = "fast"

[tasks]
resize = true

[log]
level = 2026-11-22
format = { a = 1 }
"#,
        ),
        expect![[r#"
            host.toml:2:1: unknown key `task_acks_late`; write `acks_late` under [task]
            host.toml:3:1: unknown key `speed`
            host.toml:6:1: unknown key `task.acks_lat`; did you mean `task.acks_late`?
            host.toml:7:17: task.track_started: expected true or false, found "yes"
            host.toml:8:17: task.default_queue: queue name is empty
            host.toml:9:10: task.queues: expected one or more names of queues, such as ["celery", "images"], found [1]
            host.toml:11:2: unknown group `limit`; did you mean `limits`?
            host.toml:15:10: limits.memory: expected a number of bytes, or a size such as "64KiB" or "128MiB", found "lots"
            host.toml:16:8: limits.time: expected seconds above zero, or a time such as "30s", "5m" or "1h", found 0
            host.toml:19:15: worker.concurrency: expected a whole number of 1 or more, found 0
            host.toml:20:12: worker.hostname: `%x` is not one of %h, %n, %d and %%
            host.toml:23:1: unknown task option `max_retires`; did you mean `max_retries`?
            host.toml:24:14: tasks."images.resize".rate_limit: expected a rate such as "10/s", "100/m" or "5/h", or "none", found "fast"
            host.toml:27:1: `tasks.resize` is not a table; write [tasks."name of the task"]
            host.toml:30:9: log.level: expected "debug", "info", "warning", "error" or "critical", found a date
            host.toml:31:10: log.format: expected "text" or "json", found a table"#]],
    );
}

#[test]
fn a_group_is_a_table() {
    check_errors(file("task = 3\n"), expect!["host.toml:1:8: `task` is a group; write [task] and its keys below"]);
    check_errors(
        file("[[task]]\nacks_late = true\n"),
        expect!["host.toml:1:1: `task` is a group; write [task] and its keys below"],
    );
}

#[test]
fn a_file_that_is_no_toml_is_an_error_with_its_place() {
    check_errors(file("[task]\nacks_late = tru\n"), expect!["host.toml:2:13: invalid boolean, expected `true`"]);
    check_errors(file("[task]\nacks_late = true\nacks_late = false\n"), expect!["host.toml:3:1: duplicate key"]);
    check_errors(file("[task\n"), expect!["host.toml:1:6: unclosed table, expected `]`"]);
}

#[test]
fn wrong_variables_are_errors_if_they_are_meant_for_us() {
    check_errors(
        environment(&[
            ("HOST_TASK_ACKS_LAT", "1"),
            ("HOST_WORKER_CONCURRENCY", "many"),
            ("HOST_IP", "10.0.0.1"),
            ("HOST_NAME", "box"),
        ]),
        expect![[r#"
            HOST_TASK_ACKS_LAT: unknown variable; did you mean `HOST_TASK_ACKS_LATE`?
            HOST_WORKER_CONCURRENCY: expected a whole number of 1 or more, found "many""#]],
    );
}

#[test]
fn wrong_sets_and_flags_are_errors() {
    let mut sources = set("task_acks_lat=1");
    for text in ["task.acks_late", "task.acks_late=perhaps", "tasks.images.resize.max_retires=1"] {
        sources.sets.push(text.to_owned());
    }
    for (name, key, text) in [
        ("--concurrency", "worker.concurrency", "-1"),
        ("--hostname", "worker.hostname", "w@%i"),
        ("--hostname", "worker.hostname", "w@\u{7}"),
    ] {
        sources.flags.push(Flag { name, key, text: text.to_owned() });
    }
    check_errors(
        sources,
        expect![[r#"
        --set task_acks_lat: unknown setting; did you mean `task_acks_late`?
        --set task.acks_late: expected NAME=VALUE, such as task_acks_late=false
        --set tasks.images.resize.max_retires: unknown task option; did you mean `max_retries`?
        --set task.acks_late: expected true or false, found "perhaps"
        --concurrency: expected a whole number of 1 or more, found "-1"
        --hostname: `%i` is not one of %h, %n, %d and %%
        --hostname: node name `w@\u{7}` contains a control character"#]],
    );
}

#[test]
fn a_wrong_value_is_an_error_even_if_another_beats_it() {
    let mut sources = flag("--concurrency", "worker.concurrency", "4");
    sources.environment = pairs(&[("HOST_WORKER_CONCURRENCY", "many")]);
    check_errors(sources, expect![[r#"HOST_WORKER_CONCURRENCY: expected a whole number of 1 or more, found "many""#]]);
}

#[test]
fn the_pool_may_grow_beyond_what_runs_to_begin_with() {
    let key = "worker.concurrency_max";
    check_row(&Sources { machine: machine(), ..Sources::default() }, key, "64 (default)");
    check_row(&set("worker.concurrency=100"), key, "116 (default)");
    check_row(&set("worker.autoscale=70,2"), key, "70 (default)");
    let config = Config::resolve(&set("worker.autoscale=10")).expect("right");
    assert_eq!((config.worker.autoscale, config.worker.slots()), (Some((10, 1)), 1));
    let mut sources = set("worker.concurrency_max=3");
    sources.flags = vec![Flag { name: "--concurrency", key: "worker.concurrency", text: "4".to_owned() }];

    check_errors(
        sources,
        expect!["--set worker.concurrency_max: expected 4 or more, since worker.concurrency wants so many; found 3"],
    );
    for text in ["3,10", "3,0", "many", "0"] {
        let problem = Config::resolve(&set(&format!("worker.autoscale={text}"))).expect_err("wrong").to_string();
        assert!(problem.contains("two whole numbers, the larger first"), "{problem}");
    }
}

#[test]
fn every_option_of_a_task_can_be_overridden() {
    let text = r#"
        [tasks."images.resize"]
        acks_late = false
        autoretry_for = ["OSError"]
        default_retry_delay = 5
        ignore_result = true
        max_retries = "none"
        rate_limit = "10/m"
rate_limit_scope = "cluster"
concurrency = 2
concurrency_key = "kwargs.tenant"
        retry_backoff = true
        retry_backoff_max = "1h"
        retry_jitter = false
        soft_time_limit = 1.5
        store_errors_even_if_ignored = true
        time_limit = "none"
        track_started = true
        acks_on_failure = false
        acks_on_failure_or_timeout = false
        acks_on_timeout = "none"
        dont_autoretry_for = ["FileNotFoundError"]
        reject_on_worker_lost = true
        pin_retries = true
        retry_on = ["trap", "time"]
        retry_on_worker_lost = true

        [tasks.tasks.add]
        max_retries = 0
    "#;
    let config = Config::resolve(&file(text)).unwrap();
    let mut options = TaskOptions { time_limit: Some(Duration::from_secs(1)), ..TaskOptions::default() };
    config.tasks[&TaskName::parse("images.resize").unwrap()].apply(&mut options);
    expect![[r#"
        TaskOptions {
            max_retries: None,
            default_retry_delay: 5s,
            autoretry_for: [
                "OSError",
            ],
            dont_autoretry_for: [
                "FileNotFoundError",
            ],
            retry_kwargs: RetryKwargs {
                max_retries: None,
                countdown: None,
            },
            retry_backoff: 1.0,
            retry_backoff_max: 3600s,
            retry_jitter: false,
            time_limit: None,
            soft_time_limit: Some(
                1.5s,
            ),
            handles_soft_limit: false,
            acks_late: Some(
                false,
            ),
            acks_on_failure: Some(
                false,
            ),
            acks_on_timeout: None,
            acks_on_failure_or_timeout: Some(
                false,
            ),
            reject_on_worker_lost: Some(
                true,
            ),
            retry_on_worker_lost: Some(
                true,
            ),
            retry_on: RetryOn {
                trap: true,
                memory: false,
                time: true,
            },
            pin_retries: true,
            ignore_result: Some(
                true,
            ),
            store_errors_even_if_ignored: Some(
                true,
            ),
            track_started: Some(
                true,
            ),
            rate_limit: Some(
                Some(
                    Rate {
                        interval: 6s,
                    },
                ),
            ),
            rate_limit_scope: Cluster,
            concurrency: Some(
                2,
            ),
            concurrency_key: Some(
                KeyPath {
                    root: Kwargs,
                    steps: [
                        "tenant",
                    ],
                },
            ),
        }
    "#]]
    .assert_debug_eq(&options);
    let mut options = TaskOptions::default();
    config.tasks[&TaskName::parse("tasks.add").unwrap()].apply(&mut options);
    assert_eq!(options, TaskOptions { max_retries: Some(0), ..TaskOptions::default() });

    let options = &text.lines().filter(|line| line.contains('=')).count();
    assert_eq!(options - 1, TASK_OPTIONS.len(), "the test knows all options");
}

/// What the queues to take tasks from look like.
fn queues(sources: &Sources) -> String {
    let config = match Config::resolve(sources) {
        Ok(config) => config,
        Err(errors) => return errors.to_string(),
    };
    let describe = |name| {
        let Queue { name, kind, max_priority, exchange, routing_key, binding_arguments, broadcast } =
            config.queues.get(name);
        let mut text = format!("{name}: {kind:?}, {:?} {} by `{routing_key}`", exchange.kind, exchange.name);
        text.extend(max_priority.map(|max| format!(", priorities to {max}")));
        text.extend(binding_arguments.iter().map(|(key, value)| format!(", {key}={value}")));
        text.push_str(if broadcast { ", broadcast" } else { "" });
        text
    };
    config.task.queues.iter().map(describe).collect::<Vec<_>>().join("\n")
}

const QUEUES: &str = r#"
    [task]
    queue_max_priority = 5

    [queues.eu.images]
    exchange = "work"
    exchange_type = "topic"
    routing_key = "images.#"
    max_priority = "none"

    [queues."counted"]
    type = "quorum"

    [queues.everybody]
    broadcast = true

    [queues.near]
    exchange_type = "headers"
    binding_arguments = ["x-match=all", "region=eu"]

    [queues.plain]
"#;

#[test]
fn queues_are_defined_in_tables_and_the_rest_by_defaults() {
    expect![[r#"
        counted: Quorum, Direct counted by `counted`
        eu.images: Classic, Topic work by `images.#`
        everybody: Classic, Fanout everybody by ``, priorities to 5, broadcast
        near: Classic, Headers near by ``, priorities to 5, x-match=all, region=eu
        plain: Classic, Direct plain by `plain`, priorities to 5"#]]
    .assert_eq(&queues(&file(QUEUES)));
    expect!["celery: Classic, Direct celery by `celery`"].assert_eq(&queues(&file("")));
    expect!["celery: Quorum, Direct celery by `celery`"]
        .assert_eq(&queues(&file("[task]\ndefault_queue_type = \"quorum\"\nqueue_max_priority = 9\n")));
    expect!["a: Classic, Direct a by `k`"].assert_eq(&queues(&Sources {
        sets: vec!["queues.a.routing_key=k".to_owned(), "task.queues=a".to_owned()],
        ..file("")
    }));
}

#[test]
fn queues_are_picked_and_excluded() {
    let picked = |flags: &[(&'static str, &'static str, &str)]| {
        let flags = flags.iter().map(|(name, key, text)| Flag { name, key, text: (*text).to_owned() }).collect();
        let sources = Sources { flags, ..file(QUEUES) };
        Config::resolve(&sources).map_or_else(
            |errors| errors.to_string(),
            |config| config.task.queues.iter().map(QueueName::as_str).collect::<Vec<_>>().join(","),
        )
    };
    let wanted = |names| ("--queues", "task.queues", names);
    let excluded = |names| ("--exclude-queues", "task.exclude_queues", names);
    assert_eq!(picked(&[wanted("plain,other")]), "plain,other");
    assert_eq!(picked(&[excluded("plain,everybody,unknown")]), "counted,eu.images,near");
    assert_eq!(picked(&[wanted("plain,other"), excluded("plain")]), "other");
    assert_eq!(picked(&[wanted("plain"), excluded("plain")]), "--exclude-queues: no queue is left to take tasks from");
}

#[test]
fn queues_must_be_defined_if_none_may_be_missing() {
    let strict = "[task]\ncreate_missing_queues = false\nqueues = [\"a\", \"b\"]\n";
    check_errors(
        file(&format!("{strict}[queues.a]\n")),
        expect![[r#"host.toml:3:10: task.queues: queue `b` is not defined; write [queues."b"] in host.toml"#]],
    );
    assert_eq!(queues(&file("[task]\ncreate_missing_queues = false\n")), "celery: Classic, Direct celery by `celery`");
}

#[test]
fn mistakes_about_queues_are_named_with_their_place() {
    check_errors(
        file(
            r#"
[queues.images]
exchang = "x"
exchange_type = "fan"
max_priority = 256
binding_arguments = ["region"]
broadcast = "yes"

[queues]
celery = true

[queues.""]
type = "stream"

[queue.celery]
"#,
        ),
        expect![[r#"
            host.toml:3:1: unknown queue option `exchang`; did you mean `exchange`?
            host.toml:4:17: queues."images".exchange_type: expected "direct", "topic", "fanout" or "headers", found "fan"
            host.toml:5:16: queues."images".max_priority: expected a whole number from 1 to 255, or "none", found 256
            host.toml:6:21: queues."images".binding_arguments: expected a list such as ["x-match=all", "region=eu"], found ["region"]
            host.toml:7:13: queues."images".broadcast: expected true or false, found "yes"
            host.toml:10:1: `queues.celery` is not a table; write [queues."name of the queue"]
            host.toml:13:1: `queues.type` is not a table; write [queues."name of the queue"]
            host.toml:15:2: unknown group `queue`; did you mean `queues`?"#]],
    );
    check_errors(
        file("[queues.a]\ntype = \"quorum\"\nmax_priority = 3\n"),
        expect![[
            r#"host.toml:3:16: queues."a".max_priority: a quorum queue has no max_priority; write type = "classic""#
        ]],
    );
    check_errors(
        file("[queues.a]\ntype = \"quorum\"\nbroadcast = true\n"),
        expect![[
            r#"host.toml:2:8: queues."a".type: a broadcast queue cannot be a quorum queue: it goes with its worker"#
        ]],
    );
    check_errors(
        set("queues.a.exchang=x"),
        expect!["--set queues.a.exchang: unknown queue option; did you mean `exchange`?"],
    );
}

#[test]
fn wrong_urls_are_errors_with_their_place() {
    let text = "[broker]\nurl = \"ampq://box\"\n\n[result]\nbackend = \"mongodb://box\"\n";
    let errors = Config::resolve(&file(text)).unwrap_err().to_string();
    let starts = errors.lines().map(|line| line.split_inclusive('`').take(2).collect::<String>()).collect::<Vec<_>>();
    assert_eq!(
        starts,
        [
            "host.toml:2:7: broker.url: broker URL `ampq://box`",
            "host.toml:5:11: result.backend: result backend URL `mongodb://box`"
        ]
    );
}

#[test]
fn several_brokers_are_a_list_or_one_text() {
    let key = "broker.url";
    check(
        file("[broker]\nurl = [\"amqp://a//\", \"redis://:x@b/1\"]\n"),
        key,
        "amqp://a//;redis://:**@b/1 (host.toml:2)",
    );
    check(flag("-b", key, "amqp://me:x@a//;b"), key, "amqp://me:**@a//;b (-b)");
    let wrong = "host.toml:2:7: broker.url: broker URL `kafka://b`: unknown scheme `kafka`";
    let errors = Config::resolve(&file("[broker]\nurl = [\"amqp://a//\", \"kafka://b\"]\n")).unwrap_err().to_string();
    assert!(errors.starts_with(wrong), "{errors}");
    check(
        set("broker_failover_strategy=shuffle"),
        "broker.failover_strategy",
        "shuffle (--set broker_failover_strategy)",
    );
    let strategy = "--set broker_failover_strategy: expected \"round-robin\" or \"shuffle\", found \"first\"";
    check(set("broker_failover_strategy=first"), "broker.failover_strategy", strategy);
    // Without a result backend the first of them keeps results.
    check(flag("-b", key, "redis://a/1;redis://b/1"), "result.backend", "redis://a/1 (default)");
    check(flag("-b", key, "amqp://a;redis://b/1"), "result.backend", "rpc:// (default)");
}

#[test]
fn messages_may_be_read_and_written_elsewhere() {
    let sets =
        |sets: &[&str]| Sources { sets: sets.iter().map(|set| (*set).to_owned()).collect(), ..set("log.level=info") };
    let of = |sources: &Sources| {
        let broker = Config::resolve(sources).unwrap().broker;
        (broker.url.to_string(), broker.write_url.map(|url| url.to_string()))
    };
    let (a, b) = ("amqp://a//".to_owned(), "amqp://b//".to_owned());
    assert_eq!(of(&sets(&["broker_url=amqp://a//"])), (a.clone(), None));
    assert_eq!(of(&sets(&["broker_url=amqp://a//", "broker_write_url=amqp://b//"])), (a.clone(), Some(b.clone())));
    assert_eq!(of(&sets(&["broker_url=amqp://a//", "broker_read_url=amqp://b//"])), (b.clone(), Some(a.clone())));
    assert_eq!(of(&sets(&["broker_read_url=amqp://a//", "broker_write_url=amqp://b//"])), (a.clone(), Some(b)));
    assert_eq!(of(&sets(&["broker_url=amqp://a//", "broker_write_url=amqp://a//"])), (a, None), "it is the same");
    check(sets(&["broker_write_url=redis://w/1"]), "result.backend", "redis://w/1 (default)");
}

#[test]
fn zero_retries_of_the_broker_are_without_end_as_in_celery() {
    let retry = |sources: &Sources| Config::resolve(sources).unwrap().broker.retry;
    assert_eq!(retry(&set("broker_connection_max_retries=0")).most, None);
    assert_eq!(retry(&set("broker_connection_max_retries=7")).most, Some(7));
    let never = retry(&set("broker_connection_retry=false"));
    assert!(!never.afterwards && !never.on_startup, "the start is as the rest unless it is said");
    let start = retry(&set("broker_connection_retry_on_startup=false"));
    assert!(start.afterwards && !start.on_startup);
}

#[test]
fn no_secret_is_ever_shown() {
    let url = "amqp://me:secret@box//";
    let config = Config::resolve(&set(&format!("broker_url={url}"))).unwrap();
    assert_eq!(config.broker.url.expose(), url);
    assert!(!format!("{config:?}").contains("secret"));
    for wrong in
        ["broker.url=amqp://me:secret@box:port//", "broker.url=foo://me:secret@box", "brokr.url=x://a:secret@b"]
    {
        let errors = Config::resolve(&set(wrong)).unwrap_err();
        assert!(!format!("{errors} {errors:?}").contains("secret"), "{errors}");
    }
}

#[test]
fn the_state_file_is_called_after_the_worker() {
    let key = "worker.state_db";
    check(file(""), key, "taskhost@box.example.org.state.db (default)");
    check(flag("--statedb", key, "/var/lib/%n.state"), key, "/var/lib/taskhost.state (--statedb)");
    check(set("worker_state_db=none"), key, "none (--set worker_state_db)");
    let named = Sources {
        flags: vec![Flag { name: "--hostname", key: "worker.hostname", text: "w1@%n".to_owned() }],
        ..environment(&[("HOST_WORKER_STATE_DB", "%n-%h.db")])
    };
    check(named, key, "w1-box.db (HOST_WORKER_STATE_DB)");
    check(flag("--statedb", key, "%i"), key, "--statedb: `%i` is not one of %p, %n, %h, %d and %%");
}

#[test]
fn tls_is_asked_for_by_a_word_or_by_its_options() {
    let config = |text: &str| Config::resolve(&file(text)).unwrap();
    assert_eq!(config("").broker.tls, None);
    assert_eq!(config("broker.use_ssl = true").broker.tls, Some(TlsOptions::default()));
    let options = TlsOptions { ca_certs: Some("ca.pem".into()), verify: Verify::Chain, ..TlsOptions::default() };
    let flat = "[broker]\nssl_ca_certs = \"ca.pem\"\nssl_check_hostname = false";
    assert_eq!(config(flat).broker.tls, Some(options.clone()));
    // As kombu's Redis transport and py-amqp write it.
    let table =
        "[broker]\nuse_ssl = { ca_certs = \"ca.pem\", ssl_check_hostname = false, cert_reqs = \"CERT_REQUIRED\" }";
    assert_eq!(config(table).broker.tls, Some(options));
    let nothing = Config::resolve(&set("broker_ssl_cert_reqs=none")).unwrap().broker.tls;
    assert_eq!(nothing, Some(TlsOptions { verify: Verify::Nothing, ..TlsOptions::default() }));
}

#[test]
fn results_have_tls_of_their_own_unless_they_are_at_the_broker() {
    let tls = |sets: &[&str]| {
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        let config = Config::resolve(&Sources { sets, machine: machine(), ..Sources::default() }).unwrap();
        (config.broker.tls.is_some(), config.result.tls.is_some())
    };
    assert_eq!(tls(&["broker_url=redis://box", "broker_use_ssl=1"]), (true, true));
    assert_eq!(tls(&["broker_url=redis://box", "broker_use_ssl=1", "result_use_ssl=0"]), (true, false));
    assert_eq!(tls(&["broker_url=redis://box", "broker_use_ssl=1", "result_backend=redis://bag"]), (true, false));
    assert_eq!(tls(&["broker_url=amqp://box", "broker_use_ssl=1"]), (true, false));
    assert_eq!(tls(&["result_backend=redis://bag", "redis_backend_use_ssl=1"]), (false, true));
}

#[test]
fn mistakes_about_tls_are_answered() {
    let none = "[broker]\nuse_ssl = false\nssl_certfile = \"me.pem\"";
    check_errors(
        file(none),
        expect!["host.toml:3:16: broker.ssl_certfile: there is no TLS to use it for: broker.use_ssl is false"],
    );
    let table = "[broker]\nuse_ssl = { ca_cert = \"ca.pem\", cert_reqs = 1 }";
    check_errors(
        file(table),
        expect![[r#"
        host.toml:2:13: unknown key `broker.ssl_ca_cert`; did you mean `broker.ssl_ca_certs`?
        host.toml:2:45: broker.ssl_cert_reqs: expected "required", "optional" or "none", found 1"#]],
    );
}

#[test]
fn files_of_tls_are_read_before_anything_connects() {
    let wrong = |text: &str| tls::check(&Config::resolve(&file(text)).unwrap()).unwrap_err().to_string();
    let missing = "[broker]\nurl = \"redis://box\"\nuse_ssl = { ca_certs = \"/no/ca.pem\" }";
    assert_eq!(
        wrong(missing),
        "host.toml:3:24: broker.ssl_ca_certs: cannot read certificates from /no/ca.pem: \
         I/O error: No such file or directory (os error 2)"
    );
    let key = "[result]\nbackend = \"redis://box\"\nssl_keyfile = \"/me.key\"\nssl_cert_reqs = \"none\"";
    assert_eq!(wrong(key), "host.toml:3:15: result.ssl_keyfile: cannot show a key (/me.key) without a certificate");
    let file = "[broker]\nurl = \"sqlite:///host.db\"\nuse_ssl = true\nssl_cert_reqs = \"none\"";
    assert_eq!(
        wrong(file),
        "host.toml:3:11: broker.use_ssl: broker URL `sqlite:///host.db`: there is no TLS to a file"
    );
}
