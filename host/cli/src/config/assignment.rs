//! "This setting is to have that value, says this place": what files, environment and flags all become.

use sandbox::GRANT_OPTIONS;
use taskhost_core::{PluginName, QueueName, TaskName};

use crate::config::error::ConfigError;
use crate::config::kind::{Kind, Raw};
use crate::config::origin::Origin;
use crate::config::setting::{self, QUEUE_OPTIONS, QueueOption, SETTINGS, Setting, TASK_OPTIONS, TaskOption};
use crate::config::{grants, queues};

/// One value for one setting, not read yet.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    pub(crate) target: Target,
    pub(crate) raw: Raw,
    pub(crate) origin: Origin,
}

/// What a value is for.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Setting(&'static Setting),
    Option(TaskName, &'static TaskOption),
    QueueOption(QueueName, &'static QueueOption),
    GrantOption(PluginName, &'static str),
}

impl Target {
    /// The option of a task; `None` if there is no such option, an error if that is no name of a task.
    pub(crate) fn option(task: &str, option: &str) -> Option<Result<Self, String>> {
        let option = setting::find_option(option)?;
        Some(TaskName::parse(task).map(|task| Self::Option(task, option)).map_err(|error| error.to_string()))
    }

    /// The same for an option of a queue.
    pub(crate) fn queue_option(queue: &str, option: &str) -> Option<Result<Self, String>> {
        let option = setting::find_queue_option(option)?;
        let queue = QueueName::parse(queue).map_err(|error| error.to_string());
        Some(queue.map(|queue| Self::QueueOption(queue, option)))
    }

    /// The same for an option of a grant.
    pub(crate) fn grant_option(plugin: &str, option: &str) -> Option<Result<Self, String>> {
        let (option, _) = GRANT_OPTIONS.iter().find(|(name, _)| *name == option)?;
        let plugin = PluginName::parse(plugin).map_err(|error| error.to_string());
        Some(plugin.map(|plugin| Self::GrantOption(plugin, option)))
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Setting(setting) => setting.kind,
            Self::Option(_, option) => option.kind,
            Self::QueueOption(_, option) => option.kind,
            Self::GrantOption(..) => Kind::Texts,
        }
    }

    /// The name as it is shown.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Setting(setting) => setting.key.to_owned(),
            Self::Option(task, option) => format!("tasks.\"{task}\".{}", option.name),
            Self::QueueOption(queue, option) => queues::key(queue, option.name),
            Self::GrantOption(plugin, option) => grants::key(plugin, option),
        }
    }
}

/// A group of tables, one for each thing that has a name.
pub(crate) struct Entry {
    pub(crate) group: &'static str,
    pub(crate) what: &'static str,
    pub(crate) target: fn(&str, &str) -> Option<Result<Target, String>>,
    pub(crate) options: fn() -> Vec<&'static str>,
}

/// All of them.
pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        group: "tasks",
        what: "task",
        target: Target::option,
        options: || TASK_OPTIONS.iter().map(|option| option.name).collect(),
    },
    Entry {
        group: "queues",
        what: "queue",
        target: Target::queue_option,
        options: || QUEUE_OPTIONS.iter().map(|option| option.name).collect(),
    },
    Entry {
        group: "grants",
        what: "plugin",
        target: Target::grant_option,
        options: || GRANT_OPTIONS.iter().map(|(name, _)| *name).collect(),
    },
];

/// Reads `NAME=VALUE` of `--set`.
pub(crate) fn from_set(text: &str) -> Result<Assignment, ConfigError> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(ConfigError::elsewhere(
            format!("--set {text}"),
            "expected NAME=VALUE, such as task_acks_late=false",
        ));
    };
    let name = name.trim();
    let origin = Origin::Set(name.to_owned());
    let raw = Raw::Loose(value.trim().to_owned());
    for entry in ENTRIES {
        let rest = name.strip_prefix(entry.group).and_then(|rest| rest.strip_prefix('.'));
        let Some((of, option)) = rest.and_then(|rest| rest.rsplit_once('.')) else { continue };
        return match (entry.target)(of.trim_matches('"'), option) {
            Some(Ok(target)) => Ok(Assignment { target, raw, origin }),
            Some(Err(problem)) => Err(ConfigError::new(&origin, problem)),
            None => {
                let what = format!("{} option", entry.what);
                Err(ConfigError::unknown(&origin, &what, option, (entry.options)().into_iter()))
            }
        };
    }
    match setting::find(name) {
        Some(setting) => Ok(Assignment { target: Target::Setting(setting), raw, origin }),
        None => Err(unknown_setting(&origin, name)),
    }
}

/// Variables of Celery and OpenTelemetry that we honour, and the settings they give.
const OTHERS_VARIABLES: [(&str, &str); 9] = [
    ("CELERY_BROKER_URL", "broker.url"),
    ("CELERY_RESULT_BACKEND", "result.backend"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "otel.endpoint"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "otel.traces_endpoint"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "otel.headers"),
    ("OTEL_SERVICE_NAME", "otel.service_name"),
    ("OTEL_RESOURCE_ATTRIBUTES", "otel.resource_attributes"),
    ("OTEL_TRACES_SAMPLER", "otel.traces_sampler"),
    ("OTEL_TRACES_SAMPLER_ARG", "otel.traces_sampler_arg"),
];

/// Reads the environment: the variables of others, then those that begin with `HOST_` and a group of
/// ours. An empty one counts as not there. Others, such as `HOST_IP`, are not meant for us.
pub(crate) fn from_environment(variables: &[(String, String)], errors: &mut Vec<ConfigError>) -> Vec<Assignment> {
    let mut assignments = Vec::new();
    let mut assign = |name: &str, setting, value: &str| {
        let raw = Raw::Loose(value.to_owned());
        assignments.push(Assignment {
            target: Target::Setting(setting),
            raw,
            origin: Origin::Environment(name.to_owned()),
        });
    };
    let given = || variables.iter().filter(|(_, value)| !value.is_empty());
    for (variable, key) in OTHERS_VARIABLES {
        for (name, value) in given().filter(|(name, _)| name == variable) {
            assign(name, setting::find(key).expect("the variables of others stand for settings of ours"), value);
        }
    }
    for (name, value) in given() {
        let Some(flat) = name.strip_prefix("HOST_") else { continue };
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == *name) {
            assign(name, setting, value);
        } else if flat.split_once('_').is_some_and(|(group, _)| setting::is_group(&group.to_lowercase())) {
            let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
            let origin = Origin::Environment(name.clone());
            errors.push(ConfigError::unknown(&origin, "variable", name, known.iter().map(String::as_str)));
        }
    }
    assignments
}

/// Suggests in the same spelling as the one that was used: `task.acks_late` or `task_acks_late`.
fn unknown_setting(origin: &Origin, name: &str) -> ConfigError {
    let flat: Vec<String> = SETTINGS.iter().map(Setting::flat).collect();
    if name.contains('.') {
        ConfigError::unknown(origin, "setting", name, SETTINGS.iter().map(|setting| setting.key))
    } else {
        ConfigError::unknown(origin, "setting", name, flat.iter().map(String::as_str))
    }
}
