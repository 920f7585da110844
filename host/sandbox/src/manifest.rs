//! `plugin.toml`: what a plugin is called, where its component is, and what overrides `describe`.
//!
//! Does not look at the component.

#[cfg(test)]
mod fuzz;
mod rollout;

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use taskhost_core::{Json, PluginName, RolloutTerms, TaskName, TaskOptions};
use toml::Spanned;

use crate::ceiling::Wanted;
use crate::grant::{CAPABILITIES, Need, Needs};
use crate::limits::MANIFEST_BYTES_MAX;
use crate::options::{self, Effect};
use crate::plugin::hexadecimal;
use crate::size::Size;

/// The manifest's file name.
pub(crate) const FILE_NAME: &str = "plugin.toml";

/// What a manifest says, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) name: PluginName,
    pub(crate) version: Option<String>,
    /// The component, a file beside the manifest.
    pub(crate) component: PathBuf,
    pub(crate) limits: Wanted,
    /// How a new version is tried before it serves alone.
    pub(crate) rollout: Option<RolloutTerms>,
    /// Of the whole text, in hexadecimal.
    pub(crate) sha256: String,
    /// What the plugin declares that it needs.
    pub(crate) needs: Needs,
    /// Modules besides Python's and Celery's that the plugin's exceptions may claim.
    pub(crate) exception_modules: Vec<String>,
    /// Attempts that one instance may run, one after the other.
    pub(crate) reuse: u32,
    /// Which exported functions are which tasks, where that is not what they are called.
    pub(crate) exports: BTreeMap<String, TaskName>,
    /// Options by task, in the order of their names.
    pub(crate) tasks: BTreeMap<TaskName, Vec<(String, Json)>>,
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("read `{path}`: {why}")]
    Read { path: PathBuf, why: String },
    #[error("`{path}` line {line}: {what}")]
    Content { path: PathBuf, line: usize, what: String },
}

/// What the plugin of a manifest is called and where its component goes, if the manifest is in order.
pub fn name_and_component(path: &Path) -> Result<(PluginName, PathBuf), ManifestError> {
    Manifest::read(path).map(|manifest| (manifest.name, manifest.component))
}

impl Manifest {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, ManifestError> {
        let unreadable = |why: String| ManifestError::Read { path: path.to_owned(), why };
        let length = path.metadata().map_err(|error| unreadable(error.to_string()))?.len();
        if length > MANIFEST_BYTES_MAX {
            return Err(unreadable(format!("it has {length} bytes, more than the {MANIFEST_BYTES_MAX} of a manifest")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ManifestError> {
        let wrong = |span: Range<usize>, what: String| ManifestError::Content {
            path: path.to_owned(),
            line: text[..span.start.min(text.len())].matches('\n').count() + 1,
            what,
        };
        let file: File = toml::from_str(text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            wrong(span.clone(), explain(error.message(), text.get(span)))
        })?;
        let name =
            PluginName::parse(file.name.get_ref()).map_err(|error| wrong(file.name.span(), error.to_string()))?;
        let component = match &file.component {
            None => format!("{name}.wasm"),
            Some(component) => component.get_ref().clone(),
        };
        if Path::new(&component).file_name() != Some(component.as_ref()) {
            let span = file.component.map_or(file.name.span(), |component| component.span());
            return Err(wrong(span, format!("component `{component}` is not a file beside {FILE_NAME}")));
        }
        let mut needs = Needs::new();
        for (capability, names) in file.needs {
            let key = capability.get_ref();
            if !CAPABILITIES.contains(&key.as_str()) {
                return Err(wrong(capability.span(), format!("unknown key `{key}`{}", hint(key, CAPABILITIES))));
            }
            for name in names {
                let need = Need::read(key, name.get_ref()).map_err(|problem| wrong(name.span(), problem))?;
                let scratch = |need: &Need| matches!(need, Need::Scratch(_));
                if scratch(&need) && needs.iter().any(scratch) {
                    return Err(wrong(name.span(), "scratch has one size".to_owned()));
                }
                if !needs.insert(need) {
                    return Err(wrong(name.span(), format!("`{}` is needed twice", name.get_ref())));
                }
            }
        }
        let mut exports = BTreeMap::new();
        for (export, task) in file.exports {
            let name = TaskName::parse(task.get_ref()).map_err(|error| wrong(task.span(), error.to_string()))?;
            if exports.values().any(|earlier| *earlier == name) {
                return Err(wrong(task.span(), format!("two exports are the task `{name}`")));
            }
            exports.insert(export, name);
        }
        let mut tasks = BTreeMap::new();
        for (task, table) in file.tasks {
            let name = TaskName::parse(task.get_ref()).map_err(|error| wrong(task.span(), error.to_string()))?;
            tasks.insert(name, overrides(&table, wrong)?);
        }
        Ok(Self {
            name,
            version: file.version,
            component: path.with_file_name(component),
            limits: file.limits.into_wanted(),
            rollout: file.rollout.map(rollout::File::into_terms),
            sha256: hexadecimal(Sha256::digest(text)),
            needs,
            exception_modules: file.exception_modules,
            reuse: file.instance.reuse.map_or(1, NonZeroU32::get),
            exports,
            tasks,
        })
    }
}

type Table = BTreeMap<Spanned<String>, Spanned<toml::Value>>;

fn overrides(
    table: &Table,
    wrong: impl Fn(Range<usize>, String) -> ManifestError,
) -> Result<Vec<(String, Json)>, ManifestError> {
    let mut overrides = Vec::new();
    for (option, value) in table {
        let json = json(value.get_ref());
        match options::set(&mut TaskOptions::default(), option.get_ref(), &json) {
            Ok(Effect::Honoured | Effect::ForClients | Effect::Nothing) => {
                overrides.push((option.get_ref().clone(), json))
            }
            Ok(Effect::Unknown) => {
                let known = options::HONOURED.iter().chain(options::FOR_CLIENTS).chain(options::WITHOUT_EFFECT);
                let what = format!("unknown task option `{}`{}", option.get_ref(), hint(option.get_ref(), known));
                return Err(wrong(option.span(), what));
            }
            Err(error) => return Err(wrong(value.span(), error.to_string())),
        }
    }
    Ok(overrides)
}

fn json(value: &toml::Value) -> Json {
    match value {
        toml::Value::String(text) => Json::text(text),
        toml::Value::Integer(number) => Json::int(*number),
        toml::Value::Float(number) => Json::float(*number),
        toml::Value::Boolean(truth) => Json::bool(*truth),
        toml::Value::Datetime(time) => Json::text(&time.to_string()),
        toml::Value::Array(items) => Json::array(items.iter().map(json)),
        toml::Value::Table(table) => Json::object(table.iter().map(|(key, value)| (key, json(value)))),
    }
}

/// The file as it is written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Spanned<String>,
    version: Option<String>,
    component: Option<Spanned<String>>,
    /// For `host plugin build` only.
    #[serde(rename = "build")]
    _build: Option<toml::Table>,
    #[serde(default)]
    limits: FileLimits,
    rollout: Option<rollout::File>,
    #[serde(default)]
    instance: FileInstance,
    #[serde(default)]
    needs: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    #[serde(default)]
    exception_modules: Vec<String>,
    #[serde(default)]
    exports: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    tasks: BTreeMap<Spanned<String>, Table>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FileInstance {
    reuse: Option<NonZeroU32>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLimits {
    memory: Option<Size>,
    result: Option<Size>,
    log: Option<Size>,
    state: Option<Size>,
    host_call_bytes: Option<Size>,
    handles: Option<NonZeroUsize>,
    host_calls: Option<NonZeroU64>,
    publish: Option<NonZeroU32>,
    concurrency: Option<NonZeroU32>,
    keyvalue_value: Option<Size>,
    cpu_time: Option<Seconds>,
    sockets: Option<NonZeroUsize>,
    http_requests: Option<NonZeroUsize>,
    http_header: Option<Size>,
    http_request_body: Option<Size>,
    http_response_body: Option<Size>,
    http_timeout: Option<Seconds>,
}

impl FileLimits {
    fn into_wanted(self) -> Wanted {
        let bytes = |size: Option<Size>| size.map(|size| size.0);
        Wanted {
            memory_bytes: bytes(self.memory),
            result_bytes: bytes(self.result),
            log_bytes: bytes(self.log),
            state_bytes: bytes(self.state),
            host_call_bytes: bytes(self.host_call_bytes),
            handles: self.handles.map(NonZeroUsize::get),
            host_calls: self.host_calls.map(NonZeroU64::get),
            publish: self.publish.map(NonZeroU32::get),
            concurrency: self.concurrency,
            keyvalue_value_bytes: bytes(self.keyvalue_value),
            cpu_time: self.cpu_time.map(|seconds| seconds.0),
            sockets: self.sockets.map(NonZeroUsize::get),
            http_requests: self.http_requests.map(NonZeroUsize::get),
            http_header_bytes: bytes(self.http_header),
            http_request_bytes: bytes(self.http_request_body),
            http_response_bytes: bytes(self.http_response_body),
            http_timeout: self.http_timeout.map(|seconds| seconds.0),
        }
    }
}

/// The keys of all, for hints.
const KEYS: &[&str] = &[
    "name",
    "version",
    "component",
    "build",
    "limits",
    "rollout",
    "instance",
    "reuse",
    "percent",
    "for",
    "max_failure_rate",
    "needs",
    "exception_modules",
    "exports",
    "tasks",
    "memory",
    "result",
    "log",
    "state",
    "host_call_bytes",
    "handles",
    "host_calls",
    "publish",
    "concurrency",
    "keyvalue_value",
    "cpu_time",
    "sockets",
    "http_requests",
    "http_header",
    "http_request_body",
    "http_response_body",
    "http_timeout",
];

/// Adds the nearest key to serde's message about an unknown one.
fn explain(message: &str, at: Option<&str>) -> String {
    match at {
        Some(key) if message.starts_with("unknown field") => format!("unknown key `{key}`{}", hint(key, KEYS)),
        _ => message.replace('\n', " "),
    }
}

fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a &'a str>) -> String {
    let word = word.replace('-', "_");
    let nearest = known.into_iter().min_by_key(|candidate| distance(&word, candidate));
    nearest.map_or_else(String::new, |nearest| format!("; the nearest known is `{nearest}`"))
}

/// Letters to change, add or take away to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, other) in to.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

/// A time in seconds, with or without a fraction.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Seconds(Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero());
        let expected = &"a number of seconds above zero";
        time.map(Self).ok_or_else(|| de::Error::invalid_value(de::Unexpected::Float(seconds), expected))
    }
}
