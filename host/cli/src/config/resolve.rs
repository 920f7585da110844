//! Decides which of several values wins: flag, environment, file, default, in this order.
//!
//! Pure: files, environment and machine were read by somebody else. Every value is checked, also one
//! that another overrides.

use std::collections::BTreeMap;

use taskhost_core::{NodeName, PluginName, QueueName, TaskName};

use crate::config::assignment::{self, Assignment, Target};
use crate::config::error::{ConfigError, ConfigErrors};
use crate::config::kind::Raw;
use crate::config::origin::Origin;
use crate::config::secret::SecretUrl;
use crate::config::setting::{Fallback, SETTINGS, Setting};
use crate::config::value::Value;
use crate::config::{file, node};

/// Everything that configuration is made from.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// Path, for messages, and text of `host.toml`.
    pub(crate) file: Option<(String, String)>,
    pub(crate) environment: Vec<(String, String)>,
    /// `NAME=VALUE` of each `--set`.
    pub(crate) sets: Vec<String>,
    pub(crate) flags: Vec<Flag>,
    pub(crate) machine: Machine,
}

/// An option of the command line that stands for a setting.
#[derive(Debug, Clone)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) key: &'static str,
    pub(crate) text: String,
}

/// What defaults depend on.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    pub(crate) host_name: String,
    pub(crate) cpus: u32,
    /// Folders of the user, if there is one.
    pub(crate) cache_dir: Option<String>,
    pub(crate) state_dir: Option<String>,
}

/// Every setting with its value, in the order of the table, and the options of single tasks and queues.
#[derive(Debug)]
pub(crate) struct Resolved {
    settings: Vec<(&'static Setting, Value, Origin)>,
    pub(crate) options: BTreeMap<TaskName, BTreeMap<&'static str, (Value, Origin)>>,
    pub(crate) queue_options: BTreeMap<QueueName, BTreeMap<&'static str, (Value, Origin)>>,
    pub(crate) grant_options: BTreeMap<PluginName, BTreeMap<&'static str, (Value, Origin)>>,
}

impl Resolved {
    /// The value of a setting of the table.
    pub(crate) fn value(&self, key: &str) -> &Value {
        &self.find(key).1
    }

    /// Where it came from.
    pub(crate) fn origin(&self, key: &str) -> &Origin {
        &self.find(key).2
    }

    /// All settings.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&'static str, &Value, &Origin)> {
        self.settings.iter().map(|(setting, value, origin)| (setting.key, value, origin))
    }

    fn find(&self, key: &str) -> &(&'static Setting, Value, Origin) {
        self.settings.iter().find(|(setting, ..)| setting.key == key).expect("the key is one of the table of settings")
    }
}

/// Reads all sources; either everything is right or all mistakes are named.
pub(crate) fn resolve(sources: &Sources) -> Result<Resolved, ConfigErrors> {
    let mut errors = Vec::new();
    let mut given: BTreeMap<&'static str, (Value, Origin)> = BTreeMap::new();
    let mut options: BTreeMap<TaskName, BTreeMap<&'static str, (Value, Origin)>> = BTreeMap::new();
    let mut queue_options: BTreeMap<QueueName, BTreeMap<&'static str, (Value, Origin)>> = BTreeMap::new();
    let mut grant_options: BTreeMap<PluginName, BTreeMap<&'static str, (Value, Origin)>> = BTreeMap::new();
    // From weak to strong: a later one replaces an earlier one.
    for Assignment { target, raw, origin } in assignments(sources, &mut errors) {
        match target.kind().read(&raw) {
            Ok(value) => match target {
                Target::Setting(setting) => {
                    given.insert(setting.key, (value, origin));
                }
                Target::Option(task, option) => {
                    options.entry(task).or_default().insert(option.name, (value, origin));
                }
                Target::QueueOption(queue, option) => {
                    queue_options.entry(queue).or_default().insert(option.name, (value, origin));
                }
                Target::GrantOption(plugin, option) => {
                    grant_options.entry(plugin).or_default().insert(option, (value, origin));
                }
            },
            Err(problem) => errors.push(ConfigError::value(&origin, &target.key(), &problem)),
        }
    }
    let mut settings = Vec::with_capacity(SETTINGS.len());
    for setting in SETTINGS {
        let (value, origin) = match given.remove(setting.key) {
            Some((value, origin)) => (value, origin),
            None if setting.key == "task.queues" && !queue_options.is_empty() => {
                (Value::Queues(queue_options.keys().cloned().collect()), Origin::Default)
            }
            None => (default(setting, &settings, &sources.machine), Origin::Default),
        };
        let value = match setting.key {
            "worker.hostname" => node_name(&value, &origin, &sources.machine, &mut errors),
            "worker.state_db" => state_file(value, &settings),
            _ => value,
        };
        settings.push((setting, value, origin));
    }
    if errors.is_empty() {
        Ok(Resolved { settings, options, queue_options, grant_options })
    } else {
        Err(ConfigErrors::new(errors))
    }
}

fn assignments(sources: &Sources, errors: &mut Vec<ConfigError>) -> Vec<Assignment> {
    let mut assignments = Vec::new();
    if let Some((path, text)) = &sources.file {
        assignments.extend(file::read(path, text, errors));
    }
    assignments.extend(assignment::from_environment(&sources.environment, errors));
    for text in &sources.sets {
        match assignment::from_set(text) {
            Ok(assignment) => assignments.push(assignment),
            Err(error) => errors.push(error),
        }
    }
    assignments.extend(sources.flags.iter().map(|flag| {
        let setting = SETTINGS.iter().find(|setting| setting.key == flag.key);
        Assignment {
            target: Target::Setting(setting.expect("every flag stands for a setting of the table")),
            raw: Raw::Loose(flag.text.clone()),
            origin: Origin::Flag(flag.name),
        }
    }));
    assignments
}

/// How far a pool may grow by default: room for an instance is little more than a number.
const CONCURRENCY_MAX: u32 = 64;
const CONCURRENCY_MORE: u32 = 16;

/// The default of a setting. Those that are computed look at settings which stand before them.
fn default(setting: &Setting, before: &[(&'static Setting, Value, Origin)], machine: &Machine) -> Value {
    let value = |key| before.iter().find(|(setting, ..)| setting.key == key).map(|(_, value, _)| value);
    match setting.default {
        Fallback::Text(text) => setting.kind.read(&Raw::Loose(text.to_owned())).expect("a test reads all defaults"),
        Fallback::Computed(_) => match (setting.key, value("broker.url"), value("task.default_queue")) {
            ("result.backend", Some(Value::Url(broker)), _) => match value("broker.write_url") {
                Some(Value::Url(broker)) => Value::Url(default_backend(broker)),
                _ => Value::Url(default_backend(broker)),
            },
            ("task.queues", _, Some(Value::Queue(queue))) => Value::Queues(vec![queue.clone()]),
            ("worker.rate_limit_store", Some(Value::Url(broker)), _) => match value("result.backend") {
                Some(Value::Url(backend)) => default_rate_store(backend, broker),
                _ => Value::None,
            },
            ("worker.concurrency", ..) => Value::Count(machine.cpus.max(1)),
            ("worker.concurrency_max", ..) => {
                let most = match (value("worker.autoscale"), value("worker.concurrency")) {
                    (Some(Value::Autoscale { max, .. }), _) => *max,
                    (_, Some(Value::Count(concurrency))) => concurrency.saturating_add(CONCURRENCY_MORE),
                    _ => 0,
                };
                Value::Count(most.max(CONCURRENCY_MAX))
            }
            ("worker.state_db", ..) => Value::Text("%p.state.db".to_owned()),
            ("worker.control_socket", ..) => match value("worker.state_db") {
                Some(Value::Text(state)) => Value::Text(format!("{state}.sock")),
                _ => Value::None,
            },
            ("plugins.cache", ..) => in_folder(machine.cache_dir.as_deref(), "taskhost/compiled"),
            ("plugins.cache_key", ..) => in_folder(machine.state_dir.as_deref(), "taskhost/cache.key"),
            (key, ..) => unreachable!("`{key}` has no computed default"),
        },
    }
}

/// Beside the messages if the broker can keep results, too; otherwise back to the client, which needs no
/// other server. A client that looks for results elsewhere needs `-r` here, as with any Celery worker.
fn default_backend(broker: &SecretUrl) -> SecretUrl {
    let servers = broker::server_urls(broker.expose());
    let broker = &SecretUrl::new(&servers[0]);
    match broker.scheme().as_str() {
        "memory" => SecretUrl::new("memory://"),
        scheme if scheme.contains("sqlite") => {
            let url = broker.expose();
            SecretUrl::new(url.strip_prefix("sqla+").unwrap_or(url))
        }
        scheme if dial::redis::SCHEMES.contains(&scheme) => broker.clone(),
        scheme if scheme.starts_with("sqla") => {
            let url = broker.expose();
            SecretUrl::new(&format!("db+{}", url.split_once('+').map_or(url, |(_, rest)| rest)))
        }
        _ => SecretUrl::new("rpc://"),
    }
}

fn in_folder(dir: Option<&str>, path: &str) -> Value {
    dir.map_or(Value::None, |dir| Value::Text(format!("{dir}/{path}")))
}

/// Fills in the name of this worker.
fn state_file(value: Value, before: &[(&'static Setting, Value, Origin)]) -> Value {
    let node = before.iter().find(|(setting, ..)| setting.key == "worker.hostname").map(|(_, node, _)| node);
    match (&value, node) {
        (Value::Text(path), Some(Value::Text(node))) => {
            Value::Text(node::expand_file(path, node).expect("it was tried when it was read"))
        }
        _ => value,
    }
}

/// Where all workers of the cluster can count together.
fn default_rate_store(backend: &SecretUrl, broker: &SecretUrl) -> Value {
    let shared = [backend, broker].into_iter().find(|url| store::can_share_rates(url.expose()));
    shared.map_or(Value::None, |url| Value::Url(url.clone()))
}

/// Fills in the name of the machine, which cannot be checked before.
fn node_name(value: &Value, origin: &Origin, machine: &Machine, errors: &mut Vec<ConfigError>) -> Value {
    let Value::Text(pattern) = value else { return value.clone() };
    let name = node::expand(pattern, &machine.host_name)
        .and_then(|name| NodeName::parse(&name).map(|_| name).map_err(|error| error.to_string()));
    match name {
        Ok(name) => Value::Text(name),
        Err(problem) => {
            errors.push(ConfigError::value(origin, "worker.hostname", &problem));
            value.clone()
        }
    }
}
