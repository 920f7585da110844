//! What a setting is, and how the one table of them ([`list`]) is searched and shown.
//!
//! Files, environment, `--set`, `host config` and the suggestions in error messages are all made from
//! it. It does not know where a value came from.

mod list;
#[cfg(test)]
mod tests;

pub(crate) use self::list::{QUEUE_OPTIONS, SETTINGS, TASK_OPTIONS};
use crate::config::kind::Kind;

/// A setting. Its key is Celery's name with a dot after the group: `task_acks_late` is `task.acks_late`.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The key in `host.toml`, with its group.
    pub(crate) key: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Fallback,
    /// One line for people.
    pub(crate) doc: &'static str,
}

/// The value of a setting that nobody gave.
#[derive(Debug)]
pub(crate) enum Fallback {
    /// As if it had been written.
    Text(&'static str),
    /// Depends on the machine or on other settings; the text says how.
    Computed(&'static str),
}

/// An option of a task that the operator may override in `[tasks."name"]`, under Celery's name.
#[derive(Debug)]
pub(crate) struct TaskOption {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// One line for people.
    pub(crate) doc: &'static str,
}

/// An option of a queue in `[queues.NAME]`.
#[derive(Debug)]
pub(crate) struct QueueOption {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// One line for people.
    pub(crate) doc: &'static str,
}

impl Setting {
    /// The group that the setting belongs to.
    pub(crate) fn group(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(group, _)| group)
    }

    /// Celery's name: the key with an underscore after the group.
    pub(crate) fn flat(&self) -> String {
        self.key.replacen('.', "_", 1)
    }

    /// The environment variable that gives it.
    pub(crate) fn variable(&self) -> String {
        format!("HOST_{}", self.flat().to_uppercase())
    }

    /// The default in words.
    pub(crate) fn default_text(&self) -> &'static str {
        match self.default {
            Fallback::Text(text) | Fallback::Computed(text) => text,
        }
    }
}

/// Celery's names that are not a group and a key of ours.
const CELERYS: [(&str, &str); 1] = [("redis_backend_use_ssl", "result.use_ssl")];

/// The setting of that grouped or flat name, in any case.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    let name = name.to_lowercase();
    let name = CELERYS.iter().find(|(celerys, _)| *celerys == name).map_or(&*name, |(_, ours)| ours);
    SETTINGS.iter().find(|setting| setting.key == name || setting.flat() == name)
}

/// The option of a task of that name.
pub(crate) fn find_option(name: &str) -> Option<&'static TaskOption> {
    TASK_OPTIONS.iter().find(|option| option.name == name)
}

/// The option of a queue of that name.
pub(crate) fn find_queue_option(name: &str) -> Option<&'static QueueOption> {
    QUEUE_OPTIONS.iter().find(|option| option.name == name)
}

/// True if there is a group of that name.
pub(crate) fn is_group(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.group() == name)
}

/// The list of all settings for `host config --help`.
pub(crate) fn help() -> String {
    let mut text = String::from("Settings, as in [group] key of host.toml:\n");
    for setting in SETTINGS {
        text.push_str(&format!("  {}\n          {} [default: {}]\n", setting.key, setting.doc, setting.default_text()));
    }
    text.push_str("\nOptions of one task, as in [tasks.\"images.resize\"] of host.toml:\n");
    for option in TASK_OPTIONS {
        text.push_str(&format!("  {}\n          {}\n", option.name, option.doc));
    }
    text.push_str("\nOptions of one queue, as in [queues.\"images\"] of host.toml:\n");
    for option in QUEUE_OPTIONS {
        text.push_str(&format!("  {}\n          {}\n", option.name, option.doc));
    }
    text.push_str("\nGrants to one plugin, as in [grants.\"images\"] of host.toml:\n");
    for (option, doc) in sandbox::GRANT_OPTIONS {
        text.push_str(&format!("  {option}\n          {doc}\n"));
    }
    text
}
