//! Versions of plugins: what the folder holds, what is served, what is on trial, and what is kept for retries
//! that want no other.
//!
//! Decides which file becomes which version, and nothing about attempts.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use taskhost_core::{Catalog, PluginName, PluginVersion, Rollout, TaskName};

use crate::folder::{self, Stamp};
use crate::grant::Grant;
use crate::load_error::LoadError;
use crate::plugin::{self, Plugin, PluginReport, Source, check_exposure};
use crate::sandbox::{Loaded, Refused, Sandbox, reason};

/// Plugins that are loaded at a time; their compilers share the processors anyway.
const LOADS_MAX: usize = 4;
/// How long a file must stay as it is before it is read: who copies one writes it in pieces.
pub const SETTLE: Duration = Duration::from_millis(250);
/// How long a plugin must be gone before its tasks are: some tools delete a file before they write it anew.
const GONE: Duration = Duration::from_secs(1);
/// Earlier versions that are kept for retries which are pinned to them.
const EARLIER_MAX: usize = 3;

/// How to look at a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Everything is loaded anew, as it is now: what plugins were granted is fetched again as well.
    Now,
    /// Only what has changed, once it stays as it is.
    Settled,
}

/// What a look came to.
#[derive(Debug, Clone)]
pub struct Refreshed {
    pub loaded: Loaded,
    /// True if anything is served, or refused, that was not before.
    pub changed: bool,
    /// Something is about to change: look again after this time.
    pub look_again: Option<Duration>,
}

/// All plugins of a folder, by the file that makes each one.
#[derive(Default)]
pub(crate) struct Shelf {
    slots: BTreeMap<PathBuf, Slot>,
    /// The folder itself cannot be used.
    trouble: Option<Refused>,
}

/// One plugin.
#[derive(Default)]
struct Slot {
    /// Its files when they were last looked at, and what was loaded from them.
    seen: Option<Stamp>,
    loaded: Option<(Stamp, Option<Grant>)>,
    serving: Option<Version>,
    trial: Option<Version>,
    earlier: Vec<Arc<Plugin>>,
    /// Why what is there now is not served.
    trouble: Option<String>,
    /// Another plugin has its name or one of its tasks; that may change.
    clashes: bool,
    /// A version that did not stand its trial, and why.
    taken_back: Option<(PluginVersion, String)>,
    gone_since: Option<Instant>,
}

struct Version {
    plugin: Arc<Plugin>,
    report: PluginReport,
}

/// A plugin that was loaded, or why not.
struct Tried {
    source: Source,
    stamp: Stamp,
    grant: Option<Grant>,
    report: PluginReport,
    result: Result<Fresh, LoadError>,
}

enum Fresh {
    New(Arc<Plugin>),
    /// What is served already.
    Same,
}

impl Shelf {
    pub(crate) async fn refresh(&mut self, sandbox: &Sandbox, dir: &Path, look: Look) -> Refreshed {
        let mut round = Round { changed: false, look_again: None };
        match check_exposure(dir).map(|()| folder::find(dir)) {
            Err(error) => round.note(&mut self.trouble, Some(Refused::new(dir, &error))),
            Ok(Err(error)) => {
                let reason = format!("read the folder: {error}");
                round.note(&mut self.trouble, Some(Refused { path: dir.to_owned(), reason, kept: None }));
            }
            Ok(Ok(found)) => {
                round.note(&mut self.trouble, None);
                self.look_through(sandbox, found, look, &mut round).await;
            }
        }
        Refreshed { loaded: self.loaded(), changed: round.changed, look_again: round.look_again }
    }

    /// Loads what is at this path and nothing else.
    pub(crate) async fn load_one(&mut self, sandbox: &Sandbox, path: &Path) -> Loaded {
        let source = folder::source_of(path);
        let origin = source.as_ref().map_or_else(|_| path.to_owned(), |source| source.origin.clone());
        let mut round = Round { changed: false, look_again: None };
        self.look_through(sandbox, vec![(origin, source)], Look::Now, &mut round).await;
        self.loaded()
    }

    async fn look_through(
        &mut self,
        sandbox: &Sandbox,
        found: Vec<(PathBuf, Result<Source, LoadError>)>,
        look: Look,
        round: &mut Round,
    ) {
        self.drop_what_is_gone(&found, look, round);
        let mut sources = Vec::new();
        for (origin, source) in found {
            let slot = self.slots.entry(origin).or_default();
            match source {
                Ok(source) => sources.push(source),
                Err(error) => {
                    slot.loaded = None;
                    round.note(&mut slot.trouble, Some(reason(&error)));
                }
            }
        }
        // What serves keeps its name; of newcomers the one that sorts first has it.
        sources.sort_by(|a, b| {
            let rank =
                |source: &Source| (!self.serves(source), source.name.as_str().to_owned(), source.component.clone());
            rank(a).cmp(&rank(b))
        });
        let before = round.changed;
        round.changed = false;
        let (mut to_try, mut clashing) = (Vec::new(), Vec::new());
        for source in sources {
            match self.what_to_do(sandbox, &source, look, round) {
                Todo::Nothing => {}
                Todo::Load => to_try.push(source),
                Todo::IfOthersChange => clashing.push(source),
            }
        }
        self.try_all(sandbox, to_try, look, round).await;
        if round.changed || before {
            self.try_all(sandbox, clashing, look, round).await;
        }
        round.changed |= before;
    }

    fn drop_what_is_gone(&mut self, found: &[(PathBuf, Result<Source, LoadError>)], look: Look, round: &mut Round) {
        self.slots.retain(|origin, slot| {
            if found.iter().any(|(path, _)| path == origin) {
                slot.gone_since = None;
                return true;
            }
            let gone_for = slot.gone_since.get_or_insert_with(Instant::now).elapsed();
            if look == Look::Settled && gone_for < GONE && slot.serving.is_some() {
                round.look_again_in(GONE - gone_for);
                return true;
            }
            round.changed = true;
            false
        });
    }

    fn serves(&self, source: &Source) -> bool {
        self.slots.get(&source.origin).is_some_and(|slot| slot.serving.is_some())
    }

    fn what_to_do(&mut self, sandbox: &Sandbox, source: &Source, look: Look, round: &mut Round) -> Todo {
        let slot = self.slots.entry(source.origin.clone()).or_default();
        let stamp = Stamp::of(source);
        let was_seen = slot.seen.replace(stamp) == Some(stamp);
        let is_loaded = slot
            .loaded
            .as_ref()
            .is_some_and(|(loaded, grant)| *loaded == stamp && *grant == sandbox.granted(&source.name));
        if look == Look::Now || (!is_loaded && was_seen) {
            return Todo::Load;
        }
        if !is_loaded {
            round.look_again_in(SETTLE);
        }
        if is_loaded && slot.clashes { Todo::IfOthersChange } else { Todo::Nothing }
    }

    /// Loads these side by side, and takes them in one after the other.
    async fn try_all(&mut self, sandbox: &Sandbox, sources: Vec<Source>, look: Look, round: &mut Round) {
        let known: Vec<Option<PluginVersion>> = sources
            .iter()
            .map(|source| match look {
                Look::Now => None,
                Look::Settled => self.slots.get(&source.origin).and_then(Slot::newest).cloned(),
            })
            .collect();
        let granted_before: Vec<Option<Grant>> = sources
            .iter()
            .map(|source| self.slots.get(&source.origin).and_then(|slot| slot.loaded.clone()?.1))
            .collect();
        let jobs = sources.into_iter().zip(known).zip(granted_before);
        let jobs = jobs.map(|((source, known), granted)| try_one(sandbox, source, known, granted));
        let tried: Vec<Tried> = stream::iter(jobs).buffered(LOADS_MAX).collect().await;
        for tried in tried {
            if let Err(error) = &tried.result {
                // Those at load name their key in the same way as those of attempts do.
                sandbox.surroundings().reached.count_text(&tried.source.name, &error.to_string());
            }
            self.take_in(tried, round);
        }
    }

    fn take_in(&mut self, tried: Tried, round: &mut Round) {
        let Tried { source, stamp, grant, mut report, result } = tried;
        let result = match result {
            Ok(Fresh::New(_)) => match self.clash(&source, &report) {
                Some(error) => Err(error),
                None => result,
            },
            other => other,
        };
        let slot = self.slots.entry(source.origin.clone()).or_default();
        let grant_changed = slot.loaded.replace((stamp, grant.clone())).is_some_and(|(_, before)| before != grant);
        slot.clashes = matches!(result, Err(LoadError::SameName { .. } | LoadError::SameTask { .. }));
        let plugin = match result {
            Ok(Fresh::Same) => {
                // What serves is there again.
                if slot.serving.as_ref().map(|serving| &serving.plugin.version) == report.digest.as_ref() {
                    round.changed |= slot.trial.take().is_some();
                }
                return round.note(&mut slot.trouble, None);
            }
            Ok(Fresh::New(plugin)) => plugin,
            Err(error) => {
                // What may do less than before must not go on with what it was given before.
                if grant_changed && matches!(error, LoadError::NotGranted { .. } | LoadError::OtherComponent { .. }) {
                    (slot.serving, slot.trial) = (None, None);
                    slot.earlier.clear();
                    round.changed = true;
                }
                return round.note(&mut slot.trouble, Some(reason(&error)));
            }
        };
        if let Some((version, why)) = &slot.taken_back
            && *version == plugin.version
        {
            let error = LoadError::TakenBack { why: why.clone() };
            return round.note(&mut slot.trouble, Some(reason(&error)));
        }
        slot.taken_back = None;
        slot.trouble = None;
        round.changed = true;
        let terms = source.manifest.as_ref().and_then(|manifest| manifest.rollout);
        match (&slot.serving, terms) {
            (Some(serving), Some(terms)) if serving.plugin.version != plugin.version => {
                report.trial = Some(terms);
                slot.trial = Some(Version { plugin, report });
            }
            _ => slot.serve(Version { plugin, report }),
        }
    }

    /// Whoever has the name or a task of this one already.
    fn clash(&self, source: &Source, report: &PluginReport) -> Option<LoadError> {
        for (origin, slot) in self.slots.iter().filter(|(origin, _)| **origin != source.origin) {
            for version in slot.versions() {
                let taken = &version.report;
                if taken.name == source.name.as_str() {
                    return Some(LoadError::SameName { name: source.name.clone(), path: origin.clone() });
                }
                let has = |name: &TaskName| taken.tasks.iter().any(|task| task.spec.name == *name);
                if let Some(task) = report.tasks.iter().find(|task| has(&task.spec.name)) {
                    let by = task_owner(taken);
                    return Some(LoadError::SameTask { task: task.spec.name.clone(), by });
                }
            }
        }
        None
    }

    pub(crate) fn end_trial(
        &mut self,
        plugin: &PluginName,
        version: &PluginVersion,
        taken_back: Option<String>,
    ) -> Option<Loaded> {
        let is_tried = |slot: &&mut Slot| {
            let trial = slot.trial.as_ref();
            trial.is_some_and(|trial| trial.plugin.version == *version && trial.report.name == plugin.as_str())
        };
        let slot = self.slots.values_mut().find(is_tried)?;
        let mut trial = slot.trial.take()?;
        match taken_back {
            None => {
                trial.report.trial = None;
                slot.serve(trial);
            }
            Some(why) => {
                slot.trouble = Some(reason(&LoadError::TakenBack { why: why.clone() }));
                slot.taken_back = Some((version.clone(), why));
            }
        }
        Some(self.loaded())
    }

    fn loaded(&self) -> Loaded {
        let mut loaded = Loaded::default();
        loaded.refused.extend(self.trouble.clone());
        for (origin, slot) in &self.slots {
            loaded.plugins.extend(slot.versions().map(|version| version.report.clone()));
            if let Some(trouble) = &slot.trouble {
                let kept =
                    slot.serving.as_ref().map(|serving| (task_owner(&serving.report), serving.plugin.version.clone()));
                loaded.refused.push(Refused { path: origin.clone(), reason: trouble.clone(), kept });
            }
        }
        loaded.plugins.sort_by(|a, b| (&a.name, a.trial.is_some()).cmp(&(&b.name, b.trial.is_some())));
        let specs = |report: &PluginReport| report.tasks.iter().map(|task| task.spec.clone()).collect::<Vec<_>>();
        let serving = loaded.plugins.iter().filter(|report| report.trial.is_none());
        loaded.catalog = Catalog::new(serving.flat_map(specs));
        for report in &loaded.plugins {
            if let (Some(terms), Some(version)) = (report.trial, report.digest.clone()) {
                loaded.catalog.try_out(task_owner(report), Rollout { version, terms }, specs(report));
            }
        }
        loaded
    }

    pub(crate) fn served(&self) -> Served {
        let mut served = Served::default();
        for slot in self.slots.values() {
            let Some(serving) = &slot.serving else { continue };
            // The first is what serves when a version is gone.
            let mut versions = vec![serving.plugin.clone()];
            versions.extend(slot.trial.iter().map(|trial| trial.plugin.clone()));
            versions.extend(slot.earlier.iter().cloned());
            served.0.insert(task_owner(&serving.report), versions);
        }
        served
    }
}

/// Every plugin has at least one task, and each knows whose it is.
fn task_owner(report: &PluginReport) -> PluginName {
    report.tasks[0].spec.plugin.clone()
}

impl Slot {
    /// The version that the files held when they could last be loaded.
    fn newest(&self) -> Option<&PluginVersion> {
        self.trial.as_ref().or(self.serving.as_ref()).map(|version| &version.plugin.version)
    }

    fn versions(&self) -> impl Iterator<Item = &Version> {
        self.serving.iter().chain(&self.trial)
    }

    fn serve(&mut self, version: Version) {
        self.trial = None;
        let before = self.serving.replace(version);
        let Some(before) = before.filter(|before| Some(&before.plugin.version) != self.newest()) else { return };
        if before.report.tasks.iter().any(|task| task.spec.options.pin_retries) {
            self.earlier.insert(0, before.plugin);
            self.earlier.truncate(EARLIER_MAX);
        } else {
            self.earlier.clear();
        }
    }
}

enum Todo {
    Nothing,
    Load,
    /// It clashed with another one, which may be gone or changed by now.
    IfOthersChange,
}

/// What is found out on the way through a folder.
struct Round {
    changed: bool,
    look_again: Option<Duration>,
}

impl Round {
    fn note<T: PartialEq>(&mut self, place: &mut Option<T>, now: Option<T>) {
        self.changed |= *place != now;
        *place = now;
    }

    fn look_again_in(&mut self, time: Duration) {
        self.look_again = Some(self.look_again.map_or(time, |sooner| sooner.min(time)));
    }
}

/// Loads one plugin, unless it is the version that is known, with the same rights.
async fn try_one(
    sandbox: &Sandbox,
    source: Source,
    known: Option<PluginVersion>,
    granted_before: Option<Grant>,
) -> Tried {
    let stamp = Stamp::of(&source);
    let grant = sandbox.granted(&source.name);
    let mut report = PluginReport::new(&source);
    let result = match plugin::open(sandbox.config(), &source, &mut report).await {
        Ok(opened) if known.as_ref() == Some(&opened.version) && grant == granted_before => Ok(Fresh::Same),
        Ok(opened) => sandbox.build(&source, opened, &mut report).await.map(|plugin| Fresh::New(Arc::new(plugin))),
        Err(error) => Err(error),
    };
    Tried { source, stamp, grant, report, result }
}

/// What attempts can run on now.
#[derive(Default)]
pub(crate) struct Served(HashMap<PluginName, Vec<Arc<Plugin>>>);

impl Served {
    /// All versions, those of one plugin together.
    pub(crate) fn versions(&self) -> impl Iterator<Item = (&PluginName, &Arc<Plugin>)> {
        self.0.iter().flat_map(|(name, versions)| versions.iter().map(move |plugin| (name, plugin)))
    }

    /// True if it is this very one that is served, and not the same version loaded anew.
    pub(crate) fn has(&self, name: &PluginName, plugin: &Arc<Plugin>) -> bool {
        self.0.get(name).is_some_and(|versions| versions.iter().any(|served| Arc::ptr_eq(served, plugin)))
    }

    /// The plugin in this version, or else as it is served now.
    pub(crate) fn find(&self, name: &PluginName, version: &PluginVersion) -> Option<Arc<Plugin>> {
        let versions = self.0.get(name)?;
        versions.iter().find(|plugin| plugin.version == *version).or(versions.first()).cloned()
    }
}
