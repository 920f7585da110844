//! The sandbox: an engine, and the plugins that it serves now.
//!
//! The set of plugins is a snapshot that is replaced as a whole; an attempt keeps the version of its
//! plugin that it started with.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use taskhost_core::{Catalog, NodeName, PluginName, TaskName};

use crate::engine::{Engine, EngineError};
use crate::limits::Config;
use crate::manifest;
use crate::plugin::{self, LoadError, Plugin, PluginReport, Source};
use crate::states::StateSink;
use crate::usage::PluginUsage;

type Plugins = HashMap<PluginName, Arc<Plugin>>;

/// Loads plugins and runs attempts.
pub struct Sandbox {
    engine: Engine,
    config: Config,
    surroundings: Arc<Surroundings>,
    plugins: RwLock<Arc<Plugins>>,
}

/// What all guests have around them.
pub(crate) struct Surroundings {
    pub(crate) hostname: NodeName,
    pub(crate) states: OnceLock<Arc<dyn StateSink>>,
}

/// What came of a folder.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The tasks of all plugins that are served.
    pub catalog: Catalog,
    /// Those plugins, by name.
    pub plugins: Vec<PluginReport>,
    /// The others.
    pub refused: Vec<Refused>,
}

/// A plugin that is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub path: PathBuf,
    pub reason: String,
}

impl Refused {
    fn new(path: &Path, error: &LoadError) -> Self {
        Self { path: path.to_owned(), reason: reason(error) }
    }
}

impl Sandbox {
    /// Sets up the engine, its pool and its ticker.
    pub fn new(config: Config) -> Result<Self, EngineError> {
        let engine = Engine::new(&config)?;
        let surroundings = Surroundings { hostname: config.hostname.clone(), states: OnceLock::new() };
        Ok(Self { engine, config, surroundings: Arc::new(surroundings), plugins: RwLock::default() })
    }

    /// Says where the states go that running tasks give themselves. Until then, tasks are told that there
    /// is no result store. Of two, the first stays.
    pub fn report_states_to(&self, sink: Arc<dyn StateSink>) {
        let _ = self.surroundings.states.set(sink);
    }

    /// True if instances come from a pool, which is the fast way; false if the machine or
    /// `HOST_POOLING=0` does not let it.
    pub fn is_pooled(&self) -> bool {
        self.engine.pooled
    }

    /// Loads every `*.wasm` of a folder and every sub-folder with a `plugin.toml`, and serves them
    /// instead of what was served before. A folder with a `plugin.toml` of its own is a plugin as well.
    ///
    /// One that cannot be loaded is refused with a reason and does not keep the others from serving. Of
    /// two that claim the same name or task, the one whose name sorts later is refused.
    pub async fn load_folder(&self, dir: &Path) -> Loaded {
        let mut loaded = Loaded::default();
        let mut sources = match plugin::check_exposure(dir) {
            Ok(()) => find(dir, &mut loaded.refused),
            Err(error) => {
                loaded.refused.push(Refused::new(dir, &error));
                Vec::new()
            }
        };
        sources.sort_by(|a, b| (a.name.as_str(), &a.component).cmp(&(b.name.as_str(), &b.component)));

        let mut plugins = HashMap::new();
        let mut paths: HashMap<PluginName, PathBuf> = HashMap::new();
        let mut owners: HashMap<TaskName, PluginName> = HashMap::new();
        for source in sources {
            let path = match paths.entry(source.name.clone()) {
                Entry::Vacant(entry) => entry.insert(source.component.clone()).clone(),
                Entry::Occupied(entry) => {
                    let error = LoadError::SameName { name: source.name.clone(), path: entry.get().clone() };
                    loaded.refused.push(Refused::new(&source.component, &error));
                    continue;
                }
            };
            let mut report = PluginReport::new(&source);
            let plugin = match self.load(&source, &mut report).await {
                Ok(plugin) => plugin,
                Err(error) => {
                    loaded.refused.push(Refused::new(&path, &error));
                    continue;
                }
            };
            let taken = report.tasks.iter().find_map(|task| owners.get_key_value(&task.spec.name));
            if let Some((task, by)) = taken {
                let error = LoadError::SameTask { task: task.clone(), by: by.clone() };
                loaded.refused.push(Refused::new(&path, &error));
                continue;
            }
            owners.extend(report.tasks.iter().map(|task| (task.spec.name.clone(), source.name.clone())));
            plugins.insert(source.name, Arc::new(plugin));
            loaded.plugins.push(report);
        }
        let specs = loaded.plugins.iter().flat_map(|report| &report.tasks).map(|task| task.spec.clone());
        loaded.catalog = Catalog::new(specs);
        *self.plugins.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plugins);
        loaded
    }

    /// Finds out everything about one plugin, given its component, its manifest or its folder, without
    /// serving it.
    pub async fn check(&self, path: &Path) -> PluginReport {
        let source = match source_of(path) {
            Ok(source) => source,
            Err(error) => {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let refused = Some(reason(&error));
                return PluginReport { name, path: path.to_owned(), refused, ..PluginReport::default() };
            }
        };
        let mut report = PluginReport::new(&source);
        if let Err(error) = self.load(&source, &mut report).await {
            report.refused = Some(reason(&error));
        }
        report
    }

    /// What the attempts of each plugin have used since it was loaded, in the order of their names.
    pub fn usage(&self) -> Vec<PluginUsage> {
        let plugins = Arc::clone(&self.plugins.read().unwrap_or_else(PoisonError::into_inner));
        let read = |(name, plugin): (&PluginName, &Arc<Plugin>)| PluginUsage {
            plugin: name.clone(),
            tasks: plugin.totals.read(),
        };
        let mut usage: Vec<_> = plugins.iter().map(read).collect();
        usage.sort_by(|a, b| a.plugin.as_str().cmp(b.plugin.as_str()));
        usage
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn surroundings(&self) -> &Arc<Surroundings> {
        &self.surroundings
    }

    /// The version of a plugin that is served now.
    pub(crate) fn plugin(&self, name: &PluginName) -> Option<Arc<Plugin>> {
        self.plugins.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    async fn load(&self, source: &Source, report: &mut PluginReport) -> Result<Plugin, LoadError> {
        plugin::load(&self.engine, &self.config, &self.surroundings, source, report).await
    }
}

/// All plugins of a folder, in the order of the file system.
fn find(dir: &Path, refused: &mut Vec<Refused>) -> Vec<Source> {
    let entries = match dir.read_dir() {
        Ok(entries) => entries,
        Err(error) => {
            refused.push(Refused { path: dir.to_owned(), reason: format!("read the folder: {error}") });
            return Vec::new();
        }
    };
    let mut sources = Vec::new();
    let mut take = |path: &Path, source: Result<Source, LoadError>| match source {
        Ok(source) => sources.push(source),
        Err(error) => refused.push(Refused::new(path, &error)),
    };
    let own = dir.join(manifest::FILE_NAME);
    let mut own_component = None;
    if own.is_file() {
        let source = Source::manifest(&own);
        own_component = source.as_ref().ok().map(|source| source.component.clone());
        take(&own, source);
    }
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        // Tools that copy into a folder write hidden files first.
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden || own_component.as_ref() == Some(&path) {
            continue;
        }
        let manifest = path.join(manifest::FILE_NAME);
        if manifest.is_file() {
            take(&manifest, Source::manifest(&manifest));
        } else if path.extension().is_some_and(|extension| extension == "wasm") && path.is_file() {
            take(&path, Source::bare(&path));
        }
    }
    sources
}

fn source_of(path: &Path) -> Result<Source, LoadError> {
    if path.is_dir() {
        return Source::manifest(&path.join(manifest::FILE_NAME));
    }
    if path.file_name().is_some_and(|name| name == manifest::FILE_NAME) {
        return Source::manifest(path);
    }
    // A component with its manifest beside it is checked as it would be loaded.
    let manifest = path.with_file_name(manifest::FILE_NAME);
    if manifest.is_file() {
        let source = Source::manifest(&manifest)?;
        if source.component == path {
            return Ok(source);
        }
    }
    Source::bare(path)
}

/// The error with its causes, in one line.
fn reason(error: &LoadError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
