//! What `describe` said and the manifest overrides, as task specs.

use std::collections::BTreeSet;

use taskhost_core::builtin::Builtin;
use taskhost_core::{Arity, Json, PluginVersion, TaskName, TaskOptions, TaskSpec};

use crate::abi::exports::taskhost::task::tasks::TaskInfo;
use crate::load_error::LoadError;
use crate::options::{self, Effect};
use crate::plugin::{Source, TaskReport};
use crate::signature;

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
    let schema = info.schema.and_then(|schema| {
        let json = Json::parse(schema).ok();
        if json.is_none() {
            warnings.push(format!("task `{name}`: its schema is not JSON and is ignored"));
        }
        json
    });
    if Builtin::named(&name).is_some() {
        warnings.push(format!("task `{name}` takes the place of the worker's own task of this name"));
    }
    let takes = schema.as_ref().and_then(Arity::of_schema);
    let signature = schema.as_ref().and_then(|schema| signature::of_schema(&name, schema));
    let schema = schema.map(|schema| schema.as_str().to_owned());
    let (plugin, version) = (source.name.clone(), version.clone());
    let spec = TaskSpec { name, plugin, version, plugin_concurrency: None, summary, takes, options };
    Ok(TaskReport { spec, signature, types: Vec::new(), schema, options: set })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn takes(schema: Option<&str>) -> (Option<Arity>, Vec<String>) {
        let (name, summary, schema) = ("t".to_owned(), String::new(), schema.map(str::to_owned));
        let info = TaskInfo { name, summary, schema, options: Vec::new() };
        let source = Source::bare(Path::new("plugins/demo.wasm")).expect("a name");
        let mut warnings = Vec::new();
        let tasks = read(vec![info], &source, &PluginVersion::of("a"), &mut warnings);
        (tasks.expect("one task").remove(0).spec.takes, warnings)
    }

    #[test]
    fn a_schema_says_which_arguments_a_task_takes() {
        let schema = r#"{"properties": {"request": {}, "exc": {}, "traceback": {}}, "additionalProperties": false}"#;
        let (arity, warnings) = takes(Some(schema));
        assert!(arity.is_some_and(|arity| arity.takes_more_than(2, &Json::empty_list(), &Json::empty_map())));
        assert_eq!(warnings, [""; 0]);
        assert_eq!(takes(None), (None, Vec::new()));
        let (arity, warnings) = takes(Some("{"));
        assert_eq!((arity, warnings), (None, vec!["task `t`: its schema is not JSON and is ignored".to_owned()]));
    }
}
