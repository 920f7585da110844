//! The sandbox: an engine, and the plugins that it serves now.
//!
//! An attempt keeps the version of its plugin that it started with; which versions there are is the shelf's
//! business.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use taskhost_core::{Catalog, NodeName, PluginName, PluginVersion};
use tokio::sync::Mutex;

use crate::capability::{ResultSource, Scratches, ValuesSource};
use crate::engine::{EngineError, Engines};
use crate::events::EventSink;
use crate::folder;
use crate::grant::{self, Grant};
use crate::limits::Config;
use crate::load_error::LoadError;
use crate::plugin::{self, Plugin, PluginReport, Source};
use crate::publish::Outlet;
use crate::reached::Reached;
use crate::reuse::Line;
use crate::shelf::{Look, Refreshed, Served, Shelf};
use crate::states::StateSink;
use crate::usage::PluginUsage;

/// Loads plugins and runs attempts.
pub struct Sandbox {
    engines: Engines,
    config: Config,
    grants: RwLock<Arc<BTreeMap<PluginName, Grant>>>,
    surroundings: Arc<Surroundings>,
    shelf: Mutex<Shelf>,
    served: RwLock<Arc<Served>>,
}

/// What all guests have around them.
pub(crate) struct Surroundings {
    pub(crate) hostname: NodeName,
    pub(crate) states: OnceLock<Arc<dyn StateSink>>,
    pub(crate) events: OnceLock<Arc<dyn EventSink>>,
    pub(crate) outlet: OnceLock<Arc<Outlet>>,
    pub(crate) results: OnceLock<Arc<dyn ResultSource>>,
    pub(crate) values: OnceLock<Arc<dyn ValuesSource>>,
    pub(crate) scratches: Arc<Scratches>,
    pub(crate) reached: Reached,
}

/// What came of a folder.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The tasks of all plugins that are served.
    pub catalog: Catalog,
    /// Those plugins, by name; a version that is on trial comes after the one that serves.
    pub plugins: Vec<PluginReport>,
    /// What is there and not served.
    pub refused: Vec<Refused>,
}

/// A file that is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub path: PathBuf,
    pub reason: String,
    /// The plugin of which an earlier version goes on serving in its place.
    pub kept: Option<(PluginName, PluginVersion)>,
}

impl Refused {
    pub(crate) fn new(path: &Path, error: &LoadError) -> Self {
        Self { path: path.to_owned(), reason: reason(error), kept: None }
    }
}

impl Sandbox {
    /// Sets up the engine, its pool and its ticker.
    pub fn new(config: Config) -> Result<Self, EngineError> {
        let engines = Engines::new(&config)?;
        let scratches = Arc::new(Scratches::new(config.scratch_dir.clone()));
        let surroundings = Surroundings {
            reached: Reached::default(),
            hostname: config.hostname.clone(),
            states: OnceLock::new(),
            events: OnceLock::new(),
            outlet: OnceLock::new(),
            results: OnceLock::new(),
            values: OnceLock::new(),
            scratches,
        };
        Ok(Self {
            engines,
            grants: RwLock::new(Arc::new(config.grants.clone())),
            config,
            surroundings: Arc::new(surroundings),
            shelf: Mutex::default(),
            served: RwLock::default(),
        })
    }

    /// Says where the states go that running tasks give themselves. Until then, tasks are told that there
    /// is no result store. Of two, the first stays.
    pub fn report_states_to(&self, sink: Arc<dyn StateSink>) {
        let _ = self.surroundings.states.set(sink);
    }

    /// Says where the events go that running tasks send. Until then, nobody hears of them. Of two, the first
    /// stays.
    pub fn send_events_to(&self, sink: Arc<dyn EventSink>) {
        let _ = self.surroundings.events.set(sink);
    }

    /// Says how running tasks publish others. Until then they are told that there is no broker. Of two, the
    /// first stays.
    pub fn publish_through(&self, outlet: Outlet) {
        let _ = self.surroundings.outlet.set(Arc::new(outlet));
    }

    /// Says where running tasks look for results. Of two, the first stays.
    pub fn read_results_from(&self, source: Arc<dyn ResultSource>) {
        let _ = self.surroundings.results.set(source);
    }

    /// Says where plugins keep values. Of two, the first stays.
    pub fn keep_values_in(&self, source: Arc<dyn ValuesSource>) {
        let _ = self.surroundings.values.set(source);
    }

    /// Removes what the sandbox has on the disk, for a worker that ends: nothing waits for whoever holds it then. What
    /// an attempt that still runs has there goes with the attempt.
    pub fn clean_up(&self) {
        self.surroundings.scratches.clean_up();
    }

    /// True if instances come from a pool, which is the fast way; false if the machine or
    /// `HOST_POOLING=0` does not let it.
    pub fn is_pooled(&self) -> bool {
        self.engines.sequential().pooled
    }

    /// Loads every `*.wasm` of a folder and every sub-folder with a `plugin.toml`, and serves them
    /// instead of what was served before. A folder with a `plugin.toml` of its own is a plugin as well.
    ///
    /// One that cannot be loaded is refused with a reason and does not keep the others from serving. Of
    /// two that claim the same name or task, the one whose name sorts later is refused.
    pub async fn load_folder(&self, dir: &Path) -> Loaded {
        let mut shelf = self.shelf.lock().await;
        *shelf = Shelf::default();
        let refreshed = shelf.refresh(self, dir, Look::Now).await;
        self.serve(&shelf);
        refreshed.loaded
    }

    /// Loads one plugin, given its component, its manifest or its folder, and serves it alone.
    pub async fn load_one(&self, path: &Path) -> Loaded {
        let mut shelf = self.shelf.lock().await;
        *shelf = Shelf::default();
        let loaded = shelf.load_one(self, path).await;
        self.serve(&shelf);
        loaded
    }

    /// Looks at a folder again, and loads what has changed beside what runs. What cannot be loaded is refused
    /// with a reason, and the version before it goes on serving; what is gone is not served any more. Attempts
    /// that run end on the version that they have.
    pub async fn refresh(&self, dir: &Path, look: Look) -> Refreshed {
        let mut shelf = self.shelf.lock().await;
        let refreshed = shelf.refresh(self, dir, look).await;
        self.serve(&shelf);
        refreshed
    }

    /// A version that was on trial serves alone from now on, or is not served any more and refused for this
    /// reason. None, if that version is not on trial.
    pub async fn end_trial(
        &self,
        plugin: &PluginName,
        version: &PluginVersion,
        taken_back: Option<String>,
    ) -> Option<Loaded> {
        let mut shelf = self.shelf.lock().await;
        let loaded = shelf.end_trial(plugin, version, taken_back)?;
        self.serve(&shelf);
        Some(loaded)
    }

    /// Grants this from now on; plugins are looked at with the next [`Self::refresh`].
    pub fn grant(&self, grants: BTreeMap<PluginName, Grant>) {
        *self.grants.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(grants);
    }

    /// Finds out everything about one plugin, given its component, its manifest or its folder, without
    /// serving it.
    pub async fn check(&self, path: &Path) -> PluginReport {
        let source = match folder::source_of(path) {
            Ok(source) => source,
            Err(error) => {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let refused = Some(reason(&error));
                return PluginReport { name, path: path.to_owned(), refused, ..PluginReport::default() };
            }
        };
        self.examine(&source).await
    }

    /// Finds out everything about a component that was made for this manifest and is not beside it yet. That
    /// something is not granted does not matter: whoever builds a plugin is not who runs it.
    pub async fn check_built(&self, manifest: &Path, component: &Path) -> PluginReport {
        let mut source = match Source::manifest(manifest) {
            Ok(source) => source,
            Err(error) => {
                let (path, refused) = (component.to_owned(), Some(reason(&error)));
                return PluginReport { path, refused, ..PluginReport::default() };
            }
        };
        component.clone_into(&mut source.component);
        let needs = source.manifest.as_mut().map(|manifest| std::mem::take(&mut manifest.needs)).unwrap_or_default();
        let mut report = self.examine(&source).await;
        report.powers = grant::side_by_side(&needs, &self.granted(&source.name).unwrap_or_default());
        report
    }

    async fn examine(&self, source: &Source) -> PluginReport {
        let mut report = PluginReport::new(source);
        let loaded = match plugin::open(&self.config, source, &mut report).await {
            Ok(opened) => self.build(source, opened, &mut report).await.map(drop),
            Err(error) => Err(error),
        };
        report.refused = loaded.err().map(|error| reason(&error));
        report
    }

    /// What the attempts of each version of a plugin that is there have used since it was loaded, in the order
    /// of their names, the version that serves first.
    pub fn usage(&self) -> Vec<PluginUsage> {
        let served = Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner));
        let mut usage: Vec<_> = served
            .versions()
            .map(|(name, plugin)| PluginUsage {
                plugin: name.clone(),
                version: plugin.version.clone(),
                tasks: plugin.totals.read(),
            })
            .collect();
        usage.sort_by(|a, b| a.plugin.as_str().cmp(b.plugin.as_str()));
        usage
    }

    /// How often each plugin has reached which limit, by its key in `[limits]`.
    pub fn reached(&self) -> Vec<(PluginName, String, u64)> {
        self.surroundings.reached.read()
    }

    /// How many instances wait for the next attempt of their plugin.
    pub fn idle_instances(&self) -> usize {
        self.engines.made().map(|engine| engine.rooms.idle()).sum()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn surroundings(&self) -> &Arc<Surroundings> {
        &self.surroundings
    }

    pub(crate) fn granted(&self, plugin: &PluginName) -> Option<Grant> {
        self.grants.read().unwrap_or_else(PoisonError::into_inner).get(plugin).cloned()
    }

    /// The plugin in this version, or as it is served now if that is gone.
    pub(crate) fn plugin(&self, name: &PluginName, version: &PluginVersion) -> Option<Arc<Plugin>> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).find(name, version)
    }

    pub(crate) async fn build(
        &self,
        source: &Source,
        opened: plugin::Opened,
        report: &mut PluginReport,
    ) -> Result<Plugin, LoadError> {
        let grant = self.granted(&source.name);
        plugin::load(&self.engines, grant.as_ref(), &self.surroundings, source, opened, report).await
    }

    fn serve(&self, shelf: &Shelf) {
        let now = Arc::new(shelf.served());
        let before = {
            let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *served, Arc::clone(&now))
        };
        let gone = before.versions().filter(|(name, plugin)| !now.has(name, plugin));
        gone.filter_map(|(_, plugin)| plugin.line.as_ref()).for_each(Line::close);
    }
}

/// The error with its causes, in one line.
pub(crate) fn reason(error: &LoadError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
