//! What `describe` said and the manifest overrides, as task specs.

use std::collections::BTreeSet;

use taskhost_core::{Json, PluginVersion, TaskName, TaskOptions, TaskSpec};

use crate::abi::exports::taskhost::task::tasks::TaskInfo;
use crate::options::{self, Effect};
use crate::plugin::{LoadError, Source, TaskReport};

/// Longest summary that is kept, in characters: it is a line in a list.
const SUMMARY_CHARS_MAX: usize = 200;

/// Reads every task of a plugin.
pub(crate) fn read(
    infos: Vec<TaskInfo>,
    source: &Source,
    version: &PluginVersion,
    warnings: &mut Vec<String>,
) -> Result<Vec<TaskReport>, LoadError> {
    if infos.is_empty() {
        return Err(LoadError::NoTasks);
    }
    let mut names = BTreeSet::new();
    let mut tasks = Vec::with_capacity(infos.len());
    for (index, info) in infos.into_iter().enumerate() {
        let name = TaskName::parse(&info.name).map_err(|source| LoadError::TaskName { number: index + 1, source })?;
        if !names.insert(name.as_str().to_owned()) {
            return Err(LoadError::TaskTwice(name));
        }
        tasks.push(task(name, info, source, version, warnings)?);
    }
    let overridden = source.manifest.iter().flat_map(|manifest| manifest.tasks.keys());
    for task in overridden.filter(|task| !names.contains(task.as_str())) {
        warnings.push(format!("the manifest sets options of `{task}`, which is not a task of the plugin"));
    }
    Ok(tasks)
}

fn task(
    name: TaskName,
    info: TaskInfo,
    source: &Source,
    version: &PluginVersion,
    warnings: &mut Vec<String>,
) -> Result<TaskReport, LoadError> {
    let mut given = Vec::with_capacity(info.options.len());
    for (option, value) in info.options {
        let json = Json::parse(value.clone());
        let json = json.map_err(|_| LoadError::OptionJson { task: name.clone(), option: option.clone(), value })?;
        given.push((option, json));
    }
    let overrides = source.manifest.as_ref().and_then(|manifest| manifest.tasks.get(&name));
    let mut options = TaskOptions::default();
    let mut set: Vec<(String, String)> = Vec::new();
    for (option, value) in given.iter().chain(overrides.into_iter().flatten()) {
        let effect = options::set(&mut options, option, value)
            .map_err(|source| LoadError::Option { task: name.clone(), source })?;
        match effect {
            Effect::Honoured | Effect::ForClients => {
                set.retain(|(earlier, _)| earlier != option);
                set.push((option.clone(), value.as_str().to_owned()));
            }
            Effect::Nothing => {
                warnings.push(format!("task `{name}`: option `{option}` has no effect in this version"));
            }
            Effect::Unknown => warnings.push(format!("task `{name}`: unknown option `{option}` is ignored")),
        }
    }
    let summary = info.summary.lines().next().unwrap_or_default();
    let summary = summary.chars().filter(|char| !char.is_control()).take(SUMMARY_CHARS_MAX).collect();
    let schema = info.schema.filter(|schema| {
        let is_json = Json::parse(schema.clone()).is_ok();
        if !is_json {
            warnings.push(format!("task `{name}`: its schema is not JSON and is ignored"));
        }
        is_json
    });
    let (plugin, version) = (source.name.clone(), version.clone());
    let spec = TaskSpec { name, plugin, version, plugin_concurrency: None, summary, options };
    Ok(TaskReport { spec, schema, options: set })
}
