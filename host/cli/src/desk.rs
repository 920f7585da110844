//! What remote control is told about this process: its configuration under Celery's names, the broker as kombu
//! tells it, and a text for bug reports. Answers the worker's own socket as well.
//!
//! The rest is answered by the worker (`worker/src/control.rs`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::{Endpoint, FailoverStrategy};
use serde_json::json;
use taskhost_core::control::Mail;
use taskhost_core::protocol::content::{Json, MapWriter};
use taskhost_core::{Codec, Message, RedactedUrl};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use worker::{Desk, Facts, RestartRefused};

use crate::config::{Config, Origin, SecretUrl, Value, shown_option};
use crate::local::{Answers, Request};
use crate::reload::Question;

/// How long an answer waits for plugins to be loaded. What takes longer is done all the same.
const RELOAD_WAIT: Duration = Duration::from_millis(500);

/// What a connection to RabbitMQ has if its URL does not say (`broker/src/rabbitmq/address.rs`), in seconds.
const AMQP_HEARTBEAT: f64 = 60.0;

/// The Celery whose protocols this host speaks, which clients look for in a report.
const SPOKEN: &str = "5.7";

/// How Celery masks what is secret (celery/app/utils.py `HIDDEN_SETTINGS`).
const MASK: &str = "********";

/// What is true of this process from its start to its end.
pub(crate) struct ProcessFacts {
    /// Every setting with Celery's name, and whether somebody gave it.
    conf: Vec<(String, Json, bool)>,
    report: String,
    endpoint: Arc<Endpoint>,
    strategy: FailoverStrategy,
    connect_timeout: Duration,
    transport_options: Vec<(String, String)>,
    time_limits: [f64; 2],
    pool_restarts: bool,
    reloader: mpsc::Sender<Question>,
}

impl ProcessFacts {
    pub(crate) fn new(config: &Config, endpoint: Arc<Endpoint>, reloader: mpsc::Sender<Question>) -> Self {
        let seconds = |limit: Option<Duration>| limit.map_or(0.0, |limit| limit.as_secs_f64());
        Self {
            conf: conf(config),
            report: report(config),
            endpoint,
            strategy: config.broker.failover_strategy,
            connect_timeout: config.broker.connection_timeout,
            transport_options: config.broker.transport_options.clone(),
            time_limits: [seconds(config.task.soft_time_limit), seconds(config.task.time_limit)],
            pool_restarts: config.worker.pool_restarts,
            reloader,
        }
    }
}

#[async_trait]
impl Facts for ProcessFacts {
    fn conf(&self, with_defaults: bool) -> Json {
        let shown = self.conf.iter().filter(|(.., given)| with_defaults || *given);
        Json::object(shown.map(|(key, value, _)| (key, value)))
    }

    fn report(&self) -> String {
        self.report.clone()
    }

    fn broker(&self) -> Json {
        broker(self)
    }

    fn time_limits(&self) -> [f64; 2] {
        self.time_limits
    }

    async fn restart_pool(&self) -> Result<(), RestartRefused> {
        if !self.pool_restarts {
            return Err(RestartRefused::NotEnabled);
        }
        let (answer, answered) = oneshot::channel();
        if self.reloader.send((Request::Reload, answer)).await.is_err() {
            return Err(RestartRefused::Failed("the worker is stopping".to_owned()));
        }
        match timeout(RELOAD_WAIT, answered).await {
            Ok(Ok(Err(reason))) => Err(RestartRefused::Failed(reason)),
            _ => Ok(()),
        }
    }
}

/// Both that may be asked on the worker's own socket.
pub(crate) struct Doors {
    pub(crate) reloader: mpsc::Sender<Question>,
    pub(crate) desk: Arc<Desk>,
}

#[async_trait]
impl Answers for Doors {
    async fn plugins(&self, request: Request) -> Result<String, String> {
        let stopping = || "it is stopping".to_owned();
        let (answer, answered) = oneshot::channel();
        self.reloader.send((request, answer)).await.map_err(|_| stopping())?;
        let status = answered.await.map_err(|_| stopping())??;
        serde_json::to_string(&status).map_err(|error| error.to_string())
    }

    /// As through the broker: the names of those who answer, with what they say.
    async fn control(&self, body: &Json) -> Result<String, String> {
        let message = Message { body: body.bytes(), ..Message::default() };
        let mail = Mail::decode(&message, &Codec::default()).map_err(|error| error.to_string())?;
        let mut replies = MapWriter::new();
        if mail.is_for(&self.desk.node) {
            let answer = self.desk.answer(&mail.method, &mail.arguments).await;
            replies.put(self.desk.node.as_str(), &answer);
        }
        Ok(replies.finish_text())
    }
}

/// Settings that every Celery worker tells, whatever it was given, and that are the same in all of ours.
fn always() -> Vec<(&'static str, serde_json::Value)> {
    vec![
        ("deprecated_settings", serde_json::Value::Null),
        ("enable_utc", json!(true)),
        ("include", json!([])),
        ("timezone", json!("UTC")),
        ("worker_hijack_root_logger", json!(false)),
        ("worker_log_color", json!(false)),
    ]
}

/// Keys that are told even if nobody gave them, as a Celery client looks for them.
const TOLD: [&str; 3] = ["accept_content", "broker_url", "result_backend"];

fn conf(config: &Config) -> Vec<(String, Json, bool)> {
    let fixed = always().into_iter().chain([("broker_heartbeat", json!(heartbeat(&config.broker.url)))]);
    let mut conf: Vec<(String, Json, bool)> =
        fixed.map(|(key, value)| (key.to_owned(), as_json(&value), true)).collect();
    for row in config.rows() {
        let key = match row.key.contains('"') {
            true => row.key,
            false => row.key.replacen('.', "_", 1),
        };
        let given = *row.origin != Origin::Default || TOLD.contains(&key.as_str());
        let value = match row.value {
            Value::Secret(_) => json!(MASK),
            Value::Url(url) => json!(masked(url)),
            value => value.to_json(),
        };
        conf.push((key, as_json(&value), given));
    }
    conf.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    conf
}

fn as_json(value: &serde_json::Value) -> Json {
    Json::parse(value.to_string()).expect("what serde_json writes is JSON")
}

fn masked(url: &SecretUrl) -> String {
    url.to_string().replace(":**@", &format!(":{MASK}@"))
}

/// celery/app/utils.py `bugreport`, as far as there is something to tell.
fn report(config: &Config) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let settings: String = config
        .rows()
        .iter()
        .filter(|row| *row.origin != Origin::Default)
        .map(|row| format!("{}: {}\n", row.key, row.value))
        .collect();
    format!(
        "\nsoftware -> celery:{SPOKEN} (spoken by taskhost:{})\nplatform -> system:{} arch:{}\n            kernel version:{}\n\
         settings -> transport:{} results:{}\n\n{settings}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        kernel.trim(),
        config.broker.url.scheme(),
        masked(&config.result.backend),
    )
}

fn login_method(url: &SecretUrl) -> String {
    let said = option_of(url, "login_method=").or_else(|| option_of(url, "auth_mechanism="));
    said.unwrap_or("PLAIN").to_ascii_uppercase()
}

/// Seconds between signs of life of a connection.
fn heartbeat(url: &SecretUrl) -> f64 {
    let url = &SecretUrl::new(&broker::server_urls(url.expose()).remove(0));
    if !is_amqp(url) {
        return 0.0;
    }
    option_of(url, "heartbeat=").and_then(|text| text.parse().ok()).unwrap_or(AMQP_HEARTBEAT)
}

/// What stands behind this in the query of a URL.
fn option_of<'a>(url: &'a SecretUrl, key: &str) -> Option<&'a str> {
    url.expose().split_once('?')?.1.split('&').find_map(|pair| pair.strip_prefix(key))
}

fn is_amqp(url: &SecretUrl) -> bool {
    url.scheme().contains("amqp")
}

/// kombu/connection.py `info`
fn broker(facts: &ProcessFacts) -> Json {
    let url = &SecretUrl::new(facts.endpoint.in_use());
    let alternates = facts.endpoint.alternates().iter().map(|url| RedactedUrl::new(url).to_string());
    let scheme = url.scheme();
    // Of a list the first member, as kombu has it before it tries another.
    let parts = UrlParts::of(url.expose().split(";sentinel://").next().unwrap_or_default());
    let is_amqp = is_amqp(url);
    let has_tls = facts.endpoint.has_tls();
    let (port, vhost) = match scheme.as_str() {
        _ if is_amqp && has_tls => (Some(5671), "/"),
        _ if is_amqp => (Some(5672), "/"),
        _ if scheme.starts_with("redis") => (Some(6379), "0"),
        "sentinel" => (Some(26379), "0"),
        _ => (None, "/"),
    };
    let nothing = Json::null();
    let mut broker = MapWriter::new();
    broker
        .put("hostname", &parts.host.or(port.map(|_| "localhost".to_owned())))
        .put("userid", &parts.user.or(is_amqp.then(|| "guest".to_owned())))
        .put("virtual_host", &parts.path.unwrap_or_else(|| vhost.to_owned()))
        .put("port", &parts.port.or(port))
        .put("insist", &false)
        .put("ssl", &has_tls)
        .put("transport", &scheme)
        .put("connect_timeout", &facts.connect_timeout.as_secs_f64())
        .put(
            "transport_options",
            &Json::object(facts.transport_options.iter().map(|(key, value)| (key, shown_option(key, value)))),
        )
        .put("login_method", &is_amqp.then(|| login_method(url)))
        .put("uri_prefix", &nothing)
        .put("heartbeat", &heartbeat(url))
        .put("failover_strategy", facts.strategy.as_str())
        .put("alternates", &Json::array(alternates))
        .put("credential_provider", &nothing);
    broker.finish()
}

/// What a URL says, but for its password.
#[derive(Default)]
struct UrlParts {
    user: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<String>,
}

impl UrlParts {
    fn of(url: &str) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, server) = authority.rsplit_once('@').unwrap_or(("", authority));
        // A port follows the last colon, unless that is one of an IPv6 address.
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
            _ => (server, None),
        };
        let some = |text: &str| (!text.is_empty()).then(|| text.replace("%2F", "/").replace("%2f", "/"));
        let user = login.split(':').next().unwrap_or_default();
        // `amqp://box//` is the virtual host `/`.
        Self { user: some(user), host: some(host.trim_matches(['[', ']'])), port, path: some(path) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flag, Machine, Sources};
    use crate::wiring;

    fn config(broker: &str, set: &str) -> Config {
        let flag = |name, key, text: &str| Flag { name, key, text: text.to_owned() };
        let sources = Sources {
            flags: vec![flag("-b", "broker.url", broker), flag("-c", "worker.concurrency", "3")],
            sets: vec![set.into()],
            machine: Machine { host_name: "box".into(), cpus: 8, ..Machine::default() },
            ..Sources::default()
        };
        Config::resolve(&sources).expect("a configuration")
    }

    fn facts(broker: &str) -> ProcessFacts {
        facts_with(broker, "task_time_limit=30")
    }

    fn facts_with(broker: &str, set: &str) -> ProcessFacts {
        let config = config(broker, set);
        ProcessFacts::new(&config, wiring::endpoint(&config, true), mpsc::channel(1).0)
    }

    #[test]
    fn settings_have_celerys_names_and_no_secrets() {
        let facts = facts("amqp://me:secret@box:1234/v%2Fw");
        let given = facts.conf(false);
        let get = |key: &str| given.get(key).map(|it| it.to_string());
        assert_eq!(get("broker_url").as_deref(), Some(r#""amqp://me:********@box:1234/v%2Fw""#));
        assert_eq!(get("worker_concurrency").as_deref(), Some("3"));
        assert_eq!(get("task_time_limit").as_deref(), Some("30.0"));
        assert_eq!(get("task_acks_late"), None, "nobody gave it");
        for key in [
            "accept_content",
            "broker_heartbeat",
            "deprecated_settings",
            "enable_utc",
            "include",
            "result_backend",
            "timezone",
            "worker_hijack_root_logger",
            "worker_log_color",
        ] {
            assert!(get(key).is_some(), "{key}");
        }
        let all = facts.conf(true);
        assert_eq!(all.get("task_acks_late").map(|it| it.to_string()).as_deref(), Some("true"));
        assert!(!all.to_string().contains("secret"), "{all}");
        let report = facts.report();
        assert!(report.contains("software -> celery:5.7 (spoken by taskhost:"), "{report}");
        assert!(report.contains("transport:amqp results:rpc://") && !report.contains("secret"), "{report}");
        assert_eq!(facts.time_limits(), [0.0, 30.0]);
    }

    #[test]
    fn a_broker_is_told_as_kombu_tells_it() {
        let shown = |url: &str| {
            let broker = facts(url).broker();
            assert_eq!(broker.members().count(), 15);
            ["transport", "hostname", "port", "userid", "virtual_host", "heartbeat", "ssl"]
                .map(|key| broker.get(key).expect(key).to_string())
                .join(" ")
        };
        assert_eq!(shown("amqp://me:x@box:1234/v%2Fw"), r#""amqp" "box" 1234 "me" "v/w" 60.0 false"#);
        assert_eq!(shown("amqp://box//?heartbeat=5"), r#""amqp" "box" 5672 "guest" "/" 5.0 false"#);
        let login = |url| facts(url).broker().get("login_method").map(|it| it.to_string()).unwrap_or_default();
        assert_eq!(login("amqps://box?login_method=EXTERNAL"), r#""EXTERNAL""#);
        assert_eq!([login("amqp://box"), login("redis://box")], [r#""PLAIN""#, "null"]);
        assert_eq!(shown("amqps://box/v"), r#""amqps" "box" 5671 "guest" "v" 60.0 true"#);
        assert_eq!(shown("amqp://box/v?ssl=true"), r#""amqp" "box" 5671 "guest" "v" 60.0 true"#);
        assert_eq!(shown("rediss://box/1"), r#""rediss" "box" 6379 null "1" 0.0 true"#);
        let beside = facts_with("redis://box/1", "broker.use_ssl=true").broker();
        assert_eq!(beside.get("ssl").map(|it| it.to_string()).as_deref(), Some("true"));
        assert_eq!(shown("redis://:x@[::1]:6380/2"), r#""redis" "::1" 6380 null "2" 0.0 false"#);
        assert_eq!(shown("sqlite:///host.db"), r#""sqlite" null null null "host.db" 0.0 false"#);
    }

    #[test]
    fn several_servers_are_all_told_and_the_one_in_use_in_detail() {
        let broker = facts("amqp://me:secret@one:1//;redis://:secret@two/3").broker();
        let shown = |key: &str| broker.get(key).expect(key).to_string();
        assert_eq!((shown("hostname"), shown("failover_strategy")), (r#""one""#.into(), r#""round-robin""#.into()));
        assert_eq!(shown("alternates"), r#"["amqp://me:**@one:1//", "redis://:**@two/3"]"#);
        assert_eq!(facts("amqp://one").broker().get("alternates").expect("alternates").to_string(), "[]");
    }

    #[tokio::test]
    async fn a_restart_loads_plugins_unless_the_operator_does_not_want_it() {
        let (reloader, mut asked) = mpsc::channel::<Question>(1);
        let config = config("amqp://box//", "task_time_limit=30");
        let mut facts = ProcessFacts::new(&config, wiring::endpoint(&config, true), reloader);
        let reloading = tokio::spawn(async move {
            while let Some((request, answer)) = asked.recv().await {
                assert_eq!(request, Request::Reload);
                let _ = answer.send(Err("the grants are wrong".to_owned()));
            }
        });
        let refused = facts.restart_pool().await.expect_err("it says why");
        assert_eq!(refused.to_string(), "the grants are wrong");
        facts.pool_restarts = false;
        let refused = facts.restart_pool().await.expect_err("it is not allowed");
        assert_eq!(refused.to_string(), "Pool restarts not enabled");
        drop(facts);
        reloading.await.expect("no panic");
    }
}
