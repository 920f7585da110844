//! Reads `host.toml` into assignments that remember line and column.
//!
//! Knows which keys exist, not which of several values wins.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::assignment::{Assignment, ENTRIES, Entry, Target};
use crate::config::error::ConfigError;
use crate::config::kind::Raw;
use crate::config::origin::Origin;
use crate::config::setting::{self, SETTINGS};

/// The group of tables that define something by being there.
const QUEUES: &str = "queues";

/// Reads the text of a file. `path` is for messages.
pub(crate) fn read(path: &str, text: &str, errors: &mut Vec<ConfigError>) -> Vec<Assignment> {
    let mut reader = Reader { path, text, errors, assignments: Vec::new() };
    match DeTable::parse(text) {
        Ok(document) => reader.document(document.get_ref()),
        Err(error) => {
            let at = error.span().map_or(text.len(), |span| span.start);
            let origin = reader.origin(at);
            reader.errors.push(ConfigError::new(&origin, error.message().trim_end()));
        }
    }
    reader.assignments
}

struct Reader<'a> {
    path: &'a str,
    text: &'a str,
    errors: &'a mut Vec<ConfigError>,
    assignments: Vec<Assignment>,
}

impl Reader<'_> {
    fn document(&mut self, document: &DeTable<'_>) {
        for (key, value) in document {
            let group = key.get_ref().as_ref();
            if let Some(entry) = ENTRIES.iter().find(|entry| entry.group == group) {
                if let Some(tables) = self.table(group, value) {
                    self.entries(entry, "", tables);
                }
            } else if setting::is_group(group) {
                if let Some(table) = self.table(group, value) {
                    self.group(group, table);
                }
            } else {
                self.unknown_group(key, value);
            }
        }
    }

    /// `use_ssl` may be a table that says how, as Celery's `broker_use_ssl` may be a dictionary; so may options of
    /// a transport.
    fn group(&mut self, group: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = format!("{group}.{}", key.get_ref());
            match value.get_ref() {
                DeValue::Table(options) if key.get_ref() == "use_ssl" => {
                    self.setting(&name, key.span().start, Raw::Bool(true), value.span().start);
                    for (key, value) in options {
                        let name = key.get_ref();
                        let name = format!("{group}.ssl_{}", name.strip_prefix("ssl_").unwrap_or(name));
                        self.setting(&name, key.span().start, raw(value.get_ref()), value.span().start);
                    }
                }
                DeValue::Table(options) if key.get_ref().ends_with("transport_options") => {
                    self.setting(&name, key.span().start, pairs(options), value.span().start);
                }
                other => self.setting(&name, key.span().start, raw(other), value.span().start),
            }
        }
    }

    /// The value of a setting, with the places of its name and its value.
    fn setting(&mut self, name: &str, name_at: usize, raw: Raw, raw_at: usize) {
        match SETTINGS.iter().find(|setting| setting.key == name) {
            Some(setting) => {
                let origin = self.origin(raw_at);
                self.assignments.push(Assignment { target: Target::Setting(setting), raw, origin });
            }
            None => {
                let origin = self.origin(name_at);
                let known = SETTINGS.iter().map(|setting| setting.key);
                self.errors.push(ConfigError::unknown(&origin, "key", name, known));
            }
        }
    }

    /// The options of a task, queue or plugin. `[tasks.images.resize]` without quotes is a table in a table, and
    /// means the same as `[tasks."images.resize"]`: no option is a table.
    fn entries(&mut self, entry: &Entry, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            if let DeValue::Table(inner) = value.get_ref() {
                let prefix = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
                // A queue that is only named is defined all the same, with a default for its option.
                if inner.is_empty() && entry.group == QUEUES {
                    let at = key.span().start;
                    self.entry(entry, &prefix, ("broadcast", at), (Raw::Bool(false), at));
                }
                self.entries(entry, &prefix, inner);
            } else if prefix.is_empty() {
                let origin = self.origin(key.span().start);
                let Entry { group, what, .. } = entry;
                let problem = format!("`{group}.{name}` is not a table; write [{group}.\"name of the {what}\"]");
                self.errors.push(ConfigError::new(&origin, problem));
            } else {
                let value = (raw(value.get_ref()), value.span().start);
                self.entry(entry, prefix, (name, key.span().start), value);
            }
        }
    }

    /// One option of a task, queue or plugin, with the places of its name and its value.
    fn entry(&mut self, entry: &Entry, of: &str, (name, name_at): (&str, usize), (raw, raw_at): (Raw, usize)) {
        let error = match (entry.target)(of, name) {
            Some(Ok(target)) => {
                let origin = self.origin(raw_at);
                return self.assignments.push(Assignment { target, raw, origin });
            }
            Some(Err(problem)) => ConfigError::new(&self.origin(name_at), problem),
            None => {
                let what = format!("{} option", entry.what);
                ConfigError::unknown(&self.origin(name_at), &what, name, (entry.options)().into_iter())
            }
        };
        self.errors.push(error);
    }

    fn unknown_group(&mut self, key: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>) {
        let name = key.get_ref();
        let origin = self.origin(key.span().start);
        if let Some(setting) = setting::find(name) {
            let (group, key) = setting.key.split_once('.').unwrap_or_default();
            let problem = format!("unknown key `{name}`; write `{key}` under [{group}]");
            self.errors.push(ConfigError::new(&origin, problem));
            return;
        }
        let what = if matches!(value.get_ref(), DeValue::Table(_)) { "group" } else { "key" };
        let known = SETTINGS.iter().map(|setting| setting.group()).chain(ENTRIES.iter().map(|entry| entry.group));
        self.errors.push(ConfigError::unknown(&origin, what, name, known));
    }

    fn table<'v>(&mut self, group: &str, value: &'v Spanned<DeValue<'_>>) -> Option<&'v DeTable<'v>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let origin = self.origin(value.span().start);
            let problem = format!("`{group}` is a group; write [{group}] and its keys below");
            self.errors.push(ConfigError::new(&origin, problem));
        }
        table
    }

    fn origin(&self, at: usize) -> Origin {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::File {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// A table as the list of `name=value` that it stands for. What is in it and no plain value is JSON there.
fn pairs(table: &DeTable<'_>) -> Raw {
    let pair = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
        let value = match json(value.get_ref()) {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        Raw::Text(format!("{}={value}", key.get_ref()))
    };
    Raw::List(table.iter().map(pair).collect())
}

fn json(value: &DeValue<'_>) -> serde_json::Value {
    match value {
        DeValue::Boolean(value) => (*value).into(),
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or_else(|_| integer.as_str().into(), serde_json::Value::from),
        DeValue::Float(float) => {
            float.as_str().parse::<f64>().map_or_else(|_| float.as_str().into(), serde_json::Value::from)
        }
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(table) => {
            table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref()))).collect()
        }
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::Boolean(value) => Raw::Bool(*value),
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).map_or(Raw::Other("a number without end"), Raw::Int)
        }
        DeValue::Float(float) => float.as_str().parse().map_or(Raw::Other("an odd number"), Raw::Float),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Table(_) => Raw::Other("a table"),
        DeValue::Datetime(_) => Raw::Other("a date"),
    }
}
